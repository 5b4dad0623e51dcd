//! [`Subject`]: which request, for the log.

use http::{HeaderName, HeaderValue, Method, Request, Uri};

/// Where ingress controllers write a request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where tracers do (W3C Trace Context).
const TRACE: HeaderName = HeaderName::from_static("traceparent");

/// What the log says of a request that failed. The query is not said: it may hold secrets.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    route: HeaderValue,
    id: Option<HeaderValue>,
}

impl Subject {
    /// All of it is shared with `request` and the route, not copied.
    pub(super) fn of<B>(request: &Request<B>, route: &HeaderValue) -> Self {
        let headers = request.headers();
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            route: route.clone(),
            id: headers.get(&REQUEST_ID).or_else(|| headers.get(&TRACE)).cloned(),
        }
    }

    /// The route, as the manifest has it.
    pub(crate) fn route(&self) -> &str {
        self.route.to_str().unwrap_or_default()
    }

    /// The id that the caller or its ingress gave the request: `x-request-id`, or the trace id of `traceparent`.
    pub(crate) fn id(&self) -> Option<&str> {
        let id = self.id.as_ref()?.to_str().ok()?;
        // version-trace-span-flags
        let mut parts = id.split('-');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(version), Some(trace), Some(span), Some(_), None)
                if version.len() == 2 && trace.len() == 32 && span.len() == 16 =>
            {
                Some(trace)
            }
            _ => Some(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(headers: &[(&str, &str)]) -> Option<String> {
        let request =
            headers.iter().fold(Request::get("/a?token=x"), |request, (name, value)| request.header(*name, *value));
        let subject = Subject::of(&request.body(()).unwrap(), &HeaderValue::from_static("/..."));
        assert_eq!((subject.uri.path(), subject.route()), ("/a", "/..."));
        subject.id().map(str::to_owned)
    }

    #[test]
    fn a_request_is_known_by_the_id_that_its_ingress_gave_it() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(id(&[]), None);
        assert_eq!(id(&[("traceparent", trace)]).as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(id(&[("traceparent", trace), ("x-request-id", "a-b")]).as_deref(), Some("a-b"));
    }
}
