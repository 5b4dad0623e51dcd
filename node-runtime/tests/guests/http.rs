//! Components that handle HTTP: streams, outgoing calls, faults.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::support::{App, SHORT, Served, collect, engine_with, guest};

fn app() -> App {
    App::of(&guest("http-rust"))
}

async fn served() -> Served {
    app().serve().await
}

#[tokio::test]
async fn a_component_answers_with_what_it_set_and_nothing_else() {
    let reply = served().await.get("/").await;
    assert_eq!((reply.status, reply.text()), (200, "Hello from Rust\n"));
    let names: Vec<&str> = reply.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["content-type", "content-length", "date"]);
}

#[tokio::test]
async fn an_empty_answer_has_length_zero() {
    let reply = served().await.get("/status?code=404").await;
    assert_eq!((reply.status, reply.text(), reply.header("content-length")), (404, "", "0"));
}

#[tokio::test]
async fn the_methods_of_spin_reach_a_component_and_no_other_does() {
    let served = served().await;
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let reply = served.send(Request::builder().method(method).uri("/headers?q")).await;
        assert!(reply.has_line(&format!("{method} /headers?q")), "{}", reply.text());
    }
    for method in ["TRACE", "PROPFIND", "BREW"] {
        assert_eq!(served.send(Request::builder().method(method).uri("/headers?q")).await.status, 405);
    }
    let connect = Request::builder().method(Method::CONNECT).uri("example.com:80").body(String::new()).unwrap();
    assert_eq!(served.begin(connect).await.0.status(), 405);
}

#[tokio::test]
async fn a_component_is_told_its_route_its_host_and_not_what_callers_forge() {
    let served = served().await;
    let request = Request::get("/headers").header("spin-path-info", "evil").header("host", "shop.example:8080");
    let reply = served.send(request).await;
    for line in [
        "host: shop.example:8080",
        "spin-full-url: http://shop.example:8080/headers",
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
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let chunks = futures::stream::unfold(receiver, |mut r| async { r.recv().await.map(|frame| (frame, r)) });
    let request = Request::post("/echo").body(StreamBody::new(chunks)).unwrap();
    let send = |text: &'static str| sender.send(Ok(Frame::data(Bytes::from_static(text.as_bytes()))));
    send("one").await.unwrap();
    let (response, _connection) = served.begin(request).await;
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    // What is sent now is answered before the request ends.
    send("two").await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    drop(sender);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_guest_may_answer_while_the_request_is_still_being_sent() {
    let served = served().await;
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let chunks = futures::stream::unfold(receiver, |mut r| async { r.recv().await.map(|frame| (frame, r)) });
    sender.send(Ok(Frame::data(Bytes::from_static(b"one")))).await.unwrap();
    let (response, _connection) = served.begin(Request::post("/").body(StreamBody::new(chunks)).unwrap()).await;
    assert_eq!(collect(response).await.unwrap().text(), "Hello from Rust\n");
    drop(sender);
}

#[tokio::test]
async fn large_bodies_pass_whole() {
    let served = served().await;
    let large: Vec<u8> = (0..8 << 20).map(|index: u32| index.to_le_bytes()[1]).collect();
    assert_eq!(served.send_body(Request::post("/echo"), large.clone()).await.body, large);
    assert_eq!(served.get("/large?bytes=10000000").await.body.len(), 10_000_000);
}

#[tokio::test]
async fn the_first_bytes_leave_before_the_last_are_written() {
    // The guest would not be done for an hour.
    let (response, _connection) =
        served().await.begin(Request::get("/stream?chunks=2&ms=3600000").body(String::new()).unwrap()).await;
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "chunk 0\n");
    let served = served().await;
    assert_eq!(served.get("/stream?chunks=3&ms=1").await.text(), "chunk 0\nchunk 1\nchunk 2\n");
}

#[tokio::test]
async fn trailers_reach_the_client() {
    let served = served().await;
    let request = Request::get("/trailers").header("te", "trailers").body(String::new()).unwrap();
    let (response, _connection) = served.begin(request).await;
    let reply = collect(response).await.unwrap();
    assert_eq!(reply.text(), "body\n");
    // HTTP/1.1 carries only trailers that the head announces, and the guest announces none.
    assert!(reply.trailers.is_none_or(|trailers| trailers["x-trailer"] == "end"));
}

#[tokio::test]
async fn a_panic_is_an_empty_500_and_its_message_is_logged() {
    let served = served().await;
    let reply = served.get("/panic").await;
    assert_eq!((reply.status, reply.text()), (500, ""));
    assert!(served.lines().iter().any(|line| line.contains("asked to panic")), "{:?}", served.lines());
}

#[tokio::test]
async fn a_guest_that_never_answers_is_a_500() {
    assert_eq!(served().await.get("/silent").await.status, 500);
}

#[tokio::test]
async fn a_guest_that_fails_within_the_body_never_looks_complete() {
    let served = served().await;
    let (response, _connection) = served.begin(Request::get("/partial").body(String::new()).unwrap()).await;
    if response.status() == 200 {
        collect(response).await.unwrap_err();
    } else {
        assert_eq!(response.status(), 500);
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
    let engine = engine_with(|_| {});
    let served = App::on(engine, &guest("http-rust")).serve().await;
    let request = Request::get("/stream?chunks=2&ms=3600000").body(String::new()).unwrap();
    let (response, connection) = served.begin(request).await;
    assert!(served.engine.live_instances() > 0);
    drop((response, connection));
    tokio::time::timeout(Duration::from_secs(10), served.idle()).await.unwrap();
}

#[tokio::test]
async fn a_request_beyond_the_last_instance_is_a_503() {
    let engine = engine_with(|config| config.max_instances = 1);
    let served = App::on(engine, &guest("http-rust")).serve().await;
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
    assert!(!engine.is_pooling());
    assert_eq!(App::on(engine, &guest("http-rust")).serve().await.get("/").await.status, 200);
}

#[tokio::test]
async fn a_call_to_a_host_that_is_not_allowed_is_denied() {
    let other = served().await;
    let reply = app().serve().await.get(&format!("/fetch?url=http://{}/v", other.address)).await;
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains("HttpRequestDenied"), "{}", reply.text());
    let beside = app().allow("http://127.0.0.1:1").serve().await;
    assert_eq!(beside.get(&format!("/fetch?url=http://{}/v", other.address)).await.status, 502);
}

#[tokio::test]
async fn a_call_to_a_host_that_is_allowed_succeeds() {
    let other = App::of(&guest("http-rust")).env("VERSION", "9").serve().await;
    let served = app().allow(&format!("http://{}", other.address)).serve().await;
    let reply = served.get(&format!("/fetch?url=http://{}/v", other.address)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().ends_with("9\n"), "{}", reply.text());
}

#[tokio::test]
async fn allowed_hosts_may_name_variables() {
    let other = served().await;
    let mut app = app().allow("http://{{ host }}");
    app.application
        .variables
        .insert("host".to_owned(), manifest::Variable { default: None, description: None, secret: false });
    app.settings.variables.insert("host".to_owned(), control::SecretString::new(other.address.to_string()));
    assert_eq!(app.serve().await.get(&format!("/fetch?url=http://{}/v", other.address)).await.status, 200);
}

#[tokio::test]
async fn what_a_component_prints_is_logged() {
    let served = served().await;
    served.get("/log?line=hello").await;
    assert_eq!(served.lines(), ["stdout: stdout: hello", "stderr: stderr: hello"]);
}

#[tokio::test]
async fn the_environment_is_the_component_s_own_and_nothing_else() {
    assert_eq!(app().env("A", "1").serve().await.get("/env").await.text(), "A=1\n");
}

#[tokio::test]
async fn many_requests_at_once_are_answered() {
    let served = served().await;
    let replies = futures::stream::iter(0..200).map(|_| served.get("/")).buffer_unordered(50);
    assert!(replies.all(|reply| async move { reply.status == 200 }).await);
}
