//! Guests that are programs: `_start` of a core module (or another export without parameters), or `wasi:cli/run` of a
//! component. The request's body is standard input, the rest of the request the environment and the arguments; standard
//! output is the response.

use bytes::Bytes;
use http::{Response, request::Parts};
use node_runtime_core::wagi::{self, WagiRequest};
use wasmtime::{
    Extern, ExternType, InstancePre, Linker, Module, ModuleExport, Store,
    component::{Component, Linker as ComponentLinker},
};
use wasmtime_wasi::p2::{bindings::CommandPre, pipe::MemoryInputPipe};

use super::{
    Exchange, RequestError,
    buffer::{OutputBuffer, OutputTooLarge},
    error::exited_well,
    link::{self, Called, LinkError},
};
use crate::{engine::Outline, host::RuntimeContext};

/// What a program's entry point is called where nothing else is said.
const START: &str = "_start";
/// By which interface components are run.
const RUN: &str = "wasi:cli/run";

/// A program, linked.
pub(crate) struct WagiGuest {
    program: Program,
    argv: String,
}

enum Program {
    Module { pre: InstancePre<RuntimeContext>, initialize: Option<ModuleExport>, entry: ModuleExport },
    Component(CommandPre<RuntimeContext>),
}

impl std::fmt::Debug for WagiGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WagiGuest").field("argv", &self.argv).finish_non_exhaustive()
    }
}

/// Checks that there is something to run, as far as names tell.
pub(super) fn expect(settings: &manifest::WagiExecutor, outline: &Outline) -> Result<(), LinkError> {
    let name = &settings.entrypoint;
    if !outline.is_component {
        let found = outline.functions().any(|function| function == name);
        return if found { Ok(()) } else { Err(no_entrypoint(name, outline.names())) };
    }
    check_entrypoint(settings)?;
    link::expect(outline, RUN).map_err(|error| no_program(&error))
}

fn check_entrypoint(settings: &manifest::WagiExecutor) -> Result<(), LinkError> {
    let name = &settings.entrypoint;
    if name == START {
        return Ok(());
    }
    Err(LinkError(format!("its entrypoint is `{name}`, but a component has only one: remove the setting")))
}

fn no_entrypoint<'a>(name: &str, exports: impl Iterator<Item = &'a str>) -> LinkError {
    let exports = link::names(exports);
    LinkError(format!("no such function '{name}', its Wagi entrypoint. It exports: {exports}"))
}

fn no_program(error: &LinkError) -> LinkError {
    LinkError(format!("it is no program: expected a component that exports `wasi:cli/run@0.2` ({error})"))
}

impl WagiGuest {
    /// Links a core module.
    pub(super) fn of_module(
        settings: &manifest::WagiExecutor,
        module: &Module,
        linker: &Linker<RuntimeContext>,
    ) -> Result<Self, LinkError> {
        let name = &settings.entrypoint;
        match module.get_export(name) {
            Some(ExternType::Func(ty)) if ty.params().len() == 0 && ty.results().len() == 0 => {}
            Some(ExternType::Func(ty)) => {
                let signature = link::signature(&ty);
                return Err(LinkError(format!(
                    "its entrypoint `{name}` is {signature}: expected a function without parameters and results"
                )));
            }
            _ => return Err(no_entrypoint(name, module.exports().map(|export| export.name()))),
        }
        let entry = module.get_export_index(name).ok_or_else(|| LinkError(format!("no such function '{name}'")))?;
        let pre = link::complete_module(linker, module)?.instantiate_pre(module).map_err(LinkError::of)?;
        // What begins with `_start` initialises itself.
        let initialize = link::initialize(module).filter(|_| name != START);
        Ok(Self { program: Program::Module { pre, initialize, entry }, argv: settings.argv.clone() })
    }

    /// Links a component.
    pub(super) fn of_component(
        settings: &manifest::WagiExecutor,
        component: &Component,
        linker: &ComponentLinker<RuntimeContext>,
    ) -> Result<Self, LinkError> {
        check_entrypoint(settings)?;
        let linker = link::complete_component(linker, component)?;
        let pre = linker.instantiate_pre(component).map_err(LinkError::of)?;
        let checked = link::export::<(), (Result<(), ()>,)>(&pre, RUN, "run", Called::Waiting);
        let pre = checked.and_then(|_run| CommandPre::new(pre).map_err(LinkError::of));
        let pre = pre.map_err(|error| no_program(&error))?;
        Ok(Self { program: Program::Component(pre), argv: settings.argv.clone() })
    }

    /// Runs it.
    pub(super) async fn call(
        &self,
        exchange: &Exchange<'_>,
        parts: &Parts,
        body: Bytes,
    ) -> Result<Response<Bytes>, RequestError> {
        let guest = exchange.guest;
        let request = WagiRequest {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
            authority: &exchange.authority,
            full_url: &exchange.full_url,
            secure: *exchange.connection.scheme() == http::uri::Scheme::HTTPS,
            client: exchange.connection.client(),
            body_size: body.len(),
            found: exchange.found,
        };
        let output = OutputBuffer::new(exchange.buffered_body, guest.memory());
        let mut wasi = guest.wasi().map_err(RequestError::of_wasmtime)?;
        wasi.stdin(MemoryInputPipe::new(body))
            .stdout(output.clone())
            .args(&wagi::arguments(&self.argv, &request))
            .envs(&wagi::environment(&request, guest.environment()));
        let store = exchange.store(wasi);
        match tokio::time::timeout_at(exchange.deadline.into(), guest.metered(self.run(store))).await {
            Err(_) => return Err(RequestError::Deadline(None)),
            Ok(Err(error)) => return Err(failure(error)),
            Ok(Ok(())) => {}
        }
        let output = output.take();
        let head = wagi::response_head(&output)?;
        if head.skipped > 0 {
            tracing::debug!(component = %guest.id(), lines = head.skipped, "guest printed lines that are no headers");
        }
        let mut response = Response::new(output.slice(head.body_at.min(output.len())..));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    async fn run(&self, mut store: Store<RuntimeContext>) -> wasmtime::Result<()> {
        let result = match &self.program {
            Program::Module { pre, initialize, entry } => {
                let instance = pre.instantiate_async(&mut store).await?;
                link::call_initialize(&instance, initialize.as_ref(), &mut store).await?;
                let entry = instance.get_module_export(&mut store, entry).and_then(Extern::into_func);
                let entry = entry.ok_or_else(|| wasmtime::format_err!("the entrypoint is gone"))?;
                entry.typed::<(), ()>(&store)?.call_async(&mut store, ()).await
            }
            Program::Component(pre) => {
                let command = pre.instantiate_async(&mut store).await?;
                let result = command.wasi_cli_run().call_run(&mut store).await;
                result.and_then(|result| result.map_err(|()| wasmtime::format_err!("the program failed")))
            }
        };
        match result {
            Err(error) if exited_well(&error) => Ok(()),
            result => result,
        }
    }
}

/// Sorts out why a program ended early.
fn failure(error: wasmtime::Error) -> RequestError {
    match error.downcast_ref::<OutputTooLarge>() {
        Some(OutputTooLarge { limit }) => RequestError::ResponseTooLarge { limit: *limit },
        None => RequestError::of_wasmtime(error),
    }
}
