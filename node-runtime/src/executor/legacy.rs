//! Guests with the Spin HTTP ABI of 2022 and 2023: core modules that export `handle-http-request`.
//!
//! The host writes the request into memory that the guest allocates (`canonical_abi_realloc`), and reads the result from
//! where it says. The instance is thrown away, so nothing is ever freed. `_start` is not called: modules that have one
//! initialise themselves. `_initialize` is, by the rules of WASI for modules that are no programs: nothing of such a module
//! may be called before.

use bytes::Bytes;
use http::{Response, request::Parts};
use wasmtime::{Extern, ExternType, Instance, InstancePre, Linker, Module, ModuleExport, Store, TypedFunc, ValType};

use super::{
    Exchange, RequestError,
    abi::{self, AbiError},
    era::Era,
    link::{self, LinkError},
};
use crate::{
    engine::Outline,
    host::{
        GuestStream, RuntimeContext,
        guest_memory::{GuestHeap, REALLOC},
    },
};

type Handler = TypedFunc<(i32, u32, u32, u32, u32, u32, u32, i32, u32, u32), u32>;

const HANDLER: &str = "handle-http-request";
/// What it was called in February and March of 2022.
const FIRST_HANDLER: &str = "handler";
/// Guests of the Redis trigger export this.
const REDIS_HANDLER: &str = "handle-redis-message";

/// A legacy guest, linked.
pub(crate) struct LegacyGuest {
    pre: InstancePre<RuntimeContext>,
    initialize: Option<ModuleExport>,
    memory: ModuleExport,
    realloc: ModuleExport,
    handler: ModuleExport,
    era: Era,
}

impl std::fmt::Debug for LegacyGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegacyGuest").field("era", &self.era).finish_non_exhaustive()
    }
}

/// An instance and what the host needs of it.
struct Live {
    store: Store<RuntimeContext>,
    instance: Instance,
    heap: GuestHeap,
}

impl LegacyGuest {
    /// Checks that `module` is one, and links it. `rustc` is the version of the compiler that it names, if any.
    pub(super) fn link(
        module: &Module,
        rustc: Option<(u32, u32)>,
        linker: &Linker<RuntimeContext>,
    ) -> Result<Self, LinkError> {
        let first = module.get_export(HANDLER).is_none() && expect_function(module, FIRST_HANDLER, 10).is_ok();
        let handler = if first { FIRST_HANDLER } else { HANDLER };
        expect_function(module, handler, 10)?;
        expect_function(module, REALLOC, 4)?;
        if !matches!(module.get_export("memory"), Some(ExternType::Memory(memory)) if !memory.is_64()) {
            return Err(LinkError("it exports no `memory` of 32 bits".to_owned()));
        }
        let export = |name| module.get_export_index(name).ok_or_else(|| LinkError(format!("it exports no `{name}`")));
        Ok(Self {
            initialize: link::initialize(module),
            memory: export("memory")?,
            realloc: export(REALLOC)?,
            handler: export(handler)?,
            era: if first { Era::First } else { Era::of(module, rustc) },
            pre: link::complete_module(linker, module)?.instantiate_pre(module).map_err(LinkError::of)?,
        })
    }

    /// Calls it.
    pub(super) async fn call(
        &self,
        exchange: &Exchange<'_>,
        parts: &Parts,
        body: Bytes,
    ) -> Result<Response<Bytes>, RequestError> {
        let method = abi::method(&parts.method).ok_or(RequestError::Method)?;
        let run = async {
            let mut live = self.instantiate(exchange).await.map_err(RequestError::of_wasmtime)?;
            let result = self.handle(&mut live, method, parts, &body).await.map_err(RequestError::of_wasmtime)?;
            let memory = live.heap.memory.data(&live.store);
            abi::response(memory, result, self.era.results(), exchange.buffered_body).map_err(|error| match error {
                AbiError::TooLarge { limit, .. } => RequestError::ResponseTooLarge { limit },
                error => RequestError::Response(error.to_string()),
            })
        };
        tokio::time::timeout_at(exchange.deadline.into(), exchange.guest.metered(run))
            .await
            .map_err(|_| RequestError::Deadline(None))?
    }

    async fn instantiate(&self, exchange: &Exchange<'_>) -> wasmtime::Result<Live> {
        let guest = exchange.guest;
        let mut wasi = guest.wasi()?;
        wasi.stdout(guest.output(GuestStream::Stdout)).envs(guest.environment());
        let mut store = exchange.store(wasi);
        let instance = self.pre.instantiate_async(&mut store).await?;
        let memory = instance.get_module_export(&mut store, &self.memory).and_then(Extern::into_memory);
        let realloc = instance.get_module_export(&mut store, &self.realloc).and_then(Extern::into_func);
        let memory = memory.ok_or_else(|| wasmtime::format_err!("the guest has no memory"))?;
        let realloc = realloc.ok_or_else(|| wasmtime::format_err!("the guest has no allocator"))?.typed(&store)?;
        let layout = self.era.imports();
        store.data_mut().set_layout(layout);
        link::call_initialize(&instance, self.initialize.as_ref(), &mut store).await?;
        Ok(Live { store, instance, heap: GuestHeap { memory, realloc, layout } })
    }

    async fn handle(&self, live: &mut Live, method: i32, parts: &Parts, body: &Bytes) -> wasmtime::Result<u32> {
        let Live { store, instance, heap } = live;
        let handler = instance.get_module_export(&mut *store, &self.handler).and_then(Extern::into_func);
        let handler: Handler =
            handler.ok_or_else(|| wasmtime::format_err!("the guest has no handler"))?.typed(&*store)?;
        let uri = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let (uri, uri_size) = heap.give(&mut *store, uri.as_bytes(), 1).await?;
        let (headers, headers_count) = heap.give_headers(&mut *store, &parts.headers).await?;
        let (body, body_size) = heap.give(&mut *store, body, 1).await?;
        // There are no parameters: the URI has the query. The body is always there, if empty.
        let arguments = (method, uri, uri_size, headers, headers_count, 0, 0, 1, body, body_size);
        handler.call_async(store, arguments).await
    }
}

/// Checks that `name` is a function of `count` integers that returns one.
fn expect_function(module: &Module, name: &str, count: usize) -> Result<(), LinkError> {
    let expected = || format!("({}) -> (i32)", vec!["i32"; count].join(", "));
    match module.get_export(name) {
        Some(ExternType::Func(ty))
            if ty.params().len() == count
                && ty.params().chain(ty.results()).all(|ty| matches!(ty, ValType::I32))
                && ty.results().len() == 1 =>
        {
            Ok(())
        }
        Some(ExternType::Func(ty)) => Err(LinkError(format!(
            "it exports `{name}` as {} instead of {}: it is not a Spin HTTP guest",
            link::signature(&ty),
            expected()
        ))),
        _ => Err(no_handler(&module.exports().map(|export| export.name()).collect::<Vec<_>>(), name)),
    }
}

/// Checks that there is something to call, as far as names tell.
pub(super) fn expect(outline: &Outline) -> Result<(), LinkError> {
    if outline.functions().any(|name| [HANDLER, FIRST_HANDLER].contains(&name)) {
        return Ok(());
    }
    Err(no_handler(&outline.names().collect::<Vec<_>>(), HANDLER))
}

/// What a module has instead.
fn no_handler(exports: &[&str], name: &str) -> LinkError {
    let has = |name| exports.contains(&name);
    let advice = if has("_start") {
        "; it exports `_start`: give its route the executor `{ type = \"wagi\" }`, or build it for the Spin HTTP trigger"
    } else if has(REDIS_HANDLER) {
        "; its `handle-redis-message` is for Spin's Redis trigger, which this runtime does not have"
    } else {
        ""
    };
    LinkError(format!(
        "it is a core module without a function `{name}`: expected a component that exports \
         `wasi:http/incoming-handler@0.2`, or a core module with `{HANDLER}`, `{REALLOC}` and `memory`{advice}. It exports: {}",
        link::names(exports.iter())
    ))
}
