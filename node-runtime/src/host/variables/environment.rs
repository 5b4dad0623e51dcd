//! The provider `env`: variables of the process's environment, and of a dotenv file behind them.

use std::{collections::BTreeMap, io, path::Path};

use manifest::Secret;

/// Values by the names that environment variables have.
#[derive(Debug, Default)]
pub(super) struct Environment<'e> {
    process: Option<&'e BTreeMap<String, Secret>>,
    file: BTreeMap<String, Secret>,
}

/// A dotenv file that cannot be used. Its text is not repeated: it is full of secrets.
#[derive(Debug, thiserror::Error)]
pub enum DotenvError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// It is larger than any that people write.
    #[error("it has more than {LARGEST} bytes")]
    TooLarge,
    /// It is none.
    #[error("it is no dotenv file: write one `NAME=value` in each line")]
    Malformed,
}

/// The largest dotenv file, in bytes.
const LARGEST: u64 = 1 << 20;

impl<'e> Environment<'e> {
    /// The environment `process`, and the file at `dotenv` for what is not in it. A file that does not exist says
    /// nothing, as with Spin.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub(super) async fn read(
        process: &'e BTreeMap<String, Secret>,
        dotenv: Option<&Path>,
    ) -> Result<Self, DotenvError> {
        let file = match dotenv {
            Some(path) => read_dotenv(path).await?,
            None => BTreeMap::new(),
        };
        Ok(Self { process: Some(process), file })
    }

    /// The value of the application's variable `name`.
    pub(super) fn get(&self, prefix: &str, name: &str) -> Option<&Secret> {
        let upper = name.to_ascii_uppercase();
        let key = if prefix.is_empty() { upper } else { format!("{prefix}_{upper}") };
        self.process.and_then(|process| process.get(&key)).or_else(|| self.file.get(&key))
    }
}

async fn read_dotenv(path: &Path) -> Result<BTreeMap<String, Secret>, DotenvError> {
    match tokio::fs::metadata(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Ok(metadata) if metadata.len() > LARGEST => return Err(DotenvError::TooLarge),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    parse(&tokio::fs::read(path).await?)
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Secret>, DotenvError> {
    let mut values = BTreeMap::new();
    for entry in dotenvy::from_read_iter(bytes) {
        let (name, value) = entry.map_err(|_text_would_be_shown| DotenvError::Malformed)?;
        // The first one counts, as it does where the lines become environment variables.
        values.entry(name).or_insert_with(|| Secret::new(value));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_environment_goes_before_the_file_and_names_have_their_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        let text = "# a comment\nAPP_A=file\nexport APP_B = \"two words\"\nAPP_C='hunter2'\nBARE=x\n";
        std::fs::write(&file, text).unwrap();
        let process = BTreeMap::from([("APP_A".to_owned(), Secret::new("process"))]);
        let environment = Environment::read(&process, Some(&file)).await.unwrap();
        let get = |prefix, name| environment.get(prefix, name).map(Secret::expose);
        assert_eq!(get("APP", "a"), Some("process"));
        assert_eq!(get("APP", "b"), Some("two words"));
        assert_eq!(get("APP", "c"), Some("hunter2"));
        assert_eq!(get("APP", "d"), None);
        assert_eq!(get("", "bare"), Some("x"));
    }

    #[tokio::test]
    async fn a_file_that_is_missing_says_nothing_and_one_that_is_none_shows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let process = BTreeMap::new();
        assert!(Environment::read(&process, Some(&dir.path().join("none"))).await.is_ok());
        let file = dir.path().join(".env");
        std::fs::write(&file, "hunter2 is no line\n").unwrap();
        let error = Environment::read(&process, Some(&file)).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
