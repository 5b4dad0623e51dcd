//! [`BindleClient`]: applications from (and to) a Bindle server.
//!
//! Promise: what [`BindleClient::resolve`] returns is what was asked for: the invoice carries the requested id, is
//! not yanked, satisfies the verification policy, and the manifest has the digest and the size that the invoice says.
//! [`BindleClient::fetch`] puts a parcel into the store only when it is exactly the content that was asked for.
//! Servers (and the reference client) check nothing on the way down, so none of them is trusted to.
//!
//! The `bindle` crate is used for signatures and the order of versions only, and none of its types leave this module.
//!
//! Absent on purpose: caching of invoices and retries (the caller knows how long and how often), and the meaning of
//! an invoice, which is [`manifest::bindle_layout`].

mod error;
mod id;
mod push;
mod signatures;

use std::path::PathBuf;

use manifest::{
    Application, Content, Digest,
    bindle_layout::{self, Invoice, LayoutError},
};
use reqwest::{Response, StatusCode, Url, header::ACCEPT};

pub use error::{Asked, SourceError};
pub use id::{BindleId, BindleIdError};
pub use signatures::{KeyError, Keyring, SecretKeys, Verification};

use crate::{
    http::{self, HttpClient, HttpError, HttpOptions, Timeouts, Trust},
    store::{Store, StoreError},
};

/// The media type of invoices and answers.
const TOML: &str = "application/toml";
/// How much of an error message is read.
const MESSAGE: u64 = 4 * 1024;

/// The largest things that are accepted, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Largest {
    /// An invoice.
    pub invoice: u64,
    /// A manifest parcel.
    pub manifest: u64,
    /// Any other parcel.
    pub parcel: u64,
}

impl Default for Largest {
    /// 4 MiB, 1 MiB and 1 GiB.
    fn default() -> Self {
        Self { invoice: 4 << 20, manifest: 1 << 20, parcel: 1 << 30 }
    }
}

/// Everything that can be chosen about a [`BindleClient`].
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// Who to ask as; anonymous without.
    pub credentials: Option<control::assignment::Credentials>,
    /// Which certificates of the server to accept.
    pub trust: Trust,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Which bundles to accept.
    pub verification: Verification,
    /// How much to accept.
    pub largest: Largest,
}

/// Asks one Bindle server. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct BindleClient {
    server: Url,
    http: HttpClient,
    verification: Verification,
    largest: Largest,
}

/// What a reference turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Its id.
    pub id: BindleId,
    /// What it describes.
    pub application: Application,
    /// The digest of the application's canonical form: equal exactly when the applications are.
    pub digest: Digest,
    /// Whose signatures were verified; empty when none had to be.
    pub signed_by: Vec<String>,
}

impl BindleClient {
    /// A client for the server whose base URL is `server`, with its path prefix: `http://127.0.0.1:8080/v1`.
    ///
    /// # Errors
    /// [`SourceError::Setup`] when the URL is not plain `http(s)://host[:port]/path`, or the options cannot be used.
    pub fn new(server: Url, options: ClientOptions) -> Result<Self, SourceError> {
        let setup = |problem: String| SourceError::Setup { server: without_password(&server), problem };
        if !matches!(server.scheme(), "http" | "https") || !server.has_host() {
            return Err(setup("the URL must start with http:// or https://".to_owned()));
        }
        if !server.username().is_empty() || server.password().is_some() {
            return Err(setup("credentials do not belong in the URL: give them on their own".to_owned()));
        }
        if server.query().is_some() || server.fragment().is_some() {
            return Err(setup("the URL must end with a path, such as /v1".to_owned()));
        }
        let ClientOptions { credentials, trust, timeouts, verification, largest } = options;
        let http = HttpClient::new(&HttpOptions { credentials, trust, timeouts, ..HttpOptions::default() });
        let http = http.map_err(|error| setup(error.to_string()))?;
        Ok(Self { server, http, verification, largest })
    }

    /// The server's base URL.
    #[must_use]
    pub const fn server(&self) -> &Url {
        &self.server
    }

    /// Finds out what `id` is: gets its invoice and its manifest, and nothing else.
    ///
    /// # Errors
    /// Whatever keeps it from being known for certain.
    pub async fn resolve(&self, id: &BindleId) -> Result<Bundle, SourceError> {
        let asked = self.asked(Some(id), None);
        let text = self.invoice_text(id).await?;
        let invoice = self.checked(&asked, id, &text)?;
        let signed_by = self.verified(&asked, &text)?;
        let manifest = self.manifest(id, &invoice).await?;
        let application = bindle_layout::application(&invoice, &manifest).map_err(not_an_application(&asked))?;
        for content in application.contents() {
            within(&self.asked(Some(id), Some(content.digest)), content.size, self.largest.parcel)?;
        }
        let json = application.to_json().map_err(SourceError::invalid(&asked))?;
        Ok(Bundle { id: id.clone(), application, digest: Digest::of(&json), signed_by })
    }

    /// Gets one parcel of `id` into `store`, unless it is there already. Returns where.
    ///
    /// # Errors
    /// When the server does not give it, gives something else, or it cannot be stored.
    pub async fn fetch(&self, id: &BindleId, content: &Content, store: &Store) -> Result<PathBuf, SourceError> {
        let asked = self.asked(Some(id), Some(content.digest));
        let not_kept = SourceError::not_kept(&asked);
        within(&asked, content.size, self.largest.parcel)?;
        if let Some(path) = store.get(content).map_err(&not_kept)? {
            return Ok(path);
        }
        let _turn = store.turn(&content.digest).await;
        if let Some(path) = store.get(content).map_err(&not_kept)? {
            return Ok(path);
        }
        let mut response = self.ask(&asked, self.parcel_url(&asked, id, &content.digest)?).await?;
        let mut writer = store.writer(content).await.map_err(&not_kept)?;
        while let Some(chunk) = response.chunk().await.map_err(|error| SourceError::no_answer(&asked)(error.into()))? {
            writer.write(&chunk).await.map_err(&not_kept)?;
        }
        writer.finish().await.map_err(not_kept)
    }

    /// The invoice as the server sends it.
    async fn invoice_text(&self, id: &BindleId) -> Result<String, SourceError> {
        let asked = self.asked(Some(id), None);
        let response = self.ask(&asked, self.url(&asked, &format!("_i/{id}"))?).await?;
        let bytes = http::body(response, self.largest.invoice).await.map_err(SourceError::no_answer(&asked))?;
        String::from_utf8(bytes).map_err(SourceError::invalid(&asked))
    }

    /// Reads an invoice, and makes sure that it is the one that was asked for.
    fn checked(&self, asked: &Asked, id: &BindleId, text: &str) -> Result<Invoice, SourceError> {
        let invalid = SourceError::invalid::<Box<dyn std::error::Error + Send + Sync>>(asked);
        let invoice = Invoice::from_toml(text).map_err(SourceError::malformed(asked, "invoice", text))?;
        if invoice.id() != id.as_str() {
            return Err(invalid(format!("the server sent the invoice of {}", invoice.id()).into()));
        }
        if !invoice.bindle_version.starts_with("1.") {
            return Err(SourceError::Unsupported {
                asked: asked.clone(),
                problem: format!("it has Bindle version {}, only 1.x is known", invoice.bindle_version),
            });
        }
        if invoice.yanked == Some(true) {
            return Err(SourceError::Yanked(asked.clone()));
        }
        Ok(invoice)
    }

    /// Applies the verification policy; returns whose signatures count.
    fn verified(&self, asked: &Asked, text: &str) -> Result<Vec<String>, SourceError> {
        let Verification::Keyring(ring) = &self.verification else { return Ok(Vec::new()) };
        let invoice: bindle::Invoice = toml::from_str(text).map_err(SourceError::malformed(asked, "invoice", text))?;
        let asked = asked.clone();
        match ring.check(&invoice) {
            signatures::Verdict::Trusted(signers) => Ok(signers),
            signatures::Verdict::Unknown(signers) => Err(SourceError::Unsigned { asked, signers }),
            signatures::Verdict::False(signer) => Err(SourceError::BadSignature { asked, signer }),
        }
    }

    /// The content of the manifest parcel, verified.
    async fn manifest(&self, id: &BindleId, invoice: &Invoice) -> Result<String, SourceError> {
        let asked = self.asked(Some(id), None);
        let label = bindle_layout::manifest_parcel(invoice).map_err(not_an_application(&asked))?;
        let content = Content { digest: label.sha256, size: label.size };
        let asked = self.asked(Some(id), Some(content.digest));
        within(&asked, content.size, self.largest.manifest)?;
        let response = self.ask(&asked, self.parcel_url(&asked, id, &content.digest)?).await?;
        let corrupt = SourceError::not_kept(&asked);
        let bytes = http::body(response, content.size).await.map_err(|error| match error {
            HttpError::TooLarge { .. } => corrupt(StoreError::TooLong { expected: content }),
            other => SourceError::no_answer(&asked)(other),
        })?;
        let actual = Content { digest: Digest::of(&bytes), size: bytes.len() as u64 };
        if actual != content {
            return Err(corrupt(StoreError::mismatch(content, actual)));
        }
        String::from_utf8(bytes).map_err(SourceError::invalid(&asked))
    }

    fn asked(&self, id: Option<&BindleId>, parcel: Option<Digest>) -> Asked {
        Asked::new(&self.server, id, parcel)
    }

    /// `{server}/{path}`. The path is made of ids and digests only, which are safe by their types.
    fn url(&self, asked: &Asked, path: &str) -> Result<Url, SourceError> {
        let text = format!("{}/{path}", self.server.as_str().trim_end_matches('/'));
        text.parse().map_err(SourceError::invalid(asked))
    }

    fn parcel_url(&self, asked: &Asked, id: &BindleId, parcel: &Digest) -> Result<Url, SourceError> {
        self.url(asked, &format!("_i/{id}@{}", parcel.hex()))
    }

    /// Asks for `url` and expects 200.
    async fn ask(&self, asked: &Asked, url: Url) -> Result<Response, SourceError> {
        let no_answer = SourceError::no_answer(asked);
        let request = self.http.request(reqwest::Method::GET, url).header(ACCEPT, TOML);
        let response = request.send().await.map_err(|error| no_answer(error.into()))?;
        if response.status() == StatusCode::OK { Ok(response) } else { Err(failure(asked, response).await) }
    }
}

fn within(asked: &Asked, size: u64, limit: u64) -> Result<(), SourceError> {
    if size <= limit { Ok(()) } else { Err(SourceError::TooLarge { asked: asked.clone(), size, limit }) }
}

/// For `map_err`: a well-formed bundle may still be something else than a Spin application.
fn not_an_application(asked: &Asked) -> impl Fn(LayoutError) -> SourceError + use<> {
    let asked = asked.clone();
    move |error| match error {
        LayoutError::Wagi { .. } | LayoutError::NoManifest { .. } | LayoutError::BindleVersion { .. } => {
            SourceError::Unsupported { asked: asked.clone(), problem: error.to_string() }
        }
        other => SourceError::invalid(&asked)(other),
    }
}

/// What an answer other than success means.
async fn failure(asked: &Asked, response: Response) -> SourceError {
    let (asked, status) = (asked.clone(), response.status());
    let message = message(response).await;
    match status {
        StatusCode::NOT_FOUND => SourceError::NotFound(asked),
        StatusCode::FORBIDDEN if message.contains("yanked") => SourceError::Yanked(asked),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => SourceError::Unauthorized { asked, status },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            SourceError::Unavailable { asked, status, message }
        }
        _ if status.is_server_error() => SourceError::Unavailable { asked, status, message },
        StatusCode::CONFLICT => SourceError::Exists(asked),
        _ => SourceError::Refused { asked, status, message },
    }
}

/// What the server says in an error's body: `error = "..."`, or plain text. Only the first line, without control
/// characters: it ends up in conditions and logs.
async fn message(response: Response) -> String {
    let body = http::body(response, MESSAGE).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    let error = text.parse::<toml::Table>().ok().and_then(|table| Some(table.get("error")?.as_str()?.to_owned()));
    let message = error.unwrap_or_else(|| text.into_owned());
    message.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(300).collect()
}

fn without_password(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for URLs that have no place for a password.
    let _nothing_to_hide = url.set_password(None);
    url.to_string()
}
