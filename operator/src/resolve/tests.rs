//! A resolver with an oracle that a test commands.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Fails as many times as it is told to, then answers.
struct Flaky {
    failures: AtomicUsize,
    asked: AtomicUsize,
}

impl Oracle for Flaky {
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<Answer, Problem>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let fails = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        Box::pin(async move {
            if fails {
                Err(Problem { reason: "Unreachable".to_owned(), message: "no".to_owned(), retrying: true })
            } else {
                Ok(answer(&question.id))
            }
        })
    }
}

fn answer(name: &str) -> Answer {
    let application = serde_json::json!({ "name": name, "routes": [], "components": {} });
    let application = Application::from_json(application.to_string().as_bytes()).unwrap();
    Answer { application, digest: Digest::of(name.as_bytes()) }
}

fn question(id: &str, password: Option<&str>) -> Question {
    let credentials =
        |password: &str| Credentials { username: "u".to_owned(), password: control::SecretString::new(password) };
    Question { server: "http://127.0.0.1:1/v1".to_owned(), id: id.to_owned(), credentials: password.map(credentials) }
}

fn app(name: &str) -> AppKey {
    AppKey::new("shop", name).unwrap()
}

fn resolver(failures: usize) -> (Arc<Resolver>, Arc<Flaky>, Arc<Queue>) {
    let oracle = Arc::new(Flaky { failures: AtomicUsize::new(failures), asked: AtomicUsize::new(0) });
    let queue = Arc::new(Queue::default());
    let resolver = Resolver::new(Arc::clone(&oracle) as _, Arc::clone(&queue), Metrics::detached());
    (Arc::new(resolver), oracle, queue)
}

/// Polls the resolver until an app is to be looked at.
async fn until_trigger(resolver: &Resolver, queue: &Queue) -> AppKey {
    let trigger = tokio::select! {
        () = resolver.run() => unreachable!("runs for ever"),
        trigger = queue.next(true) => trigger,
    };
    let Trigger::App(app) = trigger else { panic!("{trigger:?}") };
    queue.done(&app, crate::queue::Again::OnChange);
    app
}

#[tokio::test]
async fn a_bundle_is_asked_for_once_for_all_apps_and_for_good() {
    let (resolver, oracle, queue) = resolver(0);
    assert_eq!(resolver.look_up(&app("cart"), &question("a/1.0.0", None)), Bundle::Pending);
    assert_eq!(resolver.look_up(&app("pay"), &question("a/1.0.0", None)), Bundle::Pending);
    until_trigger(&resolver, &queue).await;
    assert!(matches!(resolver.look_up(&app("pay"), &question("a/1.0.0", None)), Bundle::Resolved { .. }));
    resolver.forget(&app("cart"));
    resolver.forget(&app("pay"));
    assert!(matches!(resolver.look_up(&app("new"), &question("a/1.0.0", None)), Bundle::Resolved { .. }));
    assert_eq!(oracle.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn another_password_is_another_question() {
    let (resolver, _oracle, queue) = resolver(0);
    resolver.look_up(&app("cart"), &question("a/1.0.0", Some("old")));
    until_trigger(&resolver, &queue).await;
    assert_eq!(resolver.look_up(&app("cart"), &question("a/1.0.0", Some("new"))), Bundle::Pending);
}

#[tokio::test]
async fn a_failure_is_told_once_and_asked_again_until_it_is_none() {
    let (resolver, oracle, queue) = resolver(2);
    resolver.look_up(&app("cart"), &question("a/1.0.0", None));
    let looks = async {
        let mut seen = Vec::new();
        while !matches!(seen.last(), Some(Bundle::Resolved { .. })) {
            queue.next(true).await;
            seen.push(resolver.look_up(&app("cart"), &question("a/1.0.0", None)));
            queue.done(&app("cart"), crate::queue::Again::OnChange);
        }
        seen
    };
    let seen = tokio::select! {
        () = resolver.run() => unreachable!("runs for ever"),
        seen = looks => seen,
    };
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(matches!(&seen[0], Bundle::Failed(problem) if problem.reason == "Unreachable"));
    assert_eq!(oracle.asked.load(Ordering::SeqCst), 3);
}

/// Panics the first time, then answers: while it says what to ask, or only when it is polled.
struct Panicking(AtomicUsize, bool);

impl Oracle for Panicking {
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<Answer, Problem>> {
        let (first, late) = (self.0.fetch_add(1, Ordering::SeqCst) == 0, self.1);
        assert!(late || !first, "at once");
        Box::pin(async move {
            assert!(!first, "later");
            Ok(answer(&question.id))
        })
    }
}

#[tokio::test]
async fn a_panic_is_a_failure_that_is_told_and_asked_again() {
    for late in [false, true] {
        let queue = Arc::new(Queue::default());
        let oracle = Arc::new(Panicking(AtomicUsize::new(0), late));
        let resolver = Resolver::new(oracle, Arc::clone(&queue), Metrics::detached());
        let cart = || resolver.look_up(&app("cart"), &question("a/1.0.0", None));
        assert_eq!(cart(), Bundle::Pending);
        let looks = async {
            let mut seen = Vec::new();
            for _ in 0..2 {
                queue.next(true).await;
                seen.push(cart());
                queue.done(&app("cart"), crate::queue::Again::OnChange);
            }
            seen
        };
        let seen = tokio::select! {
            () = resolver.run() => unreachable!("runs for ever"),
            seen = looks => seen,
        };
        assert!(matches!(&seen[0], Bundle::Failed(problem) if problem.reason == "InternalError"), "{seen:?}");
        assert!(matches!(&seen[1], Bundle::Resolved { .. }), "{seen:?}");
    }
}

#[test]
fn what_is_given_up_and_wanted_again_is_asked_once_at_a_time() {
    let (resolver, _oracle, _queue) = resolver(0);
    let no_answer = || Err(Problem { reason: "Unreachable".to_owned(), message: "no".to_owned(), retrying: true });
    let wanted = || {
        resolver.look_up(&app("cart"), &question("a/1.0.0", None));
        resolver.take_new().remove(0)
    };
    let first = resolver.answered(wanted(), no_answer()).expect("it is asked again");
    resolver.forget(&app("cart"));
    let second = wanted();
    assert!(resolver.answered(first, no_answer()).is_none(), "nobody waits for this answer");
    assert!(resolver.answered(second, no_answer()).is_some());
}

#[tokio::test]
async fn apps_that_went_while_nobody_looked_are_forgotten_and_their_failures_asked_about_no_more() {
    let (resolver, _oracle, _queue) = resolver(0);
    let no_answer = || Err(Problem { reason: "Unreachable".to_owned(), message: "no".to_owned(), retrying: true });
    for name in ["gone", "stays"] {
        resolver.look_up(&app(name), &question(&format!("{name}/1.0.0"), None));
    }
    let asked: Vec<Asking> = resolver.take_new();
    resolver.forget_all_but(&[app("stays")].into());
    let again: Vec<bool> = asked.into_iter().map(|one| resolver.answered(one, no_answer()).is_some()).collect();
    assert_eq!(again, [false, true]);
    let inner = resolver.lock();
    assert_eq!((inner.by_app.len(), inner.entries.len()), (1, 1));
}

#[tokio::test]
async fn answers_that_nobody_wants_are_bounded() {
    let (resolver, _oracle, _queue) = resolver(0);
    for number in 0..2 * REMEMBERED {
        resolver.look_up(&app("cart"), &question(&format!("a/{number}.0.0"), None));
    }
    assert!(resolver.lock().entries.len() <= REMEMBERED + 1);
}
