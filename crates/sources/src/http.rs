//! [`HttpClient`]: HTTP to servers that may be slow, broken or hostile.
//!
//! Promise: every wait has an end, every answer has a largest size, certificates are checked against the system's
//! authorities or against exactly those that were given, and credentials go to the server they are meant for and
//! nowhere else: a redirect is followed only within one scheme, host and port, or, if asked, to other servers by https and
//! without the credentials.
//!
//! Absent on purpose: proxies of the environment (what is reached must not depend on how a pod was started), cookies,
//! and retries (whoever asks knows when it is worth it).

mod tls;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use control::assignment::Credentials;
use reqwest::{
    Method, RequestBuilder, Response, Url,
    dns::Resolve,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect::{Attempt, Policy},
};

pub use tls::Trust;

/// How often a server may redirect one request.
const REDIRECTS: usize = 5;

/// How long to wait for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the next bytes of an answer, its first ones included.
    pub read: Duration,
    /// For the whole of an answer, however steadily it comes.
    pub total: Duration,
}

impl Default for Timeouts {
    /// 5 s to connect, 15 s for the next bytes, 10 min for everything.
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), read: Duration::from_secs(15), total: Duration::from_secs(600) }
    }
}

/// Everything that can be chosen about an [`HttpClient`].
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// Who to be; anonymous without.
    pub credentials: Option<Credentials>,
    /// Which certificates to accept.
    pub trust: Trust,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Which redirects to follow.
    pub redirects: Redirects,
    /// How to speak TLS, whatever `trust` says.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Where names lead; where the system says without.
    pub names: Option<Names>,
}

/// Says where names lead. What is an address already is not asked for.
#[derive(Clone)]
pub struct Names(pub Arc<dyn Resolve>);

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

/// Which redirects to follow, at most five after one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redirects {
    /// Those within one scheme, host and port.
    #[default]
    SameOrigin,
    /// Those to any server that speaks https, too. For content that is known by its digest; credentials stay behind.
    Https,
}

/// Asks one server. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: reqwest::Client,
}

/// Why there is no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The options cannot be used: bad PEM, or credentials that cannot be sent.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
    /// No connection, or it broke.
    #[error("the connection failed")]
    Connection(#[source] reqwest::Error),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout(#[source] reqwest::Error),
    /// More than expected; reading stopped there.
    #[error("the answer has more than {limit} bytes")]
    TooLarge {
        /// The largest size that would have been read.
        limit: u64,
    },
    /// A redirect that is not followed.
    #[error("the server redirects elsewhere or too often, which is not followed")]
    Redirect(#[source] reqwest::Error),
}

impl From<reqwest::Error> for HttpError {
    fn from(error: reqwest::Error) -> Self {
        // The URL is said by whoever asked, who knows what it means.
        let error = error.without_url();
        if error.is_timeout() {
            Self::Timeout(error)
        } else if error.is_redirect() {
            Self::Redirect(error)
        } else if error.is_builder() {
            Self::Setup(error.to_string())
        } else {
            Self::Connection(error)
        }
    }
}

impl HttpClient {
    /// A client with these options.
    ///
    /// # Errors
    /// [`HttpError::Setup`].
    pub fn new(options: &HttpOptions) -> Result<Self, HttpError> {
        let mut headers = HeaderMap::new();
        if let Some(credentials) = &options.credentials {
            headers.insert(AUTHORIZATION, basic(credentials)?);
        }
        let redirects = options.redirects;
        let tls = match &options.tls {
            Some(config) => tls::over_http(config.as_ref().clone()),
            None => tls::config(&options.trust)?,
        };
        let mut client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .default_headers(headers)
            .user_agent(concat!("spindle/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .referer(false)
            .redirect(Policy::custom(move |attempt| redirect(attempt, redirects)))
            .connect_timeout(options.timeouts.connect)
            .read_timeout(options.timeouts.read)
            .timeout(options.timeouts.total);
        if let Some(Names(names)) = &options.names {
            client = client.dns_resolver(Arc::clone(names));
        }
        Ok(Self { client: client.build()? })
    }

    /// Starts a request to `url`.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Asks for `url`; any status is an answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get(&self, url: Url) -> Result<Response, HttpError> {
        Ok(self.client.get(url).send().await?)
    }
}

/// The whole body, if it has at most `limit` bytes.
///
/// # Errors
/// When it has more, or stops coming.
pub async fn body(mut response: Response, limit: u64) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        append(&mut body, &chunk, limit)?;
    }
    Ok(body)
}

fn append(body: &mut Vec<u8>, chunk: &Bytes, limit: u64) -> Result<(), HttpError> {
    if (body.len() + chunk.len()) as u64 > limit {
        return Err(HttpError::TooLarge { limit });
    }
    body.extend_from_slice(chunk);
    Ok(())
}

/// The header of HTTP basic authentication (RFC 7617).
fn basic(credentials: &Credentials) -> Result<HeaderValue, HttpError> {
    use base64::Engine as _;
    if credentials.username.contains(':') {
        return Err(HttpError::Setup("a user name must not contain `:`".to_owned()));
    }
    let pair = format!("{}:{}", credentials.username, credentials.password.expose());
    let header = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::try_from(header).map_err(|error| HttpError::Setup(error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Follows the redirects that are allowed. `reqwest` drops credentials when it goes to another host or port.
fn redirect(attempt: Attempt<'_>, allowed: Redirects) -> reqwest::redirect::Action {
    let origin = attempt.previous().first().map(Url::origin);
    let elsewhere = allowed == Redirects::Https && attempt.url().scheme() == "https";
    if attempt.previous().len() > REDIRECTS {
        attempt.error("too many redirects")
    } else if elsewhere || origin.is_some_and(|origin| origin == attempt.url().origin()) {
        attempt.follow()
    } else {
        let elsewhere = format!("redirected to {}", attempt.url().origin().ascii_serialization());
        attempt.error(elsewhere)
    }
}

/// The cryptography that all of Spindle uses, without relying on a process-wide default.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
