//! `spin.toml` files and what becomes of them: `golden/<name>.in.toml` gives the application in
//! `golden/<name>.out.json` or the problems in `golden/<name>.err.txt`.

use std::collections::BTreeMap;

use manifest::{
    Application, Content, Digest, File, Manifest,
    spin_toml::{self, Dependency, DependencyWasm, FilesPattern, Inherit, Location, Resolved},
};

use super::golden_files::{GoldenFiles, golden};

const FILES: GoldenFiles = GoldenFiles::new("golden");

/// Content that depends on nothing but its name.
fn content(name: &str) -> Content {
    Content { digest: Digest::of(name.as_bytes()), size: name.len() as u64 }
}

/// Every pattern becomes one file that is called like it, so that what was understood can be seen.
fn resolve(manifest: Manifest) -> Application {
    let mut resolved = BTreeMap::new();
    for (id, spec) in &manifest.components {
        let file = |pattern: &FilesPattern| match pattern {
            FilesPattern::Glob(glob) => File { path: glob.clone(), content: content(glob) },
            FilesPattern::Placed { source, destination } => {
                let path = [destination.as_str(), source.as_str()].join("/");
                File { path: path.trim_start_matches('/').to_owned(), content: content(source) }
            }
        };
        let source = content(&format!("{:?}", spec.source.location));
        let composed = spec.dependencies.iter().chain(&spec.middleware).map(shown);
        let composed = composed.map(|text| File { content: content(&text), path: text });
        let files = spec.files.iter().map(|entry| file(&entry.pattern)).chain(composed).collect();
        resolved.insert(id.clone(), Resolved { source, files });
    }
    manifest.into_application(resolved).unwrap()
}

/// What a component is composed with, as the path of a file.
fn shown(dependency: &Dependency) -> String {
    let name = dependency.name.as_ref().map_or("middleware".to_owned(), ToString::to_string);
    let wasm = match &dependency.wasm {
        DependencyWasm::Own(Location::Path(path)) => path.clone(),
        DependencyWasm::Own(Location::Url { url, .. }) => url.clone(),
        DependencyWasm::Own(Location::Registry { registry, package, version }) => {
            format!("{package} {version} of {}", registry.as_deref().unwrap_or("the default registry"))
        }
        DependencyWasm::Own(Location::Bindle { reference, .. }) => reference.clone(),
        DependencyWasm::Component(id) => format!("component {id}"),
    };
    let inherits = match &dependency.inherit {
        Inherit::All => "everything".to_owned(),
        Inherit::Only(some) => some.iter().map(|capability| capability.key()).collect::<Vec<_>>().join(" and "),
    };
    let export = dependency.export.as_ref().map(|export| format!(", its {export}")).unwrap_or_default();
    let text = format!("({name} is {wasm}{export}, inherits [{inherits}])");
    text.replace("//", "-").replace('/', "|")
}

/// The profile in which a manifest is read, if it is read in one.
fn profile(name: &str) -> Option<&'static str> {
    match name {
        "v2_with_its_profile" | "v2_profile_with_everything" | "v2_profile_with_a_clash" => Some("debug"),
        "v2_with_a_profile_that_is_misspelt" => Some("debg"),
        "v1_has_no_profiles" => Some("debug"),
        _ => None,
    }
}

fn check(name: &str) {
    let parsed = spin_toml::parse(&FILES.input(name), "spin.toml").map_err(|error| error.to_string());
    let parsed = parsed.and_then(|manifest| match profile(name) {
        Some(profile) => manifest.with_profile(profile).map_err(|error| error.to_string()),
        None => Ok(manifest),
    });
    match parsed {
        Ok(manifest) => {
            let application = resolve(manifest);
            assert_eq!(Application::from_json(&application.to_json().unwrap()).unwrap(), application);
            FILES.compare(name, "out.json", &serde_json::to_string_pretty(&application).unwrap());
        }
        Err(problems) => FILES.compare(name, "err.txt", &problems),
    }
}

golden! { FILES;
    v1_minimal,
    v1_of_spin_0_2_with_config,
    v1_wagi_with_one_default_each,
    v1_allow_all_and_manifest_version,
    v1_source_in_another_bundle_and_outbound_hosts,
    v2_minimal,
    v2_as_templates_and_generators_leave_it,
    v2_with_everything,
    v2_components_inside_triggers,
    v2_without_its_profile,
    v2_with_its_profile,
    v2_with_a_profile_that_is_misspelt,
    not_toml,
    empty,
    version_is_unknown,
    version_2_is_a_string,
    version_has_two_names,
    v1_lacks_everything,
    v1_written_as_version_2,
    v1_components_as_in_version_2,
    v1_redis_trigger,
    v1_duplicate_component,
    v1_unknown_fields,
    v1_bad_hosts,
    v1_variable_twice,
    v2_lacks_everything,
    v2_written_as_version_1,
    v2_components_as_in_version_1,
    v2_no_http_trigger,
    v2_another_trigger_besides_http,
    v2_unknown_component,
    v2_underscore_in_component_id,
    v2_variables_are_wrong,
    v2_sources_are_wrong,
    v2_files_are_wrong,
    v2_outbound_hosts_are_wrong,
    v2_dependencies_by_version,
    v2_triggers_are_wrong,
    v2_base_path,
    v2_wrong_types,
    v2_unknown_field_at_the_top,
    v2_dependencies_in_every_form,
    v2_dependencies_are_wrong,
    v2_dependencies_on_components_are_wrong,
    v2_middleware,
    v2_middleware_is_wrong,
    v2_components_of_triggers,
    v2_components_of_triggers_are_wrong,
    v2_profile_with_everything,
    v2_profile_is_wrong,
    v2_profile_with_a_clash,
    v2_only_private_routes,
    v2_wagi_entrypoint,
    v2_both_kinds_of_hosts,
    v2_outbound_hosts_in_every_form,
    v2_globs_are_wrong,
    v2_misplaced_source_fields,
    v2_store_labels_are_wrong,
    v2_build_in_every_form,
    v2_more_problems_than_are_told,
    v1_base_without_a_slash,
    v1_with_everything,
    v1_components_are_wrong,
    v1_has_no_profiles,
    v2_component_twice,
}
