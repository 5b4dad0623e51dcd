//! Wagi: how a request becomes a program's arguments and environment, and its output a response.
//!
//! The rules are those of Spin's Wagi executor (CGI 1.1 with the Wagi project's additions), with these differences on purpose:
//! `CONTENT_TYPE` is the request's; repeated headers are kept both ways; an explicit `status` beats the 302 of
//! `location` whatever their order; and `proxy` headers are not passed on, because programs take `HTTP_PROXY` for a
//! setting (CVE-2016-5385).

mod request;
mod response;

pub use request::{WagiRequest, arguments, environment};
pub use response::{ResponseError, ResponseHead, response_head};
