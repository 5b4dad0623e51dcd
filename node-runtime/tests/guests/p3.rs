//! Components of WASI 0.3: `wasi:http/handler@0.3`, called as those of 0.2 are.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::support::{App, SHORT, Served, collect, engine_with, guest};

fn app() -> App {
    App::of(&guest("http-p3"))
}

async fn served() -> Served {
    app().serve().await
}

/// A request body that is sent piece by piece.
fn pieces() -> (mpsc::Sender<Frame<Bytes>>, impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static) {
    let (sender, receiver) = mpsc::channel::<Frame<Bytes>>(4);
    let frames = futures::stream::unfold(receiver, |mut r| async { r.recv().await.map(|frame| (Ok(frame), r)) });
    (sender, StreamBody::new(frames))
}

fn data(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn a_component_of_wasi_0_3_answers_with_what_it_set_and_nothing_else() {
    for name in ["http-p3", "http-p3.core"] {
        let reply = App::of(&guest(name)).serve().await.get("/").await;
        assert_eq!((reply.status, reply.text()), (200, "Hello from WASI 0.3\n"), "{name}");
        let names: Vec<&str> = reply.headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "content-length", "date"], "{name}");
    }
}

#[tokio::test]
async fn an_empty_answer_has_length_zero() {
    let reply = served().await.get("/status?code=404").await;
    assert_eq!((reply.status, reply.text(), reply.header("content-length")), (404, "", "0"));
    assert_eq!(served().await.get("/status?code=199").await.status, 500);
}

#[tokio::test]
async fn a_guest_is_told_its_route_its_host_and_not_what_callers_forge() {
    let served = served().await;
    let request = Request::put("/headers?q").header("spin-path-info", "evil");
    let reply = served.send(request.header("host", "shop.example:8080")).await;
    for line in [
        "PUT http://shop.example:8080/headers?q",
        "spin-full-url: http://shop.example:8080/headers?q",
        "spin-path-info: /headers",
        "spin-matched-route: /...",
    ] {
        assert!(reply.has_line(line), "{line} is not in {}", reply.text());
    }
    assert!(!reply.text().contains("evil"));
}

#[tokio::test]
async fn bodies_are_streamed_in_both_directions_at_once() {
    let served = served().await;
    let (sender, body) = pieces();
    sender.send(data("one")).await.unwrap();
    let (response, _connection) = served.begin(Request::post("/echo").body(body).unwrap()).await;
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    // What is sent now is answered before the request ends.
    sender.send(data("two")).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    drop(sender);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_guest_may_answer_while_the_request_is_still_being_sent() {
    let served = served().await;
    let (sender, body) = pieces();
    sender.send(data("one")).await.unwrap();
    let (response, _connection) = served.begin(Request::post("/early").body(body).unwrap()).await;
    assert_eq!(collect(response).await.unwrap().text(), "early\n");
    drop(sender);
}

#[tokio::test]
async fn large_bodies_pass_whole_without_being_held_in_memory() {
    // What passes is more than the guest or the buffer for bodies may hold.
    let served = app().memory(8 << 20).serve().await;
    let large: Vec<u8> = (0..32 << 20).map(|index: u32| index.to_le_bytes()[1]).collect();
    assert!(served.send_body(Request::post("/echo"), large.clone()).await.body == large);
    assert_eq!(served.get("/large?bytes=50000000").await.body.len(), 50_000_000);
}

#[tokio::test]
async fn a_body_that_is_collected_is_whole() {
    let reply = served().await.send_body(Request::post("/length"), vec![b'x'; 3_000_000]).await;
    assert_eq!(reply.text(), "3000000\n");
}

#[tokio::test]
async fn the_first_bytes_leave_before_the_last_are_written() {
    // The guest would not be done for an hour.
    let served = served().await;
    let request = Request::get("/stream?chunks=2&ms=3600000").body(String::new()).unwrap();
    let (response, _connection) = served.begin(request).await;
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "chunk 0\n");
    assert_eq!(served.get("/stream?chunks=3&ms=1").await.text(), "chunk 0\nchunk 1\nchunk 2\n");
}

#[tokio::test]
async fn trailers_pass_both_ways_and_cannot_be_forged_either() {
    let served = served().await;
    let sent = HeaderMap::from_iter([
        ("x-sum".parse().unwrap(), "42".parse().unwrap()),
        ("spin-full-url".parse().unwrap(), "evil".parse().unwrap()),
    ]);
    let (sender, body) = pieces();
    sender.send(data("one")).await.unwrap();
    sender.send(Frame::trailers(sent)).await.unwrap();
    drop(sender);
    let request = Request::post("/echo-trailers").header("trailer", "x-sum, spin-full-url").body(body).unwrap();
    let (response, _connection) = served.begin(request).await;
    assert_eq!(collect(response).await.unwrap().text(), "x-sum: 42\n");
    let reply = served.get_h2("/trailers").await;
    assert_eq!(reply.text(), "body\n");
    assert_eq!(reply.trailers.unwrap()["x-trailer"], "end");
}

#[tokio::test]
async fn a_trap_or_an_error_is_an_empty_500_and_its_message_is_logged() {
    let served = served().await;
    let reply = served.get("/panic").await;
    assert_eq!((reply.status, reply.text()), (500, ""));
    assert!(served.lines().iter().any(|line| line.contains("asked to panic")), "{:?}", served.lines());
    let reply = served.get("/error").await;
    assert_eq!((reply.status, reply.text()), (500, ""));
}

#[tokio::test]
async fn a_body_that_breaks_never_looks_complete() {
    let served = served().await;
    for path in ["/partial", "/short"] {
        let (response, _connection) = served.begin(Request::get(path).body(String::new()).unwrap()).await;
        if response.status() == 200 {
            collect(response).await.unwrap_err();
        } else {
            assert_eq!(response.status(), 500, "{path}");
        }
    }
}

#[tokio::test]
async fn a_guest_that_loops_or_sleeps_past_its_deadline_is_a_504_and_others_go_on() {
    let served = app().timeout(SHORT).serve().await;
    let (looping, sleeping, fine) = tokio::join!(served.get("/spin"), served.get("/sleep?ms=3600000"), served.get("/"));
    assert_eq!((looping.status, looping.text()), (504, ""));
    assert_eq!(sleeping.status, 504);
    assert_eq!(fine.status, 200);
}

#[tokio::test]
async fn a_body_that_is_not_finished_at_the_deadline_is_cut_off() {
    let served = app().timeout(SHORT).serve().await;
    let request = Request::get("/stream?chunks=2&ms=3600000").body(String::new()).unwrap();
    let (response, _connection) = served.begin(request).await;
    assert_eq!(response.status(), 200);
    collect(response).await.unwrap_err();
}

#[tokio::test]
async fn a_guest_that_takes_all_memory_is_a_500() {
    assert_eq!(app().memory(16 << 20).serve().await.get("/oom").await.status, 500);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_guest_along() {
    let served = App::on(engine_with(|_| {}), &guest("http-p3")).serve().await;
    let request = Request::get("/stream?chunks=2&ms=3600000").body(String::new()).unwrap();
    let (response, connection) = served.begin(request).await;
    assert!(served.engine.live_instances() > 0);
    drop((response, connection));
    tokio::time::timeout(Duration::from_secs(10), served.idle()).await.unwrap();
}

#[tokio::test]
async fn a_guest_may_go_on_after_its_response_and_leaves_then() {
    let served = App::on(engine_with(|_| {}), &guest("http-p3")).serve().await;
    assert_eq!(served.get("/after?ms=50").await.text(), "done\n");
    tokio::time::timeout(Duration::from_secs(10), served.idle()).await.unwrap();
    assert_eq!(served.lines(), ["stdout: after the response"]);
}

#[tokio::test]
async fn every_request_gets_a_fresh_instance_and_many_are_answered_at_once() {
    let served = served().await;
    let replies = (0..50).map(|_| served.get("/"));
    assert!(futures::future::join_all(replies).await.iter().all(|reply| reply.status == 200));
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let reply = served().await.send(Request::head("/")).await;
    assert_eq!((reply.status, reply.text(), reply.header("content-type")), (200, "", "text/plain"));
}

#[tokio::test]
async fn calls_go_to_hosts_that_are_allowed_and_nowhere_else() {
    let other = App::of(&guest("http-rust")).env("VERSION", "9").serve().await;
    let fetch = format!("/fetch?url=http://{}/v", other.address);
    let denied = served().await.get(&fetch).await;
    assert_eq!(denied.status, 502);
    assert!(denied.text().contains("HttpRequestDenied"), "{}", denied.text());
    let reply = app().allow(&format!("http://{}", other.address)).serve().await.get(&fetch).await;
    assert_eq!((reply.status, reply.text()), (200, "9\n"));
}

#[tokio::test]
async fn environment_and_output_are_those_of_every_guest() {
    let served = app().env("A", "1").serve().await;
    assert_eq!(served.get("/env").await.text(), "A=1\n");
    served.get("/log?line=hello").await;
    assert_eq!(served.lines(), ["stdout: stdout: hello", "stderr: stderr: hello"]);
}

#[tokio::test]
async fn a_request_beyond_the_last_instance_is_a_503() {
    let served = App::on(engine_with(|config| config.max_instances = 1), &guest("http-p3")).serve().await;
    let request = Request::get("/stream?chunks=2&ms=3600000").body(String::new()).unwrap();
    let (response, connection) = served.begin(request).await;
    assert_eq!(served.get("/").await.status, 503);
    drop((response, connection));
    tokio::time::timeout(Duration::from_secs(10), served.idle()).await.unwrap();
    assert_eq!(served.get("/").await.status, 200);
}

#[tokio::test]
async fn without_a_pool_guests_run_too() {
    let engine = engine_with(|config| config.pooling = false);
    assert_eq!(App::on(engine, &guest("http-p3")).serve().await.get("/").await.status, 200);
}
