//! Makes one component of a component and what it depends on.
//!
//! Promise: the result imports what the host provides and exports what the component exported; a dependency can use what
//! it inherits and nothing else of what the component may use: the rest of its imports is answered by an adapter that
//! denies everything ([`isolate`]). The same input gives the same bytes, and no input makes this panic.
//!
//! Absent on purpose: where wasm comes from, and compiling it.

mod adapter;
mod isolate;
mod middleware;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use manifest::spin_toml::{DependencyName, Inherit};
use wac_graph::{
    CompositionGraph, EncodeOptions, NodeId,
    types::{ItemKind, Package, SubtypeChecker, WorldId, are_semver_compatible},
};

pub use middleware::wrap;

/// Something that is composed into a component.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// What it is called in messages.
    pub name: &'a str,
    /// The imports that it is for; `None` for middleware.
    pub imports: Option<&'a DependencyName>,
    /// Its wasm.
    pub wasm: &'a [u8],
    /// The export to use, if not the one that is called like the import.
    pub export: Option<&'a str>,
    /// What it may do of what the component may do.
    pub inherit: &'a Inherit,
}

/// Why components cannot be composed. Whoever asked knows the component and the place in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// The component is a core module that cannot become a component.
    #[error(
        "its wasm is a core module, and only components can have dependencies: build it as one (such as with the target wasm32-wasip2)"
    )]
    Module,
    /// The wasm of the component cannot be read.
    #[error("its wasm is no valid component: {0}")]
    Component(String),
    /// The wasm of a dependency cannot be read.
    #[error("dependency `{dependency}` is no component: {problem}")]
    Dependency {
        /// The dependency.
        dependency: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No import is meant by the name of a dependency.
    #[error("the component has no import for the dependency `{dependency}`: {}", imports(.known))]
    NoImport {
        /// The dependency.
        dependency: String,
        /// The imports that it has.
        known: Vec<String>,
    },
    /// Two dependencies are for one import.
    #[error(
        "the import `{import}` would be satisfied by both `{first}` and `{second}`: make one of the two names more specific"
    )]
    Clash {
        /// The import.
        import: String,
        /// One dependency.
        first: String,
        /// Another one.
        second: String,
    },
    /// A dependency does not export what is imported.
    #[error("dependency `{dependency}` does not export `{export}`, which the import `{import}` needs: {}", exports(.known))]
    NoExport {
        /// The dependency.
        dependency: String,
        /// The import.
        import: String,
        /// The export that is looked for.
        export: String,
        /// The exports that it has.
        known: Vec<String>,
    },
    /// What a dependency exports has another type than what is imported.
    #[error("what dependency `{dependency}` exports as `{export}` does not fit the import `{import}`: {problem}")]
    Type {
        /// The dependency.
        dependency: String,
        /// The import.
        import: String,
        /// The export.
        export: String,
        /// How they differ.
        problem: String,
    },
    /// A dependency imports something of the host that cannot be taken away from it.
    #[error(
        "dependency `{dependency}` imports `{interface}`, which cannot be denied to it: let it inherit everything with `inherit_configuration = true`, if it is trusted"
    )]
    Isolation {
        /// The dependency.
        dependency: String,
        /// The import.
        interface: String,
    },
    /// Middleware cannot be put in front of the component.
    #[error("middleware `{middleware}` cannot wrap the component: {problem}")]
    Middleware {
        /// The middleware.
        middleware: String,
        /// Why.
        problem: String,
    },
    /// The parts do not make a component together.
    #[error("the component and its dependencies do not make one component: {0}")]
    Encode(String),
}

impl ComposeError {
    /// The name of the [`Part`] that is to blame, if it is one.
    #[must_use]
    pub fn dependency(&self) -> Option<&str> {
        match self {
            Self::Dependency { dependency, .. }
            | Self::NoImport { dependency, .. }
            | Self::NoExport { dependency, .. }
            | Self::Type { dependency, .. }
            | Self::Isolation { dependency, .. }
            | Self::Middleware { middleware: dependency, .. }
            | Self::Clash { second: dependency, .. } => Some(dependency),
            Self::Module | Self::Component(_) | Self::Encode(_) => None,
        }
    }
}

fn imports(known: &[String]) -> String {
    listed("it imports", known)
}

fn exports(known: &[String]) -> String {
    listed("it exports", known)
}

fn listed(verb: &str, known: &[String]) -> String {
    if known.is_empty() { format!("{verb} nothing") } else { format!("{verb} `{}`", known.join("`, `")) }
}

/// Runs `compose`, in which libraries work on wasm that anybody may have made.
fn guarded(compose: impl FnOnce() -> Result<Vec<u8>, ComposeError>) -> Result<Vec<u8>, ComposeError> {
    catch_unwind(AssertUnwindSafe(compose))
        .unwrap_or_else(|_| Err(ComposeError::Encode("they use something that is not understood here".to_owned())))
}

/// `wasm` with its imports satisfied by `dependencies`.
///
/// # Errors
/// When a dependency is for no import, lacks the export, has it with another type, or cannot be kept from what it does not
/// inherit.
pub fn compose(wasm: &[u8], dependencies: &[Part<'_>]) -> Result<Vec<u8>, ComposeError> {
    guarded(|| {
        let wasm = componentize(wasm)?;
        let mut graph = CompositionGraph::new();
        let component = Instance::component(&mut graph, &wasm)?;
        let mut satisfied: Vec<(String, String)> = Vec::new();
        for part in dependencies {
            let matched = matching(&graph, component, part)?;
            let instance = Instance::dependency(&mut graph, part)?;
            for import in matched {
                if let Some((_, first)) = satisfied.iter().find(|(known, _)| *known == import) {
                    return Err(ComposeError::Clash { import, first: first.clone(), second: part.name.to_owned() });
                }
                satisfy(&mut graph, component, instance, &import, part)?;
                satisfied.push((import, part.name.to_owned()));
            }
        }
        let names: Vec<String> = graph.types()[component.world].exports.keys().cloned().collect();
        for name in names {
            component.export(&mut graph, &name)?;
        }
        encode(&graph)
    })
}

/// A component of the graph.
#[derive(Debug, Clone, Copy)]
struct Instance {
    world: WorldId,
    node: NodeId,
}

impl Instance {
    fn component(graph: &mut CompositionGraph, wasm: &[u8]) -> Result<Self, ComposeError> {
        Self::new(graph, "component", wasm).map_err(ComposeError::Component)
    }

    fn dependency(graph: &mut CompositionGraph, part: &Part<'_>) -> Result<Self, ComposeError> {
        if !is_component(part.wasm) {
            let problem = "it is a core module: build it as a component, such as with the target wasm32-wasip2";
            return Err(ComposeError::Dependency { dependency: part.name.to_owned(), problem: problem.to_owned() });
        }
        let wasm = isolate::isolate(part)?;
        Self::new(graph, part.name, &wasm)
            .map_err(|problem| ComposeError::Dependency { dependency: part.name.to_owned(), problem })
    }

    fn new(graph: &mut CompositionGraph, name: &str, wasm: &[u8]) -> Result<Self, String> {
        let package = Package::from_bytes(name, None, wasm, graph.types_mut()).map_err(|error| format!("{error:#}"))?;
        let world = package.ty();
        let id = graph.register_package(package).map_err(|error| error.to_string())?;
        Ok(Self { world, node: graph.instantiate(id) })
    }

    /// Makes an export of the instance one of the whole.
    fn export(self, graph: &mut CompositionGraph, name: &str) -> Result<(), ComposeError> {
        let encode = |error: String| ComposeError::Encode(error);
        let alias = graph.alias_instance_export(self.node, name).map_err(|error| encode(error.to_string()))?;
        graph.export(alias, name).map_err(|error| encode(error.to_string()))
    }
}

/// The imports of `component` that `part` is for.
fn matching(graph: &CompositionGraph, component: Instance, part: &Part<'_>) -> Result<Vec<String>, ComposeError> {
    let imports = &graph.types()[component.world].imports;
    let is_meant = |import: &&String| part.imports.is_some_and(|name| name.matches(import));
    let matched: Vec<String> = imports.keys().filter(is_meant).cloned().collect();
    if matched.is_empty() {
        let known = imports.keys().filter(|import| !isolate::is_host(import)).cloned().collect();
        return Err(ComposeError::NoImport { dependency: part.name.to_owned(), known });
    }
    Ok(matched)
}

/// Gives `component` an export of `dependency` for `import`.
fn satisfy(
    graph: &mut CompositionGraph,
    component: Instance,
    dependency: Instance,
    import: &str,
    part: &Part<'_>,
) -> Result<(), ComposeError> {
    let wanted = part.export.unwrap_or(import);
    let types = graph.types();
    let exports = &types[dependency.world].exports;
    let no_export = || ComposeError::NoExport {
        dependency: part.name.to_owned(),
        import: import.to_owned(),
        export: wanted.to_owned(),
        known: exports.keys().cloned().collect(),
    };
    let (export, export_type) = find_export(exports.iter(), wanted).ok_or_else(no_export)?;
    let mismatch = |problem: String| ComposeError::Type {
        dependency: part.name.to_owned(),
        import: import.to_owned(),
        export: export.clone(),
        problem,
    };
    if let Some(import_type) = types[component.world].imports.get(import) {
        let mut cache = std::collections::HashSet::default();
        let fits = SubtypeChecker::new(&mut cache).is_subtype(*export_type, types, *import_type, types);
        fits.map_err(|error| mismatch(format!("{error:#}")))?;
    }
    let export = export.clone();
    let encode = |error: String| ComposeError::Encode(error);
    let alias = graph.alias_instance_export(dependency.node, &export).map_err(|error| encode(error.to_string()))?;
    graph.set_instantiation_argument(component.node, import, alias).map_err(|error| encode(error.to_string()))
}

/// The export that is called `wanted`, or the only one that is a compatible version of it.
fn find_export<'e>(
    exports: impl Iterator<Item = (&'e String, &'e ItemKind)> + Clone,
    wanted: &str,
) -> Option<(&'e String, &'e ItemKind)> {
    let unversioned = wanted.parse::<DependencyName>().ok().filter(|_| wanted.contains('/') && !wanted.contains('@'));
    let compatible = |name: &str| {
        are_semver_compatible(name, wanted) || unversioned.as_ref().is_some_and(|wanted| wanted.matches(name))
    };
    exports.clone().find(|(name, _)| *name == wanted).or_else(|| {
        let mut candidates = exports.filter(|(name, _)| compatible(name));
        let first = candidates.next()?;
        candidates.next().is_none().then_some(first)
    })
}

fn encode(graph: &CompositionGraph) -> Result<Vec<u8>, ComposeError> {
    graph.encode(EncodeOptions::default()).map_err(|error| ComposeError::Encode(chain(&error)))
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Whether `wasm` starts as components do: with layer 1 in the second half of its version.
fn is_component(wasm: &[u8]) -> bool {
    wasm.get(..8) == Some(b"\0asm\x0d\0\x01\0")
}

/// `wasm` as a component: core modules of SDKs that describe their component become one.
fn componentize(wasm: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, ComposeError> {
    use wasi_preview1_component_adapter_provider::{
        WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    if is_component(wasm) {
        return Ok(wasm.into());
    }
    let described = wit_component::metadata::decode(wasm).is_ok_and(|(stripped, _)| stripped.is_some());
    if !described {
        return Err(ComposeError::Module);
    }
    wit_component::ComponentEncoder::default()
        .module(wasm)
        .and_then(|encoder| {
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
        })
        .and_then(|mut encoder| encoder.encode())
        .map(Into::into)
        .map_err(|error| ComposeError::Component(format!("{error:#}")))
}
