//! [`free_port`]: where a process that a test starts can listen.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// The first port that may be given.
const FIRST: u16 = 10_000;
/// How many there are. The system gives those from 32768 to whoever asks for any, so nobody takes one of these by chance.
const COUNT: u16 = 20_000;
/// How many a process has before it may meet another's.
const EACH: u16 = 100;

/// A port of 127.0.0.1 that nobody listens at, each time another.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let processes = u32::from(COUNT / EACH);
    let first = u16::try_from(std::process::id() % processes).unwrap_or_default() * EACH;
    loop {
        let port = FIRST + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
