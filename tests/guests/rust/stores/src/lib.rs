//! A component that uses stores and databases by the interfaces that no SDK of these tests has: those without a version, and
//! WASI's. Each path goes through one interface with the store `default`, and answers with what every call returned.

mod legacy;
mod wasi_keyvalue;

use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod bindings {
    wit_bindgen::generate!({ world: "stores", path: "wit", generate_all });
}

struct Guest;

impl wasi::exports::http::incoming_handler::Guest for Guest {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let mut says = Transcript::default();
        let status = match path.as_str() {
            "/key-value" => legacy::key_value(&mut says),
            "/many-stores" => legacy::many_stores(&mut says),
            "/sqlite" => legacy::sqlite(&mut says),
            "/wasi/store" => wasi_keyvalue::store(&mut says),
            "/wasi/batch" => wasi_keyvalue::batch(&mut says),
            "/wasi/atomics" => wasi_keyvalue::atomics(&mut says),
            _ => 404,
        };
        respond(outparam, status, says.0.as_bytes());
    }
}

wasi::http::proxy::export!(Guest);

/// What calls returned, one a line.
#[derive(Default)]
pub struct Transcript(String);

impl Transcript {
    pub fn say(&mut self, what: &str, returned: impl std::fmt::Debug) {
        self.0.push_str(&format!("{what}: {returned:?}\n"));
    }
}

fn respond(outparam: ResponseOutparam, status: u16, text: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("the only body");
    ResponseOutparam::set(outparam, Ok(response));
    let stream = body.write().expect("the only stream");
    for chunk in text.chunks(4096) {
        stream.blocking_write_and_flush(chunk).expect("somebody reads");
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("a complete body");
}
