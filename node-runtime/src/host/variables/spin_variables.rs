//! `fermyon:spin/variables@2.0.0`: `get: func(name: string) -> result<string, error>`, and the same as an `async func` of
//! `spin:variables/variables@3.0.0`.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Linker, Lower};

use super::{Absent, RuntimeContext};

/// The interface's name.
pub(super) const INTERFACE: &str = "fermyon:spin/variables@2.0.0";
/// The name of the one that guests call without waiting.
pub(super) const ASYNC_INTERFACE: &str = "spin:variables/variables@3.0.0";

/// Their `error`.
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
            Absent::Provider { .. } => Self::Provider(message),
        }
    }
}

/// Defines them.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.instance(INTERFACE)?.func_wrap_async("get", |store, (name,): (String,)| {
        let read = store.data().read_variable();
        Box::new(async move {
            let value: Result<Arc<str>, Error> = read.get(&name).await.map_err(Error::from);
            Ok((value,))
        })
    })?;
    linker.instance(ASYNC_INTERFACE)?.func_wrap_concurrent("get", |accessor, (name,): (String,)| {
        Box::pin(async move {
            let read = accessor.with(|mut access| access.data_mut().read_variable());
            let value: Result<Arc<str>, Error> = read.get(&name).await.map_err(Error::from);
            Ok((value,))
        })
    })
}
