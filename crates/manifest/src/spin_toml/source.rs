//! Where wasm is: the `source` of a component, and what its dependencies have in common with it.

use semver::{Version, VersionReq};

use super::{Location, PackageVersion, Source, component::Format, dependency::is_package};
use crate::{
    digest::Digest,
    reader::{Field, Table},
};

/// The wasm of a component.
pub(super) fn read_source(field: &Field<'_>, format: Format) -> Option<Source> {
    let location = match (field.if_string(), field.if_table()) {
        (Some(path), _) => read_path(field, path),
        (None, Some(table)) => read_remote(&table, format),
        (None, None) => {
            field.report("must be a path such as `\"main.wasm\"`, or a table such as `{ url = \"https://…\", digest = \"sha256:…\" }`");
            None
        }
    }?;
    Some(Source { place: field.place(), location })
}

/// The path of a wasm file.
pub(super) fn read_path(field: &Field<'_>, path: &str) -> Option<Location> {
    if path.is_empty() || path.contains('\0') {
        field.report("must be the path of a wasm file, relative to the manifest");
        return None;
    }
    Some(Location::Path(path.to_owned()))
}

fn read_remote(table: &Table<'_>, format: Format) -> Option<Location> {
    let (url, digest) = (table.get("url"), table.get("digest"));
    let location = match (format, url) {
        (Format::V1, url) => read_remote_v1(table, url.as_ref(), digest.as_ref()),
        (Format::V2, url) => read_remote_v2(table, url.as_ref(), digest.as_ref()),
    };
    table.finish();
    location
}

fn read_remote_v1(table: &Table<'_>, url: Option<&Field<'_>>, digest: Option<&Field<'_>>) -> Option<Location> {
    let (reference, parcel) = (table.get("reference"), table.get("parcel"));
    match (url, reference) {
        (Some(url), None) => {
            misplaced(parcel.as_ref(), "belongs to `reference`, not to `url`: remove it");
            read_url(table, url, digest)
        }
        (None, Some(reference)) => {
            misplaced(digest, "belongs to `url`: the digest of a parcel is its `parcel`");
            let parcel = read_digest(table, "parcel", parcel.as_ref());
            Some(Location::Bindle { reference: reference.string()?, parcel: parcel? })
        }
        _ => {
            table.report("must have either `url` and `digest`, or `reference` and `parcel`");
            None
        }
    }
}

fn read_remote_v2(table: &Table<'_>, url: Option<&Field<'_>>, digest: Option<&Field<'_>>) -> Option<Location> {
    let (package, version) = (table.get("package"), table.get("version"));
    match (url, package) {
        (Some(url), None) => {
            let registry = table.get("registry");
            for field in [registry.as_ref(), version.as_ref()] {
                misplaced(field, "belongs to `package`, not to `url`: remove it");
            }
            read_url(table, url, digest)
        }
        (None, Some(_)) => {
            misplaced(digest, "belongs to `url`: what a registry has is found by its version");
            let (registry, package) = read_registry(table, None);
            if version.is_none() {
                table.missing("version", "`version = \"1.2.3\"`");
            }
            Some(Location::Registry { registry, package: package?, version: read_version(&version?)? })
        }
        _ => {
            table.ignore(&["registry"]);
            table.report("must have either `url` and `digest`, or `package` and `version`");
            None
        }
    }
}

fn misplaced(field: Option<&Field<'_>>, problem: &str) {
    if let Some(field) = field {
        field.report(problem);
    }
}

/// `registry` and `package` of something in a component registry; without the latter, it is `default`.
pub(super) fn read_registry(table: &Table<'_>, default: Option<&str>) -> (Option<String>, Option<String>) {
    let registry = table.get("registry").and_then(|field| {
        let text = field.string()?;
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'_' | b'[' | b']');
        if text.is_empty() || !text.bytes().all(inner) {
            field.report(format!("`{text}` is not a registry: write its host, such as `registry.example.com`, without `https://` and without a path"));
        }
        Some(text)
    });
    let package = match (table.get("package"), default) {
        (Some(field), _) => field.string().inspect(|package| {
            if !is_package(package) {
                field.report(format!("`{package}` is not a package: write `namespace:name`, without a version"));
            }
        }),
        (None, Some(default)) => Some(default.to_owned()),
        (None, None) => {
            table.missing("package", "`package = \"namespace:name\"`");
            None
        }
    };
    (registry, package)
}

/// The version of a source: this very one if it is complete, a requirement otherwise.
fn read_version(field: &Field<'_>) -> Option<PackageVersion> {
    let text = field.string()?;
    if let Ok(version) = Version::parse(&text) {
        return Some(PackageVersion::Exact(version));
    }
    match VersionReq::parse(&text) {
        Ok(requirement) if requirement != VersionReq::STAR => Some(PackageVersion::Matching(requirement)),
        _ => {
            field.report(format!("`{text}` is not a version: write `1.2.3`"));
            None
        }
    }
}

/// A URL and what must be behind it.
pub(super) fn read_url(table: &Table<'_>, url: &Field<'_>, digest: Option<&Field<'_>>) -> Option<Location> {
    let digest = read_digest(table, "digest", digest);
    let text = url.string()?;
    let host = text.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#']).next());
    if host.is_none_or(str::is_empty) || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        url.report("must be an `https://` URL");
        return None;
    }
    Some(Location::Url { url: text, digest: digest? })
}

fn read_digest(table: &Table<'_>, key: &str, field: Option<&Field<'_>>) -> Option<Digest> {
    let Some(field) = field else {
        table.missing(key, &format!("`{key} = \"sha256:…\"`, so that the content is known before it is fetched"));
        return None;
    };
    field.string()?.parse().map_err(|error| field.report(format!("{error}"))).ok()
}
