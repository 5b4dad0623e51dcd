//! What the real server says.

use control::{SecretString, assignment::Credentials};
use manifest::Digest;
use sources::{
    bindle::{ClientOptions, Largest, SecretKeys, SourceError, Verification},
    http::Trust,
};

use crate::{
    server::Server,
    shop::{Bundled, PAGE, bundled, content, shop, store},
};

#[tokio::test]
async fn a_pushed_application_resolves_to_itself_and_its_content_is_fetched() {
    let (server, (_dir, store)) = (Server::open(), store());
    let client = server.client(ClientOptions::default());
    let shop = shop("1.0.0");
    let mut pushed = bundled(&shop);
    server.push(&client, &mut pushed).await;

    let bundle = client.resolve(&pushed.id).await.unwrap();
    assert_eq!(bundle.application, shop);
    assert_eq!(bundle.digest, Digest::of(&shop.to_json().unwrap()));
    for content in shop.contents() {
        let path = client.fetch(&pushed.id, &content, &store).await.unwrap();
        assert_eq!(std::fs::read(path).unwrap(), pushed.parcels[&content.digest]);
    }
}

#[tokio::test]
async fn what_is_in_the_store_is_not_asked_for_again() {
    let (server, (_dir, store)) = (Server::open(), store());
    let client = server.client(ClientOptions::default());
    let page = store.insert_bytes(PAGE).unwrap();
    assert!(client.fetch(&"no/1.0.0".parse().unwrap(), &page, &store).await.is_ok());
}

#[tokio::test]
async fn an_unknown_bindle_is_not_found() {
    let server = Server::open();
    let error = server.client(ClientOptions::default()).resolve(&"shop/9.9.9".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.reason(), "NotFound");
    let expected = format!("no bindle shop/9.9.9 at {}:", server.url());
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn a_yanked_bindle_is_told_from_a_missing_one() {
    let (server, (_dir, store)) = (Server::open(), store());
    let client = server.client(ClientOptions::default());
    let mut pushed = bundled(&shop("1.0.0"));
    server.push(&client, &mut pushed).await;
    let yank = format!("{}/_i/{}", server.url(), pushed.id);
    let http = sources::http::HttpClient::new(&sources::http::HttpOptions::default()).unwrap();
    let answer = http.request(reqwest::Method::DELETE, yank.parse().unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let resolved = client.resolve(&pushed.id).await.unwrap_err();
    let fetched = client.fetch(&pushed.id, &content(PAGE), &store).await.unwrap_err();
    assert_eq!((resolved.reason(), fetched.reason()), ("Yanked", "Yanked"));
    assert!(!resolved.is_retryable());
    assert_eq!(client.existing(&pushed.id).await.unwrap().unwrap().yanked, Some(true));
}

#[tokio::test]
async fn a_bindle_that_was_not_pushed_to_the_end_says_which_parcel_is_missing() {
    let server = Server::open();
    let client = server.client(ClientOptions::default());
    let mut half = bundled(&shop("1.0.0"));
    server.create(&client, &mut half).await;
    let error = client.resolve(&half.id).await.unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("NotFound", true));
    assert!(error.to_string().starts_with("no parcel "), "{error}");
    assert_eq!(client.missing(&half.id).await.unwrap().len(), 3);
}

#[tokio::test]
async fn content_that_rots_on_the_server_is_never_used() {
    let (server, (_dir, store)) = (Server::open(), store());
    let client = server.client(ClientOptions::default());
    let mut pushed = bundled(&shop("1.0.0"));
    server.push(&client, &mut pushed).await;
    for digest in pushed.parcels.keys() {
        let path = server.dir.path().join("parcels").join(digest.hex()).join("parcel.dat");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(client.resolve(&pushed.id).await.unwrap_err().reason(), "Corrupt");
    let error = client.fetch(&pushed.id, &content(PAGE), &store).await.unwrap_err();
    assert!(matches!(error, SourceError::Corrupt { .. }), "{error:?}");
    assert_eq!(store.get(&content(PAGE)).unwrap(), None);
}

#[tokio::test]
async fn an_id_is_taken_for_good() {
    let server = Server::open();
    let client = server.client(ClientOptions::default());
    let mut pushed = bundled(&shop("1.0.0"));
    server.push(&client, &mut pushed).await;
    assert_eq!(client.create(&pushed.id, &pushed.invoice).await.unwrap_err().reason(), "AlreadyExists");
}

#[tokio::test]
async fn the_server_refuses_what_nobody_it_trusts_has_signed() {
    let server = Server::open();
    let client = server.client(ClientOptions::default());
    let unsigned = bundled(&shop("1.0.0"));
    let error = client.create(&unsigned.id, &unsigned.invoice).await.unwrap_err();
    assert_eq!(error.reason(), "UnexpectedAnswer");
    assert!(error.to_string().contains("signature"), "{error}");
}

#[tokio::test]
async fn a_keyring_decides_which_bindles_are_accepted() {
    let server = Server::open();
    let open = server.client(ClientOptions::default());
    let mut pushed = bundled(&shop("1.0.0"));
    server.push(&open, &mut pushed).await;
    let trusting = |ring| {
        let verification = Verification::Keyring(ring);
        server.client(ClientOptions { verification, ..ClientOptions::default() })
    };
    let creator = trusting(server.keys.public().unwrap()).resolve(&pushed.id).await.unwrap();
    assert_eq!(creator.signed_by, ["Alice"]);
    let host = trusting(open.host_keys().await.unwrap().unwrap()).resolve(&pushed.id).await.unwrap();
    assert_eq!(host.signed_by, ["bindle-server"]);
    let mut stranger = SecretKeys::default();
    stranger.create("Alice");
    let error = trusting(stranger.public().unwrap()).resolve(&pushed.id).await.unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("Unsigned", false));
    assert!(error.to_string().contains("Alice as creator, bindle-server as host"), "{error}");
}

#[tokio::test]
async fn content_larger_than_the_limit_is_not_fetched() {
    let (server, (_dir, store)) = (Server::open(), store());
    let mut pushed = bundled(&shop("1.0.0"));
    server.push(&server.client(ClientOptions::default()), &mut pushed).await;
    let limited = |largest| server.client(ClientOptions { largest, ..ClientOptions::default() });
    let small = limited(Largest { parcel: 9, ..Largest::default() });
    assert_eq!(small.resolve(&pushed.id).await.unwrap_err().reason(), "TooLarge");
    assert_eq!(small.fetch(&pushed.id, &content(PAGE), &store).await.unwrap_err().reason(), "TooLarge");
    let small = limited(Largest { invoice: 9, ..Largest::default() });
    assert_eq!(small.resolve(&pushed.id).await.unwrap_err().reason(), "TooLarge");
    let small = limited(Largest { manifest: 9, ..Largest::default() });
    assert_eq!(small.resolve(&pushed.id).await.unwrap_err().reason(), "TooLarge");
}

#[tokio::test]
async fn only_who_knows_the_password_may_push_and_a_wrong_one_may_not_even_read() {
    let server = Server::start("http", |dir| {
        let users = dir.join("users");
        // The example of Apache's documentation: myPassword.
        let line = "myName:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n";
        std::fs::write(&users, line).unwrap();
        vec!["--htpasswd-file".to_owned(), users.display().to_string()]
    });
    let with = |password: &str| {
        let credentials = Some(Credentials { username: "myName".to_owned(), password: SecretString::new(password) });
        server.client(ClientOptions { credentials, ..ClientOptions::default() })
    };
    let mut pushed: Bundled = bundled(&shop("1.0.0"));
    server.push(&with("myPassword"), &mut pushed).await;
    let anonymous = server.client(ClientOptions::default());
    assert!(anonymous.resolve(&pushed.id).await.is_ok());
    assert_eq!(anonymous.create(&pushed.id, &pushed.invoice).await.unwrap_err().reason(), "Unauthorized");
    let error = with("wrong").resolve(&pushed.id).await.unwrap_err();
    assert_eq!(error.reason(), "Unauthorized");
    assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
}

#[tokio::test]
async fn a_server_with_an_own_authority_is_believed_only_if_that_is_given() {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = params.self_signed(&authority).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let server = Server::start("https", |dir| {
        let (cert_path, key_path) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&cert_path, leaf.pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        let paths = [cert_path, key_path].map(|path| path.display().to_string());
        let [cert, key] = paths;
        ["--unauthenticated", "--tls-cert", &cert, "--tls-key", &key].map(str::to_owned).to_vec()
    });
    let mut pushed = bundled(&shop("1.0.0"));
    let client = server.trusting(Trust::Only(ca_pem));
    server.push(&client, &mut pushed).await;
    assert!(client.resolve(&pushed.id).await.is_ok());
    assert!(server.trusting(Trust::Anything).resolve(&pushed.id).await.is_ok());
    assert_eq!(server.trusting(Trust::System).resolve(&pushed.id).await.unwrap_err().reason(), "Unreachable");
}
