//! Looks at wasm before it is compiled: what it is, and whether it must be made a component first.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

use super::compiler::CompileError;

/// In which form a guest's wasm is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variant {
    /// As it was published.
    AsIs,
    /// Made a component, if it is a core module that carries a component type: what `wasm32-wasip1` builds of
    /// today's SDKs leave.
    Componentized,
}

impl Variant {
    /// A part of a file name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AsIs => "as-is",
            Self::Componentized => "component",
        }
    }
}

/// Whether `wasm` starts like a component.
pub(super) fn is_component(wasm: &[u8]) -> bool {
    Parser::is_component(wasm)
}

/// Whether `wasm` is a core module with a `component-type` section (`wit-bindgen` 0.5 and later leave one).
pub(super) fn has_component_type(wasm: &[u8]) -> bool {
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::Version { encoding: Encoding::Component, .. }) | Err(_) => return false,
            Ok(Payload::CustomSection(section)) if section.name().starts_with("component-type") => return true,
            Ok(_) => {}
        }
    }
    false
}

/// Makes a component of a core module with a component type; its preview 1 imports go through wasmtime's adapter.
pub(super) fn componentize(wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
    ComponentEncoder::default()
        .validate(false)
        .module(wasm)
        .and_then(|encoder| {
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
        })
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| CompileError::Componentize(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_core_modules_with_a_component_type_are_made_components() {
        assert!(!has_component_type(&wat::parse_str("(module)").unwrap()));
        assert!(!has_component_type(&wat::parse_str("(component)").unwrap()));
        assert!(!has_component_type(b"not wasm"));
        let marked = r#"(module (@custom "component-type:wit-bindgen:0.24" "x"))"#;
        assert!(has_component_type(&wat::parse_str(marked).unwrap()));
    }

    #[test]
    fn a_broken_component_type_is_an_error_not_a_panic() {
        let marked = r#"(module (@custom "component-type:x" "not a component type"))"#;
        let error = componentize(&wat::parse_str(marked).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("its core module cannot be made a component"), "{error}");
    }
}
