//! `fermyon:spin/http-types`: requests and responses in one piece, as components of Spin's first versions take and give them.

use bytes::Bytes;
use http::HeaderMap;
use wasmtime::component::{ComponentType, Lift, Lower};

/// `method`.
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Method {
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

/// `response`.
#[derive(Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Option<Headers>,
    pub(crate) body: Option<Vec<u8>>,
}

/// `headers`.
pub(crate) type Headers = Vec<(String, String)>;

impl Method {
    /// The method, if the interface has it.
    pub(crate) fn of(method: &http::Method) -> Option<Self> {
        Some(match *method {
            http::Method::GET => Self::Get,
            http::Method::POST => Self::Post,
            http::Method::PUT => Self::Put,
            http::Method::DELETE => Self::Delete,
            http::Method::PATCH => Self::Patch,
            http::Method::HEAD => Self::Head,
            http::Method::OPTIONS => Self::Options,
            _ => return None,
        })
    }
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Delete => Self::DELETE,
            Method::Patch => Self::PATCH,
            Method::Head => Self::HEAD,
            Method::Options => Self::OPTIONS,
        }
    }
}

impl From<http::Response<Bytes>> for Response {
    fn from(response: http::Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status.as_u16(), headers: Some(headers(&parts.headers)), body: Some(body.into()) }
    }
}

/// The headers as the interface has them: what is not UTF-8 is replaced.
pub(crate) fn headers(headers: &HeaderMap) -> Headers {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_interface_is_one_of_http_and_no_other_is() {
        for method in crate::host::guest_memory::METHODS {
            assert_eq!(Method::of(&method).map(http::Method::from), Some(method));
        }
        assert!(Method::of(&http::Method::TRACE).is_none());
    }
}
