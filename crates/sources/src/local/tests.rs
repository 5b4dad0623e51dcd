//! Real directories, and what is read from them.

mod components;
mod remote;

use std::{
    error::Error as _,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use manifest::Digest;
use tempfile::TempDir;

use super::*;

const WASM: &[u8] = b"\0asm\x01\0\0\0";

/// A directory with an application, and a store for it.
struct Dir {
    dir: TempDir,
    store_dir: TempDir,
}

impl Dir {
    /// An application with one component, whose wasm is there; `extra` are more fields of it.
    fn new(extra: &str) -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap(), store_dir: tempfile::tempdir().unwrap() };
        this.manifest(&format!("source = \"hello.wasm\"\n{extra}"));
        this.write("hello.wasm", WASM)
    }

    fn manifest(&self, component: &str) {
        let text = format!(
            "spin_manifest_version = 2\n[application]\nname = \"hello\"\n[[trigger.http]]\nroute = \"/...\"\ncomponent = \"hello\"\n[component.hello]\n{component}"
        );
        fs::write(self.dir.path().join("spin.toml"), text).unwrap();
    }

    fn write(self, path: &str, bytes: &[u8]) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn store(&self) -> Store {
        Store::open(self.store_dir.path()).unwrap()
    }

    fn load_with(&self, options: &Options) -> Result<Loaded, LocalError> {
        load_with(self.dir.path(), options, &self.store())
    }

    /// The paths that the component sees.
    fn files(&self) -> Vec<String> {
        let loaded = self.load_with(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
        let component = loaded.application.components.into_values().next().unwrap();
        component.files.into_iter().map(|file| file.path).collect()
    }

    /// The problem, without the directory's own name.
    fn problem(&self) -> String {
        self.problem_with(&Options::default())
    }

    fn problem_with(&self, options: &Options) -> String {
        let error = self.load_with(options).expect_err("there should be a problem");
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}").replace(&format!("{}/", self.dir.path().display()), "")
    }
}

#[test]
fn an_application_is_the_same_from_its_directory_and_from_its_manifest() {
    let dir = Dir::new("files = [\"a/*\"]\n").write("a/1", b"one");
    let store = dir.store();
    let loaded = load(dir.dir.path(), &store).unwrap();
    assert_eq!(load(&dir.path("spin.toml"), &store).unwrap(), loaded);
    assert_eq!(
        loaded.wasm_names.into_iter().map(|(id, name)| (id.to_string(), name)).collect::<Vec<_>>(),
        [("hello".to_owned(), "hello.wasm".to_owned())]
    );
    for content in loaded.application.contents() {
        assert!(store.verify(&content).unwrap());
    }
}

#[test]
fn patterns_find_files_below_the_directory_and_stay_within_theirs() {
    let dir = Dir::new("files = [\"assets/*.txt\", \"deep/**/*\", \"whole\", \"one.md\"]\nexclude_files = [\"deep/no/**\", \"**/*.map\"]\n")
        .write("assets/b.txt", b"")
        .write("assets/a.txt", b"")
        .write("assets/a.png", b"")
        .write("assets/sub/c.txt", b"")
        .write("deep/x", b"")
        .write("deep/y/.hidden", b"")
        .write("deep/y/z.map", b"")
        .write("deep/no/1", b"")
        .write("whole/w/v", b"")
        .write("one.md", b"");
    assert_eq!(dir.files(), ["assets/a.txt", "assets/b.txt", "deep/x", "deep/y/.hidden", "one.md", "whole/w/v"]);
}

#[test]
fn what_is_excluded_is_excluded_in_every_directory_below() {
    let dir =
        Dir::new("files = [\"**/*.txt\", \"**/*.key\"]\nexclude_files = [\"*.key\", \"a/*secret*\", \"b/?.txt\"]\n")
            .write("root.key", b"")
            .write("a/deep/er.key", b"")
            .write("a/deep/my-secret.txt", b"")
            .write("a/deep/secrets/x.txt", b"")
            .write("a/fine.txt", b"")
            .write("b/x.txt", b"")
            .write("b/xy.txt", b"")
            .write("my-secret.txt", b"");
    assert_eq!(dir.files(), ["a/fine.txt", "b/xy.txt", "my-secret.txt"]);
}

#[test]
fn a_file_or_a_directory_is_placed_where_the_manifest_says() {
    let dir = Dir::new(
        "files = [{ source = \"dist\", destination = \"/\" }, { source = \"dist\", destination = \"/again/\" }, { source = \"conf/a.json\", destination = \"/etc/app.json\" }]\n",
    )
    .write("dist/index.html", b"")
    .write("dist/js/app.js", b"")
    .write("conf/a.json", b"");
    assert_eq!(dir.files(), ["again/index.html", "again/js/app.js", "etc/app.json", "index.html", "js/app.js"]);
}

#[test]
fn a_pair_may_name_what_is_outside_the_directory_of_the_manifest() {
    let dir = Dir::new("").write("shared/a.css", b"").write("shared/deep/b.css", b"").write("shared/c.key", b"");
    let app = dir.path("app");
    fs::create_dir(&app).unwrap();
    for name in ["spin.toml", "hello.wasm"] {
        fs::rename(dir.path(name), app.join(name)).unwrap();
    }
    symlink("../shared", app.join("link")).unwrap();
    let paths = |files: &str| {
        let text = fs::read_to_string(app.join("spin.toml")).unwrap();
        let text = format!("{}source = \"hello.wasm\"\n{files}", text.split("source =").next().unwrap());
        fs::write(app.join("spin.toml"), text).unwrap();
        let loaded = load(&app, &dir.store()).map_err(|error| error.to_string())?;
        let component = loaded.application.components.into_values().next().unwrap();
        Ok::<_, String>(component.files.into_iter().map(|file| file.path).collect::<Vec<_>>())
    };
    for source in ["../shared", "../app/../shared/", "link"] {
        let files = format!("files = [{{ source = {source:?}, destination = \"/css\" }}]\nexclude_files = [\"*.key\"]");
        assert_eq!(paths(&files).unwrap(), ["css/a.css", "css/deep/b.css"], "{source}");
    }
    let file = "files = [{ source = \"../shared/a.css\", destination = \"/x\" }]";
    assert_eq!(paths(file).unwrap(), ["x"]);
    let excluded = "files = [{ source = \"../shared\", destination = \"/\" }]\nexclude_files = [\"../shared/deep/**\"]";
    assert_eq!(paths(excluded).unwrap(), ["a.css", "c.key"]);
    assert!(paths("files = [\"link/*\"]").unwrap_err().contains("name it as the source of a pair"));
    symlink("../app/hello.wasm", dir.path("shared/in")).unwrap();
    assert_eq!(paths(excluded).unwrap(), ["a.css", "c.key", "in"]);
    symlink("../elsewhere", dir.path("shared/out")).unwrap();
    fs::write(dir.path("elsewhere"), "").unwrap();
    assert!(paths(excluded).unwrap_err().contains("../shared/out leads to "));
}

#[test]
fn the_whole_directory_of_the_manifest_can_be_given() {
    for source in ["", ".", "./"] {
        let files =
            format!("files = [{{ source = {source:?}, destination = \"/all\" }}]\nexclude_files = [\"*.toml\"]\n");
        let dir = Dir::new(&files).write("a/b.txt", b"");
        assert_eq!(dir.files(), ["all/a/b.txt", "all/hello.wasm"], "{source:?}");
    }
}

#[test]
fn two_files_for_one_path_are_refused_and_the_same_file_twice_is_not() {
    let dir = Dir::new("files = [\"a/x\", \"a/*\", { source = \"b\", destination = \"/a\" }]\n")
        .write("a/x", b"1")
        .write("b/x", b"2");
    assert_eq!(
        dir.problem(),
        "spin.toml:9:24: component.hello.files[2]: puts b/x at /a/x, where a/x already is: change one of the destinations"
    );
    dir.manifest("source = \"hello.wasm\"\nfiles = [\"a/x\", \"a/*\"]\n");
    assert_eq!(dir.files(), ["a/x"]);
}

#[test]
fn a_file_below_another_file_is_refused() {
    let dir =
        Dir::new("files = [{ source = \"a\", destination = \"/x\" }, { source = \"a\", destination = \"/x/y\" }]\n")
            .write("a", b"1");
    assert!(dir.problem().contains("one of its parent directories is itself a file"), "{}", dir.problem());
}

#[test]
fn links_are_followed_within_the_directory_and_not_out_of_it() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    let dir = Dir::new("files = [\"a/**/*\"]\n").write("a/x", b"1").write("b/y", b"2");
    symlink(dir.path("b"), dir.path("a/b")).unwrap();
    symlink("x", dir.path("a/z")).unwrap();
    assert_eq!(dir.files(), ["a/b/y", "a/x", "a/z"]);
    for (link, pattern) in
        [("a/out", "a/**/*"), ("out", "out/*"), ("out", "out"), ("out-file", "out-file"), ("out-file", "*-file")]
    {
        let target = if link == "out-file" { outside.path().join("secret") } else { outside.path().to_path_buf() };
        symlink(target, dir.path(link)).unwrap();
        dir.manifest(&format!("source = \"hello.wasm\"\nfiles = [\"{pattern}\"]\n"));
        let problem = dir.problem();
        assert!(problem.contains("outside the directory of the manifest"), "{pattern}: {problem}");
        fs::remove_file(dir.path(link)).unwrap();
    }
    symlink(outside.path(), dir.path("a/out")).unwrap();
    dir.manifest("source = \"hello.wasm\"\nfiles = [\"a/**/*\"]\nexclude_files = [\"a/out\"]\n");
    assert_eq!(dir.files(), ["a/b/y", "a/x", "a/z"]);
}

#[test]
fn links_in_a_circle_and_to_nothing_are_passed_by() {
    let dir = Dir::new("files = [\"a/**/*\", { source = \"a\", destination = \"/b\" }]\n").write("a/x", b"1");
    symlink("../a", dir.path("a/loop")).unwrap();
    symlink("gone", dir.path("a/.#x")).unwrap();
    assert_eq!(dir.files(), ["a/x", "b/x"]);
}

#[test]
fn a_pattern_that_is_none_is_told_where_it_is() {
    let dir = Dir::new("");
    for (files, excluded, at) in [
        ("*", "[\"a/*\",\n  \"b/[\"]", "spin.toml:11:3: component.hello.exclude_files[1]: "),
        ("a/[", "[]", "spin.toml:9:10: component.hello.files[0]: "),
    ] {
        dir.manifest(&format!("source = \"hello.wasm\"\nfiles = [\"{files}\"]\nexclude_files = {excluded}\n"));
        let problem = dir.problem();
        assert!(problem.contains(at) && problem.contains("unclosed character class"), "{problem}");
    }
}

#[test]
fn a_pattern_and_a_directory_may_have_no_files() {
    let dir = Dir::new("").write("a/skipped", b"1");
    dir.manifest(
        "source = \"hello.wasm\"\nexclude_files = [\"a/*\"]\nfiles = [\"dist/**/*\", \"x?\", { source = \"a\", destination = \"/data\" }]\n",
    );
    assert!(dir.files().is_empty());
}

#[test]
fn what_is_not_there_is_named_with_the_command_that_makes_it() {
    for (entry, path) in
        [("\"dist/a\"", "dist/a"), ("\"dist\"", "dist"), ("{ source = \"dist\", destination = \"/\" }", "dist")]
    {
        let dir = Dir::new(&format!("files = [{entry}]\nbuild = {{ command = \"make\", workdir = \"src\" }}\n"));
        assert_eq!(
            dir.problem(),
            format!(
                "spin.toml:9:10: component.hello.files[0]: there is no `{path}`: check the path, or run the component's build command in src: make"
            )
        );
    }
    let dir = Dir::new("");
    dir.manifest("source = \"gone.wasm\"\nbuild = { command = [\"a\", \"b\"] }\n");
    assert_eq!(
        dir.problem(),
        "spin.toml:8:10: component.hello.source: there is no file gone.wasm: check the path, or run the component's build command: a && b"
    );
    dir.manifest("source = \"hello.wasm\"\nfiles = [\"[\"]\n");
    assert!(
        dir.problem().starts_with("spin.toml:9:10: component.hello.files[0]: error parsing glob"),
        "{}",
        dir.problem()
    );
}

#[test]
fn a_source_that_is_empty_text_or_a_directory_is_not_wasm() {
    for bytes in [&b""[..], b"\0as", b"(module)"] {
        let dir = Dir::new("").write("hello.wasm", bytes);
        assert!(dir.problem().contains("component.hello.source: hello.wasm is not WebAssembly"), "{}", dir.problem());
    }
    let dir = Dir::new("");
    dir.manifest("source = \".\"\n");
    assert!(dir.problem().contains("cannot read . (it is not a regular file)"), "{}", dir.problem());
}

#[test]
fn a_pipe_and_a_device_are_refused_and_not_waited_for() {
    let dir = Dir::new("");
    dir.manifest("source = \"pipe\"\n");
    assert!(Command::new("mkfifo").arg(dir.path("pipe")).status().unwrap().success());
    assert!(dir.problem().contains("cannot read pipe (it is not a regular file)"), "{}", dir.problem());
    let error = load(Path::new("/dev/zero"), &dir.store()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /dev/zero");
}

#[test]
fn wasm_may_come_from_a_shared_target_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store_dir = tempfile::tempdir().unwrap();
    let app = dir.path().join("app");
    fs::create_dir_all(&app).unwrap();
    fs::write(dir.path().join("hello.wasm"), WASM).unwrap();
    let text = "spin_version = \"1\"\nname = \"a\"\nversion = \"1.0.0\"\ntrigger = { type = \"http\" }\n[[component]]\nid = \"a\"\nsource = \"../hello.wasm\"\n[component.trigger]\nroute = \"/\"\n";
    fs::write(app.join("spin.toml"), text).unwrap();
    let loaded = load(&app, &Store::open(store_dir.path()).unwrap()).unwrap();
    assert_eq!(loaded.application.contents().map(|content| content.digest).collect::<Vec<_>>(), [Digest::of(WASM)]);
}

#[test]
fn paths_are_relative_to_where_a_manifest_was_found_also_if_that_is_a_link() {
    let (dir, elsewhere) = (Dir::new("").write("hello.wasm", b"\0asm-here"), tempfile::tempdir().unwrap());
    fs::rename(dir.path("spin.toml"), elsewhere.path().join("real.toml")).unwrap();
    symlink(elsewhere.path().join("real.toml"), dir.path("spin.toml")).unwrap();
    let loaded = dir.load_with(&Options::default()).unwrap();
    let digests: Vec<Digest> = loaded.application.contents().map(|content| content.digest).collect();
    assert_eq!(digests, [Digest::of(b"\0asm-here")]);
}

#[test]
fn a_directory_without_a_manifest_and_a_wrong_manifest_say_so() {
    let dir = Dir::new("colour = 1\n");
    assert!(dir.problem().starts_with("spin.toml:9:1: component.hello.colour: unknown field"), "{}", dir.problem());
    fs::remove_file(dir.path("spin.toml")).unwrap();
    let error = dir.load_with(&Options::default()).unwrap_err();
    assert_eq!(error.reason(), "NoManifest");
}

#[test]
fn a_wasm_file_stands_for_an_application_that_answers_every_path_with_it() {
    let dir = Dir::new("").write("it's \"mine\".wasm", WASM);
    let loaded = load(&dir.path("it's \"mine\".wasm"), &dir.store()).unwrap();
    assert_eq!(loaded.application.name, "it's \"mine\"");
    let patterns: Vec<_> = loaded.application.routes.into_iter().map(|route| route.pattern).collect();
    assert_eq!(patterns, [manifest::Pattern::Path("/...".to_owned())]);
    let wasm = loaded.application.components.into_values().map(|component| component.source.digest);
    assert_eq!(wasm.collect::<Vec<_>>(), [Digest::of(WASM)]);
    let error = load(&dir.path("none.wasm"), &dir.store()).unwrap_err();
    assert!(error.to_string().starts_with("there is no application at "), "{error}");
}

#[test]
fn the_text_of_a_module_is_as_good_as_its_wasm() {
    let text = "(module)";
    let dir = Dir::new("").write("it.wat", text.as_bytes());
    let digest = |path: &Path| {
        let loaded = load(path, &dir.store()).map_err(|error| error.to_string())?;
        Ok::<_, String>(loaded.application.components.into_values().next().unwrap().source.digest)
    };
    let expected = Digest::of(&wat::parse_str(text).unwrap());
    assert_eq!(digest(&dir.path("it.wat")), Ok(expected), "alone");
    dir.manifest("source = \"it.wat\"\n");
    assert_eq!(digest(dir.dir.path()), Ok(expected));
    fs::write(dir.path("it.wat"), "(module\n(nonsense))").unwrap();
    let problem = dir.problem();
    let expected = "spin.toml:8:10: component.hello.source: it.wat is not WebAssembly text: ";
    assert!(problem.starts_with(expected) && problem.ends_with("it.wat:2:2"), "{problem}");
    assert_eq!(problem.lines().count(), 1);
    let alone = digest(&dir.path("it.wat")).unwrap_err();
    assert!(alone.contains("it.wat: it.wat is not WebAssembly text: "), "{alone}");
    fs::write(dir.path("it.wat"), b"\xff").unwrap();
    assert!(dir.problem().contains("cannot read it.wat"), "{}", dir.problem());
}

#[test]
fn a_profile_and_a_registry_are_handled_as_the_manifest_says() {
    let dir = Dir::new("profile.debug.source = \"debug.wasm\"\n").write("debug.wasm", b"\0asmdebug");
    let debug = Options { profile: Some("debug".to_owned()), ..Options::default() };
    let loaded = dir.load_with(&debug).unwrap();
    assert!(loaded.application.contents().any(|content| content.digest == Digest::of(b"\0asmdebug")));
    assert!(
        dir.problem_with(&Options { profile: Some("x".to_owned()), ..Options::default() }).contains("no profile `x`")
    );
    dir.manifest("source = { package = \"a:b\", version = \"1.0.0\" }\n");
    assert!(dir.problem().contains("no registry is known for `a:b`"), "{}", dir.problem());
}
