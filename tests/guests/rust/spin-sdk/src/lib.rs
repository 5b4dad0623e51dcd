//! A guest written with the Spin SDK, as Spin's users write them: greeting, key-value, SQLite, variables, databases.

mod databases;

use spin_sdk::http::{IntoResponse, Method, Request, Response};
use spin_sdk::http_component;
use spin_sdk::key_value::{Error as StoreError, Store};
use spin_sdk::{sqlite, sqlite3, variables};

#[http_component]
fn handle(request: Request) -> impl IntoResponse {
    let path = request.path();
    if path == "/" {
        plain(200, "Hello from the Spin SDK\n")
    } else if let Some(key) = path.strip_prefix("/kv/") {
        key_value(&request, key).unwrap_or_else(|error| plain(502, format!("{error}\n")))
    } else if let Some(label) = path.strip_prefix("/sqlite2/") {
        sqlite_2(label, &text_of(&request)).unwrap_or_else(|error| plain(502, format!("{error:?}\n")))
    } else if let Some(label) = path.strip_prefix("/sqlite3/") {
        sqlite_3(label, &text_of(&request)).unwrap_or_else(|error| plain(502, format!("{error:?}\n")))
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
        Method::Get if key.is_empty() => {
            let mut keys = store.get_keys()?;
            keys.sort();
            plain(200, format!("{keys:?}\n"))
        }
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

fn text_of(request: &Request) -> String {
    String::from_utf8_lossy(request.body()).into_owned()
}

fn sqlite_2(label: &str, statement: &str) -> Result<Response, sqlite::Error> {
    let result = sqlite::Connection::open(label)?.execute(statement, &[])?;
    let rows: Vec<_> = result.rows.iter().map(|row| &row.values).collect();
    Ok(plain(200, format!("{:?}\n{rows:?}\n", result.columns)))
}

fn sqlite_3(label: &str, statement: &str) -> Result<Response, sqlite3::Error> {
    let connection = sqlite3::Connection::open(label)?;
    let result = connection.execute(statement, &[])?;
    let rows: Vec<_> = result.rows.iter().map(|row| &row.values).collect();
    let (changes, rowid) = (connection.changes(), connection.last_insert_rowid());
    Ok(plain(200, format!("{:?}\n{rows:?}\nchanges {changes}, row {rowid}\n", result.columns)))
}

fn plain(status: u16, body: impl Into<String>) -> Response {
    Response::builder().status(status).header("content-type", "text/plain").body(body.into()).build()
}
