//! [`BindleServers`]: who is asked in earnest.

use std::{
    collections::HashMap,
    str::FromStr as _,
    sync::{Mutex, PoisonError},
};

use control::Problem;
use futures::future::BoxFuture;
use manifest::Digest;
use sources::bindle::{BindleClient, BindleId, ClientOptions, SourceError};
use url::Url;

use super::{Answer, Oracle, Question};

/// Bindle servers.
pub struct BindleServers {
    options: ClientOptions,
    /// By server and credentials, so that connections are used again.
    clients: Mutex<HashMap<Digest, BindleClient>>,
}

impl std::fmt::Debug for BindleServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BindleServers").finish_non_exhaustive()
    }
}

impl BindleServers {
    /// How many clients are kept.
    const KEPT: usize = 64;

    /// Servers that are asked with `options` (whose credentials are replaced by those of each question).
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        Self { options, clients: Mutex::default() }
    }

    fn client(&self, question: &Question) -> Result<BindleClient, Problem> {
        let asker = Question { id: String::new(), ..question.clone() }.digest();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&asker) {
            return Ok(client.clone());
        }
        let server = Url::parse(&question.server).map_err(|error| Problem {
            reason: "InvalidSource".to_owned(),
            message: format!("the server's URL {:?} cannot be used: {error}", question.server),
            retrying: false,
        })?;
        let options = ClientOptions { credentials: question.credentials.clone(), ..self.options.clone() };
        let client = BindleClient::new(server, options).map_err(|error| problem(&error))?;
        if clients.len() >= Self::KEPT {
            clients.clear();
        }
        clients.insert(asker, client.clone());
        Ok(client)
    }
}

impl Oracle for BindleServers {
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<Answer, Problem>> {
        let client = self.client(&question);
        Box::pin(async move {
            let client = client?;
            let id = BindleId::from_str(&question.id).map_err(|error| Problem {
                reason: "InvalidSource".to_owned(),
                message: error.to_string(),
                retrying: false,
            })?;
            let bundle = client.resolve(&id).await.map_err(|error| problem(&error))?;
            Ok(Answer { application: bundle.application, digest: bundle.digest })
        })
    }
}

fn problem(error: &SourceError) -> Problem {
    Problem { reason: error.reason().to_owned(), message: daemon::chain(error), retrying: error.is_retryable() }
}
