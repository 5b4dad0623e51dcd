//! What every store does, whatever is behind it, and what stores do that do not work.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use manifest::{
    RuntimeConfig,
    runtime_config::{ClientTls, KeyValueStore, Pem, Secret},
};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use super::{Bucket, Error, Stores, fingerprint};
use crate::host::{
    BlockedNetworks, HostMemory, Network, SharedNetwork,
    limits::LastAnswer,
    sqlite::session::FileLimits,
    stores::{Places, StoreConfigError},
};

const LIMITS: FileLimits = FileLimits { result: 1000, disk: 1 << 20, memory: 256 << 20 };

fn stores(dir: Option<&Path>, config: &[(&str, KeyValueStore)], limits: FileLimits) -> Stores {
    let config: BTreeMap<_, _> = config.iter().map(|(label, store)| ((*label).to_owned(), store.clone())).collect();
    Stores::new("default/app", &config, &Places::new(dir.map(Path::to_path_buf)), &Network::allowing(&[]), limits)
        .unwrap()
}

fn redis(database: u8, prefix: Option<&str>) -> KeyValueStore {
    let url = format!("{}/{database}", test_services::redis().unwrap().url());
    KeyValueStore::Redis { url: Secret::new(url), prefix: prefix.map(str::to_owned) }
}

/// Every promise of the interfaces, on an empty store.
async fn conforms(store: &Bucket) {
    let text = str::to_owned;
    assert_eq!(store.get(text("a")).await, Ok(None));
    assert_eq!(store.exists(text("a")).await, Ok(false));
    assert_eq!(store.delete(text("a")).await, Ok(()));
    assert_eq!(store.keys().await, Ok(vec![]));

    let values: [&[u8]; 4] = [b"", b"\0", b"text", &[255; 1000]];
    for value in values {
        store.set(text("a"), value.to_vec()).await.unwrap();
        assert_eq!(store.get(text("a")).await, Ok(Some(value.to_vec())));
        assert_eq!(store.exists(text("a")).await, Ok(true));
    }
    for key in ["", "with space", "nul\0nul", "é*?[x]\\", "a:b/c"] {
        store.set(text(key), key.as_bytes().to_vec()).await.unwrap();
        assert_eq!(store.get(text(key)).await, Ok(Some(key.as_bytes().to_vec())), "{key:?}");
    }
    let mut keys = store.keys().await.unwrap();
    keys.sort();
    assert_eq!(keys, ["", "a", "a:b/c", "nul\0nul", "with space", "é*?[x]\\"]);
    store.delete_many(keys).await.unwrap();
    assert_eq!(store.keys().await, Ok(vec![]));

    limits_hold(store).await;
    many(store).await;
    numbers(store).await;
    swaps(store).await;
}

async fn limits_hold(store: &Bucket) {
    let text = str::to_owned;
    assert!(matches!(store.set(text("a"), vec![0; 1001]).await, Err(Error::Other(_))));
    assert_eq!(store.get(text("a")).await, Ok(None));
    assert!(matches!(store.get("k".repeat(super::KEY + 1)).await, Err(Error::Other(_))));
    for number in 0..40 {
        store.set(format!("key-{number}"), vec![1; 100]).await.unwrap();
    }
    assert!(matches!(store.keys().await, Err(Error::Other(message)) if message.contains("1000")));
    let all: Vec<String> = (0..40).map(|number| format!("key-{number}")).collect();
    assert!(matches!(store.get_many(all.clone()).await, Err(Error::Other(message)) if message.contains("1000")));
    store.delete_many(all).await.unwrap();
}

async fn many(store: &Bucket) {
    let (one, two, none) = (("one".to_owned(), b"1".to_vec()), ("two".to_owned(), vec![]), "none".to_owned());
    store.set_many(vec![one.clone(), two.clone()]).await.unwrap();
    let asked = vec![two.0.clone(), none.clone(), one.0.clone(), two.0.clone()];
    let found = vec![
        (two.0.clone(), Some(two.1.clone())),
        (none.clone(), None),
        (one.0.clone(), Some(one.1)),
        (two.0.clone(), Some(two.1)),
    ];
    assert_eq!(store.get_many(asked).await, Ok(found));
    store.delete_many(vec![one.0, none, two.0]).await.unwrap();
    assert_eq!(store.keys().await, Ok(vec![]));
    assert_eq!(store.get_many(vec![]).await, Ok(vec![]));
    assert_eq!(store.set_many(vec![]).await, Ok(()));
    assert_eq!(store.delete_many(vec![]).await, Ok(()));
}

async fn numbers(store: &Bucket) {
    let key = || "number".to_owned();
    assert_eq!(store.increment(key(), 2).await, Ok(2));
    assert_eq!(store.increment(key(), -5).await, Ok(-3));
    store.delete(key()).await.unwrap();
    assert_eq!(store.increment(key(), i64::MAX).await, Ok(i64::MAX));
    assert!(matches!(store.increment(key(), 1).await, Err(Error::Other(_))));
    assert_eq!(store.increment(key(), 0).await, Ok(i64::MAX));
    store.set(key(), b"no number".to_vec()).await.unwrap();
    assert!(matches!(store.increment(key(), 1).await, Err(Error::Other(_))));
    assert_eq!(store.get(key()).await, Ok(Some(b"no number".to_vec())));
    store.delete(key()).await.unwrap();
}

async fn swaps(store: &Bucket) {
    let key = || "swap".to_owned();
    assert_eq!(store.swap(key(), Some(fingerprint(b"old")), b"new".to_vec()).await, Ok(false));
    assert_eq!(store.swap(key(), None, b"first".to_vec()).await, Ok(true));
    assert_eq!(store.swap(key(), None, b"second".to_vec()).await, Ok(false));
    assert_eq!(store.swap(key(), Some(fingerprint(b"other")), b"second".to_vec()).await, Ok(false));
    assert_eq!(store.swap(key(), Some(fingerprint(b"first")), b"second".to_vec()).await, Ok(true));
    assert_eq!(store.get(key()).await, Ok(Some(b"second".to_vec())));
    store.delete(key()).await.unwrap();
}

#[tokio::test]
async fn a_store_in_memory_conforms() {
    conforms(&stores(None, &[], LIMITS).open("default", LastAnswer::default()).unwrap()).await;
}

#[tokio::test]
async fn a_store_in_a_file_conforms_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/there/yet");
    conforms(&stores(Some(&path), &[], LIMITS).open("default", LastAnswer::default()).unwrap()).await;
    stores(Some(&path), &[], LIMITS)
        .open("default", LastAnswer::default())
        .unwrap()
        .set("a".to_owned(), b"kept".to_vec())
        .await
        .unwrap();
    let again = stores(Some(&path), &[], LIMITS).open("default", LastAnswer::default()).unwrap();
    assert_eq!(again.get("a".to_owned()).await, Ok(Some(b"kept".to_vec())));
    assert!(path.join("sqlite_key_value.db").is_file());
}

#[tokio::test]
async fn a_store_on_redis_conforms() {
    conforms(&stores(None, &[("default", redis(1, None))], LIMITS).open("default", LastAnswer::default()).unwrap())
        .await;
}

/// A way out that trusts `authority` for `localhost`.
fn trusting(authority: &str) -> Network {
    let entry = ClientTls {
        component_ids: vec!["any".to_owned()],
        hosts: vec!["localhost".to_owned()],
        platform_roots: false,
        webpki_roots: false,
        ca_roots: Some(Pem::Text(Secret::new(authority))),
        client_cert: None,
        client_private_key: None,
    };
    let config = RuntimeConfig { client_tls: vec![entry], ..RuntimeConfig::default() };
    let shared =
        SharedNetwork::new(&config, &BlockedNetworks::default(), 1, HostMemory::default(), &Arc::default()).unwrap();
    Arc::new(shared).of_application()
}

#[tokio::test]
async fn a_store_on_redis_over_tls_conforms_where_its_authority_is_trusted() {
    let url = format!("{}/7", test_services::redis().unwrap().tls_url());
    let redis = KeyValueStore::Redis { url: Secret::new(url), prefix: None };
    let store = |network| {
        let config = [("default".to_owned(), redis.clone())].into();
        let stores = Stores::new("default/app", &config, &Places::default(), &network, LIMITS).unwrap();
        stores.open("default", LastAnswer::default()).unwrap()
    };
    conforms(&store(trusting(test_services::authority().pem()))).await;
    let other = test_services::Authority::new("another").unwrap();
    for network in [trusting(other.pem()), Network::allowing(&[])] {
        let Err(Error::Other(message)) = store(network).get("a".to_owned()).await else { panic!("no error") };
        assert!(message.contains("no TLS with `localhost`") && message.contains("UnknownIssuer"), "{message}");
    }
}

#[tokio::test]
async fn a_server_that_answers_without_end_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let endless = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"*2\r\n:1\r\n$9000000000000\r\n").await.unwrap();
        let mut sent = 0_u64;
        while stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {
            sent += 1 << 16;
            assert!(sent < 1 << 30, "it is read without end");
        }
    };
    let config = [("default", KeyValueStore::Redis { url: Secret::new(url), prefix: None })];
    let store = stores(None, &config, LIMITS).open("default", LastAnswer::default()).unwrap();
    let (answer, ()) = tokio::join!(store.get("a".to_owned()), endless);
    assert!(matches!(&answer, Err(Error::Other(message)) if message.contains("more than")), "{answer:?}");
}

#[tokio::test]
async fn a_store_with_a_prefix_on_redis_conforms_beside_others() {
    let others =
        stores(None, &[("default", redis(2, Some("app*[]:")))], LIMITS).open("default", LastAnswer::default()).unwrap();
    others.set("theirs".to_owned(), vec![]).await.unwrap();
    let all = stores(None, &[("default", redis(2, None))], LIMITS).open("default", LastAnswer::default()).unwrap();
    all.set("app?[]:x".to_owned(), vec![]).await.unwrap();
    conforms(
        &stores(None, &[("default", redis(2, Some("app?[]::")))], LIMITS)
            .open("default", LastAnswer::default())
            .unwrap(),
    )
    .await;
    assert_eq!(others.keys().await, Ok(vec!["theirs".to_owned()]));
    assert_eq!(all.exists("app*[]:theirs".to_owned()).await, Ok(true));
}

#[tokio::test]
async fn labels_of_one_file_are_stores_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let stores = stores(Some(dir.path()), &[("cache", KeyValueStore::Spin { path: None })], LIMITS);
    let (default, cache) =
        (stores.open("default", LastAnswer::default()).unwrap(), stores.open("cache", LastAnswer::default()).unwrap());
    default.set("a".to_owned(), b"default's".to_vec()).await.unwrap();
    assert_eq!(cache.get("a".to_owned()).await, Ok(None));
    assert_eq!(cache.keys().await, Ok(vec![]));
    assert!(stores.open("other", LastAnswer::default()).is_err());
}

#[tokio::test]
async fn a_file_of_spin_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sqlite_key_value.db");
    let spin = rusqlite::Connection::open(&path).unwrap();
    let table = "CREATE TABLE spin_key_value (store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (store, key))";
    spin.execute(table, []).unwrap();
    spin.execute("INSERT INTO spin_key_value VALUES ('default', 'a', x'00ff'), ('default', 'b', 'text')", []).unwrap();
    drop(spin);
    let store = stores(Some(dir.path()), &[], LIMITS).open("default", LastAnswer::default()).unwrap();
    assert_eq!(store.get("a".to_owned()).await, Ok(Some(vec![0, 255])));
    assert_eq!(store.get("b".to_owned()).await, Ok(Some(b"text".to_vec())));
}

#[tokio::test]
async fn many_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Two revisions of an app while one takes over from the other.
    let revisions = [stores(Some(dir.path()), &[], LIMITS), stores(Some(dir.path()), &[], LIMITS)];
    let buckets = revisions.map(|stores| stores.open("default", LastAnswer::default()).unwrap());
    let count = (0..100).map(|turn| {
        let bucket = buckets[turn % 2].clone();
        async move { bucket.increment("n".to_owned(), 1).await.unwrap() }
    });
    futures::future::join_all(count).await;
    assert_eq!(buckets[0].increment("n".to_owned(), 0).await, Ok(100));
}

#[tokio::test]
async fn a_full_disk_refuses_values_and_deleting_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let limits = FileLimits { result: 1 << 20, disk: 256 << 10, ..LIMITS };
    let store = stores(Some(dir.path()), &[], limits).open("default", LastAnswer::default()).unwrap();
    let mut last = Ok(());
    for number in 0..100 {
        last = store.set(format!("key-{number}"), vec![7; 10_000]).await;
        if last.is_err() {
            break;
        }
    }
    assert!(matches!(&last, Err(Error::Other(message)) if message.contains("limit of disk")), "{last:?}");
    assert_eq!(store.get("key-0".to_owned()).await, Ok(Some(vec![7; 10_000])));
    store.delete("key-0".to_owned()).await.unwrap();
    store.set("again".to_owned(), vec![7; 5000]).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_an_error_until_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sqlite_key_value.db");
    std::fs::write(&path, vec![b'x'; 5000]).unwrap();
    let store = stores(Some(dir.path()), &[], LIMITS).open("default", LastAnswer::default()).unwrap();
    for _ in 0..2 {
        let error = store.get("a".to_owned()).await.unwrap_err();
        assert!(matches!(&error, Error::Other(message) if message.contains("not a database")), "{error:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(store.get("a".to_owned()).await, Ok(None));
}

#[tokio::test]
async fn a_directory_that_cannot_be_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let store = stores(Some(&file.join("below")), &[], LIMITS).open("default", LastAnswer::default()).unwrap();
    let error = store.get("a".to_owned()).await.unwrap_err();
    assert!(matches!(&error, Error::Other(message) if message.contains("directory")), "{error:?}");
}

#[tokio::test]
async fn a_server_that_refuses_the_password_or_is_not_there_is_an_error_without_the_password() {
    let right = test_services::redis().unwrap();
    let wrong_password = right.url().replace(test_services::PASSWORD, "hidden-password");
    let nobody = "redis://:hidden-password@127.0.0.1:1".to_owned();
    for (url, expected) in [(wrong_password, "authentication failed"), (nobody, "refused")] {
        let config = [("default", KeyValueStore::Redis { url: Secret::new(url), prefix: None })];
        let store = stores(None, &config, LIMITS).open("default", LastAnswer::default()).unwrap();
        let Err(Error::Other(message)) = store.get("a".to_owned()).await else { panic!("no error") };
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("hidden-password"), "{message}");
    }
}

#[test]
fn a_url_that_is_none_is_found_when_the_revision_is_built() {
    let config = KeyValueStore::Redis { url: Secret::new("http://:hidden-password@h"), prefix: None };
    let config = [("cache".to_owned(), config)].into();
    let error = Stores::new("default/app", &config, &Places::default(), &Network::allowing(&[]), LIMITS).unwrap_err();
    assert!(matches!(&error, StoreConfigError::Url { label, .. } if label == "cache"), "{error}");
    assert!(!error.to_string().contains("hidden-password"), "{error}");
}

#[tokio::test]
async fn many_keys_at_once_come_out_of_the_memory_of_an_app_s_guests() {
    let (memory, budget) = HostMemory::of_size(1 << 20);
    let bucket = stores(None, &[], LIMITS).open("default", LastAnswer::new(&memory)).unwrap();
    let keys = |count: usize| vec!["k".repeat(60_000); count];
    for refused in [bucket.delete_many(keys(40)).await.unwrap_err(), bucket.get_many(keys(40)).await.unwrap_err()] {
        assert!(refused.to_string().contains("guests have all the memory"), "{refused}");
    }
    bucket.delete_many(keys(4)).await.unwrap();
    drop(bucket);
    assert_eq!(budget.used(), 0);
}
