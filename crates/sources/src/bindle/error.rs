//! [`SourceError`]: why a bundle, or a part of one, is not here.

use std::{error::Error, fmt, sync::Arc};

use manifest::Digest;
use reqwest::{StatusCode, Url};

use super::BindleId;
use crate::{http::HttpError, store::StoreError};

/// What was asked, and whom: the part of a message that says where to look. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked(Arc<Parts>);

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    server: Url,
    id: Option<BindleId>,
    parcel: Option<Digest>,
}

impl Asked {
    pub(super) fn new(server: &Url, id: Option<&BindleId>, parcel: Option<Digest>) -> Self {
        Self(Arc::new(Parts { server: server.clone(), id: id.cloned(), parcel }))
    }

    /// The server, as configured.
    #[must_use]
    pub fn server(&self) -> &Url {
        &self.0.server
    }

    /// The bundle; none for questions about the server itself.
    #[must_use]
    pub fn id(&self) -> Option<&BindleId> {
        self.0.id.as_ref()
    }

    /// The parcel of the bundle; none for its invoice.
    #[must_use]
    pub fn parcel(&self) -> Option<Digest> {
        self.0.parcel
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { server, id, parcel } = &*self.0;
        if let Some(parcel) = parcel {
            write!(f, "parcel {} of ", parcel.hex())?;
        }
        if let Some(id) = id {
            write!(f, "bindle {id} at ")?;
        }
        write!(f, "{server}")
    }
}

/// Why a bundle, or a part of one, could not be had from a Bindle server, or not be put there.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The client's settings are unusable.
    #[error("{server} cannot be asked: {problem}")]
    Setup {
        /// The server, as configured.
        server: String,
        /// What is wrong.
        problem: String,
    },
    /// The server has no such thing.
    #[error(
        "no {0}: check the id and the server (its URL usually ends in /v1), and that the bindle was pushed completely"
    )]
    NotFound(Asked),
    /// The publisher has withdrawn it, and the server gives it to nobody.
    #[error("{0} has been yanked by its publisher: use another version")]
    Yanked(Asked),
    /// The server does not give it to us.
    #[error("not allowed to use {asked} ({status}): check the credentials")]
    Unauthorized {
        /// What was asked.
        asked: Asked,
        /// The answer.
        status: StatusCode,
    },
    /// No connection, or it broke.
    #[error("cannot reach {asked}")]
    Unreachable {
        /// What was asked.
        asked: Asked,
        /// What happened.
        #[source]
        source: HttpError,
    },
    /// No answer in time.
    #[error("no answer in time about {asked}")]
    Timeout {
        /// What was asked.
        asked: Asked,
        /// What happened.
        #[source]
        source: HttpError,
    },
    /// The server has a problem, or too much to do.
    #[error("the server failed to give {asked} ({status}){}", said(.message))]
    Unavailable {
        /// What was asked.
        asked: Asked,
        /// The answer.
        status: StatusCode,
        /// What the server said about it.
        message: String,
    },
    /// The server answered with something that makes no sense here.
    #[error("unexpected answer about {asked} ({status}){}", said(.message))]
    Refused {
        /// What was asked.
        asked: Asked,
        /// The answer.
        status: StatusCode,
        /// What the server said about it.
        message: String,
    },
    /// The bytes are not those that the invoice promises. They were thrown away.
    #[error("{asked} is corrupt on the server or was changed on the way")]
    Corrupt {
        /// What was asked.
        asked: Asked,
        /// What differs.
        #[source]
        source: StoreError,
    },
    /// More than we are willing to take.
    #[error("{asked} is too large: {size} bytes, at most {limit} are accepted")]
    TooLarge {
        /// What was asked.
        asked: Asked,
        /// Its size; at least this when the end was not reached.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The invoice or the manifest is not well-formed, or contradicts itself or the question.
    #[error("{asked} is not {}", expected(.asked))]
    Invalid {
        /// What was asked.
        asked: Asked,
        /// What is wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It is something else than a Spin application.
    #[error("{asked} is not supported: {problem}")]
    Unsupported {
        /// What was asked.
        asked: Asked,
        /// What it is.
        problem: String,
    },
    /// Nobody whom we know has signed it.
    #[error("{asked} has no signature by a trusted key ({}): sign it, or add the key to the keyring", who(.signers))]
    Unsigned {
        /// What was asked.
        asked: Asked,
        /// Who has signed it, as they say themselves.
        signers: Vec<String>,
    },
    /// Somebody whom we know is said to have signed it, but did not sign this.
    #[error("{asked} was changed after {signer} signed it")]
    BadSignature {
        /// What was asked.
        asked: Asked,
        /// Whose signature it claims to be.
        signer: String,
    },
    /// Something with this id is on the server, and bundles never change.
    #[error("{0} already exists: publish under another version, or with other build information")]
    Exists(Asked),
    /// It came, but cannot be kept.
    #[error("cannot store {asked}")]
    Store {
        /// What was asked.
        asked: Asked,
        /// What happened.
        #[source]
        source: StoreError,
    },
}

/// The end of a message, if there is something to add.
fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// What [`SourceError::Invalid`] is about.
fn expected(asked: &Asked) -> &'static str {
    if asked.id().is_some() { "a valid Spin application" } else { "a Bindle server" }
}

/// What is wrong with `text`, and where: in one line, without quoting it.
pub(super) fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {message}")
}

fn who(signers: &[String]) -> String {
    if signers.is_empty() { "it is not signed at all".to_owned() } else { format!("signed by {}", signers.join(", ")) }
}

impl SourceError {
    /// One word for conditions, events and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Setup { .. } => "InvalidSource",
            Self::NotFound(_) => "NotFound",
            Self::Yanked(_) => "Yanked",
            Self::Unauthorized { .. } => "Unauthorized",
            Self::Unreachable { .. } => "Unreachable",
            Self::Timeout { .. } => "Timeout",
            Self::Unavailable { .. } => "Unavailable",
            Self::Refused { .. } => "UnexpectedAnswer",
            Self::Corrupt { .. } => "Corrupt",
            Self::TooLarge { .. } => "TooLarge",
            Self::Invalid { .. } => "Invalid",
            Self::Unsupported { .. } => "Unsupported",
            Self::Unsigned { .. } => "Unsigned",
            Self::BadSignature { .. } => "BadSignature",
            Self::Exists(_) => "AlreadyExists",
            Self::Store { source, .. } => source.reason(),
        }
    }

    /// Whether the same question may have another answer soon, without anybody changing the question: servers come
    /// back, disks are cleaned, a bundle may be pushed (or pushed to the end) after it was first asked for.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::NotFound(_)
            | Self::Unauthorized { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Unavailable { .. }
            | Self::Refused { .. }
            | Self::Corrupt { .. }
            | Self::Store { .. } => true,
            Self::Setup { .. }
            | Self::Yanked(_)
            | Self::TooLarge { .. }
            | Self::Invalid { .. }
            | Self::Unsupported { .. }
            | Self::Unsigned { .. }
            | Self::BadSignature { .. }
            | Self::Exists(_) => false,
        }
    }

    /// For `map_err`: no (whole) answer to what was asked.
    pub(super) fn no_answer(asked: &Asked) -> impl Fn(HttpError) -> Self + use<> {
        let asked = asked.clone();
        move |source| {
            let asked = asked.clone();
            match source {
                HttpError::Timeout(_) => Self::Timeout { asked, source },
                HttpError::TooLarge { limit } => Self::TooLarge { asked, size: limit.saturating_add(1), limit },
                HttpError::Setup(problem) => Self::Setup { server: asked.server().to_string(), problem },
                HttpError::Connection(_) | HttpError::Redirect(_) => Self::Unreachable { asked, source },
            }
        }
    }

    /// For `map_err`: what came cannot be kept, or is not what was asked for.
    pub(super) fn not_kept(asked: &Asked) -> impl Fn(StoreError) -> Self + use<> {
        let asked = asked.clone();
        move |source| {
            let asked = asked.clone();
            match source {
                StoreError::Mismatch { .. } | StoreError::TooLong { .. } => Self::Corrupt { asked, source },
                _ => Self::Store { asked, source },
            }
        }
    }

    /// For `map_err`: `text` came, which is no `what`.
    pub(super) fn malformed(asked: &Asked, what: &'static str, text: &str) -> impl Fn(toml::de::Error) -> Self {
        move |error| {
            let problem = format!("what the server sent is no {what}: {}", toml_problem(text, &error));
            Self::Invalid { asked: asked.clone(), source: problem.into() }
        }
    }

    /// For `map_err`: what came is not well-formed.
    pub(super) fn invalid<E: Into<Box<dyn Error + Send + Sync>>>(asked: &Asked) -> impl Fn(E) -> Self + use<E> {
        let asked = asked.clone();
        move |source| Self::Invalid { asked: asked.clone(), source: source.into() }
    }
}
