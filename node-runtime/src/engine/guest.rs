//! Looks at wasm before it is compiled: what it is, and whether it must be made a component first.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Encoding, KnownCustom, Parser, Payload};
use wit_component::ComponentEncoder;

use super::{compiler::CompileError, drafts, outline::Outline};

/// How every wasm file begins.
pub(super) const MAGIC: &[u8] = b"\0asm";

/// In which form a guest's wasm is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Variant {
    /// As it was published.
    AsIs,
    /// Made a component, if it is a core module that carries a component type: what `wasm32-wasip1` builds of
    /// today's SDKs leave.
    Componentized,
    /// The same for a program, which is then called by `wasi:cli/run`.
    Program,
}

impl Variant {
    /// A part of a file name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AsIs => "as-is",
            Self::Componentized => "component",
            Self::Program => "program",
        }
    }

    /// What stands between preview 1 and a component of this form made of `wasm`; `None` if it is made no component.
    fn adapter(self, wasm: &[u8]) -> Option<&'static [u8]> {
        match self {
            Self::AsIs => None,
            Self::Program if starts(wasm) => Some(WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER),
            // A program without `_start` exports `wasi:cli/run` by itself.
            Self::Componentized | Self::Program => Some(WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER),
        }
    }

    /// The bytes to compile for `wasm`.
    pub(super) fn prepare(self, wasm: Vec<u8>) -> Result<Vec<u8>, CompileError> {
        let mut wasm = match self.adapter(&wasm) {
            Some(adapter) if has_component_type(&wasm) => componentize(&wasm, adapter)?,
            _ => wasm,
        };
        if is_component(&wasm) {
            drafts::number(&mut wasm);
        }
        Ok(wasm)
    }
}

/// Whether `wasm` starts like a component.
pub(super) fn is_component(wasm: &[u8]) -> bool {
    Parser::is_component(wasm)
}

/// Whether `wasm` is a core module with a `component-type` section (`wit-bindgen` 0.5 and later leave one).
fn has_component_type(wasm: &[u8]) -> bool {
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::Version { encoding: Encoding::Component, .. }) | Err(_) => return false,
            Ok(Payload::CustomSection(section)) if section.name().starts_with("component-type") => return true,
            Ok(_) => {}
        }
    }
    false
}

/// Whether a core module is begun by `_start`, which the command adapter makes `wasi:cli/run`.
fn starts(wasm: &[u8]) -> bool {
    Outline::of(wasm).is_some_and(|outline| outline.functions().any(|name| name == "_start"))
}

/// The version of Rust's compiler, as (1, 61), that the `producers` section of a module names.
pub(super) fn rustc_version(wasm: &[u8]) -> Option<(u32, u32)> {
    for payload in Parser::new(0).parse_all(wasm) {
        let Payload::CustomSection(section) = payload.ok()? else { continue };
        let KnownCustom::Producers(fields) = section.as_known() else { continue };
        for field in fields {
            for value in field.ok()?.values {
                let value = value.ok()?;
                if value.name == "rustc" {
                    let mut numbers = value.version.split('.').map(|number| number.parse().ok());
                    return Some((numbers.next()??, numbers.next()??));
                }
            }
        }
    }
    None
}

/// Makes a component of a core module with a component type; its preview 1 imports go through wasmtime's `adapter`.
fn componentize(wasm: &[u8], adapter: &[u8]) -> Result<Vec<u8>, CompileError> {
    ComponentEncoder::default()
        .validate(false)
        .module(wasm)
        .and_then(|encoder| encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| CompileError::Componentize(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn the_compiler_is_that_of_the_producers_section() {
        // One field, `processed-by`, with one value.
        let producers = |name: &str, version: &str| {
            let part = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            let section = [&[1][..], &part("processed-by"), &[1], &part(name), &part(version)].concat();
            let text: String = section.iter().map(|byte| format!("\\{byte:02x}")).collect();
            wat::parse_str(format!(r#"(module (@custom "producers" "{text}"))"#)).unwrap()
        };
        assert_eq!(rustc_version(&producers("rustc", "1.61.0 (fe5b13d68 2022-05-18)")), Some((1, 61)));
        assert_eq!(rustc_version(&producers("clang", "14.0")), None);
        assert_eq!(rustc_version(&producers("rustc", "nightly")), None);
        assert_eq!(rustc_version(&wat::parse_str(r#"(module (@custom "producers" "\ff\ff"))"#).unwrap()), None);
        assert_eq!(rustc_version(b"not wasm"), None);
    }

    #[test]
    fn a_broken_component_type_is_an_error_not_a_panic() {
        let marked = r#"(module (@custom "component-type:x" "not a component type"))"#;
        let error = Variant::Componentized.prepare(wat::parse_str(marked).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("its core module cannot be made a component"), "{error}");
    }

    /// A core module with the component type of a world `w`.
    fn with_component_type(wit: &str, module: &str) -> Vec<u8> {
        let mut resolve = wit_parser::Resolve::default();
        let package = resolve.push_str("w.wit", wit).unwrap();
        let world = resolve.select_world(&[package], Some("w")).unwrap();
        let mut wasm = wat::parse_str(module).unwrap();
        let encoding = wit_component::StringEncoding::UTF8;
        wit_component::embed_component_metadata(&mut wasm, &resolve, world, encoding).unwrap();
        wasm
    }

    #[test]
    fn a_program_with_a_component_type_becomes_a_component_that_is_run() {
        let started = with_component_type(
            "package a:b; interface c { d: func(); } world w { import c; }",
            r#"(module (import "a:b/c" "d" (func $d)) (memory (export "memory") 1) (func (export "_start") (call $d)))"#,
        );
        // What `wasm32-wasip1` makes of a library that exports the interface by itself.
        let exported = with_component_type(
            "package wasi:cli@0.2.6; interface run { run: func() -> result; } world w { export run; }",
            r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))) (memory (export "memory") 1)
                (func (export "wasi:cli/run@0.2.6#run") (result i32) (i32.const 0)))"#,
        );
        let without = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
        assert_eq!(Variant::Program.prepare(without.clone()).unwrap(), without);
        for wasm in [started, exported] {
            assert_eq!(Variant::AsIs.prepare(wasm.clone()).unwrap(), wasm);
            let component = Variant::Program.prepare(wasm).unwrap();
            assert!(is_component(&component));
            let engine = wasmtime::Engine::default();
            let component = wasmtime::component::Component::from_binary(&engine, &component).unwrap();
            let exports: Vec<String> =
                component.component_type().exports(&engine).map(|(name, _)| name.to_owned()).collect();
            assert!(matches!(&exports[..], [run] if run.starts_with("wasi:cli/run@0.2.")), "{exports:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_as_wasm_is_looked_at_without_a_panic(
            garbage in prop::collection::vec(any::<u8>(), 0..200),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let fine = wat::parse_str(
                r#"(component
                    (import "wasi:io/poll@0.2.0-rc-2023-10-18" (instance (export "f" (func))))
                    (core module (memory 1) (@custom "component-type:x" "y"))
                    (instance $i) (export "wasi:http/incoming-handler@0.2.0-rc-2023-10-18" (instance $i)))"#,
            )
            .unwrap();
            let mut damaged = fine.clone();
            for (at, byte) in damage {
                let at = at.index(damaged.len());
                damaged[at] = byte;
            }
            damaged.truncate(cut.index(fine.len()) + 1);
            for mut wasm in [garbage.clone(), [b"\0asm\x01\0\0\0".as_slice(), &garbage].concat(), damaged] {
                let (_component, _version) = (is_component(&wasm), rustc_version(&wasm));
                drafts::number(&mut wasm);
                for variant in [Variant::AsIs, Variant::Componentized, Variant::Program] {
                    let _refused = variant.prepare(wasm.clone());
                }
            }
        }
    }
}
