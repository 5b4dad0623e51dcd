//! A core module of 2023 that uses databases by the imports `outbound-redis`, `outbound-pg` and `outbound-mysql`: arguments
//! as pointers and lengths, results in memory. The path says which; the body's first line is an address, the second a key or
//! a statement. Answers with what each call left in memory, read at the offsets of the canonical ABI.

#[path = "../../legacy/src/abi.rs"]
mod abi;

use abi::{Request, Response};

/// A result of at most 24 bytes, filled so that what the host does not write shows.
#[repr(C, align(8))]
struct Area([u8; 24]);

/// A parameter: a tag, then a number or a pointer and a length.
#[repr(C, align(8))]
struct Parameter {
    tag: u8,
    payload: u64,
}

type Bytes = *const u8;

macro_rules! import {
    ($module:literal, $($name:ident as $link:literal ($($argument:ident: $type:ty),*);)*) => {
        #[link(wasm_import_module = $module)]
        unsafe extern "C" {
            $(#[link_name = $link]
            fn $name(address: Bytes, address_size: usize, $($argument: $type,)* result: *mut Area);)*
        }
    };
}

import! { "outbound-redis",
    redis_publish as "publish" (channel: Bytes, channel_size: usize, payload: Bytes, payload_size: usize);
    redis_get as "get" (key: Bytes, key_size: usize);
    redis_set as "set" (key: Bytes, key_size: usize, value: Bytes, value_size: usize);
    redis_incr as "incr" (key: Bytes, key_size: usize);
    redis_del as "del" (keys: *const &[u8], count: usize);
    redis_sadd as "sadd" (key: Bytes, key_size: usize, values: *const &[u8], count: usize);
    redis_srem as "srem" (key: Bytes, key_size: usize, values: *const &[u8], count: usize);
    redis_smembers as "smembers" (key: Bytes, key_size: usize);
    redis_execute as "execute" (command: Bytes, command_size: usize, parameters: *const Parameter, count: usize);
}

import! { "outbound-pg",
    pg_query as "query" (statement: Bytes, statement_size: usize, parameters: *const Parameter, count: usize);
    pg_execute as "execute" (statement: Bytes, statement_size: usize, parameters: *const Parameter, count: usize);
}

import! { "outbound-mysql",
    mysql_query as "query" (statement: Bytes, statement_size: usize, parameters: *const Parameter, count: usize);
    mysql_execute as "execute" (statement: Bytes, statement_size: usize, parameters: *const Parameter, count: usize);
}

impl Area {
    fn filled(call: impl FnOnce(*mut Self)) -> Self {
        let mut area = Self([0xEE; 24]);
        call(&mut area);
        area
    }

    fn byte(&self, at: usize) -> u8 {
        self.0[at]
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn long(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn unit(&self) -> String {
        if self.byte(0) == 0 { "ok".to_owned() } else { format!("error {}", self.byte(1)) }
    }

    fn number(&self) -> String {
        if self.byte(0) == 0 { self.long(8).to_string() } else { format!("error {}", self.byte(8)) }
    }

    fn list(&self, show: impl FnOnce(u32, u32) -> String) -> String {
        if self.byte(0) == 0 { show(self.word(4), self.word(8)) } else { format!("error {}", self.byte(4)) }
    }

    /// An error with a message, whose kind is at `at`.
    fn failure(&self, at: usize) -> String {
        format!("error {}: {}", self.byte(at), text(self.word(at + 4), self.word(at + 8)))
    }

    fn rows(&self) -> String {
        if self.byte(0) != 0 {
            return self.failure(4);
        }
        let columns = elements(self.word(4), self.word(8), 12);
        let columns = columns.iter().map(|column| format!("{}: {}", pair(column, 0), column[8]));
        let rows = elements(self.word(12), self.word(16), 8);
        let rows = rows.iter().map(|row| {
            let values = elements(word(row, 0), word(row, 4), 16);
            values.iter().map(|value| shown(value)).collect::<Vec<_>>().join(", ")
        });
        format!("{}\n{}", columns.collect::<Vec<_>>().join(", "), rows.collect::<Vec<_>>().join("\n"))
    }
}

fn memory(at: u32, size: u32) -> &'static [u8] {
    if size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(at as *const u8, size as usize) } }
}

fn text(at: u32, size: u32) -> String {
    String::from_utf8_lossy(memory(at, size)).into_owned()
}

fn elements(at: u32, count: u32, size: u32) -> Vec<&'static [u8]> {
    assert_eq!(at % 4, 0, "lists are aligned");
    memory(at, count * size).chunks(size as usize).collect()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn pair(bytes: &[u8], at: usize) -> String {
    text(word(bytes, at), word(bytes, at + 4))
}

/// A `db-value`.
fn shown(value: &[u8]) -> String {
    let bits = u64::from_le_bytes(value[8..16].try_into().unwrap());
    match value[0] {
        0 => format!("{}", bits != 0),
        1 => format!("{}i8", bits as i8),
        2 => format!("{}i16", bits as i16),
        3 => format!("{}i32", bits as i32),
        4 => format!("{}i64", bits as i64),
        5..=8 => format!("{bits}u"),
        9 => format!("{}f32", f32::from_bits(bits as u32)),
        10 => format!("{}f64", f64::from_bits(bits)),
        11 => format!("\"{}\"", pair(value, 8)),
        12 => format!("{:?}", memory(word(value, 8), word(value, 12))),
        13 => "null".to_owned(),
        14 => "unsupported".to_owned(),
        tag => format!("tag {tag}"),
    }
}

fn text_parameter(tag: u8, text: &str) -> Parameter {
    Parameter { tag, payload: (text.len() as u64) << 32 | text.as_ptr() as u64 }
}

fn respond(request: &Request) -> Response {
    let body = String::from_utf8_lossy(&request.body);
    let (address, what) = body.split_once('\n').unwrap_or((&body, ""));
    let says = match request.uri.as_str() {
        "/redis" => over_redis(address, what),
        "/pg" => over_pg(address, what),
        "/mysql" => over_mysql(address, what),
        "/wild" => wild(address),
        _ => "no such import".to_owned(),
    };
    Response { status: 200, headers: Vec::new(), body: says.into_bytes() }
}

fn over_redis(address: &str, key: &str) -> String {
    let (a, n) = (address.as_ptr(), address.len());
    let (k, s) = (key.as_ptr(), key.len());
    let (set, values): (String, [&[u8]; 2]) = (format!("{key}-set"), [b"a", b"b"]);
    let (sk, ss) = (set.as_ptr(), set.len());
    let number = Parameter { tag: 0, payload: 7 };
    let appended = [text_parameter(1, key), number];
    let append = "APPEND";
    let keys: [&[u8]; 2] = [key.as_bytes(), set.as_bytes()];
    let show_text = |at, size| format!("\"{}\"", text(at, size));
    let show_list = |at, count| {
        let mut all: Vec<_> = elements(at, count, 8).iter().map(|one| pair(one, 0)).collect();
        all.sort();
        format!("{all:?}")
    };
    let show_replies = |at, count| {
        let all = elements(at, count, 16);
        let all = all.iter().map(|one| match one[0] {
            0 => "nil".to_owned(),
            1 => format!("status {}", pair(one, 8)),
            2 => format!("{}", i64::from_le_bytes(one[8..16].try_into().unwrap())),
            _ => format!("bytes {}", pair(one, 8)),
        });
        all.collect::<Vec<_>>().join(", ")
    };
    unsafe {
        [
            Area::filled(|area| redis_get(a, n, k, s, area)).list(show_text),
            Area::filled(|area| redis_set(a, n, k, s, b"41".as_ptr(), 2, area)).unit(),
            Area::filled(|area| redis_incr(a, n, k, s, area)).number(),
            Area::filled(|area| redis_get(a, n, k, s, area)).list(show_text),
            Area::filled(|area| redis_sadd(a, n, sk, ss, values.as_ptr(), 2, area)).number(),
            Area::filled(|area| redis_smembers(a, n, sk, ss, area)).list(show_list),
            Area::filled(|area| redis_srem(a, n, sk, ss, values.as_ptr(), 1, area)).number(),
            Area::filled(|area| redis_incr(a, n, sk, ss, area)).number(),
            Area::filled(|area| redis_get(a, n, sk, ss, area)).list(show_text),
            Area::filled(|area| redis_publish(a, n, k, s, b"hello".as_ptr(), 5, area)).unit(),
            Area::filled(|area| redis_execute(a, n, append.as_ptr(), 6, appended.as_ptr(), 2, area)).list(show_replies),
            Area::filled(|area| redis_del(a, n, keys.as_ptr(), 2, area)).number(),
        ]
        .join("\n")
    }
}

fn over_pg(address: &str, statement: &str) -> String {
    let (a, n) = (address.as_ptr(), address.len());
    let make = "create temporary table t (a int)";
    let parameters = [Parameter { tag: 4, payload: 7 }, text_parameter(11, "text"), Parameter { tag: 13, payload: 0 }];
    unsafe {
        let executed = Area::filled(|area| pg_execute(a, n, make.as_ptr(), make.len(), parameters.as_ptr(), 0, area));
        let executed = if executed.byte(0) == 0 { executed.long(8).to_string() } else { executed.failure(8) };
        let (s, z) = (statement.as_ptr(), statement.len());
        let rows = Area::filled(|area| pg_query(a, n, s, z, parameters.as_ptr(), 3, area)).rows();
        format!("{executed}\n{rows}")
    }
}

fn over_mysql(address: &str, statement: &str) -> String {
    let (a, n) = (address.as_ptr(), address.len());
    let make = "create temporary table t (a int)";
    let parameters = [Parameter { tag: 8, payload: u64::MAX }, text_parameter(11, "text"), Parameter { tag: 13, payload: 0 }];
    unsafe {
        let executed = Area::filled(|area| mysql_execute(a, n, make.as_ptr(), make.len(), parameters.as_ptr(), 0, area));
        let executed = if executed.byte(0) == 0 { "ok".to_owned() } else { executed.failure(4) };
        let (s, z) = (statement.as_ptr(), statement.len());
        let rows = Area::filled(|area| mysql_query(a, n, s, z, parameters.as_ptr(), 3, area)).rows();
        format!("{executed}\n{rows}")
    }
}

/// A list that is far longer than the memory.
fn wild(address: &str) -> String {
    let (a, n) = (address.as_ptr(), address.len());
    Area::filled(|area| unsafe { redis_del(a, n, std::ptr::dangling(), usize::MAX / 2, area) }).number()
}
