//! What is asked of the servers.

use std::{net::SocketAddr, path::Path};

use anyhow::{Result, ensure};
use bytes::Bytes;
use hyper::Method;
use tempfile::TempDir;

use super::{
    load::{self, Ask},
    process::{Server, WASMTIME},
};

/// One guest in an application of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest {
    /// What is compared.
    pub(crate) name: &'static str,
    /// Its file.
    pub(crate) wasm: &'static str,
    /// More lines of its trigger and of its component.
    trigger: &'static str,
    component: &'static str,
}

const fn guest(name: &'static str, wasm: &'static str) -> Guest {
    Guest { name, wasm, trigger: "", component: "" }
}

pub(crate) const LEGACY: Guest = guest("legacy", "legacy-rust.wasm");
pub(crate) const WAGI: Guest = Guest { trigger: "executor = { type = \"wagi\" }", ..guest("Wagi", "wagi-rust.wasm") };
pub(crate) const WASI_HTTP: Guest = Guest {
    component: "allowed_outbound_hosts = [\"http://127.0.0.1:*\"]",
    ..guest("wasi:http 0.2", "http-rust.wasm")
};
pub(crate) const WASI_HTTP_3: Guest = guest("wasi:http 0.3", "http-p3.wasm");
pub(crate) const SPIN_SDK: Guest =
    Guest { component: "key_value_stores = [\"default\"]", ..guest("Spin SDK", "http-spin-sdk.wasm") };

impl Guest {
    /// A directory with an application of this guest alone.
    pub(crate) fn application(&self, guests: &Path) -> Result<TempDir> {
        let dir = tempfile::tempdir()?;
        let wasm = guests.join(self.wasm);
        ensure!(wasm.exists(), "{} is missing: make guests", wasm.display());
        let manifest = format!(
            "spin_manifest_version = 2\n[application]\nname = \"bench\"\n[[trigger.http]]\nroute = \"/...\"\ncomponent = \"guest\"\n{}\n\
             [component.guest]\nsource = {:?}\n{}\n",
            self.trigger,
            wasm.display().to_string(),
            self.component
        );
        std::fs::write(dir.path().join("spin.toml"), manifest)?;
        Ok(dir)
    }
}

/// A peer's name and flags.
type Peer = (&'static str, &'static [&'static str]);

/// One kind of request, and who can answer it.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// As `spindle up` runs them.
    pub(crate) guests: Vec<Guest>,
    /// The components that `wasmtime serve` runs, and how.
    pub(crate) peers: Vec<(&'static str, Peer)>,
    /// Whether the floor can do it.
    pub(crate) is_for_floor: bool,
    pub(crate) request: Ask,
    /// What is sent first.
    first: Option<(Method, &'static str, Bytes)>,
}

impl Workload {
    /// All workloads; calls go out to `floor`.
    pub(crate) fn all(floor: &Server) -> Vec<Self> {
        let get = |path: String| Ask { method: Method::GET, path, body: Bytes::new(), answer: 0 };
        let echo = |size| Ask {
            method: Method::POST,
            path: "/echo".to_owned(),
            body: Bytes::from(vec![b'x'; size]),
            answer: 0,
        };
        let peers: Vec<(&str, Peer)> = WASMTIME.iter().map(|peer| (WASI_HTTP.wasm, *peer)).collect();
        let of = |name, request| Self {
            name,
            guests: vec![WASI_HTTP],
            peers: peers.clone(),
            is_for_floor: true,
            request,
            first: None,
        };
        let fetch = get(format!("/fetch?url=http://{}/", floor.address));
        vec![
            Self { guests: vec![LEGACY, WAGI, WASI_HTTP, WASI_HTTP_3], ..of("hello world", get("/".to_owned())) },
            of("echo of 1 KB", echo(1 << 10)),
            of("echo of 1 MB", echo(1 << 20)),
            Self { is_for_floor: false, ..of("outbound call to the floor", fetch) },
            Self {
                guests: vec![SPIN_SDK],
                peers: Vec::new(),
                is_for_floor: false,
                first: Some((Method::PUT, "/kv/key", Bytes::from_static(&[b'v'; 100]))),
                ..of("key-value get of 100 bytes", get("/kv/key".to_owned()))
            },
        ]
    }

    /// Gives the server at `address` what it needs; the request, with the length of its answer there.
    pub(crate) async fn prepare(&self, address: SocketAddr) -> Result<Ask> {
        if let Some((method, path, body)) = &self.first {
            let (status, answer) = load::once_alone(address, method.clone(), path, body.clone()).await?;
            ensure!((200..300).contains(&status), "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        let Ask { method, path, body, .. } = &self.request;
        let (status, answer) = load::once_alone(address, method.clone(), path, body.clone()).await?;
        ensure!((200..300).contains(&status), "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        ensure!(body.is_empty() || answer == *body, "{method} {path}: the answer is not what was sent");
        Ok(Ask { answer: answer.len(), ..self.request.clone() })
    }
}
