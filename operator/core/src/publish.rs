//! Service and EndpointSlices: who is sent an app's requests.
//!
//! Promise: an endpoint's runtime has reported that it serves this app, by uid, at this port (or did so to an
//! earlier operator and has not been reached since). Requests always have somewhere to go while any runtime
//! serves: one on its way out, one that has fallen silent, or one that answers and whose kubelet does not, stays ready until
//! another can take its place. An operator
//! that takes over gives no requests back to a runtime that the one before took them from, until it has heard of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use control::RuntimeName;
use jiff::{SignedDuration, Timestamp};

use crate::{
    place::{holds, published, was_published, within},
    view::{Contact, Pod, Runtime, View},
};

/// How long the stream to a runtime may be gone before its apps' requests go elsewhere, if they can: the time in which one
/// that was merely cut is dialled again. A dead runtime must be out of the slices within a second.
pub const SILENCE: SignedDuration = SignedDuration::from_millis(500);

/// How many endpoints one slice has at most: what Kubernetes's own controller does by default.
pub const MAX_ENDPOINTS: usize = 100;

/// What of an app's Service is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The annotations that the spec asks for.
    pub annotations: BTreeMap<String, String>,
    /// The app's port on its runtimes.
    pub target_port: u16,
}

/// One EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Its name: `<app>-<family>` and, from the second on, `-<number>`.
    pub name: String,
    /// The family of all its addresses.
    pub family: Family,
    /// The app's port.
    pub port: u16,
    /// At most [`MAX_ENDPOINTS`], by name.
    pub endpoints: Vec<Endpoint>,
    /// Whether the object says more or other things than these, or has lost its owner, so that it must be written again;
    /// never of one that is wanted.
    pub is_altered: bool,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One runtime that serves the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The runtime: the name of its pod.
    pub runtime: RuntimeName,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's address.
    pub address: IpAddr,
    /// Its node.
    pub node: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// Whether it is sent new requests.
    pub ready: bool,
    /// Whether it could answer them.
    pub serving: bool,
    /// Whether it is on its way out.
    pub terminating: bool,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The `addressType` of its slices.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family of an `addressType`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.as_str() == text)
    }

    /// The family of an address.
    #[must_use]
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What is known about a runtime's ability to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It cannot, or nobody knows that it can.
    Away,
    /// It says that it can, and Kubernetes that it cannot: its kubelet may be what is away.
    Unready,
    /// It may: it is not on its way out, but has fallen silent, or was sent no requests before this operator took over.
    Silent,
    /// It can, but is on its way out.
    Leaving,
    /// It can.
    Good,
}

/// The endpoints of the app, by runtime and family. Runtimes that `withdrawn` says yes to have none.
#[must_use]
pub fn endpoints(view: &View, port: u16, withdrawn: impl Fn(&RuntimeName) -> bool) -> Vec<Endpoint> {
    let serving: Vec<(&Runtime, Standing)> = view
        .runtimes
        .iter()
        .filter(|runtime| serves(view, runtime, port) && !withdrawn(&runtime.id.name))
        .filter_map(|runtime| standing(view, runtime).map(|standing| (runtime, standing)))
        .collect();
    // Whoever is best stays ready; nobody else is sent requests.
    let best = serving.iter().map(|(_, standing)| *standing).max();
    let mut endpoints: Vec<Endpoint> = serving
        .into_iter()
        .flat_map(|(runtime, standing)| {
            let ready = standing != Standing::Away && Some(standing) == best;
            runtime.id.ips.iter().map(move |address| endpoint(runtime, *address, standing, ready))
        })
        .collect();
    endpoints.sort_by(|a, b| (&a.runtime, a.address).cmp(&(&b.runtime, b.address)));
    endpoints
}

fn endpoint(runtime: &Runtime, address: IpAddr, standing: Standing, ready: bool) -> Endpoint {
    Endpoint {
        runtime: runtime.id.name.clone(),
        namespace: runtime.id.namespace.clone(),
        uid: runtime.id.uid.clone(),
        address,
        node: runtime.id.node.clone(),
        zone: runtime.zone.as_deref().map(str::to_owned),
        ready,
        // Kubernetes has `serving` differ from `ready` for endpoints on their way out only.
        serving: ready || standing == Standing::Leaving,
        terminating: runtime.is_leaving(),
    }
}

/// Whether the runtime has said that it serves the app, or is only known to have said so earlier.
#[must_use]
pub fn serves(view: &View, runtime: &Runtime, port: u16) -> bool {
    match &runtime.contact {
        Contact::Never { .. } => was_published(view, runtime),
        Contact::Connected(_) | Contact::Lost { .. } => {
            runtime.report(&view.app).is_some_and(|report| report.serving.is_some() && report.port == port)
        }
    }
}

/// What a runtime that serves the app is worth; `None` when it is gone for good.
fn standing(view: &View, runtime: &Runtime) -> Option<Standing> {
    let connected = !matches!(runtime.contact, Contact::Lost { .. });
    match runtime.pod {
        // The process of a pod that is being deleted ended together with its stream.
        Pod::Terminating => connected.then_some(Standing::Leaving),
        Pod::NotReady { .. } if runtime.holding().is_some() && connected => Some(Standing::Unready),
        Pod::NotReady { .. } => Some(Standing::Away),
        Pod::Ready if runtime.is_leaving() => Some(if connected { Standing::Leaving } else { Standing::Away }),
        Pod::Ready if is_doubted(view, runtime) => Some(Standing::Silent),
        Pod::Ready => Some(match silent_since(runtime) {
            Some(since) if !within(view.now, since, SILENCE) => Standing::Silent,
            _ => Standing::Good,
        }),
    }
}

/// Whether the runtime has not been reached and an earlier operator sent it no requests.
fn is_doubted(view: &View, runtime: &Runtime) -> bool {
    let is_ready = || published(view, runtime).any(|endpoint| endpoint.ready);
    matches!(runtime.contact, Contact::Never { .. }) && (view.memory.doubted.contains(&runtime.id.name) || !is_ready())
}

/// The runtimes that are not to be taken for good again before they are heard of, given what is published now.
#[must_use]
pub fn doubted(view: &View, endpoints: &[Endpoint]) -> BTreeSet<RuntimeName> {
    let is_ready = |name: &RuntimeName| endpoints.iter().any(|endpoint| endpoint.ready && endpoint.runtime == *name);
    view.runtimes
        .iter()
        .filter(|runtime| matches!(runtime.contact, Contact::Never { .. }) && holds(view, runtime))
        .filter(|runtime| is_doubted(view, runtime) || !is_ready(&runtime.id.name))
        .map(|runtime| runtime.id.name.clone())
        .collect()
}

/// Since when the stream to the runtime is gone.
const fn silent_since(runtime: &Runtime) -> Option<Timestamp> {
    match &runtime.contact {
        Contact::Lost { since, .. } => Some(*since),
        Contact::Never { .. } | Contact::Connected(_) => None,
    }
}

/// The slices that hold `endpoints`, and keep those that exist: an empty slice costs less than one that
/// comes and goes.
#[must_use]
pub fn slices(view: &View, port: u16, endpoints: &[Endpoint]) -> Vec<Slice> {
    Family::ALL.into_iter().flat_map(|family| slices_of_family(view, port, endpoints, family)).collect()
}

fn slices_of_family(view: &View, port: u16, endpoints: &[Endpoint], family: Family) -> Vec<Slice> {
    let ours: Vec<Endpoint> =
        endpoints.iter().filter(|endpoint| Family::of(&endpoint.address) == family).cloned().collect();
    let slice = |index: usize, endpoints: &[Endpoint]| Slice {
        name: slice_name(view.app.key.name(), family, index),
        family,
        port,
        endpoints: endpoints.to_vec(),
        is_altered: false,
    };
    if ours.is_empty() {
        let first = slice(0, &[]);
        let exists = view.slices.iter().any(|existing| existing.name == first.name);
        return if exists { vec![first] } else { vec![] };
    }
    ours.chunks(MAX_ENDPOINTS).enumerate().map(|(index, chunk)| slice(index, chunk)).collect()
}

/// The name of the slice number `index` of an app and family.
fn slice_name(app: &str, family: Family, index: usize) -> String {
    let family = family.as_str().to_ascii_lowercase();
    if index == 0 { format!("{app}-{family}") } else { format!("{app}-{family}-{}", index + 1) }
}
