//! [`Application`]: what a Spin application is, once every reference in it is a digest.

mod check;
mod select;

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::Error as _};

use crate::digest::Digest;

pub(crate) use check::check_files;
pub use check::{ApplicationError, check_path};
pub use select::UnknownComponents;
pub(crate) use select::{retain_routes, select};

/// The canonical description of a Spin application.
///
/// The same content always gives the same value, and the same value always serialises to the same
/// bytes, so [`Application::digest`] identifies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Application {
    /// The name its author gave it. Not unique on a cluster.
    pub name: String,
    /// The version its author gave it; empty where a version 2 manifest has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What it is for, in the author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who wrote it, as `Name <mail>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// The path that all routes are below; `/` unless a version 1 manifest says otherwise. Routes in
    /// [`Application::routes`] do **not** include it.
    #[serde(default = "root")]
    pub base: String,
    /// The variables that whoever runs the application may or must set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
    /// The HTTP triggers, in the manifest's order, which decides between duplicates.
    pub routes: Vec<Route>,
    /// The components, by id.
    pub components: BTreeMap<ComponentId, Component>,
}

fn root() -> String {
    "/".to_owned()
}

/// A variable of an application: set by whoever runs it, read by components through templates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Variable {
    /// The value it has when nobody sets it; `None` makes it required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether its value must never be shown or logged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// One HTTP trigger: a pattern of paths and what answers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Route {
    /// Which paths.
    pub pattern: Pattern,
    /// What answers.
    pub target: Target,
}

/// Which paths a [`Route`] answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pattern {
    /// A path as the manifest has it, with a leading `/` and without the base: exact (`/a`), with named
    /// segments (`/a/:id`) or with a trailing wildcard (`/a/...`).
    Path(String),
    /// No path: reached by other components of the application only.
    Private,
}

/// What answers a [`Route`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Target {
    /// A component, called by an executor.
    Component {
        /// Which; always a key of [`Application::components`].
        id: ComponentId,
        /// How its wasm is called.
        executor: Executor,
    },
    /// An answer that needs no wasm.
    Static {
        /// The status code, from 200 to 599: one of 1xx ends no exchange.
        status: u16,
        /// The headers.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
        /// The body.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        body: String,
    },
}

/// How a component's wasm is called for a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Executor {
    /// A Spin HTTP guest: which of the known handlers it exports is found when it is loaded.
    #[default]
    Spin,
    /// A CGI-like guest: headers and body on stdout.
    Wagi(WagiExecutor),
}

/// The settings of the Wagi executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WagiExecutor {
    /// The export to call; `_start` by default.
    pub entrypoint: String,
    /// The argument template; `${SCRIPT_NAME} ${ARGS}` by default.
    pub argv: String,
}

impl Default for WagiExecutor {
    fn default() -> Self {
        Self { entrypoint: "_start".to_owned(), argv: "${SCRIPT_NAME} ${ARGS}".to_owned() }
    }
}

/// One wasm guest of an application, with everything it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Component {
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its wasm.
    pub source: Content,
    /// The files at its `/`, sorted by path, no path twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// Its environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Its configuration: keys to templates such as `Hello {{ name }}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Where it may connect to, in the syntax of `allowed_outbound_hosts`; version 1's
    /// `allowed_http_hosts` have been converted by Spin's rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_outbound_hosts: Vec<String>,
    /// The key-value stores it may open, by label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_value_stores: Vec<String>,
    /// The SQLite databases it may open, by label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sqlite_databases: Vec<String>,
    /// The models it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ai_models: Vec<String>,
}

/// Some immutable bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Content {
    /// Their address.
    pub digest: Digest,
    /// How many there are. Checked together with the digest.
    pub size: u64,
}

/// One file that a component sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct File {
    /// Where, relative to the guest's `/`, with `/` between its parts: never empty or absolute, no part
    /// is empty, `.` or `..`, no NUL and no backslash.
    pub path: String,
    /// What.
    pub content: Content,
}

/// The id of a component, unique in its application: letters, digits, `-` and `_`, as Spin's
/// publishers allowed (`^[-_\p{L}\p{N}]+$`) plus `.`, which older ones did too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComponentId(String);

/// Why a string is not a [`ComponentId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a component id: use letters, digits, `-`, `_` and `.`, starting with a letter, digit or `_`")]
pub struct ComponentIdError(String);

impl ComponentId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ComponentId {
    type Err = ComponentIdError;

    fn from_str(text: &str) -> Result<Self, ComponentIdError> {
        let inner = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        let first = |c: char| c.is_alphanumeric() || c == '_';
        if text.starts_with(first) && text.chars().all(inner) && text.len() <= 256 {
            Ok(Self(text.to_owned()))
        } else {
            Err(ComponentIdError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ComponentId {
    type Error = ComponentIdError;

    fn try_from(text: String) -> Result<Self, ComponentIdError> {
        text.parse()
    }
}

impl From<ComponentId> for String {
    fn from(id: ComponentId) -> Self {
        id.0
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Application {
    /// The one serialised form.
    ///
    /// # Errors
    /// Never for an `Application` that this crate made; the signature is serde's.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads the serialised form.
    ///
    /// # Errors
    /// When the bytes are not such a form, naming line and column, or when [`Application::check`] refuses it.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        let application: Self = serde_json::from_slice(json)?;
        application.check().map_err(serde_json::Error::custom)?;
        Ok(application)
    }

    /// What identifies the application: the digest of its serialised form.
    ///
    /// # Errors
    /// As [`Application::to_json`].
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        Ok(Digest::of(&self.to_json()?))
    }

    /// Everything that must be present before the application can run, each once, in digest order.
    pub fn contents(&self) -> impl Iterator<Item = Content> + use<> {
        let all: BTreeMap<Digest, Content> = self
            .components
            .values()
            .flat_map(|component| {
                std::iter::once(component.source).chain(component.files.iter().map(|file| file.content))
            })
            .map(|content| (content.digest, content))
            .collect();
        all.into_values()
    }
}
