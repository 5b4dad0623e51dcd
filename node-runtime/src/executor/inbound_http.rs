//! Guests that are components with `fermyon:spin/inbound-http`: the Spin HTTP ABI of 2022 and 2023 in the form of a component,
//! which Spin 2.0 and later made of older modules.
//!
//! Requests and responses are records, so bodies are held in memory both ways.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, request::Parts};
use wasmtime::{
    Store,
    component::{Component, ComponentExportIndex, ComponentType, InstancePre, Linker, Lower},
};

use super::{
    Exchange, RequestError,
    http_guest::HandlerKind,
    link::{self, Called, LinkError},
};
use crate::host::{
    GuestStream, RuntimeContext,
    guest_memory::HEADERS_LIMIT,
    http_types::{self, Headers, Method},
};

const FUNCTION: &str = "handle-request";

/// A component, linked.
pub(crate) struct InboundHttpGuest {
    pre: InstancePre<RuntimeContext>,
    function: ComponentExportIndex,
}

impl std::fmt::Debug for InboundHttpGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InboundHttpGuest").finish_non_exhaustive()
    }
}

/// The interface's `request`. There are no parameters: the URI has the query.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Request<'a> {
    method: Method,
    uri: &'a str,
    headers: Headers,
    params: Headers,
    body: Option<&'a [u8]>,
}

impl InboundHttpGuest {
    /// Links `component`, which exports the interface.
    pub(super) fn link(component: &Component, linker: &Linker<RuntimeContext>) -> Result<Self, LinkError> {
        let pre = link::complete_component(linker, component)?.instantiate_pre(component).map_err(LinkError::of)?;
        let function = link::export::<(Request<'_>,), (http_types::Response,)>(
            &pre,
            HandlerKind::INBOUND_HTTP,
            FUNCTION,
            Called::Waiting,
        )?;
        Ok(Self { pre, function })
    }

    /// Calls it.
    pub(super) async fn call(
        &self,
        exchange: &Exchange<'_>,
        parts: &Parts,
        body: Bytes,
    ) -> Result<Response<Bytes>, RequestError> {
        let request = Request {
            method: Method::of(&parts.method).ok_or(RequestError::Method)?,
            uri: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
            headers: http_types::headers(&parts.headers),
            params: Vec::new(),
            body: Some(&body),
        };
        let guest = exchange.guest;
        let mut wasi = guest.wasi().map_err(RequestError::of_wasmtime)?;
        wasi.stdout(guest.output(GuestStream::Stdout)).envs(guest.environment());
        let run = guest.metered(self.run(exchange.store(wasi), request));
        match tokio::time::timeout_at(exchange.deadline.into(), run).await {
            Ok(answer) => response(answer.map_err(RequestError::of_wasmtime)?, exchange.buffered_body),
            Err(_) => Err(RequestError::Deadline(None)),
        }
    }

    async fn run(
        &self,
        mut store: Store<RuntimeContext>,
        request: Request<'_>,
    ) -> wasmtime::Result<http_types::Response> {
        let instance = self.pre.instantiate_async(&mut store).await?;
        let function =
            instance.get_typed_func::<(Request<'_>,), (http_types::Response,)>(&mut store, &self.function)?;
        let (answer,) = function.call_async(&mut store, (request,)).await?;
        Ok(answer)
    }
}

/// The response, if it is one.
fn response(answer: http_types::Response, body_limit: usize) -> Result<Response<Bytes>, RequestError> {
    let body = answer.body.unwrap_or_default();
    if body.len() > body_limit {
        return Err(RequestError::ResponseTooLarge { limit: body_limit });
    }
    let status = StatusCode::from_u16(answer.status);
    let status = status.map_err(|_| RequestError::Response(format!("its status is {}", answer.status)))?;
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let mut size = 0;
    for (name, value) in answer.headers.unwrap_or_default() {
        size += name.len() + value.len();
        let (Ok(valid_name), Ok(value)) = (HeaderName::try_from(&name), HeaderValue::try_from(value)) else {
            let name: String = name.chars().take(100).collect();
            return Err(RequestError::Response(format!("its header `{name}` is not valid")));
        };
        if size > HEADERS_LIMIT || response.headers_mut().try_append(valid_name, value).is_err() {
            return Err(RequestError::Response(format!("its headers have more than {HEADERS_LIMIT} bytes")));
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: Option<&str>) -> Result<Response<Bytes>, RequestError> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        response(
            http_types::Response { status, headers: Some(headers), body: body.map(|body| body.as_bytes().to_vec()) },
            4,
        )
    }

    #[test]
    fn repeated_headers_are_kept_and_a_missing_body_is_empty() {
        let response = answer(201, &[("set-cookie", "a"), ("set-cookie", "b")], None).unwrap();
        assert_eq!((response.status().as_u16(), response.body().len()), (201, 0));
        assert_eq!(response.headers().get_all("set-cookie").iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_response_is_an_error() {
        assert!(matches!(answer(99, &[], None), Err(RequestError::Response(_))));
        assert!(matches!(answer(200, &[("a b", "")], None), Err(RequestError::Response(_))));
        assert!(matches!(answer(200, &[("a", "b\nc")], None), Err(RequestError::Response(_))));
        assert!(matches!(answer(200, &[], Some("12345")), Err(RequestError::ResponseTooLarge { limit: 4 })));
        let large = "x".repeat(HEADERS_LIMIT);
        assert!(matches!(answer(200, &[("a", large.as_str())], None), Err(RequestError::Response(_))));
    }
}
