//! Streams between the operator and its runtimes.

use std::{sync::Arc, time::Duration};

use control::{
    AppKey, AppReport, FromRuntime, Inventory, RevisionId, RevisionSpec, RevisionState, RuntimeName, SecretString,
    ToRuntime,
};
use kube::runtime::watcher::Event;
use manifest::Application;
use operator::{
    lease::Mandate,
    pki::issue,
    queue::{Again, Queue, Trigger},
    runtimes::{Caller, Desired, Fleet, Link, Order, Runtime, Speaker, Timings, dial::DialError, dial::dial},
};
use operator_core::Contact;
use rustls::ServerConfig;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    installation::until,
    peer::{Certificates, Conversation, Peer, app, assignment, holding, pod, report, server_config, soon, welcome},
};

/// A leader with its runtimes.
struct World {
    certificates: Certificates,
    fleet: Arc<Fleet>,
    queue: Arc<Queue>,
    port: u16,
    tasks: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        let queue = Arc::new(Queue::default());
        let fleet = Arc::new(Fleet::new(Arc::clone(&queue), Arc::default()));
        Self { certificates: Certificates::new(), fleet, queue, port: 0, tasks: JoinSet::new() }
    }

    fn tls(&self) -> Arc<ServerConfig> {
        server_config(&self.certificates.material.bundle(), &self.certificates.runtime)
    }

    /// A runtime at 127.0.0.`host` which the fleet does not know of yet.
    async fn peer(&mut self, host: u8) -> Peer {
        let peer = Peer::start(host, self.port, self.tls()).await;
        self.port = peer.address.port();
        peer
    }

    fn lead(&mut self, timings: Timings) {
        let config = issue::client_config(&self.certificates.material, &self.certificates.operator).unwrap();
        let (sender, tls) = watch::channel(Some(Arc::new(config)));
        let speaker = Speaker { operator: "operator-0".to_owned(), mandate: Mandate::unlimited(7) };
        let caller = Arc::new(Caller { speaker, port: self.port, tls, timings });
        let fleet = Arc::clone(&self.fleet);
        self.tasks.spawn(async move {
            let _certificates_stay = sender;
            fleet.lead(caller).await;
        });
    }

    fn add(&self, peer: &Peer, name: &str) {
        self.fleet.observe_pod(Event::Apply(peer.pod(name, &format!("uid-{name}"))));
    }

    /// Waits for something to be true of a runtime.
    async fn until(&self, name: &str, what: impl Fn(&Runtime) -> bool) -> Arc<Runtime> {
        let runtime = RuntimeName(name.to_owned());
        until(name, || self.fleet.runtime(&runtime).filter(|runtime| what(runtime))).await
    }

    async fn connected(&self, name: &str) -> Arc<Runtime> {
        self.until(name, |runtime| runtime.read(|said| said.link == Link::Connected)).await
    }

    /// A leader with one runtime, connected.
    async fn with_one(inventory: Inventory) -> (Self, Peer, Conversation, Arc<Runtime>) {
        let mut world = Self::new();
        let mut peer = world.peer(1).await;
        world.lead(Timings::default());
        world.add(&peer, "r1");
        let conversation = peer.welcome("r1", inventory).await;
        let runtime = world.connected("r1").await;
        (world, peer, conversation, runtime)
    }

    /// Looks at every app, with the same outcome for all.
    fn review(&self, apps: &[AppKey]) {
        self.fleet.start_reviews(apps);
        for app in apps {
            self.fleet.reviewed(app);
        }
    }

    async fn next_app(&self) -> AppKey {
        soon(async {
            loop {
                if let Trigger::App(app) = self.queue.next(true).await {
                    self.queue.done(&app, Again::OnChange);
                    return app;
                }
            }
        })
        .await
    }
}

fn assign(runtime: &Runtime, name: &str, port: u16) {
    runtime.mailbox().set(&app(name), Desired::Assign(Order::new(assignment(name, port)).unwrap()));
}

#[tokio::test]
async fn a_runtime_is_told_only_what_differs_from_what_it_holds() {
    let (world, _peer, mut conversation, runtime) = World::with_one(holding(&[assignment("same", 10_000)])).await;
    assign(&runtime, "same", 10_000);
    assign(&runtime, "new", 10_001);
    world.review(&[app("same"), app("new")]);
    assert_eq!(conversation.next().await, ToRuntime::Assign(Box::new(assignment("new", 10_001))));
    assert_eq!(conversation.next().await, ToRuntime::Synced);
    assign(&runtime, "new", 10_002);
    assert_eq!(conversation.next().await, ToRuntime::Assign(Box::new(assignment("new", 10_002))));
}

#[tokio::test]
async fn an_update_that_a_runtime_kept_is_part_of_what_decisions_see_until_it_is_over_or_the_app_is_gone_there() {
    let (cart, pay) = (assignment("cart", 10_000), assignment("pay", 10_001));
    let rollouts = vec![cart.clone(), pay.clone()];
    let inventory = Inventory { rollouts, ..holding(&[cart.clone(), pay.clone()]) };
    let (world, _peer, mut conversation, _runtime) = World::with_one(inventory).await;
    let seen = |name: &str| world.fleet.view(&app(name)).remove(0).holding().and_then(|held| held.rollout.clone());
    assert_eq!((seen("cart").as_deref(), seen("pay").as_deref()), (Some(&cart), Some(&pay)));
    assert_eq!(seen("other"), None);
    let old = (RevisionId("r0".to_owned()), RevisionState::Draining);
    let new = (pay.active.clone(), RevisionState::Ready);
    let both = AppReport { revisions: [old, new.clone()].into(), ..report(&pay) };
    conversation.report(both.clone()).await;
    world.until("r1", |runtime| runtime.read(|said| said.reports.get(&app("pay")) == Some(&both))).await;
    assert_eq!(seen("pay").as_deref(), Some(&pay), "the old revision is still there");
    conversation.report(AppReport { revisions: [new].into(), ..report(&pay) }).await;
    world.until("r1", |runtime| runtime.read(|said| said.rollouts.len() == 1)).await;
    assert_eq!((seen("cart").as_deref(), seen("pay")), (Some(&cart), None));
    conversation.say(&FromRuntime::Removed(app("cart"))).await;
    world.until("r1", |runtime| runtime.read(|said| said.rollouts.is_empty())).await;
}

#[tokio::test]
async fn after_a_start_nothing_is_removed_before_every_app_was_looked_at_and_unresolved_ones_stay() {
    let held = [assignment("gone", 10_000), assignment("unresolved", 10_001), assignment("current", 10_002)];
    let (world, _peer, mut conversation, runtime) = World::with_one(holding(&held)).await;
    let apps = [app("unresolved"), app("current")];
    world.fleet.start_reviews(&apps);
    runtime.mailbox().set(&app("unresolved"), Desired::Keep);
    world.fleet.reviewed(&app("unresolved"));
    assign(&runtime, "current", 10_009);
    // What changes meanwhile is told, but nothing is removed yet.
    assert_eq!(conversation.next().await, ToRuntime::Assign(Box::new(assignment("current", 10_009))));
    world.fleet.reviewed(&app("current"));
    assert_eq!(conversation.next().await, ToRuntime::Remove(app("gone")));
    assert_eq!(conversation.next().await, ToRuntime::Synced);
    assert_eq!(runtime.mailbox().held(), 2);
}

#[tokio::test]
async fn a_report_brings_up_its_app_and_no_other() {
    let (world, _peer, mut conversation, runtime) = World::with_one(Inventory::default()).await;
    let cart = assignment("cart", 10_000);
    conversation.report(report(&cart)).await;
    assert_eq!(world.next_app().await, app("cart"));
    assert_eq!(runtime.read(|said| said.reports.len()), 1);
    // The same again is no news.
    conversation.report(report(&cart)).await;
    conversation.report(report(&assignment("pay", 10_001))).await;
    assert_eq!(world.next_app().await, app("pay"));
    conversation.say(&FromRuntime::Removed(app("cart"))).await;
    assert_eq!(world.next_app().await, app("cart"));
}

#[tokio::test]
async fn what_a_runtime_said_outlives_its_stream_and_it_is_compared_again_when_it_is_back() {
    let cart = assignment("cart", 10_000);
    let (world, mut peer, conversation, runtime) = World::with_one(holding(std::slice::from_ref(&cart))).await;
    drop(conversation);
    world.until("r1", |runtime| runtime.read(|said| matches!(said.link, Link::Lost { .. }))).await;
    let view = world.fleet.view(&app("cart"));
    let Contact::Lost { holding: last, .. } = &view[0].contact else { panic!("{view:?}") };
    assert_eq!(last.report, Some(report(&cart)));
    assert_eq!(last.assigned, Some(cart.fingerprint().unwrap()));
    assign(&runtime, "cart", 10_000);
    // It has lost everything meanwhile.
    let mut conversation = peer.welcome("r1", Inventory::default()).await;
    assert_eq!(conversation.next().await, ToRuntime::Assign(Box::new(cart)));
}

#[tokio::test]
async fn a_runtime_that_does_not_read_delays_no_other_and_later_gets_only_the_latest() {
    let mut world = World::new();
    let (mut slow, mut quick) = (world.peer(1).await, world.peer(2).await);
    world.lead(Timings::default());
    world.add(&slow, "slow");
    world.add(&quick, "quick");
    let mut stuck = slow.welcome("slow", Inventory::default()).await;
    let mut reading = quick.welcome("quick", Inventory::default()).await;
    let (slow, quick) = (world.connected("slow").await, world.connected("quick").await);
    // More than every buffer on the way holds.
    for number in 0..8 {
        let name = format!("big-{number}");
        let order = Order::new(big(&name)).unwrap();
        slow.mailbox().set(&app(&name), Desired::Assign(order));
    }
    for port in 10_000..10_100 {
        assign(&slow, "cart", port);
        assign(&quick, "cart", port);
        if port % 10 == 9 {
            // Each time round, the quick one has it, while the slow one reads nothing.
            let told = async { while reading.next().await != ToRuntime::Assign(Box::new(assignment("cart", port))) {} };
            soon(told).await;
        }
    }
    assign(&slow, "last", 11_000);
    let mut carts = 0;
    loop {
        match stuck.next().await {
            ToRuntime::Assign(assignment) if assignment.app == app("last") => break,
            ToRuntime::Assign(assignment) if assignment.app == app("cart") => {
                carts += 1;
                assert_eq!(assignment.port, 10_099);
            }
            _ => {}
        }
    }
    assert_eq!(carts, 1);
}

fn big(name: &str) -> control::Assignment {
    let application = serde_json::json!({ "name": name, "routes": [], "components": {} }).to_string();
    let revision = RevisionSpec {
        id: RevisionId("r1".to_owned()),
        application: Application::from_json(application.as_bytes()).unwrap(),
        fetch: control::Fetch::Bindle { server: String::new(), id: String::new(), credentials: None },
        variables: [("v".to_owned(), SecretString::new("x".repeat(1 << 20)))].into(),
        limits: control::Limits::default(),
        runtime_config: None,
        pool_config: None,
        readiness: None,
    };
    control::Assignment { revisions: vec![revision], ..assignment(name, 12_000) }
}

#[tokio::test]
async fn a_runtime_with_the_name_of_another_pod_is_refused() {
    let mut world = World::new();
    let mut peer = world.peer(1).await;
    world.lead(Timings::default());
    world.add(&peer, "r1");
    let mut conversation = peer.conversation().await;
    conversation.say(&FromRuntime::Welcome(Box::new(welcome("r2", Inventory::default())))).await;
    let runtime = world.until("r1", |runtime| runtime.read(|said| said.failure.is_some())).await;
    let (reason, message) = runtime.read(|said| said.failure.clone()).unwrap();
    assert_eq!((reason, message.as_str()), ("WrongName", "the runtime of pod r1 calls itself r2"));
    assert!(runtime.read(|said| matches!(said.link, Link::Never { .. })));
}

#[tokio::test]
async fn a_refusal_is_kept_in_the_runtimes_words() {
    let mut world = World::new();
    let mut peer = world.peer(1).await;
    world.lead(Timings::default());
    world.add(&peer, "r1");
    let mut conversation = peer.conversation().await;
    conversation.say(&FromRuntime::Refused("term 7 is older than 9".to_owned())).await;
    let runtime = world.until("r1", |runtime| runtime.read(|said| said.failure.is_some())).await;
    let (reason, message) = runtime.read(|said| said.failure.clone()).unwrap();
    assert_eq!((reason, message.contains("term 7 is older than 9")), ("Refused", true), "{message}");
}

#[tokio::test]
async fn a_runtime_that_hangs_is_given_up() {
    let mut world = World::new();
    let mut peer = world.peer(1).await;
    let (ping, silence) = (Duration::from_millis(50), Duration::from_secs(1));
    world.lead(Timings { ping, silence, ..Timings::default() });
    world.add(&peer, "r1");
    // Its HTTP/2 side lives on and answers pings there; the program behind it does not.
    let _hanging = peer.welcome("r1", Inventory::default()).await;
    let lost = |runtime: &Runtime| runtime.read(|said| matches!(said.link, Link::Lost { .. }));
    let runtime = world.until("r1", lost).await;
    assert_eq!(runtime.read(|said| said.failure.clone()).unwrap().0, "Silent");
}

#[tokio::test]
async fn a_server_that_takes_the_request_and_never_answers_is_given_up_and_dialled_again() {
    let mut world = World::new();
    let mut mute = Peer::mute(1, 0, world.tls()).await;
    world.port = mute.address.port();
    world.lead(Timings { hello: Duration::from_millis(100), ..Timings::default() });
    world.add(&mute, "r1");
    let _first = mute.conversation().await;
    let runtime = world.until("r1", |runtime| runtime.read(|said| said.failure.is_some())).await;
    assert_eq!(runtime.read(|said| said.failure.clone()).unwrap().0, "Silent");
    assert!(runtime.read(|said| matches!(said.link, Link::Never { .. })));
    mute.conversation().await;
}

#[tokio::test]
async fn a_runtime_that_starts_late_is_reached_soon_after() {
    let mut world = World::new();
    let early = world.peer(1).await;
    world.lead(Timings::default());
    let late = "127.0.0.2".parse().unwrap();
    world.fleet.observe_pod(Event::Apply(pod("r2", "u", late)));
    let failed = |runtime: &Runtime| runtime.read(|said| said.failure.is_some());
    world.until("r2", failed).await;
    let mut peer = world.peer(2).await;
    let _conversation = peer.welcome("r2", Inventory::default()).await;
    world.connected("r2").await;
    drop(early);
}

#[tokio::test]
async fn a_deleted_pod_ends_its_stream_and_is_forgotten() {
    let (world, peer, mut conversation, _runtime) = World::with_one(Inventory::default()).await;
    world.fleet.observe_pod(Event::Delete(peer.pod("r1", "uid-r1")));
    soon(async { while conversation.read().await.is_some() {} }).await;
    assert!(world.fleet.runtimes().is_empty());
}

#[tokio::test]
async fn when_leadership_ends_every_stream_ends() {
    let (mut world, _peer, mut conversation, _runtime) = World::with_one(Inventory::default()).await;
    world.tasks.shutdown().await;
    soon(async { while conversation.read().await.is_some() {} }).await;
}

#[tokio::test]
async fn a_server_with_the_operators_certificate_is_no_runtime() {
    let certificates = Certificates::new();
    let tls = server_config(&certificates.material.bundle(), &certificates.operator);
    let peer = Peer::start(1, 0, tls).await;
    let config = issue::client_config(&certificates.material, &certificates.operator).unwrap();
    let dialled = dial(peer.address, Arc::new(config), &Timings::default()).await;
    assert!(matches!(dialled, Err(DialError::Handshake { .. })), "{dialled:?}");
}

#[tokio::test]
async fn a_runtime_of_another_installation_is_not_trusted() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let peer = Peer::start(1, 0, server_config(&ours.material.bundle(), &theirs.runtime)).await;
    let config = issue::client_config(&ours.material, &ours.operator).unwrap();
    let dialled = dial(peer.address, Arc::new(config), &Timings::default()).await;
    assert_eq!(dialled.map(|_| ()).map_err(|error| error.reason()), Err("Untrusted"));
}
