//! [`BlobWriter`]: one blob on its way into the store, chunk by chunk.

use std::path::PathBuf;

use manifest::{Content, Digest};
use sha2::Digest as _;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use super::{Store, StoreError};

/// Receives the bytes of one blob whose digest and size are known. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    content: Content,
    temporary: NamedTempFile,
    file: tokio::fs::File,
    hash: sha2::Sha256,
    size: u64,
}

impl Store {
    /// Starts to add `content`.
    ///
    /// # Errors
    /// When no file can be made.
    pub async fn writer(&self, content: &Content) -> Result<BlobWriter, StoreError> {
        let temporary = self.temporary()?;
        let path = temporary.path();
        let file = temporary.as_file().try_clone().map_err(StoreError::io("open", path))?;
        Ok(BlobWriter {
            store: self.clone(),
            content: *content,
            file: tokio::fs::File::from_std(file),
            temporary,
            hash: sha2::Sha256::new(),
            size: 0,
        })
    }
}

impl BlobWriter {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`StoreError::TooLong`] as soon as there are more than announced (nothing of those is written), or when they
    /// cannot be written.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        self.size += chunk.len() as u64;
        if self.size > self.content.size {
            return Err(StoreError::TooLong { expected: self.content });
        }
        self.hash.update(chunk);
        self.file.write_all(chunk).await.map_err(StoreError::io("write", self.temporary.path()))
    }

    /// How many bytes came so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Checks what came and makes it available; returns where.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when it is not what was announced, or when it cannot be written.
    pub async fn finish(mut self) -> Result<PathBuf, StoreError> {
        self.file.flush().await.map_err(StoreError::io("write", self.temporary.path()))?;
        let actual = Content { digest: Digest::from_bytes(self.hash.finalize().into()), size: self.size };
        if actual != self.content {
            return Err(StoreError::mismatch(self.content, actual));
        }
        let (store, temporary) = (self.store, self.temporary);
        let path = store.blob_path(&actual.digest);
        tokio::task::spawn_blocking(move || store.keep(temporary, &actual.digest))
            .await
            .map_err(|stopped| StoreError::io("write", &path)(stopped.into()))?
    }
}
