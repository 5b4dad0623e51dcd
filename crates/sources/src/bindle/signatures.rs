//! Who vouches for a bundle: [`Keyring`], [`SecretKeys`], [`Verification`].
//!
//! What a signature covers is decided by Bindle, and it is less than one would think: who signed in which role, the
//! bundle's id, and the digests of its parcels in their order. Not covered are the names, media types, sizes and groups of
//! parcels, the description, and whether the bundle was yanked. So a signature tells that the content is the author's;
//! which server is asked, and over what connection, still matters.
//!
//! The cryptography is the `bindle` crate's. It is asked about one signature and one key at a time, because its own
//! strategies ignore the roles that a keyring gives to a key.

use bindle::{
    SignatureRole, VerificationStrategy,
    signature::{KeyEntry, KeyRing, SecretKeyEntry, SecretKeyFile},
};
use manifest::bindle_layout::invoice::{Invoice, Signature};

use super::error::toml_problem;

/// Which bundles are accepted.
#[derive(Debug, Clone, Default)]
pub enum Verification {
    /// All. The server is trusted to say what a bundle is.
    #[default]
    Unsigned,
    /// Those that carry at least one signature by a key of the ring in a role that the ring gives to that key, and no
    /// false signature in the name of such a key.
    Keyring(Keyring),
}

/// Public keys with the roles in which they are trusted, in Bindle's `keyring.toml` format.
#[derive(Debug, Clone, Default)]
pub struct Keyring(KeyRing);

/// Secret keys, in Bindle's `secret_keys.toml` format. Its `Debug` shows labels only.
#[derive(Clone, Default)]
pub struct SecretKeys(SecretKeyFile);

/// Why keys cannot be read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not in the format.
    #[error("not in Bindle's format for {what}: {problem}")]
    Format {
        /// Which format was expected.
        what: &'static str,
        /// Where it is not.
        problem: String,
    },
    /// A key is no Ed25519 key in base64.
    #[error("the key `{label}` is damaged")]
    Damaged {
        /// The key's label.
        label: String,
    },
    /// There is no such key.
    #[error("there is no key `{label}` to sign with: `spindle bindle keys list` shows those that there are")]
    Unknown {
        /// The label that was asked for.
        label: String,
    },
    /// The invoice cannot be signed.
    #[error("the invoice cannot be signed: {0}")]
    Signing(String),
}

/// What came of looking at an invoice's signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Good; by whom.
    Trusted(Vec<String>),
    /// Nobody known has signed; who did.
    Unknown(Vec<String>),
    /// A signature in the name of somebody known is false.
    False(String),
}

impl Keyring {
    /// Reads a keyring. An empty text is an empty ring.
    ///
    /// # Errors
    /// When it is not one, or a key in it is damaged.
    pub fn from_toml(text: &str) -> Result<Self, KeyError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let format =
            |error: toml::de::Error| KeyError::Format { what: "keyrings", problem: toml_problem(text, &error) };
        let ring: KeyRing = toml::from_str(text).map_err(format)?;
        Ok(Self(ring))
    }

    /// The keyring as text.
    ///
    /// # Errors
    /// Never for a keyring that was read or made here; the signature is the writer's.
    pub fn to_toml(&self) -> Result<String, KeyError> {
        write("keyrings", &self.0)
    }

    /// The label and the roles of each key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Vec<String>)> {
        self.0.key.iter().map(|key| (key.label.as_str(), roles(&key.roles)))
    }

    /// Whether it has no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.key.is_empty()
    }

    /// Adds the keys of `other` that are not in this one yet.
    pub fn extend(&mut self, other: Self) {
        for key in other.0.key {
            if self.0.key.iter().all(|known| known.key != key.key || known.roles != key.roles) {
                self.0.key.push(key);
            }
        }
    }

    /// Looks at the signatures of an invoice, given as its server sent it.
    pub(super) fn check(&self, invoice: &bindle::Invoice) -> Verdict {
        let (mut trusted, mut seen) = (Vec::new(), Vec::new());
        for signature in invoice.signature.iter().flatten() {
            seen.push(format!("{} as {}", signature.by, signature.role));
            let known = |key: &&KeyEntry| key.key == signature.key && key.roles.contains(&signature.role);
            let Some(key) = self.0.key.iter().find(known) else { continue };
            let alone = bindle::Invoice { signature: Some(vec![signature.clone()]), ..invoice.clone() };
            let strategy = VerificationStrategy::MultipleAttestation(vec![signature.role.clone()]);
            match strategy.verify(alone, &KeyRing::new(vec![key.clone()])) {
                Ok(_verified) => trusted.push(key.label.clone()),
                Err(_untrue) => return Verdict::False(key.label.clone()),
            }
        }
        if trusted.is_empty() { Verdict::Unknown(seen) } else { Verdict::Trusted(trusted) }
    }
}

impl SecretKeys {
    /// Reads secret keys.
    ///
    /// # Errors
    /// When they are not in the format.
    pub fn from_toml(text: &str) -> Result<Self, KeyError> {
        // The parser's message would quote the line, and the line may be a key.
        let format =
            |error: toml::de::Error| KeyError::Format { what: "secret keys", problem: toml_problem(text, &error) };
        Ok(Self(toml::from_str(text).map_err(format)?))
    }

    /// The keys as text. Keep it secret.
    ///
    /// # Errors
    /// Never for keys that were read or made here; the signature is the writer's.
    pub fn to_toml(&self) -> Result<String, KeyError> {
        write("secret keys", &self.0)
    }

    /// Makes a new creator's key, and adds it.
    pub fn create(&mut self, label: &str) {
        self.0.key.push(SecretKeyEntry::new(label, vec![SignatureRole::Creator]));
    }

    /// Adds the keys of `other` that are called `label`.
    pub fn take(&mut self, other: &Self, label: &str) {
        self.0.key.extend(other.0.key.iter().filter(|key| key.label == label).cloned());
    }

    /// The label and the roles of each key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Vec<String>)> {
        self.0.key.iter().map(|key| (key.label.as_str(), roles(&key.roles)))
    }

    /// The public halves.
    ///
    /// # Errors
    /// [`KeyError::Damaged`].
    pub fn public(&self) -> Result<Keyring, KeyError> {
        let damaged = |key: &SecretKeyEntry| KeyError::Damaged { label: key.label.clone() };
        let keys = self.0.key.iter().map(|key| KeyEntry::try_from(key).map_err(|_| damaged(key)));
        Ok(Keyring(KeyRing::new(keys.collect::<Result<_, _>>()?)))
    }

    /// Signs `invoice` as its creator, with the key called `label`, or else with the first creator's key.
    ///
    /// # Errors
    /// When there is no such key, or the same key has already signed.
    pub fn sign(&self, invoice: &mut Invoice, label: Option<&str>) -> Result<(), KeyError> {
        let wanted = |key: &&SecretKeyEntry| {
            key.roles.contains(&SignatureRole::Creator) && label.is_none_or(|label| key.label == label)
        };
        let unknown = || KeyError::Unknown { label: label.unwrap_or("(any creator's)").to_owned() };
        let key = self.0.key.iter().find(wanted).ok_or_else(unknown)?;
        let failed = |error: &dyn std::fmt::Display| KeyError::Signing(error.to_string());
        let text = invoice.to_toml().map_err(|error| failed(&error))?;
        let mut signed: bindle::Invoice = toml::from_str(&text).map_err(|error| failed(&error))?;
        signed.sign(SignatureRole::Creator, key).map_err(|error| failed(&error))?;
        let signatures = signed.signature.unwrap_or_default();
        invoice.signature = signatures.into_iter().map(in_our_words).collect();
        Ok(())
    }
}

impl std::fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries().map(|(label, _)| label)).finish()
    }
}

fn in_our_words(signature: bindle::Signature) -> Signature {
    let bindle::Signature { by, signature, key, role, at } = signature;
    Signature { by, signature, key, role: role.to_string(), at }
}

fn roles(roles: &[SignatureRole]) -> Vec<String> {
    roles.iter().map(ToString::to_string).collect()
}

fn write(what: &'static str, value: &impl serde::Serialize) -> Result<String, KeyError> {
    toml::to_string(value).map_err(|error| KeyError::Format { what, problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoice() -> Invoice {
        let text = r#"
            bindleVersion = "1.0.0"
            [bindle]
            name = "shop"
            version = "1.0.0"
            [[parcel]]
            [parcel.label]
            sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
            mediaType = "text/plain"
            name = "a.txt"
            size = 5
        "#;
        Invoice::from_toml(text).unwrap()
    }

    fn keys(label: &str) -> SecretKeys {
        let mut keys = SecretKeys::default();
        keys.create(label);
        keys
    }

    fn check(ring: &Keyring, invoice: &Invoice) -> Verdict {
        ring.check(&toml::from_str(&invoice.to_toml().unwrap()).unwrap())
    }

    #[test]
    fn what_a_known_creator_signed_is_trusted() {
        let alice = keys("Alice");
        let mut invoice = invoice();
        alice.sign(&mut invoice, None).unwrap();
        assert_eq!(check(&alice.public().unwrap(), &invoice), Verdict::Trusted(vec!["Alice".to_owned()]));
        assert_eq!(invoice.signature[0].role, "creator");
    }

    #[test]
    fn strangers_and_nobody_are_not_trusted() {
        let mut invoice = invoice();
        let ring = keys("Alice").public().unwrap();
        assert_eq!(check(&ring, &invoice), Verdict::Unknown(vec![]));
        keys("Alice").sign(&mut invoice, None).unwrap();
        assert_eq!(check(&ring, &invoice), Verdict::Unknown(vec!["Alice as creator".to_owned()]));
        assert_eq!(check(&Keyring::default(), &invoice), Verdict::Unknown(vec!["Alice as creator".to_owned()]));
    }

    #[test]
    fn content_that_changed_after_it_was_signed_is_noticed() {
        let alice = keys("Alice");
        let mut invoice = invoice();
        alice.sign(&mut invoice, None).unwrap();
        invoice.parcel[0].label.sha256 = manifest::Digest::of(b"evil");
        assert_eq!(check(&alice.public().unwrap(), &invoice), Verdict::False("Alice".to_owned()));
    }

    #[test]
    fn a_key_is_trusted_only_in_the_roles_that_the_ring_gives_it() {
        let alice = keys("Alice");
        let mut invoice = invoice();
        alice.sign(&mut invoice, None).unwrap();
        let text = alice.public().unwrap().to_toml().unwrap().replace("creator", "approver");
        let ring = Keyring::from_toml(&text).unwrap();
        assert!(matches!(check(&ring, &invoice), Verdict::Unknown(_)));
    }

    #[test]
    fn the_signature_of_a_stranger_beside_a_good_one_does_no_harm() {
        let (alice, mallory) = (keys("Alice"), keys("Mallory"));
        let mut invoice = invoice();
        alice.sign(&mut invoice, None).unwrap();
        mallory.sign(&mut invoice, None).unwrap();
        invoice.signature[1].signature = invoice.signature[0].signature.clone();
        assert!(matches!(check(&alice.public().unwrap(), &invoice), Verdict::Trusted(_)));
    }

    #[test]
    fn keys_read_what_they_write_and_the_same_key_signs_once() {
        let alice = SecretKeys::from_toml(&keys("Alice").to_toml().unwrap()).unwrap();
        let mut invoice = invoice();
        alice.sign(&mut invoice, Some("Alice")).unwrap();
        assert!(matches!(alice.sign(&mut invoice, Some("Alice")), Err(KeyError::Signing(_))));
        assert!(matches!(alice.sign(&mut invoice, Some("Bob")), Err(KeyError::Unknown { .. })));
        let mut ring = Keyring::from_toml(&alice.public().unwrap().to_toml().unwrap()).unwrap();
        ring.extend(alice.public().unwrap());
        assert_eq!(ring.entries().collect::<Vec<_>>(), [("Alice", vec!["creator".to_owned()])]);
    }

    #[test]
    fn secret_keys_are_shown_neither_by_debug_nor_by_errors() {
        let text = keys("Alice").to_toml().unwrap();
        let secret = text.lines().find_map(|line| line.strip_prefix("keypair = \"")).unwrap();
        assert!(!format!("{:?}", SecretKeys::from_toml(&text).unwrap()).contains(&secret[..20]));
        let error = SecretKeys::from_toml(&text.replace("keypair = ", "keypair 1 = ")).unwrap_err();
        assert!(!error.to_string().contains(&secret[..20]), "{error}");
    }
}
