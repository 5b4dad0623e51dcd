//! Putting bundles on a server.
//!
//! The order is the protocol's: first the invoice, which claims the id for good, then the parcels that the server does
//! not have. So a push that was cut off can be continued, as long as it is the same bundle.

use std::{collections::BTreeSet, path::Path};

use manifest::{Content, Digest, bindle_layout::Invoice};
use reqwest::{
    Method, RequestBuilder, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE},
};
use serde::Deserialize;

use super::{Asked, BindleClient, BindleId, Keyring, SourceError, TOML, failure};
use crate::{http, store::StoreError};

/// How a server's answer about missing parcels is limited: invoice and labels of every parcel, twice.
const ANSWER: u64 = 16 << 20;

/// The part of the answers to `POST _i` and `GET _r/missing` that matters.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    missing: Vec<Missing>,
}

#[derive(Deserialize)]
struct Missing {
    sha256: Digest,
}

impl BindleClient {
    /// The server's own public keys; `None` from servers before 0.9, which know no signatures by creators.
    ///
    /// # Errors
    /// When the server does not answer, or with something that is no keyring.
    pub async fn host_keys(&self) -> Result<Option<Keyring>, SourceError> {
        let asked = self.asked(None, None);
        match self.ask(&asked, self.url(&asked, "bindle-keys")?).await {
            Ok(response) => {
                let bytes = http::body(response, ANSWER).await.map_err(SourceError::no_answer(&asked))?;
                let text = String::from_utf8(bytes).map_err(SourceError::invalid(&asked))?;
                Keyring::from_toml(&text).map(Some).map_err(SourceError::invalid(&asked))
            }
            Err(SourceError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The invoice that the server has for `id`, whoever signed it; `None` if it has none. Yanked bundles are there too.
    ///
    /// # Errors
    /// When the server does not answer, or with something that is no invoice.
    pub async fn existing(&self, id: &BindleId) -> Result<Option<Invoice>, SourceError> {
        let asked = self.asked(Some(id), None);
        let response = match self.ask(&asked, self.url(&asked, &format!("_i/{id}?yanked=true"))?).await {
            Err(SourceError::NotFound(_)) => return Ok(None),
            other => other?,
        };
        let bytes = http::body(response, self.largest.invoice).await.map_err(SourceError::no_answer(&asked))?;
        let text = String::from_utf8(bytes).map_err(SourceError::invalid(&asked))?;
        Invoice::from_toml(&text).map(Some).map_err(SourceError::malformed(&asked, "invoice", &text))
    }

    /// Creates the bundle that `invoice` describes; returns the parcels that must be uploaded before it is complete.
    ///
    /// # Errors
    /// [`SourceError::Exists`] when the id is taken, [`SourceError::Refused`] when the server does not like the
    /// invoice or its signatures.
    pub async fn create(&self, id: &BindleId, invoice: &Invoice) -> Result<BTreeSet<Digest>, SourceError> {
        let asked = self.asked(Some(id), None);
        let text = invoice.to_toml().map_err(SourceError::invalid(&asked))?;
        let request = self.http.request(Method::POST, self.url(&asked, "_i")?).header(CONTENT_TYPE, TOML);
        self.missing_after(&asked, request.body(text)).await
    }

    /// The parcels of `id` that the server does not have.
    ///
    /// # Errors
    /// When the server does not answer, or does not know the bundle.
    pub async fn missing(&self, id: &BindleId) -> Result<BTreeSet<Digest>, SourceError> {
        let asked = self.asked(Some(id), None);
        let url = self.url(&asked, &format!("_r/missing/{id}"))?;
        self.missing_after(&asked, self.http.request(Method::GET, url)).await
    }

    /// Uploads the file at `path` as the parcel `content` of an existing bundle. That somebody else was faster is fine.
    ///
    /// # Errors
    /// When the file cannot be read, or the server does not take it.
    pub async fn upload(&self, id: &BindleId, content: &Content, path: &Path) -> Result<(), SourceError> {
        let asked = self.asked(Some(id), Some(content.digest));
        let file = tokio::fs::File::open(path).await.map_err(StoreError::io("read", path));
        let file = file.map_err(SourceError::not_kept(&asked))?;
        let request = self.http.request(Method::POST, self.parcel_url(&asked, id, &content.digest)?);
        let request = request.header(CONTENT_LENGTH, content.size).body(file);
        let response = request.send().await.map_err(|error| SourceError::no_answer(&asked)(error.into()))?;
        match response.status() {
            StatusCode::CONFLICT => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(failure(&asked, response).await),
        }
    }

    async fn missing_after(&self, asked: &Asked, request: RequestBuilder) -> Result<BTreeSet<Digest>, SourceError> {
        let no_answer = SourceError::no_answer(asked);
        let request = request.header(ACCEPT, TOML);
        let response = request.send().await.map_err(|error| no_answer(error.into()))?;
        if !response.status().is_success() {
            return Err(failure(asked, response).await);
        }
        let text = String::from_utf8(http::body(response, ANSWER).await.map_err(no_answer)?);
        let text = text.map_err(SourceError::invalid(asked))?;
        let answer: Answer = toml::from_str(&text).map_err(SourceError::malformed(asked, "list of parcels", &text))?;
        Ok(answer.missing.into_iter().map(|label| label.sha256).collect())
    }
}
