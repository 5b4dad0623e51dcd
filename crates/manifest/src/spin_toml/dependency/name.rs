//! [`DependencyName`]: which imports of a component are meant.

use std::{fmt, str::FromStr};

use semver::Version;

/// The imports that a [`Dependency`](super::Dependency) satisfies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DependencyName {
    /// The import of this name, such as `my-import`.
    Plain(String),
    /// Interfaces: `namespace:package[/interface][@version]`.
    Package {
        /// `namespace:package`.
        package: String,
        /// One interface; all of the package otherwise.
        interface: Option<String>,
        /// A version that the import's is compatible with; any otherwise.
        version: Option<Version>,
    },
}

/// Why a string is not a [`DependencyName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the name of a dependency: use `namespace:package`, `namespace:package/interface`, either with `@1.2.3`, or the plain name of an import such as `my-import`"
)]
pub struct DependencyNameError(String);

impl FromStr for DependencyName {
    type Err = DependencyNameError;

    fn from_str(text: &str) -> Result<Self, DependencyNameError> {
        let bad = || DependencyNameError(text.to_owned());
        if !text.contains([':', '/', '@']) {
            return if is_kebab(text) { Ok(Self::Plain(text.to_owned())) } else { Err(bad()) };
        }
        let (path, version) = match text.split_once('@') {
            Some((path, version)) => (path, Some(Version::parse(version).map_err(|_| bad())?)),
            None => (text, None),
        };
        let (package, interface) = path.split_once('/').map_or((path, None), |(package, rest)| (package, Some(rest)));
        if !is_package(package) || interface.is_some_and(|interface| !is_kebab(interface)) {
            return Err(bad());
        }
        Ok(Self::Package { package: package.to_owned(), interface: interface.map(str::to_owned), version })
    }
}

impl fmt::Display for DependencyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(name) => f.write_str(name),
            Self::Package { package, interface, version } => {
                f.write_str(package)?;
                if let Some(interface) = interface {
                    write!(f, "/{interface}")?;
                }
                version.as_ref().map_or(Ok(()), |version| write!(f, "@{version}"))
            }
        }
    }
}

impl DependencyName {
    /// Whether the import `import` of a component, such as `namespace:package/interface@1.2.3`, is meant.
    #[must_use]
    pub fn matches(&self, import: &str) -> bool {
        match self {
            Self::Plain(name) => name == import,
            Self::Package { package, interface, version } => {
                let Ok(Self::Package { package: theirs, interface: Some(their_interface), version: their_version }) =
                    import.parse()
                else {
                    return false;
                };
                *package == theirs
                    && interface.as_ref().is_none_or(|interface| *interface == their_interface)
                    && match (version, &their_version) {
                        (None, _) => true,
                        (Some(ours), Some(theirs)) => is_compatible(ours, theirs),
                        (Some(_), None) => false,
                    }
            }
        }
    }

    /// Whether one import could be meant by both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Package { package, interface, version },
                Self::Package { package: other, interface: other_interface, version: other_version },
            ) => {
                let versions = match (version, other_version) {
                    (Some(one), Some(other)) => is_compatible(one, other),
                    _ => true,
                };
                let interfaces = match (interface, other_interface) {
                    (Some(one), Some(other)) => one == other,
                    _ => true,
                };
                package == other && versions && interfaces
            }
            _ => self == other,
        }
    }
}

/// Whether code made for one of two versions runs with the other, by the rules of semantic versions: the same major
/// version, the same minor one before 1.0, the same patch before 0.1; a pre-release is compatible with itself only.
#[must_use]
pub fn is_compatible(one: &Version, other: &Version) -> bool {
    let track = |version: &Version| match (version.major, version.minor) {
        _ if !version.pre.is_empty() => (version.major, version.minor, version.patch),
        (0, 0) => (0, 0, version.patch),
        (0, minor) => (0, minor, 0),
        (major, _) => (major, 0, 0),
    };
    one.pre == other.pre && track(one) == track(other)
}

/// Words of ASCII letters and digits with `-` between them: each starts with a letter and is in one case.
pub(in crate::spin_toml) fn is_kebab(text: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.bytes().all(|b| b.is_ascii_alphanumeric())
            && (word.bytes().all(|b| !b.is_ascii_uppercase()) || word.bytes().all(|b| !b.is_ascii_lowercase()))
    };
    text.split('-').all(word)
}

/// `namespace:package`.
pub(in crate::spin_toml) fn is_package(text: &str) -> bool {
    text.split_once(':').is_some_and(|(namespace, name)| is_kebab(namespace) && is_kebab(name))
}
