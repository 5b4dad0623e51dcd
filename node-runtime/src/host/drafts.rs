//! What the drafts of WASI 0.2 had and the release has not, or has in another form.
//!
//! A component of a draft is given the release's interfaces; what is different in the draft is defined here in its place,
//! by what the release has. Two drafts are supported: 2023-10-18 and 2023-11-10, those that Spin's releases ran.
//!
//! Absent on purpose: sockets of UDP as in October 2023, of which the release has no equivalent: they answer
//! `not-supported`.

mod clocks;
mod filesystem;
mod http_november;
mod http_october;
mod io;
mod sockets;

use wasmtime::component::{Linker, LinkerInstance};

use super::RuntimeContext;
use crate::engine::Draft;

/// The version under which the linker has the interfaces of WASI 0.2.
pub(crate) const RELEASE: &str = "0.2.12";

type Instance<'a> = LinkerInstance<'a, RuntimeContext>;

/// Makes `interface` (without version) in `linker` what it was in `draft`.
pub(crate) fn link(linker: &mut Linker<RuntimeContext>, draft: Draft, interface: &str) -> wasmtime::Result<()> {
    let link = match draft {
        Draft::October2023 => link_october,
        Draft::November2023 => link_november,
        // The same in all but its name.
        Draft::March2026 => return Ok(()),
    };
    linker.allow_shadowing(true);
    link(&mut linker.instance(&format!("{interface}@{RELEASE}"))?, interface)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_october(instance: &mut Instance<'_>, interface: &str) -> wasmtime::Result<()> {
    match interface {
        "wasi:io/poll" => io::link_poll(instance),
        "wasi:io/streams" => io::link_streams(instance),
        "wasi:clocks/monotonic-clock" => clocks::link_monotonic(instance),
        "wasi:clocks/timezone" => clocks::link_timezone(instance),
        "wasi:filesystem/types" => filesystem::link(instance),
        "wasi:sockets/ip-name-lookup" => sockets::link_lookup(instance),
        "wasi:sockets/tcp" => {
            sockets::link_ipv6_only(instance, "tcp")?;
            sockets::link_tcp(instance)
        }
        "wasi:sockets/udp" => {
            sockets::link_ipv6_only(instance, "udp")?;
            sockets::link_udp(instance)
        }
        "wasi:http/types" => http_october::link_types(instance),
        "wasi:http/outgoing-handler" => http_october::link_handler(instance),
        _ => Ok(()),
    }
}

fn link_november(instance: &mut Instance<'_>, interface: &str) -> wasmtime::Result<()> {
    match interface {
        "wasi:sockets/tcp" => sockets::link_ipv6_only(instance, "tcp"),
        "wasi:sockets/udp" => sockets::link_ipv6_only(instance, "udp"),
        "wasi:http/types" => http_november::link_types(instance),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use wasmtime::component::Component;
    use wit_component::{ComponentEncoder, StringEncoding};
    use wit_parser::{
        Resolve, WorldItem,
        abi::{AbiVariant, WasmSignature, WasmType},
    };

    use super::*;

    /// A component that imports every function of the world in `wit`.
    fn importer(wit: &str) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("everything.wit", wit).unwrap();
        let world = resolve.select_world(&[package], Some("everything")).unwrap();
        let mut imports = String::new();
        let types = |types: &[WasmType]| {
            types.iter().fold(String::new(), |all, ty| match ty {
                WasmType::I64 | WasmType::PointerOrI64 => all + " i64",
                WasmType::F32 => all + " f32",
                WasmType::F64 => all + " f64",
                WasmType::I32 | WasmType::Pointer | WasmType::Length => all + " i32",
            })
        };
        let signature = |WasmSignature { params, results, .. }: &WasmSignature| {
            format!("(param{}) (result{})", types(params), types(results))
        };
        for (key, item) in &resolve.worlds[world].imports {
            let WorldItem::Interface { id, .. } = item else { continue };
            let name = resolve.name_world_key(key);
            for function in resolve.interfaces[*id].functions.values() {
                let core = signature(&resolve.wasm_signature(AbiVariant::GuestImport, function));
                writeln!(imports, r#"(import "{name}" "{}" (func {core}))"#, function.name).unwrap();
            }
        }
        let handler = resolve.worlds[world].exports.keys().map(|key| resolve.name_world_key(key)).next().unwrap();
        let mut core = wat::parse_str(format!(
            r#"(module {imports} (memory (export "memory") 1)
                (func (export "{handler}#handle") (param i32 i32))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable))"#
        ))
        .unwrap();
        wit_component::embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default().module(&core).unwrap().encode().unwrap()
    }

    #[test]
    fn every_function_of_a_draft_is_there_with_the_type_that_it_had() {
        let engine = wasmtime::Engine::default();
        let released = crate::host::component_linker(&engine).unwrap();
        for (wit, draft) in [
            (include_str!("../../tests/guests/wit/wasi-0.2.0-rc-2023-10-18.wit"), Draft::October2023),
            (include_str!("../../tests/guests/wit/wasi-0.2.0-rc-2023-11-10.wit"), Draft::November2023),
        ] {
            let mut wasm = importer(wit);
            crate::engine::number_drafts(&mut wasm);
            let component = Component::from_binary(&engine, &wasm).unwrap();
            let mut linker = released.clone();
            let mut functions = 0;
            for (name, item) in component.component_type().imports(&engine) {
                assert_eq!(Draft::of(name), Some(draft), "{name}");
                link(&mut linker, draft, name.split_once('@').unwrap().0).unwrap();
                let wasmtime::component::types::ComponentItem::ComponentInstance(instance) = item.ty else { panic!() };
                functions += instance.exports(&engine).len();
            }
            assert!(functions > 150, "{functions}");
            linker.instantiate_pre(&component).unwrap();
        }
    }
}
