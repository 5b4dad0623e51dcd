//! From an [`Application`] to the parcels of a bundle and its invoice.

mod manifest;

use std::collections::{BTreeMap, BTreeSet};

use self::manifest::manifest_text;
use super::{
    LayoutError, MANIFEST_MEDIA_TYPE, WASM_MEDIA_TYPE,
    invoice::{BINDLE_VERSION, Conditions, Group, Header, Invoice, Label, Parcel},
};
use crate::{
    application::{Application, ComponentId, Content, Target},
    digest::Digest,
};

/// Everything that a bundle consists of, except its id and its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The content of the first of [`Publication::parcels`]; every other parcel's content is known by digest.
    pub manifest_toml: String,
    /// The parcels, in the order of Spin's publishers: manifest, wasm, files.
    pub parcels: Vec<ParcelPlan>,
    /// The groups, one per component.
    pub groups: Vec<String>,
}

/// One parcel of a [`Publication`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParcelPlan {
    /// `label.name`: for files, the path that the component sees.
    pub name: String,
    /// `label.mediaType`.
    pub media_type: String,
    /// The bytes.
    pub content: Content,
    /// The groups that it belongs to; `None` writes no `conditions` at all (the manifest), an empty
    /// list the empty table that Spin's publishers wrote for wasm.
    pub member_of: Option<Vec<String>>,
}

/// Lays out `application` as Spin's publishers (v0.2 to v1.5) did.
///
/// `wasm_names` are the names of the wasm parcels, by tradition the paths in `spin.toml`; a component
/// that is not in it gets `<id>.wasm`.
///
/// The same input always gives the same bytes. What the traditional manifest cannot say (several
/// routes for a component, static responses, outbound hosts beyond `allowedHttpHosts`) is written in
/// fields of our own, which Spin refuses rather than misunderstands: see [`super`].
///
/// # Errors
/// Never for an application that this crate made; the signature is the TOML writer's.
pub fn publish(
    application: &Application,
    wasm_names: &BTreeMap<ComponentId, String>,
) -> Result<Publication, LayoutError> {
    let manifest_toml = manifest_text(application)?;
    let manifest = Content {
        digest: Digest::of(manifest_toml.as_bytes()),
        size: u64::try_from(manifest_toml.len()).unwrap_or(u64::MAX),
    };
    let mut parcels = vec![ParcelPlan {
        name: format!("spin.{}.toml", manifest.digest.hex()),
        media_type: MANIFEST_MEDIA_TYPE.to_owned(),
        content: manifest,
        member_of: None,
    }];
    let order = component_order(application);
    parcels.extend(wasm_parcels(application, &order, wasm_names));
    parcels.extend(file_parcels(application));
    Ok(Publication { manifest_toml, parcels, groups: order.into_iter().map(group_of).collect() })
}

/// The group of a component's files.
fn group_of(id: &ComponentId) -> String {
    format!("files-{id}")
}

/// The components in the order of their first route, then the others by id.
fn component_order(application: &Application) -> Vec<&ComponentId> {
    let routed = application.routes.iter().filter_map(|route| match &route.target {
        Target::Component { id, .. } => Some(id),
        Target::Static { .. } => None,
    });
    let mut seen = BTreeSet::new();
    routed.chain(application.components.keys()).filter(|id| seen.insert(*id)).collect()
}

fn wasm_parcels(
    application: &Application,
    order: &[&ComponentId],
    names: &BTreeMap<ComponentId, String>,
) -> Vec<ParcelPlan> {
    let mut seen = BTreeSet::new();
    order
        .iter()
        .filter_map(|id| Some((*id, application.components.get(*id)?)))
        .map(|(id, component)| (names.get(id).cloned().unwrap_or_else(|| format!("{id}.wasm")), component.source))
        .filter(|wasm| seen.insert(wasm.clone()))
        .map(|(name, content)| ParcelPlan {
            name,
            media_type: WASM_MEDIA_TYPE.to_owned(),
            content,
            member_of: Some(Vec::new()),
        })
        .collect()
}

/// One parcel per path and content, a member of the group of every component that has it.
fn file_parcels(application: &Application) -> Vec<ParcelPlan> {
    let mut groups: BTreeMap<(&str, Content), Vec<String>> = BTreeMap::new();
    for (id, component) in &application.components {
        for file in &component.files {
            groups.entry((&file.path, file.content)).or_default().push(group_of(id));
        }
    }
    groups
        .into_iter()
        .map(|((path, content), member_of)| ParcelPlan {
            name: path.to_owned(),
            media_type: mime_guess::from_path(path).first_or_octet_stream().to_string(),
            content,
            member_of: Some(member_of),
        })
        .collect()
}

impl Publication {
    /// The unsigned invoice of `application`'s bundle.
    ///
    /// `build_info` is appended to the version as build metadata, so that one version can be published
    /// several times.
    ///
    /// # Errors
    /// When name or version do not make a Bindle id.
    pub fn invoice(&self, application: &Application, build_info: Option<&str>) -> Result<Invoice, LayoutError> {
        let version = match build_info {
            Some(info) => format!("{}+{info}", application.version),
            None => application.version.clone(),
        };
        check_id(&application.name, &version)?;
        Ok(Invoice {
            bindle_version: BINDLE_VERSION.to_owned(),
            yanked: None,
            yanked_signature: None,
            bindle: Header {
                name: application.name.clone(),
                version,
                description: application.description.clone(),
                authors: (!application.authors.is_empty()).then(|| application.authors.clone()),
            },
            annotations: None,
            parcel: self.parcels.iter().map(ParcelPlan::parcel).collect(),
            group: self
                .groups
                .iter()
                .map(|name| Group { name: name.clone(), required: None, satisfied_by: None })
                .collect(),
            signature: Vec::new(),
        })
    }
}

/// Whether `name/version` can be asked for at a Bindle server: path-like segments, strict version.
fn check_id(name: &str, version: &str) -> Result<(), LayoutError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let segment =
        |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && part.chars().all(inner);
    if !name.split('/').all(segment) {
        return Err(LayoutError::Name { name: name.to_owned() });
    }
    match semver::Version::parse(version) {
        Ok(_) => Ok(()),
        Err(source) => Err(LayoutError::Version { version: version.to_owned(), source }),
    }
}

impl ParcelPlan {
    fn parcel(&self) -> Parcel {
        Parcel {
            label: Label {
                sha256: self.content.digest,
                media_type: self.media_type.clone(),
                name: self.name.clone(),
                size: self.content.size,
                annotations: None,
                feature: None,
                origin: None,
            },
            conditions: self
                .member_of
                .as_ref()
                .map(|groups| Conditions { member_of: (!groups.is_empty()).then(|| groups.clone()), requires: None }),
        }
    }
}
