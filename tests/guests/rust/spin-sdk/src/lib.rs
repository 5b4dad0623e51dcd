//! A guest written with the Spin SDK, as Spin's users write them: greeting, key-value, variables, databases.

mod databases;

use spin_sdk::http::{IntoResponse, Method, Request, Response};
use spin_sdk::http_component;
use spin_sdk::key_value::{Error as StoreError, Store};
use spin_sdk::variables;

#[http_component]
fn handle(request: Request) -> impl IntoResponse {
    let path = request.path();
    if path == "/" {
        plain(200, "Hello from the Spin SDK\n")
    } else if let Some(key) = path.strip_prefix("/kv/") {
        key_value(&request, key).unwrap_or_else(|error| plain(502, format!("{error}\n")))
    } else if let Some(name) = path.strip_prefix("/var/") {
        match variables::get(name) {
            Ok(value) => plain(200, format!("{value}\n")),
            Err(error) => plain(404, format!("{error}\n")),
        }
    } else if let Some(interface) = path.strip_prefix("/db/") {
        plain(200, databases::handle(interface, request.body()))
    } else {
        plain(404, "not found\n")
    }
}

fn key_value(request: &Request, key: &str) -> Result<Response, StoreError> {
    let store = match request.query().strip_prefix("store=") {
        Some(label) => Store::open(label)?,
        None => Store::open_default()?,
    };
    Ok(match request.method() {
        Method::Get => match store.get(key)? {
            Some(value) => Response::new(200, value),
            None => plain(404, "no such key\n"),
        },
        Method::Put | Method::Post => {
            store.set(key, request.body())?;
            Response::new(204, "")
        }
        Method::Delete => {
            store.delete(key)?;
            Response::new(204, "")
        }
        _ => plain(405, "use GET, PUT or DELETE\n"),
    })
}

fn plain(status: u16, body: impl Into<String>) -> Response {
    Response::builder().status(status).header("content-type", "text/plain").body(body.into()).build()
}
