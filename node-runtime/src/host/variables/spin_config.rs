//! `fermyon:spin/config`: `get-config: func(key: string) -> result<string, error>`.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Linker, Lower};

use super::{Absent, RuntimeContext};

/// The interface's name.
pub(super) const INTERFACE: &str = "fermyon:spin/config";

/// Its `error`. It has no case of its own for a key that is not defined: Spin says `provider` then, and `other` for a
/// provider that failed.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    /// There is no such key.
    #[component(name = "provider")]
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
            Absent::Undefined(_) => Self::Provider(message),
            Absent::Provider { .. } => Self::Other(message),
        }
    }
}

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.instance(INTERFACE)?.func_wrap_async("get-config", |store, (key,): (String,)| {
        let read = store.data().read_variable();
        Box::new(async move {
            let value: Result<Arc<str>, Error> = read.get(&key).await.map_err(Error::from);
            Ok((value,))
        })
    })
}
