//! Guests as users build them: other languages, SDKs, and what their builds leave.

use http::Request;
use test_services::{mariadb, postgres, redis};

use crate::{
    databases::everywhere,
    support::{App, guest, legacy_with},
};

#[tokio::test]
async fn components_of_other_languages_answer() {
    for (name, greeting) in
        [("http-c", "Hello from C"), ("http-js", "Hello from JavaScript"), ("http-py", "Hello from Python")]
    {
        let served = App::of(&guest(name)).serve().await;
        let reply = served.get("/").await;
        assert_eq!((reply.status, reply.text().trim_end()), (200, greeting), "{name}");
        assert_eq!(served.send_body(Request::post("/echo"), "ping").await.text().trim_end(), "ping", "{name}");
    }
}

#[tokio::test]
async fn stores_are_the_same_in_every_language() {
    for name in ["http-js", "http-py"] {
        let denied = App::of(&guest(name)).serve().await;
        for (path, error) in [("/kv/a", "access-denied"), ("/sqlite", "access-denied")] {
            let reply = denied.get(path).await;
            let told = reply.text().to_lowercase().replace("error_accessdenied", "access-denied");
            assert_eq!((reply.status, told.trim_end()), (502, error), "{name} {path}");
        }
        let mut app = App::of(&guest(name));
        app.main().key_value_stores.push("default".to_owned());
        app.main().sqlite_databases.push("default".to_owned());
        let served = app.serve().await;
        assert_eq!(served.get("/kv/a").await.status, 404, "{name}");
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(served.send_body(Request::put("/kv/a"), bytes.clone()).await.text(), "a\n", "{name}");
        assert_eq!(served.get("/kv/a").await.body, bytes, "{name}");
        assert_eq!(served.send(Request::delete("/kv/a")).await.text(), "false\n", "{name}");
        assert_eq!(served.get("/kv/a").await.status, 404, "{name}");
        let query = async |sql: &'static str| served.send_body(Request::post("/sqlite"), sql).await.text().to_owned();
        query("create table t (i integer, s text, n text)").await;
        query("insert into t values (9007199254740993, 'zwölf', null)").await;
        assert_eq!(query("select * from t").await, "i,s,n\n9007199254740993,zwölf,null\n", "{name}");
        let broken = served.send_body(Request::post("/sqlite"), "no sql at all").await;
        assert_eq!(broken.status, 502, "{name}: {}", broken.text());
    }
}

#[tokio::test]
async fn databases_are_the_same_in_every_language() {
    for name in ["http-js", "spin-py"] {
        let served = everywhere(App::of(&guest(name))).serve().await;
        let ask = async |path: &str, lines: &[&str]| {
            let reply = served.send_body(Request::post(path), lines.join("\n")).await;
            (reply.status, reply.text().to_owned())
        };
        let told = ask("/redis", &[&redis().unwrap().url(), name, "zwölf"]).await;
        let expected = "zwölf\nnone 2\n2 a,b 1\nstatus:PONG int64:1 binary:66 binary:37 nil\n4\n";
        assert_eq!(told, (200, expected.to_owned()), "{name}");

        let database = format!("of-{name}");
        postgres().unwrap().create(&database).unwrap();
        mariadb().unwrap().create(&database).unwrap();
        let servers = [
            ("/postgres", postgres().unwrap().url(&database), "bytea", "($1, $2, $3, $4, $5)"),
            ("/mysql", mariadb().unwrap().url(&database), "blob", "(?, ?, ?, ?, ?)"),
        ];
        for (path, address, bytes, places) in servers {
            let make = format!("!create table t (i bigint, s text, f double precision, b {bytes}, n text)");
            let fill = format!("!insert into t values {places}\ti:9007199254740993\ts:zwölf 'it''s'\tf:0.5\tb:~\tn:");
            let told = ask(path, &[&address, &make, &fill, "select * from t"]).await;
            let expected = "i int64,s str,f floating64,b binary,n str\n\
                            int64:9007199254740993,str:zwölf 'it''s',floating64:0.5,binary:7e,dbnull\n";
            assert_eq!(told, (200, expected.to_owned()), "{name} {path}");
            let (status, error) = ask(path, &[&address, "select * from nowhere"]).await;
            assert!(status == 502 && error.replace('-', "").starts_with("queryfailed"), "{name} {path}: {error}");
        }

        let denied = App::of(&guest(name)).serve().await;
        for (path, error) in
            [("/redis", "invalid-address"), ("/postgres", "connection-failed"), ("/mysql", "connection-failed")]
        {
            let address = format!("{}://127.0.0.1:9/x", path.trim_start_matches('/'));
            let reply = denied.send_body(Request::post(path), format!("{address}\nkey\nvalue")).await;
            let told = reply.text().replace('-', "");
            assert!(reply.status == 502 && told.starts_with(&error.replace('-', "")), "{name} {path}: {told}");
        }
    }
}

#[tokio::test]
async fn an_sdk_s_imports_matter_only_when_called() {
    let served = App::of(&guest("http-spin-sdk")).serve().await;
    assert_eq!(served.get("/").await.text().trim_end(), "Hello from the Spin SDK");
    // It has no store: the guest says so itself.
    assert_eq!(served.get("/kv/anything").await.status, 502);
}

#[tokio::test]
async fn imports_of_an_sdk_that_the_host_does_not_have_matter_only_when_called() {
    let import = r#"(import "nowhere" "nothing" (func $nothing))"#;
    let called_below_the_root =
        "(if (i32.gt_u (local.get $uri_len) (i32.const 1)) (then (call $nothing))) (i32.const 1000)";
    let served = App::of(&legacy_with(import, called_below_the_root)).serve().await;
    assert_eq!(served.get("/").await.text(), "hello");
    assert_eq!(served.get("/anything").await.status, 500);
}

#[tokio::test]
async fn a_core_module_with_a_component_type_is_made_a_component() {
    let served = App::of(&guest("http-spin-sdk.core")).serve().await;
    assert_eq!(served.get("/").await.text().trim_end(), "Hello from the Spin SDK");
}

#[tokio::test]
async fn a_component_serves_its_files() {
    let served = App::of(&guest("http-files")).file("index.html", "<p>home").file("a/b.txt", "beta").serve().await;
    assert_eq!(served.get("/").await.text(), "<p>home");
    assert_eq!(served.get("/a/b.txt").await.text(), "beta");
    assert_eq!(served.get("/none").await.status, 404);
    let head = served.send(Request::head("/a/b.txt")).await;
    assert_eq!((head.status, head.text(), head.header("content-length")), (200, "", "4"));
}
