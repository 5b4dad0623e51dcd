//! `runtime-config.toml` files and what becomes of them: `golden_runtime_config/<name>.in.toml` gives the configuration in
//! `<name>.out.txt`, where secrets are hidden, or the problems in `<name>.err.txt`. Names that begin with `app_` or `pool_`
//! are read as those of a cluster.
//!
//! `BLESS=1 cargo test -p manifest --test formats` writes what the code does now.

use std::{fs, path::Path};

use manifest::runtime_config::{Origin, parse};
use proptest::prelude::*;

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
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_runtime_config");
    let input = fs::read_to_string(dir.join(format!("{name}.in.toml"))).unwrap();
    let (extension, actual) = match parse(&input, "runtime-config.toml", origin(name)) {
        Ok(config) => ("out.txt", format!("{config:#?}")),
        Err(problems) => ("err.txt", problems.to_string()),
    };
    assert!(!actual.contains("hunter2"), "a secret is shown: {actual}");
    let path = dir.join(format!("{name}.{extension}"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, format!("{actual}\n")).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}\n{actual}"));
    assert_eq!(expected.trim_end(), actual, "{path:?}");
}

macro_rules! golden {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_golden_runtime_configuration_has_its_test() {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_runtime_config");
            let known = [$(stringify!($name)),*];
            for entry in fs::read_dir(dir).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let stem = name.split('.').next().unwrap();
                assert!(known.contains(&stem), "{name} belongs to no test");
            }
        }
    };
}

golden! {
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
