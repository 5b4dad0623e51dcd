//! The names that messages are about.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An app: the namespace and name of a `SpinApp`, written `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppKey {
    namespace: String,
    name: String,
}

/// Why a string is not an [`AppKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an app: expected `namespace/name`, each a DNS label")]
pub struct AppKeyError(String);

impl AppKey {
    /// The app `name` in `namespace`.
    ///
    /// # Errors
    /// When either is not a lower-case DNS name as Kubernetes has them (RFC 1123): only then is the key safe
    /// as a file name.
    pub fn new(namespace: &str, name: &str) -> Result<Self, AppKeyError> {
        if is_dns_name(namespace) && is_dns_name(name) {
            Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
        } else {
            Err(AppKeyError(format!("{namespace}/{name}")))
        }
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// RFC 1123 subdomain: what Kubernetes accepts as an object's name.
fn is_dns_name(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=253).contains(&text.len())
        && text
            .split('.')
            .all(|label| label.starts_with(edge) && label.ends_with(edge) && label.chars().all(|c| edge(c) || c == '-'))
}

impl FromStr for AppKey {
    type Err = AppKeyError;

    fn from_str(text: &str) -> Result<Self, AppKeyError> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| AppKeyError(text.to_owned()))?;
        Self::new(namespace, name)
    }
}

impl TryFrom<String> for AppKey {
    type Error = AppKeyError;

    fn try_from(text: String) -> Result<Self, AppKeyError> {
        text.parse()
    }
}

impl From<AppKey> for String {
    fn from(key: AppKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One app at one bundle and one configuration: `<bundle>-<configuration>`, each twelve hex digits.
///
/// Unique within an app, the same on every runtime, and the same again when the same content and
/// configuration come back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevisionId(pub String);

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One runtime: the name of its pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuntimeName(pub String);

impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_key_reads_what_it_writes() {
        let key = AppKey::new("shop", "cart.v1").unwrap();
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        for bad in ["", "/", "a/", "/a", "a/..", "../a", "a/b/c", "A/b", "a/b_c", "a/-b", "a/b."] {
            assert!(bad.parse::<AppKey>().is_err(), "{bad}");
        }
    }
}
