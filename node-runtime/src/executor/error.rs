//! [`RequestError`]: everything that can go wrong between a request and a guest's response.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use wasmtime::PoolConcurrencyLimitError;
use wasmtime_wasi::I32Exit;

use crate::{
    application::Subject,
    engine::{CpuExceeded, Guest},
    host::{DeadlineExceeded, limits::NoRoom},
};

/// Why a request got no response from its guest.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No route matches.
    #[error("no route")]
    NoRoute,
    /// The guest's ABI has no such method, or nobody answers it.
    #[error("the method is not supported")]
    Method,
    /// No revision serves the app: it has gone while its client kept the connection.
    #[error("the app is not served here")]
    NotServed,
    /// The request's path and query are too long.
    #[error("the request's path and query are too long")]
    UriTooLong,
    /// The request has too many headers.
    #[error("the request has too many headers")]
    TooManyHeaders,
    /// The request is malformed.
    #[error("bad request: {0}")]
    Request(&'static str),
    /// The request's body is too large for a guest that takes it in one piece.
    #[error("the request's body has more than {limit} bytes")]
    RequestTooLarge {
        /// How much is allowed.
        limit: usize,
    },
    /// The client did not send the whole body.
    #[error("the request's body ended early: {0}")]
    RequestIncomplete(String),
    /// The client did not send the whole body in time.
    #[error("the request's body did not arrive in time")]
    RequestSlow,
    /// As many requests of the app run as may, and as many wait.
    #[error("the app has as many requests as it may")]
    Busy,
    /// None of the app's other requests ended in time.
    #[error("the app's other requests did not end in time")]
    QueueTimeout,
    /// All instances are in use.
    #[error("all instances are in use")]
    Overloaded,
    /// The guest did not answer in time.
    #[error("the guest did not answer in time")]
    Deadline(#[source] Option<wasmtime::Error>),
    /// The guest used up its processor time.
    #[error("the guest used up its processor time")]
    Cpu(#[source] wasmtime::Error),
    /// The guest trapped, or failed in a call to the host.
    #[error("the guest failed")]
    Trap(#[source] wasmtime::Error),
    /// What the guest answered is no response.
    #[error("the guest's response is not usable: {0}")]
    Response(String),
    /// The guest's response is too large to be held in memory.
    #[error("the guest's response has more than {limit} bytes")]
    ResponseTooLarge {
        /// How much is allowed.
        limit: usize,
    },
    /// What a Wagi guest printed is no response.
    #[error("the guest's output is no response: {0}")]
    Wagi(#[from] node_runtime_core::wagi::ResponseError),
}

impl RequestError {
    /// Sorts out what wasmtime returned.
    pub(crate) fn of_wasmtime(error: wasmtime::Error) -> Self {
        if error.is::<DeadlineExceeded>() {
            Self::Deadline(Some(error))
        } else if error.is::<CpuExceeded>() {
            Self::Cpu(error)
        } else if error.is::<PoolConcurrencyLimitError>() || error.is::<NoRoom>() {
            Self::Overloaded
        } else {
            Self::Trap(error)
        }
    }

    /// The status of the response.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Request(_) | Self::RequestIncomplete(_) => StatusCode::BAD_REQUEST,
            Self::RequestSlow => StatusCode::REQUEST_TIMEOUT,
            Self::RequestTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy | Self::QueueTimeout | Self::Overloaded | Self::NotServed => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline(_) | Self::Cpu(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Trap(_) | Self::Response(_) | Self::ResponseTooLarge { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Wagi(error) => error.status(),
        }
    }

    /// The body of the response: empty, except where Wagi's rules say otherwise.
    pub(crate) fn body(&self) -> Bytes {
        match self {
            Self::Wagi(error) => Bytes::from_static(error.body().as_bytes()),
            _ => Bytes::new(),
        }
    }

    /// Every reason there is.
    pub const REASONS: [&str; 18] = [
        "NoRoute",
        "MethodNotAllowed",
        "NotServed",
        "UriTooLong",
        "TooManyHeaders",
        "BadRequest",
        "RequestTooLarge",
        "RequestIncomplete",
        "RequestSlow",
        "Busy",
        "QueueTimeout",
        "Overloaded",
        "Deadline",
        "CpuTime",
        "Trap",
        "InvalidResponse",
        "ResponseTooLarge",
        "InvalidWagiResponse",
    ];

    /// One word for logs and metrics: one of [`RequestError::REASONS`].
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoRoute => "NoRoute",
            Self::Method => "MethodNotAllowed",
            Self::NotServed => "NotServed",
            Self::UriTooLong => "UriTooLong",
            Self::TooManyHeaders => "TooManyHeaders",
            Self::Request(_) => "BadRequest",
            Self::RequestTooLarge { .. } => "RequestTooLarge",
            Self::RequestIncomplete(_) => "RequestIncomplete",
            Self::RequestSlow => "RequestSlow",
            Self::Busy => "Busy",
            Self::QueueTimeout => "QueueTimeout",
            Self::Overloaded => "Overloaded",
            Self::Deadline(_) => "Deadline",
            Self::Cpu(_) => "CpuTime",
            Self::Trap(_) => "Trap",
            Self::Response(_) => "InvalidResponse",
            Self::ResponseTooLarge { .. } => "ResponseTooLarge",
            Self::Wagi(_) => "InvalidWagiResponse",
        }
    }

    /// Logs, once, what the guest's author should know, with the guest's own stack where there is one. What the client did,
    /// and what there was no room for, is counted and not logged: it would be once per request.
    pub(crate) fn log(&self, guest: &Guest, subject: &Subject) {
        let detail = match self {
            // The chain of causes begins with the wasm backtrace, its names demangled. Debug would add this process's own.
            Self::Trap(error) | Self::Cpu(error) | Self::Deadline(Some(error)) => format!("{error:#}"),
            Self::NoRoute
            | Self::Method
            | Self::NotServed
            | Self::UriTooLong
            | Self::TooManyHeaders
            | Self::Request(_)
            | Self::RequestTooLarge { .. }
            | Self::RequestIncomplete(_)
            | Self::RequestSlow
            | Self::Busy
            | Self::QueueTimeout
            | Self::Overloaded => return,
            Self::Deadline(None) | Self::Response(_) | Self::ResponseTooLarge { .. } | Self::Wagi(_) => {
                self.to_string()
            }
        };
        let labels = guest.labels();
        tracing::error!(
            namespace = labels.namespace,
            app = labels.app,
            component = labels.component,
            revision = labels.revision,
            request_id = subject.id(),
            method = %subject.method,
            path = subject.uri.path(),
            route = subject.route(),
            reason = self.reason(),
            status = self.status().as_u16(),
            error = detail,
            "request failed",
        );
    }
}

/// Whether a guest ended by exiting, and successfully.
pub(crate) fn exited_well(error: &wasmtime::Error) -> bool {
    error.downcast_ref::<I32Exit>().is_some_and(|exit| exit.0 == 0)
}

/// The most bytes of a response's headers: more than any client takes.
const MOST_HEADERS: usize = 128 << 10;

/// Refuses headers that are too large to be sent.
pub(crate) fn check_headers(headers: &HeaderMap) -> Result<(), RequestError> {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size <= MOST_HEADERS {
        Ok(())
    } else {
        Err(RequestError::Response(format!("it has {size} bytes of headers, of {MOST_HEADERS} that are allowed")))
    }
}

/// Whether responses with this status never have a body (RFC 9110, 6.4.1).
pub(crate) const fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Refuses what is no status of a final response (RFC 9110, 15): what is below 200 is about the connection, and there
/// is nothing from 600 on.
pub(crate) fn check_status(status: StatusCode) -> Result<(), RequestError> {
    if (200..600).contains(&status.as_u16()) {
        Ok(())
    } else {
        Err(RequestError::Response(format!("{} is no status of a final response", status.as_u16())))
    }
}
