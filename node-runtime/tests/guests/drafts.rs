//! Components of the drafts of WASI that Spin 2.0 to 2.2 ran, and those with `fermyon:spin/inbound-http`.

use http::Request;

use crate::support::{App, collect, guest};

fn october() -> App {
    App::of(&guest("http-october"))
}

#[tokio::test]
async fn components_of_the_drafts_answer() {
    for (name, greeting) in [
        ("http-october", "Hello from October 2023\n"),
        ("http-october.core", "Hello from October 2023\n"),
        ("http-november", "Hello from C\n"),
    ] {
        let served = App::of(&guest(name)).serve().await;
        let reply = served.get("/").await;
        assert_eq!((reply.status, reply.text(), reply.header("content-type")), (200, greeting, "text/plain"), "{name}");
        assert_eq!(served.send_body(Request::post("/echo"), "ping").await.text(), "ping", "{name}");
        assert!(served.get("/headers?q").await.has_line("GET /headers?q"), "{name}");
        assert_eq!(served.get("/none").await.status, 404, "{name}");
    }
}

#[tokio::test]
async fn a_component_of_october_2023_reads_files_clocks_and_environment_through_the_draft() {
    let served = october().file("a.txt", "alpha").env("A", "1").serve().await;
    assert_eq!(served.get("/file?path=/a.txt").await.text(), "alpha");
    assert_eq!(served.get("/file?path=/none").await.status, 404);
    assert_eq!(served.get("/env").await.text(), "A=1\n");
    assert_eq!(served.get("/clock").await.status, 200);
    served.get("/log?line=hello").await;
    assert_eq!(served.lines(), ["stdout: stdout: hello", "stderr: stderr: hello"]);
}

#[tokio::test]
async fn a_component_of_october_2023_calls_hosts_that_are_allowed_and_nowhere_else() {
    let other = App::of(&guest("http-rust")).env("VERSION", "9").serve().await;
    let fetch = format!("/fetch?url=http://{}/v", other.address);
    let denied = october().serve().await.get(&fetch).await;
    assert_eq!(denied.status, 502);
    let reply = october().allow(&format!("http://{}", other.address)).serve().await.get(&fetch).await;
    assert_eq!((reply.status, reply.text()), (200, "9\n"));
}

#[tokio::test]
async fn a_header_that_a_guest_may_not_set_is_left_out_in_october_2023() {
    let reply = october().serve().await.get("/forbidden").await;
    assert_eq!((reply.status, reply.header("x-fine"), reply.header("connection")), (200, "1", ""));
}

#[tokio::test]
async fn a_trap_in_october_2023_is_an_empty_500() {
    let reply = october().serve().await.get("/panic").await;
    assert_eq!((reply.status, reply.text()), (500, ""));
}

#[tokio::test]
async fn large_bodies_pass_whole_through_october_2023() {
    let served = october().serve().await;
    let large = vec![b'x'; 5_000_000];
    let request = Request::post("/echo").body(http_body_util::Full::new(bytes::Bytes::from(large))).unwrap();
    let (response, _connection) = served.begin(request).await;
    assert_eq!(collect(response).await.unwrap().body.len(), 5_000_000);
}

#[tokio::test]
async fn a_component_with_inbound_http_is_called_like_a_module_of_its_time() {
    let served = App::of(&guest("inbound-c")).without_routes().route("/base/...").serve().await;
    let reply = served.get("/base/").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/plain"));
    assert_eq!(served.send_body(Request::post("/base/echo"), "ping").await.text(), "ping");
    let listing = served.send(Request::put("/base/headers?x").header("spin-path-info", "evil")).await;
    for line in ["PUT /base/headers?x", "spin-path-info: /headers", "spin-component-route: /base"] {
        assert!(listing.has_line(line), "{line} is not in {}", listing.text());
    }
    let cookies = served.get("/base/cookies").await;
    assert_eq!(cookies.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(served.get("/base/status/404").await.status, 404);
    for wrong in
        ["status/99", "status/999", "bad/ptr", "bad/len", "bad/body", "bad/ret", "bad/utf8", "bad/name", "trap"]
    {
        assert_eq!(served.get(&format!("/base/{wrong}")).await.status, 500, "{wrong}");
    }
    assert_eq!(served.send(Request::builder().method("BREW").uri("/base/")).await.status, 405);
    assert_eq!(served.send_body(Request::post("/base/echo"), vec![b'x'; (1 << 20) + 1]).await.status, 413);
}
