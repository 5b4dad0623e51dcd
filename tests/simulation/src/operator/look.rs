//! What an operator sees of one app, and what it decides about it.

use std::{collections::BTreeMap, sync::Arc};

use control::{AppKey, Check, Fetch, Limits, SecretString};
use jiff::Timestamp;
use manifest::{Application, Digest};
use operator_core::{
    App, Bundle, Memory, RevisionKey, Runtime, RuntimeConfiguration, Variables, View,
    mailbox::Desired,
    view::{Identity, ServiceState},
};

use super::{Decision, Operator, Placement, Remembered};
use crate::{
    api::{AppObject, Id, Object},
    rules::Rules,
};

impl Operator {
    /// Looks at one app, decides, and puts into mailboxes what runtimes are told. Also whether the bundle of some version
    /// must be asked for.
    pub(crate) fn decide(&mut self, key: &AppKey, now: i64, rules: &Rules) -> (Option<Decision>, Option<String>) {
        let time = self.time(now);
        let object = self.apps().find(|(known, _)| *known == key).map(|(_, app)| app.clone());
        let Some(object) = object else {
            self.forget(key);
            return (None, None);
        };
        let unknown = (!self.resolved.contains_key(&object.version)).then(|| object.version.clone());
        if let Some(version) = &unknown {
            self.resolved.insert(version.clone(), false);
        }
        let mut view = self.look(key, &object, time, rules);
        let plan = (rules.plan)(&view);
        let placement = placement(&mut view, rules);
        if let Some(leading) = &mut self.leading {
            leading.tell(key, &plan);
            if let Some(remembered) = leading.apps.get_mut(key) {
                remembered.memory = plan.memory.clone();
            }
            leading.reviewed(key);
        }
        (Some(Decision { app: key.clone(), uid: object.uid, placement, plan, made: time }), unknown)
    }

    fn look(&mut self, key: &AppKey, object: &AppObject, now: Timestamp, rules: &Rules) -> View {
        let app = App {
            key: key.clone(),
            uid: object.uid.clone(),
            generation: object.generation,
            is_ending: false,
            replicas: object.replicas,
            limits: Ok(Limits::default()),
            readiness: object.checked.then(check),
            rollout: object.rollout,
            components: Vec::new(),
            service_annotations: BTreeMap::new(),
            template: operator_core::history::Template {
                digest: Digest::of(object.version.as_bytes()),
                spec: Arc::default(),
            },
            history_limit: 0,
        };
        let service = match self.cache.get(&Id::Service(key.clone())) {
            Some((_, Object::Service { owner, service })) if *owner == object.uid => {
                ServiceState::Ours(service.clone())
            }
            Some(_) => ServiceState::Foreign("an earlier one's".to_owned()),
            None => ServiceState::Absent,
        };
        let slices = self.cache.iter().filter_map(|(id, (_, found))| match (id, found) {
            (Id::Slice(of, _), Object::Slice { owner, slice }) if of == key && *owner == object.uid => {
                Some(slice.clone())
            }
            _ => None,
        });
        let slices = slices.collect();
        let bundle =
            if self.resolved.get(&object.version) == Some(&true) { bundle(&object.version) } else { Bundle::Pending };
        let mut view = View {
            now,
            status: object.status.clone(),
            bundle,
            variables: Variables::Resolved([("secret".to_owned(), SecretString::new(object.secret.clone()))].into()),
            runtime_config: RuntimeConfiguration::Resolved(None),
            pool_config: None,
            port: None,
            runtimes: Vec::new(),
            service,
            slices,
            history: Vec::new(),
            write_failure: None,
            memory: Memory::default(),
            key: RevisionKey([7; 32]),
            app,
        };
        let Some(leading) = &mut self.leading else { return view };
        let remembered = leading.apps.entry(key.clone()).or_default();
        if remembered.uid != object.uid {
            leading.ports.release(&remembered.uid);
            *remembered = Remembered { uid: object.uid.clone(), ..Remembered::default() };
        }
        view.port = (rules.port)(leading.ports.claim(&object.uid, object.status.port));
        view.write_failure = remembered.write_failure.clone();
        view.memory = remembered.memory.clone();
        view.runtimes = self.runtimes(key);
        view
    }

    /// The runtimes whose pods it sees, as a decision about the app sees them.
    fn runtimes(&self, key: &AppKey) -> Vec<Runtime> {
        let Some(leading) = &self.leading else { return Vec::new() };
        let pods = self.cache.iter().filter_map(|(id, (_, found))| match (id, found) {
            (Id::Pod(name), Object::Pod(pod)) => Some((name, pod, leading.links.get(name)?)),
            _ => None,
        });
        pods.map(|(name, pod, link)| Runtime {
            id: Arc::new(Identity {
                name: name.clone(),
                namespace: "spindle".to_owned(),
                uid: pod.uid.clone(),
                ips: vec![pod.address],
                node: Some(pod.node.clone()),
            }),
            zone: pod.zone.as_deref().map(Into::into),
            pod: pod.state,
            contact: link.contact(key),
            version: link.version,
            capacity: link.capacity,
            assigned: u32::try_from(link.mailbox.held()).unwrap_or(u32::MAX),
        })
        .collect()
    }

    fn forget(&mut self, key: &AppKey) {
        let Some(leading) = &mut self.leading else { return };
        for link in leading.links.values_mut() {
            link.mailbox.set(key, Desired::Remove);
        }
        if let Some(remembered) = leading.apps.remove(key) {
            leading.ports.release(&remembered.uid);
        }
        leading.reviewed(key);
    }
}

/// Where the app goes, and where it could.
fn placement(view: &mut View, rules: &Rules) -> Placement {
    let placed = (rules.place)(view);
    let replicas = std::mem::replace(&mut view.app.replicas, u32::MAX);
    let able = operator_core::place::place(view);
    view.app.replicas = replicas;
    let able = view.runtimes.iter().filter(|runtime| able.contains(&runtime.id.name));
    let able = able.map(|runtime| (runtime.id.name.clone(), runtime.capacity)).collect();
    Placement { replicas, placed, able }
}

/// The check of every app that has one.
fn check() -> Check {
    Check {
        path: "/healthz".to_owned(),
        headers: Vec::new(),
        initial_delay_ms: 0,
        timeout_ms: 1_000,
        period_ms: 1_000,
        success_threshold: 1,
        failure_threshold: 3,
    }
}

/// The bundle of a version, as it is when resolved.
fn bundle(version: &str) -> Bundle {
    Bundle::Resolved {
        application: Box::new(Application {
            name: "app".to_owned(),
            version: version.to_owned(),
            description: None,
            authors: Vec::new(),
            base: "/".to_owned(),
            variables: [("secret".to_owned(), manifest::Variable { secret: true, ..manifest::Variable::default() })]
                .into(),
            routes: Vec::new(),
            components: BTreeMap::new(),
        }),
        digest: Digest::of(version.as_bytes()),
        fetch: Fetch::Bindle { server: "http://bindle/v1".to_owned(), id: format!("app/{version}"), credentials: None },
    }
}
