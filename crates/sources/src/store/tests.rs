//! The store against a real file system.

use super::*;
use manifest::File as Listed;

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    (dir, store)
}

fn content(bytes: &[u8]) -> Content {
    Content { digest: Digest::of(bytes), size: bytes.len() as u64 }
}

fn stream(chunks: &[&'static str]) -> impl Stream<Item = Result<Bytes, io::Error>> + use<> {
    futures::stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from(*chunk))).collect::<Vec<_>>())
}

fn listed(path: &str, content: Content) -> Listed {
    Listed { path: path.to_owned(), content }
}

/// Everything below `dir`, except for the files that mark sessions.
fn unfinished(store: &Store) -> Vec<PathBuf> {
    let files = fs::read_dir(store.inner.session.path()).unwrap();
    files.map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with(".alive")).collect()
}

#[test]
fn what_was_inserted_is_found_by_digest_and_size() {
    let (_dir, store) = store();
    let hello = store.insert_bytes(b"hello").unwrap();
    assert_eq!(hello, content(b"hello"));
    let path = store.get(&hello).unwrap().unwrap();
    assert_eq!(path, store.root().join("blobs/sha256").join(hello.digest.hex()));
    assert_eq!(fs::read(path).unwrap(), b"hello");
    assert_eq!(store.read(&hello).unwrap().unwrap(), b"hello");
    assert_eq!(store.get(&Content { size: 4, ..hello }).unwrap(), None);
    assert_eq!(store.get(&content(b"other")).unwrap(), None);
}

#[test]
fn a_blob_is_read_only() {
    let (_dir, store) = store();
    let path = store.blob_path(&store.insert_bytes(b"hello").unwrap().digest);
    assert!(fs::metadata(path).unwrap().permissions().readonly());
}

#[test]
fn a_file_is_stored_under_the_digest_of_its_content() {
    let (dir, store) = store();
    let big = vec![7; 3 * CHUNK + 1];
    let path = dir.path().join("big");
    fs::write(&path, &big).unwrap();
    assert_eq!(store.insert_file(&path).unwrap(), content(&big));
    assert!(store.verify(&content(&big)).unwrap());
    let error = store.insert_file(&dir.path().join("none")).unwrap_err();
    assert!(error.to_string().ends_with("/none"), "{error}");
}

#[tokio::test]
async fn a_stream_of_the_announced_bytes_becomes_a_blob() {
    let (_dir, store) = store();
    let hello = content(b"hello");
    let path = store.insert_stream(&hello, stream(&["he", "", "llo"])).await.unwrap();
    assert_eq!(store.get(&hello).unwrap(), Some(path));
    assert_eq!(unfinished(&store), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn a_stream_that_lies_about_its_bytes_leaves_nothing() {
    let (_dir, store) = store();
    let hello = content(b"hello");
    for (chunks, reason) in [(&["jello"][..], "Corrupt"), (&["hell"], "Corrupt"), (&["hello", "!"], "Corrupt")] {
        let error = store.insert_stream(&hello, stream(chunks)).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{chunks:?}");
    }
    let failing = stream(&["he"]).chain(futures::stream::once(async { Err(io::Error::other("gone")) }));
    assert_eq!(store.insert_stream(&hello, failing).await.unwrap_err().reason(), "Interrupted");
    assert_eq!(store.get(&hello).unwrap(), None);
    assert_eq!(unfinished(&store), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn a_stream_without_end_is_cut_at_the_announced_size() {
    let (_dir, store) = store();
    let endless = futures::stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[0; 1024])));
    let error = store.insert_stream(&Content { size: 10_000, ..content(b"") }, endless).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLong { expected } if expected.size == 10_000), "{error}");
    assert_eq!(unfinished(&store), [] as [PathBuf; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_may_be_inserted_by_many_at_once() {
    let (_dir, store) = store();
    let hello = content(b"hello");
    let inserts = (0..32).map(|_| {
        let store = store.clone();
        async move { store.insert_stream(&hello, stream(&["hel", "lo"])).await }
    });
    for path in futures::future::join_all(inserts).await {
        assert_eq!(fs::read(path.unwrap()).unwrap(), b"hello");
    }
    assert_eq!(unfinished(&store), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn only_one_task_holds_the_turn_for_a_digest() {
    let (_dir, store) = store();
    let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
    let held = store.turn(&one).await;
    let _unrelated = store.turn(&other).await;
    let mut waiting = Box::pin(store.turn(&one));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(held);
    drop(waiting.await);
}

#[test]
fn damaged_content_is_dropped_with_the_trees_that_show_it() {
    let (_dir, store) = store();
    let (good, bad) = (store.insert_bytes(b"good").unwrap(), store.insert_bytes(b"evil").unwrap());
    let healthy = store.materialise(&[listed("a", good)]).unwrap();
    let sick = store.materialise(&[listed("a", bad)]).unwrap();
    let path = store.blob_path(&bad.digest);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&path, b"live").unwrap();
    assert!(store.verify(&good).unwrap());
    assert!(!store.verify(&bad).unwrap());
    assert!(healthy.exists() && !sick.exists());
    assert_eq!(store.read(&bad).unwrap(), None);
    store.insert_bytes(b"evil").unwrap();
    assert!(store.verify(&bad).unwrap());
}

#[test]
fn a_tree_holds_exactly_its_files_and_is_shared() {
    let (_dir, store) = store();
    let (a, b) = (store.insert_bytes(b"a").unwrap(), store.insert_bytes(b"b").unwrap());
    let files = [listed("x/y/a..b.txt", a), listed("b", b), listed("x/b", b)];
    let root = store.materialise(&files).unwrap();
    assert_eq!(fs::read(root.join("x/y/a..b.txt")).unwrap(), b"a");
    assert_eq!(fs::read(root.join("x/b")).unwrap(), b"b");
    assert!(fs::metadata(root.join("b")).unwrap().permissions().readonly());
    assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
    let [first, second, third] = files;
    assert_eq!(store.materialise(&[third, first, second]).unwrap(), root);
    assert_ne!(store.materialise(&[listed("b", a)]).unwrap(), root);
    assert_eq!(unfinished(&store), [] as [PathBuf; 0]);
}

#[test]
fn a_component_without_files_has_an_empty_tree() {
    let (_dir, store) = store();
    assert_eq!(fs::read_dir(store.materialise(&[]).unwrap()).unwrap().count(), 0);
}

#[test]
fn a_tree_cannot_reach_outside_or_contradict_itself() {
    let (_dir, store) = store();
    let (a, b) = (store.insert_bytes(b"a").unwrap(), store.insert_bytes(b"b").unwrap());
    for path in ["", "/a", "../a", "a/../b", "a//b", "a/", ".", "a\\b", "a\0"] {
        assert_eq!(store.materialise(&[listed(path, a)]).unwrap_err().reason(), "Invalid", "{path:?}");
    }
    for clash in [[listed("a", a), listed("a", b)], [listed("a", a), listed("a/b/c", b)]] {
        assert_eq!(store.materialise(&clash).unwrap_err().reason(), "Invalid");
    }
    let error = store.materialise(&[listed("a", content(b"absent"))]).unwrap_err();
    assert_eq!(error.reason(), "Missing", "{error}");
    assert_eq!(unfinished(&store), [] as [PathBuf; 0]);
}

#[test]
fn retain_removes_what_nobody_needs_and_nothing_else() {
    let (_dir, store) = store();
    let (a, b) = (store.insert_bytes(b"a").unwrap(), store.insert_bytes(b"bb").unwrap());
    let kept = store.materialise(&[listed("a", a)]).unwrap();
    let gone = store.materialise(&[listed("a", a), listed("b", b)]).unwrap();
    let freed = store.retain(&BTreeSet::from([a.digest])).unwrap();
    assert_eq!(freed, Freed { blobs: 1, trees: 1, bytes: 2 });
    assert!(kept.exists() && !gone.exists());
    assert!(store.get(&a).unwrap().is_some() && store.get(&b).unwrap().is_none());
    assert_eq!(store.retain(&BTreeSet::from([a.digest])).unwrap(), Freed::default());
}

#[test]
fn opening_removes_what_a_dead_process_left_and_nothing_of_a_living_one() {
    let (_dir, living) = store();
    let dead = living.root().join("tmp/session-dead");
    fs::create_dir_all(&dead).unwrap();
    fs::write(dead.join("half"), b"ha").unwrap();
    let file = living.temporary().unwrap();
    let second = Store::open(living.root()).unwrap();
    assert!(!dead.exists() && file.path().exists());
    second.insert_bytes(b"x").unwrap();
    assert!(living.get(&content(b"x")).unwrap().is_some());
}

#[test]
fn a_store_that_cannot_be_written_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = Store::open(&blocked).unwrap_err();
    assert_eq!(error.reason(), "StoreFailed");
    assert!(error.to_string().contains("file/blobs"), "{error}");
}
