//! Variables whose values come from the providers of a runtime configuration.

use std::{collections::BTreeMap, sync::Arc};

use control::SecretString;
use manifest::{
    RuntimeConfig,
    runtime_config::{BlockedNetwork, ClientTls, Pem, VariablesProvider},
};
use node_runtime::engine::BuildError;
use sources::http::Trust;

use crate::{
    support::{AMPLE, App, guest},
    variables::{READ_KEY, app, legacy},
    vault::{Behaviour, Vault},
};

fn vault(server: &Vault) -> VariablesProvider {
    VariablesProvider::Vault {
        url: format!("http://{}", server.address),
        token: SecretString::new("hunter2"),
        mount: "kv".to_owned(),
        prefix: Some("apps/one".to_owned()),
    }
}

fn vault_over_tls(server: &Vault) -> VariablesProvider {
    VariablesProvider::Vault {
        url: format!("https://{}/", server.address),
        token: SecretString::new("hunter2"),
        mount: "secret".to_owned(),
        prefix: None,
    }
}

fn fixed(name: &str, value: &str) -> VariablesProvider {
    VariablesProvider::Static { values: BTreeMap::from([(name.to_owned(), SecretString::new(value))]) }
}

fn env(prefix: &str) -> VariablesProvider {
    VariablesProvider::Env { prefix: prefix.to_owned(), dotenv_path: None }
}

/// The application of these tests, with nothing given: `who` is required, `word` has the default `Hello`.
fn with(wasm: &[u8], providers: impl IntoIterator<Item = VariablesProvider>) -> App {
    let mut app = app(wasm);
    app.settings.variables.clear();
    let config = RuntimeConfig { variables_providers: providers.into_iter().collect(), ..RuntimeConfig::default() };
    app.settings.runtime_config = Arc::new(config);
    app
}

#[tokio::test]
async fn the_first_provider_that_has_a_value_wins_and_what_is_given_goes_before_all() {
    let sdk = guest("http-spin-sdk");
    let providers = || [env("MINE"), fixed("who", "static"), fixed("who", "later"), fixed("word", "Hi")];
    let greeting = async |app: App| app.serve().await.get("/var/greeting").await.text().to_owned();
    assert_eq!(greeting(with(&sdk, providers())).await, "Hi, static!\n");
    let mut app = with(&sdk, providers());
    app.settings.environment.insert("MINE_WHO".to_owned(), SecretString::new("environment"));
    assert_eq!(greeting(app).await, "Hi, environment!\n");
    let mut app = with(&sdk, providers());
    app.settings.variables.insert("who".to_owned(), SecretString::new("given"));
    assert_eq!(greeting(app).await, "Hi, given!\n");
    assert_eq!(greeting(with(&sdk, [fixed("who", "static")])).await, "Hello, static!\n");
}

#[tokio::test]
async fn a_vault_is_asked_with_its_token_when_the_guest_asks() {
    let server = Vault::start().await;
    server.put("/v1/kv/data/apps/one/who", "Vault");
    let served = with(&guest("http-spin-sdk"), [vault(&server)]).serve().await;
    let at_build = server.asked();
    assert_eq!(at_build, ["hunter2 /v1/kv/data/apps/one/who"], "the required one, to see whether it has a value");
    assert_eq!(served.get("/var/greeting").await.text(), "Hello, Vault!\n");
    let later = server.asked().split_off(at_build.len());
    assert_eq!(later, ["hunter2 /v1/kv/data/apps/one/word", "hunter2 /v1/kv/data/apps/one/who"]);
    served.get("/var/greeting").await;
    assert_eq!(server.asked().len(), 3, "an answer counts for a while");
}

#[tokio::test]
async fn guests_of_every_abi_read_what_a_vault_has() {
    let server = Vault::start().await;
    server.put("/v1/kv/data/apps/one/who", "Vault");
    for name in ["http-spin-sdk", "http-p3"] {
        let served = with(&guest(name), [vault(&server)]).serve().await;
        assert_eq!(served.get("/var/greeting").await.text(), "Hello, Vault!\n", "{name}");
    }
    let served = with(&legacy(READ_KEY), [vault(&server)]).serve().await;
    assert_eq!(served.get("/greeting").await.text(), "Hello, Vault!");
}

#[tokio::test]
async fn a_provider_behind_a_vault_has_its_turn_when_the_vault_has_nothing() {
    let server = Vault::start().await;
    let served = with(&guest("http-spin-sdk"), [vault(&server), fixed("who", "static")]).serve().await;
    assert_eq!(served.get("/var/greeting").await.text(), "Hello, static!\n");
}

#[tokio::test]
async fn a_required_variable_that_nobody_has_is_named_before_anything_is_served() {
    let server = Vault::start().await;
    for providers in [vec![], vec![vault(&server)], vec![fixed("word", "x"), env("NO_SUCH")]] {
        let error = with(&guest("http-spin-sdk"), providers).refused().await;
        assert_eq!(error.reason(), "VariableMissing");
        assert!(error.to_string().contains("`who`"), "{error}");
    }
}

#[tokio::test]
async fn a_vault_that_fails_is_an_error_of_the_provider_that_shows_no_secret() {
    let server = Vault::start().await;
    let endless = "x".repeat(3 << 20);
    let cases = [
        (403, r#"{"errors":["hunter3"]}"#, "policy"),
        (500, "hunter3", "500"),
        (200, "hunter3", "version 2"),
        (200, r#"{"data":{"data":{"other":"hunter3"}}}"#, "`value`"),
        (200, r#"{"data":{"data":{"value":["hunter3"]}}}"#, "`value`"),
        (200, r#"{"data":"hunter3"}"#, "version 2"),
        (200, &endless, "bytes"),
        (301, "", "301"),
    ];
    for (status, text, part) in cases {
        server.set("/v1/kv/data/apps/one/who", Behaviour::Answer(status, text.to_owned()));
        let served = with(&guest("http-spin-sdk"), [vault(&server)]).serve().await;
        let reply = served.get("/var/greeting").await;
        assert_eq!(reply.status, 404, "{status}");
        let message = reply.text();
        assert!(message.contains("`who`") && message.contains(part), "{part}: {message}");
        assert!(!message.contains("hunter"), "{message}");
    }
}

#[tokio::test]
async fn a_version_that_was_deleted_is_a_secret_that_there_is_not() {
    let server = Vault::start().await;
    let deleted = r#"{"data":{"data":null,"metadata":{"version":2,"destroyed":true}}}"#;
    server.set("/v1/kv/data/apps/one/who", Behaviour::Answer(200, deleted.to_owned()));
    let error = with(&guest("http-spin-sdk"), [vault(&server)]).refused().await;
    assert!(matches!(error, BuildError::Variables(_)), "{error}");
}

#[tokio::test]
async fn a_vault_that_does_not_answer_keeps_nobody_beyond_the_deadline() {
    let server = Vault::start().await;
    server.set("/v1/kv/data/apps/one/word", Behaviour::Hang);
    server.put("/v1/kv/data/apps/one/who", "Vault");
    let app = with(&guest("http-spin-sdk"), [vault(&server)]).timeout(AMPLE);
    let served = app.serve().await;
    let reply = served.get("/var/greeting").await;
    assert!(matches!(reply.status, 404 | 500 | 504), "{reply:?}");
    assert_eq!(served.get("/var/plain").await.text(), "\n", "others are not kept");
}

#[tokio::test]
async fn a_vault_is_believed_by_its_certificate_only() {
    let server = Vault::start_with_tls().await;
    server.put("/v1/secret/data/who", "TLS");
    let provider = vault_over_tls(&server);
    let mut app = with(&guest("http-spin-sdk"), [provider.clone()]);
    app.settings.provider_trust = Trust::Only(server.authority.clone());
    assert_eq!(app.serve().await.get("/var/greeting").await.text(), "Hello, TLS!\n");
    let reply = with(&guest("http-spin-sdk"), [provider]).serve().await.get("/var/greeting").await;
    assert!(reply.status == 404 && reply.text().contains("cannot be asked"), "{}", reply.text());
}

#[tokio::test]
async fn a_vault_behind_a_private_authority_is_believed_where_the_runtime_configuration_has_that() {
    let server = Vault::start_with_tls().await;
    server.put("/v1/secret/data/who", "TLS");
    let provider = vault_over_tls(&server);
    let entry = ClientTls {
        component_ids: vec!["main".to_owned()],
        hosts: vec![server.address.ip().to_string()],
        platform_roots: false,
        webpki_roots: false,
        ca_roots: Some(Pem::Text(SecretString::new(server.authority.clone()))),
        client_cert: None,
        client_private_key: None,
    };
    let app = with(&guest("http-spin-sdk"), [provider]).runtime_config(|config| config.client_tls.push(entry));
    assert_eq!(app.serve().await.get("/var/greeting").await.text(), "Hello, TLS!\n");
}

#[tokio::test]
async fn a_vault_in_a_blocked_network_is_not_asked() {
    let server = Vault::start().await;
    server.put("/v1/kv/data/apps/one/who", "Vault");
    let by_name = |vault: VariablesProvider| match vault {
        VariablesProvider::Vault { url, token, mount, prefix } => {
            VariablesProvider::Vault { url: url.replace("127.0.0.1", "localhost"), token, mount, prefix }
        }
        other => other,
    };
    for provider in [vault(&server), by_name(vault(&server))] {
        let app = with(&guest("http-spin-sdk"), [provider])
            .runtime_config(|config| config.outbound_networking.block_networks.push(BlockedNetwork::Private));
        let reply = app.serve().await.get("/var/greeting").await;
        assert!(reply.status == 404 && reply.text().contains("does not let guests reach"), "{}", reply.text());
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn allowed_hosts_are_filled_in_from_providers_when_the_application_is_loaded() {
    let server = Vault::start().await;
    server.put("/v1/kv/data/apps/one/who", "example.com");
    let ok = with(&guest("http-spin-sdk"), [vault(&server)]).allow("https://{{ who }}").build().await;
    assert!(ok.is_ok());
    server.set("/v1/kv/data/apps/one/who", Behaviour::Answer(503, String::new()));
    let error = with(&guest("http-spin-sdk"), [vault(&server)]).allow("https://{{ who }}").refused().await;
    assert_eq!(error.reason(), "VariablesProviderFailed");
    assert!(error.to_string().contains("https://{{ who }}"), "{error}");
}
