//! Certificates: made, replaced in stages, put right; and what they are good for.

use std::sync::Arc;

use control::wire::RUNTIME_DNS_NAME;
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    jiff::{SignedDuration, Timestamp},
};
use operator::pki::{
    CA_SECRET, Pki, RUNTIME_SECRET,
    issue::{self, Leaf, Role},
    secrets::{Material, RuntimeSecret},
};
use operator_api::names;
use operator_core::pki::Settings;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use crate::{api::Api, peer::Certificates};

const SECRETS: &str = "/api/v1/namespaces/spindle/secrets";

fn path(name: &str) -> String {
    format!("{SECRETS}/{name}")
}

fn secret(api: &Api, name: &str) -> Secret {
    serde_json::from_value(api.get(&path(name)).unwrap()).unwrap()
}

fn found(api: &Api) -> (Material, RuntimeSecret) {
    let material = Material::read(&secret(api, CA_SECRET)).unwrap();
    let runtime = RuntimeSecret::read(&secret(api, RUNTIME_SECRET), &material).unwrap();
    (material, runtime)
}

fn pki(api: &Api) -> Pki {
    Pki::new(api.client(), "spindle", Settings::default())
}

fn at(start: Timestamp, hours: i64) -> Timestamp {
    start + SignedDuration::from_hours(hours)
}

fn roots(bundle: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    Arc::new(roots)
}

fn der(leaf: &Leaf) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap()
}

fn time(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap()))
}

/// Whether a client that trusts `bundle` takes `leaf` for a runtime's.
fn serves(bundle: &str, leaf: &Leaf, now: Timestamp) -> bool {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(bundle), issue::provider()).build().unwrap();
    let name = ServerName::try_from(RUNTIME_DNS_NAME).unwrap();
    verifier.verify_server_cert(&der(leaf), &[], &name, &[], time(now)).is_ok()
}

/// Whether a server that trusts `bundle` takes `leaf` for a client's.
fn commands(bundle: &str, leaf: &Leaf, now: Timestamp) -> bool {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(bundle), issue::provider()).build().unwrap();
    verifier.verify_client_cert(&der(leaf), &[], time(now)).is_ok()
}

#[test]
fn a_runtimes_certificate_commands_nobody_and_the_operators_serves_nobody() {
    let Certificates { material, operator, runtime } = Certificates::new();
    let (bundle, now) = (material.bundle(), Timestamp::now());
    assert!(serves(&bundle, &runtime, now) && commands(&bundle, &operator, now));
    assert!(!commands(&bundle, &runtime, now) && !serves(&bundle, &operator, now));
}

#[tokio::test]
async fn the_first_start_makes_everything_that_runtimes_mount() {
    let api = Api::start().await;
    let pki = pki(&api);
    let now = Timestamp::now();
    pki.set_right(now).await.unwrap();
    let (material, runtime) = found(&api);
    assert!(serves(&runtime.bundle, &runtime.leaf, now));
    assert_eq!(runtime.bundle, material.bundle());
    assert!(pki.tls().borrow().is_some() && pki.revision_key().is_some());
    let mounted = secret(&api, RUNTIME_SECRET);
    assert_eq!(mounted.data.unwrap().keys().collect::<Vec<_>>(), ["ca.crt", "tls.crt", "tls.key"]);
}

#[tokio::test]
async fn replicas_that_start_together_agree_on_one_authority() {
    let api = Api::start().await;
    let replicas = [pki(&api), pki(&api), pki(&api)];
    let now = Timestamp::now();
    let results = futures::future::join_all(replicas.iter().map(|replica| replica.set_right(now))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let (material, _) = found(&api);
    assert_eq!(material.authorities.len(), 1);
    let keys: Vec<_> = replicas.iter().map(Pki::revision_key).collect();
    assert!(keys.iter().all(|key| key.as_ref() == Some(&material.revision_key)));
}

#[tokio::test]
async fn an_authority_is_replaced_in_stages_and_everybody_trusts_everybody_all_the_while() {
    let api = Api::start().await;
    let pki = pki(&api);
    let start = Timestamp::now();
    pki.set_right(start).await.unwrap();
    let first = found(&api).0.bundle();
    let mut previous = found(&api);
    let mut bundles = vec![1];
    for day in 0..260 {
        let now = at(start, day * 24);
        pki.set_right(now).await.unwrap();
        let next = found(&api);
        // Runtimes that have not got the new Secret yet, and those that have, in both directions.
        assert!(serves(&next.0.bundle(), &previous.1.leaf, now), "on day {day}");
        assert!(serves(&previous.0.bundle(), &next.1.leaf, now), "on day {day}");
        bundles.push(next.0.authorities.len());
        previous = next;
    }
    bundles.dedup();
    assert_eq!(bundles, [1, 2, 1], "the new one joins, the old one leaves");
    assert_ne!(previous.0.bundle(), first);
}

#[tokio::test]
async fn a_secret_that_is_deleted_or_edited_is_put_right_without_new_authorities() {
    let api = Api::start().await;
    let pki = pki(&api);
    let now = Timestamp::now();
    pki.set_right(now).await.unwrap();
    let (material, _) = found(&api);
    api.delete(&path(CA_SECRET));
    api.delete(&path(RUNTIME_SECRET));
    pki.set_right(now).await.unwrap();
    assert_eq!(found(&api).0, material);
    api.edit(&path(RUNTIME_SECRET), |secret| {
        secret["data"]["tls.crt"] = serde_json::to_value(ByteString(b"nonsense".to_vec())).unwrap();
        secret["data"]["ca.crt"] = serde_json::to_value(ByteString(b"nonsense".to_vec())).unwrap();
    });
    pki.set_right(now).await.unwrap();
    let (_, runtime) = found(&api);
    assert!(serves(&material.bundle(), &runtime.leaf, now));
    assert_eq!(runtime.bundle, material.bundle());
}

#[tokio::test]
async fn a_secret_of_authorities_that_is_edited_to_nonsense_is_put_right_and_who_knows_no_better_makes_another() {
    let api = Api::start().await;
    let pki = pki(&api);
    let start = Timestamp::now();
    pki.set_right(start).await.unwrap();
    let (material, before) = found(&api);
    let nonsense = || serde_json::to_value(ByteString(b"nonsense".to_vec())).unwrap();
    let spoil = |which: fn(&str) -> bool| {
        api.edit(&path(CA_SECRET), |secret| {
            let data = secret["data"].as_object_mut().unwrap();
            data.iter_mut().filter(|(key, _)| which(key)).for_each(|(_, value)| *value = nonsense());
        });
    };
    for which in [
        (|key| key.ends_with(".crt")) as fn(&str) -> bool,
        |key| key.ends_with(".key") && key != "revision.key",
        |key| key == "revision.key",
        |_| true,
    ] {
        spoil(which);
        pki.set_right(at(start, 1)).await.unwrap();
        assert_eq!(found(&api), (material.clone(), before.clone()));
    }
    api.edit(&path(CA_SECRET), |secret| {
        secret["data"].as_object_mut().unwrap().retain(|key, _| key == "revision.key");
    });
    pki.set_right(at(start, 1)).await.unwrap();
    assert_eq!(found(&api), (material.clone(), before));

    spoil(|_| true);
    self::pki(&api).set_right(at(start, 2)).await.unwrap();
    let (another, runtime) = found(&api);
    assert_ne!(another.authorities, material.authorities);
    assert!(serves(&another.bundle(), &runtime.leaf, at(start, 2)));
    pki.set_right(at(start, 2)).await.unwrap();
    assert_eq!(found(&api).0, another, "what can be read is believed");
}

#[tokio::test]
async fn an_annotation_asks_for_another_authority_and_what_is_no_time_for_nothing() {
    let api = Api::start().await;
    let pki = pki(&api);
    let start = Timestamp::now();
    pki.set_right(start).await.unwrap();
    let first = found(&api).0;
    let annotate = |value: String| {
        api.edit(&path(CA_SECRET), |secret| {
            secret["metadata"]["annotations"] = serde_json::json!({ names::ROTATE_BEFORE_ANNOTATION: value });
        });
    };
    annotate("soon".to_owned());
    pki.set_right(at(start, 1)).await.unwrap();
    assert_eq!(found(&api).0, first);
    annotate(at(start, 2).to_string());
    for hour in 1..10 {
        pki.set_right(at(start, hour)).await.unwrap();
    }
    let last = found(&api).0;
    assert_eq!(last.authorities.len(), 1, "asked for once, made once");
    assert_ne!(last.authorities, first.authorities);
    assert_eq!(last.revision_key, first.revision_key, "no app rolls over it");
}

#[tokio::test]
async fn nothing_is_written_while_all_is_well() {
    let api = Api::start().await;
    let pki = pki(&api);
    let now = Timestamp::now();
    pki.set_right(now).await.unwrap();
    let before = (api.get(&path(CA_SECRET)), api.get(&path(RUNTIME_SECRET)));
    pki.set_right(at(now, 1)).await.unwrap();
    assert_eq!((api.get(&path(CA_SECRET)), api.get(&path(RUNTIME_SECRET))), before);
}

#[tokio::test]
async fn a_restarted_operator_takes_over_what_it_finds() {
    let api = Api::start().await;
    let now = Timestamp::now();
    pki(&api).set_right(now).await.unwrap();
    let before = found(&api);
    let restarted = pki(&api);
    restarted.set_right(at(now, 2)).await.unwrap();
    assert_eq!(found(&api), before);
    assert_eq!(restarted.revision_key(), Some(before.0.revision_key));
}

#[test]
fn a_leaf_lives_no_longer_than_its_authority() {
    let Certificates { material, .. } = Certificates::new();
    let authority = &material.authorities[0];
    let leaf = authority.issue(Role::Runtime, Timestamp::now(), SignedDuration::from_hours(1000)).unwrap();
    assert!(leaf.validity.until <= authority.validity.until);
}
