//! Convergence, by example and by property.

use control::{Check, Fetch, Limits, RevisionSpec, RevisionState};
use manifest::{Application, Digest};
use proptest::prelude::*;

use super::*;

const AMPLE: Room = Room { fetches: 100, preparations: 100 };

fn application() -> Application {
    Application {
        name: "app".to_owned(),
        version: String::new(),
        description: None,
        authors: Vec::new(),
        base: "/".to_owned(),
        variables: BTreeMap::new(),
        routes: Vec::new(),
        components: BTreeMap::new(),
    }
}

fn id(name: &str) -> RevisionId {
    RevisionId(name.to_owned())
}

fn key(name: &str) -> AppKey {
    AppKey::new("shop", name).unwrap()
}

fn wanted_of(uid: &str, port: u16, revisions: &[&str], active: &str) -> Wanted {
    let spec = |name: &&str| RevisionSpec {
        id: id(name),
        application: application(),
        fetch: Fetch::Bindle {
            server: "http://127.0.0.1/v1".to_owned(),
            id: "app/1.0.0".to_owned(),
            credentials: None,
        },
        variables: BTreeMap::new(),
        limits: Limits::default(),
        runtime_config: None,
        pool_config: None,
        readiness: name.starts_with('c').then(check),
    };
    let assignment = Assignment {
        app: key("cart"),
        uid: uid.to_owned(),
        port,
        revisions: revisions.iter().map(spec).collect(),
        active: id(active),
        hold: Hold::Nothing,
    };
    wanted_by(assignment)
}

fn wanted_by(assignment: Assignment) -> Wanted {
    let fingerprint = assignment.fingerprint().unwrap();
    Wanted { assignment: Arc::new(assignment), fingerprint }
}

/// The check of revisions whose name begins with `c`.
fn check() -> Check {
    Check {
        path: "/healthz".to_owned(),
        headers: Vec::new(),
        initial_delay_ms: 0,
        timeout_ms: 1000,
        period_ms: 1000,
        success_threshold: 1,
        failure_threshold: 3,
    }
}

fn held(wanted: &Wanted, hold: Hold) -> Wanted {
    wanted_by(Assignment { hold, ..wanted.assignment.as_ref().clone() })
}

fn wanted(revisions: &[&str], active: &str) -> Wanted {
    wanted_of("uid", 10_000, revisions, active)
}

/// A runtime on which every step can be made to fail, and time passes only when it is told.
#[derive(Clone)]
struct Runtime {
    desired: BTreeMap<AppKey, Wanted>,
    actual: BTreeMap<AppKey, App>,
    now: Duration,
    room: Room,
    /// Every step that was taken.
    log: Vec<String>,
}

impl Runtime {
    fn new() -> Self {
        Self { desired: BTreeMap::new(), actual: BTreeMap::new(), now: Duration::ZERO, room: AMPLE, log: Vec::new() }
    }

    fn told(mut self, wanted: Wanted) -> Self {
        self.desired.insert(wanted.assignment.app.clone(), wanted);
        self.decide();
        self
    }

    fn removed(mut self) -> Self {
        self.desired.clear();
        self.decide();
        self
    }

    /// Decides and begins what was decided; returns when to look again.
    fn decide(&mut self) -> Option<Duration> {
        let room = Room {
            fetches: self.room.fetches.saturating_sub(self.count(|p| matches!(p, Progress::Fetching(_)))),
            preparations: self.room.preparations.saturating_sub(self.count(|p| matches!(p, Progress::Preparing(_)))),
        };
        let next = converge(&self.desired, &self.actual, self.now, room);
        for step in &next.steps {
            self.log.push(match step {
                Step::Fetch { revision, .. } => format!("fetch {revision}"),
                Step::Prepare { revision, .. } => format!("prepare {revision}"),
                Step::Check { revision, .. } => format!("check {revision}"),
                Step::Stop { .. } => "stop".to_owned(),
                Step::Bind { port, .. } => format!("bind {port}"),
                Step::Switch { revision, .. } => format!("switch {revision}"),
                Step::Drain { revision, .. } => format!("drain {revision}"),
                Step::Unbind { port, .. } => format!("unbind {port}"),
                Step::Forget { .. } => "forget".to_owned(),
            });
            if matches!(step, Step::Forget { .. }) {
                self.actual.remove(step.app());
                continue;
            }
            let wanted = self.desired.get(step.app());
            if !self.actual.contains_key(step.app()) {
                self.actual.insert(step.app().clone(), App::new(wanted.unwrap()));
            }
            let app = self.actual.get_mut(step.app()).unwrap();
            let under = wanted.map_or(app.under, |wanted| wanted.fingerprint);
            app.begin(step, under);
        }
        next.recheck
    }

    fn count(&self, is: impl Fn(&Progress) -> bool) -> usize {
        self.actual.values().flat_map(|app| app.revisions.values()).filter(|progress| is(progress)).count()
    }

    fn hears(mut self, event: Event) -> Self {
        self.hear(&key("cart"), event);
        self.decide();
        self
    }

    fn hear(&mut self, key: &AppKey, event: Event) {
        if let Some(app) = self.actual.get_mut(key) {
            app.record(event, self.now, &Backoff::default());
        }
    }

    fn later(mut self, by: Duration) -> Self {
        self.now += by;
        self.decide();
        self
    }

    /// Everything that is under way, as the event of its success.
    fn pending(&self) -> Vec<(AppKey, Event)> {
        let mut events = Vec::new();
        for (key, app) in &self.actual {
            for (id, progress) in &app.revisions {
                match progress {
                    Progress::Fetching(_) => events.push((key.clone(), Event::Fetched(id.clone()))),
                    Progress::Preparing(_) => events.push((key.clone(), Event::Prepared(id.clone()))),
                    Progress::Checking(_) => events.push((key.clone(), Event::Passed(id.clone()))),
                    Progress::Fetched(_) | Progress::Loaded(_) | Progress::Ready | Progress::Failed(_) => {}
                }
            }
            let binding = app.ports.iter().filter(|(_, port)| matches!(port, Port::Binding(_)));
            events.extend(binding.map(|(port, _)| (key.clone(), Event::Bound(*port))));
            events.extend(app.draining.keys().map(|id| (key.clone(), Event::Drained(id.clone()))));
        }
        events
    }

    /// Lets everything succeed until nothing is left to do.
    fn settled(mut self) -> Self {
        for _ in 0..1000 {
            let recheck = self.decide();
            let pending = self.pending();
            if pending.is_empty() {
                match recheck {
                    None => return self,
                    Some(at) => self.now = at,
                }
            }
            for (key, event) in pending {
                self.hear(&key, event);
            }
        }
        panic!("does not settle: {:?}", self.actual);
    }

    fn app(&self) -> &App {
        &self.actual[&key("cart")]
    }

    fn report(&self) -> control::AppReport {
        report(&self.desired[&key("cart")], self.actual.get(&key("cart")))
    }
}

fn fault(retryable: bool) -> Fault {
    Fault { reason: "Broken".to_owned(), message: "it is broken".to_owned(), detail: None, retryable }
}

#[test]
fn a_new_app_is_fetched_prepared_bound_and_served() {
    let runtime = Runtime::new().told(wanted(&["v1"], "v1")).settled();
    assert_eq!(runtime.log, ["fetch v1", "prepare v1", "bind 10000", "switch v1"]);
    assert_eq!(runtime.report().serving, Some(id("v1")));
}

#[test]
fn roll_out_prepares_the_new_revision_switches_when_told_and_then_drains_the_old_one() {
    let runtime = Runtime::new().told(wanted(&["v1"], "v1")).settled();
    let mut runtime = runtime.told(wanted(&["v1", "v2"], "v1")).settled();
    assert_eq!(runtime.report().serving, Some(id("v1")));
    assert_eq!(runtime.report().revisions[&id("v2")], RevisionState::Ready);
    runtime.log.clear();
    let runtime = runtime.told(wanted(&["v1", "v2"], "v2")).settled().told(wanted(&["v2"], "v2"));
    assert_eq!(runtime.log, ["switch v2", "drain v1"]);
    assert_eq!(runtime.report().revisions[&id("v1")], RevisionState::Draining);
    assert!(!runtime.settled().report().revisions.contains_key(&id("v1")));
}

#[test]
fn an_old_revision_serves_until_the_new_one_is_ready_even_when_it_is_listed_no_more() {
    let runtime = Runtime::new().told(wanted(&["v1"], "v1")).settled().told(wanted(&["v2"], "v2"));
    let runtime = runtime.hears(Event::Fetched(id("v2"))).hears(Event::PrepareFailed(id("v2"), fault(false)));
    assert_eq!(runtime.report().serving, Some(id("v1")));
    let RevisionState::Failed(problem) = &runtime.report().revisions[&id("v2")] else { panic!("not failed") };
    assert!(!problem.retrying);
    let runtime = runtime.told(wanted(&["v3"], "v3")).settled();
    assert_eq!(runtime.app().revisions.keys().collect::<Vec<_>>(), [&id("v3")]);
}

#[test]
fn a_broken_revision_is_not_tried_again_until_the_assignment_changes() {
    let broken =
        |runtime: Runtime| runtime.hears(Event::Fetched(id("v1"))).hears(Event::PrepareFailed(id("v1"), fault(false)));
    let runtime = broken(Runtime::new().told(wanted(&["v1"], "v1"))).later(Duration::from_secs(86_400));
    assert_eq!(runtime.log, ["fetch v1", "prepare v1"]);
    let runtime = runtime.told(wanted_of("uid", 10_001, &["v1"], "v1")).settled();
    assert_eq!(runtime.report().serving, Some(id("v1")));
}

#[test]
fn a_fetch_that_may_succeed_later_is_tried_again_with_growing_pauses() {
    let mut runtime = Runtime::new().told(wanted(&["v1"], "v1"));
    for pause in [500, 1000, 2000] {
        runtime = runtime.hears(Event::FetchFailed(id("v1"), fault(true)));
        let RevisionState::Failed(problem) = &runtime.report().revisions[&id("v1")] else { panic!("not failed") };
        assert!(problem.retrying);
        runtime.log.clear();
        runtime = runtime.later(Duration::from_millis(pause - 1));
        assert!(runtime.log.is_empty(), "{pause}");
        runtime = runtime.later(Duration::from_millis(1));
        assert_eq!(runtime.log, ["fetch v1"]);
    }
    assert_eq!(Backoff::default().pause(u32::MAX), Backoff::default().longest);
}

#[test]
fn news_under_an_old_assignment_leads_to_a_new_try_at_once() {
    let runtime = Runtime::new().told(wanted(&["v1"], "v1")).told(wanted_of("uid", 10_001, &["v1"], "v1"));
    let runtime = runtime.hears(Event::FetchFailed(id("v1"), fault(false)));
    assert_eq!(runtime.log, ["fetch v1", "fetch v1"]);
}

#[test]
fn a_port_that_cannot_be_bound_is_a_problem_of_the_app_and_tried_again() {
    let runtime = Runtime::new().told(wanted(&["v1"], "v1"));
    let runtime = runtime.hears(Event::Fetched(id("v1"))).hears(Event::Prepared(id("v1")));
    let runtime = runtime.hears(Event::BindFailed(10_000, fault(true)));
    assert_eq!(runtime.report().serving, None);
    assert_eq!(runtime.report().problem.unwrap().reason, "Broken");
    let report = runtime.settled().report();
    assert_eq!((report.serving, report.problem), (Some(id("v1")), None));
}

#[test]
fn a_new_port_is_bound_before_the_old_one_goes() {
    let mut runtime = Runtime::new().told(wanted(&["v1"], "v1")).settled();
    runtime.log.clear();
    let runtime = runtime.told(wanted_of("uid", 10_001, &["v1"], "v1"));
    assert_eq!(runtime.log, ["bind 10001"]);
    assert_eq!(runtime.report().serving, None, "not at that port yet");
    let runtime = runtime.settled();
    assert_eq!(runtime.log, ["bind 10001", "unbind 10000"]);
    assert_eq!(runtime.report().serving, Some(id("v1")));
}

#[test]
fn a_removed_app_is_forgotten_after_its_last_request() {
    let mut runtime = Runtime::new().told(wanted(&["v1"], "v1")).settled();
    runtime.log.clear();
    let runtime = runtime.removed();
    assert_eq!(runtime.log, ["unbind 10000", "drain v1"]);
    let runtime = runtime.hears(Event::Drained(id("v1")));
    assert_eq!(runtime.log, ["unbind 10000", "drain v1", "forget"]);
    assert!(runtime.actual.is_empty());
}

#[test]
fn an_app_made_again_gets_nothing_of_the_old_one() {
    let mut runtime = Runtime::new().told(wanted(&["v1"], "v1")).settled();
    runtime.log.clear();
    let runtime = runtime.told(wanted_of("another", 10_000, &["v1"], "v1")).settled();
    let steps = ["unbind 10000", "drain v1", "forget", "fetch v1", "prepare v1", "bind 10000", "switch v1"];
    assert_eq!(runtime.log, steps);
}

#[test]
fn after_a_restart_an_older_revision_is_served_while_the_active_one_is_not_ready() {
    let runtime = Runtime::new().told(wanted(&["v1", "v2"], "v2")).hears(Event::Fetched(id("v1")));
    let runtime = runtime.hears(Event::Prepared(id("v1"))).hears(Event::Bound(10_000));
    assert_eq!(runtime.report().serving, Some(id("v1")));
    assert_eq!(runtime.settled().report().serving, Some(id("v2")));
}

#[test]
fn a_revision_that_is_only_being_prepared_is_never_served() {
    let runtime = Runtime::new().told(wanted(&["v1", "v2"], "v1")).hears(Event::Fetched(id("v2")));
    let runtime = runtime.hears(Event::Prepared(id("v2")));
    assert_eq!(runtime.report().serving, None);
}

#[test]
fn a_revision_with_a_check_is_ready_when_that_has_passed_and_not_before() {
    let runtime = Runtime::new().told(wanted(&["v1"], "v1")).settled().told(wanted(&["v1", "c2"], "c2"));
    let runtime = runtime.hears(Event::Fetched(id("c2"))).hears(Event::Prepared(id("c2")));
    assert_eq!(runtime.report().revisions[&id("c2")], RevisionState::Checking);
    assert_eq!(runtime.report().serving, Some(id("v1")));
    let runtime = runtime.hears(Event::Passed(id("c2")));
    assert_eq!(runtime.report().serving, Some(id("c2")));
}

#[test]
fn whatever_a_guest_calls_things_its_problem_has_a_bounded_length() {
    let message = format!("there is no import called {}", "x".repeat(100_000));
    let fault = Fault { reason: "InvalidWasm".to_owned(), message, detail: None, retryable: false };
    let runtime = Runtime::new().told(wanted(&["v1"], "v1")).hears(Event::Fetched(id("v1")));
    let said = runtime.hears(Event::PrepareFailed(id("v1"), fault)).report();
    let RevisionState::Failed(problem) = &said.revisions[&id("v1")] else { panic!("not failed") };
    assert!(problem.message.starts_with("there is no import called xxx"));
    assert!(problem.message.len() <= control::Problem::MESSAGE);
}

fn check_failed(detail: &str) -> Event {
    let message = "GET /healthz was answered with 503".to_owned();
    let fault = Fault { reason: "CheckFailed".to_owned(), message, detail: Some(detail.to_owned()), retryable: true };
    Event::CheckFailed(id("c1"), fault)
}

#[test]
fn a_check_that_fails_is_made_again_later_without_loading_anew_and_says_the_same_all_the_while() {
    let runtime = Runtime::new().told(wanted(&["c1"], "c1"));
    let mut runtime = runtime.hears(Event::Fetched(id("c1"))).hears(Event::Prepared(id("c1")));
    runtime = runtime.hears(check_failed("at 10:00"));
    let said = runtime.report();
    let RevisionState::Failed(problem) = &said.revisions[&id("c1")] else { panic!("not failed") };
    assert_eq!(problem.message, "GET /healthz was answered with 503: at 10:00");
    runtime.log.clear();
    for time in ["at 10:01", "at 10:02"] {
        runtime = runtime.later(Backoff::default().longest);
        assert_eq!(runtime.report(), said, "while it is checked again");
        runtime = runtime.hears(check_failed(time));
        assert_eq!(runtime.report(), said);
    }
    let runtime = runtime.settled();
    assert_eq!(runtime.log, ["check c1", "check c1", "check c1", "bind 10000", "switch c1"]);
}

#[test]
fn a_failure_that_was_overcome_is_said_no_longer_although_the_check_may_not_be_made_yet() {
    let runtime = Runtime::new().told(held(&wanted(&["c1"], "c1"), Hold::Requests));
    let runtime = runtime.hears(Event::FetchFailed(id("c1"), fault(true)));
    assert!(matches!(runtime.report().revisions[&id("c1")], RevisionState::Failed(_)));
    assert_eq!(runtime.settled().report().revisions[&id("c1")], RevisionState::Loaded);
}

#[test]
fn a_check_that_failed_before_is_not_said_of_an_assignment_that_holds_it_back() {
    let runtime = Runtime::new().told(wanted(&["c1"], "c1"));
    let runtime = runtime.hears(Event::Fetched(id("c1"))).hears(Event::Prepared(id("c1")));
    let under_way = runtime.clone().told(held(&wanted(&["c1"], "c1"), Hold::Requests));
    let failed = runtime.hears(check_failed("at 10:00")).told(held(&wanted(&["c1"], "c1"), Hold::Requests));
    for runtime in [failed, under_way.hears(check_failed("at 10:00"))] {
        assert_eq!(runtime.report().revisions[&id("c1")], RevisionState::Loaded);
        let runtime = runtime.told(wanted(&["c1"], "c1")).settled();
        assert_eq!(runtime.report().serving, Some(id("c1")));
    }
}

#[test]
fn while_an_app_must_not_run_twice_a_new_revision_is_loaded_and_not_called() {
    let both = wanted(&["v1", "c2"], "v1");
    let runtime = Runtime::new().told(wanted(&["v1"], "v1")).settled().told(held(&both, Hold::Checks)).settled();
    assert_eq!(runtime.report().revisions[&id("c2")], RevisionState::Loaded);
    assert_eq!(runtime.report().serving, Some(id("v1")));
    let mut runtime = runtime.told(held(&wanted(&["c2"], "c2"), Hold::Requests));
    assert_eq!(runtime.report().serving, None);
    assert_eq!(runtime.report().revisions[&id("v1")], RevisionState::Draining, "its last requests run");
    runtime = runtime.settled();
    assert_eq!(runtime.report().revisions.len(), 1);
    runtime.log.clear();
    let runtime = runtime.told(wanted(&["c2"], "c2")).settled();
    assert_eq!(runtime.log, ["check c2", "switch c2"]);
}

#[test]
fn a_runtime_that_never_had_the_revision_that_serves_elsewhere_serves_nothing_before_it_may() {
    let runtime = Runtime::new().told(held(&wanted(&["v2"], "v1"), Hold::Checks)).settled();
    assert_eq!(runtime.report().serving, None);
    let serving = Runtime::new().told(wanted(&["v1"], "v1")).settled();
    let serving = serving.told(held(&wanted(&["v2"], "v1"), Hold::Checks)).settled();
    assert_eq!(serving.report().serving, Some(id("v1")), "one that has it goes on");
    assert_eq!(runtime.told(wanted(&["v2"], "v2")).settled().report().serving, Some(id("v2")));
}

#[test]
fn no_more_jobs_run_at_a_time_than_there_is_room_for() {
    let mut runtime = Runtime { room: Room { fetches: 1, preparations: 1 }, ..Runtime::new() };
    runtime = runtime.told(wanted(&["v1", "v2", "v3"], "v3"));
    assert_eq!(runtime.log, ["fetch v3"]);
    runtime = runtime.hears(Event::Fetched(id("v3")));
    assert_eq!(runtime.log, ["fetch v3", "prepare v3", "fetch v1"]);
    assert_eq!(runtime.settled().report().revisions.len(), 3);
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let names = || proptest::sample::subsequence(vec!["v1", "c2", "c3"], 1..=3);
    let uid = prop_oneof![9 => Just("uid"), 1 => Just("another")];
    (uid, 10_000_u16..10_002, names(), any::<proptest::sample::Index>())
        .prop_map(|(uid, port, names, active)| wanted_of(uid, port, &names, names[active.index(names.len())]))
}

/// As [`any_wanted`], with something held back now and then.
fn any_wanted_or_held() -> impl Strategy<Value = Wanted> {
    let hold = prop_oneof![6 => Just(Hold::Nothing), 1 => Just(Hold::Checks), 1 => Just(Hold::Requests)];
    (any_wanted(), hold).prop_map(|(wanted, hold)| held(&wanted, hold))
}

/// Something that happens to the runtime: it is told something, or one of the things under way ends.
#[derive(Debug, Clone)]
enum Turn {
    Told(Wanted),
    Removed,
    Ends { which: proptest::sample::Index, well: bool, retryable: bool },
    Passes(u64),
}

fn any_turn(wanted: impl Strategy<Value = Wanted> + 'static) -> impl Strategy<Value = Turn> {
    prop_oneof![
        3 => wanted.prop_map(Turn::Told),
        1 => Just(Turn::Removed),
        12 => (any::<proptest::sample::Index>(), any::<bool>(), any::<bool>())
            .prop_map(|(which, well, retryable)| Turn::Ends { which, well, retryable }),
        2 => (1_u64..5000).prop_map(Turn::Passes),
    ]
}

impl Runtime {
    fn take(self, turn: Turn) -> Self {
        match turn {
            Turn::Told(wanted) => self.told(wanted),
            Turn::Removed => self.removed(),
            Turn::Passes(ms) => self.later(Duration::from_millis(ms)),
            Turn::Ends { which, well, retryable } => {
                let pending = self.pending();
                if pending.is_empty() {
                    return self;
                }
                let (_, event) = pending[which.index(pending.len())].clone();
                let fault = fault(retryable);
                self.hears(match event {
                    Event::Fetched(id) if !well => Event::FetchFailed(id, fault),
                    Event::Prepared(id) if !well => Event::PrepareFailed(id, fault),
                    Event::Passed(id) if !well => Event::CheckFailed(id, fault),
                    Event::Bound(port) if !well => Event::BindFailed(port, fault),
                    event => event,
                })
            }
        }
    }
}

proptest! {
    #[test]
    fn from_any_state_the_runtime_reaches_what_it_was_told(
        turns in proptest::collection::vec(any_turn(any_wanted_or_held()), 0..40),
        last in proptest::option::of(any_wanted_or_held()),
        room in 1_usize..3,
    ) {
        let start = Runtime { room: Room { fetches: room, preparations: room }, ..Runtime::new() };
        let runtime = turns.into_iter().fold(start, Runtime::take);
        let Some(last) = last else {
            prop_assert!(runtime.removed().settled().actual.is_empty());
            return Ok(());
        };
        // The same assignment with another fingerprint, so that what failed for good is tried again.
        let fresh = Wanted { fingerprint: Fingerprint(Digest::of(b"fresh")), ..last };
        let runtime = runtime.told(fresh.clone()).settled();
        let report = runtime.report();
        let Assignment { active, hold, revisions, port, .. } = fresh.assignment.as_ref();
        prop_assert_eq!(report.serving.as_ref(), Some(active).filter(|_| *hold != Hold::Requests));
        prop_assert_eq!(report.revisions.len(), revisions.len());
        prop_assert!(report.revisions.values().all(RevisionState::is_loaded));
        let is_ready = |id: &RevisionId| report.revisions[id].is_ready();
        let as_ready_as_may_be = match hold {
            Hold::Nothing => report.revisions.keys().all(is_ready),
            Hold::Checks => is_ready(active),
            Hold::Requests => true,
        };
        prop_assert!(as_ready_as_may_be, "{:?}", report);
        prop_assert!(runtime.app().ports.keys().all(|bound| bound == port));
    }

    #[test]
    fn a_served_app_stays_served_at_some_port_while_it_is_the_same_app(
        turns in proptest::collection::vec(any_turn(any_wanted()), 0..60),
    ) {
        let mut runtime = Runtime::new();
        for turn in turns {
            let before = runtime.clone();
            runtime = runtime.take(turn);
            let same = |runtime: &Runtime| runtime.desired.values().next().map(|w| w.assignment.uid.clone());
            if same(&before).is_none() || same(&before) != same(&runtime) {
                continue;
            }
            let served = |runtime: &Runtime| runtime.actual.get(&key("cart")).is_some_and(|app| {
                app.serving.is_some() && app.ports.values().any(|port| *port == Port::Bound)
            });
            prop_assert!(!served(&before) || served(&runtime), "{:?}", runtime.log);
            for app in runtime.actual.values() {
                let ready = app.serving.iter().all(|id| app.revisions.get(id) == Some(&Progress::Ready));
                prop_assert!(ready, "what serves is ready: {:?}", app);
            }
        }
    }

    #[test]
    fn nothing_is_served_whose_check_has_not_passed_nor_after_it_was_to_stop(
        turns in proptest::collection::vec(any_turn(any_wanted_or_held()), 0..60),
    ) {
        let mut runtime = Runtime::new();
        let mut passed = std::collections::BTreeSet::new();
        for turn in turns {
            if let Turn::Ends { which, well: true, .. } = &turn
                && let pending = runtime.pending()
                && !pending.is_empty()
                && let (_, Event::Passed(id)) = &pending[which.index(pending.len())]
            {
                passed.insert(id.clone());
            }
            runtime = runtime.take(turn);
            for app in runtime.actual.values() {
                let gated = |id: &&RevisionId| id.0.starts_with('c');
                prop_assert!(app.serving.iter().filter(gated).all(|id| passed.contains(id)), "{:?}", runtime.log);
                // What was let go of must pass again.
                passed.retain(|id| app.revisions.contains_key(id));
            }
            if let Some(wanted) = runtime.desired.get(&key("cart")) {
                prop_assert!(wanted.assignment.hold != Hold::Requests || runtime.app().serving.is_none());
            }
        }
    }

    #[test]
    fn deciding_again_without_news_changes_nothing(
        turns in proptest::collection::vec(any_turn(any_wanted_or_held()), 0..40),
    ) {
        let mut runtime = turns.into_iter().fold(Runtime::new(), Runtime::take);
        runtime.decide();
        runtime.log.clear();
        runtime.decide();
        prop_assert!(runtime.log.is_empty(), "{:?}", runtime.log);
    }
}
