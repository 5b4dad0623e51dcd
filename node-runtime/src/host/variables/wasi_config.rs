//! `wasi:config/store@0.2.0-draft-2024-09-27`: `get: func(key: string) -> result<option<string>, error>` and
//! `get-all: func() -> result<list<tuple<string, string>>, error>`.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Linker, Lower, WasmStr};

use super::{Absent, RuntimeContext};

/// The interface's name.
pub(super) const INTERFACE: &str = "wasi:config/store@0.2.0-draft-2024-09-27";

/// Its `error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    /// Whoever has the values refuses.
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
    interface.func_wrap("get", |store, (key,): (WasmStr,)| {
        let value: Found = match store.data().variables().get(&key.to_str(&store)?) {
            Ok(value) => Ok(Some(value)),
            Err(Absent::Undefined(_)) => Ok(None),
            Err(wrong @ Absent::Name(..)) => Err(Error::Upstream(wrong.to_string())),
        };
        Ok((value,))
    })?;
    interface.func_wrap("get-all", |store, (): ()| {
        let all = store.data().variables().all();
        let all: All = Ok(all.map(|(name, value)| (name.to_owned(), Arc::clone(value))).collect());
        Ok((all,))
    })
}
