//! Files of components.

use crate::harness::{Up, body, change_manifest, notes, run, spindle};

#[tokio::test]
async fn files_cannot_be_changed_by_default() {
    let (app, cache) = (notes(), tempfile::tempdir().unwrap());
    let up = Up::start(app.path(), cache.path(), &[]).await;
    assert_eq!(body(up.address, "/").await, "nnote");
    up.stopped().await;
}

#[tokio::test]
async fn transient_writes_change_copies_that_are_made_afresh_and_removed() {
    let (app, cache, temp) = (notes(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let temp_flag = temp.path().to_str().unwrap();
    for _ in 0..2 {
        let up = Up::start(app.path(), cache.path(), &["--allow-transient-write", "--temp", temp_flag]).await;
        assert_eq!(body(up.address, "/").await, "ynote+");
        assert_eq!(body(up.address, "/").await, "ynote++");
        up.stopped().await;
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "copies are removed");
    }
    assert_eq!(std::fs::read_to_string(app.path().join("assets/note.txt")).unwrap(), "note");
}

#[tokio::test]
async fn directories_that_are_mounted_are_seen_as_they_are() {
    let (app, cache) = (notes(), tempfile::tempdir().unwrap());
    let up = Up::start(app.path(), cache.path(), &["--direct-mounts"]).await;
    assert_eq!(body(up.address, "/").await, "nnote");
    std::fs::write(app.path().join("assets/note.txt"), "changed").unwrap();
    assert_eq!(body(up.address, "/").await, "nchanged");
    up.stopped().await;
    let up = Up::start(app.path(), cache.path(), &["--direct-mounts", "--allow-transient-write"]).await;
    assert_eq!(body(up.address, "/").await, "ychanged+");
    up.stopped().await;
    assert_eq!(std::fs::read_to_string(app.path().join("assets/note.txt")).unwrap(), "changed+");
    change_manifest(app.path(), "{ source = \"assets\", destination = \"/\" }", "\"./assets/\"");
    let up = Up::start(app.path(), cache.path(), &["--direct-mounts"]).await;
    assert_eq!(body(up.address, "/").await, "nchanged+", "a directory may be named without a destination");
    up.stopped().await;
}

#[tokio::test]
async fn a_pair_may_name_a_directory_elsewhere_as_copy_and_as_mount() {
    let (app, cache, shared) = (notes(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(shared.path().join("note.txt"), "shared").unwrap();
    let name = shared.path().file_name().unwrap().to_str().unwrap();
    change_manifest(app.path(), "source = \"assets\"", &format!("source = \"../{name}\""));
    for flags in [&[][..], &["--direct-mounts"], &["--allow-transient-write"]] {
        let up = Up::start(app.path(), cache.path(), flags).await;
        let expected = if flags == ["--allow-transient-write"] { "yshared+" } else { "nshared" };
        assert_eq!(body(up.address, "/").await, expected, "{flags:?}");
        up.stopped().await;
    }
}

#[tokio::test]
async fn what_is_no_directory_cannot_be_mounted() {
    let cache = tempfile::tempdir().unwrap();
    let placed = "{ source = \"assets\", destination = \"/\" }";
    for (files, part) in [
        ("\"assets/*\"", "not patterns"),
        ("{ source = \"assets/note.txt\", destination = \"/note.txt\" }", "is none"),
        ("{ source = \"nowhere\", destination = \"/\" }", "cannot mount nowhere"),
        (&format!("{placed}]\n exclude_files = [\"assets/x\""), "remove exclude_files"),
        (&format!("{placed}, {placed}"), "one directory at / only"),
    ] {
        let app = notes();
        change_manifest(app.path(), placed, files);
        let (code, _, stderr) =
            run(spindle(cache.path()).args(["-f", app.path().to_str().unwrap(), "--direct-mounts"])).await;
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(part), "{files}: {stderr}");
    }
}
