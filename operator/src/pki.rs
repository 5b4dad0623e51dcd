//! Certificates: the operator's own authority, the runtimes' Secret, the operator's own certificate.
//!
//! Promise: what is made and when is [`operator_core::pki`]'s decision; here it is carried out so that
//! several operators may do it at once (each write names the version that it was decided on). A Secret
//! that is edited or deleted is put right from what this process remembers. Streams that are open stay
//! open: only new ones use new certificates.
//!
//! Keys never leave the Secrets, this process and the runtimes; none is logged.

pub mod issue;
pub mod secrets;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use operator_core::{
    RevisionKey,
    pki::{Settings, State, Step, decide},
};
use rustls::ClientConfig;
use tokio::sync::watch;

pub use operator_api::rbac::{CA_SECRET, RUNTIME_SECRET};

use self::{
    issue::{Authority, IssueError, Leaf, Role},
    secrets::{Material, RuntimeSecret},
};
use crate::{
    backoff::{Backoff, Pauses},
    failure,
};

/// How often to look although nothing has happened.
const ROUNDS: Duration = Duration::from_secs(10 * 60);

/// Why certificates are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A Secret cannot be read or written.
    #[error("cannot read or write the Secret {secret}")]
    Secret {
        /// Which.
        secret: &'static str,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// A certificate cannot be made or used.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// Others keep changing the Secrets.
    #[error("the Secrets {CA_SECRET} and {RUNTIME_SECRET} do not come to rest")]
    Restless,
}

/// The certificates of one installation, as one operator sees them.
#[derive(Debug)]
pub struct Pki {
    api: Api<Secret>,
    settings: Settings,
    remembered: Mutex<Remembered>,
    tls: watch::Sender<Option<Arc<ClientConfig>>>,
}

/// What this process knows without the API server.
#[derive(Debug, Default, Clone)]
struct Remembered {
    material: Option<Material>,
    operator: Option<Leaf>,
    /// What the Secret asked for when it was last looked at.
    rotate_before: Option<Timestamp>,
}

impl Pki {
    /// The certificates that are kept in `namespace`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, settings: Settings) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            settings,
            remembered: Mutex::default(),
            tls: watch::Sender::new(None),
        }
    }

    /// The TLS configuration to dial runtimes with; `None` until there is one.
    #[must_use]
    pub fn tls(&self) -> watch::Receiver<Option<Arc<ClientConfig>>> {
        self.tls.subscribe()
    }

    /// The secret that revision names are made with; `None` until there is one.
    #[must_use]
    pub fn revision_key(&self) -> Option<RevisionKey> {
        self.remember().material.as_ref().map(|material| material.revision_key.clone())
    }

    /// Keeps everything as it should be, for as long as it is polled.
    pub async fn run(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.set_right(Timestamp::now()).await {
                Ok(()) => {
                    backoff = Backoff::default();
                    self.something_happens().await;
                }
                Err(error) => {
                    tracing::error!(error = %daemon::chain(&error), "certificates are not as they should be");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// Waits until one of the Secrets changes, or it is time to look again.
    async fn something_happens(&self) {
        let watch = |name| watch_object(self.api.clone(), name).backoff(Pauses::default());
        let changes = futures::stream::select(watch(CA_SECRET), watch(RUNTIME_SECRET));
        let mut changes = std::pin::pin!(changes.filter(|change| {
            let news = match change {
                Ok(secret) => self.is_news(secret.as_ref()),
                Err(error) => {
                    tracing::debug!(error = %daemon::chain(error), "a watch failed");
                    false
                }
            };
            std::future::ready(news)
        }));
        let _change_or_time = tokio::time::timeout(self.round(), changes.next()).await;
    }

    /// How long until it is time to look again: several times per propagation time, as the decision asks.
    fn round(&self) -> Duration {
        Duration::try_from(self.settings.propagation / 4).unwrap_or(ROUNDS).min(ROUNDS)
    }

    fn is_news(&self, secret: Option<&Secret>) -> bool {
        let Some(secret) = secret else { return true };
        let remembered = self.remember();
        let Some(material) = &remembered.material else { return true };
        match secret.metadata.name.as_deref() {
            Some(CA_SECRET) => {
                Material::read(secret).as_ref() != Some(material)
                    || secrets::rotate_before(secret) != remembered.rotate_before
            }
            _ => RuntimeSecret::read(secret, material).is_none_or(|found| found.bundle != material.bundle()),
        }
    }

    /// Makes whatever is missing or old, once.
    ///
    /// # Errors
    /// When a Secret cannot be read or written, or a certificate cannot be made.
    pub async fn set_right(&self, now: Timestamp) -> Result<(), PkiError> {
        for _ in 0..8 {
            if self.attempt(now).await? {
                return Ok(());
            }
        }
        Err(PkiError::Restless)
    }

    /// One round of reading, deciding and writing; whether everything is as it should be now.
    async fn attempt(&self, now: Timestamp) -> Result<bool, PkiError> {
        let (ca, runtime) = tokio::try_join!(self.read(CA_SECRET), self.read(RUNTIME_SECRET))?;
        let remembered = self.remember();
        let found = ca.as_ref().and_then(Material::read);
        let mut material = match (found.clone(), remembered.material) {
            (Some(found), Some(known)) => found.mended(ca.as_ref(), &known),
            (Some(material), None) | (None, Some(material)) => material,
            (None, None) => Material::empty()?,
        };
        let mut leaves = Leaves {
            operator: remembered.operator.filter(|leaf| leaf.issuer(&material).is_some()),
            runtime: runtime.as_ref().and_then(|secret| RuntimeSecret::read(secret, &material)),
        };
        let rotate_before = ca.as_ref().and_then(secrets::rotate_before);
        let steps = leaves.settle(&mut material, rotate_before, &self.settings, now)?;
        let bundle = material.bundle();
        // Authorities first: nothing may be signed by one that can be lost.
        if found.as_ref() != Some(&material) && !self.write(CA_SECRET, ca.as_ref(), material.secret()).await? {
            return Ok(false);
        }
        let runtime_changed = |known: &RuntimeSecret| known.is_new || known.bundle != bundle;
        if let Some(mut known) = leaves.runtime.filter(runtime_changed) {
            known.bundle.clone_from(&bundle);
            if !self.write(RUNTIME_SECRET, runtime.as_ref(), known.secret()).await? {
                return Ok(false);
            }
        }
        self.publish(Remembered { material: Some(material), operator: leaves.operator, rotate_before }, &steps)?;
        Ok(true)
    }

    /// Remembers what is now true, and dials with it from now on.
    fn publish(&self, new: Remembered, steps: &[Step]) -> Result<(), PkiError> {
        let config = new.material.as_ref().zip(new.operator.as_ref());
        let config = config.map(|(material, leaf)| issue::client_config(material, leaf)).transpose()?;
        for step in steps {
            tracing::info!(?step, "changed certificates");
        }
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let bundle = |known: &Remembered| known.material.as_ref().map(Material::bundle);
        let same = bundle(&remembered) == bundle(&new) && remembered.operator == new.operator;
        *remembered = new;
        drop(remembered);
        if !same {
            self.tls.send_replace(config.map(Arc::new));
        }
        Ok(())
    }

    async fn read(&self, secret: &'static str) -> Result<Option<Secret>, PkiError> {
        self.api.get_opt(secret).await.map_err(|source| PkiError::Secret { secret, source })
    }

    /// Writes a Secret over what was `found`; whether nobody was faster.
    async fn write(&self, name: &'static str, found: Option<&Secret>, mut secret: Secret) -> Result<bool, PkiError> {
        let params = PostParams::default();
        secret.metadata.name = Some(name.to_owned());
        let written = match found {
            None => self.api.create(&params, &secret).await,
            Some(found) => {
                // Labels and such are whoever's they are.
                secret.metadata = found.metadata.clone();
                secret.metadata.managed_fields = None;
                secret.type_.clone_from(&found.type_);
                self.api.replace(name, &params, &secret).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(error) if failure::is_conflict(&error) || failure::is_not_found(&error) => Ok(false),
            Err(source) => Err(PkiError::Secret { secret: name, source }),
        }
    }

    fn remember(&self) -> Remembered {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The leaves in use.
#[derive(Debug)]
struct Leaves {
    operator: Option<Leaf>,
    runtime: Option<RuntimeSecret>,
}

impl Leaves {
    /// What there is, for the decision.
    fn state(&self, material: &Material, rotate_before: Option<Timestamp>) -> State {
        let operator = self.operator.as_ref().map(|leaf| (Role::Operator, leaf));
        let runtime = self.runtime.as_ref().map(|secret| (Role::Runtime, &secret.leaf));
        let leaf = |(role, leaf): (Role, &Leaf)| {
            Some(operator_core::pki::Leaf {
                name: role.name().to_owned(),
                issuer: leaf.issuer(material)?.id.clone(),
                validity: leaf.validity,
            })
        };
        State {
            authorities: material.authorities.iter().map(Authority::fact).collect(),
            leaves: operator.into_iter().chain(runtime).filter_map(leaf).collect(),
            rotate_before,
        }
    }

    /// Carries out what is decided until nothing more is; what that was.
    fn settle(
        &mut self,
        material: &mut Material,
        rotate_before: Option<Timestamp>,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Vec<Step>, PkiError> {
        let wanted = [Role::Operator.name(), Role::Runtime.name()];
        let mut done = Vec::new();
        for _ in 0..8 {
            let steps = decide(settings, now, &self.state(material, rotate_before), &wanted);
            if steps.is_empty() {
                return Ok(done);
            }
            for step in &steps {
                self.carry_out(step, material, settings, now)?;
            }
            done.extend(steps);
        }
        Err(PkiError::Restless)
    }

    fn carry_out(
        &mut self,
        step: &Step,
        material: &mut Material,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(), IssueError> {
        match step {
            Step::MakeAuthority => material.authorities.push(Authority::make(now, settings.authority)?),
            Step::RemoveAuthority { id } => material.authorities.retain(|authority| authority.id != *id),
            Step::IssueLeaf { name, issuer } => {
                let Some(authority) = material.authorities.iter().find(|authority| authority.id == *issuer) else {
                    return Err(IssueError::NoAuthority(issuer.clone()));
                };
                if name == Role::Operator.name() {
                    self.operator = Some(authority.issue(Role::Operator, now, settings.leaf)?);
                } else {
                    let leaf = authority.issue(Role::Runtime, now, settings.leaf)?;
                    self.runtime = Some(RuntimeSecret { bundle: material.bundle(), leaf, is_new: true });
                }
            }
        }
        Ok(())
    }
}
