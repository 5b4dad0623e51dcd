//! [`Revisions`]: from flags and files to what answers requests, once at the start and again for each change.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use control::{RevisionId, SecretString};
use manifest::{
    Application, ComponentId, RuntimeConfig,
    runtime_config::{DEFAULT_ENVIRONMENT_PREFIX, Directory, VariablesProvider},
};
use node_runtime::{
    application::HttpApplication,
    engine::{BuildError, Builder, Mount, RevisionSettings},
    host::GuestLog,
    trigger::Serving,
};
use tempfile::TempDir;

use super::{
    UpArgs,
    application::{Loaded, Source},
    cache::Cache,
    console,
    files::{FilesArgs, Mounts},
    project::Project,
};

/// How the names of environment variables with values of the application's variables begin.
const ENVIRONMENT_PREFIXES: [&str; 2] = [DEFAULT_ENVIRONMENT_PREFIX, "SPIN_APP"];
/// When it is told that compiling takes its time.
const PATIENCE: Duration = Duration::from_millis(700);

/// Makes the revisions of one run.
pub(super) struct Revisions {
    pub(super) args: UpArgs,
    pub(super) source: Source,
    cache: Cache,
    /// The environment of this process, for providers of variables.
    environment: BTreeMap<String, SecretString>,
    /// Where copies of files are, removed in the end.
    copies: Option<TempDir>,
    made: AtomicU64,
}

/// Everything that decides how a revision behaves: the same inputs, the same behaviour.
#[derive(PartialEq)]
pub(super) struct Inputs {
    pub(super) application: Application,
    bundle: Option<String>,
    wasm_names: BTreeMap<ComponentId, String>,
    direct: BTreeMap<ComponentId, Vec<Mount>>,
    variables: BTreeMap<String, SecretString>,
    /// What is in the file of more variables.
    dotenv: Option<Vec<u8>>,
    pub(super) runtime_config: RuntimeConfig,
    pub(super) state_dir: Option<PathBuf>,
}

/// A revision that can answer.
pub(super) struct Revision {
    pub(super) serving: Arc<Serving>,
    /// The directory of files that its components may change, to be removed with it.
    pub(super) copies: Option<PathBuf>,
}

impl Revisions {
    /// Revisions of the application that `args` name.
    ///
    /// # Errors
    /// When they name none, or the cache cannot be used.
    pub(super) fn new(args: UpArgs) -> anyhow::Result<Self> {
        let source = args.source.locate()?;
        let cache = args.cache.open(args.guests.engine())?;
        let copies = args.files.place_of_copies()?;
        // What is not text is no value of a variable.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, SecretString::new(value.into_string().ok()?))));
        let environment = environment.collect();
        Ok(Self { args, source, cache, environment, copies, made: AtomicU64::new(0) })
    }

    /// The guests that go on after their responses.
    pub(super) fn tails(&self) -> &tokio_util::task::TaskTracker {
        self.cache.engine.tails()
    }

    /// What this process writes, directories and files.
    pub(super) fn written(&self) -> Vec<PathBuf> {
        let config = self.args.state.runtime_config().unwrap_or_default();
        let state_dir = self.args.state.state_dir(&config, &self.source);
        let log_dir = self.args.output.log_dir(&config.log_dir, state_dir.as_deref());
        let copies = self.copies.as_ref().map(|dir| dir.path().to_path_buf());
        state_dir.into_iter().chain(log_dir).chain(copies).chain(self.cache.written()).collect()
    }

    /// The manifest as it is now; `None` for a bindle.
    ///
    /// # Errors
    /// When it cannot be read or is wrong.
    pub(super) fn project(&self) -> anyhow::Result<Option<Project>> {
        match &self.source {
            Source::Local(manifest) => {
                Project::read(manifest, self.args.source.profile(), self.args.guests.components()).map(Some)
            }
            Source::Bindle(_) => Ok(None),
        }
    }

    /// The manifest, if it is to be built or watched.
    ///
    /// # Errors
    /// As [`Revisions::project`], and for a bundle, which can be neither.
    pub(super) fn project_to_develop(&self) -> anyhow::Result<Option<Project>> {
        let flags = [(self.args.build, "--build"), (self.args.watch, "--watch")];
        let Some((_, flag)) = flags.into_iter().find(|(is_given, _)| *is_given) else { return Ok(None) };
        let project = self.project()?;
        project.map(Some).with_context(|| {
            format!("{flag} needs an application in a directory: a bindle is built, and never changes")
        })
    }

    /// Reads everything as it is now. Its content is in the store afterwards.
    ///
    /// # Errors
    /// When something is missing or wrong.
    pub(super) async fn gather(&self) -> anyhow::Result<Inputs> {
        let args = &self.args;
        let is_direct = args.files.are_direct();
        let direct = if is_direct { args.files.direct(self.project()?.as_ref())? } else { BTreeMap::new() };
        let (components, store) = (args.guests.components(), &self.cache.store);
        let Loaded { mut application, bundle, wasm_names } =
            args.source.load(&self.source, components, is_direct, store).await?;
        args.guests.add_environment(&mut application);
        self.cache.touch(&application);
        let variables = args.guests.variables(&application)?;
        let mut runtime_config = args.state.runtime_config()?;
        let state_dir = args.state.state_dir(&runtime_config, &self.source);
        let dotenv = self.dotenv();
        // As in Spin, the environment is asked after all that is configured; last by the name of its first versions.
        runtime_config.variables_providers.extend(
            ENVIRONMENT_PREFIXES
                .map(|prefix| VariablesProvider::Env { prefix: prefix.to_owned(), dotenv_path: dotenv.clone() }),
        );
        // The flag goes before the file.
        runtime_config.state_dir = state_dir.clone().map_or(Directory::None, Directory::At);
        let dotenv = dotenv.and_then(|path| std::fs::read(path).ok());
        Ok(Inputs { application, bundle, wasm_names, direct, variables, dotenv, runtime_config, state_dir })
    }

    /// Where variables of the environment are that are not in the environment: `.env` beside the manifest.
    fn dotenv(&self) -> Option<PathBuf> {
        Some(self.source.dir()?.join(".env"))
    }

    /// The files that flags name and that are read again for each revision.
    pub(super) fn named_files(&self) -> Vec<PathBuf> {
        let config = self.args.state.runtime_config_file().map(Path::to_path_buf);
        let variables = self.args.guests.variable_files().map(Path::to_path_buf);
        self.dotenv().into_iter().chain(config).chain(variables).collect()
    }

    /// Compiles and links; tells so if that takes long.
    ///
    /// # Errors
    /// When the application cannot run.
    pub(super) async fn make(&self, inputs: &Inputs, log: Arc<dyn GuestLog>) -> anyhow::Result<Revision> {
        let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let revision = RevisionId(format!("local-{number}"));
        let Mounts { mounts, copies } = self.mount(inputs, &revision)?;
        let settings = RevisionSettings {
            app: inputs.application.name.clone(),
            revision: revision.to_string(),
            bundle: inputs.bundle.clone(),
            limits: self.args.guests.limits(self.args.network.request_timeout()),
            variables: inputs.variables.clone(),
            environment: self.environment.clone(),
            provider_trust: self.args.source.trust()?,
            runtime_config: Arc::new(inputs.runtime_config.clone()),
            state_dir: inputs.state_dir.clone(),
            mounts,
            log: Some(log),
            ..RevisionSettings::default()
        };
        let application = Arc::new(inputs.application.clone());
        let builder = Builder::new(&self.cache.engine, application, &self.cache.store, settings);
        let building = self.telling_progress(inputs, builder.build());
        let context = building.await.map_err(|error| self.name_file(error, &inputs.wasm_names))?;
        Ok(Revision { serving: Arc::new(Serving::new(revision, HttpApplication::new(context))), copies })
    }

    fn mount(&self, inputs: &Inputs, revision: &RevisionId) -> anyhow::Result<Mounts> {
        match &self.copies {
            Some(dir) => {
                FilesArgs::copies(&inputs.application, &self.cache.store, dir.path().join(revision.to_string()))
            }
            None => Ok(Mounts { mounts: inputs.direct.clone(), copies: None }),
        }
    }

    /// Says which file is to be corrected: that of the wasm that cannot be run, or the manifest.
    fn name_file(&self, error: BuildError, files: &BTreeMap<ComponentId, String>) -> anyhow::Error {
        let file = match &error {
            BuildError::Compile { component, .. }
            | BuildError::Memory { component, .. }
            | BuildError::Link { component, .. } => files.get(component).cloned(),
            _ => None,
        };
        let is_config = matches!(error, BuildError::Network(_));
        let error = anyhow::Error::new(error);
        match (file, &self.source) {
            (Some(file), _) => error.context(format!("cannot run {file}")),
            (None, Source::Local(manifest)) if !is_config => error.context(manifest.display().to_string()),
            (None, Source::Local(_) | Source::Bindle(_)) => error,
        }
    }

    async fn telling_progress<T>(&self, inputs: &Inputs, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let mut work = std::pin::pin!(work);
        if let Ok(done) = tokio::time::timeout(PATIENCE, work.as_mut()).await {
            return done;
        }
        let is_telling = !self.args.output.is_quiet();
        if is_telling {
            let components = inputs.application.components.len();
            let bytes: u64 = inputs.application.components.values().map(|component| component.source.size).sum();
            let noun = if components == 1 { "component" } else { "components" };
            console::say(&format!(
                "Compiling {components} {noun}, {} KiB of wasm: this is fast when it is in the cache",
                bytes.div_ceil(1024)
            ));
        }
        let done = work.await;
        if is_telling {
            console::say(&format!("Compiled in {:.1} s", began.elapsed().as_secs_f64()));
        }
        done
    }
}
