//! Databases and brokers that break while they are used, and answers that are small on the wire and large in memory.

#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails, also in what tests share")]

use std::sync::{Arc, Mutex};

use test_services::{PASSWORD, USER, mariadb, mosquitto, postgres, redis};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    databases::{ask, everywhere},
    servers::raw,
    support::{App, engine_with, guest},
};

/// What a client must not say through a [`Fragile`].
const CUT: &str = "cut-here";

/// A way to a server on which every connection is lost when a client says [`CUT`], or when it is told to break.
struct Fragile {
    port: u16,
    broken: watch::Sender<u32>,
    _tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Fragile {
    async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broken = watch::Sender::new(0);
        let tasks: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let (breaks, connections) = (broken.clone(), Arc::downgrade(&tasks));
        tasks.lock().unwrap().spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Some(tasks) = connections.upgrade() else { return };
                tasks.lock().unwrap().spawn(carry(client, server, breaks.subscribe()));
            }
        });
        Self { port, broken, _tasks: tasks }
    }

    /// `url`, which is one of the server, by this way.
    fn url(&self, url: &str, server: u16) -> String {
        url.replace(&format!(":{server}"), &format!(":{}", self.port))
    }

    /// Loses all connections.
    async fn cut(&self) {
        self.broken.send_modify(|times| *times += 1);
        // Whoever carries one listens. The one that is left listens for new ones.
        while self.broken.receiver_count() > 0 {
            tokio::task::yield_now().await;
        }
        // The other end is told by the same thread.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

async fn carry(mut client: TcpStream, server: u16, mut broken: watch::Receiver<u32>) {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut asked, mut answered, mut said) = ([0; 4096], [0; 4096], Vec::new());
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(size @ 1..) = read else { return };
                said.extend_from_slice(&asked[..size]);
                if String::from_utf8_lossy(&said).contains(CUT) || server.write_all(&asked[..size]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(size @ 1..) = read else { return };
                if client.write_all(&answered[..size]).await.is_err() {
                    return;
                }
            }
            _ = broken.changed() => return,
        }
    }
}

/// The guest's interface, a server's address and port, what loses the connection, what does not, and what a loss is called.
type Case<'a> = (&'a str, (String, u16), Vec<&'a str>, Vec<&'a str>, &'a str);

#[tokio::test]
async fn a_server_that_goes_in_the_middle_of_a_call_fails_that_call_and_the_next_finds_it_again() {
    let served = everywhere(App::of(&guest("http-spin-sdk"))).serve().await;
    let (redis, postgres, mariadb, broker) =
        (redis().unwrap(), postgres().unwrap(), mariadb().unwrap(), mosquitto().unwrap());
    postgres.create("fragile").unwrap();
    mariadb.create("fragile").unwrap();
    let pg = (postgres.url("fragile"), postgres.port);
    let sql = format!("select '{CUT}'");
    let cases: [Case<'_>; 5] = [
        ("/db/redis", (redis.url(), redis.port), vec!["get", CUT], vec!["PING"], "Error::Other"),
        ("/db/pg", pg.clone(), vec![&sql], vec!["select 1"], "QueryFailed"),
        ("/db/pg4", pg, vec![&sql], vec!["select 1"], "QueryFailed"),
        ("/db/mysql", (mariadb.url("fragile"), mariadb.port), vec![&sql], vec!["select 1"], "QueryFailed"),
        (
            "/db/mqtt",
            (broker.url(), broker.port),
            vec!["t", USER, PASSWORD, CUT],
            vec!["t", USER, PASSWORD, "x"],
            "ConnectionFailed",
        ),
    ];
    for (path, (url, port), cut, fine, expected) in cases {
        let way = Fragile::to(port).await;
        let url = way.url(&url, port);
        let asked = async |lines: &[&str]| ask(&served, path, &[&[url.as_str()], lines].concat()).await;
        for _ in 0..2 {
            let says = asked(&fine).await;
            assert!(!says.contains("Error") && !says.contains("Failed"), "{path}: {says}");
            let says = asked(&cut).await;
            assert!(says.contains(expected), "{path}: {says}");
        }
        asked(&fine).await;
    }
}

#[tokio::test]
async fn a_server_that_was_restarted_between_two_requests_is_connected_to_again() {
    let served = everywhere(App::on(engine_with(|_| {}), &guest("http-spin-sdk"))).serve().await;
    let (redis, postgres) = (redis().unwrap(), postgres().unwrap());
    postgres.create("restarted").unwrap();
    let cases = [
        ("/db/redis", redis.url(), redis.port, "PING", "PONG"),
        ("/db/pg", postgres.url("restarted"), postgres.port, "select 1", "(1)"),
    ];
    for (path, url, port, asked, expected) in cases {
        let way = Fragile::to(port).await;
        let url = way.url(&url, port);
        for _ in 0..3 {
            let says = ask(&served, path, &[&url, asked]).await;
            assert!(says.contains(expected), "{path}: {says}");
            served.idle().await;
            way.cut().await;
        }
    }
}

#[tokio::test]
async fn digits_that_are_not_sent_are_counted_before_they_are_written_down() {
    let engine = engine_with(|config| config.store_result = 1 << 20);
    let served = everywhere(App::on(engine, &guest("http-spin-sdk"))).serve().await;
    let server = postgres().unwrap();
    server.create("digits").unwrap();
    let url = server.url("digits");
    // 131,072 digits each, of which two bytes are sent.
    for large in [
        "select 1e131071::numeric from generate_series(1, 1000)",
        "select array_agg(1e131071::numeric) from generate_series(1, 1000)",
        "select numrange(1e131070, 1e131071) from generate_series(1, 1000)",
        "select array_fill(null::int8, array[100000])",
    ] {
        let says = ask(&served, "/db/pg4", &[&url, large]).await;
        assert!(says.contains("more than the 1048576 bytes"), "{large}: {}", says.get(..300).unwrap_or(&says));
    }
    let says = ask(&served, "/db/pg4", &[&url, "select 1e131071::numeric"]).await;
    assert!(says.contains(&format!("Decimal(\"1{}\")", "0".repeat(131_071))), "{}", says.get(..300).unwrap_or(&says));
    let says = ask(&served, "/db/pg4", &[&url, "select array_fill(7::int8, array[1000])"]).await;
    assert!(says.contains("ArrayInt64([Some(7)"), "{}", says.get(..300).unwrap_or(&says));
}

#[tokio::test]
async fn a_reply_of_very_many_small_values_is_counted_as_what_it_takes() {
    let engine = engine_with(|config| config.store_result = 1 << 20);
    let served = everywhere(App::on(engine, &guest("http-spin-sdk"))).serve().await;
    let url = redis().unwrap().url();
    for (count, fits) in [(1000, true), (100_000, false)] {
        let script = format!("local t = {{}} for i = 1, {count} do t[i] = i end return t");
        let says = ask(&served, "/db/redis", &[&url, "EVAL", &script, "0"]).await;
        assert_eq!(says.contains("more than the 1048576 bytes"), !fits, "{}", says.get(..300).unwrap_or(&says));
        assert_eq!(says.contains("RedisResult::Int64(1000)"), fits, "{}", says.get(..300).unwrap_or(&says));
    }
}

/// A packet of MySQL's protocol.
fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&size[..3], &[number], payload].concat()
}

/// A server of MySQL's protocol that greets, and then says one of `answers` to each packet that it hears. After the last it is
/// silent.
async fn mysql_server(answers: Vec<Vec<u8>>) -> (u16, JoinSet<()>) {
    let greeting = [
        b"\x0a8.0.36\0\x01\0\0\0nonce678\0".as_slice(),
        &[0xff, 0xf7, 45, 2, 0, 0xff, 0xff, 21],
        &[0; 10],
        b"nonce6789012\0mysql_native_password\0",
    ]
    .concat();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let _greeted = client.write_all(&packet(0, &greeting)).await;
            for answer in &answers {
                let mut header = [0; 4];
                if client.read_exact(&mut header).await.is_err() {
                    break;
                }
                let mut payload = vec![0; usize::from(header[0]) | usize::from(header[1]) << 8];
                let _asked = client.read_exact(&mut payload).await;
                let _answered = client.write_all(answer).await;
            }
            open.push(client);
        }
    });
    (port, tasks)
}

#[tokio::test]
async fn a_server_of_mysql_s_protocol_that_lies_fails_one_call() {
    let served = everywhere(App::of(&guest("http-spin-sdk"))).serve().await;
    let fine = |number| packet(number, &[0, 0, 0, 2, 0, 0, 0]);
    let columns = |number, count: u64| packet(number, &[&[0xfe][..], &count.to_le_bytes()].concat());
    let one_column = b"\x03def\0\0\0\x01a\0\x0c\x3f\0\x01\0\0\0\x08\0\0\0\0\0";
    let begins = [packet(1, &[1]), packet(2, one_column), packet(3, &[0xfe, 0, 0, 2, 0])].concat();
    let statement = |columns: u16, parameters: u16| {
        packet(1, &[&[0, 1, 0, 0, 0][..], &columns.to_le_bytes(), &parameters.to_le_bytes(), &[0, 0, 0]].concat())
    };
    // The login, what the client library asks by itself, and the guest's statement: prepared, then executed.
    let logged_in = |rest: &[Vec<u8>]| [&[fine(2), fine(1)][..], rest].concat();
    let announced = "announces 18446744073709551615 columns";
    let cases: [(Vec<Vec<u8>>, &str); 13] = [
        (logged_in(&[statement(0, 0), columns(1, u64::MAX)]), announced),
        (logged_in(&[statement(0, 0), columns(1, 1 << 40)]), "announces 1099511627776 columns"),
        (
            logged_in(&[
                statement(0, 0),
                [&begins[..], &packet(4, &[0xfe, 0, 0, 10, 0]), &columns(5, u64::MAX)].concat(),
            ]),
            announced,
        ),
        (vec![fine(2), columns(1, u64::MAX)], announced),
        (logged_in(&[statement(0, 0), [&begins[..], &packet(4, b"")].concat()]), "not what MySQL's protocol has there"),
        (logged_in(&[statement(0, 0), packet(1, b"\xfb/etc/passwd")]), "asks for a file"),
        (logged_in(&[packet(1, b"")]), "not what MySQL's protocol has there"),
        (logged_in(&[[statement(1, 0), packet(2, b"x")].concat()]), "QueryFailed"),
        // Ways to log in that the client library takes for sound.
        (vec![packet(2, b"\xfecaching_sha2_password\0"), packet(4, &[1, 4]), packet(6, b"\x01key")], "makes no sense"),
        (
            vec![packet(2, b"\xfecaching_sha2_password\0nonce"), packet(4, &[1, 4]), packet(6, b"\x01no key")],
            "makes no sense",
        ),
        (vec![packet(2, b"\xfeparsec\0nonce"), packet(4, b"\xfeparsec\0nonce")], "ConnectionFailed"),
        (vec![packet(2, &[0xff; 3])], "ConnectionFailed"),
        // A key of so many bits would keep the client busy.
        (
            vec![
                packet(2, b"\xfecaching_sha2_password\0nonce"),
                packet(4, &[1, 4]),
                packet(6, &[b"\x01".as_slice(), &[b'A'; 8000]].concat()),
            ],
            "not what MySQL's protocol has there",
        ),
    ];
    for (index, (answers, said)) in cases.into_iter().enumerate() {
        let (port, _server) = mysql_server(answers).await;
        let url = format!("mysql://user:password@127.0.0.1:{port}/app");
        let says = ask(&served, "/db/mysql", &[&url, "select 1"]).await;
        assert!(says.contains(said), "case {index}: {says}");
    }
    let server = mariadb().unwrap();
    server.create("honest").unwrap();
    let says = ask(&served, "/db/mysql", &[&server.url("honest"), "select 1"]).await;
    assert!(says.contains("(1)"), "{says}");
}

#[tokio::test]
async fn a_message_of_postgresql_that_is_announced_as_very_long_ends_the_connection() {
    let served = everywhere(App::of(&guest("http-spin-sdk"))).serve().await;
    let (address, _server) = raw(b"R\x7f\xff\xff\xff", false).await;
    let says = ask(&served, "/db/pg", &[&format!("postgres://u:p@{address}/app?sslmode=disable"), "select 1"]).await;
    assert!(says.contains("announces a message of 2147483647 bytes"), "{says}");
}

#[tokio::test]
async fn answers_come_out_of_the_memory_of_an_app_s_guests() {
    // Half of it is for one app, and a guest begins with some of that.
    let engine = engine_with(|config| config.guests_memory = Some(64 << 20));
    let served = everywhere(App::on(engine.clone(), &guest("http-spin-sdk"))).memory(256 << 20).serve().await;
    let (redis, postgres, mariadb) = (redis().unwrap(), postgres().unwrap(), mariadb().unwrap());
    postgres.create("heavy").unwrap();
    mariadb.create("heavy").unwrap();
    let large = "select repeat('x', 1000000) from generate_series(1, 40)";
    for (path, lines) in [
        ("/db/redis", [redis.url().as_str(), "SETRANGE heavy i:40000000 x;get", "heavy"].as_slice()),
        ("/db/pg", &[&postgres.url("heavy"), large]),
        ("/db/pg4", &[&postgres.url("heavy"), large]),
        ("/db/mysql", &[&mariadb.url("heavy"), "select repeat('x', 1000000) from seq_1_to_40"]),
    ] {
        let says = ask(&served, path, lines).await;
        assert!(says.contains("guests have all the memory"), "{path}: {}", says.get(..300).unwrap_or(&says));
    }
    let says = ask(&served, "/db/pg", &[&postgres.url("heavy"), "select 1"]).await;
    assert!(says.contains("(1)"), "{says}");
    served.idle().await;
}
