//! How many files and sockets one instance has open.
//!
//! Each is one of the process's, of which there are not many: without a limit of its own, one guest could take them from all
//! others. Looked at once a tick of the epoch, so a guest may have some more for the rest of a tick.

use std::any::Any;

use wasmtime_wasi::{ResourceTable, filesystem, p2, sockets};

/// How many files, directories and sockets an instance has open at most.
const FILES: usize = 512;
/// The same with its streams, of which those of files keep them open.
const WITH_STREAMS: usize = 2048;

/// A guest has too much open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest has more than {FILES} files and sockets open, or {WITH_STREAMS} with their streams")]
pub(crate) struct TooManyFiles;

/// Checks what is in a guest's table.
pub(crate) fn check(table: &mut ResourceTable) -> Result<(), TooManyFiles> {
    let (mut files, mut streams) = (0_usize, 0_usize);
    for entry in table.iter_mut() {
        let entry: &dyn Any = entry;
        if entry.is::<p2::DynInputStream>() || entry.is::<p2::DynOutputStream>() {
            streams += 1;
        } else if entry.is::<filesystem::Descriptor>()
            || entry.is::<p2::TcpSocket>()
            || entry.is::<p2::UdpSocket>()
            || entry.is::<sockets::TcpSocket>()
            || entry.is::<sockets::UdpSocket>()
        {
            files += 1;
        }
    }
    if files > FILES || files + streams > WITH_STREAMS { Err(TooManyFiles) } else { Ok(()) }
}
