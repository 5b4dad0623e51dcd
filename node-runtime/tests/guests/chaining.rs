//! Components that call each other, and their own application, without a socket.

use http::Request;
use http_body_util::BodyExt as _;
use manifest::{Executor, WagiExecutor};

use crate::support::{App, SHORT, engine_with, guest, legacy_with};

fn caller() -> App {
    App::of(&guest("http-rust")).allow("http://*.spin.internal")
}

fn to(component: &str, path: &str) -> String {
    format!("/call?url=http://{component}.spin.internal{}", path.replace('?', "%3F").replace('&', "%26"))
}

#[tokio::test]
async fn a_private_component_is_called_by_its_name_whatever_kind_of_guest_it_is() {
    let legacy = legacy_with("", "(i32.const 1000)");
    let served = caller()
        .private("http", &guest("http-rust"), Executor::Spin)
        .private("p3", &guest("http-p3"), Executor::Spin)
        .private("old", &legacy, Executor::Spin)
        .private("wagi", &guest("wagi-rust"), Executor::Wagi(WagiExecutor::default()))
        .serve()
        .await;
    assert_eq!(served.get(&to("http", "/")).await.text(), "Hello from Rust\n");
    assert_eq!(served.get(&to("p3", "/")).await.text(), "Hello from WASI 0.3\n");
    assert_eq!(served.get(&to("old", "/")).await.text(), "hello");
    assert!(served.get(&to("wagi", "/")).await.text().starts_with("Hello from Wagi Rust"));
}

#[tokio::test]
async fn a_component_of_wasi_0_3_calls_others_and_its_own_application() {
    let allowed = ["http://*.spin.internal", "http://self"];
    let served = allowed
        .iter()
        .fold(App::of(&guest("http-p3")), |app, host| app.allow(host))
        .private("p3", &guest("http-p3"), Executor::Spin)
        .private("http", &guest("http-rust"), Executor::Spin)
        .serve()
        .await;
    let fetch = |url: &str| format!("/fetch?url={}", url.replace('?', "%3F").replace('&', "%26"));
    for (url, said) in [
        ("http://p3.spin.internal/", "Hello from WASI 0.3\n"),
        ("http://http.spin.internal/", "Hello from Rust\n"),
        ("http://http.spin.internal/stream?chunks=2&ms=1", "chunk 0\nchunk 1\n"),
        ("http://self.alt/", "Hello from WASI 0.3\n"),
        ("http://self.alt/stream?chunks=2&ms=1", "chunk 0\nchunk 1\n"),
    ] {
        let reply = served.get(&fetch(url)).await;
        assert_eq!((reply.status, reply.text()), (200, said), "{url}");
    }
}

#[tokio::test]
async fn a_component_that_is_called_sees_itself_and_no_host_or_client() {
    let served = caller().private("other", &guest("http-rust"), Executor::Spin).serve().await;
    let request = Request::post(to("other", "/headers?a=b")).header("x-mine", "one").header("spin-path-info", "forged");
    let reply = served.send_body(request, "body").await;
    for line in [
        "POST /headers?a=b",
        "x-mine: one",
        "spin-full-url: http://other.spin.internal/headers?a=b",
        "spin-path-info: /headers",
        "spin-matched-route: /...",
        "spin-raw-component-route: /...",
        "spin-base-path: /",
        "spin-client-addr: 0.0.0.0:0",
    ] {
        assert!(reply.has_line(line), "{line} is not in {}", reply.text());
    }
    assert!(!reply.text().contains("host:"), "{}", reply.text());
}

#[tokio::test]
async fn bodies_are_streamed_both_ways_between_components() {
    let app = App::on(engine_with(|_| {}), &guest("http-rust")).allow("http://*.spin.internal");
    let served = app.private("other", &guest("http-rust"), Executor::Spin).serve().await;
    let large = vec![b'x'; 3 << 20];
    assert_eq!(served.send_body(Request::post(to("other", "/echo")), large.clone()).await.body, large);
    let trailers = served.get_h2(&to("other", "/trailers")).await;
    assert_eq!((trailers.text(), trailers.trailer("x-trailer")), ("body\n", "end"));
    // The first piece is there long before the last.
    let request = Request::get(to("other", "/stream?chunks=2&ms=3600000")).body(http_body_util::Empty::new()).unwrap();
    let (mut response, connection) = served.begin(request).await;
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "chunk 0\n");
    // Who goes away takes all of them along.
    drop((response, connection));
    served.idle().await;
}

#[tokio::test]
async fn who_is_not_allowed_or_not_there_is_not_called() {
    let other = guest("http-rust");
    let refusal = async |app: App, url: &str| app.serve().await.get(url).await.text().to_owned();
    let closed = App::of(&other).private("other", &other, Executor::Spin);
    assert_eq!(refusal(closed, &to("other", "/")).await, "ErrorCode::HttpRequestDenied\n");
    let beside = App::of(&other).private("other", &other, Executor::Spin).allow("http://else.spin.internal");
    assert_eq!(refusal(beside, &to("other", "/")).await, "ErrorCode::HttpRequestDenied\n");
    let one = App::of(&other).private("other", &other, Executor::Spin).allow("http://other.spin.internal");
    assert_eq!(refusal(one, &to("other", "/")).await, "Hello from Rust\n");
    assert_eq!(refusal(caller(), &to("nobody", "/")).await, "ErrorCode::DestinationNotFound\n");
    let secure = caller().allow("https://*.spin.internal").private("other", &other, Executor::Spin);
    let told = refusal(secure, "/call?url=https://other.spin.internal/").await;
    assert_eq!(told, "ErrorCode::HttpProtocolError\n");
}

#[tokio::test]
async fn the_failure_of_a_component_is_the_response_of_a_server() {
    let served = caller().private("other", &guest("http-rust"), Executor::Spin).serve().await;
    assert_eq!(served.get(&to("other", "/panic")).await.status, 500);
    let request = Request::get(to("other", "/partial")).body(http_body_util::Empty::new()).unwrap();
    let (response, _connection) = served.begin(request).await;
    assert!(response.status() == 500 || crate::support::collect(response).await.is_err());
}

#[tokio::test]
async fn a_relative_url_is_the_own_application_where_self_is_allowed() {
    for entry in ["http://self", "https://self", "http://self.alt", "http://*"] {
        let served = App::of(&guest("http-rust")).allow(entry).serve().await;
        let reply = served.get("/call?url=/headers%3Fa").await;
        assert!(reply.has_line("GET /headers?a") && reply.has_line("spin-matched-route: /..."), "{}", reply.text());
        assert_eq!(served.get("/call?url=https://self.alt/v").await.status, 200, "{entry}");
        // As Spin's SDKs send it.
        for empty in ["http://:80/v", "https://:443/v"] {
            assert_eq!(served.get(&format!("/call?url={empty}")).await.status, 200, "{entry} {empty}");
        }
    }
    let served = App::of(&guest("http-rust")).allow("http://self").serve().await;
    assert_eq!(served.get("/call?url=/.well-known/spin/health").await.text(), "OK");
    let closed = App::of(&guest("http-rust")).allow("http://example.com").serve().await;
    for denied in ["/v", "http://:80/v"] {
        assert_eq!(
            closed.get(&format!("/call?url={denied}")).await.text(),
            "ErrorCode::HttpRequestDenied\n",
            "{denied}"
        );
    }
}

#[tokio::test]
async fn a_chain_of_calls_ends() {
    let served = App::of(&guest("http-rust")).allow("http://self").serve().await;
    // Each call asks for the next: one that is written out for every level would not fit.
    let nested =
        (0..3).fold("/v".to_owned(), |path, _| format!("/call?url={}", path.replace('%', "%25").replace('?', "%3F")));
    assert_eq!(served.get(&nested).await.status, 200);
    let endless = crate::support::text(include_str!("calls_itself.wat"));
    let served = App::of(&endless).allow("http://self").serve().await;
    let reply = served.get("/").await;
    assert_eq!((reply.status, reply.text()), (403, ""), "the innermost call failed, and each caller passed that on");
}

#[tokio::test]
async fn a_component_that_is_called_has_no_more_time_than_its_caller() {
    let other = guest("http-rust");
    let app = App::on(engine_with(|_| {}), &other).allow("http://*.spin.internal");
    let served = app.private("other", &other, Executor::Spin).timeout(SHORT).serve().await;
    assert_eq!(served.get(&to("other", "/sleep?ms=3600000")).await.status, 504);
    served.idle().await;
}
