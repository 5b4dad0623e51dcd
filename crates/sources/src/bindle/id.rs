//! [`BindleId`]: the name of a bundle, safe in a URL.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest id that is accepted, in bytes.
const LONGEST: usize = 512;

/// `name/version`: path-like segments of ASCII letters, digits, `.`, `_` and `-` that start with a letter, a digit or
/// `_`, and a semantic version.
///
/// The `bindle` crate's own `Id` accepts anything before the last `/`, and its client puts it into a URL as it is:
/// `../a/1.0.0` asks for something else. A `BindleId` cannot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BindleId {
    text: String,
    /// Where the version starts.
    version: usize,
}

/// Why a string is not a [`BindleId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a Bindle id: expected `name/version`, such as `example.com/shop/1.2.3`, with letters, digits, `.`, `_`, `-` and `/` in the name, and a semantic version"
)]
pub struct BindleIdError(String);

impl BindleId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name, without the version.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.get(..self.version.saturating_sub(1)).unwrap_or_default()
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> &str {
        self.text.get(self.version..).unwrap_or_default()
    }

    /// The sha256 of the id, in hex: the name of the bundle's directory in Bindle's layouts on disk.
    #[must_use]
    pub fn sha256(&self) -> String {
        manifest::Digest::of(self.text.as_bytes()).hex()
    }
}

impl FromStr for BindleId {
    type Err = BindleIdError;

    fn from_str(text: &str) -> Result<Self, BindleIdError> {
        let error = || BindleIdError(text.to_owned());
        let (name, version) = text.rsplit_once('/').ok_or_else(error)?;
        let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let inner = |c: char| first(c) || matches!(c, '.' | '-');
        let clean = name.split('/').all(|part| part.starts_with(first) && part.chars().all(inner));
        if !clean || text.len() > LONGEST {
            return Err(error());
        }
        // The crate's parser knows semantic versions, and that is all it is asked about.
        let parsed: bindle::Id = text.parse().map_err(|_| error())?;
        if parsed.version_string() != version {
            return Err(error());
        }
        Ok(Self { text: text.to_owned(), version: name.len() + 1 })
    }
}

impl TryFrom<String> for BindleId {
    type Error = BindleIdError;

    fn try_from(text: String) -> Result<Self, BindleIdError> {
        text.parse()
    }
}

impl From<BindleId> for String {
    fn from(id: BindleId) -> Self {
        id.text
    }
}

impl fmt::Display for BindleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_name_and_a_semantic_version() {
        for (text, name, version) in [
            ("hello/1.0.0", "hello", "1.0.0"),
            ("example.com/a-b/_c.d/1.2.3-rc.1+r4e5", "example.com/a-b/_c.d", "1.2.3-rc.1+r4e5"),
        ] {
            let id: BindleId = text.parse().unwrap();
            assert_eq!((id.name(), id.version(), id.to_string().as_str()), (name, version, text));
        }
    }

    #[test]
    fn whatever_could_change_a_url_is_no_id() {
        for bad in [
            "",
            "/",
            "hello",
            "hello/",
            "/1.0.0",
            "hello/1.0",
            "hello/01.0.0",
            "../a/1.0.0",
            "a/../b/1.0.0",
            "a//b/1.0.0",
            "/a/1.0.0",
            "./a/1.0.0",
            "a?yanked=true&/1.0.0",
            "a#b/1.0.0",
            "a%2e/1.0.0",
            "a b/1.0.0",
            "a\n/1.0.0",
            "-a/1.0.0",
            "ä/1.0.0",
            "a@b/1.0.0",
            "a:b/1.0.0",
            "a\\b/1.0.0",
            "a/1.0.0@ab",
            &format!("{}/1.0.0", "a".repeat(LONGEST)),
        ] {
            assert!(bad.parse::<BindleId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_directory_of_a_bundle_is_the_digest_of_its_id() {
        let id: BindleId = "enterprise.com/warpcore/1.0.0".parse().unwrap();
        assert_eq!(id.sha256(), id.as_str().parse::<bindle::Id>().unwrap().sha());
    }
}
