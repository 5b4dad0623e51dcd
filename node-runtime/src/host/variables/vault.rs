//! The provider `vault`: HashiCorp Vault's key-value engine, version 2, and `OpenBao`'s, which is the same.
//!
//! The variable `NAME` is the text field `value` of the secret `[PREFIX/]NAME`, as in Spin.
//!
//! Promise: every question has an end and every answer a largest size: on a cluster the author of an app names the
//! server. The token goes to that server alone and is never shown; nor is what it answers.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use manifest::Secret;
use serde::Deserialize;
use sources::http::{HttpError, HttpOptions, Timeouts, Trust, body};
use url::Url;

use crate::host::{Network, NetworkError, network::ServerClient};

/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The largest answer, in bytes: Vault's own limit of a secret is 1 MiB.
const LARGEST: u64 = 2 << 20;

/// One `vault` provider.
pub(crate) struct Vault {
    client: ServerClient,
    token: HeaderValue,
    /// `…/v1/<mount>/data[/<prefix>]`.
    secrets: Url,
}

/// A `vault` provider that cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum VaultSetupError {
    /// The URL is none.
    #[error("its `url` cannot be used")]
    Url,
    /// The token cannot be sent.
    #[error("its `token` cannot be sent: it must be ASCII text")]
    Token,
    /// There is no client.
    #[error(transparent)]
    Client(#[from] HttpError),
}

/// Why the server gave no answer that counts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    /// None came.
    #[error("Vault cannot be asked: {0}")]
    Http(#[from] HttpError),
    /// It may not be asked where it is.
    #[error("Vault cannot be asked: {0}")]
    Network(#[from] NetworkError),
    /// It does not let us.
    #[error("Vault refuses with status 403: the token is wrong, or its policy does not let it read this secret")]
    Forbidden,
    /// It is not well.
    #[error("Vault answers with status {0}")]
    Status(StatusCode),
    /// It is not what such a server answers.
    #[error("Vault's answer is not that of a key-value engine of version 2")]
    Malformed,
    /// The secret has other fields.
    #[error("the secret in Vault has no text field `value`")]
    NoValue,
}

impl VaultError {
    /// All of it in one line.
    pub(crate) fn chain(&self) -> String {
        match self {
            Self::Http(error) => format!("Vault cannot be asked: {}", daemon::chain(error)),
            other => other.to_string(),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Version,
}

#[derive(Deserialize)]
struct Version {
    /// Null when this version has been deleted.
    data: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Vault {
    /// A provider that asks the server at `url`, by way of `network`. Unless that knows whom to trust there, `trust` says.
    ///
    /// # Errors
    /// When it could never be asked.
    pub(crate) fn new(
        url: &str,
        token: &Secret,
        mount: &str,
        prefix: Option<&str>,
        trust: &Trust,
        network: &Network,
    ) -> Result<Self, VaultSetupError> {
        let mut secrets: Url = url.parse().map_err(|_| VaultSetupError::Url)?;
        secrets.set_query(None);
        secrets.set_fragment(None);
        let parts = |path: &str| path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        secrets
            .path_segments_mut()
            .map_err(|()| VaultSetupError::Url)?
            .pop_if_empty()
            .push("v1")
            .extend(parts(mount))
            .push("data")
            .extend(parts(prefix.unwrap_or_default()));
        let mut token = HeaderValue::from_str(token.expose()).map_err(|_| VaultSetupError::Token)?;
        token.set_sensitive(true);
        let timeouts = Timeouts { connect: ANSWER_WITHIN, read: ANSWER_WITHIN, total: ANSWER_WITHIN };
        let options = HttpOptions { trust: trust.clone(), timeouts, ..HttpOptions::default() };
        let client = ServerClient::new(network, &secrets, options)?;
        Ok(Self { client, token, secrets })
    }

    /// The value of the variable `name`; `None` when there is no such secret.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<String>, VaultError> {
        let mut url = self.secrets.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(name);
        }
        let _turn = self.client.turn().await;
        let request = self.client.request(Method::GET, url).await?.header("x-vault-token", self.token.clone());
        let response = request.header("x-vault-request", "true").send().await.map_err(HttpError::from)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::FORBIDDEN => return Err(VaultError::Forbidden),
            status => return Err(VaultError::Status(status)),
        }
        let answer: Answer =
            serde_json::from_slice(&body(response, LARGEST).await?).map_err(|_secret| VaultError::Malformed)?;
        let Some(mut fields) = answer.data.data else { return Ok(None) };
        match fields.remove("value") {
            Some(serde_json::Value::String(value)) => Ok(Some(value)),
            _ => Err(VaultError::NoValue),
        }
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("secrets", &self.secrets.as_str()).finish_non_exhaustive()
    }
}
