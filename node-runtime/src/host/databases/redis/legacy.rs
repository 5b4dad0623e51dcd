//! The core import `outbound-redis`: each function takes the address, then its own arguments as pointers and lengths, then
//! where the result goes.
//!
//! A result has a u8 tag at 0: 0 for a value, 1 for an error. The value of `get`, `smembers` and `execute` is a pointer at 4
//! and a length at 8, their error a u8 at 4. That of `incr`, `del`, `sadd` and `srem` is an s64 at 8, their error a u8 at 8.
//! `publish` and `set` have an error at 1.
//!
//! Spin 0.2 and 0.3 had `get`, `publish` and `set` alone. Their guests find tag, value and error in slots of 8 bytes.

use wasmtime::{Caller, Linker};

use super::{Argument, RedisConnection, RedisFailure, Reply, components::V1};
use crate::host::{
    RuntimeContext,
    databases::modules::{Arguments, VARIANT, begin, pair, scalar},
    guest_memory::{GuestHeap, Layout},
};

const MODULE: &str = "outbound-redis";
/// The interface's error has one case beside `success`.
const ERROR: u32 = 1;

type Two = (u32, u32, u32, u32, u32);
type Three = (u32, u32, u32, u32, u32, u32, u32);
type Guest<'a> = Caller<'a, RuntimeContext>;

/// Defines it.
pub(in super::super) fn link_modules(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "publish", |guest, arguments: Three| Box::new(publish(guest, arguments)))?;
    linker.func_wrap_async(MODULE, "set", |guest, arguments: Three| Box::new(set(guest, arguments)))?;
    linker.func_wrap_async(MODULE, "get", |guest, arguments: Two| Box::new(get(guest, arguments)))?;
    linker.func_wrap_async(MODULE, "incr", |guest, arguments: Two| Box::new(incr(guest, arguments)))?;
    linker.func_wrap_async(MODULE, "del", |guest, arguments: Two| Box::new(del(guest, arguments)))?;
    linker.func_wrap_async(MODULE, "sadd", |guest, arguments: Three| Box::new(sadd(guest, arguments)))?;
    linker.func_wrap_async(MODULE, "srem", |guest, arguments: Three| Box::new(srem(guest, arguments)))?;
    linker.func_wrap_async(MODULE, "smembers", |guest, arguments: Two| Box::new(smembers(guest, arguments)))?;
    linker.func_wrap_async(MODULE, "execute", |guest, arguments: Three| Box::new(execute(guest, arguments)))?;
    Ok(())
}

async fn publish(mut guest: Guest<'_>, arguments: Three) -> wasmtime::Result<()> {
    let (address, address_size, channel, channel_size, payload, payload_size, result) = arguments;
    let (heap, mut read, asker) = begin(&mut guest, result, 2)?;
    let address = read.text("address", address, address_size)?;
    let channel = read.text("channel", channel, channel_size)?;
    let payload = read.bytes("payload", payload, payload_size)?;
    let done = async { RedisConnection::open(&asker, &address).await?.publish(channel, payload).await }.await;
    finish_unit(&heap, guest, result, &done)
}

async fn set(mut guest: Guest<'_>, arguments: Three) -> wasmtime::Result<()> {
    let (address, address_size, key, key_size, value, value_size, result) = arguments;
    let (heap, mut read, asker) = begin(&mut guest, result, 2)?;
    let address = read.text("address", address, address_size)?;
    let key = read.text("key", key, key_size)?;
    let value = read.bytes("value", value, value_size)?;
    let done = async { RedisConnection::open(&asker, &address).await?.set(key, value).await }.await;
    finish_unit(&heap, guest, result, &done)
}

async fn get(mut guest: Guest<'_>, arguments: Two) -> wasmtime::Result<()> {
    let (address, address_size, key, key_size, result) = arguments;
    let (heap, mut read, asker) = begin(&mut guest, result, 12)?;
    let address = read.text("address", address, address_size)?;
    let key = read.text("key", key, key_size)?;
    let got = async { RedisConnection::open(&asker, &address).await?.get(key).await }.await;
    let given = match got {
        Ok(value) => Some(heap.give(&mut guest, &V1::<Vec<u8>>::from(value).0, 1).await?),
        Err(_) => None,
    };
    finish_list(&heap, guest, result, given)
}

async fn smembers(mut guest: Guest<'_>, arguments: Two) -> wasmtime::Result<()> {
    let (address, address_size, key, key_size, result) = arguments;
    let (heap, mut read, asker) = begin(&mut guest, result, 12)?;
    let address = read.text("address", address, address_size)?;
    let key = read.text("key", key, key_size)?;
    let got = async { RedisConnection::open(&asker, &address).await?.smembers(key).await }.await;
    let given = match got {
        Ok(members) => {
            let mut list = Vec::with_capacity(members.len().saturating_mul(8));
            for member in &members {
                list.extend(pair(heap.give(&mut guest, member.as_bytes(), 1).await?).to_le_bytes());
            }
            let (at, _) = heap.give(&mut guest, &list, 4).await?;
            Some((at, u32::try_from(members.len())?))
        }
        Err(_) => None,
    };
    finish_list(&heap, guest, result, given)
}

async fn execute(mut guest: Guest<'_>, arguments: Three) -> wasmtime::Result<()> {
    let (address, address_size, command, command_size, parameters, count, result) = arguments;
    let (heap, mut read, asker) = begin(&mut guest, result, 12)?;
    let address = read.text("address", address, address_size)?;
    let command = read.text("command", command, command_size)?;
    let parameters = read.elements("parameters", parameters, count, VARIANT, parameter)?;
    let got = async { RedisConnection::open(&asker, &address).await?.execute(&command, parameters).await }.await;
    let given = match got {
        Ok(replies) => Some(give_replies(&heap, &mut guest, &replies).await?),
        Err(_) => None,
    };
    finish_list(&heap, guest, result, given)
}

/// A `redis-parameter`: 0 for a number, 1 for bytes.
fn parameter(arguments: &mut Arguments<'_>, at: u32) -> wasmtime::Result<Argument> {
    Ok(match arguments.tag("parameter", at)? {
        0 => Argument::Int(arguments.long("parameter", at, 8)?.cast_signed()),
        1 => {
            let (start, size) = arguments.payload("parameter", at)?;
            Argument::Bytes(arguments.bytes("parameter", start, size)?)
        }
        tag => return Err(wasmtime::format_err!("the guest's parameter has the tag {tag}")),
    })
}

/// A list of `redis-result`: 0 for nothing, 1 for a word, 2 for a number, 3 for bytes.
async fn give_replies(heap: &GuestHeap, guest: &mut Guest<'_>, replies: &[Reply]) -> wasmtime::Result<(u32, u32)> {
    let mut list = Vec::with_capacity(replies.len().saturating_mul(16));
    for reply in replies {
        list.extend(match reply {
            Reply::Nil => scalar(0, 0),
            Reply::Status(text) => scalar(1, pair(heap.give(&mut *guest, text.as_bytes(), 1).await?)),
            Reply::Int(number) => scalar(2, number.cast_unsigned()),
            Reply::Bytes(bytes) => scalar(3, pair(heap.give(&mut *guest, bytes, 1).await?)),
        });
    }
    let (at, _) = heap.give(&mut *guest, &list, 8).await?;
    Ok((at, u32::try_from(replies.len())?))
}

async fn incr(mut guest: Guest<'_>, arguments: Two) -> wasmtime::Result<()> {
    let (address, address_size, key, key_size, result) = arguments;
    let (heap, mut read, asker) = begin(&mut guest, result, 16)?;
    let address = read.text("address", address, address_size)?;
    let key = read.text("key", key, key_size)?;
    let done = async { RedisConnection::open(&asker, &address).await?.incr(key).await }.await;
    finish_number(&heap, guest, result, &done)
}

async fn del(mut guest: Guest<'_>, arguments: Two) -> wasmtime::Result<()> {
    let (address, address_size, keys, count, result) = arguments;
    let (heap, mut read, asker) = begin(&mut guest, result, 16)?;
    let address = read.text("address", address, address_size)?;
    let keys = read.texts("keys", keys, count)?;
    let done = async { RedisConnection::open(&asker, &address).await?.del(keys).await }.await;
    finish_number(&heap, guest, result, &done.map(i64::from))
}

async fn sadd(mut guest: Guest<'_>, arguments: Three) -> wasmtime::Result<()> {
    let (address, address_size, key, key_size, values, count, result) = arguments;
    let (heap, mut read, asker) = begin(&mut guest, result, 16)?;
    let address = read.text("address", address, address_size)?;
    let (key, values) = (read.text("key", key, key_size)?, read.texts("values", values, count)?);
    let done = async { RedisConnection::open(&asker, &address).await?.sadd(key, values).await }.await;
    finish_number(&heap, guest, result, &done.map(i64::from))
}

async fn srem(mut guest: Guest<'_>, arguments: Three) -> wasmtime::Result<()> {
    let (address, address_size, key, key_size, values, count, result) = arguments;
    let (heap, mut read, asker) = begin(&mut guest, result, 16)?;
    let address = read.text("address", address, address_size)?;
    let (key, values) = (read.text("key", key, key_size)?, read.texts("values", values, count)?);
    let done = async { RedisConnection::open(&asker, &address).await?.srem(key, values).await }.await;
    finish_number(&heap, guest, result, &done.map(i64::from))
}

fn finish_unit(
    heap: &GuestHeap,
    guest: Guest<'_>,
    result: u32,
    done: &Result<(), RedisFailure>,
) -> wasmtime::Result<()> {
    match (heap.layout, done) {
        (Layout::Canonical, Ok(())) => heap.write(guest, "result", result, &[0, 0]),
        (Layout::Canonical, Err(_)) => heap.write(guest, "result", result, &[1, 1]),
        (Layout::Slots, Ok(())) => heap.write_words(guest, "result", result, &[0, 0]),
        (Layout::Slots, Err(_)) => heap.write_words(guest, "result", result, &[1, ERROR]),
    }
}

fn finish_list(heap: &GuestHeap, guest: Guest<'_>, result: u32, given: Option<(u32, u32)>) -> wasmtime::Result<()> {
    let words = match given {
        Some((at, size)) => [0, at, size],
        None => [1, ERROR, 0],
    };
    heap.write_words(guest, "result", result, &words)
}

fn finish_number(
    heap: &GuestHeap,
    guest: Guest<'_>,
    result: u32,
    done: &Result<i64, RedisFailure>,
) -> wasmtime::Result<()> {
    let bytes = match done {
        Ok(number) => scalar(0, number.cast_unsigned()),
        Err(_) => scalar(1, ERROR.into()),
    };
    heap.write(guest, "result", result, &bytes)
}
