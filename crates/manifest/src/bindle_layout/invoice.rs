//! The invoice: what a Bindle server says about one bundle.
//!
//! Plain data in the names of the wire format, so that nothing else in the workspace needs a Bindle
//! library to look at one. An unknown field is an error, as it is for every Bindle implementation: a
//! field that we do not understand could change what a bundle means.
//!
//! Absent on purpose: signature verification (it needs keys, and what is signed is less than what is
//! here) and fetching.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// One immutable bundle: its id, its parcels and the groups that they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Invoice {
    /// The version of the Bindle format; [`BINDLE_VERSION`] where we write it.
    pub bindle_version: String,
    /// Whether the publisher has withdrawn it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yanked: Option<bool>,
    /// Who withdrew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yanked_signature: Option<Vec<Signature>>,
    /// Name and version.
    pub bindle: Header,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The contents. Their order is part of what is signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parcel: Vec<Parcel>,
    /// The named sets that parcels belong to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<Group>,
    /// Who vouches for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signature: Vec<Signature>,
}

/// The `bindleVersion` that every publisher has written so far.
pub const BINDLE_VERSION: &str = "1.0.0";

/// The `[bindle]` table of an [`Invoice`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Header {
    /// The first part of the id, such as `example.com/hello`.
    pub name: String,
    /// The second part: a semantic version, often with build metadata.
    pub version: String,
    /// What the bundle is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who made it, as `Name <mail>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authors: Option<Vec<String>>,
}

/// Some content of an [`Invoice`]. The same content may be in it several times, under other names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Parcel {
    /// What it is.
    pub label: Label,
    /// Which groups it belongs to. Publishers of Spin write an empty table for wasm, none for the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Conditions>,
}

impl Parcel {
    /// The groups that it belongs to by name; none means the global group.
    #[must_use]
    pub fn member_of(&self) -> &[String] {
        self.conditions.as_ref().and_then(|conditions| conditions.member_of.as_deref()).unwrap_or_default()
    }
}

/// What a [`Parcel`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Label {
    /// Its address; bare hex on the wire.
    #[serde(with = "bare_hex")]
    pub sha256: Digest,
    /// What kind of content it is.
    pub media_type: String,
    /// Its name; a path for the files of a component.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Settings by section and key; Wagi's bundles keep theirs in the section `wagi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<BTreeMap<String, BTreeMap<String, String>>>,
    /// The bundle that it was first part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// When a [`Parcel`] is needed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Conditions {
    /// The groups that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_of: Option<Vec<String>>,
    /// The groups that it needs. Spin has never looked at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<Vec<String>>,
}

/// A named set of parcels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Whether its parcels are always needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// How many of its parcels are needed: `allOf`, `oneOf` or `optional`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub satisfied_by: Option<String>,
}

/// A signature on an [`Invoice`]; see `sources` for its verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Signature {
    /// Who signed, as `Name <mail>`.
    pub by: String,
    /// The signature, base64.
    pub signature: String,
    /// The public key, base64.
    pub key: String,
    /// In what role: `creator`, `approver`, `host` or `proxy`.
    pub role: String,
    /// When, in seconds since the epoch. Not covered by the signature.
    pub at: u64,
}

impl Invoice {
    /// Reads an invoice in its TOML form.
    ///
    /// # Errors
    /// When it is not one; the text names line and column.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The TOML form: the same value always gives the same text.
    ///
    /// # Errors
    /// When a size is larger than TOML's integers.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// The id, `name/version`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.bindle.name, self.bindle.version)
    }
}

/// Digests as Bindle writes them: 64 lower-case hex digits, no algorithm.
mod bare_hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::digest::Digest;

    pub(super) fn serialize<S: Serializer>(digest: &Digest, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&digest.hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        if text.contains(':') {
            return Err(D::Error::custom(format!("`{text}` is not a parcel id: expected 64 lower-case hex digits")));
        }
        text.parse().map_err(D::Error::custom)
    }
}
