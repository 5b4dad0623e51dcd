//! `/var/NAME`: a variable, by `spin:variables@3.0.0`.

use crate::text;
use spin_sdk::http::{BoxBody, Response, Result};

pub async fn handle(name: &str) -> Result<Response<BoxBody>> {
    match spin_sdk::variables::get(name).await {
        Ok(value) => text(200, &format!("{value}\n")),
        Err(error) => text(404, &format!("{error}\n")),
    }
}
