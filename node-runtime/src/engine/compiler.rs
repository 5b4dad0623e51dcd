//! Turns wasm into code, off the serving threads.
//!
//! Promise: compiling is bounded, at low priority, and no guest waits for long behind a larger one, however many apps arrive
//! at once (see `compile_queue`); code that is in the cache is mapped at once and nothing is compiled.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use manifest::Content;
use tokio::sync::oneshot;
use wasmtime::{Engine, Module, Precompiled, component::Component};

use super::{
    EngineError,
    cache::Cache,
    compile_queue::{CompileQueue, Job},
    compiled,
    config::TABLES_PER_GUEST,
    guest::{self, Variant},
};

/// Compiles, with a cache.
pub(super) struct Compiler {
    shared: Arc<Shared>,
    queue: CompileQueue,
}

struct Shared {
    engine: Engine,
    cache: Option<Cache>,
}

/// What a guest's wasm became.
#[derive(Clone)]
pub(super) enum Code {
    /// A core module, and the version of Rust's compiler that it names.
    Module(Module, Option<(u32, u32)>),
    /// A component.
    Component(Component),
}

impl Code {
    /// How many places of the pool one instance takes: a place has one memory and two tables.
    pub(super) fn slots(&self) -> u32 {
        let needs = match self {
            Self::Module(module, _) => Some(module.resources_required()),
            Self::Component(component) => component.resources_required(),
        };
        needs.map_or(1, |needs| needs.num_memories.max(needs.num_tables.div_ceil(TABLES_PER_GUEST)).max(1))
    }
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompileError {
    /// The file cannot be read.
    #[error("cannot read its wasm")]
    Read(#[source] std::io::Error),
    /// It is not wasm that this engine takes.
    #[error("its wasm is not valid: {0}")]
    Invalid(String),
    /// It has a component type, but no component can be made of it.
    #[error("its core module cannot be made a component: {0}")]
    Componentize(String),
    /// The engine stopped.
    #[error("the compiler was stopped")]
    Stopped,
}

impl Compiler {
    pub(super) fn new(engine: Engine, cache: Option<Cache>, threads: usize) -> Result<Self, EngineError> {
        Ok(Self { shared: Arc::new(Shared { engine, cache }), queue: CompileQueue::new(threads)? })
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.shared.cache.as_ref()
    }

    /// The code of the wasm `content` in the file `path`, from the cache or compiled now.
    pub(super) async fn compile(&self, content: Content, path: &Path, variant: Variant) -> Result<Code, CompileError> {
        let shared = Arc::clone(&self.shared);
        let file = path.to_path_buf();
        let cached = tokio::task::spawn_blocking(move || shared.cached(&content, &file, variant)).await;
        if let Ok(Some(code)) = cached {
            return Ok(code);
        }
        let (shared, path) = (Arc::clone(&self.shared), path.to_path_buf());
        let (sender, receiver) = oneshot::channel();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let waiting = Arc::clone(&sender);
        let is_wanted = move || {
            let sender = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            sender.as_ref().is_some_and(|sender: &oneshot::Sender<_>| !sender.is_closed())
        };
        self.queue.push(Job::new(content.size, is_wanted, move || {
            let code = shared.load(&content, &path, variant);
            let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Nobody may be waiting any more: the code is in the cache then.
            let _unwanted = sender.map(|sender| sender.send(code));
        }));
        receiver.await.map_err(|_| CompileError::Stopped)?
    }
}

impl Shared {
    fn load(&self, content: &Content, path: &Path, variant: Variant) -> Result<Code, CompileError> {
        let wasm = std::fs::read(path).map_err(CompileError::Read)?;
        if !wasm.starts_with(guest::MAGIC) {
            // Wasmtime would take it for wasm in text form, and say what is wrong with that.
            let start = wasm.get(..8).unwrap_or(&wasm).escape_ascii();
            return Err(CompileError::Invalid(format!("it begins with `{start}` instead of wasm's magic number")));
        }
        let wasm = variant.prepare(wasm)?;
        let component = guest::is_component(&wasm);
        let invalid = |error: wasmtime::Error| CompileError::Invalid(format!("{error:#}"));
        if let Some(cache) = &self.cache {
            let code =
                if component { self.engine.precompile_component(&wasm) } else { self.engine.precompile_module(&wasm) };
            let code = code.map_err(invalid)?;
            match cache.write(&cache.path(&content.digest, variant), &code) {
                Ok(()) => {
                    if let Some(code) = self.cached(content, path, variant) {
                        return Ok(code);
                    }
                }
                Err(error) => tracing::warn!(%error, "compiled code not kept"),
            }
        }
        if component {
            Component::from_binary(&self.engine, &wasm).map(Code::Component).map_err(invalid)
        } else {
            let module = Module::from_binary(&self.engine, &wasm).map_err(invalid)?;
            Ok(Code::Module(module, guest::rustc_version(&wasm)))
        }
    }

    /// What the cache has. A file that cannot be used counts as absent and is written again.
    fn cached(&self, content: &Content, wasm: &Path, variant: Variant) -> Option<Code> {
        let path = self.cache.as_ref()?.path(&content.digest, variant);
        let code = match Engine::detect_precompiled_file(&path).ok()?? {
            Precompiled::Module => {
                let rustc = std::fs::read(wasm).ok().and_then(|wasm| guest::rustc_version(&wasm));
                compiled::map_module(&self.engine, &path).map(|module| Code::Module(module, rustc))
            }
            Precompiled::Component => compiled::map_component(&self.engine, &path).map(Code::Component),
        };
        code.inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "compiled code unusable")).ok()
    }
}
