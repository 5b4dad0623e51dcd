//! Which components are loaded, and what they are composed of.

use super::*;

#[test]
fn only_chosen_components_are_loaded_and_those_that_they_reach() {
    let dir = Dir::new("");
    let text = "spin_manifest_version = 2\n[application]\nname = \"x\"\n[[trigger.http]]\nroute = \"/a\"\ncomponent = \"a\"\n\
        [[trigger.http]]\nroute = { private = true }\ncomponent = \"b\"\n[[trigger.http]]\nroute = \"/c\"\ncomponent = \"c\"\n\
        [component.a]\nsource = \"hello.wasm\"\nallowed_outbound_hosts = [\"http://b.spin.internal\"]\n\
        [component.b]\nsource = \"hello.wasm\"\n[component.c]\nsource = \"not-built.wasm\"\n";
    fs::write(dir.path("spin.toml"), text).unwrap();
    let choose = |id: &str| Options { components: vec![id.to_owned()], ..Options::default() };
    let application = dir.load_with(&choose("a")).unwrap().application;
    assert_eq!(application.components.keys().map(ComponentId::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(application.routes.len(), 2);
    assert_eq!(
        dir.problem_with(&choose("z")),
        "spin.toml: the application has no component `z`: it has `a`, `b` and `c`"
    );
}

/// Two components of text: `adder` exports `docs:adder/add`, which `user` imports.
fn components() -> [Vec<u8>; 2] {
    let adder = r#"(component (core module $m (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
        (core instance $i (instantiate $m))
        (func $add (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add")))
        (instance $adder (export "add" (func $add))) (export "docs:adder/add@0.1.0" (instance $adder)))"#;
    let user = r#"(component (import "docs:adder/add@0.1.0" (instance $adder (export "add" (func (param "a" u32) (param "b" u32) (result u32)))))
        (alias export $adder "add" (func $add)) (instance $run (export "run" (func $add))) (export "docs:user/run" (instance $run)))"#;
    [adder, user].map(|text| wat::parse_str(text).unwrap())
}

/// A directory whose component depends on another one, as `dependency` says.
fn depending(dependency: &str) -> Dir {
    let [adder, user] = components();
    let dir = Dir::new("").write("adder.wasm", &adder).write("hello.wasm", &user).write("module.wasm", WASM);
    let rest = format!("dependencies = {{ {dependency} }}\n[component.math]\nsource = \"adder.wasm\"\n");
    dir.manifest(&format!("source = \"hello.wasm\"\n{rest}"));
    dir
}

#[test]
fn a_component_is_composed_with_its_dependencies_wherever_they_are() {
    let digest = Digest::of(&components()[0]).to_string();
    for dependency in [
        "\"docs:adder/add@0.1.0\" = { path = \"adder.wasm\" }".to_owned(),
        "\"docs:adder\" = { component = \"math\" }".to_owned(),
        "\"docs:adder/add\" = { component = \"math\", export = \"docs:adder/add@0.1.0\", inherit_configuration = [\"files\"] }".to_owned(),
    ] {
        let dir = depending(&dependency);
        let loaded = dir.load_with(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.application.components.len(), 1, "what is only a dependency is no component");
        let source = loaded.application.components.values().next().unwrap().source;
        let wasm = dir.store().read(&source).unwrap().unwrap();
        assert!(wasm.len() > components().concat().len() - 100 && Digest::of(&wasm).to_string() != digest);
    }
}

#[test]
fn a_dependency_that_does_not_fit_is_named_with_its_place() {
    for (dependency, problem) in [
        (
            "\"docs:adder\" = { path = \"missing.wasm\" }",
            "there is no file missing.wasm: check the path, or build the component first",
        ),
        (
            "\"docs:adder\" = { path = \"module.wasm\" }",
            "component `hello`: dependency `docs:adder` is no component: it is a core module",
        ),
        (
            "\"docs:sub\" = { component = \"math\" }",
            "component `hello`: the component has no import for the dependency `docs:sub`: it imports `docs:adder/add@0.1.0`",
        ),
        (
            "\"docs:adder/add\" = { path = \"adder.wasm\", export = \"x:y/z\" }",
            "component `hello`: dependency `docs:adder/add` does not export `x:y/z`",
        ),
    ] {
        let found = depending(dependency).problem();
        assert!(found.starts_with("spin.toml:9:") && found.contains(problem), "{found}");
    }
}
