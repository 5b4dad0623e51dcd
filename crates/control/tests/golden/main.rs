//! The protocol as its first release speaks it.

#[cfg(test)]
mod frames;
