//! `spindle bindle` as a user types it, against the real server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use manifest::bindle_layout::Invoice;
use sources::{
    Store,
    bindle::{ClientOptions, Keyring, Verification},
};

use super::{BindleArgs, run};

#[path = "../../../crates/sources/tests/bindle/server.rs"]
mod server;
use server::Server;

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    bindle: BindleArgs,
}

/// An application in a directory, and keys to sign it with.
struct Desk {
    dir: tempfile::TempDir,
    keys: String,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manifest = r#"
            spin_manifest_version = "1"
            name = "shop"
            version = "1.0.0"
            authors = ["Alice <alice@example.com>"]
            trigger = { type = "http", base = "/" }
            [[component]]
            id = "web"
            source = "web.wasm"
            files = [{ source = "site", destination = "/" }]
            [component.trigger]
            route = "/..."
        "#;
        fs::write(dir.path().join("spin.toml"), manifest).unwrap();
        fs::write(dir.path().join("web.wasm"), b"\0asm\x01\0\0\0").unwrap();
        fs::create_dir(dir.path().join("site")).unwrap();
        fs::write(dir.path().join("site/index.html"), "<h1>shop</h1>").unwrap();
        let keys = dir.path().join("keys.toml").display().to_string();
        Self { dir, keys }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `spindle bindle` with these arguments.
    async fn bindle(&self, args: &[&str]) -> Result<(), String> {
        let flags = Flags::try_parse_from(["bindle"].iter().chain(args)).map_err(|error| error.to_string())?;
        run(flags.bindle).await.map_err(|error| format!("{error:#}"))
    }

    async fn push(&self, server: &Server, more: &[&str]) -> Result<(), String> {
        let (from, url) = (self.dir.path().display().to_string(), server.url().to_string());
        let args = ["push", "-f", &from, "--bindle-server", &url, "--key-file", &self.keys];
        self.bindle(&[&args, more].concat()).await
    }

    async fn prepare(&self, to: &Path, more: &[&str]) -> Result<(), String> {
        let (from, to) = (self.dir.path().display().to_string(), to.display().to_string());
        let args = ["prepare", "-f", &from, "-d", &to, "--key-file", &self.keys];
        self.bindle(&[&args, more].concat()).await
    }
}

/// A server that trusts the desk's key.
fn server_for(desk: &Desk) -> Server {
    let server = Server::open();
    fs::write(&desk.keys, server.keys.to_toml().unwrap()).unwrap();
    server
}

#[tokio::test]
async fn what_was_pushed_resolves_to_what_the_directory_holds() {
    let desk = Desk::new();
    let server = server_for(&desk);
    desk.push(&server, &[]).await.unwrap();

    let ring = Keyring::from_toml(&fs::read_to_string(server.dir.path().join("keyring.toml")).unwrap()).unwrap();
    let verification = Verification::Keyring(ring);
    let client = server.client(ClientOptions { verification, ..ClientOptions::default() });
    let id = "shop/1.0.0".parse().unwrap();
    let bundle = client.resolve(&id).await.unwrap();
    let (local_dir, fetched_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let local = sources::local::load(desk.dir.path(), &Store::open(local_dir.path()).unwrap()).unwrap();
    assert_eq!(bundle.application, local.application);
    assert_eq!(bundle.signed_by, ["Alice"]);
    let fetched = Store::open(fetched_dir.path()).unwrap();
    for content in bundle.application.contents() {
        client.fetch(&id, &content, &fetched).await.unwrap();
        assert!(fetched.verify(&content).unwrap());
    }
}

#[tokio::test]
async fn a_profile_is_what_is_pushed_and_one_that_nobody_has_is_refused() {
    let desk = Desk::new();
    let manifest = r#"
        spin_manifest_version = 2
        application = { name = "shop", version = "2.0.0" }
        trigger = { http = [{ route = "/...", component = "web" }] }
        [component.web]
        source = "web.wasm"
        environment = { LEVEL = "info", SHOP = "open" }
        profile = { debug = { source = "debug.wasm", environment = { LEVEL = "debug" } } }
    "#;
    fs::write(desk.path("spin.toml"), manifest).unwrap();
    fs::write(desk.path("debug.wasm"), b"\0asm\x01\0\0\0\0\x06\x05debug").unwrap();
    let server = server_for(&desk);
    let error = desk.push(&server, &["--profile", "debugg"]).await.unwrap_err();
    assert!(error.contains("there is no profile `debugg`: did you mean `debug`?"), "{error}");
    desk.push(&server, &["--profile", "debug", "--buildinfo", "debug"]).await.unwrap();
    desk.push(&server, &[]).await.unwrap();
    let published = async |id: &str| {
        let bundle = server.client(ClientOptions::default()).resolve(&id.parse().unwrap()).await.unwrap();
        let (_, web) = bundle.application.components.into_iter().next().unwrap();
        (web.source.digest, web.environment.into_values().collect::<Vec<_>>())
    };
    let digest = |file: &str| manifest::Digest::of(&fs::read(desk.path(file)).unwrap());
    let values = |level: &str| vec![level.to_owned(), "open".to_owned()];
    assert_eq!(published("shop/2.0.0+debug").await, (digest("debug.wasm"), values("debug")));
    assert_eq!(published("shop/2.0.0").await, (digest("web.wasm"), values("info")));
}

#[tokio::test]
async fn pushing_the_same_again_is_fine_and_something_else_needs_another_version() {
    let desk = Desk::new();
    let server = server_for(&desk);
    desk.push(&server, &[]).await.unwrap();
    desk.push(&server, &[]).await.unwrap();
    fs::write(desk.path("site/index.html"), "<h1>changed</h1>").unwrap();
    let error = desk.push(&server, &[]).await.unwrap_err();
    assert!(error.starts_with("shop/1.0.0 already exists at "), "{error}");
    desk.push(&server, &["--buildinfo", "r2"]).await.unwrap();
    let id = "shop/1.0.0+r2".parse().unwrap();
    assert!(server.client(ClientOptions::default()).resolve(&id).await.is_ok());
}

#[tokio::test]
async fn a_push_that_was_cut_off_is_continued() {
    let desk = Desk::new();
    let server = server_for(&desk);
    desk.push(&server, &[]).await.unwrap();
    for parcel in fs::read_dir(server.dir.path().join("parcels")).unwrap().skip(1) {
        fs::remove_dir_all(parcel.unwrap().path()).unwrap();
    }
    let client = server.client(ClientOptions::default());
    assert_eq!(client.missing(&"shop/1.0.0".parse().unwrap()).await.unwrap().len(), 2);
    desk.push(&server, &[]).await.unwrap();
    assert!(client.resolve(&"shop/1.0.0".parse().unwrap()).await.is_ok());
}

#[tokio::test]
async fn a_server_that_trusts_no_one_says_what_it_misses() {
    let desk = Desk::new();
    let server = Server::open();
    let error = desk.push(&server, &[]).await.unwrap_err();
    assert!(error.starts_with("there are no keys to sign with at "), "{error}");
    let error = desk.push(&server, &["--unsigned"]).await.unwrap_err();
    assert!(error.starts_with("the server takes only what is signed: push without --unsigned"), "{error}");
    desk.bindle(&["keys", "create", "Alice", "--key-file", &desk.keys]).await.unwrap();
    let error = desk.push(&server, &[]).await.unwrap_err();
    assert!(error.starts_with("the server does not trust who signed this: add"), "{error}");
}

#[tokio::test]
async fn a_prepared_bundle_has_the_layout_of_spins_publishers() {
    let desk = Desk::new();
    let out = desk.path("out");
    desk.prepare(&out, &["--unsigned"]).await.unwrap();
    let dir = out.join(manifest::Digest::of(b"shop/1.0.0").hex());
    let invoice = Invoice::from_toml(&fs::read_to_string(dir.join("invoice.toml")).unwrap()).unwrap();
    let labels = invoice.parcel.iter().map(|parcel| (parcel.label.name.as_str(), parcel.label.media_type.as_str()));
    let labels: Vec<_> = labels.collect();
    let manifest_name = format!("spin.{}.toml", invoice.parcel[0].label.sha256.hex());
    assert_eq!(
        labels,
        [
            (manifest_name.as_str(), "application/vnd.fermyon.spin+toml"),
            ("web.wasm", "application/wasm"),
            ("index.html", "text/html"),
        ]
    );
    assert_eq!(invoice.group.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["files-web"]);
    assert_eq!(invoice.parcel[2].member_of(), ["files-web"]);
    assert!(invoice.signature.is_empty());
    for parcel in &invoice.parcel {
        let bytes = fs::read(dir.join("parcels").join(format!("{}.dat", parcel.label.sha256.hex()))).unwrap();
        assert_eq!(manifest::Digest::of(&bytes), parcel.label.sha256);
    }
    let error = desk.prepare(&out, &["--unsigned"]).await.unwrap_err();
    assert!(error.contains("exists already"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_published_names_the_manifest_and_the_field() {
    let desk = Desk::new();
    let manifest = fs::read_to_string(desk.path("spin.toml")).unwrap();
    fs::write(desk.path("spin.toml"), manifest.replace("\"1.0.0\"", "\"one\"")).unwrap();
    let error = desk.prepare(&desk.path("out"), &["--unsigned"]).await.unwrap_err();
    assert!(error.contains(" cannot be published: `version` is `one`, which"), "{error}");
}

#[tokio::test]
async fn a_bundle_is_signed_with_the_key_that_is_named() {
    let desk = Desk::new();
    for name in ["Alice", "Bob"] {
        desk.bindle(&["keys", "create", name, "--key-file", &desk.keys]).await.unwrap();
    }
    desk.prepare(&desk.path("out"), &["--label", "Bob"]).await.unwrap();
    let path = desk.path("out").join(manifest::Digest::of(b"shop/1.0.0").hex()).join("invoice.toml");
    let invoice = Invoice::from_toml(&fs::read_to_string(path).unwrap()).unwrap();
    let signers: Vec<_> = invoice.signature.iter().map(|s| (s.by.as_str(), s.role.as_str())).collect();
    assert_eq!(signers, [("Bob", "creator")]);
    let error = desk.prepare(&desk.path("other"), &["--label", "Carol"]).await.unwrap_err();
    assert!(error.starts_with("cannot sign with the keys in ") && error.contains("no key `Carol`"), "{error}");
}
