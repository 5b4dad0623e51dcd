//! Stores: where they are, and what they hold at the start.

use crate::harness::{Up, application, change_manifest, run, spindle};

fn with_stores() -> tempfile::TempDir {
    let app = application();
    let stores = "source = \"hello.wasm\"\nkey_value_stores = [\"default\"]\nsqlite_databases = [\"default\"]";
    change_manifest(app.path(), "source = \"hello.wasm\"", stores);
    app
}

#[tokio::test]
async fn stores_are_filled_and_told_in_the_state_directory() {
    let (app, cache) = (with_stores(), tempfile::tempdir().unwrap());
    let flags = ["--key-value", "a=b=c", "--sqlite", "CREATE TABLE t (x); INSERT INTO t VALUES (1)"];
    let mut up = Up::start(app.path(), cache.path(), &flags).await;
    let state = app.path().join(".spin");
    let told = up.told("Storing default key-value data to").await;
    assert!(told.ends_with(&format!("\"{}\".", state.join("sqlite_key_value.db").display())), "{told}");
    up.told("Storing default SQLite data to").await;
    up.stopped().await;
    assert!(state.join("sqlite_key_value.db").exists() && state.join("sqlite_db.db").exists());
    // The table is there still: another run finds it.
    let (code, _, stderr) =
        run(spindle(cache.path()).args(["-f", app.path().to_str().unwrap(), "--sqlite", "CREATE TABLE t (x)"])).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("error: --sqlite CREATE TABLE t (x)") && stderr.contains("t already exists"), "{stderr}");
}

#[tokio::test]
async fn a_runtime_configuration_says_where_stores_are_unless_a_flag_does() {
    let (app, cache) = (with_stores(), tempfile::tempdir().unwrap());
    let config = cache.path().join("runtime.toml");
    std::fs::write(&config, "state_dir = \"there\"\nlog_dir = \"\"").unwrap();
    let config = config.to_str().unwrap();
    let up = Up::start(app.path(), cache.path(), &["--runtime-config-file", config, "--key-value", "a=b"]).await;
    up.stopped().await;
    assert!(cache.path().join("there/sqlite_key_value.db").exists());
    let here = cache.path().join("here");
    let flags = ["--runtime-config-file", config, "--key-value", "a=b", "--state-dir", here.to_str().unwrap()];
    let up = Up::start(app.path(), cache.path(), &flags).await;
    let stderr = up.stopped().await;
    assert!(here.join("sqlite_key_value.db").exists(), "{stderr}");
    assert!(!app.path().join(".spin").exists());
}

#[tokio::test]
async fn without_a_state_directory_stores_are_in_memory() {
    let (app, cache) = (with_stores(), tempfile::tempdir().unwrap());
    let mut up = Up::start(app.path(), cache.path(), &["--state-dir", "", "--key-value", "a=b"]).await;
    assert!(up.told("Storing default key-value data to").await.contains("memory"));
    up.stopped().await;
    assert!(!app.path().join(".spin").exists());
}

#[tokio::test]
async fn a_required_variable_may_come_from_the_environment_or_a_file() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    change_manifest(app.path(), "default = \"you\"", "required = true");
    let from = app.path().to_str().unwrap();
    for name in ["SPIN_VARIABLE_NAME", "SPIN_APP_NAME"] {
        let up = Up::spawn(spindle(cache.path()).args(["-f", from, "--listen", "127.0.0.1:0"]).env(name, "me")).await;
        up.stopped().await;
    }
    std::fs::write(app.path().join(".env"), "SPIN_VARIABLE_NAME=me\n").unwrap();
    Up::start(app.path(), cache.path(), &[]).await.stopped().await;
    std::fs::remove_file(app.path().join(".env")).unwrap();
    let (code, _, stderr) = run(spindle(cache.path()).args(["-f", from])).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("variable `name` is required"), "{stderr}");
}
