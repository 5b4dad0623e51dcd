//! `fermyon:spin/variables@2.0.0`: `get: func(name: string) -> result<string, error>`.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Linker, Lower, WasmStr};

use super::{Absent, RuntimeContext};

/// The interface's name.
pub(super) const INTERFACE: &str = "fermyon:spin/variables@2.0.0";

/// Its `error`. The other cases are about providers, which this host does not have.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    /// The name cannot be one.
    #[component(name = "invalid-name")]
    InvalidName(String),
    /// There is no such variable.
    #[component(name = "undefined")]
    Undefined(String),
    /// A provider failed.
    #[component(name = "provider")]
    #[expect(dead_code, reason = "a case of the interface, which must be whole")]
    Provider(String),
    /// Anything else.
    #[component(name = "other")]
    #[expect(dead_code, reason = "a case of the interface, which must be whole")]
    Other(String),
}

impl From<Absent> for Error {
    fn from(absent: Absent) -> Self {
        let message = absent.to_string();
        match absent {
            Absent::Name(..) => Self::InvalidName(message),
            Absent::Undefined(_) => Self::Undefined(message),
        }
    }
}

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.instance(INTERFACE)?.func_wrap("get", |store, (name,): (WasmStr,)| {
        let value: Result<Arc<str>, Absent> = store.data().variables().get(&name.to_str(&store)?);
        Ok((value.map_err(Error::from),))
    })
}
