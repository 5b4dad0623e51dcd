//! What must hold for every input: nothing panics, and a bundle says what the application says.

use std::collections::BTreeMap;

use manifest::{
    Application, Component, ComponentId, Content, Digest, Executor, File, Pattern, Route, Target, Variable,
    WagiExecutor,
    bindle_layout::{self, Invoice},
    hosts, spin_toml,
};
use proptest::{collection, option, prelude::*};

/// A manifest with something of everything, to be damaged.
const GOOD: &str = include_str!("../golden/v2_with_everything.in.toml");
/// The same of version 1.
const GOOD_OLD: &str = include_str!("../golden/v1_of_spin_0_2_with_config.in.toml");

/// `text` with some of its bytes replaced, removed or doubled.
pub(crate) fn damaged(text: &'static str) -> impl Strategy<Value = String> {
    collection::vec((0..text.len(), 0..4usize, any::<u8>()), 1..8).prop_map(move |damages| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, kind, byte) in damages {
            let Some(last) = bytes.len().checked_sub(1) else { break };
            let at = at.min(last);
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, bytes[at]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn content() -> impl Strategy<Value = Content> {
    (any::<[u8; 4]>()).prop_map(|bytes| Content { digest: Digest::of(&bytes), size: u64::from(bytes[0]) })
}

fn id() -> impl Strategy<Value = ComponentId> {
    "[a-z_][a-zA-Z0-9._-]{0,6}".prop_map(|text| text.parse().unwrap())
}

fn executor() -> impl Strategy<Value = Executor> {
    prop_oneof![
        Just(Executor::Spin),
        ("[a-z_]{0,5}", ".{0,8}").prop_map(|(entrypoint, argv)| Executor::Wagi(WagiExecutor { entrypoint, argv })),
    ]
}

fn outbound_hosts() -> impl Strategy<Value = Vec<String>> {
    let entry = prop_oneof!["https?://[a-z]{1,3}(:[1-9][0-9]{0,3})?", Just("*://*:*".to_owned())];
    let http =
        prop_oneof!["[a-z]{1,3}(:[1-9][0-9]{0,3})?", Just("self".to_owned()), Just("insecure:allow-all".to_owned())];
    prop_oneof![
        collection::vec(entry, 0..4),
        collection::vec(http, 0..4).prop_map(|entries| hosts::from_allowed_http_hosts(&entries, true).unwrap()),
    ]
}

fn strings() -> impl Strategy<Value = BTreeMap<String, String>> {
    collection::btree_map("[a-z]{1,4}", "[^{\0]{0,6}", 0..3)
}

fn component() -> impl Strategy<Value = Component> {
    let files = collection::btree_map("[a-c]{1,2}(/[d-f]{1,2}\\.html)?", content(), 0..5).prop_map(|files| {
        let paths: Vec<String> = files.keys().cloned().collect();
        let clashes = |path: &String| {
            paths.iter().any(|other| path.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('/')))
        };
        files.into_iter().filter(|(path, _)| !clashes(path)).map(|(path, content)| File { path, content }).collect()
    });
    let labels = || collection::btree_set("[a-z]{1,4}", 0..3).prop_map(|labels| labels.into_iter().collect());
    let lists = (outbound_hosts(), labels(), labels(), labels());
    (option::of(".{1,8}"), content(), files, strings(), strings(), lists).prop_map(
        |(description, source, files, environment, variables, lists)| Component {
            description,
            source,
            files,
            environment,
            variables,
            allowed_outbound_hosts: lists.0,
            key_value_stores: lists.1,
            sqlite_databases: lists.2,
            ai_models: lists.3,
        },
    )
}

prop_compose! {
    fn application()(
        name in "[a-z]{1,6}",
        description in option::of(".{1,8}"),
        authors in collection::vec(".{1,8}", 0..3),
        variables in collection::btree_map("[a-z]{1,4}", (option::of(".{0,8}"), option::of(".{0,8}"), any::<bool>()), 0..3),
        components in collection::btree_map(id(), component(), 1..4),
        routes in collection::vec((option::of("/[a-z]{0,3}(/:[a-z])?(/\\.\\.\\.)?"), any::<prop::sample::Index>(), executor(), option::of(200..600u16)), 1..5),
        traditional in any::<bool>(),
    ) -> Application {
        let ids: Vec<ComponentId> = components.keys().cloned().collect();
        let mut routes: Vec<Route> = routes.into_iter().map(|(path, index, executor, status)| Route {
            pattern: path.map_or(Pattern::Private, Pattern::Path),
            target: match status {
                Some(status) => Target::Static { status, headers: BTreeMap::new(), body: "b".to_owned() },
                None => Target::Component { id: index.get(&ids).clone(), executor },
            },
        }).collect();
        if traditional {
            routes = ids.iter().rev().map(|id| Route {
                pattern: Pattern::Path(format!("/{id}")),
                target: Target::Component { id: id.clone(), executor: Executor::Spin },
            }).collect();
        }
        let variables = variables.into_iter().map(|(name, (default, description, secret))| (name, Variable { default, description, secret }));
        Application {
            name, version: "1.0.0".to_owned(), description, authors, base: "/".to_owned(),
            variables: variables.collect(), routes, components,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parsers_panic(text in ".*") {
        let _outcome = spin_toml::parse(&text, "spin.toml");
        let _outcome = Invoice::from_toml(&text);
        let _outcome = manifest::template::parse(&text);
        let _outcome = text.parse::<hosts::OutboundHost>();
        let _outcome = hosts::from_allowed_http_hosts(&[text], true);
    }

    #[test]
    fn damaged_manifests_are_read_or_refused_with_a_place(text in prop_oneof![damaged(GOOD), damaged(GOOD_OLD)]) {
        if let Err(error) = spin_toml::parse(&text, "spin.toml") {
            prop_assert!(!error.problems.is_empty());
            let lines = text.lines().count() + 1;
            for problem in &error.problems {
                prop_assert!((1..=lines).contains(&problem.place.line), "{}", error);
                prop_assert!(problem.place.column >= 1);
            }
        }
    }

    #[test]
    fn a_published_application_comes_back_unchanged(application in application()) {
        prop_assume!(sizes_agree(&application));
        let publication = bindle_layout::publish(&application, &BTreeMap::new()).unwrap();
        let invoice = publication.invoice(&application, None).unwrap();
        let invoice = Invoice::from_toml(&invoice.to_toml().unwrap()).unwrap();
        let back = bindle_layout::application(&invoice, &publication.manifest_toml).unwrap();
        prop_assert_eq!(&back, &application);
        prop_assert_eq!(bindle_layout::publish(&back, &BTreeMap::new()).unwrap(), publication);
    }

    #[test]
    fn an_application_survives_its_serialised_form(application in application()) {
        let json = application.to_json().unwrap();
        prop_assert_eq!(Application::from_json(&json).unwrap(), application);
    }
}

/// Content is made up independently; equal digests with different sizes do not exist in reality.
fn sizes_agree(application: &Application) -> bool {
    let mut sizes = BTreeMap::new();
    application
        .components
        .values()
        .flat_map(|component| std::iter::once(component.source).chain(component.files.iter().map(|file| file.content)))
        .all(|content| *sizes.entry(content.digest).or_insert(content.size) == content.size)
}

#[test]
fn a_chosen_component_comes_with_its_copies_behind_middleware_and_its_dependencies() {
    let text = include_str!("../golden/v2_middleware.in.toml");
    let chosen = spin_toml::parse(text, "spin.toml").unwrap().select(&["shop"]).unwrap();
    let ids: Vec<&str> = chosen.components.keys().map(ComponentId::as_str).collect();
    assert_eq!(ids, ["admin-component", "http-trigger1-component", "log", "shop"]);
    assert_eq!(chosen.routes.len(), 3);
}
