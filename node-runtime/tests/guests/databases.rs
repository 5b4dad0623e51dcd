//! Databases and brokers, by every version of their interfaces, against real servers.

use std::{path::Path, sync::Arc, time::Duration};

use http::Request;
use manifest::{
    RuntimeConfig,
    runtime_config::{ClientTls, Pem},
};
use test_services::{PASSWORD, USER, authority, mariadb, mosquitto, postgres, redis};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{AMPLE, App, Served, engine_with, guest, text};

/// A place where nothing listens.
const NOBODY: &str = "127.0.0.1:9";

/// Everything that speaks one of these protocols is allowed.
pub(crate) fn everywhere(app: App) -> App {
    ["redis", "rediss", "postgres", "mysql", "mqtt", "mqtts"]
        .iter()
        .fold(app, |app, scheme| app.allow(&format!("{scheme}://*:*")))
}

/// The guest of the Spin SDK 5, which has the interfaces of version 2, and those of PostgreSQL of versions 3 and 4.
async fn sdk() -> Served {
    everywhere(App::of(&guest("http-spin-sdk"))).serve().await
}

/// What a guest says that is asked over `path`.
pub(crate) async fn ask(served: &Served, path: &str, lines: &[&str]) -> String {
    let reply = served.send_body(Request::post(path), lines.join("\n")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!reply.text().contains(PASSWORD), "{}", reply.text());
    reply.text().to_owned()
}

/// A runtime configuration by which the component trusts the authority of the test servers.
fn trusting(dir: &Path) -> Arc<RuntimeConfig> {
    let file = dir.join("authority.pem");
    std::fs::write(&file, authority().pem()).unwrap();
    let tls = ClientTls {
        component_ids: vec!["main".to_owned()],
        hosts: vec!["localhost".to_owned()],
        platform_roots: false,
        webpki_roots: false,
        ca_roots: Some(Pem::File(file)),
        client_cert: None,
        client_private_key: None,
    };
    Arc::new(RuntimeConfig { client_tls: vec![tls], ..RuntimeConfig::default() })
}

/// A server that answers every connection with the same bytes, and then nothing more.
async fn liar(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 512];
            let _some = stream.read(&mut asked).await;
            let _sent = stream.write_all(answer).await;
            open.push(stream);
        }
    });
    tasks.detach_all();
    port
}

#[tokio::test]
async fn redis_answers_over_one_connection_with_every_function() {
    let (served, url) = (sdk().await, redis().unwrap().url());
    let url = url.as_str();
    let says = ask(&served, "/db/redis", &[url, "get;set;get;del;del", "r-one", "value"]).await;
    assert_eq!(says, "Ok(None)\nOk(())\nOk(Some(\"value\"))\nOk(1)\nOk(0)");
    let says = ask(&served, "/db/redis", &[url, "sadd;sadd;smembers;srem;publish", "r-set", "a"]).await;
    assert_eq!(says, "Ok(1)\nOk(0)\nOk([\"a\"])\nOk(1)\nOk(())");
    let says = ask(&served, "/db/redis", &[url, "SET r-n 9223372036854775806;incr;incr", "r-n"]).await;
    assert!(says.ends_with("Ok(9223372036854775807)\nErr(Error::TypeError)"), "{says}");
    let says = ask(
        &served,
        "/db/redis",
        &[url, "HSET r-hash f i:7;HGETALL r-hash;EXISTS r-hash r-none;get;LRANGE r-list 0 -1", "r-hash"],
    )
    .await;
    assert_eq!(says.lines().nth(3), Some("Err(Error::TypeError)"), "{says}");
}

#[tokio::test]
async fn redis_replies_are_one_flat_list() {
    let (served, url) = (sdk().await, redis().unwrap().url());
    let script = "return {1,{'two',{3}},false,redis.status_reply('FINE')}";
    let says = ask(&served, "/db/redis", &[&url, "EVAL", script, "0"]).await;
    assert_eq!(
        says,
        "[RedisResult::Int64(1), Binary(two), RedisResult::Int64(3), RedisResult::Nil, RedisResult::Status(\"FINE\")]"
    );
    let says = ask(&served, "/db/redis", &[&url, "NONSENSE"]).await;
    assert!(says.contains("Error::Other") && says.contains("unknown command"), "{says}");
}

#[tokio::test]
async fn what_a_guest_does_to_its_redis_connection_is_gone_with_it() {
    let (served, url) = (sdk().await, redis().unwrap().url());
    let says = ask(&served, "/db/redis", &[&url, "SELECT 3;set;get", "r-db3", "here"]).await;
    assert_eq!(says.lines().last(), Some("Ok(Some(\"here\"))"));
    let says = ask(&served, "/db/redis", &[&url, "get", "r-db3"]).await;
    assert_eq!(says, "Ok(None)", "another guest has database 0");
    ask(&served, "/db/redis", &[&url, "MULTI"]).await;
    let says = ask(&served, "/db/redis", &[&url, "PING"]).await;
    assert_eq!(says, "[RedisResult::Status(\"PONG\")]", "no transaction is left open");
}

/// The connections of a Redis database, as the server numbers them.
async fn redis_connections(database: u32) -> Vec<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", redis().unwrap().port)).await.unwrap();
    stream.write_all(format!("AUTH {PASSWORD}\r\nCLIENT LIST\r\nQUIT\r\n").as_bytes()).await.unwrap();
    let mut listed = String::new();
    stream.read_to_string(&mut listed).await.unwrap();
    let of_database = listed.lines().filter(|line| line.contains(&format!(" db={database} ")));
    of_database.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn connections_are_used_again_unless_a_guest_has_changed_them() {
    let app = App::on(engine_with(|_| {}), &guest("http-spin-sdk"));
    let (served, url) = (everywhere(app).serve().await, format!("{}/9", redis().unwrap().url()));
    ask(&served, "/db/redis", &[&url, "PING"]).await;
    served.idle().await;
    let first = redis_connections(9).await;
    assert_eq!(first.len(), 1);
    ask(&served, "/db/redis", &[&url, "PING"]).await;
    served.idle().await;
    assert_eq!(redis_connections(9).await, first);
    ask(&served, "/db/redis", &[&url, "CLIENT SETNAME me"]).await;
    served.idle().await;
    ask(&served, "/db/redis", &[&url, "PING"]).await;
    served.idle().await;
    assert_ne!(redis_connections(9).await, first);
}

#[tokio::test]
async fn an_instance_has_so_many_connections_and_no_more() {
    let config = RuntimeConfig { outbound_redis_connections: Some(400), ..RuntimeConfig::default() };
    let mut app = everywhere(App::on(engine_with(|engine| engine.outbound_connections = 400), &guest("http-spin-sdk")));
    app.settings.runtime_config = Arc::new(config);
    let served = app.serve().await;
    let says = ask(&served, "/db/redis-open", &[&redis().unwrap().url()]).await;
    assert_eq!(says, "256: Error::TooManyConnections");
}

#[tokio::test]
async fn postgres_has_the_values_of_each_version() {
    let (served, server) = (sdk().await, postgres().unwrap());
    server.create("values_of").unwrap();
    let url = server.url("values_of");
    let plain = "select $1::bool, $2::int8, $3::int2, $4::float8, $5::text, $6::bytea, $7::text, date '2024-02-29'";
    let arguments = ["t:true", "i:-5", "i:7", "f:0.5", "s:it's", "b:xy", "n:"];
    for (interface, date) in [("pg", "Unsupported"), ("pg3", "Date((2024, 2, 29))"), ("pg4", "Date((2024, 2, 29))")] {
        let lines = [[url.as_str(), plain].as_slice(), &arguments].concat();
        let says = ask(&served, &format!("/db/{interface}"), &lines).await;
        for value in [
            "Boolean(true)",
            "Int64(-5)",
            "Int16(7)",
            "Floating64(0.5)",
            "Str(\"it's\")",
            "Binary([120, 121])",
            "DbNull",
            date,
        ] {
            assert!(says.contains(value), "{interface}: {value} is not in {says}");
        }
    }
}

#[tokio::test]
async fn postgres_four_carries_every_type_there_and_back() {
    let (served, server) = (sdk().await, postgres().unwrap());
    server.create("every_type").unwrap();
    let url = server.url("every_type");
    let all = "select $1::date, $2::time, $3::timestamp, $4::timestamptz, $5::uuid, $6::jsonb, $7::numeric, $8::int4range, \
               $9::int8range, $10::numrange, $11::int4[], $12::int8[], $13::numeric[], $14::text[], $15::interval";
    let says = ask(&served, "/db/pg4", &[&url, all, "all"]).await;
    for value in [
        "Date((2024, 2, 29))",
        "Time((23, 59, 58, 123456000))",
        "Datetime((1999, 12, 31, 1, 2, 3, 0))",
        "Timestamp(-1)",
        "Uuid(\"00000000-0000-0000-0000-00000000002a\")",
        "Decimal(\"-123456789012345678901234567890.05\")",
        "RangeInt32((Some((1, RangeBoundKind::Inclusive)), Some((5, RangeBoundKind::Exclusive))))",
        "RangeInt64((None, Some((7, RangeBoundKind::Exclusive))))",
        "RangeDecimal((Some((\"0.5\", RangeBoundKind::Exclusive)), None))",
        "ArrayInt32([Some(1), None])",
        "ArrayInt64([Some(9223372036854775807)])",
        "ArrayDecimal([Some(\"1.50\"), None])",
        r#"ArrayStr([Some("a\"},\\"), None])"#,
        "micros: 1, days: -2, months: 3",
    ] {
        assert!(says.contains(value), "{value} is not in {says}");
    }
    let others =
        "!create type mood as enum ('sad', 'ok');;select 'ok'::mood, '[1]'::json, 1::money, null::uuid, 'x'::name";
    let says = ask(&served, "/db/pg4", &[&url, others]).await;
    for value in ["Str(\"ok\")", "Str(\"[1]\")", "Unsupported(", "DbNull", "Other(\"money\")"] {
        assert!(says.contains(value), "{value} is not in {says}");
    }
}

#[tokio::test]
async fn postgres_errors_keep_their_message_and_sqlstate() {
    let (served, server) = (sdk().await, postgres().unwrap());
    server.create("errors").unwrap();
    let url = server.url("errors");
    let unique = "!create table t (a int primary key);;!insert into t values (1);;!insert into t values (1);;select count(*) from t";
    let says = ask(&served, "/db/pg4", &[&url, unique]).await;
    assert!(
        says.contains("code: \"23505\"") && says.contains("severity: \"ERROR\"") && says.contains("t_pkey"),
        "{says}"
    );
    assert!(says.contains("Int64(1)"), "the connection goes on: {says}");
    for interface in ["pg", "pg3"] {
        let says = ask(&served, &format!("/db/{interface}"), &[&url, "select * from nowhere"]).await;
        assert!(says.contains("QueryFailed") && says.contains("42P01") && says.contains("nowhere"), "{says}");
    }
    let says = ask(&served, "/db/pg4", &[&url, "select $1::int4", "i:1", "i:2"]).await;
    assert!(says.contains("BadParameter") && says.contains("needs 1 parameters, and 2 are given"), "{says}");
    let says = ask(&served, "/db/pg4", &[&url, "select $1::uuid", "t:true"]).await;
    assert!(says.contains("BadParameter(\"parameter $1: a boolean cannot"), "{says}");
    let says = ask(&served, "/db/pg4", &[&url, "select timestamp 'infinity' as when_it_ends"]).await;
    assert!(says.contains("ValueConversionFailed(\"column `when_it_ends` of type timestamp"), "{says}");
}

#[tokio::test]
async fn nothing_of_a_session_is_left_for_the_next_guest() {
    let (served, server) = (sdk().await, postgres().unwrap());
    server.create("sessions").unwrap();
    let url = server.url("sessions");
    let leave = "!set application_name = 'mine';;!create temporary table t (a int);;!select pg_advisory_lock(7);;!prepare p as select 1";
    ask(&served, "/db/pg", &[&url, leave]).await;
    ask(&served, "/db/pg", &[&url, "!begin"]).await;
    let find = "select current_setting('application_name'), to_regclass('pg_temp.t')::text, \
                (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()), \
                (select count(*) from pg_prepared_statements where name = 'p')";
    let says = ask(&served, "/db/pg", &[&url, find]).await;
    assert!(
        says.contains("[[DbValue::Str(\"spindle\"), DbValue::DbNull, DbValue::Int64(0), DbValue::Int64(0)]]"),
        "{says}"
    );

    let server = mariadb().unwrap();
    server.create("sessions").unwrap();
    let url = server.url("sessions");
    let leave = "!set @mine = 1;;!create temporary table t (a int);;!create table kept (a int);;!start transaction;;!insert into kept values (1)";
    ask(&served, "/db/mysql", &[&url, leave]).await;
    let says = ask(&served, "/db/mysql", &[&url, "select @mine, (select count(*) from kept);;select * from t"]).await;
    assert!(says.contains("DbNull, DbValue::Int64(0)") && says.contains("1146"), "{says}");
}

#[tokio::test]
async fn mysql_has_its_values_and_errors() {
    let (served, server) = (sdk().await, mariadb().unwrap());
    server.create("values_of").unwrap();
    let url = server.url("values_of");
    let make = "!create table t (a tinyint unsigned, b bigint unsigned, c date, d datetime(3), e decimal(5,2), f bit(1), g bit(9), \
                h json, i enum('x','y'), j blob, k text, l year, m time, n double, o bool)";
    let fill = "!insert into t values (255, 18446744073709551615, '2024-02-29', '2024-02-29 01:02:03.456', 1.5, 1, 256, '{}', 'y', \
                x'00ff', 'text', 2024, '-30:00:01', 0.5, true)";
    let says =
        ask(&served, "/db/mysql", &[&url, &format!("{make};;{fill};;select * from t;;select * from nowhere")]).await;
    for value in [
        "Uint8(255)",
        "Uint64(18446744073709551615)",
        "Str(\"2024-02-29\")",
        "Str(\"2024-02-29 01:02:03.456\")",
        "Str(\"1.50\")",
        "Boolean(true)",
        "Binary([1, 0])",
        "Str(\"{}\")",
        "Str(\"y\")",
        "Binary([0, 255])",
        "Str(\"text\")",
        "Uint16(2024)",
        "Str(\"-30:00:01\")",
        "Floating64(0.5)",
        "Int8(1)",
        "QueryFailed(\"ERROR 1146 (42S02)",
    ] {
        assert!(says.contains(value), "{value} is not in {says}");
    }
    let given = ask(&served, "/db/mysql", &[&url, "select ?, ?, ?", "i:-1", "s:it's", "n:"]).await;
    assert!(given.contains("Int64(-1)") && given.contains("it's") && given.contains("DbNull"), "{given}");
    let wrong = ask(&served, "/db/mysql", &[&url, "select ?", "i:1", "i:2"]).await;
    assert!(wrong.contains("BadParameter"), "{wrong}");
}

#[tokio::test]
async fn mqtt_messages_reach_a_subscriber() {
    let (served, broker) = (sdk().await, mosquitto().unwrap());
    let mut subscriber = tokio::process::Command::new("python3");
    subscriber.arg("-c").arg(SUBSCRIBER).args([broker.port.to_string().as_str(), USER, PASSWORD, "m/topic", "3"]);
    let mut subscriber = subscriber.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut out = subscriber.stdout.take().unwrap();
    let mut ready = [0; 6];
    out.read_exact(&mut ready).await.unwrap();
    let says = ask(&served, "/db/mqtt", &[&broker.url(), "m/topic", USER, PASSWORD, "hello"]).await;
    assert_eq!(says, "Ok(())\nOk(())\nOk(())");
    let mut heard = String::new();
    out.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello\nhello\nhello\n");
    let says = ask(&served, "/db/mqtt", &[&broker.url(), "m/+/wild", USER, PASSWORD, "x"]).await;
    assert!(says.contains("Error::Other"), "{says}");
    let says = ask(&served, "/db/mqtt", &[&broker.url(), "m", USER, "wrong", "x"]).await;
    assert!(says.contains("ConnectionFailed") && says.contains("refuses"), "{says}");
}

/// Subscribes by hand, prints `ready` and then each message.
const SUBSCRIBER: &str = r#"
import socket, struct, sys
port, user, password, topic, count = int(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5])
text = lambda t: struct.pack(">H", len(t)) + t.encode()
s = socket.create_connection(("127.0.0.1", port))
send = lambda kind, body: s.sendall(bytes([kind, len(body)]) + body)
f = s.makefile("rb")
def receive():
    kind, size, shift = f.read(1)[0], 0, 0
    while True:
        b = f.read(1)[0]; size |= (b & 127) << shift; shift += 7
        if b < 128: return kind, f.read(size)
send(0x10, text("MQTT") + b"\x04\xc2\x00\x3c" + text("listener") + text(user) + text(password))
assert receive()[1] == b"\0\0"
send(0x82, b"\0\1" + text(topic) + b"\0"); receive()
print("ready", flush=True)
for _ in range(count):
    kind, body = receive()
    print(body[2 + struct.unpack(">H", body[:2])[0]:].decode(), flush=True)
"#;

#[tokio::test]
async fn what_is_not_allowed_is_refused_before_anything_is_resolved() {
    let served =
        App::of(&guest("http-spin-sdk")).allow("redis://allowed.invalid:1").allow("postgres://a:5432").serve().await;
    let secret = format!("redis://:{PASSWORD}@127.0.0.1:6379");
    assert_eq!(ask(&served, "/db/redis", &[&secret, "get", "k"]).await, "open: Error::InvalidAddress");
    assert_eq!(ask(&served, "/db/redis", &["unix:///tmp/redis.sock", "get", "k"]).await, "open: Error::InvalidAddress");
    let refused = "ConnectionFailed(\"address postgres://b:5432 is not permitted\")";
    for address in ["postgres://u:p@b/app", "host=a,b user=u", "postgres://u@a/app?host=b"] {
        let says = ask(&served, "/db/pg", &[address, "select 1"]).await;
        assert!(says.contains(refused), "{address}: {says}");
    }
    for around in ["host=/tmp", "host=a hostaddr=127.0.0.1"] {
        let says = ask(&served, "/db/pg", &[around, "select 1"]).await;
        assert!(says.contains("ConnectionFailed(\"the address cannot be used"), "{says}");
    }
    let says = ask(&served, "/db/mysql", &["mysql://u:p@b/app", "select 1"]).await;
    assert!(says.contains("ConnectionFailed(\"address mysql://b:3306 is not permitted\")"), "{says}");
    let says = ask(&served, "/db/mqtt", &["mqtt://b", "t"]).await;
    assert!(says.contains("ConnectionFailed(\"address mqtt://b:1883 is not permitted\")"), "{says}");
}

#[tokio::test]
async fn tls_needs_an_authority_that_the_component_trusts() {
    let dir = tempfile::tempdir().unwrap();
    let mut app = everywhere(App::of(&guest("http-spin-sdk")));
    app.settings.runtime_config = trusting(dir.path());
    let trusting = app.serve().await;
    let strange = sdk().await;
    postgres().unwrap().create("tls").unwrap();
    mariadb().unwrap().create("tls").unwrap();
    let (postgres, mariadb) = (postgres().unwrap().tls_url("tls"), mariadb().unwrap().tls_url("tls"));
    let broker = mosquitto().unwrap().tls_url();
    let redis = redis().unwrap().tls_url();
    let asked: [(&str, &[&str], &str); 4] = [
        ("/db/redis", &[&redis, "PING"], "PONG"),
        ("/db/pg", &[&postgres, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"], "Boolean(true)"),
        ("/db/mysql", &[&mariadb, "show status like 'Ssl_cipher'"], "TLS"),
        ("/db/mqtt", &[&broker, "tls", USER, PASSWORD, "x"], "Ok(())\nOk(())\nOk(())"),
    ];
    for (path, lines, expected) in asked {
        let says = ask(&trusting, path, lines).await;
        assert!(says.contains(expected), "{path}: {says}");
        let says = ask(&strange, path, lines).await;
        assert!(says.starts_with("open: ") && says.contains("UnknownIssuer"), "{path}: {says}");
    }
}

#[tokio::test]
async fn an_address_that_is_longer_than_any_is_none() {
    let served = sdk().await;
    let long = "x".repeat(9000);
    for (path, scheme, said) in [
        ("/db/redis", "redis", "InvalidAddress"),
        ("/db/pg", "postgres", "more than 8192 bytes"),
        ("/db/mysql", "mysql", "more than 8192 bytes"),
        ("/db/mqtt", "mqtt", "InvalidAddress"),
    ] {
        let url = format!("{scheme}://u:{long}@{NOBODY}/x");
        let says = ask(&served, path, &[&url, "PING", "", ""]).await;
        assert!(says.contains(said) && !says.contains("xxxx"), "{path}: {says}");
    }
}

/// A server that says `before` to whoever says something first, and then shows the certificate of an authority for its own.
async fn authority_as_server(before: &'static [u8]) -> (u16, String, JoinSet<()>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((mut client, _)) = listener.accept().await {
            if !before.is_empty() {
                let _heard = client.read(&mut [0; 64]).await;
                let _said = client.write_all(before).await;
            }
            let _refused = acceptor.accept(client).await;
        }
    });
    (port, certificate.pem(), tasks)
}

#[tokio::test]
async fn a_server_that_shows_the_certificate_of_an_authority_is_explained() {
    let ((redis, redis_pem, _redis), (pg, pg_pem, _pg)) =
        (authority_as_server(b"").await, authority_as_server(b"S").await);
    let trusted = Pem::Text(manifest::Secret::new(format!("{redis_pem}{pg_pem}")));
    let served = everywhere(App::of(&guest("http-spin-sdk")))
        .runtime_config(|config| {
            config.client_tls.push(ClientTls {
                component_ids: vec!["main".to_owned()],
                hosts: vec!["localhost".to_owned()],
                platform_roots: false,
                webpki_roots: false,
                ca_roots: Some(trusted),
                client_cert: None,
                client_private_key: None,
            });
        })
        .serve()
        .await;
    let (redis, pg) =
        (format!("rediss://localhost:{redis}"), format!("postgres://u:p@localhost:{pg}/x?sslmode=require"));
    for (path, lines) in [("/db/redis", [redis.as_str(), "PING"]), ("/db/pg", [pg.as_str(), "select 1"])] {
        let says = ask(&served, path, &lines).await;
        assert!(says.starts_with("open: ") && says.contains("CA:FALSE"), "{path}: {says}");
    }
}

#[tokio::test]
async fn servers_that_are_not_what_they_should_be_fail_one_call() {
    let served = sdk().await;
    let wrong = |url: String| url.replace(PASSWORD, "wrong");
    let (redis, postgres, mariadb) = (redis().unwrap(), postgres().unwrap(), mariadb().unwrap());
    let garbage = liar(b"HTTP/1.1 400 Bad Request\r\nserver: none\r\n\r\n").await;
    for (path, addresses) in [
        ("/db/redis", [format!("redis://{NOBODY}"), wrong(redis.url()), format!("redis://127.0.0.1:{garbage}")]),
        (
            "/db/pg",
            [
                format!("postgres://u:p@{NOBODY}/x"),
                wrong(postgres.url("postgres")),
                format!("postgres://u@127.0.0.1:{garbage}/x"),
            ],
        ),
        (
            "/db/mysql",
            [
                format!("mysql://u:p@{NOBODY}/x"),
                wrong(mariadb.url("mysql")),
                format!("mysql://u@127.0.0.1:{garbage}/x"),
            ],
        ),
        (
            "/db/mqtt",
            [format!("mqtt://{NOBODY}"), format!("mqtt://127.0.0.1:{garbage}"), "mqtt://127.0.0.1:1".to_owned()],
        ),
    ] {
        for address in addresses {
            let says = ask(&served, path, &[&address, "select 1"]).await;
            // Without a password, the first that a Redis server is asked is the guest's command.
            assert!(says.contains("ConnectionFailed") || says.contains("Error::Other"), "{path} {says}");
        }
    }
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_request_and_its_connection() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let served = everywhere(App::of(&guest("http-spin-sdk"))).timeout(AMPLE).serve().await;
    let lines = format!("redis://127.0.0.1:{port}\nget\nk");
    let reply = served.send_body(Request::post("/db/redis"), lines).await;
    assert!(reply.status == 504 || reply.text().contains("in time"), "{} {}", reply.status, reply.text());
    let (mut stream, _) = silent.accept().await.unwrap();
    let mut rest = Vec::new();
    // The connection is closed with the request.
    tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_query_whose_request_is_over_is_cancelled_on_the_server() {
    let server = postgres().unwrap();
    server.create("cancelled").unwrap();
    let url = server.url("cancelled");
    let hasty = everywhere(App::of(&guest("http-spin-sdk"))).timeout(Duration::from_secs(2)).serve().await;
    let reply = hasty.send_body(Request::post("/db/pg"), format!("{url}\nselect pg_sleep(3600)")).await;
    assert_ne!(reply.status, 200, "{}", reply.text());
    let served = sdk().await;
    let sleeping = "select count(*) from pg_stat_activity where query like '%pg_sleep(3600)' and state = 'active'";
    for attempt in 0.. {
        let says = ask(&served, "/db/pg", &[&url, sleeping]).await;
        if says.contains("Int64(0)") {
            break;
        }
        assert!(attempt < 600, "it still sleeps");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_an_error_and_the_next_is_not() {
    let engine = engine_with(|config| config.store_result = 1 << 20);
    let served = everywhere(App::on(engine, &guest("http-spin-sdk"))).serve().await;
    let (redis, postgres, mariadb) = (redis().unwrap().url(), postgres().unwrap(), mariadb().unwrap());
    postgres.create("large").unwrap();
    mariadb.create("large").unwrap();
    for (path, address, large, small) in [
        ("/db/redis", redis, "SETRANGE r-large i:2000000 x;get", "PING"),
        ("/db/pg", postgres.url("large"), "select repeat('x', 2000000)", "select 1"),
        ("/db/pg4", postgres.url("large"), "select generate_series(1, 1000000)", "select 1"),
        ("/db/mysql", mariadb.url("large"), "select repeat('x', 2000000)", "select 1"),
    ] {
        let key = if path == "/db/redis" { "r-large" } else { "n:" };
        let lines =
            if path == "/db/redis" { vec![address.as_str(), large, key] } else { vec![address.as_str(), large] };
        let reply = served.send_body(Request::post(path), lines.join("\n")).await;
        assert!(
            reply.text().contains("larger than") || reply.text().contains("more than the"),
            "{path}: {}",
            reply.text()
        );
        let says = ask(&served, path, &[&address, small]).await;
        assert!(says.contains("PONG") || says.contains("(1)"), "{path}: {says}");
    }
}

#[tokio::test]
async fn the_first_interfaces_take_an_address_in_every_call() {
    let served = everywhere(App::of(&guest("databases-first"))).serve().await;
    let says = ask(&served, "/redis", &[&redis().unwrap().url(), "f-key"]).await;
    let expected = "Ok([])\nOk(())\nOk(42)\nOk(Ok(\"42\"))\nOk(2)\nOk([\"a\", \"b\"]) Ok(2)\nOk(())\n";
    assert!(says.starts_with(expected) && says.ends_with("\nOk(1)"), "{says}");
    let (postgres, mariadb) = (postgres().unwrap(), mariadb().unwrap());
    postgres.create("first").unwrap();
    mariadb.create("first").unwrap();
    let says = ask(&served, "/postgres", &[&postgres.url("first"), "select $1::int8 as one, $2::text as two"]).await;
    assert!(says.starts_with("Ok(0)\n") && says.contains("Int64(7)") && says.contains("Str(\"text\")"), "{says}");
    let says = ask(&served, "/mysql", &[&mariadb.url("first"), "select cast(? as unsigned) as one, ? as two"]).await;
    assert!(says.starts_with("Ok(())\n") && says.contains("Uint64(18446744073709551615)"), "{says}");
    let denied = App::of(&guest("databases-first")).serve().await;
    let says = ask(&denied, "/redis", &[&redis().unwrap().url(), "f-key"]).await;
    assert!(says.lines().all(|line| line.contains("Err(")), "{says}");
    let says = ask(&denied, "/postgres", &[&postgres.url("first"), "select 1"]).await;
    assert!(says.contains("ConnectionFailed(\"address postgres://127.0.0.1"), "{says}");
}

#[tokio::test]
async fn core_modules_find_results_at_the_offsets_of_the_canonical_abi() {
    let served = everywhere(App::of(&guest("legacy-databases"))).serve().await;
    let says = ask(&served, "/redis", &[&redis().unwrap().url(), "l-key"]).await;
    let expected = "\"\"\nok\n42\n\"42\"\n2\n[\"a\", \"b\"]\n1\nerror 1\nerror 1\nok\n3\n2";
    assert_eq!(says, expected);
    let (postgres, mariadb) = (postgres().unwrap(), mariadb().unwrap());
    postgres.create("legacy").unwrap();
    mariadb.create("legacy").unwrap();
    let statement =
        "select $1::int8 as one, $2::text as two, $3::bool as three, 0.5::float4, date '2024-01-01', '\\x00ff'::bytea";
    let says = ask(&served, "/pg", &[&postgres.url("legacy"), statement]).await;
    assert_eq!(
        says,
        "0\none: 4, two: 11, three: 0, float4: 9, date: 13, bytea: 12\n7i64, \"text\", null, 0.5f32, unsupported, [0, 255]"
    );
    let says =
        ask(&served, "/pg", &[&postgres.url("legacy"), "select $1::int8, $2::text, $3::bool from nowhere"]).await;
    assert!(says.contains("error 3: ERROR: relation \"nowhere\" does not exist (SQLSTATE 42P01)"), "{says}");
    let says =
        ask(&served, "/mysql", &[&mariadb.url("legacy"), "select cast(? as unsigned) as one, ? as two, ? as three"])
            .await;
    assert!(
        says.starts_with("ok\none: 8, two: 11, ") && says.contains("18446744073709551615u, \"text\", null"),
        "{says}"
    );
    let wild = served.send_body(Request::post("/wild"), redis().unwrap().url()).await;
    assert_eq!(wild.status, 500);
}

#[tokio::test]
async fn modules_of_the_first_months_find_results_of_redis_in_slots() {
    let wasm = text(include_str!("first_redis.wat"));
    let url = redis().unwrap().url();
    // Three results of 24 bytes, each a tag and what it says; then what the pointer in the second one leads to.
    let slots = async |served: Served| {
        let reply = served.send_body(Request::post("/"), url.clone()).await;
        assert_eq!(reply.body.len(), 73, "{reply:?}");
        let slot = |at: usize| u64::from_le_bytes(reply.body[at..at + 8].try_into().unwrap());
        ([slot(0), slot(8)], [slot(24), slot(40)], [slot(48), slot(56)], reply.body[72])
    };
    assert_eq!(slots(everywhere(App::of(&wasm)).serve().await).await, ([0, 0], [0, 1], [0, 0], b'v'));
    let denied = slots(App::of(&wasm).serve().await).await;
    assert_eq!((denied.0, denied.1[0], denied.2), ([1, 1], 1, [1, 1]));
}

#[tokio::test]
async fn guests_of_wasi_0_3_have_their_rows_as_they_come() {
    let served = everywhere(App::of(&guest("http-p3"))).serve().await;
    let says = ask(&served, "/db/redis", &[&redis().unwrap().url(), "p3-key"]).await;
    let lines: Vec<&str> = says.lines().collect();
    assert_eq!(lines[..2], ["Ok(()) Ok(2)", "Ok(2)"], "{says}");
    assert!(lines[4].contains("TypeError") && lines[7] == "Ok(2)", "{says}");

    let (postgres, mariadb) = (postgres().unwrap(), mariadb().unwrap());
    postgres.create("p3").unwrap();
    mariadb.create("p3").unwrap();
    let (pg, my) = (postgres.url("p3"), mariadb.url("p3"));
    let says = ask(&served, "/db/pg", &[&pg, "select generate_series(1, 5000) as n;;!create table t (a int);;select 1 / (3 - n) from generate_series(1, 9) n"]).await;
    assert!(says.contains("5000 rows, the last Some([DbValue::Int32(5000)]), then Ok(())"), "{says}");
    assert!(says.contains("Ok(0)") && says.contains("22012"), "{says}");
    let says = ask(&served, "/db/pg-first", &[&pg, "select generate_series(1, 100000000)"]).await;
    assert_eq!(says, "Some([DbValue::Int32(1)])");
    let says = ask(
        &served,
        "/db/mysql",
        &[&my, "!create table t (a int);;select seq from seq_1_to_3000;;select * from nowhere"],
    )
    .await;
    assert!(says.contains("Ok(())") && says.contains("Ok(3000) rows") && says.contains("1146"), "{says}");
    let broker = mosquitto().unwrap().url();
    assert_eq!(ask(&served, "/db/mqtt", &[&broker, "p3", USER, PASSWORD, "x"]).await, "Ok(())\nOk(())\nOk(())");
    let tls = postgres.tls_url("p3");
    let pem: Vec<&str> = authority().pem().lines().collect();
    let says = ask(&served, "/db/pg-ca", &[[tls.as_str(), "select 7"].as_slice(), &pem].concat()).await;
    assert!(says.contains("Int32(7)"), "{says}");
}
