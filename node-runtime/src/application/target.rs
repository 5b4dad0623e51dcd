//! Whom a request is addressed to.

use http::{Request, Version, header};

use super::Connection;
use crate::executor::RequestError;

/// The authority and the whole URL of a request.
pub(super) struct Target {
    pub(super) authority: String,
    pub(super) full_url: String,
}

impl Target {
    /// The authority is that of an absolute-form request target (RFC 9112, 3.2.2: `host` is ignored then), else the
    /// `host` header's, else `localhost`, which only HTTP/1.0 may leave open.
    pub(super) fn of<B>(request: &Request<B>, connection: &Connection) -> Result<Self, RequestError> {
        let uri = request.uri();
        let authority = match uri.authority() {
            Some(authority) if !authority.as_str().contains('@') => authority.as_str(),
            Some(_) => return Err(RequestError::Request("the request's target has a user name")),
            None => host(request)?,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let full_url = format!("{}://{authority}{path}", connection.scheme());
        Ok(Self { authority: authority.to_owned(), full_url })
    }
}

/// The one `host` header (RFC 9112, 3.2: more than one, or none in HTTP/1.1, is the client's fault).
fn host<B>(request: &Request<B>) -> Result<&str, RequestError> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map_err(|_| RequestError::Request("the host header is not text"))?,
        (None, _) if request.version() <= Version::HTTP_10 => "localhost",
        (None, _) => return Err(RequestError::Request("there is no host header")),
        (Some(_), Some(_)) => return Err(RequestError::Request("there is more than one host header")),
    };
    match host.parse::<http::uri::Authority>() {
        // RFC 9110, 4.2.4: a user name has no place there, and only hides the host from people.
        Ok(authority) if !authority.as_str().contains('@') => Ok(host),
        Ok(_) | Err(_) => Err(RequestError::Request("the host header is no host")),
    }
}

#[cfg(test)]
mod tests {
    use http::uri::Scheme;

    use super::*;

    fn target(request: http::request::Builder) -> Result<Target, RequestError> {
        let connection = Connection::new("127.0.0.1:9".parse().unwrap(), Scheme::HTTP);
        Target::of(&request.body(()).unwrap(), &connection)
    }

    #[test]
    fn an_absolute_target_beats_the_host_header() {
        let request = Request::builder().uri("http://one.example:81/a?b").header("host", "two.example");
        let target = target(request).unwrap();
        assert_eq!(
            (target.authority.as_str(), target.full_url.as_str()),
            ("one.example:81", "http://one.example:81/a?b")
        );
    }

    #[test]
    fn a_target_with_a_user_name_is_refused() {
        let request = Request::builder().uri("http://shop.example@evil.example/a").header("host", "evil.example");
        assert!(matches!(target(request), Err(RequestError::Request(_))));
    }

    #[test]
    fn the_host_header_is_needed_once_except_in_http_1_0() {
        let get = || Request::builder().uri("/a");
        assert_eq!(target(get().header("host", "h:1")).unwrap().full_url, "http://h:1/a");
        assert_eq!(target(get().version(Version::HTTP_10)).unwrap().authority, "localhost");
        for bad in [
            get(),
            get().header("host", "a").header("host", "b"),
            get().header("host", "a b"),
            get().header("host", ""),
            get().header("host", "shop.example@evil.example"),
        ] {
            assert!(matches!(target(bad), Err(RequestError::Request(_))));
        }
    }
}
