//! Requests without sockets: what the runtime itself costs, on one thread.

use std::{
    fmt::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, header, http::uri::Scheme};
use node_runtime::{
    application::{Connection, HttpApplication},
    engine::{Builder, Engine, EngineConfig, RevisionSettings},
};
use sources::Store;

use super::workload::{Guest, LEGACY, SPIN_SDK, WAGI, WASI_HTTP, WASI_HTTP_3};

/// Measures a greeting by each kind of guest, for as long as `time` each.
pub(crate) async fn measure(guests: &Path, time: Duration) -> Result<String> {
    let cache = tempfile::tempdir()?;
    let store = Store::open(cache.path().join("content"))?;
    let engine = Engine::new(EngineConfig::default())?;
    let mut text =
        format!("{:<26} {:>10} {:>10} {:>10}\n", "in process, hello world", "req/s", "mean us", "compile ms");
    for guest in [LEGACY, WAGI, WASI_HTTP, WASI_HTTP_3, SPIN_SDK] {
        let began = Instant::now();
        let application = load(guest, guests, &engine, &store).await?;
        let compiled = began.elapsed();
        let count = ask(&application, time).await.context(guest.name)?;
        let mean = time.as_secs_f64() * 1e6 / f64::from(count.max(1));
        let rate = f64::from(count) / time.as_secs_f64();
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{:<26} {rate:>10.0} {mean:>10.1} {:>10}", guest.name, compiled.as_millis());
    }
    Ok(text)
}

async fn load(guest: Guest, guests: &Path, engine: &Engine, store: &Store) -> Result<Arc<HttpApplication>> {
    let app = guest.application(guests)?;
    let (path, into) = (app.path().to_path_buf(), store.clone());
    let loaded = tokio::task::spawn_blocking(move || sources::local::load(&path, &into)).await??;
    let builder = Builder::new(engine, Arc::new(loaded.application), store, RevisionSettings::default());
    Ok(HttpApplication::new(builder.build().await?))
}

/// How many requests were answered, one after the other.
async fn ask(application: &HttpApplication, time: Duration) -> Result<u32> {
    let connection = Connection::new(([127, 0, 0, 1], 9).into(), Scheme::HTTP);
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < time {
        let request = Request::get("/").header(header::HOST, "bench").body(Empty::<Bytes>::new())?;
        let response = application.handle(request, &connection).await;
        ensure!(response.status().is_success(), "it answered {}", response.status());
        response.into_body().collect().await?;
        count += 1;
    }
    Ok(count)
}
