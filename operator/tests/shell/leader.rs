//! Leader election against an API server that can be made to fail.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::coordination::v1::Lease, jiff::SignedDuration};
use kube::Api as Objects;
use operator::lease::{Elector, Mandate};
use operator_core::lease::Settings;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{api::Api, installation::until, peer::soon};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/spindle/leases/spindle-operator";

/// A lease that outlives every test: whoever leads next was let to.
const LONG: Settings = Settings {
    duration: SignedDuration::from_secs(3600),
    deadline: SignedDuration::from_secs(1800),
    retry: SignedDuration::from_millis(50),
};

/// A lease that is soon over.
const BRIEF: Settings = Settings {
    duration: SignedDuration::from_secs(1),
    deadline: SignedDuration::from_millis(600),
    retry: SignedDuration::from_millis(50),
};

/// What candidates do.
#[derive(Debug, PartialEq, Eq)]
enum Deed {
    Leads(&'static str, u64),
    Stops(&'static str),
}

/// Says that a candidate has stopped, when its work is dropped.
struct Work(&'static str, mpsc::UnboundedSender<Deed>);

impl Drop for Work {
    fn drop(&mut self) {
        let _test_is_over = self.1.send(Deed::Stops(self.0));
    }
}

struct Election {
    api: Arc<Api>,
    deeds: mpsc::UnboundedReceiver<Deed>,
    sender: mpsc::UnboundedSender<Deed>,
    tasks: JoinSet<()>,
}

impl Election {
    async fn new() -> Self {
        let (sender, deeds) = mpsc::unbounded_channel();
        Self { api: Arc::new(Api::start().await), deeds, sender, tasks: JoinSet::new() }
    }

    /// A candidate, until the guard is dropped.
    fn candidate(&mut self, name: &'static str, settings: Settings) -> DropGuard {
        let stop = CancellationToken::new();
        let api: Objects<Lease> = Objects::namespaced(self.api.client(), "spindle");
        let elector = Elector::new(api, "spindle-operator", name.to_owned(), settings);
        let (sender, guard) = (self.sender.clone(), stop.clone().drop_guard());
        self.tasks.spawn(async move {
            let lead = |mandate: Mandate| {
                let sender = sender.clone();
                async move {
                    sender.send(Deed::Leads(name, mandate.term())).unwrap();
                    let _work = Work(name, sender);
                    std::future::pending::<()>().await;
                }
            };
            elector.run(stop, lead).await;
        });
        guard
    }

    async fn next(&mut self) -> Deed {
        soon(self.deeds.recv()).await.unwrap()
    }

    async fn term_of(&mut self, name: &'static str) -> u64 {
        match self.next().await {
            Deed::Leads(who, term) if who == name => term,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_leader_that_exits_hands_over_at_once_with_a_higher_term() {
    let mut election = Election::new().await;
    let first = election.candidate("a", LONG);
    let term = election.term_of("a").await;
    let _second = election.candidate("b", LONG);
    drop(first);
    assert_eq!(election.next().await, Deed::Stops("a"));
    assert!(election.term_of("b").await > term);
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_and_leads_again_when_it_can() {
    let mut election = Election::new().await;
    let _only = election.candidate("a", BRIEF);
    let term = election.term_of("a").await;
    election.api.fail(true);
    assert_eq!(election.next().await, Deed::Stops("a"));
    election.api.fail(false);
    assert!(election.term_of("a").await > term);
}

#[tokio::test]
async fn a_leader_that_sees_another_stops() {
    let mut election = Election::new().await;
    let _first = election.candidate("a", LONG);
    election.term_of("a").await;
    election.api.edit(LEASE, |lease| lease["spec"]["holderIdentity"] = json!("b"));
    assert_eq!(election.next().await, Deed::Stops("a"));
}

#[tokio::test]
async fn a_leader_whose_lease_is_deleted_leads_again_in_a_higher_term_and_never_goes_on_in_the_old_one() {
    let mut election = Election::new().await;
    let _first = election.candidate("a", LONG);
    let term = election.term_of("a").await;
    election.api.delete(LEASE);
    assert_eq!(election.next().await, Deed::Stops("a"), "another may have led meanwhile");
    let again = election.term_of("a").await;
    assert!(again > term, "{again} after {term}");
    assert_eq!(election.api.get(LEASE).unwrap()["spec"]["leaseTransitions"], json!(again));
}

#[tokio::test]
async fn a_lease_whose_term_somebody_has_made_the_highest_or_the_lowest_is_led_on_and_in_a_higher_term() {
    let mut election = Election::new().await;
    let first = election.candidate("a", LONG);
    let began = election.term_of("a").await;
    let mut term = began;
    for edited in [i32::MAX, 0] {
        election.api.edit(LEASE, |lease| lease["spec"]["leaseTransitions"] = json!(edited));
        assert_eq!(election.next().await, Deed::Stops("a"));
        let next = election.term_of("a").await;
        assert!(next > term && next < term + 1000, "{next} after {term}");
        term = next;
    }
    drop(first);
    assert_eq!(election.next().await, Deed::Stops("a"));
    let lease = || election.api.get(LEASE).unwrap();
    until("the lease to be given back", || lease()["spec"]["holderIdentity"].is_null().then_some(())).await;
    election.api.edit(LEASE, |lease| lease["spec"]["leaseTransitions"] = json!(1));
    // Who comes later knows no more than what is written there.
    let _second = election.candidate("b", LONG);
    let next = election.term_of("b").await;
    assert!(next >= began, "{next} after {began}");
}

#[tokio::test]
async fn one_of_many_leads() {
    // Seconds, so that it renews in time on a machine that does much else.
    let (duration, deadline) = (SignedDuration::from_secs(5), SignedDuration::from_secs(4));
    let renewed = Settings { duration, deadline, ..BRIEF };
    let mut election = Election::new().await;
    let mut guards = Vec::new();
    for name in ["a", "b", "c"] {
        guards.push(election.candidate(name, renewed));
    }
    assert!(matches!(election.next().await, Deed::Leads(..)));
    // As long as it renews, nobody else does: twice the time after which the lease would be free.
    let other = tokio::time::timeout(Duration::from_secs(10), election.deeds.recv()).await;
    assert!(other.is_err(), "{other:?}");
}
