//! The wasm of a component: from a file, a URL or another bundle.

use std::{
    error::Error,
    io::{self, Read as _},
    path::Path,
};

use manifest::{
    ComponentId, Content, Digest, Place,
    spin_toml::{Build, ComponentSpec, Dependency, DependencyWasm, Location, Source},
};
use reqwest::{StatusCode, Url};

use super::{AppDir, LocalError, Options, build_advice, is_text, open};
use crate::{
    bindle::{BindleClient, BindleId},
    compose::{self, ComposeError, Part},
    http::{self, HttpClient, HttpOptions, Redirects},
    registry::{PackageRef, RegistryClient},
};

/// What every wasm module and component starts with.
const MAGIC: [u8; 4] = *b"\0asm";

/// One of the ways to compose.
type Compose = fn(&[u8], &[Part<'_>]) -> Result<Vec<u8>, ComposeError>;

impl AppDir<'_> {
    /// The component's wasm with everything that it depends on, in the store.
    pub(super) fn composed(&self, id: &ComponentId, spec: &ComponentSpec) -> Result<Content, LocalError> {
        let content = self.wasm(&spec.source, spec.build.as_ref())?;
        if spec.dependencies.is_empty() && spec.middleware.is_empty() {
            return Ok(content);
        }
        let mut wasm = self.bytes(&spec.source.place, &content)?;
        for (parts, compose) in
            [(&spec.dependencies, compose::compose as Compose), (&spec.middleware, compose::wrap as Compose)]
        {
            if !parts.is_empty() {
                wasm = self.compose(id, spec, &wasm, parts, compose)?;
            }
        }
        let stored = self.store.insert_bytes(&wasm);
        stored.map_err(self.not_stored(&spec.place, format!("the composed component `{id}`")))
    }

    fn compose(
        &self,
        id: &ComponentId,
        spec: &ComponentSpec,
        wasm: &[u8],
        dependencies: &[Dependency],
        compose: Compose,
    ) -> Result<Vec<u8>, LocalError> {
        let mut loaded = Vec::new();
        for (dependency, number) in dependencies.iter().zip(1..) {
            let (source, build) = self.dependency_source(dependency)?;
            let bytes = self.bytes(&dependency.place, &self.wasm(&source, build.as_ref())?)?;
            let name = dependency.name.as_ref().map_or_else(|| format!("middleware {number}"), ToString::to_string);
            loaded.push((dependency, name, bytes));
        }
        let parts: Vec<Part<'_>> = loaded
            .iter()
            .map(|(dependency, name, bytes)| Part {
                name,
                imports: dependency.name.as_ref(),
                wasm: bytes,
                export: dependency.export.as_deref(),
                inherit: &dependency.inherit,
            })
            .collect();
        compose(wasm, &parts).map_err(|error| {
            let place = error
                .dependency()
                .and_then(|name| loaded.iter().find(|(_, known, _)| known == name))
                .map_or(&spec.source.place, |(dependency, ..)| &dependency.place);
            self.problem(place, format!("component `{id}`: {error}"))
        })
    }

    /// Where the wasm of a dependency is, and how it is built if it is a component of the application.
    fn dependency_source(&self, dependency: &Dependency) -> Result<(Source, Option<Build>), LocalError> {
        match &dependency.wasm {
            DependencyWasm::Own(location) => {
                Ok((Source { place: dependency.place.clone(), location: location.clone() }, None))
            }
            DependencyWasm::Component(id) => match self.manifest.components.get(id) {
                Some(spec) => Ok((spec.source.clone(), spec.build.clone())),
                None => Err(self.problem(&dependency.place, format!("there is no component `{id}`"))),
            },
        }
    }

    /// The bytes of what is in the store.
    fn bytes(&self, place: &Place, content: &Content) -> Result<Vec<u8>, LocalError> {
        let bytes = self.store.read(content).map_err(self.not_stored(place, content.digest.to_string()))?;
        bytes.ok_or_else(|| self.problem(place, format!("{} was lost while it was loaded", content.digest)))
    }

    /// Some wasm, in the store.
    fn wasm(&self, source: &Source, build: Option<&Build>) -> Result<Content, LocalError> {
        match &source.location {
            Location::Path(path) => self.wasm_file(source, path, build),
            Location::Url { url, digest } => self.wasm_url(source, url, digest),
            Location::Bindle { reference, parcel } => self.wasm_parcel(source, reference, *parcel),
            Location::Registry { registry, package, version } => {
                let wanted = PackageRef { registry: registry.as_deref(), package, version };
                self.wasm_package(source, wanted)
            }
        }
    }

    fn wasm_package(&self, source: &Source, wanted: PackageRef<'_>) -> Result<Content, LocalError> {
        let options = self.options;
        let fetched = block_on(async {
            let client =
                RegistryClient::new(options.registry.clone(), options.trust.clone(), options.largest_download)?;
            Ok(client.fetch(wanted, self.store).await?)
        });
        let what = format!("{} {}", wanted.package, wanted.version);
        let content = fetched.map_err(|error| self.unavailable(source, &what, error))?;
        let path = self.store.get(&content).ok().flatten();
        if path.is_some_and(|path| starts_like_wasm(&path).is_ok_and(|wasm| wasm)) {
            return Ok(content);
        }
        Err(self.problem(&source.place, format!("{what} is not WebAssembly")))
    }

    fn wasm_file(&self, source: &Source, path: &str, build: Option<&Build>) -> Result<Content, LocalError> {
        let place = &source.place;
        let file = self.root.join(path);
        let advice = || build_advice(build);
        let problem = match starts_like_wasm(&file) {
            Ok(true) => None,
            Ok(false) if is_text(&file) => return self.wasm_text(place, path, &file),
            Ok(false) => Some(format!("{path} is not WebAssembly: {}", advice())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("there is no file {path}: {}", advice()))
            }
            Err(error) => Some(format!("cannot read {path} ({error}): {}", advice())),
        };
        match problem {
            Some(problem) => Err(self.problem(place, problem)),
            None => self.store.insert_file(&file).map_err(self.not_stored(place, path.to_owned())),
        }
    }

    /// What the text in `file` stands for, which may be written instead of wasm.
    fn wasm_text(&self, place: &Place, path: &str, file: &Path) -> Result<Content, LocalError> {
        let text = open(file).and_then(io::read_to_string);
        let text = text.map_err(|error| self.problem(place, format!("cannot read {path} ({error})")))?;
        let wasm = wat::parse_str(&text).map_err(|mut error| {
            error.set_path(path);
            let error = error.to_string();
            // What is wrong, and where; the rest repeats the line.
            let said: Vec<&str> = error.lines().take(2).map(str::trim).collect();
            self.problem(place, format!("{path} is not WebAssembly text: {}", said.join(" ")))
        })?;
        self.store.insert_bytes(&wasm).map_err(self.not_stored(place, path.to_owned()))
    }

    fn wasm_url(&self, source: &Source, url: &str, digest: &Digest) -> Result<Content, LocalError> {
        let bytes = block_on(download(url, self.options)).map_err(|error| self.unavailable(source, url, error))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(
                self.problem(&source.place, format!("{url} has the digest {actual}, not the expected {digest}"))
            );
        }
        if !bytes.starts_with(&MAGIC) {
            return Err(self.problem(&source.place, format!("{url} is not WebAssembly")));
        }
        self.store.insert_bytes(&bytes).map_err(self.not_stored(&source.place, url.to_owned()))
    }

    fn wasm_parcel(&self, source: &Source, reference: &str, parcel: Digest) -> Result<Content, LocalError> {
        let Some(client) = &self.options.bindle else {
            let problem =
                "is a parcel of another bundle, which needs a Bindle server: add --bindle-server URL, or name a file";
            return Err(self.problem(&source.place, problem));
        };
        let id: BindleId = reference.parse().map_err(|error| self.problem(&source.place, format!("{error}")))?;
        let what = format!("parcel {} of {id}", parcel.hex());
        let content =
            block_on(fetch(client, &id, parcel, self)).map_err(|error| self.unavailable(source, &what, error))?;
        let path = self.store.get(&content).ok().flatten();
        if path.is_some_and(|path| starts_like_wasm(&path).is_ok_and(|wasm| wasm)) {
            return Ok(content);
        }
        Err(self.problem(&source.place, format!("{what} is not WebAssembly")))
    }

    fn unavailable(&self, at: &Source, what: &str, source: Box<dyn Error + Send + Sync>) -> LocalError {
        LocalError::Unavailable { at: self.at(&at.place), what: what.to_owned(), source }
    }
}

fn starts_like_wasm(file: &Path) -> io::Result<bool> {
    let mut start = [0; MAGIC.len()];
    match open(file)?.read_exact(&mut start) {
        Ok(()) => Ok(start == MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

type Fetched<T> = Result<T, Box<dyn Error + Send + Sync>>;

async fn download(url: &str, options: &Options) -> Fetched<Vec<u8>> {
    let client = HttpClient::new(&HttpOptions {
        trust: options.trust.clone(),
        redirects: Redirects::Https,
        ..HttpOptions::default()
    })?;
    let response = client.get(Url::parse(url)?).await?;
    if response.status() != StatusCode::OK {
        return Err(format!("the server answered {}", response.status()).into());
    }
    Ok(http::body(response, options.largest_download).await?)
}

/// The manifest names the parcel's digest, so nobody needs to vouch for the invoice: it tells only the size.
async fn fetch(client: &BindleClient, id: &BindleId, parcel: Digest, app: &AppDir<'_>) -> Fetched<Content> {
    let invoice =
        client.existing(id).await?.ok_or_else(|| format!("there is no bundle {id} at {}", client.server()))?;
    let label = invoice.parcel.iter().map(|parcel| &parcel.label).find(|label| label.sha256 == parcel);
    let size = label.ok_or("the bundle has no such parcel")?.size;
    let content = Content { digest: parcel, size };
    client.fetch(id, &content, app.store).await?;
    Ok(content)
}

/// Waits for `future` on a thread of its own, so that it does not matter whether the caller is in a runtime.
fn block_on<T: Send>(future: impl Future<Output = Fetched<T>> + Send) -> Fetched<T> {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future);
    std::thread::scope(|scope| {
        scope.spawn(run).join().unwrap_or_else(|_| Err("the download stopped unexpectedly".into()))
    })
}
