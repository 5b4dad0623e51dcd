//! Which blobs there are, and when they were last used: what whoever bounds a store must know.
//!
//! The time of last use is the file's modification time, because times of access are not kept everywhere.

use std::{
    fs::{self, File},
    io,
    time::SystemTime,
};

use manifest::{Content, Digest};

use super::{Store, StoreError};

/// A blob of a [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// What it is.
    pub content: Content,
    /// When it was written, or [`Store::touch`]ed last.
    pub used: SystemTime,
}

impl Store {
    /// All blobs, in no order. What is removed meanwhile may be missing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<Blob>, StoreError> {
        let dir = self.blobs();
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
            let entry = entry.map_err(StoreError::io("list", &dir))?;
            let digest = entry.file_name().to_str().and_then(|hex| hex.parse::<Digest>().ok());
            let (Some(digest), Ok(found)) = (digest, entry.metadata()) else { continue };
            let used = found.modified().map_err(StoreError::io("read", &entry.path()))?;
            blobs.push(Blob { content: Content { digest, size: found.len() }, used });
        }
        Ok(blobs)
    }

    /// Notes that `content` is used now. Nothing happens if it is not here.
    ///
    /// # Errors
    /// When its file cannot be changed.
    pub fn touch(&self, content: &Content) -> Result<(), StoreError> {
        let path = self.blob_path(&content.digest);
        match File::open(&path).and_then(|blob| blob.set_modified(SystemTime::now())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("touch", &path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_blob_tells_when_it_was_used_last() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let content = store.insert_bytes(b"blob").unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        File::open(store.get(&content).unwrap().unwrap()).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(store.list().unwrap(), [Blob { content, used: long_ago }]);
        store.touch(&content).unwrap();
        assert!(store.list().unwrap()[0].used > long_ago);
        assert_eq!(store.touch(&Content { digest: Digest::of(b"other"), size: 5 }).map_err(|e| e.to_string()), Ok(()));
    }
}
