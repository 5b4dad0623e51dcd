//! `--build`.

use crate::harness::{Up, application, body, change_manifest, greeter, run, spindle};

/// Gives the component a build command.
fn buildable(command: &str) -> tempfile::TempDir {
    let app = application();
    std::fs::create_dir(app.path().join("src")).unwrap();
    let wasm = app.path().join("hello.wasm");
    std::fs::rename(&wasm, app.path().join("src/hello.txt")).unwrap();
    let build =
        format!("source = \"hello.wasm\"\nbuild = {{ workdir = \"src\", watch = [\"*.txt\"], command = {command} }}");
    change_manifest(app.path(), "source = \"hello.wasm\"", &build);
    app
}

#[tokio::test]
async fn components_are_built_before_they_run() {
    let (app, cache) = (buildable("[\"echo building\", \"cp hello.txt ../hello.wasm\"]"), tempfile::tempdir().unwrap());
    let mut up = Up::start(app.path(), cache.path(), &["--build"]).await;
    up.told("Building component hello with `echo building`").await;
    assert_eq!(up.told("building").await, "building", "what the command prints is shown");
    assert_eq!(body(up.address, "/exact").await, "Hello from WAT\n");
}

#[tokio::test]
async fn a_build_that_fails_is_the_end() {
    let (app, cache) = (buildable("[\"exit 7\", \"touch ../reached\"]"), tempfile::tempdir().unwrap());
    let (code, stdout, stderr) = run(spindle(cache.path()).args(["--build", "-f", app.path().to_str().unwrap()])).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("error: --build: component `hello`: `exit 7` failed: exit status: 7"), "{stderr}");
    assert!(!app.path().join("reached").exists());
}

#[tokio::test]
async fn what_a_build_started_ends_with_it() {
    let (app, cache) = (buildable("\"sleep 1000 & echo $! > ../pid; wait\""), tempfile::tempdir().unwrap());
    let mut child = spindle(cache.path()).args(["--build", "-f", app.path().to_str().unwrap()]).spawn().unwrap();
    let pid_file = app.path().join("pid");
    let pid = || std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<u32>().ok());
    crate::harness::until("the build to begin", async || pid().is_some()).await;
    let id = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(crate::harness::in_time("the end", child.wait()).await.unwrap().code(), Some(0));
    let sleeping = format!("/proc/{}/stat", pid().unwrap());
    crate::harness::until("what it started to end", async || {
        // A zombie has ended; who its parent is now has yet to notice.
        std::fs::read_to_string(&sleeping).map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
}

#[tokio::test]
async fn with_watch_a_changed_source_is_built_and_served() {
    let (app, cache) = (buildable("\"cp hello.txt ../hello.wasm\""), tempfile::tempdir().unwrap());
    let up = Up::start(app.path(), cache.path(), &["--build", "--watch", "-q"]).await;
    std::fs::write(app.path().join("src/hello.txt"), greeter("Howdy")).unwrap();
    crate::harness::until("the new version", async || body(up.address, "/exact").await == "Howdy from WAT\n").await;
    up.stopped().await;
}

#[tokio::test]
async fn with_watch_a_first_build_that_fails_is_made_again_when_its_source_changes() {
    let (app, cache) =
        (buildable("\"cp other.txt ../hello.wasm || { touch ../failed; exit 1; }\""), tempfile::tempdir().unwrap());
    let flags = ["--build", "--watch", "-q"];
    let (up, ()) = tokio::join!(Up::start(app.path(), cache.path(), &flags), async {
        crate::harness::until("the first try to fail", async || app.path().join("failed").exists()).await;
        std::fs::write(app.path().join("src/other.txt"), greeter("Howdy")).unwrap();
    });
    assert_eq!(body(up.address, "/exact").await, "Howdy from WAT\n");
    let stderr = up.stopped().await;
    assert!(
        stderr.contains("error: --build: component `hello`") && stderr.contains("Waiting for a change."),
        "{stderr}"
    );
}

#[tokio::test]
async fn with_watch_a_build_that_writes_its_own_sources_as_they_are_is_not_the_reason_for_another() {
    let command = "\"echo . >> ../built; cp hello.txt copy.txt; cp hello.txt ../hello.wasm\"";
    let (app, cache) = (buildable(command), tempfile::tempdir().unwrap());
    let up = Up::start(app.path(), cache.path(), &["--build", "--watch", "-q"]).await;
    for greeting in ["Howdy", "Third"] {
        std::fs::write(app.path().join("src/hello.txt"), greeter(greeting)).unwrap();
        let expected = format!("{greeting} from WAT\n");
        crate::harness::until("the new version", async || body(up.address, "/exact").await == expected).await;
    }
    let stderr = up.stopped().await;
    assert!(!stderr.contains("build.watch seems to name"), "{stderr}");
    // Each of the three versions, and at most once more because the copy is another one.
    let built = std::fs::read_to_string(app.path().join("built")).unwrap().lines().count();
    assert!((3..=6).contains(&built), "{built}");
}
