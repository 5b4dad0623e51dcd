//! The smallest application: one component, one answer.

use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::http_component;

#[http_component]
fn hello(_request: Request) -> impl IntoResponse {
    let version = std::env::var("VERSION").unwrap_or_else(|_| "unknown".to_owned());
    Response::builder()
        .status(200)
        .header("content-type", "text/plain")
        .body(format!("Hello from Rust, version {version}\n"))
        .build()
}
