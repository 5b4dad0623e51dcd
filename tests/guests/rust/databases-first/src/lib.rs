//! A component that uses the first interfaces of Spin's databases, which have no version and take an address in every call.
//! The body's first line is an address, the second a statement; the path is the interface. Answers with what each call
//! returned.

use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wit_bindgen::generate!({
    inline: "
        package tests:databases;
        world databases {
            import fermyon:spin/redis;
            import fermyon:spin/postgres;
            import fermyon:spin/mysql;
        }
    ",
    path: ["../../../../node-runtime/wit/fermyon-spin"],
    world: "tests:databases/databases",
    generate_all,
});

use fermyon::spin::{mysql, postgres, rdbms_types::ParameterValue, redis, redis_types::RedisParameter};

struct Guest;

impl wasi::exports::http::incoming_handler::Guest for Guest {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let body = read(&request);
        let (address, what) = body.split_once('\n').unwrap_or((&body, ""));
        let says = match path.as_str() {
            "/redis" => over_redis(address, what),
            "/postgres" => over_postgres(address, what),
            "/mysql" => over_mysql(address, what),
            _ => "no such interface".to_owned(),
        };
        respond(outparam, says.as_bytes());
    }
}

wasi::http::proxy::export!(Guest);

fn over_redis(address: &str, key: &str) -> String {
    let set = format!("{key}-set");
    let members = || {
        let mut members = redis::smembers(address, &set);
        members.iter_mut().for_each(|members| members.sort());
        members
    };
    let values = ["a".to_owned(), "b".to_owned()];
    let says = [
        format!("{:?}", redis::get(address, key)),
        format!("{:?}", redis::set(address, key, b"41")),
        format!("{:?}", redis::incr(address, key)),
        format!("{:?}", redis::get(address, key).map(String::from_utf8)),
        format!("{:?}", redis::sadd(address, &set, &values)),
        format!("{:?} {:?}", members(), redis::srem(address, &set, &values)),
        format!("{:?}", redis::publish(address, "channel", b"hello")),
        format!("{:?}", redis::execute(address, "APPEND", &[RedisParameter::Binary(key.into()), RedisParameter::Int64(7)])),
        format!("{:?}", redis::del(address, &[key.to_owned()])),
    ];
    says.join("\n")
}

fn over_postgres(address: &str, statement: &str) -> String {
    let parameters = [ParameterValue::Int32(7), ParameterValue::Str("text".to_owned())];
    let executed = postgres::execute(address, "create temporary table t (a int)", &[]);
    format!("{executed:?}\n{:?}", postgres::query(address, statement, &parameters))
}

fn over_mysql(address: &str, statement: &str) -> String {
    let parameters = [ParameterValue::Uint64(u64::MAX), ParameterValue::Str("text".to_owned())];
    let executed = mysql::execute(address, "create temporary table t (a int)", &[]);
    format!("{executed:?}\n{:?}", mysql::query(address, statement, &parameters))
}

fn read(request: &IncomingRequest) -> String {
    let body = request.consume().expect("a body");
    let stream = body.stream().expect("a stream");
    let mut bytes = Vec::new();
    while let Ok(more) = stream.blocking_read(1 << 16) {
        bytes.extend(more);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn respond(outparam: ResponseOutparam, text: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("a body");
    ResponseOutparam::set(outparam, Ok(response));
    let stream = body.write().expect("a stream");
    for part in text.chunks(4096) {
        stream.blocking_write_and_flush(part).expect("written");
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("finished");
}
