//! What a guest is told when its request fails: `wasi:http`'s error codes, as precise as they are.

use std::{error::Error as StdError, io};

use hyper_util::client::legacy;
use wasmtime_wasi_http::Error;

use super::connector::ConnectError;
use crate::host::NetworkError;

/// No response came.
pub(super) fn of_client(error: &legacy::Error) -> Error {
    let code = find(error).unwrap_or(Error::HttpProtocolError);
    tracing::debug!(error = daemon::chain(error), ?code, "request of a guest failed");
    code
}

/// The response's body broke off.
pub(super) fn of_body(error: &hyper::Error) -> Error {
    let code = find(error).unwrap_or(Error::HttpProtocolError);
    tracing::debug!(error = daemon::chain(error), ?code, "response to a guest broke off");
    // The head was whole: it is the body that is not.
    if matches!(code, Error::ConnectionTerminated) { Error::HttpResponseIncomplete } else { code }
}

/// The first cause that has a code of its own, the deepest first: outer errors say where, inner ones why.
fn find(error: &(dyn StdError + 'static)) -> Option<Error> {
    if let Some(connect) = error.downcast_ref::<ConnectError>() {
        return Some(of_connect(connect));
    }
    if let Some(inner) = error.downcast_ref::<io::Error>() {
        return of_io(inner);
    }
    let deeper = error.source().and_then(find);
    deeper.or_else(|| error.downcast_ref::<hyper::Error>().and_then(of_hyper))
}

fn of_connect(error: &ConnectError) -> Error {
    match error {
        ConnectError::Host => Error::HttpRequestUriInvalid,
        ConnectError::Timeout => Error::ConnectionTimeout,
        ConnectError::Config(_) => Error::ConfigurationError,
        ConnectError::Tls(error) => of_tls(error),
        ConnectError::Network(error) => of_network(error),
    }
}

fn of_network(error: &NetworkError) -> Error {
    match error {
        NetworkError::Resolve { .. } => {
            Error::DnsError { rcode: Some("address not available".to_owned()), info_code: Some(0) }
        }
        NetworkError::Blocked { .. } => Error::DestinationIpProhibited,
        NetworkError::Timeout { .. } => Error::ConnectionTimeout,
        NetworkError::Limit { .. } => Error::ConnectionLimitReached,
        NetworkError::Connect { source, .. } => match source.kind() {
            io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
            io::ErrorKind::TimedOut => Error::ConnectionTimeout,
            io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Error::ConnectionTerminated,
            _ => Error::DestinationUnavailable,
        },
    }
}

fn of_tls(error: &io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
        }
        _ => Error::TlsProtocolError,
    }
}

fn of_io(error: &io::Error) -> Option<Error> {
    match error.kind() {
        // With TLS 1.3 a server refuses a client's certificate after the handshake.
        _ if error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some() => Some(of_tls(error)),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Some(Error::ConnectionTerminated),
        io::ErrorKind::TimedOut => Some(Error::ConnectionReadTimeout),
        _ => error.get_ref().and_then(|inner| find(inner)),
    }
}

fn of_hyper(error: &hyper::Error) -> Option<Error> {
    if error.is_parse_too_large() {
        Some(Error::HttpResponseHeaderSectionSize(None))
    } else if error.is_timeout() {
        Some(Error::HttpResponseTimeout)
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        Some(Error::ConnectionTerminated)
    } else {
        None
    }
}
