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
            let Content { digest: expected, size: expected_size } = self.content;
            return Err(StoreError::TooLong { expected, expected_size });
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
        let actual = Digest::from_bytes(self.hash.finalize().into());
        let Content { digest: expected, size: expected_size } = self.content;
        if actual != expected || self.size != expected_size {
            return Err(StoreError::Mismatch { expected, expected_size, actual, actual_size: self.size });
        }
        let (store, temporary) = (self.store, self.temporary);
        let path = store.blob_path(&expected);
        tokio::task::spawn_blocking(move || store.keep(temporary, &expected))
            .await
            .map_err(|stopped| StoreError::io("write", &path)(stopped.into()))?
    }
}
