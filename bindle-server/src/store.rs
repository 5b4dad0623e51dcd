//! [`Uploads`]: the crate's file store, made safe to upload to.
//!
//! Promise: an upload that fails or is cut off can be tried again, and no parcel id becomes a path unless it is 64
//! lower-case hex digits. (The crate alone leaves an empty parcel directory behind, which makes every later attempt a
//! conflict, and joins parcel ids to its root as they are.)

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bindle::{
    Id, Invoice, Label, Signed,
    provider::{
        Provider, ProviderError, Result,
        file::{FileProvider, PARCEL_DAT, PARCEL_DIRECTORY},
    },
    search::StrictEngine,
    verification::Verified,
};
use tokio_stream::Stream;

/// A file store that cleans up after uploads.
#[derive(Clone)]
pub(crate) struct Uploads {
    files: FileProvider<StrictEngine>,
    parcels: PathBuf,
    running: Arc<Mutex<BTreeSet<String>>>,
}

/// One running upload. However it ends, what it left is removed unless it is whole.
struct Upload {
    id: String,
    dir: PathBuf,
    running: Arc<Mutex<BTreeSet<String>>>,
}

impl Uploads {
    /// The store in `directory`.
    pub(crate) async fn open(directory: &Path, index: StrictEngine) -> Self {
        let files = FileProvider::new(directory, index).await;
        Self { files, parcels: directory.join(PARCEL_DIRECTORY), running: Arc::default() }
    }

    /// Claims the parcel `id`, unless somebody is just uploading it.
    fn start(&self, id: &str) -> Result<Upload> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if !running.insert(id.to_owned()) {
            return Err(ProviderError::WriteInProgress);
        }
        drop(running);
        let upload = Upload { id: id.to_owned(), dir: self.parcels.join(id), running: Arc::clone(&self.running) };
        upload.remove_remains();
        Ok(upload)
    }
}

impl Upload {
    fn remove_remains(&self) {
        if self.dir.is_dir() && !self.dir.join(PARCEL_DAT).is_file() {
            tracing::info!(parcel = self.id, "removing what a failed upload left");
            if let Err(error) = std::fs::remove_dir_all(&self.dir) {
                tracing::warn!(parcel = self.id, %error, "cannot remove what a failed upload left");
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.remove_remains();
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Anything else could be a path.
fn check(parcel: &str) -> Result<()> {
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if parcel.len() == 64 && parcel.bytes().all(hex) { Ok(()) } else { Err(ProviderError::NotFound) }
}

#[async_trait::async_trait]
impl Provider for Uploads {
    async fn create_invoice<I>(&self, invoice: I) -> Result<(Invoice, Vec<Label>)>
    where
        I: Signed + Verified + Send + Sync,
    {
        self.files.create_invoice(invoice).await
    }

    async fn get_yanked_invoice<I>(&self, id: I) -> Result<Invoice>
    where
        I: TryInto<Id> + Send,
        I::Error: Into<ProviderError>,
    {
        self.files.get_yanked_invoice(id).await
    }

    async fn yank_invoice<I>(&self, id: I) -> Result<()>
    where
        I: TryInto<Id> + Send,
        I::Error: Into<ProviderError>,
    {
        self.files.yank_invoice(id).await
    }

    async fn create_parcel<I, R, B>(&self, id: I, parcel: &str, data: R) -> Result<()>
    where
        I: TryInto<Id> + Send,
        I::Error: Into<ProviderError>,
        R: Stream<Item = std::io::Result<B>> + Unpin + Send + Sync + 'static,
        B: bytes::Buf + Send,
    {
        check(parcel)?;
        let _upload = self.start(parcel)?;
        self.files.create_parcel(id, parcel, data).await
    }

    async fn get_parcel<I>(
        &self,
        id: I,
        parcel: &str,
    ) -> Result<Box<dyn Stream<Item = Result<bytes::Bytes>> + Unpin + Send + Sync>>
    where
        I: TryInto<Id> + Send,
        I::Error: Into<ProviderError>,
    {
        check(parcel)?;
        self.files.get_parcel(id, parcel).await
    }

    async fn parcel_exists<I>(&self, id: I, parcel: &str) -> Result<bool>
    where
        I: TryInto<Id> + Send,
        I::Error: Into<ProviderError>,
    {
        check(parcel)?;
        self.files.parcel_exists(id, parcel).await
    }
}
