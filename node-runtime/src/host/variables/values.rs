//! [`Values`]: the values of an application's variables, from whoever has them.
//!
//! In this order, as in Spin: what the app itself is given, the providers of the runtime configuration in theirs, the
//! manifest's default. The first that has a value wins; a provider that fails ends the search, for what comes after it might
//! be another value.
//!
//! Everything but a Vault says the same for as long as the revision runs, so it is asked once, when the revision is built. A
//! Vault is asked when a guest asks. What it says counts for [`FRESH`], so that a busy guest does not ask for every request;
//! that it failed counts for [`FAILED`], so that a Vault that is down is not asked by everyone who waits.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use manifest::{Application, runtime_config::VariablesProvider};

use super::{
    Absent,
    environment::{DotenvError, Environment},
    vault::{Vault, VaultSetupError},
};
use crate::{engine::RevisionSettings, host::Network};

/// How long an answer of a provider counts.
const FRESH: Duration = Duration::from_secs(5);
/// How long a failure of a provider counts.
const FAILED: Duration = Duration::from_secs(1);
/// How long building a revision waits for providers.
pub(crate) const BUILD_WITHIN: Duration = Duration::from_secs(10);
/// How many questions building a revision asks at a time.
const ASKED_AT_A_TIME: usize = 8;

/// The values of an application's variables, by name.
#[derive(Debug, Default)]
pub(crate) struct Values(BTreeMap<String, Value>);

/// The value of one variable.
pub(crate) enum Value {
    /// This one, as long as the revision runs.
    Fixed(Arc<str>),
    /// Whatever it is when it is asked for.
    Asked(Arc<Asked>),
}

/// A variable whose value is asked for.
pub(crate) struct Asked {
    name: String,
    /// Who to ask, in order.
    vaults: Vec<Arc<Vault>>,
    /// What it is when none of them has one.
    otherwise: Option<Arc<str>>,
    answer: Mutex<Option<(Instant, Answer)>>,
    /// Held by whoever asks, so that the others need not.
    turn: tokio::sync::Mutex<()>,
}

type Answer = Result<Arc<str>, Arc<str>>;

/// Why an application's variables have no values.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    /// A required variable has no value.
    #[error(
        "variable `{name}` is required and has no value anywhere: set it (spec.variables of a SpinApp, --variable of spindle up), or let a variables provider of the runtime configuration have it"
    )]
    Missing {
        /// Which.
        name: String,
    },
    /// A dotenv file cannot be used.
    #[error("variables provider {index} (env): {} cannot be used", .path.display())]
    Dotenv {
        /// The provider's index in the runtime configuration, from 0.
        index: usize,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: DotenvError,
    },
    /// A Vault cannot be asked.
    #[error("variables provider {index} (vault) cannot be used")]
    Vault {
        /// The provider's index in the runtime configuration, from 0.
        index: usize,
        /// Why.
        #[source]
        source: VaultSetupError,
    },
}

/// A provider that is ready to be asked.
enum Provider<'s> {
    Static(&'s BTreeMap<String, manifest::Secret>),
    Env(&'s str, Environment<'s>),
    Vault(Arc<Vault>),
}

impl Values {
    /// The values of the variables of `application`; providers are where `network` lets them be.
    ///
    /// # Errors
    /// When a required variable certainly has none, or a provider could never be asked.
    pub(crate) async fn of(
        application: &Application,
        settings: &RevisionSettings,
        network: &Network,
    ) -> Result<Self, ValuesError> {
        let providers = ready(settings, network).await?;
        let mut values = BTreeMap::new();
        for (name, variable) in &application.variables {
            let mut vaults = Vec::new();
            let given = settings.variables.get(name).map(manifest::Secret::expose);
            let provided = || {
                providers.iter().find_map(|provider| match provider {
                    Provider::Static(values) => values.get(name).map(manifest::Secret::expose),
                    Provider::Env(prefix, environment) => environment.get(prefix, name).map(manifest::Secret::expose),
                    Provider::Vault(vault) => {
                        vaults.push(Arc::clone(vault));
                        None
                    }
                })
            };
            let known = given.or_else(provided).or(variable.default.as_deref());
            let value = match known {
                Some(text) if vaults.is_empty() => Value::Fixed(text.into()),
                None if vaults.is_empty() => return Err(ValuesError::Missing { name: name.clone() }),
                known => Value::Asked(Arc::new(Asked::new(name, vaults, known))),
            };
            values.insert(name.clone(), value);
        }
        let values = Self(values);
        values.check_required().await?;
        Ok(values)
    }

    /// The value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Asks for those that nothing else gives a value. A Vault that cannot be asked is no reason not to serve: it may be
    /// well again before a guest asks.
    async fn check_required(&self) -> Result<(), ValuesError> {
        let deadline = Instant::now() + BUILD_WITHIN;
        let mut required = Vec::new();
        for value in self.0.values() {
            if let Value::Asked(asked) = value
                && asked.otherwise.is_none()
            {
                required.push(Arc::clone(asked));
            }
        }
        let mut answers = stream::iter(required)
            .map(|asked| async move {
                let missing = asked.is_missing(deadline).await;
                (asked, missing)
            })
            .buffer_unordered(ASKED_AT_A_TIME);
        while let Some((asked, missing)) = answers.next().await {
            match missing {
                Ok(false) => {}
                Ok(true) => return Err(ValuesError::Missing { name: asked.name.clone() }),
                Err(problem) => {
                    tracing::warn!(variable = asked.name, error = &*problem, "a variables provider cannot be asked");
                }
            }
        }
        Ok(())
    }
}

async fn ready<'s>(settings: &'s RevisionSettings, network: &Network) -> Result<Vec<Provider<'s>>, ValuesError> {
    let mut providers = Vec::new();
    for (index, provider) in settings.runtime_config.variables_providers.iter().enumerate() {
        providers.push(match provider {
            VariablesProvider::Static { values } => Provider::Static(values),
            VariablesProvider::Env { prefix, dotenv_path } => {
                let path = dotenv_path.as_deref();
                let environment = Environment::read(&settings.environment, path).await.map_err(|source| {
                    ValuesError::Dotenv { index, path: dotenv_path.clone().unwrap_or_default(), source }
                })?;
                Provider::Env(prefix, environment)
            }
            VariablesProvider::Vault { url, token, mount, prefix } => {
                let vault = Vault::new(url, token, mount, prefix.as_deref(), &settings.provider_trust, network);
                Provider::Vault(Arc::new(vault.map_err(|source| ValuesError::Vault { index, source })?))
            }
        });
    }
    Ok(providers)
}

impl Asked {
    fn new(name: &str, vaults: Vec<Arc<Vault>>, otherwise: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            vaults,
            otherwise: otherwise.map(Into::into),
            answer: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The value, at `deadline` at the latest.
    ///
    /// # Errors
    /// [`Absent::Provider`].
    pub(crate) async fn get(&self, deadline: Instant) -> Result<Arc<str>, Absent> {
        let answer = match self.known() {
            Some(answer) => answer,
            None => match tokio::time::timeout_at(deadline.into(), self.ask_in_turn()).await {
                Ok(answer) => answer,
                Err(_late) => Err("Vault did not answer before the request's deadline".into()),
            },
        };
        answer.map_err(|problem| Absent::Provider { name: self.name.clone(), problem })
    }

    /// Whether it certainly has no value.
    async fn is_missing(&self, deadline: Instant) -> Result<bool, Arc<str>> {
        match tokio::time::timeout_at(deadline.into(), self.ask()).await {
            Ok(Ok(found)) => Ok(found.is_none()),
            Ok(Err(problem)) => Err(problem),
            Err(_late) => Err("no answer in time".into()),
        }
    }

    /// What was answered, if that still counts.
    fn known(&self) -> Option<Answer> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = answer.as_ref()?;
        let counts = if answer.is_ok() { FRESH } else { FAILED };
        (at.elapsed() < counts).then(|| answer.clone())
    }

    async fn ask_in_turn(&self) -> Answer {
        let _turn = self.turn.lock().await;
        // Whoever had the turn before may have brought it.
        if let Some(answer) = self.known() {
            return answer;
        }
        let answer = match self.ask().await {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err("it is required, and no provider has it".into()),
            Err(problem) => Err(problem),
        };
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn ask(&self) -> Result<Option<Arc<str>>, Arc<str>> {
        for vault in &self.vaults {
            match vault.get(&self.name).await {
                Ok(Some(value)) => return Ok(Some(value.into())),
                Ok(None) => {}
                Err(error) => return Err(error.chain().into()),
            }
        }
        Ok(self.otherwise.clone())
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed([hidden])",
            Self::Asked(_) => "Asked",
        })
    }
}

#[cfg(test)]
impl FromIterator<(&'static str, &'static str)> for Values {
    fn from_iter<I: IntoIterator<Item = (&'static str, &'static str)>>(values: I) -> Self {
        Self(values.into_iter().map(|(name, value)| (name.to_owned(), Value::Fixed(value.into()))).collect())
    }
}
