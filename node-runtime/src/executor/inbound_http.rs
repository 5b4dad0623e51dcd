//! Guests that are components with `fermyon:spin/inbound-http`: the Spin HTTP ABI of 2022 and 2023 in the form of a component,
//! which Spin 2.0 and later made of older modules.
//!
//! Requests and responses are records, so bodies are held in memory both ways.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request::Parts};
use wasmtime::{
    Store,
    component::{
        Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker, Lower, types::ComponentItem,
    },
};

use super::{
    Exchange, RequestError,
    http_guest::HandlerKind,
    link::{self, LinkError},
};
use crate::host::{GuestStream, RuntimeContext, guest_memory::HEADERS_LIMIT};

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

/// The interface's `method`.
#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
enum Verb {
    #[component(name = "get")]
    Get,
    #[component(name = "post")]
    Post,
    #[component(name = "put")]
    Put,
    #[component(name = "delete")]
    Delete,
    #[component(name = "patch")]
    Patch,
    #[component(name = "head")]
    Head,
    #[component(name = "options")]
    Options,
}

/// The interface's `request`. There are no parameters: the URI has the query.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Request<'a> {
    method: Verb,
    uri: &'a str,
    headers: Vec<(String, String)>,
    params: Vec<(String, String)>,
    body: Option<&'a [u8]>,
}

/// The interface's `response`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct Answer {
    status: u16,
    headers: Option<Vec<(String, String)>>,
    body: Option<Vec<u8>>,
}

impl InboundHttpGuest {
    /// Links `component`, which exports the interface.
    pub(super) fn link(component: &Component, linker: &Linker<RuntimeContext>) -> Result<Self, LinkError> {
        let pre = link::complete_component(linker, component)?.instantiate_pre(component).map_err(LinkError::of)?;
        let wrong = |problem: &str| LinkError::new(format!("its `{}` {problem}", HandlerKind::INBOUND_HTTP));
        let instance = component.get_export_index(None, HandlerKind::INBOUND_HTTP);
        let instance = instance.ok_or_else(|| wrong("is gone"))?;
        let Some((ComponentItem::ComponentFunc(ty), function)) = component.get_export(Some(&instance), FUNCTION) else {
            return Err(wrong("has no function `handle-request`"));
        };
        ty.typecheck::<(Request<'_>,), (Answer,)>(&pre.instance_type())
            .map_err(|error| wrong(&format!("is not that of Spin: {error:#}")))?;
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
            method: verb(&parts.method).ok_or(RequestError::Method)?,
            uri: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
            headers: texts(&parts.headers),
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

    async fn run(&self, mut store: Store<RuntimeContext>, request: Request<'_>) -> wasmtime::Result<Answer> {
        let instance = self.pre.instantiate_async(&mut store).await?;
        let function = instance.get_typed_func::<(Request<'_>,), (Answer,)>(&mut store, &self.function)?;
        let (answer,) = function.call_async(&mut store, (request,)).await?;
        Ok(answer)
    }
}

fn verb(method: &Method) -> Option<Verb> {
    Some(match *method {
        Method::GET => Verb::Get,
        Method::POST => Verb::Post,
        Method::PUT => Verb::Put,
        Method::DELETE => Verb::Delete,
        Method::PATCH => Verb::Patch,
        Method::HEAD => Verb::Head,
        Method::OPTIONS => Verb::Options,
        _ => return None,
    })
}

/// The headers as the interface has them: what is not UTF-8 is replaced.
fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// The response, if it is one.
fn response(answer: Answer, body_limit: usize) -> Result<Response<Bytes>, RequestError> {
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
        response(Answer { status, headers: Some(headers), body: body.map(|body| body.as_bytes().to_vec()) }, 4)
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
