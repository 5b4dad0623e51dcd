//! `--watch`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::harness::{Up, application, body, change_manifest, get, greeter, notes, until};

/// Asks all the time, four at a time, until told to stop; every answer must be a 200.
async fn ask(address: SocketAddr, stop: Arc<AtomicBool>) {
    let clients = (0..4).map(|_| async {
        while !stop.load(Ordering::Relaxed) {
            let answer = get(address, "/exact").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    });
    futures::future::join_all(clients).await;
}

#[tokio::test]
async fn changes_are_served_and_broken_ones_told_without_losing_a_request() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let mut up = Up::start(app.path(), cache.path(), &["--watch", "--follow", "hello"]).await;
    let (address, stop, wasm) = (up.address, Arc::new(AtomicBool::new(false)), app.path().join("hello.wasm"));
    let mut traffic = tokio::task::JoinSet::new();
    traffic.spawn(ask(address, Arc::clone(&stop)));

    std::fs::write(&wasm, greeter("Howdy")).unwrap();
    until("the second version", async || body(address, "/exact").await == "Howdy from WAT\n").await;

    std::fs::write(&wasm, "no wasm at all").unwrap();
    up.told("error: ").await;
    assert_eq!(body(address, "/exact").await, "Howdy from WAT\n");
    change_manifest(app.path(), "spin_manifest_version = 2", "spin_manifest_version = 7");
    up.told("spin_manifest_version").await;
    assert_eq!(body(address, "/exact").await, "Howdy from WAT\n");

    // As editors and compilers do it: another file takes the name.
    std::fs::write(app.path().join("new"), greeter("Third")).unwrap();
    std::fs::rename(app.path().join("new"), &wasm).unwrap();
    change_manifest(app.path(), "spin_manifest_version = 7", "spin_manifest_version = 2");
    until("the third version", async || body(address, "/exact").await == "Third from WAT\n").await;

    change_manifest(app.path(), "/hello/...", "/bye/...");
    up.told("/bye (wildcard)").await;
    assert!(get(address, "/bye").await.starts_with("HTTP/1.1 200"));
    stop.store(true, Ordering::Relaxed);
    traffic.join_next().await.unwrap().unwrap();
    up.stopped().await;
}

#[tokio::test]
async fn changed_files_are_served_and_the_copies_of_the_last_version_go() {
    let (app, cache, temp) = (notes(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flags = ["--watch", "--allow-transient-write", "--temp", temp.path().to_str().unwrap()];
    let up = Up::start(app.path(), cache.path(), &flags).await;
    assert_eq!(body(up.address, "/").await, "ynote+");
    std::fs::write(app.path().join("assets/note.txt"), "new").unwrap();
    until("the new file", async || body(up.address, "/").await.starts_with("ynew")).await;
    for content in ["again", "once more"] {
        std::fs::remove_dir_all(app.path().join("assets")).unwrap();
        std::fs::create_dir(app.path().join("assets")).unwrap();
        std::fs::write(app.path().join("assets/note.txt"), content).unwrap();
        let expected = format!("y{content}");
        until("the file in a new directory", async || body(up.address, "/").await.starts_with(&expected)).await;
    }
    let run = std::fs::read_dir(temp.path()).unwrap().next().unwrap().unwrap().path();
    until("the old copies to go", async || std::fs::read_dir(&run).unwrap().count() == 1).await;
    let stderr = up.stopped().await;
    assert!(!stderr.contains("WARN"), "{stderr}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_directory_that_a_build_makes_anew_is_seen() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let dist = app.path().join("dist");
    change_manifest(app.path(), "\"hello.wasm\"", "\"dist/hello.wasm\"");
    std::fs::create_dir(&dist).unwrap();
    std::fs::rename(app.path().join("hello.wasm"), dist.join("hello.wasm")).unwrap();
    let mut up = Up::start(app.path(), cache.path(), &["--watch"]).await;
    std::fs::remove_dir_all(&dist).unwrap();
    up.told("error: ").await;
    std::fs::create_dir(&dist).unwrap();
    std::fs::write(dist.join("hello.wasm"), greeter("Again")).unwrap();
    until("the new version", async || body(up.address, "/exact").await == "Again from WAT\n").await;
    up.stopped().await;
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_and_a_file_that_a_flag_names_are_changes() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let (wasm, config) = (app.path().join("hello.wasm"), cache.path().join("runtime.toml"));
    for greeting in ["First", "Other"] {
        std::fs::create_dir(app.path().join(greeting)).unwrap();
        std::fs::write(app.path().join(greeting).join("hello.wasm"), greeter(greeting)).unwrap();
    }
    let lead = |link: &str, target: &str| {
        let new = app.path().join("new-link");
        std::os::unix::fs::symlink(target, &new).unwrap();
        std::fs::rename(new, app.path().join(link)).unwrap();
    };
    std::fs::remove_file(&wasm).unwrap();
    lead("current", "First");
    lead("hello.wasm", "current/hello.wasm");
    std::fs::write(&config, "").unwrap();
    let flags = ["--watch", "--runtime-config-file", config.to_str().unwrap()];
    let mut up = Up::start(app.path(), cache.path(), &flags).await;
    assert_eq!(body(up.address, "/exact").await, "First from WAT\n");
    lead("current", "Other");
    until("what the directory's link leads to", async || body(up.address, "/exact").await == "Other from WAT\n").await;
    lead("hello.wasm", "First/hello.wasm");
    until("what the file's link leads to", async || body(up.address, "/exact").await == "First from WAT\n").await;
    std::fs::write(&config, "nonsense = 1\n").unwrap();
    up.told("nonsense").await;
    assert_eq!(body(up.address, "/exact").await, "First from WAT\n");
    up.stopped().await;
}

#[tokio::test]
async fn what_the_command_itself_writes_is_no_change() {
    let app = notes();
    change_manifest(app.path(), "source = \"assets\"", "source = \"\"");
    let here = |name: &str| app.path().join(name).display().to_string();
    let flags = ["--watch", "--allow-transient-write", "--temp", &here("temp"), "--log-dir", &here("logs")];
    let up = Up::start(app.path(), &app.path().join("cache"), &flags).await;
    assert_eq!(body(up.address, "/").await, "y+", "there is no note.txt at the root yet");
    std::fs::write(app.path().join("note.txt"), "new").unwrap();
    until("the new file", async || body(up.address, "/").await.starts_with("ynew")).await;
    let stderr = up.stopped().await;
    assert_eq!(stderr.matches("Changed: ").count(), 1, "{stderr}");
}
