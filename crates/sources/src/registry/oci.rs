//! One package in an OCI registry.
//!
//! Who we are is settled by `oci-client`; everything else is asked for with our own client, because answers must have a
//! largest size.

use std::{collections::BTreeSet, fs, io, path::Path};

use control::{Credentials, SecretString};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures::TryStreamExt as _;
use manifest::{Content, Digest};
use oci_client::{
    Reference, RegistryOperation,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    manifest::{ImageIndexEntry, OciImageManifest, OciManifest},
    secrets::RegistryAuth,
};
use reqwest::{
    Method, Response, StatusCode,
    header::{ACCEPT, LINK},
};
use semver::Version;
use url::Url;

use super::{DOCUMENT, RegistryError, is_local, origin};
use crate::{
    http::{self, HttpClient, HttpError, HttpOptions, Redirects, Trust},
    store::Store,
};

/// The media types of layers that are wasm.
const WASM: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];
/// The media types of manifests that are understood.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// The largest manifest, as the distribution specification has it.
const MANIFEST: u64 = 4 << 20;
/// How many pages of tags are read.
const PAGES: usize = 50;

/// What [`Repository::open`] opens.
#[derive(Debug)]
pub(super) struct Target {
    /// `host[:port]`.
    pub(super) host: String,
    /// `prefix/namespace/name`.
    pub(super) path: String,
    /// `namespace:name`, for messages.
    pub(super) package: String,
    pub(super) credentials: Option<Credentials>,
    pub(super) trust: Trust,
}

/// The repository of a package.
#[derive(Debug)]
pub(super) struct Repository {
    target: Target,
    origin: Url,
    client: HttpClient,
    /// A token that the registry gave us.
    token: Option<SecretString>,
}

impl Repository {
    /// Finds out how to ask, and as whom.
    pub(super) async fn open(mut target: Target) -> Result<Self, RegistryError> {
        let origin = origin(&target.host)?;
        let token = token(&target).await?;
        // Credentials that were good for a token are not sent with it.
        let credentials = if token.is_some() { None } else { target.credentials.take() };
        let options = HttpOptions {
            credentials,
            trust: target.trust.clone(),
            redirects: Redirects::Https,
            ..HttpOptions::default()
        };
        let setup = |source| RegistryError::Http { registry: target.host.clone(), source };
        let client = HttpClient::new(&options).map_err(setup)?;
        Ok(Self { target, origin, client, token })
    }

    /// The versions of the package, in any order. Tags that are no versions do not count.
    pub(super) async fn versions(&self) -> Result<Vec<Version>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let mut versions = BTreeSet::new();
        let mut next = Some("tags/list?n=1000".to_owned());
        for _ in 0..PAGES {
            let Some(page) = next.take() else { break };
            let response = self.get(&page, None).await?;
            next = next_page(&response);
            let body = http::body(response, MANIFEST).await.map_err(|source| self.http(source))?;
            let tags: Tags = serde_json::from_slice(&body)
                .map_err(|error| self.answer(format!("answered with something else than a list of tags ({error})")))?;
            versions.extend(tags.tags.iter().flatten().filter_map(|tag| Version::parse(tag).ok()));
        }
        Ok(versions.into_iter().collect())
    }

    /// The wasm of a version, in `store` afterwards.
    pub(super) async fn fetch(&self, version: &Version, largest: u64, store: &Store) -> Result<Content, RegistryError> {
        let manifest = match self.manifest(&version.to_string()).await? {
            OciManifest::Image(manifest) => manifest,
            OciManifest::ImageIndex(index) => {
                let wasm = |entry: &&ImageIndexEntry| {
                    entry.platform.as_ref().is_some_and(|platform| platform.architecture.to_string() == "wasm")
                };
                let entry = index.manifests.iter().find(wasm).ok_or_else(|| {
                    self.not_wasm(
                        "it is an index of images, and none of them is for the architecture `wasm`".to_owned(),
                    )
                })?;
                match self.manifest(&entry.digest).await? {
                    OciManifest::Image(manifest) => manifest,
                    OciManifest::ImageIndex(_) => {
                        return Err(self.not_wasm("it is an index of indexes of images".to_owned()));
                    }
                }
            }
        };
        let content = self.layer(&manifest)?;
        if content.size > largest {
            return Err(self.http(HttpError::TooLarge { limit: largest }));
        }
        let _turn = store.turn(&content.digest).await;
        if store.get(&content)?.is_none() {
            let response = self.get(&format!("blobs/{}", content.digest), None).await?;
            store.insert_stream(&content, response.bytes_stream().map_err(HttpError::from)).await?;
        }
        Ok(content)
    }

    /// The one layer that is wasm.
    fn layer(&self, manifest: &OciImageManifest) -> Result<Content, RegistryError> {
        let mut layers = manifest.layers.iter().filter(|layer| WASM.contains(&layer.media_type.as_str()));
        let (Some(layer), None) = (layers.next(), layers.next()) else {
            let types: Vec<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
            return Err(self.not_wasm(format!("it must have one layer of type {}, and has {types:?}", WASM[0])));
        };
        let digest: Digest = match layer.digest.parse() {
            Ok(digest) if layer.digest.starts_with("sha256:") => digest,
            _ => return Err(self.not_wasm(format!("its digest `{}` is no sha256", layer.digest))),
        };
        let size = u64::try_from(layer.size).map_err(|_| self.not_wasm("its size is negative".to_owned()))?;
        Ok(Content { digest, size })
    }

    async fn manifest(&self, reference: &str) -> Result<OciManifest, RegistryError> {
        let response = match self.get(&format!("manifests/{reference}"), Some(MANIFESTS)).await {
            Err(RegistryError::NoPackage { package, registry }) => {
                let known = self.versions().await.unwrap_or_default();
                let known = known.iter().rev().map(Version::to_string).collect();
                return Err(RegistryError::NoVersion { package, registry, version: reference.to_owned(), known });
            }
            response => response?,
        };
        let body = http::body(response, MANIFEST).await.map_err(|source| self.http(source))?;
        serde_json::from_slice(&body)
            .map_err(|error| self.answer(format!("answered with a manifest that is none ({error})")))
    }

    /// Asks for something below the repository.
    async fn get(&self, what: &str, accept: Option<&str>) -> Result<Response, RegistryError> {
        let path = format!("v2/{}/{what}", self.target.path);
        let url = self.origin.join(&path).map_err(|_| RegistryError::Name(self.target.host.clone()))?;
        let mut request = self.client.request(Method::GET, url);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.map_err(|error| self.http(error.into()))?;
        let (package, registry) = (self.target.package.clone(), self.target.host.clone());
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::NOT_FOUND => Err(RegistryError::NoPackage { package, registry }),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(RegistryError::Forbidden { package, registry, status: status.as_u16() })
            }
            status => Err(self.answer(format!("answered {status}"))),
        }
    }

    fn http(&self, source: HttpError) -> RegistryError {
        RegistryError::Http { registry: self.target.host.clone(), source }
    }

    fn answer(&self, problem: String) -> RegistryError {
        RegistryError::Answer { registry: self.target.host.clone(), problem }
    }

    fn not_wasm(&self, problem: String) -> RegistryError {
        RegistryError::NotWasm { package: self.target.package.clone(), registry: self.target.host.clone(), problem }
    }
}

/// What follows the repository's path in a `Link` to the next page of tags.
fn next_page(response: &Response) -> Option<String> {
    let link = response.headers().get(LINK)?.to_str().ok()?;
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    let (_, query) = target.split_once("/tags/list?")?;
    rest.contains("next").then(|| format!("tags/list?{query}"))
}

/// A token for reading, if the registry gives tokens.
async fn token(target: &Target) -> Result<Option<SecretString>, RegistryError> {
    // `oci-client` builds a client without a provider of its own; the first one set wins, and all of ours are this one.
    let _set_before = rustls::crypto::ring::default_provider().install_default();
    let wrong = |problem: String| RegistryError::Answer { registry: target.host.clone(), problem };
    let protocol = if is_local(&target.host) { ClientProtocol::Http } else { ClientProtocol::Https };
    let (tls_certs_only, accept_invalid_certificates) = match &target.trust {
        Trust::System => (Vec::new(), false),
        Trust::Only(pem) => {
            (vec![Certificate { encoding: CertificateEncoding::Pem, data: pem.clone().into_bytes() }], false)
        }
        Trust::Anything => (Vec::new(), true),
    };
    let timeouts = http::Timeouts::default();
    let config = ClientConfig {
        protocol,
        tls_certs_only,
        accept_invalid_certificates,
        connect_timeout: Some(timeouts.connect),
        read_timeout: Some(timeouts.read),
        user_agent: concat!("spindle/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    let client = oci_client::Client::try_from(config).map_err(|error| wrong(format!("cannot be asked ({error})")))?;
    let reference = Reference::with_tag(target.host.clone(), target.path.clone(), "latest".to_owned());
    let auth = target.credentials.as_ref().map_or(RegistryAuth::Anonymous, |credentials| {
        RegistryAuth::Basic(credentials.username.clone(), credentials.password.expose().to_owned())
    });
    let asked = client.auth(&reference, &auth, RegistryOperation::Pull);
    let answered = tokio::time::timeout(timeouts.read * 2, asked).await;
    match answered.map_err(|_| wrong("does not say in time how to log in".to_owned()))? {
        Ok(token) => Ok(token.map(SecretString::new)),
        Err(OciDistributionError::AuthenticationFailure(_)) => Err(RegistryError::Forbidden {
            package: target.package.clone(),
            registry: target.host.clone(),
            status: StatusCode::UNAUTHORIZED.as_u16(),
        }),
        Err(OciDistributionError::RequestError(error)) => {
            Err(RegistryError::Http { registry: target.host.clone(), source: error.into() })
        }
        Err(error) => Err(wrong(format!("does not say how to log in ({error})"))),
    }
}

/// What docker's configuration has for `host`, with the help of its credential helpers.
pub(super) fn docker_credentials(config: Option<&Path>, host: &str) -> Result<Option<Credentials>, RegistryError> {
    let Some(path) = config else { return Ok(None) };
    let problem = |problem: String| RegistryError::Settings { path: path.to_path_buf(), problem };
    let text = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > DOCUMENT => return Err(problem("it is too large".to_owned())),
        _ => fs::read(path).map_err(|error| problem(error.to_string()))?,
    };
    for name in [host.to_owned(), format!("https://{host}")] {
        match docker_credential::get_credential_from_reader(text.as_slice(), &name) {
            Ok(DockerCredential::UsernamePassword(username, password)) => {
                return Ok(Some(Credentials { username, password: SecretString::new(password) }));
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                return Err(problem(format!(
                    "it has an identity token for {host}, and only user names and passwords are understood"
                )));
            }
            // Docker, too, asks anonymously when a helper knows nothing.
            Err(CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::HelperFailure { .. }) => {}
            Err(error) => return Err(problem(error.to_string())),
        }
    }
    Ok(None)
}
