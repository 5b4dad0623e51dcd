//! `/kv/KEY`, and `/kv/` for all keys: the store `default`, or `?store=LABEL`, of `spin:key-value@3.0.0`. `PUT` with `?times=N` sets
//! the value N times at once.

use crate::{Query, text};
use bytes::Bytes;
use spin_sdk::http::body::IncomingBodyExt as _;
use spin_sdk::http::{BoxBody, FullBody, Method, Request, Response, Result, box_body};
use spin_sdk::key_value::{Error, Store};

pub async fn handle(request: Request, key: &str, query: &Query<'_>) -> Result<Response<BoxBody>> {
    let label = query.get("store").unwrap_or("default").to_owned();
    match answer(request, key, &label, query.number("times", 1)).await {
        Ok(response) => Ok(response),
        Err(error) => text(502, &format!("{error}\n")),
    }
}

async fn answer(request: Request, key: &str, label: &str, times: u64) -> Result<Response<BoxBody>, Error> {
    let store = Store::open(label).await?;
    let other = |error: &dyn std::fmt::Debug| Error::Other(format!("{error:?}"));
    match *request.method() {
        Method::GET if key.is_empty() => {
            let mut keys = store.get_keys().await.collect().await?;
            keys.sort();
            text(200, &format!("{keys:?}\n")).map_err(|error| other(&error))
        }
        Method::GET => Ok(match store.get(key).await? {
            Some(value) => Response::new(box_body(FullBody::new(Bytes::from(value)))),
            None => text(404, "no such key\n").map_err(|error| other(&error))?,
        }),
        Method::PUT => {
            let value = request.into_body().bytes().await.map_err(|error| other(&error))?;
            futures::future::try_join_all((0..times).map(|_| store.set(key, &value))).await?;
            text(201, "set\n").map_err(|error| other(&error))
        }
        Method::DELETE => {
            store.delete(key).await?;
            text(200, "deleted\n").map_err(|error| other(&error))
        }
        _ => text(405, "use GET, PUT or DELETE\n").map_err(|error| other(&error)),
    }
}
