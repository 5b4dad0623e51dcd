//! Turns wasm into code, off the serving threads.
//!
//! Promise: compiling is bounded, at low priority, and no guest waits for long behind a larger one, however many apps arrive
//! at once (see `compile_queue`); code that is in the cache is mapped at once and nothing is compiled. Apps with the same
//! wasm share one mapping: a thousand copies of a file server cost the memory of one.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use manifest::{Content, Digest};
use tokio::sync::oneshot;
use wasmtime::{Engine, Module, Precompiled, ResourcesRequired, component::Component};

use super::{
    EngineError,
    cache::Cache,
    compile_queue::{CompileQueue, Job},
    compiled,
    config::TABLES_PER_GUEST,
    guest::{self, Variant},
    outline::Outline,
};
use crate::executor::LinkError;

/// The unit of linear memory, in bytes.
const PAGE: u64 = 1 << 16;

/// Compiles, with a cache.
pub(super) struct Compiler {
    shared: Arc<Shared>,
    queue: CompileQueue,
}

struct Shared {
    engine: Engine,
    cache: Option<Cache>,
    in_use: InUse,
}

/// The code that guests hold, by the wasm that it was made of and the form in which that was compiled.
#[derive(Default)]
struct InUse(Mutex<HashMap<(Digest, Variant), Weak<Code>>>);

impl InUse {
    fn get(&self, wasm: Digest, variant: Variant) -> Option<Arc<Code>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(wasm, variant))?.upgrade()
    }

    /// Keeps `code` for others for as long as somebody holds it.
    fn share(&self, wasm: Digest, variant: Variant, code: Code) -> Arc<Code> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() {
            // Before it grows, so that what nobody holds costs a bounded share.
            all.retain(|_, code| code.strong_count() > 0);
        }
        let code = Arc::new(code);
        all.insert((wasm, variant), Arc::downgrade(&code));
        code
    }
}

/// What a guest's wasm became. Whoever runs it keeps hold of it, so that others find it.
pub(super) enum Code {
    /// A core module, and the version of Rust's compiler that it names.
    Module(Module, Option<(u32, u32)>),
    /// A component.
    Component(Component),
}

impl Code {
    /// With how many bytes its largest memory begins.
    pub(super) fn first_memory(&self) -> u64 {
        let pages = self.needs().and_then(|needs| needs.max_initial_memory_size).unwrap_or(0);
        pages.saturating_mul(PAGE)
    }

    fn needs(&self) -> Option<ResourcesRequired> {
        match self {
            Self::Module(module, _) => Some(module.resources_required()),
            Self::Component(component) => component.resources_required(),
        }
    }

    /// How many places of the pool one instance takes: a place has one memory and two tables.
    pub(super) fn slots(&self) -> u32 {
        self.needs().map_or(1, |needs| needs.num_memories.max(needs.num_tables.div_ceil(TABLES_PER_GUEST)).max(1))
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
    /// It is valid, but no instance of this engine has room for it.
    #[error("its wasm needs more than an instance may have: {0}")]
    TooLarge(String),
    /// It has a component type, but no component can be made of it.
    #[error("its core module cannot be made a component: {0}")]
    Componentize(String),
    /// It is not what the executor calls.
    #[error(transparent)]
    NoGuest(LinkError),
    /// The engine stopped.
    #[error("the compiler was stopped")]
    Stopped,
}

impl Compiler {
    pub(super) fn new(engine: Engine, cache: Option<Cache>, threads: usize) -> Result<Self, EngineError> {
        Ok(Self {
            shared: Arc::new(Shared { engine, cache, in_use: InUse::default() }),
            queue: CompileQueue::new(threads)?,
        })
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.shared.cache.as_ref()
    }

    /// The code of the wasm `content` in the file `path`: what others run, from the cache or compiled now. What `expected`
    /// refuses is not compiled.
    pub(super) async fn compile(
        &self,
        content: Content,
        path: &Path,
        variant: Variant,
        expected: impl Fn(&Outline) -> Result<(), LinkError> + Send + 'static,
    ) -> Result<Arc<Code>, CompileError> {
        if let Some(code) = self.shared.in_use.get(content.digest, variant) {
            return Ok(code);
        }
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
            let code = shared.load(&content, &path, variant, expected);
            let code = code.map(|code| shared.in_use.share(content.digest, variant, code));
            let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Nobody may be waiting any more: the code is in the cache then.
            let _unwanted = sender.map(|sender| sender.send(code));
        }));
        receiver.await.map_err(|_| CompileError::Stopped)?
    }
}

impl Shared {
    fn load(
        &self,
        content: &Content,
        path: &Path,
        variant: Variant,
        expected: impl Fn(&Outline) -> Result<(), LinkError>,
    ) -> Result<Code, CompileError> {
        let wasm = std::fs::read(path).map_err(CompileError::Read)?;
        if !wasm.starts_with(guest::MAGIC) {
            // Wasmtime would take it for wasm in text form, and say what is wrong with that.
            let start = wasm.get(..8).unwrap_or(&wasm).escape_ascii();
            return Err(CompileError::Invalid(format!("it begins with `{start}` instead of wasm's magic number")));
        }
        let wasm = variant.prepare(wasm)?;
        let component = guest::is_component(&wasm);
        let error_text = |error: wasmtime::Error| format!("{error:#}");
        if let Some(Err(unexpected)) = Outline::of(&wasm).map(|outline| expected(&outline)) {
            // What is wrong with a module is worth more than what it lacks.
            let valid = if component { Ok(()) } else { Module::validate(&self.engine, &wasm) };
            return Err(valid.map_or_else(
                |error| CompileError::Invalid(error_text(error)),
                |()| CompileError::NoGuest(unexpected),
            ));
        }
        let mut refused: fn(String) -> CompileError = CompileError::Invalid;
        if let Some(cache) = &self.cache {
            let code =
                if component { self.engine.precompile_component(&wasm) } else { self.engine.precompile_module(&wasm) };
            let code = code.map_err(|error| CompileError::Invalid(error_text(error)))?;
            let kept = cache.path(&content.digest, variant);
            match cache.write(&kept, &code) {
                Ok(()) => match self.map(&kept, path) {
                    Some(Ok(code)) => return Ok(code),
                    Some(Err(_)) | None => {
                        let _gone = std::fs::remove_file(&kept);
                        // It compiles, so if it is refused below as well, it is for its size.
                        refused = CompileError::TooLarge;
                    }
                },
                Err(error) => tracing::warn!(%error, "compiled code not kept"),
            }
        }
        if component {
            let component = Component::from_binary(&self.engine, &wasm);
            component.map(Code::Component).map_err(|error| refused(error_text(error)))
        } else {
            let module = Module::from_binary(&self.engine, &wasm).map_err(|error| refused(error_text(error)))?;
            Ok(Code::Module(module, guest::rustc_version(&wasm)))
        }
    }

    /// What the cache has. A file that cannot be used counts as absent and is written again.
    fn cached(&self, content: &Content, wasm: &Path, variant: Variant) -> Option<Arc<Code>> {
        let path = self.cache.as_ref()?.path(&content.digest, variant);
        let code = self.map(&path, wasm)?;
        let code = code.inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "compiled code unusable"));
        Some(self.in_use.share(content.digest, variant, code.ok()?))
    }

    /// The compiled code in the file `path`, made of `wasm`; `None` if there is no such file.
    fn map(&self, path: &Path, wasm: &Path) -> Option<wasmtime::Result<Code>> {
        Some(match Engine::detect_precompiled_file(path).ok()?? {
            Precompiled::Module => {
                let rustc = std::fs::read(wasm).ok().and_then(|wasm| guest::rustc_version(&wasm));
                compiled::map_module(&self.engine, path).map(|module| Code::Module(module, rustc))
            }
            Precompiled::Component => compiled::map_component(&self.engine, path).map(Code::Component),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn apps_with_the_same_wasm_share_its_code_until_the_last_of_them_goes() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let cache = Cache::open(&dir.path().join("code"), &engine).unwrap();
        let compiler = Compiler::new(engine, Some(cache), 1).unwrap();
        // The smallest module there is.
        let wasm = b"\0asm\x01\0\0\0";
        let path = dir.path().join("wasm");
        std::fs::write(&path, wasm).unwrap();
        let content = Content { digest: Digest::of(wasm), size: 8 };
        let load = |variant| compiler.compile(content, &path, variant, |_| Ok(()));

        let compiled = load(Variant::AsIs).await.unwrap();
        let other_form = load(Variant::Program).await.unwrap();
        assert!(!Arc::ptr_eq(&compiled, &other_form), "another form of the same wasm is other code");
        let shared = load(Variant::AsIs).await.unwrap();
        assert!(Arc::ptr_eq(&compiled, &shared));

        let last = Arc::downgrade(&shared);
        drop(compiled);
        assert!(last.upgrade().is_some(), "an app still runs it");
        drop(shared);
        assert!(last.upgrade().is_none(), "nobody does");
        let mapped = load(Variant::AsIs).await.unwrap();
        assert!(Arc::ptr_eq(&mapped, &load(Variant::AsIs).await.unwrap()), "mapped code is shared as well");
    }
}
