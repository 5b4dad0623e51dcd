//! Bundles as real publishers of Spin laid them out, and every way in which one can be wrong.

use std::collections::BTreeMap;

use manifest::{
    Application, Content, Digest,
    bindle_layout::{self, Invoice, LayoutError},
};

/// What Spin v0.2 to v1.5 wrote for an application with everything.
const MANIFEST: &str = r#"
[trigger]
type = 'http'
base = '/base'
[variables.api_key]
required = true
secret = true
[variables.greeting]
required = false
default = 'hello'
secret = false
[[component]]
source = 'WASM'
id = 'env.dump'
description = 'dumps'
files = 'files-env.dump'
allowedHttpHosts = ['https://example.com']
keyValueStores = ['default']
[component.environment]
FOOD = 'WATERMELONS'
[component.trigger]
route = '/env/...'
[component.trigger.executor]
type = 'wagi'
entrypoint = '_start'
argv = '${SCRIPT_NAME} ${ARGS}'
[component.config]
message = '{{ greeting }} there'
"#;

/// A bundle to make wrong.
struct Bundle {
    manifest: String,
    invoice: String,
}

impl Bundle {
    fn new() -> Self {
        let manifest = MANIFEST.replace("WASM", &Digest::of(b"wasm").hex());
        let parcels = [
            parcel("spin.x.toml", bindle_layout::MANIFEST_MEDIA_TYPE, "MANIFEST", 0)
                .replace("size = 0", "size = MANIFEST_SIZE"),
            parcel("target/x.wasm", "application/wasm", &Digest::of(b"wasm").hex(), 4) + "[parcel.conditions]\n",
            parcel("a.txt", "text/plain", &Digest::of(b"a").hex(), 1)
                + "[parcel.conditions]\nmemberOf = [\"files-env.dump\", \"files-x\"]\n",
            parcel("other.txt", "text/plain", &Digest::of(b"o").hex(), 1)
                + "[parcel.conditions]\nmemberOf = [\"files-x\"]\n",
        ];
        let invoice = format!(
            "bindleVersion = \"1.0.0\"\n[bindle]\nname = \"example.com/hello\"\nversion = \"1.2.3+build.5\"\ndescription = \"says hello\"\nauthors = [\"A <a@x>\"]\n{}[[group]]\nname = \"files-env.dump\"\n",
            parcels.concat()
        );
        Self { manifest, invoice }
    }

    fn manifest(mut self, from: &str, to: &str) -> Self {
        assert!(self.manifest.contains(from), "{from}");
        self.manifest = self.manifest.replace(from, to);
        self
    }

    fn invoice(mut self, from: &str, to: &str) -> Self {
        assert!(self.invoice.contains(from), "{from}");
        self.invoice = self.invoice.replace(from, to);
        self
    }

    fn with(mut self, parcel: &str) -> Self {
        self.invoice += parcel;
        self
    }

    fn read(&self) -> Result<Application, LayoutError> {
        let digest = Digest::of(self.manifest.as_bytes()).hex();
        let text = self.invoice.replace("MANIFEST_SIZE", &self.manifest.len().to_string()).replace("MANIFEST", &digest);
        bindle_layout::application(&Invoice::from_toml(&text).unwrap(), &self.manifest)
    }

    /// Why it is refused, in one word and in full.
    fn problem(&self) -> (&'static str, String) {
        let error = self.read().unwrap_err();
        (error.reason(), error.to_string())
    }
}

fn parcel(name: &str, kind: &str, sha256: &str, size: u64) -> String {
    format!(
        "[[parcel]]\n[parcel.label]\nsha256 = \"{sha256}\"\nmediaType = \"{kind}\"\nname = \"{name}\"\nsize = {size}\n"
    )
}

/// Another file in the group of the component.
fn file(name: &str, content: &str) -> String {
    parcel(name, "text/plain", &Digest::of(content.as_bytes()).hex(), content.len() as u64)
        + "[parcel.conditions]\nmemberOf = [\"files-env.dump\"]\n"
}

#[test]
fn a_bundle_of_a_real_publisher_becomes_the_application() {
    let application = Bundle::new().read().unwrap();
    let expected = serde_json::json!({
        "name": "example.com/hello",
        "version": "1.2.3+build.5",
        "description": "says hello",
        "authors": ["A <a@x>"],
        "base": "/base",
        "variables": { "api_key": { "secret": true }, "greeting": { "default": "hello" } },
        "routes": [{
            "pattern": { "path": "/env/..." },
            "target": { "component": {
                "id": "env.dump",
                "executor": { "wagi": { "entrypoint": "_start", "argv": "${SCRIPT_NAME} ${ARGS}" } },
            } },
        }],
        "components": { "env.dump": {
            "description": "dumps",
            "source": { "digest": Digest::of(b"wasm"), "size": 4 },
            "files": [{ "path": "a.txt", "content": { "digest": Digest::of(b"a"), "size": 1 } }],
            "environment": { "FOOD": "WATERMELONS" },
            "variables": { "message": "{{ greeting }} there" },
            "allowedOutboundHosts": [
                "redis://*:*", "mysql://*:*", "postgres://*:*", "http://example.com", "https://example.com",
            ],
            "keyValueStores": ["default"],
        } },
    });
    assert_eq!(serde_json::to_value(&application).unwrap(), expected);
}

#[test]
fn config_is_the_old_name_of_variables() {
    let old = Bundle::new().manifest("[variables.", "[config.").read().unwrap();
    assert_eq!(old, Bundle::new().read().unwrap());
}

#[test]
fn a_group_that_nobody_is_in_is_an_empty_directory() {
    let application = Bundle::new().manifest("files-env.dump", "files-nowhere").read().unwrap();
    assert!(application.components.values().all(|component| component.files.is_empty()));
}

#[test]
fn the_same_file_twice_is_one_file() {
    assert_eq!(Bundle::new().with(&file("a.txt", "a")).read().unwrap(), Bundle::new().read().unwrap());
}

#[test]
fn a_bundle_that_is_not_exactly_one_application_is_refused() {
    let second = parcel("spin.y.toml", bindle_layout::MANIFEST_MEDIA_TYPE, &Digest::of(b"y").hex(), 1);
    let wagi = "[parcel.label.feature.wagi]\nroute = \"/\"\n";
    for (bundle, reason, part) in [
        (Bundle::new().with(&second), "InvalidBundle", "has 2 parcels of type application/vnd.fermyon.spin+toml"),
        (
            Bundle::new().invoice(bindle_layout::MANIFEST_MEDIA_TYPE, "text/x"),
            "NotASpinApplication",
            "has no parcel of type",
        ),
        (
            Bundle::new()
                .invoice(bindle_layout::MANIFEST_MEDIA_TYPE, "text/x")
                .with(&(second.replace(bindle_layout::MANIFEST_MEDIA_TYPE, "text/y") + wagi)),
            "NotASpinApplication",
            "Wagi's own layout",
        ),
        (
            Bundle::new().invoice("bindleVersion = \"1.0.0\"", "bindleVersion = \"2.0.0\""),
            "InvalidBundle",
            "version `2.0.0`",
        ),
        (Bundle::new().invoice("[bindle]", "yanked = true\n[bindle]"), "BundleYanked", "has been yanked"),
        (
            Bundle::new().invoice("sha256 = \"MANIFEST\"", &format!("sha256 = \"{}\"", Digest::of(b"").hex())),
            "DigestMismatch",
            "does not have the digest",
        ),
    ] {
        let (actual, text) = bundle.problem();
        assert_eq!(actual, reason, "{text}");
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_component_whose_wasm_is_not_in_the_bundle_is_refused() {
    let wasm = Digest::of(b"wasm").hex();
    let other = Digest::of(b"other").hex();
    for (bundle, part) in [
        (Bundle::new().manifest(&wasm, &other), "which is no parcel of its bundle"),
        (Bundle::new().invoice("application/wasm", "text/plain"), "which is `text/plain` and not application/wasm"),
        (Bundle::new().with(&parcel("again", "application/wasm", &wasm, 5)), "names two sizes"),
    ] {
        let (reason, text) = bundle.problem();
        assert_eq!(reason, "InvalidBundle");
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn files_that_could_escape_or_clash_are_refused() {
    for (name, part) in [
        ("../x", "`..`"),
        ("/etc/passwd", "must be relative"),
        ("", "is empty"),
        ("a/../../x", "`..`"),
        ("a.txt/b", "itself a file"),
        ("a.txt", "two different files"),
        ("x\\\\y", "backslash"),
        ("x\\u0000", "NUL"),
    ] {
        let (reason, text) = Bundle::new().with(&file(name, "different")).problem();
        assert_eq!(reason, "InvalidBundle");
        assert!(text.contains(part) && text.contains("files-env.dump"), "{name}: {text}");
    }
    let elsewhere = file("../x", "different").replace("files-env.dump", "files-of-nobody");
    assert!(Bundle::new().with(&elsewhere).read().is_ok(), "no component has it");
}

#[test]
fn a_manifest_parcel_that_is_wrong_is_named_with_line_and_field() {
    for (bundle, part) in [
        (
            Bundle::new().manifest("keyValueStores", "keyValueStore"),
            "spin.x.toml:18:1: component.env.dump.keyValueStore: unknown field: did you mean `keyValueStores`?",
        ),
        (
            Bundle::new().manifest("type = 'http'", "type = 'redis'"),
            "spin.x.toml:3:8: trigger.type: the trigger `redis` is not supported",
        ),
        (Bundle::new().manifest("id = 'env.dump'", "id = '../x'"), "is not a component id"),
        (Bundle::new().manifest("source = '", "source = 'x"), "is not a sha256 digest"),
        (Bundle::new().manifest("route = '/env/...'", ""), "component.env.dump.trigger.route: is missing"),
        (Bundle::new().manifest("{{ greeting }}", "{{ nobody }}"), "the variable `nobody`, which is not declared"),
    ] {
        let (reason, text) = bundle.problem();
        assert_eq!(reason, "InvalidManifest", "{text}");
        assert!(text.contains(part), "{text}");
    }
    let twice = Bundle::new();
    let component = twice.manifest.split_once("[[component]]").map(|(_, rest)| format!("[[component]]{rest}")).unwrap();
    let twice = Bundle { manifest: twice.manifest.clone() + &component, ..twice };
    assert!(twice.problem().1.contains("there is another component `env.dump`"), "{}", twice.problem().1);
}

#[test]
fn an_unknown_field_of_an_invoice_is_refused() {
    assert!(
        Invoice::from_toml(
            "bindleVersion = \"1.0.0\"\nyanked_reason = \"x\"\n[bindle]\nname = \"a\"\nversion = \"1.0.0\"\n"
        )
        .is_err()
    );
}

#[test]
fn a_traditional_application_is_published_in_the_traditional_layout() {
    let application = Bundle::new().read().unwrap();
    let names = BTreeMap::from([("env.dump".parse().unwrap(), "target/x.wasm".to_owned())]);
    let publication = bindle_layout::publish(&application, &names).unwrap();
    let expected = format!(
        r#"[trigger]
type = "http"
base = "/base"

[variables.api_key]
required = true
secret = true

[variables.greeting]
default = "hello"
required = false
secret = false

[[component]]
source = "{}"
id = "env.dump"
description = "dumps"
files = "files-env.dump"
allowedHttpHosts = ["example.com"]
keyValueStores = ["default"]

[component.environment]
FOOD = "WATERMELONS"

[component.trigger]
route = "/env/..."

[component.trigger.executor]
type = "wagi"
entrypoint = "_start"
argv = "${{SCRIPT_NAME}} ${{ARGS}}"

[component.config]
message = "{{{{ greeting }}}} there"
"#,
        Digest::of(b"wasm").hex()
    );
    assert_eq!(publication.manifest_toml, expected);
    let manifest = Content { digest: Digest::of(expected.as_bytes()), size: expected.len() as u64 };
    let parcels: Vec<_> = publication
        .parcels
        .iter()
        .map(|parcel| (parcel.name.as_str(), parcel.media_type.as_str(), parcel.content, parcel.member_of.clone()))
        .collect();
    let name = format!("spin.{}.toml", manifest.digest.hex());
    let content = |bytes: &[u8]| Content { digest: Digest::of(bytes), size: bytes.len() as u64 };
    assert_eq!(
        parcels,
        [
            (name.as_str(), bindle_layout::MANIFEST_MEDIA_TYPE, manifest, None),
            ("target/x.wasm", "application/wasm", content(b"wasm"), Some(vec![])),
            ("a.txt", "text/plain", content(b"a"), Some(vec!["files-env.dump".to_owned()])),
        ]
    );
    assert_eq!(publication.groups, ["files-env.dump"]);
}

#[test]
fn an_application_whose_name_or_version_makes_no_id_is_not_published() {
    let application = Bundle::new().read().unwrap();
    let publication = bindle_layout::publish(&application, &BTreeMap::new()).unwrap();
    for (name, version, build_info, part) in [
        ("my app", "1.0.0", None, "cannot be the name"),
        ("../a", "1.0.0", None, "cannot be the name"),
        ("a", "", None, "which cannot be the version"),
        ("a", "1.0", None, "which cannot be the version"),
        ("a", "1.0.0+b", Some("c"), "which cannot be the version"),
    ] {
        let application = Application { name: name.to_owned(), version: version.to_owned(), ..application.clone() };
        let error = publication.invoice(&application, build_info).unwrap_err();
        assert_eq!(error.reason(), "NotPublishable");
        assert!(error.to_string().contains(part), "{error}");
    }
    let application = Application { name: "a".to_owned(), version: "1.0.0".to_owned(), ..application };
    assert_eq!(publication.invoice(&application, Some("b5")).unwrap().id(), "a/1.0.0+b5");
}
