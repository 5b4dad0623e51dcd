//! The keys: whom the server trusts, and what it signs with.

use std::{collections::BTreeSet, io::ErrorKind, path::Path};

use anyhow::Context as _;
use bindle::{
    SignatureRole, VerificationStrategy,
    signature::{KeyRing, SecretKeyEntry, SecretKeyFile, SecretKeyStorage as _},
};

/// The server's secret keys; a host key is made and kept if there is none.
pub(crate) async fn signing_keys(path: &Path) -> anyhow::Result<SecretKeyFile> {
    let mut keys = match tokio::fs::read_to_string(path).await {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{} holds no secret keys", path.display()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => SecretKeyFile::default(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if keys.get_first_matching(&SignatureRole::Host, None).is_none() {
        keys.key.push(SecretKeyEntry::new("bindle-server", vec![SignatureRole::Host]));
        let saved = keys.save_file(path).await;
        saved.with_context(|| format!("cannot write the new host key to {}", path.display()))?;
        tracing::info!(path = %path.display(), "made a host key");
    }
    Ok(keys)
}

/// The trusted keys in `text`, each once.
///
/// The crate does not look at a key's roles, so for the strategy that is about creators only, only creators' keys are
/// kept.
pub(crate) fn keyring(text: &str, strategy: &VerificationStrategy) -> anyhow::Result<KeyRing> {
    if text.trim().is_empty() {
        return Ok(KeyRing::default());
    }
    let mut ring: KeyRing = toml::from_str(text)?;
    let mut seen = BTreeSet::new();
    ring.key.retain(|entry| seen.insert(entry.key.clone()));
    if matches!(strategy, VerificationStrategy::CreativeIntegrity) {
        ring.key.retain(|entry| entry.roles.contains(&SignatureRole::Creator));
    }
    Ok(ring)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindle::signature::KeyEntry;

    fn ring(entries: &[(&SecretKeyEntry, SignatureRole)]) -> String {
        let entry = |(secret, role): &(&SecretKeyEntry, SignatureRole)| {
            let public = KeyEntry::try_from(*secret).unwrap();
            KeyEntry { roles: vec![role.clone()], ..public }
        };
        toml::to_string(&KeyRing::new(entries.iter().map(entry).collect())).unwrap()
    }

    #[test]
    fn a_key_that_is_listed_twice_counts_once() {
        let key = SecretKeyEntry::new("a", vec![SignatureRole::Creator]);
        let text = ring(&[(&key, SignatureRole::Creator), (&key, SignatureRole::Creator)]);
        assert_eq!(keyring(&text, &VerificationStrategy::CreativeIntegrity).unwrap().key.len(), 1);
    }

    #[test]
    fn only_a_creators_key_makes_a_creator() {
        let key = SecretKeyEntry::new("a", vec![SignatureRole::Approver]);
        let text = ring(&[(&key, SignatureRole::Approver)]);
        assert!(keyring(&text, &VerificationStrategy::CreativeIntegrity).unwrap().key.is_empty());
        assert_eq!(keyring(&text, &VerificationStrategy::AuthoritativeIntegrity).unwrap().key.len(), 1);
    }

    #[test]
    fn an_empty_keyring_trusts_nobody_and_nonsense_is_an_error() {
        let strategy = VerificationStrategy::CreativeIntegrity;
        assert!(keyring("\n", &strategy).unwrap().key.is_empty());
        assert!(keyring("key = 1", &strategy).is_err());
    }

    #[tokio::test]
    async fn the_host_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        let first = signing_keys(&path).await.unwrap();
        let second = signing_keys(&path).await.unwrap();
        assert_eq!(first.key.len(), 1);
        assert_eq!(first.key[0].keypair, second.key[0].keypair);
    }
}
