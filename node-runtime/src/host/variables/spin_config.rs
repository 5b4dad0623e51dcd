//! `fermyon:spin/config`: `get-config: func(key: string) -> result<string, error>`.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Linker, Lower, WasmStr};

use super::{Absent, RuntimeContext};

/// The interface's name.
pub(super) const INTERFACE: &str = "fermyon:spin/config";

/// Its `error`. It has no case of its own for a key that is not defined: Spin says `other` then.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    /// A provider failed.
    #[component(name = "provider")]
    #[expect(dead_code, reason = "a case of the interface, which must be whole")]
    Provider(String),
    /// The key cannot be one.
    #[component(name = "invalid-key")]
    InvalidKey(String),
    /// The schema is wrong.
    #[component(name = "invalid-schema")]
    #[expect(dead_code, reason = "a case of the interface, which must be whole")]
    InvalidSchema(String),
    /// Anything else.
    #[component(name = "other")]
    Other(String),
}

impl From<Absent> for Error {
    fn from(absent: Absent) -> Self {
        let message = absent.to_string();
        match absent {
            Absent::Name(..) => Self::InvalidKey(message),
            Absent::Undefined(_) => Self::Other(message),
        }
    }
}

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.instance(INTERFACE)?.func_wrap("get-config", |store, (key,): (WasmStr,)| {
        let value: Result<Arc<str>, Absent> = store.data().variables().get(&key.to_str(&store)?);
        Ok((value.map_err(Error::from),))
    })
}
