//! Components of WASI 0.2 that handle HTTP; what they have in common with those of 0.3 is in `streaming`.

use futures::StreamExt as _;
use http::{Method, Request};

use crate::support::{App, Served, collect, guest};

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
async fn many_requests_at_once_are_answered() {
    let served = served().await;
    let replies = futures::stream::iter(0..200).map(|_| served.get("/")).buffer_unordered(50);
    assert!(replies.all(|reply| async move { reply.status == 200 }).await);
}
