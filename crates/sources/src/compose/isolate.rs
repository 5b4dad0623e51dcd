//! Takes from a dependency what it does not inherit.
//!
//! Only the interfaces that *give* something are denied: those that ask for a connection, a store, a file or a value.
//! What works on something that has been given (`wasi:filesystem/types`, `wasi:sockets/tcp`) is harmless without them.

use manifest::spin_toml::{Capability, Inherit};
use wac_graph::{CompositionGraph, types::Package};
use wit_parser::{Resolve, WorldKey, decoding::DecodedWasm};

use super::{ComposeError, Part, adapter, encode};

/// What an interface of the host is to a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Nothing comes from it.
    Harmless,
    /// It gives what the manifest grants.
    Gives(Capability),
    /// It is not known here.
    Unknown,
    /// It is none of the host's.
    NotHost,
}

/// Interfaces that give something, without versions. The last part `*` stands for all of a package.
const GIVING: [(&str, Capability); 27] = [
    ("fermyon:spin/llm", Capability::AiModels),
    ("spin:llm/*", Capability::AiModels),
    ("wasi:http/outgoing-handler", Capability::AllowedOutboundHosts),
    ("wasi:http/client", Capability::AllowedOutboundHosts),
    ("wasi:sockets/ip-name-lookup", Capability::AllowedOutboundHosts),
    ("wasi:sockets/tcp-create-socket", Capability::AllowedOutboundHosts),
    ("wasi:sockets/udp-create-socket", Capability::AllowedOutboundHosts),
    ("fermyon:spin/http", Capability::AllowedOutboundHosts),
    ("fermyon:spin/mqtt", Capability::AllowedOutboundHosts),
    ("fermyon:spin/mysql", Capability::AllowedOutboundHosts),
    ("fermyon:spin/postgres", Capability::AllowedOutboundHosts),
    ("fermyon:spin/redis", Capability::AllowedOutboundHosts),
    ("spin:mqtt/*", Capability::AllowedOutboundHosts),
    ("spin:mysql/*", Capability::AllowedOutboundHosts),
    ("spin:postgres/*", Capability::AllowedOutboundHosts),
    ("spin:redis/*", Capability::AllowedOutboundHosts),
    ("wasi:cli/environment", Capability::Environment),
    ("wasi:filesystem/preopens", Capability::Files),
    ("fermyon:spin/key-value", Capability::KeyValueStores),
    ("spin:key-value/*", Capability::KeyValueStores),
    ("wasi:keyvalue/*", Capability::KeyValueStores),
    ("fermyon:spin/sqlite", Capability::SqliteDatabases),
    ("spin:sqlite/*", Capability::SqliteDatabases),
    ("fermyon:spin/config", Capability::Variables),
    ("fermyon:spin/variables", Capability::Variables),
    ("spin:variables/*", Capability::Variables),
    ("wasi:config/*", Capability::Variables),
];

/// Interfaces that give nothing.
const HARMLESS: [&str; 13] = [
    "wasi:io/*",
    "wasi:clocks/*",
    "wasi:random/*",
    "wasi:cli/*",
    "wasi:filesystem/types",
    "wasi:http/types",
    "wasi:http/handler",
    "wasi:http/incoming-handler",
    "wasi:logging/*",
    "wasi:otel/*",
    "fermyon:spin/rdbms-types",
    "fermyon:spin/redis-types",
    "fermyon:spin/http-types",
];

/// Who provides what a runtime does.
const HOSTS: [&str; 3] = ["wasi:", "spin:", "fermyon:"];

/// Whether a runtime may be expected to provide the import.
pub(super) fn is_host(import: &str) -> bool {
    HOSTS.iter().any(|prefix| import.starts_with(prefix))
}

fn access(import: &str) -> Access {
    if !is_host(import) {
        return Access::NotHost;
    }
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let is = |pattern: &str| match pattern.strip_suffix('*') {
        Some(package) => name.starts_with(package),
        None => name == pattern,
    };
    if let Some((_, capability)) = GIVING.iter().find(|(pattern, _)| is(pattern)) {
        return Access::Gives(*capability);
    }
    if name.starts_with("wasi:sockets/") {
        // Since 0.3 sockets are made by their own type; before, it needs one of the interfaces above.
        let makes = name == "wasi:sockets/types" && !version.starts_with("0.2");
        return if makes { Access::Gives(Capability::AllowedOutboundHosts) } else { Access::Harmless };
    }
    if HARMLESS.iter().any(|pattern| is(pattern)) { Access::Harmless } else { Access::Unknown }
}

/// The wasm of `part`, with its imports answered that it must not have.
///
/// # Errors
/// When it cannot be read, or when it imports something that is not known here.
pub(super) fn isolate(part: &Part<'_>) -> Result<Vec<u8>, ComposeError> {
    if *part.inherit == Inherit::All {
        return Ok(part.wasm.to_vec());
    }
    let unreadable = |problem: String| ComposeError::Dependency { dependency: part.name.to_owned(), problem };
    let decoded = wit_component::decode(part.wasm).map_err(|error| unreadable(format!("{error:#}")))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(unreadable("it is the text of an interface, without code".to_owned()));
    };
    let imports = resolve.worlds.get(world).map(|world| world.imports.keys().cloned().collect::<Vec<_>>());
    let mut denied = Vec::new();
    for interface in imports.unwrap_or_default().iter().filter_map(|key| interface_name(&resolve, key)) {
        match access(&interface) {
            Access::Gives(capability) if !part.inherit.has(capability) => denied.push(interface),
            Access::Unknown => {
                return Err(ComposeError::Isolation { dependency: part.name.to_owned(), interface });
            }
            Access::Gives(_) | Access::Harmless | Access::NotHost => {}
        }
    }
    if denied.is_empty() {
        return Ok(part.wasm.to_vec());
    }
    let adapter = adapter::denying(resolve, &denied)
        .map_err(|problem| unreadable(format!("it cannot be isolated: {problem}")))?;
    plug(part, &adapter, &denied)
}

fn interface_name(resolve: &Resolve, key: &WorldKey) -> Option<String> {
    match key {
        WorldKey::Interface(id) => resolve.id_of(*id),
        WorldKey::Name(_) => None,
    }
}

/// Puts `adapter` behind the imports `denied` of `part`.
fn plug(part: &Part<'_>, adapter: &[u8], denied: &[String]) -> Result<Vec<u8>, ComposeError> {
    let unreadable = |problem: String| ComposeError::Dependency { dependency: part.name.to_owned(), problem };
    let mut graph = CompositionGraph::new();
    let mut add = |name: &str, wasm: &[u8]| {
        let package = Package::from_bytes(name, None, wasm, graph.types_mut()).map_err(|error| format!("{error:#}"))?;
        let world = package.ty();
        let id = graph.register_package(package).map_err(|error| error.to_string())?;
        Ok::<_, String>((world, graph.instantiate(id)))
    };
    let (world, dependency) = add("dependency", part.wasm).map_err(unreadable)?;
    let (_, denying) = add("denying", adapter).map_err(unreadable)?;
    for interface in denied {
        let alias = graph.alias_instance_export(denying, interface).map_err(|error| unreadable(error.to_string()))?;
        let set = graph.set_instantiation_argument(dependency, interface, alias);
        set.map_err(|error| unreadable(error.to_string()))?;
    }
    let exports: Vec<String> = graph.types()[world].exports.keys().cloned().collect();
    for name in exports {
        let alias = graph.alias_instance_export(dependency, &name).map_err(|error| unreadable(error.to_string()))?;
        graph.export(alias, &name).map_err(|error| unreadable(error.to_string()))?;
    }
    encode(&graph)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_something_is_told_from_what_works_on_it() {
        assert_eq!(access("wasi:cli/environment@0.2.6"), Access::Gives(Capability::Environment));
        assert_eq!(access("wasi:cli/stdout@0.2.6"), Access::Harmless);
        assert_eq!(access("fermyon:spin/key-value"), Access::Gives(Capability::KeyValueStores));
        assert_eq!(access("wasi:keyvalue/atomics@0.2.0-draft2"), Access::Gives(Capability::KeyValueStores));
        assert_eq!(access("wasi:sockets/tcp@0.2.0"), Access::Harmless);
        assert_eq!(access("wasi:sockets/types@0.3.0"), Access::Gives(Capability::AllowedOutboundHosts));
        assert_eq!(access("wasi:nn/inference@0.2.0"), Access::Unknown);
        assert_eq!(access("docs:adder/add@0.1.0"), Access::NotHost);
    }
}
