//! A guest of the legacy Spin HTTP ABI that uses the core imports `key-value` and `sqlite` (Spin v0.9 to v1.5). Each path goes
//! through one import with the store `default`, and answers with what every call returned.

#[expect(dead_code, reason = "this guest looks at nothing but the URI")]
#[path = "../../legacy/src/abi.rs"]
mod abi;
mod imports;

use abi::{Request, Response};
use imports::{Parameter, key_value, sqlite};

fn respond(request: &Request) -> Response {
    let mut says = Transcript::default();
    match request.uri.as_str() {
        "/key-value" => stores(&mut says),
        "/sqlite" => databases(&mut says),
        "/misuse/result" => imports::result_outside(),
        "/misuse/key" => imports::key_outside(),
        "/misuse/utf8" => imports::key_that_is_no_text(),
        "/misuse/parameters" => imports::parameters_outside(),
        "/misuse/tag" => imports::parameter_of_no_kind(),
        "/misuse/repeated" => says.say("repeated", imports::one_text_many_times()),
        _ => return Response { status: 404, headers: Vec::new(), body: b"not found\n".to_vec() },
    }
    Response { status: 200, headers: Vec::new(), body: says.0.into_bytes() }
}

#[derive(Default)]
struct Transcript(String);

impl Transcript {
    fn say(&mut self, what: &str, returned: impl std::fmt::Debug) {
        self.0.push_str(&format!("{what}: {returned:?}\n"));
    }
}

fn stores(says: &mut Transcript) {
    says.say("denied", key_value::open("forbidden"));
    let store = match key_value::open("default") {
        Ok(store) => store,
        Err(error) => return says.say("open", error),
    };
    says.say("absent", key_value::get(store, "a"));
    says.say("set", key_value::set(store, "a", b"value"));
    says.say("empty", key_value::set(store, "b", b""));
    says.say("get", key_value::get(store, "a"));
    says.say("get empty", key_value::get(store, "b"));
    says.say("exists", key_value::exists(store, "a"));
    says.say("keys", key_value::get_keys(store));
    says.say("delete", key_value::delete(store, "a"));
    says.say("gone", key_value::exists(store, "a"));
    says.say("too large", key_value::set(store, "c", &vec![0; 5000]));
    says.say("never opened", key_value::get(u32::MAX, "a"));
    key_value::close(store);
    says.say("closed", key_value::get(store, "a"));
    key_value::close(store);
}

fn databases(says: &mut Transcript) {
    says.say("denied", sqlite::open("forbidden"));
    let connection = match sqlite::open("default") {
        Ok(connection) => connection,
        Err(error) => return says.say("open", error),
    };
    says.say("create", sqlite::execute(connection, "CREATE TABLE t (i, r, t, b, n)", &[]));
    let values = [
        Parameter::integer(i64::MIN),
        Parameter::real(-0.5),
        Parameter::text("a\0é"),
        Parameter::blob(&[0, 255]),
        Parameter::null(),
    ];
    says.say("insert", sqlite::execute(connection, "INSERT INTO t VALUES (?, ?, ?, ?, ?)", &values));
    says.say("select", sqlite::execute(connection, "SELECT * FROM t", &[]));
    says.say("nothing", sqlite::execute(connection, "SELECT i FROM t WHERE 0", &[]));
    says.say("wrong", sqlite::execute(connection, "SELEC", &[]));
    sqlite::close(connection);
    says.say("closed", sqlite::execute(connection, "SELECT 1", &[]));
}
