//! Turns wasm into code, off the serving threads.
//!
//! Promise: at most `compile_threads` threads compile, at low priority, however many apps arrive at once; code that is in
//! the cache is mapped and nothing is compiled.

use std::{path::Path, sync::Arc};

use manifest::Content;
use tokio::sync::oneshot;
use wasmtime::{Engine, Module, Precompiled, component::Component};

use super::{
    EngineError,
    cache::Cache,
    compiled,
    config::TABLES_PER_GUEST,
    guest::{self, Variant},
};

/// How much the compiler's threads yield to the serving ones (Linux: per thread, 0 to 19).
const NICENESS: i32 = 10;

/// Compiles, with a cache.
pub(super) struct Compiler {
    shared: Arc<Shared>,
    threads: rayon::ThreadPool,
}

struct Shared {
    engine: Engine,
    cache: Option<Cache>,
}

/// What a guest's wasm became.
#[derive(Clone)]
pub(super) enum Code {
    /// A core module.
    Module(Module),
    /// A component.
    Component(Component),
}

impl Code {
    /// How many places of the pool one instance takes: a place has one memory and two tables.
    pub(super) fn slots(&self) -> u32 {
        let needs = match self {
            Self::Module(module) => Some(module.resources_required()),
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
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|index| format!("compile-{index}"))
            .start_handler(|_| {
                // Worth trying only: some sandboxes forbid it.
                let _niceness = rustix::process::nice(NICENESS);
            })
            // Without one, a panic would end the process; the waiting builder learns that there is no code.
            .panic_handler(|_| tracing::error!("the compiler panicked"))
            .build()
            .map_err(|error| EngineError::Thread { role: "compiler", source: std::io::Error::other(error) })?;
        Ok(Self { shared: Arc::new(Shared { engine, cache }), threads })
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.shared.cache.as_ref()
    }

    /// The code of the wasm `content` in the file `path`, from the cache or compiled now.
    pub(super) async fn compile(&self, content: Content, path: &Path, variant: Variant) -> Result<Code, CompileError> {
        let (shared, path) = (Arc::clone(&self.shared), path.to_path_buf());
        let (sender, receiver) = oneshot::channel();
        self.threads.spawn(move || {
            // Nobody may be waiting any more: the code is in the cache then.
            let _unwanted = sender.send(shared.load(&content, &path, variant));
        });
        receiver.await.map_err(|_| CompileError::Stopped)?
    }
}

impl Shared {
    fn load(&self, content: &Content, path: &Path, variant: Variant) -> Result<Code, CompileError> {
        if let Some(code) = self.cached(content, variant) {
            return Ok(code);
        }
        let wasm = std::fs::read(path).map_err(CompileError::Read)?;
        let wasm = match variant {
            Variant::Componentized if guest::has_component_type(&wasm) => guest::componentize(&wasm)?,
            Variant::Componentized | Variant::AsIs => wasm,
        };
        let component = guest::is_component(&wasm);
        let invalid = |error: wasmtime::Error| CompileError::Invalid(format!("{error:#}"));
        if let Some(cache) = &self.cache {
            let code =
                if component { self.engine.precompile_component(&wasm) } else { self.engine.precompile_module(&wasm) };
            let code = code.map_err(invalid)?;
            match cache.write(&cache.path(&content.digest, variant), &code) {
                Ok(()) => {
                    if let Some(code) = self.cached(content, variant) {
                        return Ok(code);
                    }
                }
                Err(error) => tracing::warn!(%error, "compiled code not kept"),
            }
        }
        if component {
            Component::from_binary(&self.engine, &wasm).map(Code::Component).map_err(invalid)
        } else {
            Module::from_binary(&self.engine, &wasm).map(Code::Module).map_err(invalid)
        }
    }

    /// What the cache has. A file that cannot be used counts as absent and is written again.
    fn cached(&self, content: &Content, variant: Variant) -> Option<Code> {
        let path = self.cache.as_ref()?.path(&content.digest, variant);
        let code = match Engine::detect_precompiled_file(&path).ok()?? {
            Precompiled::Module => compiled::map_module(&self.engine, &path).map(Code::Module),
            Precompiled::Component => compiled::map_component(&self.engine, &path).map(Code::Component),
        };
        code.inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "compiled code unusable")).ok()
    }
}
