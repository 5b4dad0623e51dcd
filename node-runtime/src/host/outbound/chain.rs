//! Requests that stay in the process: to a component of the own application (`http://<component-id>.spin.internal`), or to
//! the application itself.
//!
//! The guest that is called runs beside the one that waits for its response, then beside whoever reads the body. It ends when
//! its caller does.

use std::pin::pin;

use bytes::Bytes;
use http::{
    Request, Response, Uri,
    uri::{Authority, Scheme},
};
use http_body::Body as _;
use http_body_util::{BodyExt as _, channel};
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::{
    Answer, Grants, Io,
    body::{RequestBody, ResponseStream},
    client::DEFAULT_TIMEOUT,
};
use crate::{
    application::{BodyError, Caller, ResponseBody},
    executor::INTERNAL,
};

/// The host that means the own application where a host is needed.
pub(super) const OWN_HOST: &str = "self.alt";
/// What the own application sees as its host when it calls itself.
const LOCALHOST: &str = "localhost";
/// How many pieces of a body wait to be read.
const PIECES: usize = 1;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// To a server.
    Server,
    /// To the own application.
    Own,
    /// To the component with this id.
    Component(String),
}

impl Destination {
    /// What the host of `uri` means.
    pub(super) fn of(uri: &Uri) -> Self {
        let host = uri.host().unwrap_or_default();
        let start = host.len().saturating_sub(INTERNAL.len());
        match host.split_at_checked(start) {
            _ if host.is_empty() || host.eq_ignore_ascii_case(OWN_HOST) => Self::Own,
            Some((id, end)) if !id.is_empty() && end.eq_ignore_ascii_case(INTERNAL) => Self::Component(id.to_owned()),
            _ => Self::Server,
        }
    }
}

/// Sends a request to `destination`, which is not a server.
pub(super) async fn call(
    grants: &Grants,
    destination: Destination,
    mut request: Request<RequestBody>,
    options: RequestOptions,
    caller: Caller,
) -> Answer {
    if request.uri().scheme() == Some(&Scheme::HTTPS) && destination != Destination::Own {
        // There is no connection that TLS could protect. Spin knows no such destination either.
        return Err(Error::HttpProtocolError);
    }
    let application = grants.application.get().ok_or(Error::DestinationUnavailable)?;
    let first_byte = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
    // In a task of its own: wasmtime lets no guest of WASI 0.3 run inside a call of another.
    let response = spawn(async move {
        match destination {
            Destination::Component(id) if application.has_component(&id) => {
                Ok(application.call_component(&id, request, caller).await)
            }
            Destination::Component(_) | Destination::Server => Err(Error::DestinationNotFound),
            Destination::Own => {
                *request.uri_mut() = own_uri(request.uri())?;
                Ok(application.call_self(request, caller).await)
            }
        }
    });
    let response = tokio::time::timeout(first_byte, response).await;
    Ok(beside_its_reader(response.map_err(|_| Error::ConnectionReadTimeout)??, options))
}

/// The same path at this application.
fn own_uri(uri: &Uri) -> Result<Uri, Error> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::from_static(LOCALHOST));
    parts.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
    Uri::from_parts(parts).map_err(|_| Error::HttpRequestUriInvalid)
}

/// A response whose body is written in a future of its own. A guest that waits to be read by a guest that waits to be read
/// from would wait for ever.
fn beside_its_reader(response: Response<ResponseBody>, options: RequestOptions) -> (Response<WasiBody>, Io) {
    let (parts, body) = response.into_parts();
    if body.size_hint().exact().is_some() {
        let body = body.map_err(|error| broken(&error)).boxed_unsync();
        return (Response::from_parts(parts, body), Box::new(std::future::ready(Ok(()))));
    }
    let (mut sender, receiver) = channel::Channel::<Bytes, Error>::new(PIECES);
    let write = async move {
        let mut body = pin!(body);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => {
                    if sender.send(frame).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    sender.abort(broken(&error));
                    break;
                }
            }
        }
        Ok(())
    };
    let between_bytes = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);
    let body = ResponseStream::new(receiver, between_bytes, std::convert::identity).boxed_unsync();
    (Response::from_parts(parts, body), Box::new(spawn(write)))
}

/// The guest that was called did not end its body.
fn broken(error: &BodyError) -> Error {
    tracing::debug!(%error, "response of a component broke off");
    Error::HttpResponseIncomplete
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_says_whether_a_request_stays_here() {
        let of = |uri: &str| Destination::of(&uri.parse().unwrap());
        let component = |id: &str| Destination::Component(id.to_owned());
        assert_eq!(of("http://cart.spin.internal/a"), component("cart"));
        assert_eq!(of("http://Cart.SPIN.internal:80/"), component("Cart"));
        assert_eq!(of("/a?b"), Destination::Own);
        assert_eq!(of("https://self.alt/a"), Destination::Own);
        assert_eq!(of("http://:80/a"), Destination::Own);
        for server in [
            "http://spin.internal/",
            "http://.spin.internal/",
            "http://self/",
            "http://cartspin.internal/",
            "http://é.x/",
        ] {
            if let Ok(uri) = server.parse() {
                assert_eq!(Destination::of(&uri), Destination::Server, "{server}");
            }
        }
    }

    #[test]
    fn a_call_of_itself_keeps_path_and_query() {
        let own = |uri: &str| own_uri(&uri.parse().unwrap()).unwrap().to_string();
        assert_eq!(own("/a?b"), "http://localhost/a?b");
        assert_eq!(own("https://self.alt"), "http://localhost/");
    }
}
