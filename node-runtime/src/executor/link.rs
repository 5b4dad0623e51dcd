//! What guests import that the host does not have: functions that trap when they are called, so that a guest that
//! imports more than it uses runs all the same.

use std::borrow::Cow;

use wasmtime::{
    Engine, ExternType, FuncType, Instance, Linker, Module, ModuleExport, Store, ValType,
    component::{
        Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Linker as ComponentLinker,
        LinkerInstance, Lower, ResourceType, types::ComponentItem,
    },
};

use crate::{
    engine::{Draft, Outline},
    host::{self, RuntimeContext},
};

/// The interfaces of WASI that wasmtime's linker has in both its versions, in every 0.2.x and 0.3.x: a guest's own version is
/// found there. They must not be defined again, because their resources would become other types.
const HOST_INTERFACES: [&str; 18] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/ip-name-lookup",
];

/// Those that only WASI 0.2 has.
const HOST_INTERFACES_0_2: [&str; 11] = [
    "wasi:clocks/wall-clock",
    "wasi:http/outgoing-handler",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:sockets/instance-network",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Those that only WASI 0.3 has.
const HOST_INTERFACES_0_3: [&str; 5] =
    ["wasi:cli/types", "wasi:clocks/system-clock", "wasi:clocks/types", "wasi:http/client", "wasi:sockets/types"];

/// The version under which the linker has those of 0.3.
const WASI_0_3: &str = "0.3.0";

/// Why wasm is not a guest: what it has, what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LinkError(pub(super) String);

impl LinkError {
    /// With this message.
    pub(super) fn new(message: String) -> Self {
        Self(message)
    }

    /// For `map_err` of wasmtime's errors.
    #[expect(clippy::needless_pass_by_value, reason = "map_err gives it away")]
    pub(super) fn of(error: wasmtime::Error) -> Self {
        Self(format!("it cannot be linked: {error:#}"))
    }
}

/// A guest called a function that it imports and the host does not have.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the guest called `{0}`, which this runtime does not provide")]
struct NotProvided(String);

/// A copy of `linker` in which every import of `module` is defined.
pub(super) fn complete_module(
    linker: &Linker<RuntimeContext>,
    module: &Module,
) -> Result<Linker<RuntimeContext>, LinkError> {
    let mut linker = linker.clone();
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let ExternType::Func(ty) = import.ty() else {
            return Err(LinkError(format!(
                "it imports `{}` `{}`, which is no function: a guest brings its own memory and tables",
                short(from),
                short(name)
            )));
        };
        let error = NotProvided(format!("{}: {}", short(from), short(name)));
        // Fails only for what is defined already: by the host, or because it is imported twice.
        let _defined = linker.func_new(from, name, ty, move |_, _, _| Err(error.clone().into()));
    }
    Ok(linker)
}

/// Under which name the host has the interface `name`, written `package:name/interface@version`; `None` if it has not.
fn host_name(name: &str) -> Option<Cow<'_, str>> {
    if host::INTERFACES.iter().any(|module| module.contains(&name)) {
        let newest = host::NEWEST.iter().find(|(older, _)| older.contains(&name));
        return Some(Cow::Borrowed(newest.map_or(name, |(_, newest)| *newest)));
    }
    let (interface, version) = name.split_once('@')?;
    let (own, release): (&[&str], _) = match version.get(..4)? {
        "0.2." => (&HOST_INTERFACES_0_2, host::drafts::RELEASE),
        "0.3." => (&HOST_INTERFACES_0_3, WASI_0_3),
        _ => return None,
    };
    let known = !version.contains('-') && (HOST_INTERFACES.contains(&interface) || own.contains(&interface));
    let drafted = Draft::of(name) == Some(Draft::October2023) && interface == "wasi:clocks/timezone";
    (known || drafted).then(|| Cow::Owned(format!("{interface}@{release}")))
}

/// What a resource is that only the guest's own imports know.
#[derive(Debug)]
struct Unprovided;

/// A copy of `linker` in which every import of `component` is defined.
pub(super) fn complete_component(
    linker: &ComponentLinker<RuntimeContext>,
    component: &Component,
) -> Result<ComponentLinker<RuntimeContext>, LinkError> {
    let mut linker = linker.clone();
    let engine = component.engine();
    let mut resources = Vec::new();
    for (name, item) in component.component_type().imports(engine) {
        if let (Some(draft), Some((interface, _))) = (Draft::of(name), name.split_once('@')) {
            host::drafts::link(&mut linker, draft, interface).map_err(LinkError::of)?;
        }
        match (host_name(name), &item.ty) {
            (None, item) => {
                define(&mut linker.root(), component, &resources, "", name, item).map_err(LinkError::of)?;
            }
            (Some(known), ComponentItem::ComponentInstance(instance)) => {
                let mut known = linker.instance(&known).map_err(LinkError::of)?;
                let path = format!("{}: ", Draft::written(name));
                for (name, item) in instance.exports(engine) {
                    if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                        // Fails for what the host has.
                        let _defined = define(&mut known, component, &resources, &path, name, &item.ty);
                    }
                }
            }
            (Some(_), _) => {}
        }
        remember(&mut resources, engine, &item.ty);
    }
    Ok(linker)
}

/// Adds the resources that `item` has to those that are imported already.
fn remember(resources: &mut Vec<ResourceType>, engine: &Engine, item: &ComponentItem) {
    match item {
        ComponentItem::Resource(resource) => resources.push(*resource),
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(engine).for_each(|(_, item)| remember(resources, engine, &item.ty));
        }
        _ => {}
    }
}

/// Defines what the host does not have. What is one of `resources`, used here under another interface's name, is what it was
/// where it was imported first.
fn define(
    linker: &mut LinkerInstance<'_, RuntimeContext>,
    component: &Component,
    resources: &[ResourceType],
    path: &str,
    name: &str,
    item: &ComponentItem,
) -> wasmtime::Result<()> {
    match item {
        ComponentItem::ComponentFunc(function) => {
            let error = NotProvided(format!("{path}{}", Draft::written(name)));
            if function.async_() {
                return linker.func_new_concurrent(name, move |_, _, _, _| {
                    let error = error.clone();
                    Box::pin(async move { Err(error.into()) })
                });
            }
            linker.func_new(name, move |_, _, _, _| Err(error.clone().into()))
        }
        ComponentItem::Resource(resource) if resources.contains(resource) => Ok(()),
        ComponentItem::Resource(_) => linker.resource(name, ResourceType::host::<Unprovided>(), |_, _| Ok(())),
        ComponentItem::ComponentInstance(instance) => {
            let mut inner = linker.instance(name)?;
            let path = format!("{path}{}: ", Draft::written(name));
            for (name, item) in instance.exports(component.engine()) {
                define(&mut inner, component, resources, &path, name, &item.ty)?;
            }
            Ok(())
        }
        // Types need no definition, and there is nothing to put in the place of code: linking says so.
        ComponentItem::Type(_)
        | ComponentItem::CoreFunc(_)
        | ComponentItem::Module(_)
        | ComponentItem::Component(_) => Ok(()),
    }
}

/// How a function of a component is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Called {
    /// Its caller waits for it: those of WASI 0.2.
    Waiting,
    /// It is an `async func`: those of WASI 0.3.
    Async,
}

/// Checks that the interface `interface` (of any version) is exported.
pub(super) fn expect(outline: &Outline, interface: &str) -> Result<(), LinkError> {
    let found = outline.functions().any(|name| name.split('@').next() == Some(interface));
    if found { Ok(()) } else { Err(LinkError(format!("its `{interface}` is missing"))) }
}

/// The function `function` of the exported interface `interface` (of any version), which must take `P` and return `R`, and be
/// one that is `called` in this way.
pub(super) fn export<P, R>(
    pre: &InstancePre<RuntimeContext>,
    interface: &str,
    function: &str,
    called: Called,
) -> Result<ComponentExportIndex, LinkError>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let component = pre.component();
    let wrong = |problem: &str| LinkError(format!("its `{interface}` {problem}"));
    let world = component.component_type();
    let mut exports = world.exports(component.engine()).map(|(name, _)| name);
    let name = exports.find(|name| name.split('@').next() == Some(interface));
    let instance = name.and_then(|name| component.get_export_index(None, name)).ok_or_else(|| wrong("is missing"))?;
    let Some((ComponentItem::ComponentFunc(ty), index)) = component.get_export(Some(&instance), function) else {
        return Err(wrong(&format!("has no function `{function}`")));
    };
    ty.typecheck::<P, R>(&pre.instance_type())
        .map_err(|error| wrong(&format!("has another `{function}` than is called here: {error:#}")))?;
    match (called, ty.async_()) {
        (Called::Waiting, true) => {
            Err(wrong(&format!("has a `{function}` that is an `async func`, and in this interface it is none")))
        }
        (Called::Async, false) => {
            Err(wrong(&format!("has a `{function}` that is no `async func`, and in this interface it is one")))
        }
        (Called::Waiting, false) | (Called::Async, true) => Ok(index),
    }
}

/// What a module exports by the rules of WASI that is no program: nothing else of it may be called before.
const INITIALIZE: &str = "_initialize";

/// The function that must be called first, if `module` has one.
pub(super) fn initialize(module: &Module) -> Option<ModuleExport> {
    match module.get_export(INITIALIZE) {
        Some(ExternType::Func(ty)) if ty.params().len() == 0 && ty.results().len() == 0 => {
            module.get_export_index(INITIALIZE)
        }
        _ => None,
    }
}

/// Calls what [`initialize`] found.
pub(super) async fn call_initialize(
    instance: &Instance,
    function: Option<&ModuleExport>,
    store: &mut Store<RuntimeContext>,
) -> wasmtime::Result<()> {
    let function = function.and_then(|export| instance.get_module_export(&mut *store, export)?.into_func());
    match function {
        Some(function) => function.typed::<(), ()>(&*store)?.call_async(store, ()).await,
        None => Ok(()),
    }
}

/// How many names of a guest's are told, and how much of each: messages end in conditions and events of Kubernetes.
const MOST_NAMES: usize = 20;
const LONGEST_NAME: usize = 100;

/// `a, b and 3 more`, or `nothing`.
pub(super) fn names<S: AsRef<str>>(mut all: impl Iterator<Item = S>) -> String {
    let shown: Vec<String> = all.by_ref().take(MOST_NAMES).map(|name| short(name.as_ref())).collect();
    match (shown.is_empty(), all.count()) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A name, or its beginning.
fn short(name: &str) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}

/// A function type in words, as `(i32, i32) -> i32`.
pub(super) fn signature(ty: &FuncType) -> String {
    let list = |types: &mut dyn Iterator<Item = ValType>| types.map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ");
    format!("({}) -> ({})", list(&mut ty.params()), list(&mut ty.results()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_names_a_guest_has_and_however_long_few_are_told() {
        assert_eq!(names(std::iter::empty::<&str>()), "nothing");
        assert_eq!(names(["a", "b"].into_iter()), "a, b");
        let many = names((0..1000).map(|number| number.to_string()));
        assert!(many.starts_with("0, 1, ") && many.ends_with(", 19 and 980 more"), "{many}");
        assert_eq!(names(std::iter::once("ü".repeat(1000))), format!("{}…", "ü".repeat(100)));
    }

    #[test]
    fn a_resource_of_the_host_may_be_used_by_an_interface_that_the_host_does_not_have() {
        let engine = Engine::default();
        let mut linker = ComponentLinker::<RuntimeContext>::new(&engine);
        let mut types = linker.instance("wasi:http/types@0.2.12").unwrap();
        types.resource("fields", ResourceType::host::<u32>(), |_, _| Ok(())).unwrap();
        let component = r#"(component
            (import "wasi:http/types@0.2.0" (instance $types (export "fields" (type (sub resource)))))
            (alias export $types "fields" (type $fields))
            (import "some:middleware/handler@1.0.0" (instance $handler
                (export "fields" (type $same (eq $fields)))
                (export "own" (type (sub resource)))
                (export "handle" (func (param "fields" (own $same))))))
            (alias export $handler "own" (type $own))
            (import "some:middleware/more@1.0.0" (instance
                (export "own" (type $same (eq $own)))
                (export "take" (func (param "own" (own $same)))))))"#;
        let component = Component::new(&engine, component).unwrap();
        let complete = complete_component(&linker, &component).unwrap();
        complete.instantiate_pre(&component).unwrap();
    }

    #[test]
    fn released_versions_of_wasi_are_the_host_s_and_drafts_are_not() {
        let is_host_interface = |name: &str| host_name(name).is_some();
        assert!(is_host_interface("wasi:http/types@0.2.0"));
        assert!(is_host_interface("wasi:io/streams@0.2.12"));
        assert!(is_host_interface("fermyon:spin/variables@2.0.0"));
        assert_eq!(host_name("spin:postgres/postgres@4.0.0").as_deref(), Some("spin:postgres/postgres@4.2.0"));
        assert_eq!(host_name("spin:postgres/postgres@3.0.0").as_deref(), Some("spin:postgres/postgres@3.0.0"));
        assert!(is_host_interface("wasi:config/store@0.2.0-draft-2024-09-27"));
        assert!(!is_host_interface("wasi:http/types@0.2.0-rc-2023-10-18"));
        assert_eq!(host_name("wasi:io/poll@0.2.202310180000000").as_deref(), Some("wasi:io/poll@0.2.12"));
        assert!(is_host_interface("wasi:clocks/timezone@0.2.202310180000000"));
        assert!(!is_host_interface("wasi:clocks/timezone@0.2.5"));
        assert!(is_host_interface("wasi:http/client@0.3.1"));
        assert!(!is_host_interface("wasi:http/outgoing-handler@0.3.0"));
        assert!(!is_host_interface("wasi:http/types@0.3.0-rc-2026-03-15"));
        assert!(!is_host_interface("wasi:http/types@0.4.0"));
        assert!(!is_host_interface("wasi:http/types"));
        assert!(!is_host_interface("fermyon:spin/nothing@2.0.0"));
    }
}
