//! The API: serves everything below `/api`, because its route ends in `/...`.

use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::http_component;

#[http_component]
fn api(request: Request) -> impl IntoResponse {
    // The host tells which part of the path is below the route.
    let rest = request.header("spin-path-info").and_then(|value| value.as_str()).unwrap_or("");
    Response::builder()
        .status(200)
        .header("content-type", "text/plain")
        .body(format!("The API was asked for {rest}\n"))
        .build()
}
