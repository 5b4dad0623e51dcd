//! The front page: serves `/` and nothing else, because its route is exact.

use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::http_component;

#[http_component]
fn home(_request: Request) -> impl IntoResponse {
    Response::builder()
        .status(200)
        .header("content-type", "text/html; charset=utf-8")
        .body(
            "<!doctype html><title>Home</title><p>Home. The other component is at <a href=\"/api/hello\">/api/</a>.\n",
        )
        .build()
}
