//! What no real server says.

use control::{SecretString, assignment::Credentials};
use sources::bindle::{BindleClient, ClientOptions, SourceError};

use crate::{
    liar::{Liar, Lie, said},
    shop::{Bundled, PAGE, bundled, content, shop, store},
};

fn truth(bundled: &Bundled) -> Vec<(String, Lie)> {
    let invoice = bundled.invoice.to_toml().unwrap();
    let parcels = bundled.parcels.iter();
    let parcels = parcels
        .map(|(digest, bytes)| (format!("/v1/_i/{}@{}", bundled.id, digest.hex()), Lie::Say(said(200, "", bytes))));
    let invoice = (format!("/v1/_i/{}", bundled.id), Lie::Say(said(200, "", invoice.as_bytes())));
    parcels.chain([invoice]).collect()
}

/// Resolves against a server that sends this instead of the invoice.
async fn resolve_with_invoice(lie: Lie) -> SourceError {
    let bundled = bundled(&shop("1.0.0"));
    let liar = Liar::start(truth(&bundled).into_iter().chain([(format!("/v1/_i/{}", bundled.id), lie)])).await;
    liar.client(ClientOptions::default()).resolve(&bundled.id).await.unwrap_err()
}

/// The invoice with one thing replaced.
fn forged(from: &str, to: &str) -> Lie {
    let text = bundled(&shop("1.0.0")).invoice.to_toml().unwrap();
    assert!(text.contains(from), "{text}");
    Lie::Say(said(200, "", text.replace(from, to).as_bytes()))
}

/// Fetches the page from a server that sends this instead.
async fn fetch(lie: Lie) -> SourceError {
    let (_dir, store) = store();
    let page = content(PAGE);
    let liar = Liar::start([(format!("/v1/_i/shop/1.0.0@{}", page.digest.hex()), lie)]).await;
    let id = "shop/1.0.0".parse().unwrap();
    let error = liar.client(ClientOptions::default()).fetch(&id, &page, &store).await.unwrap_err();
    assert_eq!(store.get(&page).unwrap(), None);
    error
}

#[tokio::test]
async fn the_truth_is_believed() {
    let bundled = bundled(&shop("1.0.0"));
    let liar = Liar::start(truth(&bundled)).await;
    assert!(liar.client(ClientOptions::default()).resolve(&bundled.id).await.is_ok());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let error = resolve_with_invoice(Lie::Hang).await;
    assert_eq!((error.reason(), error.is_retryable()), ("Timeout", true));
    let started = Lie::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<h1>".to_vec());
    assert_eq!(fetch(started).await.reason(), "Unreachable");
    assert_eq!(fetch(Lie::Hang).await.reason(), "Timeout");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let liar = Liar::start([]).await;
    let client = liar.client(ClientOptions::default());
    let server = client.server().to_string();
    drop(liar);
    let error = client.resolve(&"shop/1.0.0".parse().unwrap()).await.unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("Unreachable", true));
    assert_eq!(error.to_string(), format!("cannot reach bindle shop/1.0.0 at {server}"));
}

#[tokio::test]
async fn an_invoice_of_something_else_is_refused() {
    let error = resolve_with_invoice(forged("version = \"1.0.0\"", "version = \"1.0.1\"")).await;
    assert_eq!(error.reason(), "Invalid");
}

#[tokio::test]
async fn what_is_no_invoice_is_told_in_one_line_with_the_place() {
    let error = resolve_with_invoice(forged("bindleVersion =", "<p>hello</p>\nbindleVersion =")).await;
    assert_eq!(error.reason(), "Invalid");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("what the server sent is no invoice: line 1, column "), "{source}");
    assert!(!source.contains(['\n', '<']), "{source}");
}

#[tokio::test]
async fn an_invoice_that_says_it_is_yanked_counts_as_yanked() {
    let error = resolve_with_invoice(forged("bindleVersion =", "yanked = true\nbindleVersion =")).await;
    assert_eq!(error.reason(), "Yanked");
}

#[tokio::test]
async fn a_format_of_the_future_is_not_guessed_at() {
    let error = resolve_with_invoice(forged("bindleVersion = \"1.0.0\"", "bindleVersion = \"2.0.0\"")).await;
    assert_eq!(error.reason(), "Unsupported");
    let error = resolve_with_invoice(forged("bindleVersion =", "futureField = 1\nbindleVersion =")).await;
    assert_eq!(error.reason(), "Invalid");
}

#[tokio::test]
async fn a_bundle_without_a_spin_manifest_is_no_spin_application() {
    let error = resolve_with_invoice(forged("application/vnd.fermyon.spin+toml", "text/plain")).await;
    assert_eq!(error.reason(), "Unsupported");
}

#[tokio::test]
async fn an_invoice_without_end_is_cut_off() {
    let bundled = bundled(&shop("1.0.0"));
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.extend(vec![b'#'; 64 * 1024]);
    let error = resolve_with_invoice(Lie::Endless(endless)).await;
    assert_eq!(error.reason(), "TooLarge");
    assert!(error.to_string().contains(bundled.id.as_str()), "{error}");
}

#[tokio::test]
async fn a_parcel_with_other_bytes_more_bytes_or_fewer_is_corrupt() {
    for lie in [
        Lie::Say(said(200, "", b"<h1>evil</h1>")),
        Lie::Say(said(200, "", b"<h1>shop</h1>!")),
        Lie::Say(said(200, "", b"<h1>shop</h1")),
        Lie::Say(said(200, "", b"")),
        Lie::Endless(b"HTTP/1.1 200 OK\r\n\r\nmore and more".to_vec()),
    ] {
        let error = fetch(lie).await;
        assert_eq!((error.reason(), error.is_retryable()), ("Corrupt", true), "{error:?}");
        assert!(error.to_string().starts_with(&format!("parcel {}", content(PAGE).digest.hex())), "{error}");
    }
}

#[tokio::test]
async fn statuses_mean_what_a_user_can_do_about_them() {
    let body = b"error = \"too\\u001bmuch\\nof it\"\n";
    for (status, reason, retryable) in [
        (401, "Unauthorized", true),
        (403, "Unauthorized", true),
        (404, "NotFound", true),
        (418, "UnexpectedAnswer", true),
        (429, "Unavailable", true),
        (500, "Unavailable", true),
        (503, "Unavailable", true),
    ] {
        let error = fetch(Lie::Say(said(status, "", body))).await;
        assert_eq!((error.reason(), error.is_retryable()), (reason, retryable), "{status}");
        assert!(!error.to_string().contains(['\u{1b}', '\n']), "{error}");
    }
    let error = fetch(Lie::Say(said(503, "", body))).await;
    assert!(error.to_string().ends_with("(503 Service Unavailable): toomuch"), "{error}");
    assert_eq!(fetch(Lie::Say(said(403, "", b"error = \"bindle is yanked\"\n"))).await.reason(), "Yanked");
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_server() {
    let bundled = bundled(&shop("1.0.0"));
    let elsewhere = Liar::start(truth(&bundled)).await;
    let location = format!("Location: http://127.0.0.1:{}/v1/_i/shop/1.0.0\r\n", elsewhere.port);
    let liar = Liar::start([("/v1/_i/shop/1.0.0".to_owned(), Lie::Say(said(302, &location, b"")))]).await;
    let password = SecretString::new("hunter2");
    let credentials = Some(Credentials { username: "alice".to_owned(), password });
    let client = liar.client(ClientOptions { credentials, ..ClientOptions::default() });
    let error = client.resolve(&bundled.id).await.unwrap_err();
    assert_eq!(error.reason(), "Unreachable");
    assert!(liar.heard().await[0].contains("authorization: Basic YWxpY2U6aHVudGVyMg=="));
    assert_eq!(elsewhere.heard().await, [] as [String; 0]);
}

#[tokio::test]
async fn redirects_within_the_server_are_followed_but_not_for_ever() {
    let bundled = bundled(&shop("1.0.0"));
    let to = |path: &str| Lie::Say(said(307, &format!("Location: {path}\r\n"), b""));
    let mut lies = truth(&bundled);
    let (_, invoice) = lies.pop().unwrap();
    lies.extend([("/moved".to_owned(), invoice), ("/v1/_i/shop/1.0.0".to_owned(), to("/moved"))]);
    let liar = Liar::start(lies).await;
    assert!(liar.client(ClientOptions::default()).resolve(&bundled.id).await.is_ok());
    assert_eq!(resolve_with_invoice(to("/v1/_i/shop/1.0.0")).await.reason(), "Unreachable");
}

#[test]
fn a_server_url_that_would_be_misunderstood_is_refused() {
    for bad in ["ftp://a/v1", "http://user:secret@a/v1", "http://a/v1?x=1", "http://a/v1#x", "data:text/plain,x"] {
        let error = BindleClient::new(bad.parse().unwrap(), ClientOptions::default()).unwrap_err();
        assert_eq!(error.reason(), "InvalidSource", "{bad}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
