//! What every database does, whatever is behind it, and what guests' SQL may not do.

mod server;

use std::{collections::BTreeMap, path::Path, time::Duration};

use manifest::runtime_config::{Secret, SqliteDatabase};

use super::{Connection, Databases, Error, Value, session::FileLimits};
use crate::host::{
    Network,
    stores::{Places, StoreConfigError},
};
use server::Server;

const LIMITS: FileLimits = FileLimits { result: 100_000, disk: 1 << 20, memory: 256 << 20 };

fn databases(dir: Option<&Path>, config: &[(&str, SqliteDatabase)], limits: FileLimits) -> Databases {
    let config: BTreeMap<_, _> =
        config.iter().map(|(label, database)| ((*label).to_owned(), database.clone())).collect();
    Databases::new("default/app", &config, &Places::new(dir.map(Path::to_path_buf)), &Network::allowing(&[]), limits)
        .unwrap()
}

impl Databases {
    fn connect(&self, label: &str) -> Box<dyn Connection> {
        self.databases[label].database.connect()
    }
}

fn libsql(server: &Server) -> SqliteDatabase {
    SqliteDatabase::Libsql { url: server.url(), token: Secret::new(server::TOKEN) }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// The rows of a statement that must succeed.
async fn rows(connection: &dyn Connection, statement: &str, parameters: Vec<Value>) -> Vec<Vec<Value>> {
    let result = connection.execute(statement.to_owned(), parameters).await;
    result.unwrap_or_else(|failure| panic!("{statement}: {failure:?}")).rows.into_iter().map(|row| row.values).collect()
}

/// The error of a statement that must fail.
async fn error(connection: &dyn Connection, statement: &str) -> Error {
    match connection.execute(statement.to_owned(), vec![]).await {
        Ok(result) => panic!("{statement} returned {result:?}"),
        Err(failure) => failure.error,
    }
}

/// Every promise of the interfaces, on an empty database.
async fn conforms(databases: &Databases, reads_beside_a_writer: bool) {
    let connection = databases.connect("default");
    let connection = connection.as_ref();
    let created = connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)".to_owned(), vec![]).await.unwrap();
    assert_eq!((created.columns, created.rows), (vec![], vec![]));
    assert_eq!(connection.last_insert_rowid().await, Ok(0));

    let values = [
        Value::Integer(i64::MIN),
        Value::Integer(i64::MAX),
        Value::Integer(0),
        Value::Real(-0.5),
        Value::Real(f64::MAX),
        text(""),
        text("a\0b é"),
        Value::Blob(vec![]),
        Value::Blob(vec![0, 255]),
        Value::Null,
    ];
    for value in values {
        let found = rows(connection, "INSERT INTO t (v) VALUES (?) RETURNING v", vec![value.clone()]).await;
        assert_eq!(found, [[value]]);
    }
    assert_eq!(connection.last_insert_rowid().await, Ok(10));
    assert_eq!(rows(connection, "SELECT ?", vec![Value::Real(f64::NAN)]).await, [[Value::Null]]);
    rows(connection, "UPDATE t SET v = 1 WHERE id <= ?1", vec![Value::Integer(3)]).await;
    assert_eq!(connection.changes().await, Ok(3));
    let none = connection.execute("SELECT id, v AS value FROM t WHERE 0".to_owned(), vec![]).await.unwrap();
    assert_eq!((none.columns, none.rows), (vec!["id".to_owned(), "value".to_owned()], vec![]));
    assert_eq!(connection.changes().await, Ok(3));

    assert!(matches!(error(connection, "SELEC 1").await, Error::Io(message) if message.contains("syntax error")));
    assert!(
        matches!(error(connection, "SELECT * FROM nowhere").await, Error::Io(message) if message.contains("nowhere"))
    );
    assert!(connection.execute("SELECT 1".to_owned(), vec![Value::Null]).await.is_err());
    let large = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000) SELECT i FROM n";
    assert!(matches!(error(connection, large).await, Error::Io(message) if message.contains("100000 bytes")));
    transactions(databases, reads_beside_a_writer).await;
}

/// A transaction belongs to its connection, and ends with it.
async fn transactions(databases: &Databases, reads_beside_a_writer: bool) {
    let (one, two) = (databases.connect("default"), databases.connect("default"));
    rows(one.as_ref(), "CREATE TABLE kept (v)", vec![]).await;
    rows(one.as_ref(), "BEGIN", vec![]).await;
    rows(one.as_ref(), "INSERT INTO kept VALUES (1)", vec![]).await;
    assert_eq!(rows(one.as_ref(), "SELECT v FROM kept", vec![]).await, [[Value::Integer(1)]]);
    if reads_beside_a_writer {
        assert_eq!(rows(two.as_ref(), "SELECT v FROM kept", vec![]).await, Vec::<Vec<Value>>::new());
    }
    rows(one.as_ref(), "COMMIT", vec![]).await;
    assert_eq!(rows(two.as_ref(), "SELECT v FROM kept", vec![]).await, [[Value::Integer(1)]]);
    rows(one.as_ref(), "BEGIN", vec![]).await;
    rows(one.as_ref(), "INSERT INTO kept VALUES (2)", vec![]).await;
    drop(one);
    // It waits until the other is closed, and its transaction undone.
    rows(two.as_ref(), "INSERT INTO kept VALUES (3)", vec![]).await;
    let all = rows(two.as_ref(), "SELECT v FROM kept ORDER BY v", vec![]).await;
    assert_eq!(all, [[Value::Integer(1)], [Value::Integer(3)]]);
}

#[tokio::test]
async fn a_database_in_memory_conforms() {
    conforms(&databases(None, &[], LIMITS), false).await;
}

#[tokio::test]
async fn a_database_in_a_file_conforms_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/there/yet");
    conforms(&databases(Some(&path), &[], LIMITS), true).await;
    let again = databases(Some(&path), &[], LIMITS);
    assert_eq!(
        rows(again.connect("default").as_ref(), "SELECT count(*) FROM kept", vec![]).await,
        [[Value::Integer(2)]]
    );
    assert!(path.join("sqlite_db.db").is_file());
}

#[tokio::test]
async fn a_database_on_a_server_conforms() {
    for version in ["v3", "v2"] {
        let server = Server::start(version).await;
        conforms(&databases(None, &[("default", libsql(&server))], LIMITS), true).await;
        server.all_streams_closed().await;
    }
}

#[tokio::test]
async fn each_label_has_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let other = SqliteDatabase::Spin { path: None, allow_attach_file: false };
    let databases = databases(Some(dir.path()), &[("other", other)], LIMITS);
    rows(databases.connect("default").as_ref(), "CREATE TABLE t (v)", vec![]).await;
    error(databases.connect("other").as_ref(), "SELECT * FROM t").await;
    assert!(dir.path().join("other_sqlite_db.db").is_file());
}

#[tokio::test]
async fn several_statements_at_once_are_for_whoever_runs_the_application() {
    let databases = databases(None, &[], LIMITS);
    let connection = databases.connect("default");
    let several = error(connection.as_ref(), "CREATE TABLE one (v); CREATE TABLE two (v)").await;
    assert!(several.to_string().contains("more than one statement"), "{several}");
    error(connection.as_ref(), "SELECT * FROM one").await;
    let many = "SELECT 1;".repeat(100_000);
    assert!(error(connection.as_ref(), &many).await.to_string().contains("more than one statement"));
    rows(connection.as_ref(), "; CREATE TABLE one (v); -- and no more\n", vec![]).await;
    assert_eq!(rows(connection.as_ref(), " ;-- nothing\n", vec![]).await, Vec::<Vec<Value>>::new());
    databases.execute("default", "CREATE TABLE two (v);\nINSERT INTO two VALUES (2);".to_owned()).await.unwrap();
    assert_eq!(rows(connection.as_ref(), "SELECT v FROM two", vec![]).await, [[Value::Integer(2)]]);
    let wrong = databases.execute("default", "INSERT INTO two VALUES (3); nonsense".to_owned()).await;
    assert!(matches!(wrong, Err(Error::Io(message)) if message.contains("nonsense")));
}

#[tokio::test]
async fn sql_of_guests_reaches_nothing_but_its_own_database() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside.db");
    let outside = outside.display();
    let databases = databases(Some(&dir.path().join("state")), &[], LIMITS);
    let connection = databases.connect("default");
    for refused in [
        format!("ATTACH '{outside}' AS other"),
        format!("ATTACH 'file:{outside}?mode=rwc' AS other"),
        "ATTACH '' AS other".to_owned(),
        format!("VACUUM INTO '{outside}'"),
        format!("SELECT load_extension('{outside}')"),
        "PRAGMA temp_store_directory = '/tmp'".to_owned(),
        "PRAGMA hard_heap_limit = 0".to_owned(),
        "PRAGMA soft_heap_limit = 1".to_owned(),
        "PRAGMA writable_schema = ON".to_owned(),
        "PRAGMA database_list".to_owned(),
        "SELECT zeroblob(20000000)".to_owned(),
    ] {
        assert!(connection.execute(refused.clone(), vec![]).await.is_err(), "{refused}");
    }
    assert!(!dir.path().join("outside.db").exists());
    // Programs set these at their start: it has no effect, and is no error.
    for ignored in
        ["journal_mode = DELETE", "busy_timeout = 100000", "max_page_count = 1000000", "cache_size = -100000"]
    {
        let name = ignored.split(' ').next().unwrap();
        let before = rows(connection.as_ref(), &format!("PRAGMA {name}"), vec![]).await;
        rows(connection.as_ref(), &format!("PRAGMA {ignored}"), vec![]).await;
        assert_eq!(rows(connection.as_ref(), &format!("PRAGMA {name}"), vec![]).await, before, "{ignored}");
    }
    for allowed in
        ["PRAGMA foreign_keys = OFF", "PRAGMA user_version = 7", "PRAGMA table_info(sqlite_schema)", "VACUUM"]
    {
        rows(connection.as_ref(), allowed, vec![]).await;
    }
}

#[tokio::test]
async fn whoever_runs_the_application_can_allow_to_attach_files() {
    let dir = tempfile::tempdir().unwrap();
    let config = SqliteDatabase::Spin { path: None, allow_attach_file: true };
    let databases = databases(Some(dir.path()), &[("default", config)], LIMITS);
    let attach = format!("ATTACH '{}' AS other", dir.path().join("other.db").display());
    rows(databases.connect("default").as_ref(), &attach, vec![]).await;
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_deleting_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let limits = FileLimits { disk: 256 << 10, ..LIMITS };
    // The app's other stores count as well.
    std::fs::write(dir.path().join("sqlite_key_value.db"), vec![0; 128 << 10]).unwrap();
    let databases = databases(Some(dir.path()), &[], limits);
    let connection = databases.connect("default");
    rows(connection.as_ref(), "CREATE TABLE t (v)", vec![]).await;
    let mut written = 0;
    let full = loop {
        match connection.execute("INSERT INTO t VALUES (zeroblob(10000))".to_owned(), vec![]).await {
            Ok(_) => written += 1,
            Err(failure) => break failure.error,
        }
    };
    assert_eq!(full, Error::DatabaseFull);
    assert!((5..13).contains(&written), "{written}");
    rows(connection.as_ref(), "DELETE FROM t WHERE rowid = 1", vec![]).await;
    rows(connection.as_ref(), "INSERT INTO t VALUES (zeroblob(5000))", vec![]).await;
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_is_interrupted() {
    let databases = databases(None, &[], LIMITS);
    let connection = databases.connect("default");
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let given_up = tokio::time::timeout(Duration::from_millis(10), connection.execute(endless.to_owned(), vec![]));
    assert!(given_up.await.is_err());
    // This waits for the other to end.
    assert_eq!(rows(connection.as_ref(), "SELECT 1", vec![]).await, [[Value::Integer(1)]]);
}

#[tokio::test]
async fn writers_wait_for_a_transaction_and_do_not_keep_it_from_ending() {
    let dir = tempfile::tempdir().unwrap();
    let databases = databases(Some(dir.path()), &[], LIMITS);
    let first = databases.connect("default");
    rows(first.as_ref(), "CREATE TABLE t (v)", vec![]).await;
    rows(first.as_ref(), "BEGIN IMMEDIATE", vec![]).await;
    let writers: Vec<_> = (0..20).map(|_| databases.connect("default")).collect();
    let writes = futures::future::join_all(
        writers.iter().map(|writer| rows(writer.as_ref(), "INSERT INTO t VALUES (1)", vec![])),
    );
    let commit = async {
        rows(first.as_ref(), "INSERT INTO t VALUES (1)", vec![]).await;
        rows(first.as_ref(), "COMMIT", vec![]).await;
    };
    futures::future::join(writes, commit).await;
    assert_eq!(rows(first.as_ref(), "SELECT count(*) FROM t", vec![]).await, [[Value::Integer(21)]]);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_an_error_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sqlite_db.db"), vec![b'x'; 5000]).unwrap();
    let databases = databases(Some(dir.path()), &[], LIMITS);
    let failure = databases.connect("default").execute("SELECT 1".to_owned(), vec![]).await.unwrap_err();
    assert!(failure.broken && failure.error.to_string().contains("not a database"), "{failure:?}");
}

#[tokio::test]
async fn sql_that_makes_the_compiler_recurse_is_an_error_and_not_the_end() {
    let databases = databases(None, &[], LIMITS);
    let connection = databases.connect("default");
    for (open, close) in
        [("SELECT (", ")"), ("SELECT * FROM (", ")"), ("SELECT 1 WHERE EXISTS (", ")"), ("SELECT -(", ")")]
    {
        let deep = format!("{}SELECT 1{}", open.repeat(10_000), close.repeat(10_000));
        error(connection.as_ref(), &deep).await;
    }
    let views = "CREATE VIEW v0 AS SELECT 1 AS a;".to_owned();
    let views =
        (1..=999).fold(views, |all, n| format!("{all}CREATE VIEW v{n} AS SELECT (SELECT a FROM v{}) AS a;", n - 1));
    databases.execute("default", views).await.unwrap();
    let _whatever = connection.execute("SELECT a FROM v999".to_owned(), vec![]).await;
    let more = error(connection.as_ref(), "CREATE VIEW more AS SELECT 1").await;
    assert!(more.to_string().contains("limit"), "{more}");
}

#[tokio::test]
async fn text_that_is_not_utf_8_can_be_read_as_a_blob_only() {
    let databases = databases(None, &[], LIMITS);
    let connection = databases.connect("default");
    assert!(matches!(error(connection.as_ref(), "SELECT CAST(x'ff' AS TEXT)").await, Error::Io(_)));
    let blob = rows(connection.as_ref(), "SELECT CAST(CAST(x'ff' AS TEXT) AS BLOB)", vec![]).await;
    assert_eq!(blob, [[Value::Blob(vec![255])]]);
}

#[tokio::test]
async fn a_server_that_refuses_the_token_or_is_not_there_is_an_error_without_the_token() {
    let server = Server::start("v3").await;
    let wrong = SqliteDatabase::Libsql { url: server.url(), token: Secret::new("hidden-token") };
    let nobody = SqliteDatabase::Libsql { url: "http://127.0.0.1:1".to_owned(), token: Secret::new("hidden-token") };
    for (config, expected) in [(wrong, "refuses the token"), (nobody, "cannot be asked")] {
        let databases = databases(None, &[("default", config)], LIMITS);
        let failure = databases.connect("default").execute("SELECT 1".to_owned(), vec![]).await.unwrap_err();
        let message = failure.error.to_string();
        assert!(failure.broken && message.contains(expected) && !message.contains("hidden-token"), "{message}");
    }
}

#[tokio::test]
async fn a_stream_that_the_server_has_forgotten_is_an_error_once() {
    let server = Server::start("v3").await;
    let databases = databases(None, &[("default", libsql(&server))], LIMITS);
    let connection = databases.connect("default");
    rows(connection.as_ref(), "CREATE TABLE t (v)", vec![]).await;
    rows(connection.as_ref(), "BEGIN", vec![]).await;
    server.forget_streams();
    let lost = error(connection.as_ref(), "INSERT INTO t VALUES (1)").await;
    assert!(lost.to_string().contains("400"), "{lost}");
    assert_eq!(rows(connection.as_ref(), "SELECT count(*) FROM t", vec![]).await, [[Value::Integer(0)]]);
}

#[tokio::test]
async fn a_request_that_is_given_up_ends_the_transaction_with_an_error() {
    let server = Server::start("v3").await;
    let databases = databases(None, &[("default", libsql(&server))], LIMITS);
    let connection = databases.connect("default");
    rows(connection.as_ref(), "BEGIN", vec![]).await;
    server.hold();
    let given_up = tokio::time::timeout(Duration::from_millis(10), connection.execute("SELECT 1".to_owned(), vec![]));
    assert!(given_up.await.is_err());
    server.go_on();
    assert!(error(connection.as_ref(), "SELECT 1").await.to_string().contains("lost"));
    rows(connection.as_ref(), "SELECT 1", vec![]).await;
}

#[test]
fn what_the_configuration_cannot_say_is_found_when_the_revision_is_built() {
    let none = |label: &str, database| {
        let config = [(label.to_owned(), database)].into();
        Databases::new("default/app", &config, &Places::default(), &Network::allowing(&[]), LIMITS).unwrap_err()
    };
    let url = SqliteDatabase::Libsql { url: "db.example.com".to_owned(), token: Secret::new("t") };
    assert!(matches!(none("x", url), StoreConfigError::Url { .. }));
    let path = SqliteDatabase::Spin { path: None, allow_attach_file: false };
    assert!(matches!(none("../../other/app/x", path), StoreConfigError::Label { .. }));
}
