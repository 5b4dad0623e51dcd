//! Things to do: `GET /` lists them, `PUT /NAME` adds one or changes its text, `DELETE /NAME` removes it.

use spin_sdk::http::{IntoResponse, Method, Request, Response};
use spin_sdk::http_component;
use spin_sdk::key_value::{Error, Store};

#[http_component]
fn handle(request: Request) -> impl IntoResponse {
    answer(&request).unwrap_or_else(|error| plain(500, format!("{error}\n")))
}

fn answer(request: &Request) -> Result<Response, Error> {
    let store = Store::open_default()?;
    let name = request.path().trim_start_matches('/');
    Ok(match (request.method(), name) {
        (Method::Get, "") => plain(200, list(&store)?),
        (Method::Get, name) => match store.get(name)? {
            Some(text) => plain(200, text),
            None => plain(404, "nothing of that name\n"),
        },
        (Method::Put, name) if !name.is_empty() => {
            store.set(name, request.body())?;
            plain(200, "noted\n")
        }
        (Method::Delete, name) if !name.is_empty() => {
            store.delete(name)?;
            plain(200, "done\n")
        }
        _ => plain(405, "use GET, PUT /NAME or DELETE /NAME\n"),
    })
}

/// One line for each thing, by name.
fn list(store: &Store) -> Result<String, Error> {
    let mut names = store.get_keys()?;
    names.sort();
    let mut lines = String::new();
    for name in names {
        let text = store.get(&name)?.unwrap_or_default();
        lines.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&text).trim_end()));
    }
    if lines.is_empty() {
        lines.push_str("nothing to do\n");
    }
    Ok(lines)
}

fn plain(status: u16, body: impl Into<Vec<u8>>) -> Response {
    Response::builder().status(status).header("content-type", "text/plain").body(body.into()).build()
}
