//! Components made of a few lines of text, composed and run.

use std::{collections::BTreeSet, sync::LazyLock};

use manifest::spin_toml::Capability;
use wasmtime::{
    Engine, Store,
    component::{Component, Linker},
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::*;

const WIT: &str = include_str!("tests/interfaces.wit");
/// Exports `add`, and tells what it sees of the host.
const LIBRARY: &str = include_str!("tests/library.wat");
/// Passes on what the library says.
const MAIN: &str = include_str!("tests/main.wat");

/// The component of `world` whose core module is `module`.
fn component(world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("interfaces.wit", WIT).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut wasm = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&wasm).unwrap().validate(true).encode().unwrap()
}

fn library() -> Vec<u8> {
    static MADE: LazyLock<Vec<u8>> = LazyLock::new(|| component("library", LIBRARY));
    MADE.clone()
}

fn main() -> Vec<u8> {
    static MADE: LazyLock<Vec<u8>> = LazyLock::new(|| component("main", MAIN));
    MADE.clone()
}

fn compose_with(name: &str, export: Option<&str>, inherit: &Inherit) -> Result<Vec<u8>, ComposeError> {
    let (imports, wasm) = (name.parse().unwrap(), library());
    let part = Part { name, imports: Some(&imports), wasm: &wasm, export, inherit };
    compose(&main(), &[part])
}

/// What a component imports and exports.
fn world(wasm: &[u8]) -> (Vec<String>, Vec<String>) {
    let mut graph = CompositionGraph::new();
    let package = Package::from_bytes("it", None, wasm, graph.types_mut()).unwrap();
    let world = &graph.types()[package.ty()];
    (world.imports.keys().cloned().collect(), world.exports.keys().cloned().collect())
}

/// What `export` of the interface `interface` answers when it is called some times, with nothing from the host.
fn calls(wasm: &[u8], interface: &str, export: &str, argument: u32, times: usize) -> Vec<u32> {
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let component = Component::new(&engine, wasm).unwrap();
    let instance = Linker::new(&engine).instantiate(&mut store, &component).unwrap();
    let (_, interface) = instance.get_export(&mut store, None, interface).unwrap();
    let (_, export) = instance.get_export(&mut store, Some(&interface), export).unwrap();
    let function = instance.get_typed_func::<(u32,), (u32,)>(&mut store, export).unwrap();
    (0..times).map(|_| function.call(&mut store, (argument,)).unwrap().0).collect()
}

fn call(wasm: &[u8], interface: &str, export: &str, argument: u32) -> u32 {
    calls(wasm, interface, export, argument, 1)[0]
}

#[test]
fn a_dependency_satisfies_an_import_and_sees_nothing_of_the_host() {
    let wasm = compose_with("docs:lib/probe@1.0.0", None, &Inherit::default()).unwrap();
    assert_eq!(world(&wasm), (vec![], vec!["docs:main/run".to_owned()]));
    assert_eq!(call(&wasm, "docs:main/run", "add", 20), 62);
    assert_eq!(call(&wasm, "docs:main/run", "environment", 0), 0, "no variable");
    assert_eq!(call(&wasm, "docs:main/run", "store", 0), 102, "the third case: access-denied");
    assert_eq!(call(&wasm, "docs:main/run", "variable", 0), 103, "the fourth case: other");
    assert_eq!(call(&wasm, "docs:main/run", "builder", 0), 7, "an object that does nothing");
    // What was passed is not kept: calls may go on for ever.
    assert!(calls(&wasm, "docs:main/run", "store", 0, 100_000).iter().all(|answer| *answer == 102));
}

#[test]
fn composing_the_same_gives_the_same() {
    let one = compose_with("docs:lib", None, &Inherit::default()).unwrap();
    assert_eq!(one, compose_with("docs:lib", None, &Inherit::default()).unwrap());
}

#[test]
fn names_mean_a_package_an_interface_and_compatible_versions() {
    for name in ["docs:lib", "docs:lib@1.0.0", "docs:lib@1.2.0", "docs:lib/probe", "docs:lib/probe@1.9.0"] {
        assert!(compose_with(name, None, &Inherit::default()).is_ok(), "{name}");
    }
    for name in ["docs:lib@2.0.0", "docs:lib/other", "docs:libs", "probe"] {
        let error = compose_with(name, None, &Inherit::default()).unwrap_err();
        let text =
            format!("the component has no import for the dependency `{name}`: it imports `docs:lib/probe@1.0.0`");
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn another_export_can_be_chosen_if_it_fits() {
    let inherit = Inherit::default();
    for export in ["docs:other/probe@2.0.0", "docs:other/probe"] {
        let wasm = compose_with("docs:lib/probe", Some(export), &inherit).unwrap();
        assert_eq!(call(&wasm, "docs:main/run", "add", 1), 1001);
    }
    let error = compose_with("docs:lib/probe", Some("docs:lib/missing"), &inherit).unwrap_err().to_string();
    assert!(
        error.starts_with("dependency `docs:lib/probe` does not export `docs:lib/missing`, which the import"),
        "{error}"
    );
    assert!(
        error.ends_with("it exports `docs:lib/probe@1.0.1`, `docs:other/probe@2.0.0`, `docs:other/unfit@2.0.0`"),
        "{error}"
    );
    let error = compose_with("docs:lib/probe", Some("docs:other/unfit@2.0.0"), &inherit).unwrap_err();
    assert!(matches!(&error, ComposeError::Type { .. }), "{error}");
}

#[test]
fn only_what_is_inherited_is_left() {
    let all = compose_with("docs:lib", None, &Inherit::All).unwrap();
    let host = [
        "wasi:cli/environment@0.2.6",
        "fermyon:spin/key-value@2.0.0",
        "fermyon:spin/variables@2.0.0",
        "spin:postgres/postgres@4.2.0",
    ];
    assert_eq!(world(&all).0.iter().map(String::as_str).collect::<BTreeSet<_>>(), host.into());
    let some = Inherit::Only([Capability::KeyValueStores, Capability::Files].into());
    assert_eq!(world(&compose_with("docs:lib", None, &some).unwrap()).0, ["fermyon:spin/key-value@2.0.0"]);
}

#[test]
fn types_that_interfaces_share_stay_the_hosts() {
    let module = r#"(module (import "wasi:http/outgoing-handler@0.2.0" "handle" (func (param i32 i32)))
        (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "docs:lib/http@1.0.0#go") (result i32) i32.const 1))"#;
    let wasm = component("client", module);
    let part = Part { name: "client", imports: None, wasm: &wasm, export: None, inherit: &Inherit::default() };
    assert_eq!(world(&isolate::isolate(&part).unwrap()).0, ["wasi:http/types@0.2.0"]);
}

#[test]
fn what_cannot_be_denied_is_refused() {
    let module = r#"(module (import "wasi:nn/inference" "infer" (func)) (func (export "docs:lib/http@1.0.0#go") (result i32) i32.const 1))"#;
    let wasm = component("thinker", module);
    let part = Part { name: "thinker", imports: None, wasm: &wasm, export: None, inherit: &Inherit::default() };
    let error = isolate::isolate(&part).unwrap_err().to_string();
    assert!(
        error.starts_with("dependency `thinker` imports `wasi:nn/inference`, which cannot be denied to it"),
        "{error}"
    );
    assert!(isolate::isolate(&Part { inherit: &Inherit::All, ..part }).is_ok());
}

#[test]
fn guests_of_todays_toolchains_lose_everything_that_gives_something() {
    let home = || std::path::PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/spindle/guests/out");
    let dir = std::env::var_os("SPINDLE_GUESTS").map_or_else(home, Into::into);
    let giving = |import: &String| {
        [
            "environment@",
            "preopens@",
            "outgoing-handler@",
            "client@",
            "create-socket@",
            "key-value",
            "variables",
            "ip-name",
        ]
        .iter()
        .any(|part| import.contains(part))
    };
    let mut isolated = 0;
    for name in ["http-rust", "http-spin-sdk", "http-js", "http-py", "http-p3", "stores"] {
        let wasm = std::fs::read(dir.join(format!("{name}.wasm"))).unwrap();
        let part = Part { name, imports: None, wasm: &wasm, export: None, inherit: &Inherit::default() };
        let (before, after) = (world(&wasm), world(&isolate::isolate(&part).unwrap()));
        assert_eq!(before.1, after.1, "{name}");
        assert!(!after.0.iter().any(giving), "{name}: {:?}", after.0);
        isolated += before.0.iter().filter(|import| giving(import)).count();
    }
    assert!(isolated > 8, "the guests import such interfaces");
}

#[test]
fn two_dependencies_for_one_import_clash() {
    let (one, other): (DependencyName, DependencyName) =
        ("docs:lib".parse().unwrap(), "docs:lib/probe".parse().unwrap());
    let (wasm, inherit) = (library(), Inherit::default());
    let part = |name, imports| Part { name, imports: Some(imports), wasm: &wasm, export: None, inherit: &inherit };
    let error = compose(&main(), &[part("one", &one), part("other", &other)]).unwrap_err().to_string();
    assert_eq!(
        error,
        "the import `docs:lib/probe@1.0.0` would be satisfied by both `one` and `other`: make one of the two names more specific"
    );
}

#[test]
fn core_modules_and_broken_wasm_are_refused_by_name() {
    let name = "docs:lib".parse().unwrap();
    let module = wat::parse_str("(module)").unwrap();
    let mut cut = library();
    cut.truncate(200);
    for (wasm, problem) in [(module.as_slice(), "it is a core module"), (b"\0asm", "it is a core module"), (&cut, "")] {
        let part = Part { name: "lib", imports: Some(&name), wasm, export: None, inherit: &Inherit::default() };
        let error = compose(&main(), &[part]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("dependency `lib` is no component: {problem}")), "{error}");
        assert!(matches!(compose(wasm, &[part]), Err(ComposeError::Module | ComposeError::Component(_))));
    }
}

/// A handler that answers `10 * x + digit` of what is behind it.
fn middleware(digit: u32) -> Vec<u8> {
    let module = format!(
        r#"(module (import "wasi:http/incoming-handler@0.2.0" "handle" (func $next (param i32) (result i32)))
            (func (export "wasi:http/incoming-handler@0.2.0#handle") (param i32) (result i32)
              (call $next (i32.add (i32.mul (local.get 0) (i32.const 10)) (i32.const {digit})))))"#
    );
    component("middleware", &module)
}

#[test]
fn the_first_middleware_is_the_outermost() {
    let handler = component(
        "handler",
        r#"(module (func (export "wasi:http/incoming-handler@0.2.3#handle") (param i32) (result i32) local.get 0))"#,
    );
    let (one, two, inherit) = (middleware(1), middleware(2), Inherit::default());
    let part = |name, wasm| Part { name, imports: None, wasm, export: None, inherit: &inherit };
    let wasm = wrap(&handler, &[part("one", &one), part("two", &two)]).unwrap();
    assert_eq!(call(&wasm, "wasi:http/incoming-handler@0.2.0", "handle", 7), 712);
    let error = wrap(&library(), &[part("one", &one)]).unwrap_err().to_string();
    assert!(
        error.contains("what it is in front of exports none of `wasi:http/incoming-handler` and `wasi:http/handler`"),
        "{error}"
    );
    let error = wrap(&handler, &[part("lib", &handler)]).unwrap_err().to_string();
    assert!(error.contains("it does not import `wasi:http/incoming-handler@0.2.3`"), "{error}");
}

mod properties {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn damaged_components_are_composed_or_refused(damages in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>(), shorten in any::<bool>()) {
            let (good, name) = (library(), "docs:lib".parse().unwrap());
            let mut wasm = good.clone();
            for (at, byte) in damages {
                let at = at.index(wasm.len());
                wasm[at] = byte;
            }
            if shorten {
                wasm.truncate(cut.index(wasm.len()));
            }
            let part = Part { name: "lib", imports: Some(&name), wasm: &wasm, export: None, inherit: &Inherit::default() };
            let _outcome = compose(&main(), &[part]);
            let _outcome = compose(&wasm, &[Part { wasm: &good, ..part }]);
            let _outcome = wrap(&wasm, &[part]);
        }
    }
}
