//! Packages, pushed as `wkg` does and fetched in every way that manifests and settings allow.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use control::{Credentials, SecretString};
use manifest::{Digest, spin_toml::PackageVersion};
use reqwest::Method;
use semver::{Version, VersionReq};
use sources::{
    Store,
    http::{HttpClient, HttpOptions, Trust},
    registry::{PackageRef, RegistryClient, RegistryError, RegistrySettings},
};
use tempfile::TempDir;

const PACKAGE: &str = "docs:adder";
const WASM: &[u8] = b"\0asm\x0d\0\x01\0";

/// A registry, and a store and settings for who asks it.
struct Registry {
    process: Child,
    address: String,
    dir: TempDir,
    settings: RegistrySettings,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

fn program() -> PathBuf {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/registry/build.sh");
    let built = Command::new(build).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    String::from_utf8(built.stdout).unwrap().trim().into()
}

impl Registry {
    fn start(arguments: &[&str]) -> Self {
        let mut process =
            Command::new(program()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        Self { process, address, dir: tempfile::tempdir().unwrap(), settings: RegistrySettings::default() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Pushes `wasm` as a layer of `media_type` to the repository `repository`, laid out as `wkg` does.
    async fn push(&self, repository: &str, tag: &str, media_type: &str, wasm: &[u8], auth: Option<(&str, &str)>) {
        let options = HttpOptions {
            credentials: auth.map(|(username, password)| Credentials {
                username: username.to_owned(),
                password: SecretString::new(password),
            }),
            ..HttpOptions::default()
        };
        let client = HttpClient::new(&options).unwrap();
        let url = |rest: &str| format!("http://{}/v2/{repository}/{rest}", self.address).parse().unwrap();
        let blob = async |bytes: &[u8], media_type: &str| {
            let digest = Digest::of(bytes);
            let upload = client.request(Method::POST, url(&format!("blobs/uploads/?digest={digest}")));
            assert_eq!(upload.body(bytes.to_vec()).send().await.unwrap().status(), 201);
            serde_json::json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
        };
        let layer = blob(wasm, media_type).await;
        let config = blob(b"{}", "application/vnd.wasm.config.v0+json").await;
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            serde_json::json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer] });
        let put = client.request(Method::PUT, url(&format!("manifests/{tag}"))).header("content-type", media_type);
        assert_eq!(put.body(manifest.to_string()).send().await.unwrap().status(), 201);
    }

    async fn push_version(&self, version: &str) {
        let wasm = [WASM, version.as_bytes()].concat();
        self.push("docs/adder", version, "application/wasm", &wasm, None).await;
    }

    fn store(&self) -> Store {
        Store::open(self.dir.path().join("store")).unwrap()
    }

    async fn fetch_from(
        &self,
        registry: Option<&str>,
        package: &str,
        version: &PackageVersion,
    ) -> Result<Vec<u8>, String> {
        let client = RegistryClient::new(self.settings.clone(), Trust::default(), 1 << 20)
            .map_err(|error| self.shown(&error))?;
        let wanted = PackageRef { registry, package, version };
        let store = self.store();
        let content = client.fetch(wanted, &store).await.map_err(|error| self.shown(&error))?;
        Ok(store.read(&content).unwrap().unwrap())
    }

    async fn fetch(&self, version: &str) -> Result<Vec<u8>, String> {
        self.fetch_from(Some(&self.address), PACKAGE, &matching(version)).await
    }

    /// An error, without what differs from run to run.
    fn shown(&self, error: &RegistryError) -> String {
        error.to_string().replace(&self.address, "REGISTRY").replace(&self.dir.path().display().to_string(), "DIR")
    }
}

fn matching(requirement: &str) -> PackageVersion {
    PackageVersion::Matching(VersionReq::parse(requirement).unwrap())
}

fn exact(version: &str) -> PackageVersion {
    PackageVersion::Exact(Version::parse(version).unwrap())
}

#[tokio::test]
async fn the_highest_version_that_matches_is_fetched() {
    let registry = Registry::start(&[]);
    for version in ["0.9.0", "1.0.0", "1.2.0", "1.10.0", "1.11.0-rc.1", "2.0.0", "latest"] {
        registry.push_version(version).await;
    }
    for (requirement, version) in [
        ("1.0", "1.10.0"),
        ("=1.2.0", "1.2.0"),
        (">=1.0, <1.5", "1.2.0"),
        ("*", "2.0.0"),
        ("0.9", "0.9.0"),
        ("1.11.0-rc.1", "1.11.0-rc.1"),
    ] {
        let wasm = registry.fetch(requirement).await.unwrap();
        assert_eq!(wasm.strip_prefix(WASM).map(String::from_utf8_lossy).as_deref(), Some(version), "{requirement}");
    }
    let one = registry.fetch_from(Some(&registry.address), PACKAGE, &exact("1.0.0")).await.unwrap();
    assert!(one.ends_with(b"1.0.0"));
    let shown = "has no version ^3: it has 2.0.0, 1.11.0-rc.1, 1.10.0, 1.2.0, 1.0.0, 0.9.0";
    assert_eq!(registry.fetch("3").await.unwrap_err(), format!("`docs:adder` at REGISTRY {shown}"));
    let missing = registry.fetch_from(Some(&registry.address), PACKAGE, &exact("1.3.0")).await.unwrap_err();
    assert!(missing.starts_with("`docs:adder` at REGISTRY has no version 1.3.0: it has 2.0.0"), "{missing}");
    let unknown = registry.fetch_from(Some(&registry.address), "docs:none", &matching("1")).await.unwrap_err();
    assert_eq!(unknown, "there is no package `docs:none` at REGISTRY");
}

#[tokio::test]
async fn the_well_known_document_says_where_packages_are() {
    for document in [
        r#"{"preferredProtocol": "oci", "oci": {"namespacePrefix": "team/wasm/"}, "warg": {"url": "https://x"}}"#,
        r#"{"ociNamespacePrefix": "team/wasm/"}"#,
    ] {
        let registry = Registry::start(&["-well-known", document]);
        let layer = "application/vnd.wasm.content.layer.v1+wasm";
        registry.push("team/wasm/docs/adder", "1.0.0", layer, WASM, None).await;
        assert_eq!(registry.fetch("1").await.unwrap(), WASM);
    }
    let warg = Registry::start(&["-well-known", r#"{"preferredProtocol": "warg", "warg": {}}"#]);
    let problem = "the registry `REGISTRY` says in /.well-known/wasm-pkg/registry.json: it speaks `warg`, and only `oci` is understood";
    assert_eq!(warg.fetch("1").await.unwrap_err(), problem);
    let broken = Registry::start(&["-well-known", "<html>"]);
    assert!(broken.fetch("1").await.unwrap_err().contains("what is no such document"));
}

#[tokio::test]
async fn without_a_registry_the_configuration_and_then_the_default_say_where() {
    let mut registry = Registry::start(&[]);
    registry.push_version("1.0.0").await;
    let version = matching("1");
    let nowhere = registry.fetch_from(None, PACKAGE, &version).await.unwrap_err();
    assert!(nowhere.starts_with("no registry is known for `docs:adder`: add `registry = \"…\"`"), "{nowhere}");
    let address = registry.address.clone();
    for text in [
        format!("default_registry = \"{address}\""),
        format!("[namespace_registries]\ndocs = \"{address}\""),
        format!(
            "[namespace_registries]\ndocs = {{ registry = \"x.invalid\", metadata = {{ preferredProtocol = \"oci\", oci = {{ registry = \"{address}\" }} }} }}"
        ),
        format!("default_registry = \"x.invalid\"\n[package_registry_overrides]\n\"docs:adder\" = \"{address}\""),
    ] {
        registry.settings.wasm_pkg_config = Some(registry.write("config.toml", &text));
        let fetched = registry.fetch_from(None, PACKAGE, &version).await;
        assert!(fetched.is_ok_and(|wasm| wasm.starts_with(WASM)), "{text}");
    }
    registry.settings.wasm_pkg_config = Some(registry.write("config.toml", "default_registry = 1"));
    let error = registry.fetch_from(None, PACKAGE, &version).await.unwrap_err();
    assert!(error.starts_with("cannot use DIR/config.toml: invalid type"), "{error}");
    registry.settings = RegistrySettings { default_registry: Some(address), ..RegistrySettings::default() };
    assert!(registry.fetch_from(None, PACKAGE, &version).await.is_ok());
}

#[tokio::test]
async fn a_registry_that_asks_gets_the_credentials_for_it_and_no_others() {
    let mut registry = Registry::start(&["-credentials", "ada:lovelace"]);
    registry.push("docs/adder", "1.0.0", "application/wasm", WASM, Some(("ada", "lovelace"))).await;
    let refused = "REGISTRY does not let us read `docs:adder` (401): check the credentials for it in docker's config.json (`docker login`)";
    assert_eq!(registry.fetch("1").await.unwrap_err(), refused);
    let address = registry.address.clone();
    let docker = |pair: &str, host: &str| {
        let encoded = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(pair)
        };
        format!(r#"{{"auths": {{"{host}": {{"auth": "{encoded}"}}}}}}"#)
    };
    for (pair, host, good) in [
        ("ada:lovelace", address.as_str(), true),
        ("ada:byron", &address, false),
        ("ada:lovelace", "elsewhere.example.com", false),
    ] {
        registry.settings.docker_config = Some(registry.write("docker.json", &docker(pair, host)));
        let fetched = registry.fetch("1").await;
        assert_eq!(fetched.as_deref().is_ok_and(|wasm| wasm == WASM), good, "{pair} {host}: {fetched:?}");
    }
    registry.settings.docker_config = None;
    let text = format!("[registry.\"{address}\".oci]\nauth = {{ username = \"ada\", password = \"lovelace\" }}");
    registry.settings.wasm_pkg_config = Some(registry.write("config.toml", &text));
    assert_eq!(registry.fetch("1").await.unwrap(), WASM);
}

#[tokio::test]
async fn what_is_no_wasm_and_what_is_too_large_are_refused() {
    let registry = Registry::start(&[]);
    registry.push("docs/adder", "1.0.0", "application/vnd.oci.image.layer.v1.tar", b"tar", None).await;
    let error = registry.fetch("1").await.unwrap_err();
    assert!(
        error.contains(
            "it must have one layer of type application/wasm, and has [\"application/vnd.oci.image.layer.v1.tar\"]"
        ),
        "{error}"
    );
    registry.push("docs/adder", "2.0.0", "application/wasm", &vec![0; (1 << 20) + 1], None).await;
    assert_eq!(registry.fetch("2").await.unwrap_err(), "cannot ask REGISTRY");
}
