//! What the components of both versions of `spin.toml` have in common: sources, files, builds.

use std::collections::BTreeMap;

use super::{Build, FilesEntry, FilesPattern, Location, Profile, Source};
use crate::{
    application::check_path,
    digest::Digest,
    reader::{Field, Table},
};

/// Which sources a version of the manifest knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sources {
    /// Paths, URLs and parcels of other bundles.
    V1,
    /// Paths, URLs and registry packages.
    V2,
}

/// The wasm of a component.
pub(super) fn read_source(field: &Field<'_>, sources: Sources) -> Option<Source> {
    let location = match (field.if_string(), field.if_table()) {
        (Some(path), _) => read_path(field, path),
        (None, Some(table)) => read_remote(&table, sources),
        (None, None) => {
            field.report("must be a path such as `\"main.wasm\"`, or a table such as `{ url = \"https://…\", digest = \"sha256:…\" }`");
            None
        }
    }?;
    Some(Source { place: field.place(), location })
}

fn read_path(field: &Field<'_>, path: &str) -> Option<Location> {
    if path.is_empty() || path.contains('\0') {
        field.report("must be the path of a wasm file, relative to the manifest");
        return None;
    }
    Some(Location::Path(path.to_owned()))
}

fn read_remote(table: &Table<'_>, sources: Sources) -> Option<Location> {
    let (url, digest) = (table.get("url"), table.get("digest"));
    let location = if sources == Sources::V1 {
        let (reference, parcel) = (table.get("reference"), table.get("parcel"));
        match (url, reference) {
            (Some(url), None) => read_url(table, &url, digest.as_ref()),
            (None, Some(reference)) => {
                let parcel = read_digest(table, "parcel", parcel.as_ref());
                Some(Location::Bindle { reference: reference.string()?, parcel: parcel? })
            }
            _ => {
                table.report("must have either `url` and `digest`, or `reference` and `parcel`");
                None
            }
        }
    } else {
        let package = table.get("package");
        let registry = table.string("registry");
        let version = table.get("version");
        match (url, package) {
            (Some(url), None) => read_url(table, &url, digest.as_ref()),
            (None, Some(package)) => {
                if version.is_none() {
                    table.missing("version", "`version = \"1.2.3\"`");
                }
                Some(Location::Registry { registry, package: package.string()?, version: version?.string()? })
            }
            _ => {
                table.report("must have either `url` and `digest`, or `package` and `version`");
                None
            }
        }
    };
    table.finish();
    location
}

fn read_url(table: &Table<'_>, url: &Field<'_>, digest: Option<&Field<'_>>) -> Option<Location> {
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

/// The files of a component.
pub(super) fn read_files(table: &Table<'_>) -> Vec<FilesEntry> {
    table.list("files").iter().filter_map(read_files_entry).collect()
}

fn read_files_entry(field: &Field<'_>) -> Option<FilesEntry> {
    let pattern = match (field.if_string(), field.if_table()) {
        (Some(glob), _) => FilesPattern::Glob(read_glob(field, glob)?),
        (None, Some(table)) => {
            let source = table.required("source", "`source = \"directory\"`");
            let destination = table.required("destination", "`destination = \"/path/in/the/guest\"`");
            table.finish();
            FilesPattern::Placed {
                source: source.and_then(|source| read_glob(&source, &source.string()?))?,
                destination: destination.and_then(|destination| read_destination(&destination))?,
            }
        }
        (None, None) => {
            field.report("must be a pattern such as `\"assets/**/*\"`, or `{ source = \"…\", destination = \"/…\" }`");
            return None;
        }
    };
    Some(FilesEntry { place: field.place(), pattern })
}

/// The patterns of files that are left out.
pub(super) fn read_exclude_files(table: &Table<'_>) -> Vec<String> {
    table.list("exclude_files").iter().filter_map(|field| read_glob(field, &field.string()?)).collect()
}

/// A path or pattern below the directory of the manifest, without `./`.
fn read_glob(field: &Field<'_>, text: &str) -> Option<String> {
    let trimmed = text.strip_prefix("./").unwrap_or(text);
    let problem = if trimmed.is_empty() || trimmed.contains('\0') {
        "must name something below the directory of the manifest"
    } else if trimmed.starts_with('/') || trimmed.contains('\\') {
        "must be relative to the directory of the manifest, with `/` between its parts"
    } else if trimmed.split('/').any(|part| part == "..") {
        "must not have `..` in it: only files below the directory of the manifest can be given to a component"
    } else {
        return Some(trimmed.to_owned());
    };
    field.report(problem);
    None
}

/// An absolute path in the guest, as the relative one of [`crate::File`]; empty for the root.
fn read_destination(field: &Field<'_>) -> Option<String> {
    let text = field.string()?;
    let Some(relative) = text.strip_prefix('/') else {
        field.report("must be absolute in the guest, such as `/assets`");
        return None;
    };
    let relative = relative.strip_suffix('/').unwrap_or(relative);
    match check_path(relative) {
        _ if relative.is_empty() => Some(String::new()),
        Ok(()) => Some(relative.to_owned()),
        Err(problem) => {
            field.report(problem);
            None
        }
    }
}

/// How a component is built: of no meaning at run time, but the best advice when its wasm is not there.
pub(super) fn read_build(table: &Table<'_>) -> Option<Build> {
    let build = table.table("build")?;
    let commands = match build.required("command", "`command = \"…\"`") {
        Some(field) if field.if_string().is_some() => field.string().into_iter().collect(),
        Some(field) => field.list().iter().filter_map(Field::string).collect(),
        None => Vec::new(),
    };
    let read = Build { commands, workdir: build.string("workdir") };
    build.ignore(&["watch"]);
    build.finish();
    Some(read)
}

/// The profiles of a component.
pub(super) fn read_profiles(table: &Table<'_>) -> BTreeMap<String, Profile> {
    let mut profiles = BTreeMap::new();
    for (name, field) in table.table("profile").iter().flat_map(Table::entries) {
        let Some(profile) = field.table() else { continue };
        profile.unsupported("dependencies", DEPENDENCIES_ADVICE);
        let read = Profile {
            source: profile.get("source").and_then(|source| read_source(&source, Sources::V2)),
            environment: crate::fields::read_environment(&profile),
            build: read_build(&profile),
        };
        profile.finish();
        profiles.insert(name.to_owned(), read);
    }
    profiles
}

/// What to do about component dependencies.
pub(super) const DEPENDENCIES_ADVICE: &str =
    "compose the component with its dependencies before (`wac plug`), use the result as `source`, and remove this";
