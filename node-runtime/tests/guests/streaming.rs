//! What components do alike whose bodies are streams, whether they are of WASI 0.2 or 0.3.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::support::{AMPLE, App, Served, collect, engine_with, guest};

/// One guest of each version. They answer the same paths.
const BOTH: [&str; 2] = ["http-rust", "http-p3"];

fn app(name: &str) -> App {
    App::of(&guest(name))
}

/// A request for what the guest would not be done with for an hour.
fn endless() -> Request<String> {
    Request::get("/stream?chunks=2&ms=3600000").body(String::new()).unwrap()
}

/// A request body that is sent piece by piece.
pub(crate) fn pieces()
-> (mpsc::Sender<Frame<Bytes>>, impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static) {
    let (sender, receiver) = mpsc::channel::<Frame<Bytes>>(4);
    let frames = futures::stream::unfold(receiver, |mut r| async { r.recv().await.map(|frame| (Ok(frame), r)) });
    (sender, StreamBody::new(frames))
}

pub(crate) fn data(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

/// Waits until no instance is left, which must not take until a deadline.
async fn idle(served: &Served) {
    tokio::time::timeout(Duration::from_secs(30), served.idle()).await.unwrap();
}

#[tokio::test]
async fn an_empty_answer_has_length_zero() {
    for name in BOTH {
        let reply = app(name).serve().await.get("/status?code=404").await;
        assert_eq!((reply.status, reply.text(), reply.header("content-length")), (404, "", "0"), "{name}");
    }
}

#[tokio::test]
async fn bodies_are_streamed_in_both_directions_at_once() {
    for name in BOTH {
        let served = app(name).serve().await;
        let (sender, body) = pieces();
        sender.send(data("one")).await.unwrap();
        let (response, _connection) = served.begin(Request::post("/echo").body(body).unwrap()).await;
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one", "{name}");
        // What is sent now is answered before the request ends.
        sender.send(data("two")).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two", "{name}");
        drop(sender);
        assert!(body.frame().await.is_none(), "{name}");
    }
}

#[tokio::test]
async fn a_guest_may_answer_while_the_request_is_still_being_sent() {
    for (name, path, answer) in [("http-rust", "/", "Hello from Rust\n"), ("http-p3", "/early", "early\n")] {
        let served = app(name).serve().await;
        let (sender, body) = pieces();
        sender.send(data("one")).await.unwrap();
        let (response, _connection) = served.begin(Request::post(path).body(body).unwrap()).await;
        assert_eq!(collect(response).await.unwrap().text(), answer, "{name}");
        drop(sender);
    }
}

#[tokio::test]
async fn large_bodies_pass_whole_without_being_held_in_memory() {
    for name in BOTH {
        // What passes is more than the guest or the buffer for bodies may hold.
        let served = app(name).memory(8 << 20).serve().await;
        let large: Vec<u8> = (0..32 << 20).map(|index: u32| index.to_le_bytes()[1]).collect();
        assert!(served.send_body(Request::post("/echo"), large.clone()).await.body == large, "{name}");
        assert_eq!(served.get("/large?bytes=50000000").await.body.len(), 50_000_000, "{name}");
    }
}

#[tokio::test]
async fn the_first_bytes_leave_before_the_last_are_written() {
    for name in BOTH {
        let served = app(name).serve().await;
        let (response, _connection) = served.begin(endless()).await;
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "chunk 0\n", "{name}");
        assert_eq!(served.get("/stream?chunks=3&ms=1").await.text(), "chunk 0\nchunk 1\nchunk 2\n", "{name}");
    }
}

#[tokio::test]
async fn a_panic_is_an_empty_500_and_its_message_is_logged() {
    for name in BOTH {
        let served = app(name).serve().await;
        let reply = served.get("/panic").await;
        assert_eq!((reply.status, reply.text()), (500, ""), "{name}");
        assert!(served.lines().iter().any(|line| line.contains("asked to panic")), "{:?}", served.lines());
    }
}

#[tokio::test]
async fn a_guest_that_loops_or_sleeps_past_its_deadline_is_a_504_and_others_go_on() {
    for name in BOTH {
        let served = app(name).timeout(AMPLE).serve().await;
        let (looping, sleeping, fine) =
            tokio::join!(served.get("/spin"), served.get("/sleep?ms=3600000"), served.get("/"));
        assert_eq!((looping.status, looping.text()), (504, ""), "{name}");
        assert_eq!((sleeping.status, fine.status), (504, 200), "{name}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_finished_at_the_deadline_is_cut_off() {
    for name in BOTH {
        let served = app(name).timeout(AMPLE).serve().await;
        let (response, _connection) = served.begin(endless()).await;
        assert_eq!(response.status(), 200, "{name}");
        collect(response).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_guest_that_takes_all_memory_is_a_500() {
    for name in BOTH {
        assert_eq!(app(name).memory(16 << 20).serve().await.get("/oom").await.status, 500, "{name}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_guest_along() {
    for name in BOTH {
        let served = App::on(engine_with(|_| {}), &guest(name)).serve().await;
        let (response, connection) = served.begin(endless()).await;
        assert!(served.engine.live_instances() > 0, "{name}");
        drop((response, connection));
        idle(&served).await;
    }
}

#[tokio::test]
async fn a_request_beyond_the_last_instance_is_a_503() {
    for name in BOTH {
        let served = App::on(engine_with(|config| config.max_instances = 1), &guest(name)).serve().await;
        let (response, connection) = served.begin(endless()).await;
        assert_eq!(served.get("/").await.status, 503, "{name}");
        drop((response, connection));
        idle(&served).await;
        assert_eq!(served.get("/").await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn without_a_pool_guests_run_too() {
    let engine = engine_with(|config| config.pooling = false);
    assert!(!engine.is_pooling());
    for name in BOTH {
        assert_eq!(App::on(engine.clone(), &guest(name)).serve().await.get("/").await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn calls_go_to_hosts_that_are_allowed_and_nowhere_else() {
    let other = app("http-rust").env("VERSION", "9").serve().await;
    let fetch = format!("/fetch?url=http://{}/v", other.address);
    for name in BOTH {
        let denied = app(name).serve().await.get(&fetch).await;
        assert_eq!(denied.status, 502, "{name}");
        assert!(denied.text().contains("HttpRequestDenied"), "{}", denied.text());
        let beside = app(name).allow("http://127.0.0.1:1").serve().await.get(&fetch).await;
        assert_eq!(beside.status, 502, "{name}");
        let reply = app(name).allow(&format!("http://{}", other.address)).serve().await.get(&fetch).await;
        assert_eq!((reply.status, reply.text()), (200, "9\n"), "{name}");
    }
}

#[tokio::test]
async fn environment_and_output_are_those_of_every_guest() {
    for name in BOTH {
        let served = app(name).env("A", "1").serve().await;
        assert_eq!(served.get("/env").await.text(), "A=1\n", "{name}");
        served.get("/log?line=hello").await;
        assert_eq!(served.lines(), ["stdout: stdout: hello", "stderr: stderr: hello"], "{name}");
    }
}
