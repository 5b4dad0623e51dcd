//! `runtime-config.toml` files and what becomes of them: `golden_runtime_config/<name>.in.toml` gives the configuration in
//! `<name>.out.txt`, where secrets are hidden, or the problems in `<name>.err.txt`. Names that begin with `app_` or `pool_`
//! are read as those of a cluster.

use std::path::Path;

use manifest::runtime_config::{Origin, parse};
use proptest::prelude::*;

use super::golden_files::{GoldenFiles, golden};

const FILES: GoldenFiles = GoldenFiles::new("golden_runtime_config");

/// A configuration with something of everything, to be damaged.
const GOOD: &str = include_str!("../golden_runtime_config/everything.in.toml");

fn origin(name: &str) -> Origin<'static> {
    match name.split('_').next() {
        Some("app") => Origin::App,
        Some("pool") => Origin::Pool,
        _ => Origin::Local(Path::new("/etc/spin")),
    }
}

fn check(name: &str) {
    let (kind, actual) = match parse(&FILES.input(name), "runtime-config.toml", origin(name)) {
        Ok(config) => ("out.txt", format!("{config:#?}")),
        Err(problems) => ("err.txt", problems.to_string()),
    };
    assert!(!actual.contains("hunter2"), "a secret is shown: {actual}");
    FILES.compare(name, kind, &actual);
}

golden! { FILES;
    empty,
    everything,
    old_names,
    directories_unset,
    not_toml,
    unknown_fields,
    wrong_types,
    wrong_values,
    types_of_spin_that_are_not_here,
    client_tls_defaults,
    app_with_everything_allowed,
    app_with_paths_and_environment,
    pool_with_stores_and_limits,
    pool_with_what_apps_would_share,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_panic(text in ".*") {
        for origin in [Origin::App, Origin::Pool, Origin::Local(Path::new("/"))] {
            let _outcome = parse(&text, "runtime-config.toml", origin);
        }
    }

    #[test]
    fn damaged_configurations_are_read_or_refused_with_a_place(text in super::properties::damaged(GOOD)) {
        if let Err(error) = parse(&text, "runtime-config.toml", Origin::App) {
            prop_assert!(!error.problems.is_empty());
            let lines = text.lines().count() + 1;
            for problem in &error.problems {
                prop_assert!((1..=lines).contains(&problem.place.line), "{}", error);
                prop_assert!(problem.place.column >= 1);
            }
        }
    }
}
