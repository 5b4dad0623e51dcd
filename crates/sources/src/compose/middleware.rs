//! Middleware: components that import the handler of HTTP requests and export it too.

use wac_graph::{CompositionGraph, types::are_semver_compatible};

use super::{ComposeError, Instance, Part, componentize, encode, guarded, satisfy};

/// The interfaces that handle HTTP requests, before their versions.
const HANDLERS: [&str; 2] = ["wasi:http/incoming-handler@", "wasi:http/handler@"];

/// `wasm` behind `middleware`, of which the first is the outermost: it gets a request before all others.
///
/// # Errors
/// When the component or a middleware does not handle HTTP requests, or not by the same interface.
pub fn wrap(wasm: &[u8], middleware: &[Part<'_>]) -> Result<Vec<u8>, ComposeError> {
    guarded(|| {
        let wasm = componentize(wasm)?;
        let mut graph = CompositionGraph::new();
        let mut inner = Instance::component(&mut graph, &wasm)?;
        let mut handler = exported_handler(&graph, inner);
        for part in middleware.iter().rev() {
            let refused = |problem: String| ComposeError::Middleware { middleware: part.name.to_owned(), problem };
            let Some(wrapped) = &handler else {
                return Err(refused(format!("what it is in front of exports none of {}", names())));
            };
            let outer = Instance::dependency(&mut graph, part)?;
            let imports = graph.types()[outer.world].imports.keys();
            let Some(import) = imports
                .filter(|import| is_handler(import))
                .find(|import| are_semver_compatible(import, wrapped))
                .cloned()
            else {
                return Err(refused(format!(
                    "it does not import `{wrapped}`, which is what it is in front of exports"
                )));
            };
            let part = Part { export: Some(wrapped), ..*part };
            satisfy(&mut graph, outer, inner, &import, &part)?;
            inner = outer;
            handler = exported_handler(&graph, inner);
            if handler.is_none() {
                return Err(refused(format!("it exports none of {}", names())));
            }
        }
        let exported = handler.ok_or_else(|| ComposeError::Encode("nothing handles requests".to_owned()))?;
        inner.export(&mut graph, &exported)?;
        encode(&graph)
    })
}

fn is_handler(name: &str) -> bool {
    HANDLERS.iter().any(|handler| name.starts_with(handler))
}

fn exported_handler(graph: &CompositionGraph, instance: Instance) -> Option<String> {
    graph.types()[instance.world].exports.keys().find(|export| is_handler(export)).cloned()
}

fn names() -> String {
    HANDLERS.map(|handler| format!("`{}`", handler.trim_end_matches('@'))).join(" and ")
}
