//! The interfaces of components, called by components written as text.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::component::{Component, Val};

use super::{Template, Variables};
use crate::{
    application::Caller,
    engine::{Engine, EngineConfig},
    host::{Grants, InstanceLimits, RuntimeContext, component_linker},
};

/// A component that exports as `run` the function `function` of `interface`, which has the error cases `cases`.
fn relay(interface: &str, function: &str, cases: &[&str], key: bool, value: &str) -> String {
    let cases: String = cases.iter().map(|case| format!("(case \"{case}\" string)")).collect();
    let (parameter, core, pass) =
        if key { ("(param \"key\" string)", "i32 i32", "(local.get 0) (local.get 1)") } else { ("", "", "") };
    format!(
        r#"(component
            (import "{interface}" (instance $host
                (type $cases (variant {cases}))
                (export "error" (type $error (eq $cases)))
                (export "{function}" (func {parameter} (result (result {value} (error $error)))))))
            (core module $heap
                (memory (export "memory") 1)
                (global $next (mut i32) (i32.const 4096))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                    (global.get $next)
                    (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 7)) (i32.const -8)))))
            (core instance $heap (instantiate $heap))
            (alias export $host "{function}" (func $asked))
            (core func $lowered (canon lower (func $asked) (memory (core memory $heap "memory")) (realloc (core func $heap "realloc"))))
            (core module $guest
                (import "host" "f" (func $f (param {core} i32)))
                (func (export "run") (param {core}) (result i32) (call $f {pass} (i32.const 1024)) (i32.const 1024)))
            (core instance $guest (instantiate $guest (with "host" (instance (export "f" (func $lowered))))))
            (alias export $host "error" (type $error))
            (func (export "run") {parameter} (result (result {value} (error $error)))
                (canon lift (core func $guest "run") (memory (core memory $heap "memory")) (realloc (core func $heap "realloc")))))"#
    )
}

/// What `run` of a component returns.
async fn run(wat: &str, key: Option<&str>) -> Val {
    let engine = Engine::new(EngineConfig { pooling: false, ..EngineConfig::default() }).unwrap();
    let variables = [("greeting", "Hello"), ("name", "Wasm")];
    let variables = variables.map(|(name, value)| (name.to_owned(), Template::fixed(value)));
    let variables = variables.into_iter().collect::<Variables>();
    let grants = Grants { variables, ..Grants::none() };
    let wasi = wasmtime_wasi::WasiCtx::builder().build_p1();
    let limits = InstanceLimits::of(1 << 20, 100);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut store = RuntimeContext::store(&engine, wasi, &Arc::new(grants), limits, deadline, Caller::default());
    let component = Component::new(engine.wasmtime(), wat).unwrap();
    let linker = component_linker(engine.wasmtime()).unwrap();
    let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
    let run = instance.get_func(&mut store, "run").unwrap();
    let arguments: Vec<Val> = key.map(|key| Val::String(key.to_owned())).into_iter().collect();
    let mut results = [Val::Bool(false)];
    run.call_async(&mut store, &arguments, &mut results).await.unwrap();
    let [result] = results;
    result
}

fn text(text: &str) -> Val {
    Val::String(text.to_owned())
}

fn ok(value: Val) -> Val {
    Val::Result(Ok(Some(Box::new(value))))
}

/// The case and the message of an error.
fn failure(result: Val) -> (String, String) {
    let Val::Result(Err(Some(error))) = result else { panic!("{result:?} is no error") };
    let Val::Variant(case, Some(message)) = *error else { panic!("{error:?} has no message") };
    let Val::String(message) = *message else { panic!("{message:?} is no text") };
    (case, message)
}

#[tokio::test]
async fn spin_variables_are_read_by_name() {
    let wat = relay(
        super::spin_variables::INTERFACE,
        "get",
        &["invalid-name", "undefined", "provider", "other"],
        true,
        "string",
    );
    assert_eq!(run(&wat, Some("greeting")).await, ok(text("Hello")));
    let (case, message) = failure(run(&wat, Some("nobody")).await);
    assert_eq!((case.as_str(), message.contains("`nobody`")), ("undefined", true));
    assert_eq!(failure(run(&wat, Some("No-Name")).await).0, "invalid-name");
}

#[tokio::test]
async fn the_configuration_of_the_first_components_is_the_same_variables() {
    let wat = relay(
        super::spin_config::INTERFACE,
        "get-config",
        &["provider", "invalid-key", "invalid-schema", "other"],
        true,
        "string",
    );
    assert_eq!(run(&wat, Some("name")).await, ok(text("Wasm")));
    assert_eq!(failure(run(&wat, Some("nobody")).await).0, "provider");
    assert_eq!(failure(run(&wat, Some("")).await).0, "invalid-key");
}

#[tokio::test]
async fn wasi_s_configuration_is_the_same_variables() {
    let get = relay(super::wasi_config::INTERFACE, "get", &["upstream", "io"], true, "(option string)");
    assert_eq!(run(&get, Some("name")).await, ok(Val::Option(Some(Box::new(text("Wasm"))))));
    assert_eq!(run(&get, Some("nobody")).await, ok(Val::Option(None)));
    assert_eq!(run(&get, Some("a b")).await, ok(Val::Option(None)), "no variable can have this name");
    let all =
        relay(super::wasi_config::INTERFACE, "get-all", &["upstream", "io"], false, "(list (tuple string string))");
    let pair = |name, value| Val::Tuple(vec![text(name), text(value)]);
    assert_eq!(run(&all, None).await, ok(Val::List(vec![pair("greeting", "Hello"), pair("name", "Wasm")])));
}
