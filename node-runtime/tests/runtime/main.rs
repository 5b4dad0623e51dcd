//! The runtime as its operator and its callers see it: a real process, real TLS, real guests.

#[cfg(test)]
mod harness;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use control::{
    AppKey, Assignment, FromRuntime, Hello, Hold, RevisionId, RevisionState, ToRuntime, wire::OPERATOR_DNS_NAME,
};
use harness::{
    Node, Parcels, Pki, Unfinished, ask, assignment, checked, content, eventually, failing_guest, get, guest, in_time,
    key, large_guest, looping_guest, remembering_guest, revision,
};
use test_services::free_port;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

#[expect(clippy::expect_used, reason = "a test that cannot go on fails")]
fn state_of<'a>(report: &'a control::AppReport, revision: &str) -> &'a RevisionState {
    report.revisions.get(&RevisionId(revision.to_owned())).expect("the revision is reported")
}

#[tokio::test]
async fn an_assigned_app_is_reported_ready_and_then_answers() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, welcome) = node.operator(1).await;
    assert_eq!((welcome.runtime.0.as_str(), welcome.draining), ("r1", false));
    assert!(welcome.inventory.reports.is_empty());
    let (app, port) = (key("cart"), free_port());
    let told = assignment(&app, port, vec![revision("v1", parcels.add(guest("one")), &parcels.url)], "v1");
    operator.assign(&told).await;
    operator.say(ToRuntime::Synced).await;
    let report = operator.serving(&app, "v1").await;
    assert_eq!((report.fingerprint, report.port), (told.fingerprint().unwrap(), port));
    assert!(state_of(&report, "v1").is_ready());
    assert_eq!(ask(port).await.unwrap(), (200, "one".to_owned()));

    operator.say(ToRuntime::Ping(7)).await;
    assert_eq!(operator.hear().await, Some(FromRuntime::Pong(7)));
    operator.assign(&told).await;
    let again = control::AppReport { word: Some(2), ..report };
    assert_eq!(operator.hear().await, Some(FromRuntime::Report(vec![again])), "said twice, answered twice");

    eventually("readiness", async || get(node.admin, "/readyz").await.ok().filter(|ready| ready.0 == 200)).await;
    let metrics = get(node.admin, "/metrics").await.unwrap().1;
    assert!(metrics.contains("spindle_requests_total{app=\"shop/cart\",status=\"2xx\"} 1"), "{metrics}");
    assert!(metrics.contains("spindle_apps{state=\"serving\"} 1"), "{metrics}");
    let state = get(node.admin, "/debug/state").await.unwrap().1;
    assert!(state.contains("shop/cart") && !state.contains("hunter2"), "{state}");
}

#[tokio::test]
async fn what_guests_print_and_why_they_fail_is_logged_under_their_names() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    let broken = revision("v1", parcels.add(failing_guest("on the way")), &parcels.url);
    operator.assign(&assignment(&app, port, vec![broken], "v1")).await;
    operator.serving(&app, "v1").await;
    assert_eq!(get(([127, 0, 0, 1], port).into(), "/cart?token=hunter2").await.unwrap().0, 500);
    let line = node.printed("on the way").await;
    for (field, expected) in [
        ("namespace", "shop"),
        ("app", "cart"),
        ("component", "hello"),
        ("revision", "v1"),
        ("stream", "stderr"),
        ("message", "on the way"),
    ] {
        assert_eq!(line[field], expected, "{field} of {line}");
    }
    assert!(line["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{line}");
    let failure = node.logged("request failed").await;
    assert!(!failure.contains("hunter2"), "{failure}");
    let failure: serde_json::Value = serde_json::from_str(&failure).unwrap();
    for (field, expected) in [
        ("level", "ERROR"),
        ("namespace", "shop"),
        ("app", "cart"),
        ("component", "hello"),
        ("revision", "v1"),
        ("method", "GET"),
        ("path", "/cart"),
        ("route", "/..."),
        ("reason", "Trap"),
    ] {
        assert_eq!(failure[field], expected, "{field} of {failure}");
    }
    assert!(failure["error"].as_str().is_some_and(|error| error.contains("give_up")), "{failure}");
    let metrics = get(node.admin, "/metrics").await.unwrap().1;
    assert!(metrics.contains("spindle_request_failures_total{app=\"shop/cart\",reason=\"Trap\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_roll_out_in_two_phases_fails_no_request() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    let v1 = revision("v1", parcels.add(guest("one")), &parcels.url);
    let v2 = revision("v2", parcels.add(guest("two")), &parcels.url);
    operator.assign(&assignment(&app, port, vec![v1.clone()], "v1")).await;
    operator.serving(&app, "v1").await;

    let (enough, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (enough, answers) = (Arc::clone(&enough), Arc::clone(&answers));
        callers.spawn(async move {
            while !enough.load(Ordering::Relaxed) {
                let answer = ask(port).await.map_err(|error| error.to_string());
                answers.lock().unwrap().push(answer);
            }
        });
    }
    let met = async |text: &str| {
        let expected = Ok((200, text.to_owned()));
        eventually(text, async || answers.lock().unwrap().contains(&expected).then_some(())).await;
    };
    met("one").await;
    operator.assign(&assignment(&app, port, vec![v1.clone(), v2.clone()], "v1")).await;
    let prepared = operator
        .report(&app, |report| report.revisions.get(&RevisionId("v2".to_owned())).is_some_and(RevisionState::is_ready))
        .await;
    assert_eq!(prepared.serving, Some(RevisionId("v1".to_owned())), "it is prepared, not served");
    assert_eq!(ask(port).await.unwrap().1, "one");
    operator.assign(&assignment(&app, port, vec![v1, v2.clone()], "v2")).await;
    operator.serving(&app, "v2").await;
    operator.assign(&assignment(&app, port, vec![v2], "v2")).await;
    operator.report(&app, |report| report.revisions.len() == 1).await;
    assert_eq!(ask(port).await.unwrap().1, "two");
    met("two").await;
    enough.store(true, Ordering::Relaxed);
    in_time("callers", callers.join_all()).await;
    let answers = answers.lock().unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Ok((200, _)))), "{answers:?}");
}

#[tokio::test]
async fn a_broken_revision_is_reported_while_the_old_one_serves() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    let v1 = revision("v1", parcels.add(guest("one")), &parcels.url);
    let broken = revision("v2", parcels.add("not wasm"), &parcels.url);
    operator.assign(&assignment(&app, port, vec![v1], "v1")).await;
    operator.serving(&app, "v1").await;
    operator.assign(&assignment(&app, port, vec![broken], "v2")).await;
    let is_failed = |report: &control::AppReport| {
        matches!(report.revisions.get(&RevisionId("v2".to_owned())), Some(RevisionState::Failed(_)))
    };
    let report = operator.report(&app, is_failed).await;
    let RevisionState::Failed(problem) = state_of(&report, "v2") else { panic!("{report:?}") };
    assert_eq!((problem.reason.as_str(), problem.retrying), ("InvalidWasm", false));
    assert!(problem.message.contains("hello"), "the component is named: {}", problem.message);
    assert_eq!(report.serving, Some(RevisionId("v1".to_owned())));
    assert_eq!(ask(port).await.unwrap().1, "one");
}

/// Why a revision failed, once it has.
#[expect(clippy::unwrap_used, reason = "it was waited for")]
async fn problem_of(operator: &mut harness::Operator, app: &AppKey, revision: &str) -> control::Problem {
    let failed = |report: &control::AppReport| match report.revisions.get(&RevisionId(revision.to_owned())) {
        Some(RevisionState::Failed(problem)) => Some(problem.clone()),
        _ => None,
    };
    let report = operator.report(app, |report| failed(report).is_some()).await;
    failed(&report).unwrap()
}

#[tokio::test]
async fn a_revision_takes_requests_only_when_its_check_has_passed_and_the_old_one_serves_until_then() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    let v1 = revision("v1", parcels.add(guest("one")), &parcels.url);
    operator.assign(&assignment(&app, port, vec![v1.clone()], "v1")).await;
    operator.serving(&app, "v1").await;

    let failing = checked(revision("v2", parcels.add(failing_guest("no database")), &parcels.url));
    operator.assign(&assignment(&app, port, vec![v1.clone(), failing], "v2")).await;
    let problem = problem_of(&mut operator, &app, "v2").await;
    assert_eq!((problem.reason.as_str(), problem.retrying), ("CheckFailed", true));
    assert!(problem.message.contains("GET /healthz was answered with 500"), "{}", problem.message);
    assert_eq!(ask(port).await.unwrap().1, "one");

    let looping = checked(revision("v3", parcels.add(looping_guest()), &parcels.url));
    operator.assign(&assignment(&app, port, vec![v1.clone(), looping], "v3")).await;
    let problem = problem_of(&mut operator, &app, "v3").await;
    assert!(problem.message.contains("was not answered within 2s"), "{}", problem.message);
    assert_eq!(ask(port).await.unwrap().1, "one");

    let mut late = checked(revision("v4", parcels.add(remembering_guest(503)), &parcels.url));
    for component in late.application.components.values_mut() {
        component.key_value_stores.push("default".to_owned());
    }
    // Long enough for the failure to be told before it is none any more: a report is of what is true when it is sent.
    late.readiness.as_mut().unwrap().period_ms = 1_000;
    operator.assign(&assignment(&app, port, vec![v1, late], "v4")).await;
    let problem = problem_of(&mut operator, &app, "v4").await;
    assert!(problem.message.contains("503"), "{}", problem.message);
    let report = operator.serving(&app, "v4").await;
    let times = report.times[&RevisionId("v4".to_owned())];
    assert!(times.fetch_ms.is_some() && times.prepare_ms.is_some() && times.check_ms.is_some(), "{times:?}");
    let metrics = get(node.admin, "/metrics").await.unwrap().1;
    assert!(metrics.contains("spindle_check_duration_seconds_count{outcome=\"CheckFailed\"}"), "{metrics}");
}

#[tokio::test]
async fn a_revision_is_checked_again_after_a_restart_without_an_operator() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    let v1 = checked(revision("v1", parcels.add(guest("one")), &parcels.url));
    operator.assign(&assignment(&app, port, vec![v1], "v1")).await;
    operator.serving(&app, "v1").await;
    eventually("the assignment on disk", async || node.assignment_file(&app).exists().then_some(())).await;
    let (dir, pki) = node.crash().await;
    let _node = Node::start_in(dir, pki).await;
    eventually("an answer", async || ask(port).await.ok().filter(|answer| answer.1 == "one")).await;
}

#[tokio::test]
async fn an_app_that_must_not_run_twice_stops_before_its_next_revision_is_called() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    let v1 = revision("v1", parcels.add(guest("one")), &parcels.url);
    let v2 = checked(revision("v2", parcels.add(guest("two")), &parcels.url));
    operator.assign(&assignment(&app, port, vec![v1.clone()], "v1")).await;
    operator.serving(&app, "v1").await;
    let both = Assignment { hold: Hold::Checks, ..assignment(&app, port, vec![v1, v2.clone()], "v1") };
    operator.assign(&both).await;
    let is_loaded = |report: &control::AppReport| {
        report.revisions.get(&RevisionId("v2".to_owned())) == Some(&RevisionState::Loaded)
    };
    operator.report(&app, is_loaded).await;
    assert_eq!(ask(port).await.unwrap().1, "one");
    let only = assignment(&app, port, vec![v2], "v2");
    operator.assign(&Assignment { hold: Hold::Requests, ..only.clone() }).await;
    operator.report(&app, |report| report.serving.is_none() && report.revisions.len() == 1).await;
    assert_eq!(ask(port).await.unwrap().0, 503);
    operator.assign(&only).await;
    operator.serving(&app, "v2").await;
    assert_eq!(ask(port).await.unwrap().1, "two");
}

#[tokio::test]
async fn what_this_runtime_cannot_read_is_reported_while_the_old_revision_serves_and_until_it_is_not_asked_for() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (cart, till, port) = (key("cart"), key("till"), free_port());
    let v1 = revision("v1", parcels.add(guest("one")), &parcels.url);
    let v2 = revision("v2", parcels.add(guest("two")), &parcels.url);
    operator.assign(&assignment(&cart, port, vec![v1.clone()], "v1")).await;
    let told = operator.serving(&cart, "v1").await;
    let both = assignment(&cart, port, vec![v1, v2.clone()], "v2");
    operator.assign_in_newer_words(&both).await;
    operator.assign_in_newer_words(&assignment(&till, free_port(), vec![v2], "v2")).await;
    let is_failed = |report: &control::AppReport| {
        let state = report.revisions.get(&RevisionId("v2".to_owned()));
        matches!(state, Some(RevisionState::Failed(why)) if why.reason == "RuntimeTooOld")
    };
    for app in [&cart, &till] {
        let report = operator.report(app, is_failed).await;
        let RevisionState::Failed(problem) = state_of(&report, "v2") else { panic!("{report:?}") };
        assert!(problem.message.contains("somethingNew") && !problem.message.contains("hunter2"), "{problem:?}");
    }
    assert_eq!(ask(port).await.unwrap().1, "one");

    // Another operator finds what there is; what it does not ask for any more is forgotten, and what it does is read.
    let (mut next, welcome) = node.operator(2).await;
    assert_eq!(welcome.inventory.assigned, [(cart.clone(), told.fingerprint)].into());
    assert!(welcome.inventory.reports.iter().all(|report| report.app == cart && is_failed(report)), "{welcome:?}");
    next.say(ToRuntime::Synced).await;
    next.report(&cart, |report| report.revisions.len() == 1 && report.problem.is_none()).await;
    next.gone(&till).await;
    next.assign(&both).await;
    next.serving(&cart, "v2").await;
    assert_eq!(ask(port).await.unwrap().1, "two");
}

#[tokio::test]
async fn an_app_that_was_made_again_in_words_that_cannot_be_read_is_not_served_as_the_old_one() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    let v1 = revision("v1", parcels.add(guest("one")), &parcels.url);
    let old = assignment(&app, port, vec![v1], "v1");
    operator.assign(&old).await;
    operator.serving(&app, "v1").await;
    operator.assign_in_newer_words(&Assignment { uid: "another".to_owned(), ..old }).await;
    let report = operator.report(&app, |report| report.uid == "another").await;
    assert!(report.serving.is_none() && report.problem.is_some(), "{report:?}");
    eventually("the port to be closed", async || TcpStream::connect(("127.0.0.1", port)).await.err()).await;
    operator.say(ToRuntime::Remove(app.clone())).await;
    operator.gone(&app).await;
}

#[tokio::test]
async fn an_operator_of_the_release_before_is_spoken_to_in_its_own_version() {
    let node = Node::start().await;
    let mut older = node.connect_as(&node.pki, OPERATOR_DNS_NAME).await.unwrap();
    older.say(ToRuntime::Hello(Hello { versions: (1, 1), operator: "test".to_owned(), term: 1 })).await;
    let Some(FromRuntime::Welcome(welcome)) = older.hear().await else { panic!("no welcome") };
    assert_eq!(welcome.version, 1);
}

#[tokio::test]
async fn content_that_is_not_there_yet_is_fetched_when_it_is() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    let wasm = guest("late");
    operator.assign(&assignment(&app, port, vec![revision("v1", content(&wasm), &parcels.url)], "v1")).await;
    let is_failed = |report: &control::AppReport| matches!(state_of(report, "v1"), RevisionState::Failed(_));
    let report = operator.report(&app, is_failed).await;
    let RevisionState::Failed(problem) = state_of(&report, "v1") else { panic!("{report:?}") };
    assert!(problem.retrying, "{problem:?}");
    parcels.add(wasm);
    operator.serving(&app, "v1").await;
    assert_eq!(ask(port).await.unwrap().1, "late");
    parcels.stop().await;
}

#[tokio::test]
async fn a_removed_app_frees_its_port_after_the_requests_that_it_has() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    operator.assign(&assignment(&app, port, vec![revision("v1", parcels.add(guest("one")), &parcels.url)], "v1")).await;
    operator.serving(&app, "v1").await;
    let slow = Unfinished::begin(port).await;
    operator.say(ToRuntime::Remove(app.clone())).await;
    eventually("the port to be closed", async || TcpStream::connect(("127.0.0.1", port)).await.err()).await;
    assert!(slow.finish().await.ends_with("\r\n\r\none           \n"));
    operator.gone(&app).await;
    eventually("its file to be removed", async || (!node.assignment_file(&app).exists()).then_some(())).await;
    operator.say(ToRuntime::Remove(app.clone())).await;
    assert_eq!(operator.hear().await, Some(FromRuntime::Removed(app)), "said twice, answered twice");
    let metrics = get(node.admin, "/metrics").await.unwrap().1;
    assert!(!metrics.contains("shop/cart"), "{metrics}");
}

#[tokio::test]
async fn replacing_and_removing_an_app_disturbs_no_request_in_flight_of_it_or_of_another() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (cart, till, ports) = (key("cart"), key("till"), [free_port(), free_port()]);
    let large = revision("v1", parcels.add(large_guest(12)), &parcels.url);
    let one = revision("v1", parcels.add(guest("one")), &parcels.url);
    let two = revision("v2", parcels.add(guest("two")), &parcels.url);
    operator.assign(&assignment(&cart, ports[0], vec![large], "v1")).await;
    operator.assign(&assignment(&till, ports[1], vec![one], "v1")).await;
    operator.serving(&cart, "v1").await;
    operator.serving(&till, "v1").await;
    // A response of which only the head has been read, and a request of which the body is not sent.
    // With a small buffer: the response must not fit into the kernel's.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut reading = socket.connect(([127, 0, 0, 1], ports[0]).into()).await.unwrap();
    reading.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    in_time("the head", reading.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let slow = Unfinished::begin(ports[1]).await;

    operator.assign(&assignment(&cart, ports[0], vec![two.clone()], "v2")).await;
    operator.serving(&cart, "v2").await;
    assert_eq!(ask(ports[0]).await.unwrap().1, "two");
    operator.say(ToRuntime::Remove(cart.clone())).await;
    operator.assign(&assignment(&till, ports[1], vec![two], "v2")).await;
    let report = operator.serving(&till, "v2").await;
    assert_eq!(state_of(&report, "v1"), &RevisionState::Draining, "{report:?}");

    assert!(slow.finish().await.ends_with("\r\n\r\none           \n"), "answered by the revision that it began with");
    let mut rest = Vec::new();
    in_time("the rest", reading.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest.iter().filter(|byte| **byte == b'x').count(), 12 << 20);
    operator.gone(&cart).await;
    operator.report(&till, |report| report.revisions.len() == 1).await;
}

#[tokio::test]
async fn after_a_crash_apps_are_served_from_disk_without_an_operator() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let apps = [(key("cart"), free_port()), (key("till"), free_port())];
    let v1 = revision("v1", parcels.add(guest("one")), &parcels.url);
    let told = apps.each_ref().map(|(app, port)| assignment(app, *port, vec![v1.clone()], "v1"));
    for each in &told {
        operator.assign(each).await;
        operator.serving(&each.app, "v1").await;
    }
    let file = node.assignment_file(&key("till"));
    eventually("assignments on disk", async || {
        (node.assignment_file(&key("cart")).exists() && file.exists()).then_some(())
    })
    .await;
    assert!(!std::fs::read_to_string(&file).unwrap().contains("hunter2"), "secrets are kept elsewhere");
    parcels.stop().await;
    let (dir, pki) = node.crash().await;
    std::fs::write(&file, "{").unwrap();

    let node = Node::start_in(dir, pki).await;
    eventually("the app to be served", async || {
        ask(apps[0].1).await.ok().filter(|answer| *answer == (200, "one".to_owned()))
    })
    .await;
    assert!(node.logged("an assignment was not restored").await.contains("till.json"));
    let (mut operator, welcome) = node.operator(1).await;
    assert_eq!(welcome.inventory.assigned, [(apps[0].0.clone(), told[0].fingerprint().unwrap())].into());
    assert_eq!(welcome.inventory.reports[0].serving, Some(RevisionId("v1".to_owned())));
    // The damaged one is sent again; its content is still there.
    operator.assign(&told[1]).await;
    operator.serving(&apps[1].0, "v1").await;
}

#[tokio::test]
async fn an_operator_is_listened_to_when_everything_is_restored_and_is_told_of_all_of_it() {
    let node = Node::start().await;
    let (mut operator, _) = node.operator(1).await;
    let apps: Vec<AppKey> = (0..50).map(|number| key(&format!("app-{number}"))).collect();
    let unreachable = "http://127.0.0.1:1/v1";
    let nowhere = content(b"nowhere");
    for app in &apps {
        let v1 = revision("v1", nowhere, unreachable);
        operator.assign(&assignment(app, free_port(), vec![v1], "v1")).await;
    }
    let files: Vec<_> = apps.iter().map(|app| node.assignment_file(app)).collect();
    eventually("assignments on disk", async || files.iter().all(|file| file.exists()).then_some(())).await;
    let (dir, pki) = node.crash().await;
    // Reading this one takes until somebody writes into it.
    let slow = files[0].with_file_name("slow.json");
    assert!(std::process::Command::new("mkfifo").arg(&slow).status().unwrap().success());

    let mut node = Node::launch(dir, pki, &[]).await;
    in_time("somebody to read", tokio::fs::write(&slow, "{")).await.unwrap();
    node.wait_for_control().await;
    node.logged("assignments restored").await;
    let (_operator, welcome) = node.operator(1).await;
    assert_eq!(welcome.inventory.assigned.keys().collect::<BTreeSet<_>>(), apps.iter().collect());
    assert!(node.has_logged_in_order("assignments restored", "control server listens"));
}

#[tokio::test]
async fn nobody_but_the_operator_of_this_cluster_is_listened_to() {
    let node = Node::start().await;
    for (pki, name) in [(&node.pki, "runtime.spindle.internal"), (&Pki::new(), OPERATOR_DNS_NAME)] {
        assert!(node.connect_as(pki, name).await.is_err(), "{name}");
    }
    // Without a certificate there is no stream, and without TLS nothing at all.
    assert!(node.connect_as_nobody().await.is_err());
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = node.hangs_up_on(preface).await;
    // A TLS alert at most: no frame of HTTP/2.
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    node.operator(1).await;
    let metrics = get(node.admin, "/metrics").await.unwrap().1;
    let refused = metrics.lines().find_map(|line| line.strip_prefix("spindle_control_refused_total "));
    assert_eq!(refused, Some("4"), "{metrics}");
}

#[tokio::test]
async fn a_stream_of_a_lower_term_or_another_version_is_refused_and_one_of_the_same_term_takes_over() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut first, _) = node.operator(5).await;
    let mut old = node.connect_as(&node.pki, OPERATOR_DNS_NAME).await.unwrap();
    old.hello(4).await;
    let why = old.refused().await;
    assert!(why.contains("term 5"), "{why}");
    assert_eq!(old.hear().await, None);
    let mut newer = node.connect_as(&node.pki, OPERATOR_DNS_NAME).await.unwrap();
    newer.say(ToRuntime::Hello(Hello { versions: (3, 9), operator: "test".to_owned(), term: 5 })).await;
    let why = newer.refused().await;
    assert!(why.contains("3 to 9"), "{why}");

    let (app, port) = (key("cart"), free_port());
    let v1 = revision("v1", parcels.add(guest("one")), &parcels.url);
    first.assign(&assignment(&app, port, vec![v1], "v1")).await;
    first.serving(&app, "v1").await;
    let (mut second, welcome) = node.operator(5).await;
    assert_eq!(welcome.inventory.reports.len(), 1);
    assert_eq!(first.refused().await, "another stream took over");
    assert_eq!(first.hear().await, None);
    second.say(ToRuntime::Remove(app.clone())).await;
    second.gone(&app).await;
}

#[tokio::test]
async fn a_process_waits_for_its_certificates_and_uses_new_ones_without_dropping_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls");
    let mut node = Node::launch(dir, Pki::new(), &[]).await;
    node.logged("waiting for the control server's certificates").await;
    let missing = (503, "waiting for the control server's certificates\n".to_owned());
    eventually("readiness to say why not", async || {
        get(node.admin, "/readyz").await.ok().filter(|ready| *ready == missing)
    })
    .await;
    assert_eq!(get(node.admin, "/healthz").await.unwrap().0, 200);
    node.pki.write(&tls);
    node.wait_for_control().await;
    let (mut first, _) = node.operator(1).await;
    eventually("readiness", async || get(node.admin, "/readyz").await.ok().filter(|ready| ready.0 == 200)).await;

    let old = std::mem::replace(&mut node.pki, Pki::new());
    node.pki.write(&tls);
    assert!(node.connect_as(&old, OPERATOR_DNS_NAME).await.is_err(), "the old authority is not believed any more");
    first.say(ToRuntime::Ping(1)).await;
    assert_eq!(first.hear().await, Some(FromRuntime::Pong(1)), "an open stream stays open");
    node.operator(1).await;
}

#[tokio::test]
async fn a_terminated_process_says_so_finishes_its_requests_and_exits_with_0() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    operator.assign(&assignment(&app, port, vec![revision("v1", parcels.add(guest("one")), &parcels.url)], "v1")).await;
    operator.serving(&app, "v1").await;
    let slow = Unfinished::begin(port).await;
    node.terminate().await;
    operator.until(&FromRuntime::Draining).await;
    eventually("the port to be closed", async || TcpStream::connect(("127.0.0.1", port)).await.err()).await;
    let answer = slow.finish().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connection: close"), "{answer}");
    assert_eq!(node.ended().await.0, Some(0));
}

#[tokio::test]
async fn a_port_in_use_is_a_problem_of_the_app_until_it_is_free() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    let taken = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    operator.assign(&assignment(&app, port, vec![revision("v1", parcels.add(guest("one")), &parcels.url)], "v1")).await;
    let report = operator.report(&app, |report| report.problem.is_some()).await;
    assert_eq!(report.serving, None);
    let problem = report.problem.unwrap();
    assert_eq!((problem.reason.as_str(), problem.retrying), ("PortInUse", true));
    assert!(problem.message.contains(&port.to_string()));
    drop(taken);
    operator.serving(&app, "v1").await;
}

#[tokio::test]
async fn broken_requests_and_headers_too_large_are_answered_and_http2_is_spoken() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    operator.assign(&assignment(&app, port, vec![revision("v1", parcels.add(guest("one")), &parcels.url)], "v1")).await;
    operator.serving(&app, "v1").await;
    let large = format!("GET / HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n", "x".repeat(80_000));
    for (request, status) in [("BROKEN\r\n\r\n", "HTTP/1.1 400"), (large.as_str(), "HTTP/1.1 431")] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        in_time(status, stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, status.as_bytes());
    }
    let stream = hyper_util::rt::TokioIo::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let request = hyper::Request::get(format!("http://127.0.0.1:{port}/")).body(String::new()).unwrap();
    let response = in_time("a response", sender.send_request(request)).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, hyper::Version::HTTP_2));
}

#[tokio::test]
async fn content_that_no_app_needs_any_more_is_freed_and_what_another_shares_stays() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (shared, own) = (parcels.add(guest("shared")), parcels.add(guest("own")));
    let (a, b, c) = (key("a"), key("b"), key("c"));
    let port = free_port();
    for (app, wasm, port) in [(&a, shared, free_port()), (&b, shared, port), (&c, own, free_port())] {
        operator.assign(&assignment(app, port, vec![revision("v1", wasm, &parcels.url)], "v1")).await;
        operator.serving(app, "v1").await;
    }
    operator.say(ToRuntime::Remove(a.clone())).await;
    operator.say(ToRuntime::Remove(c.clone())).await;
    operator.gone(&a).await;
    operator.gone(&c).await;
    assert_eq!(node.has(&own), (true, true), "nothing is freed before the operator has said everything");
    operator.say(ToRuntime::Synced).await;
    eventually("content to be freed", async || (node.has(&own) == (false, false)).then_some(())).await;
    assert_eq!(node.has(&shared), (true, true));
    assert_eq!(ask(port).await.unwrap(), (200, "shared".to_owned()));
    operator.say(ToRuntime::Remove(b)).await;
    eventually("the rest to be freed", async || (node.has(&shared) == (false, false)).then_some(())).await;
    operator.assign(&assignment(&c, port, vec![revision("v1", own, &parcels.url)], "v1")).await;
    operator.serving(&c, "v1").await;
    assert_eq!(ask(port).await.unwrap(), (200, "own".to_owned()), "what was freed is fetched again");
}

#[tokio::test]
async fn an_app_s_stores_survive_revisions_and_crashes_and_are_gone_with_the_app() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let wasm = parcels.add(remembering_guest(201));
    let [v1, v2] = ["v1", "v2"].map(|id| {
        let mut revision = revision(id, wasm, &parcels.url);
        for component in revision.application.components.values_mut() {
            component.key_value_stores.push("default".to_owned());
        }
        revision
    });
    let status = async |port| ask(port).await.unwrap().0;
    let (cart, till) = ((key("cart"), free_port()), (key("till"), free_port()));
    for (app, port) in [&cart, &till] {
        operator.assign(&assignment(app, *port, vec![v1.clone()], "v1")).await;
        operator.serving(app, "v1").await;
        assert_eq!((status(*port).await, status(*port).await), (201, 200), "no app sees what another stored");
    }
    operator.assign(&assignment(&cart.0, cart.1, vec![v2], "v2")).await;
    operator.serving(&cart.0, "v2").await;
    assert_eq!(status(cart.1).await, 200);
    eventually("assignments on disk", async || {
        std::fs::read_to_string(node.assignment_file(&cart.0)).is_ok_and(|kept| kept.contains("v2")).then_some(())
    })
    .await;
    let (dir, pki) = node.crash().await;

    let node = Node::start_in(dir, pki).await;
    eventually("the app to be served", async || ask(cart.1).await.ok().filter(|answer| answer.0 == 200)).await;
    let stores = |app: &AppKey| node.dir.path().join("data/stores").join(app.namespace()).join(app.name());
    assert!(stores(&cart.0).join("sqlite_key_value.db").is_file());
    let (mut operator, _) = node.operator(1).await;
    operator.say(ToRuntime::Remove(cart.0.clone())).await;
    operator.say(ToRuntime::Synced).await;
    eventually("the stores to be removed", async || (!stores(&cart.0).exists()).then_some(())).await;
    assert!(stores(&till.0).exists());
    assert_eq!(status(till.1).await, 200);
}

#[tokio::test]
async fn an_update_that_is_not_over_is_told_to_the_next_operator() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, other) = (key("cart"), key("till"));
    let one = revision("v1", parcels.add(guest("one")), &parcels.url);
    let broken = revision("v2", parcels.add("no wasm"), &parcels.url);
    let told = assignment(&app, free_port(), vec![one.clone(), broken], "v1");
    operator.assign(&told).await;
    operator.serving(&app, "v1").await;
    operator.assign(&assignment(&other, free_port(), vec![one], "v1")).await;
    operator.serving(&other, "v1").await;
    let (_next, welcome) = node.operator(2).await;
    assert_eq!(welcome.inventory.rollouts, [told]);
    assert_eq!(welcome.inventory.assigned.len(), 2);
}

#[tokio::test]
async fn a_revision_that_serves_although_it_is_listed_no_more_survives_a_crash() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let (app, port) = (key("cart"), free_port());
    let one = parcels.add(guest("one"));
    let v1 = revision("v1", one, &parcels.url);
    let nonsense = parcels.add("no wasm");
    let broken = revision("v2", nonsense, &parcels.url);
    operator.say(ToRuntime::Synced).await;
    operator.assign(&assignment(&app, port, vec![v1.clone()], "v1")).await;
    operator.serving(&app, "v1").await;
    operator.assign(&assignment(&app, port, vec![broken.clone()], "v2")).await;
    let failed = |state: Option<&RevisionState>| matches!(state, Some(RevisionState::Failed(_)));
    operator.report(&app, |report| failed(report.revisions.get(&RevisionId("v2".to_owned())))).await;
    let kept = assignment(&app, port, vec![v1, broken], "v2");
    let file = node.assignment_file(&app);
    let both = [one.digest.to_string(), nonsense.digest.to_string()];
    let has_both = |kept: String| both.iter().all(|digest| kept.contains(digest));
    let is_kept = async || std::fs::read_to_string(&file).is_ok_and(has_both).then_some(());
    eventually("the old revision to be on disk with the new one", is_kept).await;
    let (dir, pki) = node.crash().await;
    let node = Node::start_in(dir, pki).await;
    eventually("an answer", async || ask(port).await.ok().filter(|answer| *answer == (200, "one".to_owned()))).await;
    let (mut operator, welcome) = node.operator(2).await;
    assert_eq!(welcome.inventory.rollouts, [kept]);

    let two = parcels.add(guest("two"));
    operator.say(ToRuntime::Synced).await;
    operator.assign(&assignment(&app, port, vec![revision("v3", two, &parcels.url)], "v3")).await;
    operator.serving(&app, "v3").await;
    eventually("the old revision to be freed", async || (node.has(&one) == (false, false)).then_some(())).await;
    assert_eq!(node.has(&two), (true, true));
}

#[tokio::test]
async fn a_process_may_have_as_many_files_open_as_its_limit_allows() {
    let node = Node::start().await;
    let (now, most) = node.open_files();
    assert_eq!(now, most);
}

#[tokio::test]
async fn routes_that_never_answer_are_warned_about_when_a_revision_is_loaded() {
    let (node, parcels) = (Node::start().await, Parcels::start().await);
    let (mut operator, _) = node.operator(1).await;
    let app = key("cart");
    let mut v1 = revision("v1", parcels.add(guest("one")), &parcels.url);
    let route = v1.application.routes[0].clone();
    v1.application.routes.push(route);
    operator.assign(&assignment(&app, free_port(), vec![v1], "v1")).await;
    operator.serving(&app, "v1").await;
    let line = node.logged("a route does not do what it says").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((line["level"].as_str(), line["app"].as_str()), (Some("WARN"), Some("shop/cart")), "{line}");
    assert_eq!(line["revision"].as_str(), Some("v1"), "{line}");
}
