//! The core imports `key-value` and `sqlite`: arguments as pointers and lengths, results in memory, at the offsets of the
//! canonical ABI. What the host allocates is leaked: an instance serves one request.

/// A result of at most 20 bytes.
#[repr(C, align(8))]
#[derive(Default)]
pub struct Area([u32; 6]);

/// The kind and the message of an error.
pub type Failure = (u8, String);

#[link(wasm_import_module = "key-value")]
unsafe extern "C" {
    #[link_name = "open"]
    fn kv_open(name: *const u8, size: usize, result: *mut Area);
    #[link_name = "get"]
    fn kv_get(store: u32, key: *const u8, size: usize, result: *mut Area);
    #[link_name = "set"]
    fn kv_set(store: u32, key: *const u8, size: usize, value: *const u8, value_size: usize, result: *mut Area);
    #[link_name = "delete"]
    fn kv_delete(store: u32, key: *const u8, size: usize, result: *mut Area);
    #[link_name = "exists"]
    fn kv_exists(store: u32, key: *const u8, size: usize, result: *mut Area);
    #[link_name = "get-keys"]
    fn kv_get_keys(store: u32, result: *mut Area);
    #[link_name = "close"]
    fn kv_close(store: u32);
}

#[link(wasm_import_module = "sqlite")]
unsafe extern "C" {
    #[link_name = "open"]
    fn sql_open(name: *const u8, size: usize, result: *mut Area);
    #[link_name = "execute"]
    fn sql_execute(
        connection: u32,
        statement: *const u8,
        size: usize,
        parameters: *const Parameter,
        count: usize,
        result: *mut Area,
    );
    #[link_name = "close"]
    fn sql_close(connection: u32);
}

/// A value: a tag, and a number or a pointer and a length at 8.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Parameter {
    tag: u8,
    payload: u64,
}

impl Parameter {
    pub fn integer(number: i64) -> Self {
        Self { tag: 0, payload: number as u64 }
    }

    pub fn real(number: f64) -> Self {
        Self { tag: 1, payload: number.to_bits() }
    }

    pub fn text(text: &str) -> Self {
        Self { tag: 2, ..Self::blob(text.as_bytes()) }
    }

    pub fn blob(blob: &[u8]) -> Self {
        Self { tag: 3, payload: (blob.len() as u64) << 32 | blob.as_ptr() as u64 }
    }

    pub fn null() -> Self {
        Self { tag: 4, payload: 0 }
    }
}

impl Area {
    fn tag(&self) -> u8 {
        self.0[0] as u8
    }

    fn result(&self) -> Result<(), Failure> {
        if self.tag() == 0 {
            return Ok(());
        }
        let kind = self.0[1] as u8;
        let has_message = self.0[3] > 0;
        Err((kind, if has_message { text(self.0[2], self.0[3]) } else { String::new() }))
    }
}

fn bytes(at: u32, size: u32) -> Vec<u8> {
    if size == 0 { Vec::new() } else { unsafe { std::slice::from_raw_parts(at as *const u8, size as usize) }.to_vec() }
}

fn text(at: u32, size: u32) -> String {
    String::from_utf8(bytes(at, size)).expect("the host gives UTF-8")
}

/// The words of a list of `count` elements of `each` words.
fn words(at: u32, count: u32, each: usize) -> Vec<Vec<u32>> {
    let all = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(at as *const u32, count as usize * each) } };
    all.chunks(each).map(<[u32]>::to_vec).collect()
}

fn strings(at: u32, count: u32) -> Vec<String> {
    words(at, count, 2).iter().map(|pair| text(pair[0], pair[1])).collect()
}

fn call(import: impl FnOnce(*mut Area)) -> Area {
    let mut area = Area::default();
    import(&mut area);
    area
}

pub mod key_value {
    use super::*;

    pub fn open(name: &str) -> Result<u32, Failure> {
        let area = call(|area| unsafe { kv_open(name.as_ptr(), name.len(), area) });
        area.result().map(|()| area.0[1])
    }

    pub fn get(store: u32, key: &str) -> Result<Vec<u8>, Failure> {
        let area = call(|area| unsafe { kv_get(store, key.as_ptr(), key.len(), area) });
        area.result().map(|()| bytes(area.0[1], area.0[2]))
    }

    pub fn set(store: u32, key: &str, value: &[u8]) -> Result<(), Failure> {
        call(|area| unsafe { kv_set(store, key.as_ptr(), key.len(), value.as_ptr(), value.len(), area) }).result()
    }

    pub fn delete(store: u32, key: &str) -> Result<(), Failure> {
        call(|area| unsafe { kv_delete(store, key.as_ptr(), key.len(), area) }).result()
    }

    pub fn exists(store: u32, key: &str) -> Result<bool, Failure> {
        let area = call(|area| unsafe { kv_exists(store, key.as_ptr(), key.len(), area) });
        area.result().map(|()| area.0[1] as u8 == 1)
    }

    pub fn get_keys(store: u32) -> Result<Vec<String>, Failure> {
        let area = call(|area| unsafe { kv_get_keys(store, area) });
        area.result().map(|()| strings(area.0[1], area.0[2]))
    }

    pub fn close(store: u32) {
        unsafe { kv_close(store) }
    }
}

pub mod sqlite {
    use super::*;

    pub fn open(name: &str) -> Result<u32, Failure> {
        let area = call(|area| unsafe { sql_open(name.as_ptr(), name.len(), area) });
        area.result().map(|()| area.0[1])
    }

    /// Columns, and rows as text.
    pub fn execute(
        connection: u32,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<(Vec<String>, Vec<Vec<String>>), Failure> {
        let area = call(|area| unsafe {
            sql_execute(connection, statement.as_ptr(), statement.len(), parameters.as_ptr(), parameters.len(), area)
        });
        area.result()?;
        let rows = words(area.0[3], area.0[4], 2).iter().map(|row| row_of(row[0], row[1])).collect();
        Ok((strings(area.0[1], area.0[2]), rows))
    }

    fn row_of(at: u32, count: u32) -> Vec<String> {
        let value = |words: &Vec<u32>| {
            let number = u64::from(words[3]) << 32 | u64::from(words[2]);
            match words[0] as u8 {
                0 => format!("integer {}", number as i64),
                1 => format!("real {}", f64::from_bits(number)),
                2 => format!("text {}", text(words[2], words[3])),
                3 => format!("blob {:?}", bytes(words[2], words[3])),
                4 => "null".to_owned(),
                other => format!("unknown {other}"),
            }
        };
        words(at, count, 4).iter().map(value).collect()
    }

    pub fn close(connection: u32) {
        unsafe { sql_close(connection) }
    }
}

/// A place that is not in memory.
const OUTSIDE: usize = u32::MAX as usize - 4;

pub fn result_outside() {
    unsafe { kv_open("default".as_ptr(), 7, OUTSIDE as *mut Area) }
}

pub fn key_outside() {
    let store = key_value::open("default").expect("the store");
    call(|area| unsafe { kv_get(store, "a".as_ptr(), OUTSIDE, area) });
}

pub fn key_that_is_no_text() {
    let store = key_value::open("default").expect("the store");
    call(|area| unsafe { kv_get(store, [0xff_u8].as_ptr(), 1, area) });
}

pub fn parameters_outside() {
    let connection = sqlite::open("default").expect("the database");
    let statement = "SELECT 1";
    call(|area| unsafe {
        sql_execute(connection, statement.as_ptr(), statement.len(), OUTSIDE as *const Parameter, usize::MAX, area)
    });
}

pub fn parameter_of_no_kind() {
    let connection = sqlite::open("default").expect("the database");
    let _ = sqlite::execute(connection, "SELECT ?", &[Parameter { tag: 9, payload: 0 }]);
}

/// Names the same text so often that a copy of all would take 20 GB.
pub fn one_text_many_times() -> bool {
    let connection = sqlite::open("default").expect("the database");
    let text = "x".repeat(1 << 20);
    let parameters = vec![Parameter::text(&text); 20_000];
    sqlite::execute(connection, "SELECT 1", &parameters).is_err()
}
