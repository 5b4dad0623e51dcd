//! `wasi:keyvalue@0.2.0-draft2`.

use crate::Transcript;
use crate::bindings::wasi::keyvalue::atomics::{self, Cas, CasError};
use crate::bindings::wasi::keyvalue::{batch, store};

pub fn store(says: &mut Transcript) -> u16 {
    says.say("denied", store::open("forbidden").map(|_| ()));
    let bucket = store::open("default").expect("the store");
    says.say("absent", bucket.get("a"));
    says.say("set", bucket.set("a", b"value"));
    says.say("get", bucket.get("a"));
    says.say("exists", bucket.exists("a"));
    let listed = |cursor| bucket.list_keys(cursor).map(|response| (response.keys, response.cursor));
    says.say("keys", listed(None));
    says.say("cursor", listed(Some("a")).is_err());
    says.say("delete", bucket.delete("a"));
    says.say("gone", bucket.exists("a"));
    200
}

pub fn batch(says: &mut Transcript) -> u16 {
    let bucket = store::open("default").expect("the store");
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    says.say("set", batch::set_many(&bucket, &[("a".to_owned(), vec![1]), ("b".to_owned(), vec![])]));
    says.say("get", batch::get_many(&bucket, &keys(&["b", "none", "a"])));
    says.say("delete", batch::delete_many(&bucket, &keys(&["a", "b", "none"])));
    says.say("gone", batch::get_many(&bucket, &keys(&["a"])));
    says.say("nothing", batch::get_many(&bucket, &[]));
    200
}

pub fn atomics(says: &mut Transcript) -> u16 {
    let bucket = store::open("default").expect("the store");
    says.say("increment", atomics::increment(&bucket, "n", 5));
    says.say("decrement", atomics::increment(&bucket, "n", -7));
    says.say("overflow", atomics::increment(&bucket, "n", i64::MIN).is_err());
    let cas = Cas::new(&bucket, "a").expect("a handle");
    says.say("current", cas.current());
    says.say("swap", swapped(atomics::swap(cas, b"one")));
    let cas = Cas::new(&bucket, "a").expect("a handle");
    bucket.set("a", b"another's").expect("a store that works");
    match atomics::swap(cas, b"two") {
        Err(CasError::CasFailed(next)) => {
            says.say("failed, now", next.current());
            says.say("again", swapped(atomics::swap(next, b"two")));
        }
        other => says.say("not failed", swapped(other)),
    }
    says.say("in the end", bucket.get("a"));
    200
}

fn swapped(result: Result<(), CasError>) -> Result<(), &'static str> {
    result.map_err(|error| match error {
        CasError::StoreError(_) => "store error",
        CasError::CasFailed(_) => "failed",
    })
}
