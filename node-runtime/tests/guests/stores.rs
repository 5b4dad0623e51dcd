//! Key-value stores and SQLite databases, by every interface that guests have for them.

use std::{path::Path, sync::Arc};

use http::Request;
use manifest::{
    RuntimeConfig,
    runtime_config::{KeyValueStore, Secret},
};
use node_runtime::engine::BuildError;

use crate::{
    servers::nobody,
    support::{App, Served, engine_with, guest, legacy_with},
};

/// An application whose component may use the store and the database `default`.
fn app(name: &str) -> App {
    with_default(App::of(&guest(name)))
}

fn with_default(mut app: App) -> App {
    app.main().key_value_stores.push("default".to_owned());
    app.main().sqlite_databases.push("default".to_owned());
    app
}

fn in_directory(mut app: App, dir: &Path) -> App {
    app.settings.state_dir = Some(dir.to_path_buf());
    app
}

async fn put(served: &Served, path: &str, value: &str) -> u16 {
    served.send_body(Request::put(path), value.to_owned()).await.status
}

async fn sql(served: &Served, path: &str, statement: &str) -> (u16, String) {
    let reply = served.send_body(Request::post(path), statement.to_owned()).await;
    (reply.status, reply.text().to_owned())
}

/// What the guests' transcripts of stores say, apart from how they write errors and bytes.
fn lines(text: &str) -> Vec<(&str, &str)> {
    text.lines().map(|line| line.split_once(": ").unwrap()).collect()
}

fn line<'t>(text: &'t str, what: &str) -> &'t str {
    lines(text).iter().find(|(name, _)| *name == what).unwrap_or_else(|| panic!("no `{what}` in {text}")).1
}

#[tokio::test]
async fn sdks_of_all_ages_share_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let old = in_directory(app("http-spin-sdk"), dir.path()).serve().await;
    let new = in_directory(app("http-p3"), dir.path()).serve().await;
    assert_eq!(old.get("/kv/a").await.status, 404);
    assert_eq!(put(&old, "/kv/a", "from 5.2").await, 204);
    assert_eq!(new.get("/kv/a").await.text(), "from 5.2");
    assert_eq!(put(&new, "/kv/b", "from 7").await, 201);
    assert_eq!(old.get("/kv/b").await.text(), "from 7");
    for served in [&old, &new] {
        assert_eq!(served.get("/kv/").await.text(), "[\"a\", \"b\"]\n");
    }
    assert_eq!(new.send(Request::delete("/kv/a")).await.status, 200);
    assert_eq!(old.get("/kv/a").await.status, 404);
}

#[tokio::test]
async fn sdks_of_all_ages_share_one_database() {
    let dir = tempfile::tempdir().unwrap();
    let old = in_directory(app("http-spin-sdk"), dir.path()).serve().await;
    let new = in_directory(app("http-p3"), dir.path()).serve().await;
    assert_eq!(sql(&old, "/sqlite2/default", "CREATE TABLE t (v)").await, (200, "[]\n[]\n".to_owned()));
    let inserted = sql(&old, "/sqlite3/default", "INSERT INTO t VALUES ('a'), (x'ff')").await;
    assert_eq!(inserted, (200, "[]\n[]\nchanges 2, row 2\n".to_owned()));
    let inserted = sql(&new, "/sqlite/default", "INSERT INTO t VALUES (NULL)").await;
    assert_eq!(inserted, (200, "[]\n[]\nchanges 1, row 3\n".to_owned()));
    let rows = "[\"v\"]\n[[Value::Text(\"a\")], [Value::Blob([255])], [Value::Null]]\n";
    assert_eq!(sql(&old, "/sqlite2/default", "SELECT v FROM t").await, (200, rows.to_owned()));
    let (status, found) = sql(&new, "/sqlite/default", "SELECT v FROM t").await;
    assert!(status == 200 && found.starts_with(rows), "{found}");
    for (served, path) in [(&old, "/sqlite2/default"), (&old, "/sqlite3/default"), (&new, "/sqlite/default")] {
        let (status, error) = sql(served, path, "SELEC").await;
        assert!(status == 502 && error.contains("syntax error"), "{error}");
    }
}

#[tokio::test]
async fn a_component_opens_only_what_its_manifest_names() {
    for (name, path) in [("http-spin-sdk", "/kv/a"), ("http-p3", "/kv/a")] {
        let reply = App::of(&guest(name)).serve().await.get(path).await;
        assert!(reply.status == 502 && reply.text().to_lowercase().contains("access"), "{name}: {}", reply.text());
    }
    for (name, path) in
        [("http-spin-sdk", "/sqlite2/default"), ("http-spin-sdk", "/sqlite3/default"), ("http-p3", "/sqlite/default")]
    {
        let (status, error) = sql(&App::of(&guest(name)).serve().await, path, "SELECT 1").await;
        assert!(status == 502 && error.contains("AccessDenied"), "{name} {path}: {error}");
    }
}

#[tokio::test]
async fn stores_without_a_version_are_numbers() {
    let served = app("stores").serve().await;
    let text = served.get("/key-value").await.text().to_owned();
    let expected = [
        ("denied", "Err(Error::AccessDenied)"),
        ("absent", "Err(Error::NoSuchKey)"),
        ("set", "Ok(())"),
        ("get", "Ok([118, 97, 108, 117, 101])"),
        ("exists", "Ok(true)"),
        ("keys", "Ok([\"a\"])"),
        ("delete", "Ok(())"),
        ("gone", "Ok(false)"),
        ("never opened", "Err(Error::InvalidStore)"),
        ("closed", "Err(Error::InvalidStore)"),
    ];
    assert_eq!(lines(&text), expected);
    let many = served.get("/many-stores").await;
    assert_eq!(
        lines(many.text()),
        [("open", "256"), ("too many", "Error::StoreTableFull"), ("after one is closed", "true")]
    );
}

#[tokio::test]
async fn databases_without_a_version_are_numbers() {
    let reply = app("stores").serve().await.get("/sqlite").await;
    let text = reply.text();
    assert_eq!(line(text, "denied"), "Err(Error::AccessDenied)");
    assert_eq!(line(text, "insert"), "Ok(([], []))");
    let row = format!(
        "Value::Integer({}), Value::Real(-0.5), Value::Text(\"a\\0é\"), Value::Blob([0, 255]), Value::Null",
        i64::MIN
    );
    assert_eq!(
        line(text, "select"),
        format!("Ok(([\"i\", \"r\", \"t\", \"b\", \"n\"], [RowResult {{ values: [{row}] }}]))")
    );
    assert_eq!(line(text, "nothing"), "Ok(([\"i\"], []))");
    assert!(line(text, "wrong").contains("syntax error"), "{text}");
    assert_eq!(line(text, "closed"), "Err(Error::InvalidConnection)");
}

#[tokio::test]
async fn wasi_s_stores_are_the_same() {
    let served = app("stores").serve().await;
    let store = served.get("/wasi/store").await;
    let expected = [
        ("denied", "Err(Error::AccessDenied)"),
        ("absent", "Ok(None)"),
        ("set", "Ok(())"),
        ("get", "Ok(Some([118, 97, 108, 117, 101]))"),
        ("exists", "Ok(true)"),
        ("keys", "Ok(([\"a\"], None))"),
        ("cursor", "true"),
        ("delete", "Ok(())"),
        ("gone", "Ok(false)"),
    ];
    assert_eq!(lines(store.text()), expected);
    let batch = served.get("/wasi/batch").await;
    let expected = [
        ("set", "Ok(())"),
        ("get", "Ok([(\"b\", Some([])), (\"none\", None), (\"a\", Some([1]))])"),
        ("delete", "Ok(())"),
        ("gone", "Ok([(\"a\", None)])"),
        ("nothing", "Ok([])"),
    ];
    assert_eq!(lines(batch.text()), expected);
}

#[tokio::test]
async fn wasi_s_swaps_see_what_others_write() {
    let reply = app("stores").serve().await.get("/wasi/atomics").await;
    let others = "Ok(Some([97, 110, 111, 116, 104, 101, 114, 39, 115]))";
    let expected = [
        ("increment", "Ok(5)"),
        ("decrement", "Ok(-2)"),
        ("overflow", "true"),
        ("current", "Ok(None)"),
        ("swap", "Ok(())"),
        ("failed, now", others),
        ("again", "Ok(())"),
        ("in the end", "Ok(Some([116, 119, 111]))"),
    ];
    assert_eq!(lines(reply.text()), expected);
}

#[tokio::test]
async fn core_modules_use_stores_through_memory() {
    let served = with_default(App::on(engine_with(|config| config.store_result = 4000), &guest("legacy-stores")));
    let served = served.serve().await;
    let reply = served.get("/key-value").await;
    let text = reply.text();
    let denied = "Err((2, \"\"))";
    for (what, expected) in [
        ("denied", denied),
        ("absent", "Err((4, \"\"))"),
        ("set", "Ok(())"),
        ("empty", "Ok(())"),
        ("get", "Ok([118, 97, 108, 117, 101])"),
        ("get empty", "Ok([])"),
        ("exists", "Ok(true)"),
        ("keys", "Ok([\"a\", \"b\"])"),
        ("delete", "Ok(())"),
        ("gone", "Ok(false)"),
        ("never opened", "Err((3, \"\"))"),
        ("closed", "Err((3, \"\"))"),
    ] {
        assert_eq!(line(text, what), expected, "{what}");
    }
    assert!(line(text, "too large").starts_with("Err((5, \"the value has 5000 bytes"), "{text}");
    let reply = served.get("/sqlite").await;
    let text = reply.text();
    assert_eq!(line(text, "denied"), "Err((1, \"\"))");
    assert_eq!(line(text, "create"), "Ok(([], []))");
    let row = format!("\"integer {}\", \"real -0.5\", \"text a\\0é\", \"blob [0, 255]\", \"null\"", i64::MIN);
    assert_eq!(line(text, "select"), format!("Ok(([\"i\", \"r\", \"t\", \"b\", \"n\"], [[{row}]]))"));
    assert_eq!(line(text, "nothing"), "Ok(([\"i\"], []))");
    assert!(line(text, "wrong").starts_with("Err((4, ") && line(text, "wrong").contains("syntax error"), "{text}");
    assert_eq!(line(text, "closed"), "Err((2, \"\"))");
}

#[tokio::test]
async fn misuse_of_memory_costs_its_own_request_only() {
    let served = with_default(App::on(engine_with(|config| config.store_result = 1 << 24), &guest("legacy-stores")));
    let served = served.serve().await;
    for misuse in ["result", "key", "utf8", "parameters", "tag"] {
        assert_eq!(served.get(&format!("/misuse/{misuse}")).await.status, 500, "{misuse}");
    }
    assert_eq!(served.get("/misuse/repeated").await.text(), "repeated: true\n");
    assert_eq!(line(served.get("/key-value").await.text(), "set"), "Ok(())");
}

#[tokio::test]
async fn a_module_without_an_allocator_gets_no_result() {
    let import = r#"(import "key-value" "open" (func $open (param i32 i32 i32)))"#;
    let open = "(call $open (i32.const 512) (i32.const 5) (i32.const 4294967292)) (i32.const 1000)";
    assert_eq!(with_default(App::of(&legacy_with(import, open))).serve().await.get("/").await.status, 500);
}

#[tokio::test]
async fn labels_that_nobody_configured_are_found_when_the_application_is_built() {
    for table in ["key_value_store", "sqlite_database"] {
        let mut app = App::of(&guest("http-spin-sdk"));
        let labels = if table == "key_value_store" {
            &mut app.main().key_value_stores
        } else {
            &mut app.main().sqlite_databases
        };
        labels.push("cache".to_owned());
        let refused = app.refused().await;
        assert!(matches!(&refused, BuildError::Stores(_)) && refused.reason() == "InvalidStores", "{refused:?}");
        let message = refused.to_string();
        assert!(message.contains("`main`") && message.contains(&format!("[{table}.cache]")), "{message}");
    }
}

#[tokio::test]
async fn what_whoever_runs_the_application_sets_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let app = in_directory(app("http-spin-sdk"), dir.path());
    let built = app.build().await.unwrap();
    built.context().set_key_value("greeting", b"hello").await.unwrap();
    built.context().execute_sqlite("default", "CREATE TABLE t (v); INSERT INTO t VALUES (7);").await.unwrap();
    let nowhere = built.context().execute_sqlite("nowhere", "SELECT 1").await.unwrap_err();
    assert!(nowhere.to_string().contains("`nowhere`"), "{nowhere}");
    let served = app.serve().await;
    assert_eq!(served.get("/kv/greeting").await.text(), "hello");
    let (_, found) = sql(&served, "/sqlite2/default", "SELECT v FROM t").await;
    assert_eq!(found, "[\"v\"]\n[[Value::Integer(7)]]\n");
}

#[tokio::test]
async fn a_redis_that_is_away_fails_calls_and_works_again_when_it_is_back() {
    // Nobody listens there yet.
    let (address, socket) = nobody();
    let redis = test_services::redis().unwrap().port;
    let mut app = App::of(&guest("http-spin-sdk"));
    app.main().key_value_stores.push("default".to_owned());
    let url = format!("redis://:{}@{address}/7", test_services::PASSWORD);
    let mut config = RuntimeConfig::default();
    config.key_value_stores.insert("default".to_owned(), KeyValueStore::Redis { url: Secret::new(url), prefix: None });
    app.settings.runtime_config = Arc::new(config);
    let served = app.serve().await;
    let reply = served.get("/kv/a").await;
    assert!(reply.status == 502 && reply.text().contains("Redis"), "{}", reply.text());
    // Now somebody passes on what comes to Redis.
    let listener = socket.listen(64).unwrap();
    let mut relay = tokio::task::JoinSet::new();
    relay.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", redis)).await.unwrap();
                let _closed = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    assert_eq!(put(&served, "/kv/a", "back").await, 204);
    assert_eq!(served.get("/kv/a").await.text(), "back");
    // It breaks again, in the middle of a connection.
    relay.shutdown().await;
    assert_eq!(served.get("/kv/a").await.status, 502);
    assert_eq!(served.get("/").await.status, 200);
}
