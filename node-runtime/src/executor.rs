//! How guests are called: the executors.
//!
//! [`SpinHttpExecutor`] calls guests that handle HTTP: components that export a handler of `wasi:http`, and core
//! modules with the Spin HTTP ABI of 2022 and 2023. [`WagiHttpExecutor`] calls programs, as CGI does.
//!
//! Promise: every request gets a fresh instance, and when the response's future or body is dropped the guest is gone.

mod abi;
mod body;
mod buffer;
mod era;
mod error;
mod http_guest;
mod inbound_http;
mod legacy;
mod link;
mod wagi;

use ::http::{HeaderMap, HeaderValue, Request, Response, header};
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use node_runtime_core::{headers::RouteHeaders, router::Match};
use std::{sync::Arc, time::Instant};
use wasmtime::{Linker, Module, Store, component::Component, component::Linker as ComponentLinker};

use wasmtime_wasi::WasiCtxBuilder;

pub use body::{BodyError, ResponseBody};
pub use error::RequestError;
pub(crate) use error::has_no_body;
pub(crate) use link::LinkError;

use crate::{
    application::{Caller, Connection, Subject},
    engine::{Guest, Outline},
    host::{
        RuntimeContext,
        limits::{NoRoom, Pass},
    },
};
use http_guest::{HandlerKind, HttpGuest};
use inbound_http::InboundHttpGuest;
use legacy::LegacyGuest;
use wagi::WagiGuest;

/// How a guest is called.
#[derive(Debug)]
pub(crate) enum Executor {
    /// It handles HTTP.
    Spin(SpinHttpExecutor),
    /// It is a program.
    Wagi(WagiHttpExecutor),
}

/// Calls guests that handle HTTP.
#[derive(Debug)]
pub(crate) enum SpinHttpExecutor {
    /// A component with a handler of `wasi:http` 0.2 or 0.3: bodies are streamed both ways.
    Component(HttpGuest),
    /// A component with `fermyon:spin/inbound-http`: bodies are held in memory.
    InboundHttp(InboundHttpGuest),
    /// A core module with `handle-http-request`: bodies are held in memory.
    Legacy(LegacyGuest),
}

/// Calls programs: request on standard input and in the environment, response on standard output.
#[derive(Debug)]
pub(crate) struct WagiHttpExecutor {
    guest: WagiGuest,
}

/// What an executor knows about a request besides the request.
pub(crate) struct Exchange<'a> {
    pub(crate) guest: &'a Arc<Guest>,
    pub(crate) found: &'a Match<'a>,
    pub(crate) headers: &'a RouteHeaders,
    pub(crate) connection: &'a Connection,
    pub(crate) authority: String,
    pub(crate) full_url: String,
    /// What to say of it in the log.
    pub(crate) subject: &'a Subject,
    /// The right to run; held until the guest has ended.
    pub(crate) pass: Option<Pass>,
    pub(crate) buffered_body: usize,
    /// When the guest must have ended.
    pub(crate) deadline: Instant,
    /// Whose request it is, if a guest sends it.
    pub(crate) caller: Caller,
}

impl Executor {
    /// Checks that wasm with this `outline` has what the executor calls, as far as that can be told before it is compiled.
    pub(crate) fn expect(wanted: &manifest::Executor, outline: &Outline) -> Result<(), LinkError> {
        match wanted {
            manifest::Executor::Spin if outline.is_component => {
                let exports: Vec<String> = outline.functions().map(str::to_owned).collect();
                HandlerKind::of_exports(&exports).map(drop)
            }
            manifest::Executor::Spin => legacy::expect(outline),
            manifest::Executor::Wagi(settings) => wagi::expect(settings, outline),
        }
    }

    /// The executor for a core module; `rustc` is the version of the compiler that it names, if any.
    pub(crate) fn of_module(
        wanted: &manifest::Executor,
        module: &Module,
        rustc: Option<(u32, u32)>,
        linker: &Linker<RuntimeContext>,
    ) -> Result<Self, LinkError> {
        Ok(match wanted {
            manifest::Executor::Spin => Self::Spin(SpinHttpExecutor::Legacy(LegacyGuest::link(module, rustc, linker)?)),
            manifest::Executor::Wagi(wagi) => {
                Self::Wagi(WagiHttpExecutor { guest: WagiGuest::of_module(wagi, module, linker)? })
            }
        })
    }

    /// The executor for a component.
    pub(crate) fn of_component(
        wanted: &manifest::Executor,
        component: &Component,
        linker: &ComponentLinker<RuntimeContext>,
    ) -> Result<Self, LinkError> {
        Ok(match wanted {
            manifest::Executor::Spin => Self::Spin(match HandlerKind::of(component)? {
                HandlerKind::IncomingHandler => {
                    SpinHttpExecutor::Component(HttpGuest::incoming_handler(component, linker)?)
                }
                HandlerKind::Service => SpinHttpExecutor::Component(HttpGuest::service(component, linker)?),
                HandlerKind::InboundHttp => SpinHttpExecutor::InboundHttp(InboundHttpGuest::link(component, linker)?),
            }),
            manifest::Executor::Wagi(wagi) => {
                Self::Wagi(WagiHttpExecutor { guest: WagiGuest::of_component(wagi, component, linker)? })
            }
        })
    }

    /// Calls the guest.
    pub(crate) async fn execute<B>(
        &self,
        exchange: Exchange<'_>,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, RequestError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let (mut parts, body) = request.into_parts();
        node_runtime_core::headers::drop_reserved(&mut parts.headers);
        let body = body.map_frame(without_reserved_trailers);
        if parts.uri.authority().is_some() {
            // HTTP/2 and absolute targets have the host there; guests look for it here (RFC 9112, 3.2.2).
            parts.headers.insert(header::HOST, node_runtime_core::headers::text(&exchange.authority));
        }
        if is_internal(&exchange.authority) {
            parts.headers.remove(header::HOST);
        }
        if let Self::Spin(_) = self {
            parts.headers.remove(header::CONNECTION);
            exchange.inject(&mut parts.headers);
        }
        let memory = exchange.guest.memory().clone();
        let response = match self {
            Self::Spin(SpinHttpExecutor::Component(guest)) => {
                let (body, cap) = buffer::capped(body, exchange.guest.body_limit(), &parts.headers)?;
                return cap.judge(guest.call(exchange, Request::from_parts(parts, body)).await);
            }
            Self::Spin(SpinHttpExecutor::InboundHttp(guest)) => {
                let body = exchange.collect(body, &parts.headers).await?;
                Box::pin(guest.call(&exchange, &parts, body)).await?
            }
            Self::Spin(SpinHttpExecutor::Legacy(guest)) => {
                let body = exchange.collect(body, &parts.headers).await?;
                Box::pin(guest.call(&exchange, &parts, body)).await?
            }
            Self::Wagi(WagiHttpExecutor { guest }) => {
                let body = exchange.collect(body, &parts.headers).await?;
                Box::pin(guest.call(&exchange, &parts, body)).await?
            }
        };
        // It may wait for its client when the guest and its memory are gone.
        let (head, body) = response.into_parts();
        let body = memory.keep(body).map_err(|NoRoom| RequestError::Overloaded)?;
        finish(Response::from_parts(head, body), parts.method == ::http::Method::HEAD)
    }
}

/// The end of the hosts by which components call each other: `http://<component-id>.spin.internal`.
pub(crate) const INTERNAL: &str = ".spin.internal";

impl Exchange<'_> {
    /// The guest's store for this request.
    pub(crate) fn store(&self, wasi: WasiCtxBuilder) -> Store<RuntimeContext> {
        self.guest.store(wasi, self.deadline, self.caller)
    }

    /// Reads all of the request's body.
    async fn collect<B>(&self, body: B, headers: &HeaderMap) -> Result<Bytes, RequestError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let most = self.guest.body_limit().and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let body = Box::pin(buffer::collect(body, self.buffered_body.min(most), self.guest.memory(), headers));
        tokio::time::timeout_at(self.deadline.into(), body).await.map_err(|_| RequestError::RequestSlow)?
    }

    /// Adds the headers that Spin's guests are told.
    fn inject(&self, headers: &mut HeaderMap) {
        self.headers.inject(headers, self.found, &self.full_url, self.connection.client_value());
    }
}

/// Trailers are no way around what callers must not set.
fn without_reserved_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            node_runtime_core::headers::drop_reserved(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(data) => data,
    }
}

/// Whether it is the name of a component, which means nothing outside of its application.
fn is_internal(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _port)| host);
    let start = host.len().checked_sub(INTERNAL.len());
    start.and_then(|start| host.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(INTERNAL))
}

/// Drops the headers that are about the connection, which only its server knows (RFC 9110, 7.6.1).
pub(crate) fn drop_connection(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::TRAILER] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// Makes a response of what a guest without streams returned. Headers about the connection are not its business, and the
/// length is that of the body, except in answer to `HEAD`, where only the guest knows it.
fn finish(mut response: Response<Bytes>, head: bool) -> Result<Response<ResponseBody>, RequestError> {
    error::check_status(response.status())?;
    error::check_headers(response.headers())?;
    let without_body = has_no_body(response.status());
    let headers = response.headers_mut();
    drop_connection(headers);
    if head {
        if headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length: &HeaderValue| length.to_str().map_or(true, |length| length.parse::<u64>().is_err()))
        {
            headers.remove(header::CONTENT_LENGTH);
        }
    } else {
        headers.remove(header::CONTENT_LENGTH);
    }
    Ok(response.map(|body| ResponseBody::full(if without_body { Bytes::new() } else { body })))
}
