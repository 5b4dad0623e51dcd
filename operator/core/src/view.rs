//! [`View`]: everything that a decision about one app may depend on.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use control::{
    AppKey, AppReport, Assignment, Check, Fetch, Fingerprint, Limits, Problem, RuntimeName, SecretString,
    wire::{CHECKS_VERSION, LOWEST_VERSION},
};
use jiff::Timestamp;
use manifest::{Application, Digest, RuntimeConfig};
use operator_api::{SpinApp, SpinAppStatus, names};

use crate::{
    history::{Entry, Template},
    plan::Memory,
    publish::Slice,
    rollout::{Rollout, Strategy},
};

/// Everything that [`crate::plan`] may look at, gathered by the shell.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The time of the decision.
    pub now: Timestamp,
    /// What the user asked for.
    pub app: App,
    /// The status that the API server has.
    pub status: SpinAppStatus,
    /// What is known about the bundle that the spec names.
    pub bundle: Bundle,
    /// What is known about the variables that the spec sets.
    pub variables: Variables,
    /// What is known about the runtime configuration that the spec asks for.
    pub runtime_config: RuntimeConfiguration,
    /// The runtime configuration that the installation gives to every app.
    pub pool_config: Option<Arc<ConfigText>>,
    /// The app's port from [`crate::ports::Book::claim`]; `None` when all are taken.
    pub port: Option<u16>,
    /// Every runtime pod that there is, in any state.
    pub runtimes: Vec<Runtime>,
    /// The Service of the app's name.
    pub service: ServiceState,
    /// The app's EndpointSlices: those of its name and namespace that carry our managed-by label and are
    /// owned by this app's uid ([`crate::objects::slice_of`]).
    pub slices: Vec<Slice>,
    /// The app's remembered revisions: those that are owned by its uid ([`crate::objects::entry_of`]).
    pub history: Vec<Entry>,
    /// Why the last attempt to write the Service or a slice failed; `None` after a success.
    pub write_failure: Option<Problem>,
    /// [`crate::Plan::memory`] of the last plan that was carried out; default after a start.
    pub memory: Memory,
    /// What makes a revision's name say nothing about the secrets in its configuration.
    pub key: RevisionKey,
}

/// A secret that revision names are made with, so that nobody can find a variable's value by trying values
/// until the name in the status comes out.
///
/// Every operator of an installation uses the same, also after a restart: another one gives every app a new
/// revision.
#[derive(Clone, PartialEq, Eq)]
pub struct RevisionKey(pub [u8; 32]);

impl std::fmt::Debug for RevisionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RevisionKey([hidden])")
    }
}

/// What the user asked for, in domain types.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Its namespace and name.
    pub key: AppKey,
    /// The object's uid.
    pub uid: String,
    /// The object's `metadata.generation`.
    pub generation: i64,
    /// Whether it is being deleted, and waits for somebody's finalizer. Until it is gone it is served as it was, and nothing
    /// is made for it that Kubernetes may be deleting or giving away.
    pub is_ending: bool,
    /// How many runtimes are to serve it.
    pub replicas: u32,
    /// What its guests may use; the problem when a quantity cannot be read.
    pub limits: Result<Limits, Problem>,
    /// The check that a revision must pass on a runtime before it takes requests there.
    pub readiness: Option<Check>,
    /// How a revision takes over from the one before.
    pub rollout: Rollout,
    /// The ids of the components to run; all without any.
    pub components: Vec<String>,
    /// Annotations for its Service.
    pub service_annotations: BTreeMap<String, String>,
    /// What of its spec makes a revision.
    pub template: Template,
    /// How many old revisions are remembered.
    pub history_limit: usize,
}

/// What is known about the bundle that the current spec names.
#[derive(Debug, Clone, PartialEq)]
pub enum Bundle {
    /// Nothing yet: it is being asked for.
    Pending,
    /// Everything.
    Resolved {
        /// The canonical application.
        application: Box<Application>,
        /// The digest that stands for the bundle as a whole.
        digest: Digest,
        /// Where runtimes get its content from.
        fetch: Fetch,
    },
    /// Asking failed. `retrying` says whether the shell goes on asking.
    Failed(Problem),
}

/// What is known about the values of the variables that the spec sets.
#[derive(Debug, Clone, PartialEq)]
pub enum Variables {
    /// Secrets or ConfigMaps have not been read yet.
    Pending,
    /// Every one has a value; optional ones that do not exist are left out.
    Resolved(BTreeMap<String, SecretString>),
    /// Something that the spec refers to does not exist, or cannot be read.
    Failed(Problem),
}

/// What is known about the runtime configuration that the spec asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum RuntimeConfiguration {
    /// Secrets or ConfigMaps have not been read yet.
    Pending,
    /// This, or that it asks for none.
    Resolved(Option<ConfigText>),
    /// Something that it refers to does not exist, or it says what cannot be honoured.
    Failed(Problem),
}

/// A runtime configuration: its text, which may hold passwords, and what that says.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigText {
    /// As a runtime is told.
    pub text: SecretString,
    /// As it is understood.
    pub config: Box<RuntimeConfig>,
}

/// One runtime pod, as the API server and the control stream show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Runtime {
    /// Which, and where: the same for every app, and shared by their views.
    pub id: Arc<Identity>,
    /// Its node's `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// What Kubernetes says about the pod.
    pub pod: Pod,
    /// What the control stream says.
    pub contact: Contact,
    /// The version of the protocol that it and this operator speak; `None` before they have spoken.
    pub version: Option<u32>,
    /// How many apps it wants at most; any number while unknown, because only runtimes that are connected get apps.
    pub capacity: u32,
    /// How many apps it has been assigned, this one included if so.
    pub assigned: u32,
}

/// Which pod a runtime is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name: the pod's.
    pub name: RuntimeName,
    /// The namespace of the pod, for `targetRef`.
    pub namespace: String,
    /// The pod's uid, for `targetRef`.
    pub uid: String,
    /// The pod's addresses; at most one of each family, the primary one first.
    pub ips: Vec<IpAddr>,
    /// The node that the pod is on.
    pub node: Option<String>,
}

/// What Kubernetes says about a runtime's pod. Pods that have ended are not in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pod {
    /// Its Ready condition is true.
    Ready,
    /// Its Ready condition is not true, since then (the condition's `lastTransitionTime`).
    NotReady {
        /// Since when.
        since: Timestamp,
    },
    /// It has a deletion timestamp.
    Terminating,
}

/// What the control stream to a runtime says.
#[derive(Debug, Clone, PartialEq)]
pub enum Contact {
    /// This operator has not reached it yet.
    Never {
        /// Since when it has tried: the later of the operator's start and the pod's first sight.
        since: Timestamp,
    },
    /// A stream is open and both sides have compared what they hold.
    Connected(Holding),
    /// A stream was open and has ended; this is what it last said.
    Lost {
        /// When it ended.
        since: Timestamp,
        /// What it held.
        holding: Holding,
    },
}

/// What a runtime holds of the app, as far as it has said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Holding {
    /// Whether it is shutting down: it serves, but wants nothing new.
    pub draining: bool,
    /// The fingerprint of what it was told last: from its inventory, then of every message sent.
    pub assigned: Option<Fingerprint>,
    /// Its last report about the app; none that is from before the app was taken away from it
    /// ([`crate::mailbox::Mailbox::believes`]).
    pub report: Option<AppReport>,
    /// Whether it was told to forget the app, and has not said yet that it has.
    pub parting: bool,
    /// What it kept of the app when it introduced itself, if an update of the app was not over then.
    pub rollout: Option<Arc<Assignment>>,
}

/// The Service of the app's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceState {
    /// There is none.
    Absent,
    /// It is owned by this app's uid; what of it is ours ([`crate::objects::service_of`]).
    Ours(crate::publish::Service),
    /// It belongs to somebody else, as the text says (`a Service without owner`, `SpinApp shop of uid …`).
    Foreign(String),
}

/// Why an object is no [`App`]. The API server lets none of these through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidApp {
    /// It has no namespace, name or uid.
    #[error("the object has no {0}")]
    Incomplete(&'static str),
    /// Its name or namespace is not one that Kubernetes gives.
    #[error(transparent)]
    Name(#[from] control::AppKeyError),
}

impl TryFrom<&SpinApp> for App {
    type Error = InvalidApp;

    fn try_from(object: &SpinApp) -> Result<Self, InvalidApp> {
        let meta = &object.metadata;
        let namespace = meta.namespace.as_deref().ok_or(InvalidApp::Incomplete("namespace"))?;
        let name = meta.name.as_deref().ok_or(InvalidApp::Incomplete("name"))?;
        let mut service_annotations = object.spec.service_annotations.clone();
        // The operator's own, which the CRD's rules let nobody ask for.
        service_annotations.remove(names::ANNOTATION_KEYS_ANNOTATION);
        Ok(Self {
            key: AppKey::new(namespace, name)?,
            uid: meta.uid.clone().ok_or(InvalidApp::Incomplete("uid"))?,
            generation: meta.generation.unwrap_or_default(),
            is_ending: meta.deletion_timestamp.is_some(),
            replicas: u32::try_from(object.spec.replicas).unwrap_or_default(),
            limits: crate::resolve::limits(object.spec.invocation_limits.as_ref()),
            readiness: crate::resolve::readiness(object.spec.checks.as_ref()),
            rollout: object.spec.rollout.as_ref().map(Rollout::from).unwrap_or_default(),
            components: object.spec.components.clone(),
            service_annotations,
            template: Template::of(&object.spec),
            history_limit: usize::try_from(object.spec.revision_history_limit).unwrap_or_default(),
        })
    }
}

impl Runtime {
    /// Whether it can do what `app` asks for. One that has not been asked yet is given nothing before it has been.
    #[must_use]
    pub fn understands(&self, app: &App) -> bool {
        let asks = app.readiness.is_some() || app.rollout.strategy == Strategy::Recreate;
        let needed = if asks { CHECKS_VERSION } else { LOWEST_VERSION };
        self.version.is_none_or(|version| version >= needed)
    }

    /// What it is known to hold of the app.
    #[must_use]
    pub const fn holding(&self) -> Option<&Holding> {
        match &self.contact {
            Contact::Never { .. } => None,
            Contact::Connected(holding) | Contact::Lost { holding, .. } => Some(holding),
        }
    }

    /// Whether it is on its way out: its pod is being deleted, or it says so itself.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(self.pod, Pod::Terminating) || self.holding().is_some_and(|holding| holding.draining)
    }

    /// What it has reported about `app`: of its uid, so nothing that an app of the same name left behind.
    #[must_use]
    pub fn report(&self, app: &App) -> Option<&AppReport> {
        self.holding()?.report.as_ref().filter(|report| report.app == app.key && report.uid == app.uid)
    }
}
