//! The application that the tests publish, and what it is as a bundle.

use std::collections::BTreeMap;

use manifest::{
    Application, Component, Content, Digest, Executor, File, Pattern, Route, Target,
    bindle_layout::{self, Invoice},
};
use sources::{
    Store,
    bindle::{BindleClient, BindleId, ClientOptions},
    http::Trust,
};

use crate::server::Server;

/// The content of the application below.
pub(crate) const WASM: &[u8] = b"\0asm\x01\0\0\0";
pub(crate) const PAGE: &[u8] = b"<h1>shop</h1>";

pub(crate) fn content(bytes: &[u8]) -> Content {
    Content { digest: Digest::of(bytes), size: bytes.len() as u64 }
}

/// A small application.
pub(crate) fn shop(version: &str) -> Application {
    let component = Component {
        description: None,
        source: content(WASM),
        files: vec![File { path: "site/index.html".to_owned(), content: content(PAGE) }],
        environment: BTreeMap::new(),
        variables: BTreeMap::new(),
        allowed_outbound_hosts: vec![],
        key_value_stores: vec![],
        sqlite_databases: vec![],
        ai_models: vec![],
    };
    let target = Target::Component { id: "web".parse().unwrap(), executor: Executor::Spin };
    Application {
        name: "shop".to_owned(),
        version: version.to_owned(),
        description: None,
        authors: vec![],
        base: "/".to_owned(),
        variables: BTreeMap::new(),
        routes: vec![Route { pattern: Pattern::Path("/...".to_owned()), target }],
        components: BTreeMap::from([("web".parse().unwrap(), component)]),
    }
}

/// An application as a bundle: its id, its invoice, and the bytes of every parcel.
pub(crate) struct Bundled {
    pub(crate) id: BindleId,
    pub(crate) invoice: Invoice,
    pub(crate) parcels: BTreeMap<Digest, Vec<u8>>,
}

pub(crate) fn bundled(application: &Application) -> Bundled {
    let publication = bindle_layout::publish(application, &BTreeMap::new()).unwrap();
    let invoice = publication.invoice(application, None).unwrap();
    let all = [publication.manifest_toml.into_bytes(), WASM.to_vec(), PAGE.to_vec()];
    let parcels = all.into_iter().map(|bytes| (Digest::of(&bytes), bytes)).collect();
    Bundled { id: invoice.id().parse().unwrap(), invoice, parcels }
}

pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

/// What the tests do to a server.
impl Server {
    pub(crate) fn trusting(&self, trust: Trust) -> BindleClient {
        self.client(ClientOptions { trust, ..ClientOptions::default() })
    }

    /// Signs and creates the bundle, without its parcels.
    pub(crate) async fn create(&self, client: &BindleClient, bundled: &mut Bundled) {
        self.keys.sign(&mut bundled.invoice, None).unwrap();
        client.create(&bundled.id, &bundled.invoice).await.unwrap();
    }

    /// Pushes all of the bundle.
    pub(crate) async fn push(&self, client: &BindleClient, bundled: &mut Bundled) {
        self.create(client, bundled).await;
        let missing = client.missing(&bundled.id).await.unwrap();
        let (_dir, store) = store();
        for digest in missing {
            let content = store.insert_bytes(&bundled.parcels[&digest]).unwrap();
            client.upload(&bundled.id, &content, &store.get(&content).unwrap().unwrap()).await.unwrap();
        }
        assert!(client.missing(&bundled.id).await.unwrap().is_empty());
    }
}
