//! `wasi:config/store@0.2.0-draft-2024-09-27`: `get: func(key: string) -> result<option<string>, error>` and
//! `get-all: func() -> result<list<tuple<string, string>>, error>`.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Linker, Lower};

use super::{Absent, RuntimeContext};

/// The interface's name.
pub(super) const INTERFACE: &str = "wasi:config/store@0.2.0-draft-2024-09-27";

/// Its `error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    /// Whoever has the values fails.
    #[component(name = "upstream")]
    Upstream(String),
    /// They cannot be reached.
    #[component(name = "io")]
    #[expect(dead_code, reason = "a case of the interface, which must be whole")]
    Io(String),
}

/// A value, or that there is none.
type Found = Result<Option<Arc<str>>, Error>;
/// All names and values.
type All = Result<Vec<(String, Arc<str>)>, Error>;

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(INTERFACE)?;
    interface.func_wrap_async("get", |store, (key,): (String,)| {
        let read = store.data().read_variable();
        Box::new(async move {
            let value: Found = match read.get(&key).await {
                Ok(value) => Ok(Some(value)),
                // A key that no variable can have is one that there is not.
                Err(Absent::Undefined(_) | Absent::Name(..)) => Ok(None),
                Err(failed @ Absent::Provider { .. }) => Err(Error::Upstream(failed.to_string())),
            };
            Ok((value,))
        })
    })?;
    interface.func_wrap_async("get-all", |store, (): ()| {
        let read = store.data().read_variable();
        Box::new(async move {
            let all: All = read.all().await.map_err(|failed| Error::Upstream(failed.to_string()));
            Ok((all,))
        })
    })
}
