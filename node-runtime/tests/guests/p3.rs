//! Components of WASI 0.3: `wasi:http/handler@0.3`, called as those of 0.2 are.

use std::time::Duration;

use http::{HeaderMap, Request};
use hyper::body::Frame;

use crate::{
    streaming::{data, pieces},
    support::{App, Served, collect, engine_with, guest},
};

fn app() -> App {
    App::of(&guest("http-p3"))
}

async fn served() -> Served {
    app().serve().await
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
async fn a_status_that_is_not_final_is_a_500() {
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
async fn a_body_that_is_collected_is_whole() {
    let reply = served().await.send_body(Request::post("/length"), vec![b'x'; 3_000_000]).await;
    assert_eq!(reply.text(), "3000000\n");
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
async fn an_error_is_an_empty_500() {
    let reply = served().await.get("/error").await;
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
async fn a_guest_may_go_on_after_its_response_and_leaves_then() {
    let served = App::on(engine_with(|_| {}), &guest("http-p3")).serve().await;
    assert_eq!(served.get("/after?ms=50").await.text(), "done\n");
    tokio::time::timeout(Duration::from_secs(30), served.idle()).await.unwrap();
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
