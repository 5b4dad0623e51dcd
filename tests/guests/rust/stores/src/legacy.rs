//! `fermyon:spin/key-value` and `fermyon:spin/sqlite` without a version, in which handles are numbers.

use crate::Transcript;
use crate::bindings::fermyon::spin::key_value as kv;
use crate::bindings::fermyon::spin::sqlite::{self, Value};

pub fn key_value(says: &mut Transcript) -> u16 {
    says.say("denied", kv::open("forbidden"));
    let store = match kv::open("default") {
        Ok(store) => store,
        Err(error) => {
            says.say("open", error);
            return 200;
        }
    };
    says.say("absent", kv::get(store, "a"));
    says.say("set", kv::set(store, "a", b"value"));
    says.say("get", kv::get(store, "a"));
    says.say("exists", kv::exists(store, "a"));
    says.say("keys", kv::get_keys(store));
    says.say("delete", kv::delete(store, "a"));
    says.say("gone", kv::exists(store, "a"));
    says.say("never opened", kv::get(u32::MAX, "a"));
    kv::close(store);
    says.say("closed", kv::get(store, "a"));
    kv::close(store);
    200
}

/// Opens stores until there are too many.
pub fn many_stores(says: &mut Transcript) -> u16 {
    let mut open = Vec::new();
    let error = loop {
        match kv::open("default") {
            Ok(store) => open.push(store),
            Err(error) => break error,
        }
    };
    says.say("open", open.len());
    says.say("too many", error);
    kv::close(open[0]);
    says.say("after one is closed", kv::open("default").is_ok());
    200
}

pub fn sqlite(says: &mut Transcript) -> u16 {
    says.say("denied", sqlite::open("forbidden"));
    let connection = match sqlite::open("default") {
        Ok(connection) => connection,
        Err(error) => {
            says.say("open", error);
            return 200;
        }
    };
    let mut execute = |what: &str, statement: &str, parameters: &[Value]| {
        let result = sqlite::execute(connection, statement, parameters);
        says.say(what, result.map(|result| (result.columns, result.rows)));
    };
    execute("create", "CREATE TABLE t (i, r, t, b, n)", &[]);
    let values = [
        Value::Integer(i64::MIN),
        Value::Real(-0.5),
        Value::Text("a\0é".to_owned()),
        Value::Blob(vec![0, 255]),
        Value::Null,
    ];
    execute("insert", "INSERT INTO t VALUES (?, ?, ?, ?, ?)", &values);
    execute("select", "SELECT * FROM t", &[]);
    execute("nothing", "SELECT i FROM t WHERE 0", &[]);
    execute("wrong", "SELEC", &[]);
    sqlite::close(connection);
    says.say("closed", sqlite::execute(connection, "SELECT 1", &[]).map(|_| ()));
    200
}
