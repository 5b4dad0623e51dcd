//! Guests that misuse `wasi:http` 0.2: each costs its own request, and what looks complete is.

use http::Request;

use crate::support::{App, Served, collect, engine_with, guest};

async fn served() -> Served {
    App::on(engine_with(|_| {}), &guest("http-rust")).serve().await
}

#[tokio::test]
async fn a_handle_that_is_none_or_another_s_is_a_500() {
    let served = served().await;
    for way in ["no-handle", "other-handle", "set-twice"] {
        let reply = served.get(&format!("/odd/{way}")).await;
        assert_eq!((reply.status, reply.text()), (500, ""), "{way}");
    }
    assert_eq!(served.get("/odd/").await.text(), "odd\n");
    served.idle().await;
}

#[tokio::test]
async fn a_response_that_is_an_error_or_never_set_is_a_500() {
    let served = served().await;
    for way in ["error", "never-set", "response-dropped"] {
        let reply = served.get(&format!("/odd/{way}")).await;
        assert_eq!((reply.status, reply.text()), (500, ""), "{way}");
    }
    served.idle().await;
}

#[tokio::test]
async fn what_is_dropped_before_what_it_is_made_of_is_a_500() {
    let served = served().await;
    for way in ["body-before-stream", "request-body-before-stream", "no-permit"] {
        let reply = served.get(&format!("/odd/{way}")).await;
        assert_eq!((reply.status, reply.text()), (500, ""), "{way}");
    }
    served.idle().await;
}

#[tokio::test]
async fn a_body_that_is_not_what_was_announced_or_not_finished_never_looks_complete() {
    let served = served().await;
    for way in ["short", "long", "half"] {
        let request = Request::get(format!("/odd/{way}")).body(String::new()).unwrap();
        let (response, _connection) = served.begin(request).await;
        let status = response.status().as_u16();
        let whole = collect(response).await;
        assert!(status == 500 || whole.is_err(), "{way}: {status} {whole:?}");
    }
    served.idle().await;
}

#[tokio::test]
async fn a_guest_that_exits_has_answered_what_it_has_answered() {
    let served = served().await;
    let reply = served.get("/odd/exits-after").await;
    assert_eq!((reply.status, reply.text()), (200, "odd\n"));
    assert_eq!(served.get("/odd/exits-before").await.status, 500);
    // A body that nobody ended ends with the guest, as one that it forgot.
    let reply = served.get("/odd/exits-within").await;
    assert_eq!((reply.status, reply.text()), (200, "half"));
    served.idle().await;
}

#[tokio::test]
async fn a_body_that_a_guest_forgets_ends_with_it_as_in_spin() {
    let served = served().await;
    let reply = served.get("/odd/forgotten").await;
    assert_eq!((reply.status, reply.text()), (200, "begun"));
    served.idle().await;
}

#[tokio::test]
async fn a_request_body_that_is_kept_open_holds_nothing_up() {
    let served = served().await;
    let reply = served.send_body(Request::post("/odd/kept-request-body"), vec![b'x'; 4 << 20]).await;
    assert_eq!((reply.status, reply.text()), (200, "odd\n"));
    served.idle().await;
}

#[tokio::test]
async fn what_a_guest_must_not_do_it_is_told() {
    let served = served().await;
    let reply = served.send_body(Request::post("/odd/told"), vec![b'x'; 1 << 20]).await;
    let expected = [
        r#"header "connection": Err(HeaderError::Forbidden)"#,
        r#"header "keep-alive": Err(HeaderError::Forbidden)"#,
        r#"header "transfer-encoding": Err(HeaderError::Forbidden)"#,
        r#"header "upgrade": Err(HeaderError::Forbidden)"#,
        r#"header "a b": Err(HeaderError::InvalidSyntax)"#,
        r#"header "": Err(HeaderError::InvalidSyntax)"#,
        r#"header "a\nb": Err(HeaderError::InvalidSyntax)"#,
        "value: Err(HeaderError::InvalidSyntax)",
        "request's headers: Err(HeaderError::Immutable)",
        "status 0: Err(())",
        "status 99: Err(())",
        "status 1000: Err(())",
        "status 65535: Err(())",
        "response's headers: Err(HeaderError::Immutable)",
        "second body: true",
        "second write: true",
        "second consume: true",
        "second stream: true",
        "trailers: true",
        "second trailers: true",
    ];
    for line in expected {
        assert!(reply.has_line(line), "{line} is not in {}", reply.text());
    }
    served.idle().await;
}
