//! `/sqlite/LABEL`: runs the body as a statement of `spin:sqlite@3.1.0`, and answers with what it returned.

use crate::text;
use spin_sdk::http::body::IncomingBodyExt as _;
use spin_sdk::http::{BoxBody, Request, Response, Result};
use spin_sdk::sqlite::{Connection, Error};

pub async fn handle(request: Request, label: &str) -> Result<Response<BoxBody>> {
    let label = label.to_owned();
    let body = request.into_body().bytes().await?;
    match answer(&label, &String::from_utf8_lossy(&body)).await {
        Ok(answer) => text(200, &answer),
        Err(error) => text(502, &format!("{error:?}\n")),
    }
}

async fn answer(label: &str, statement: &str) -> Result<String, Error> {
    let connection = Connection::open(label).await?;
    let result = connection.execute(statement, []).await?;
    let columns = result.columns().to_vec();
    let rows: Vec<_> = result.collect().await?.into_iter().map(|row| row.values).collect();
    let (changes, rowid) = (connection.changes().await, connection.last_insert_rowid().await);
    Ok(format!("{columns:?}\n{rows:?}\nchanges {changes}, row {rowid}\n"))
}
