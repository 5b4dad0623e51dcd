//! The components of both versions of `spin.toml`: files, builds, profiles, and what they are granted.

use std::collections::BTreeMap;

use super::{
    Build, ComponentSpec, Exclusion, FilesEntry, FilesPattern, Location, Profile, Source,
    dependency::{Inherit, read_dependencies, read_inherit_all},
    source::read_source,
};
use crate::{
    application::{Variable, check_path},
    fields::{Hosts, read_environment, read_hosts, read_labels, read_names, read_templates},
    problem::Place,
    reader::{Field, Table},
};

/// The versions of the manifest, where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Version 1.
    V1,
    /// Version 2.
    V2,
}

/// A component without its id. Of one whose source is wrong, the rest is read too, so that all problems are reported.
pub(super) fn read_component(
    table: &Table<'_>,
    format: Format,
    variables: &BTreeMap<String, Variable>,
) -> Option<ComponentSpec> {
    let source = table.required("source", "`source = \"main.wasm\"`").and_then(|field| read_source(&field, format));
    let found = source.is_some();
    let nowhere = Place { line: 0, column: 0, field: String::new() };
    let (templates, hosts) = match format {
        Format::V1 => ("config", Hosts::V1),
        Format::V2 => ("variables", Hosts::V2),
    };
    let labels = |key| if format == Format::V2 { read_names(table, key) } else { read_labels(table, key) };
    let mut spec = ComponentSpec {
        place: table.place(),
        description: table.string("description").filter(|text| !text.is_empty()),
        source: source.unwrap_or(Source { place: nowhere, location: Location::Path(String::new()) }),
        files: read_files(table),
        exclude_files: table.list("exclude_files").iter().filter_map(read_exclusion).collect(),
        environment: read_environment(table),
        variables: read_templates(table, templates, variables),
        allowed_outbound_hosts: read_hosts(table, ("allowed_outbound_hosts", "allowed_http_hosts"), hosts, variables),
        key_value_stores: labels("key_value_stores"),
        sqlite_databases: labels("sqlite_databases"),
        ai_models: read_labels(table, "ai_models"),
        build: read_build(table),
        profiles: BTreeMap::new(),
        dependencies: Vec::new(),
        middleware: Vec::new(),
        copy_of: None,
    };
    if format == Format::V1 {
        table.misplaced("variables", "version 1 calls it `config`");
    } else {
        table.ignore(&["targets", "tool"]);
        table.misplaced("config", "version 2 calls it `variables`");
        table.misplaced("id", "in version 2 it is the name of the table, `[component.ID]`: remove it");
        table.misplaced("trigger", "version 2 has `[[trigger.http]]` with `route` and `component = \"…\"`");
        let inherit = read_inherit_all(table);
        spec.dependencies = read_dependencies(table, &inherit);
        spec.profiles = read_profiles(table, &inherit);
    }
    found.then_some(spec)
}

/// The files of a component.
fn read_files(table: &Table<'_>) -> Vec<FilesEntry> {
    table.list("files").iter().filter_map(read_files_entry).collect()
}

fn read_exclusion(field: &Field<'_>) -> Option<Exclusion> {
    let pattern = check_glob(field, read_relative(field, &field.string()?)?)?;
    Some(Exclusion { place: field.place(), pattern })
}

fn read_files_entry(field: &Field<'_>) -> Option<FilesEntry> {
    let pattern = match (field.if_string(), field.if_table()) {
        (Some(glob), _) => FilesPattern::Glob(check_glob(field, read_below(field, glob)?)?),
        (None, Some(table)) => {
            let source = table.required("source", "`source = \"directory\"`");
            let destination = table.required("destination", "`destination = \"/path/in/the/guest\"`");
            table.finish();
            FilesPattern::Placed {
                source: source.and_then(|source| read_relative(&source, &source.string()?))?,
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

/// The pattern, if it can be one.
fn check_glob(field: &Field<'_>, pattern: String) -> Option<String> {
    let problem = if pattern.is_empty() || pattern.ends_with("/.") {
        "must name something below the directory of the manifest: for all of a directory write `{ source = \"…\", destination = \"/…\" }`, or a pattern that ends in `/**/*`"
    } else if pattern.split('/').any(|part| part.contains("**") && part != "**") {
        "has `**` with something beside it: write `**` between slashes for any number of directories, `*` for a part of a name"
    } else {
        return Some(pattern);
    };
    field.report(problem);
    None
}

/// A path below the directory of the manifest, as [`read_relative`] reads it.
fn read_below(field: &Field<'_>, text: &str) -> Option<String> {
    let path = read_relative(field, text)?;
    if path.split('/').any(|part| part == "..") {
        field.report("must not have `..` in it: for files outside the directory of the manifest write `{ source = \"../…\", destination = \"/…\" }`");
        return None;
    }
    Some(path)
}

/// A path relative to the directory of the manifest, without `./`; empty, as `.`, for the directory itself.
fn read_relative(field: &Field<'_>, text: &str) -> Option<String> {
    let trimmed = if text == "." { "" } else { text.strip_prefix("./").unwrap_or(text) };
    let problem = if trimmed.contains('\0') {
        "must not have a NUL in it"
    } else if trimmed.starts_with('/') || trimmed.contains('\\') {
        "must be relative to the directory of the manifest, with `/` between its parts"
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
fn read_build(table: &Table<'_>) -> Option<Build> {
    let build = table.get("build")?.table_such_as("`{ command = \"…\" }`")?;
    let read =
        Build { commands: read_commands(&build), workdir: build.string("workdir"), watch: build.strings("watch") };
    build.finish();
    Some(read)
}

fn read_commands(build: &Table<'_>) -> Vec<String> {
    match build.required("command", "`command = \"…\"`") {
        Some(field) if field.is_list() => field.list().iter().filter_map(Field::string).collect(),
        Some(field) if field.if_string().is_some() => field.string().into_iter().collect(),
        Some(field) => {
            field.report("must be a command, or a list of commands");
            Vec::new()
        }
        None => Vec::new(),
    }
}

/// The profiles of a component.
fn read_profiles(table: &Table<'_>, inherit: &Inherit) -> BTreeMap<String, Profile> {
    let mut profiles = BTreeMap::new();
    for (name, field) in table.table("profile").iter().flat_map(Table::entries) {
        let Some(profile) = field.table() else { continue };
        let read = Profile {
            source: profile.get("source").and_then(|source| read_source(&source, Format::V2)),
            environment: read_environment(&profile),
            dependencies: read_dependencies(&profile, inherit),
            build: profile.table("build").map(|build| {
                let commands = read_commands(&build);
                build.finish();
                commands
            }),
        };
        profile.finish();
        profiles.insert(name.to_owned(), read);
    }
    profiles
}
