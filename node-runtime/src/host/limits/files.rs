//! How many files and sockets one instance has open, and all instances of one app.
//!
//! Each is one of the process's, of which there are not many: without limits of their own, one guest or one app could take
//! them from all others. Looked at once a tick of the epoch, so a guest may have some more for the rest of a tick.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{filesystem, p2, sockets};

use super::Usage;

/// How many files, directories and sockets an instance has open at most.
const FILES: usize = 512;
/// The same with its streams, of which those of files keep them open.
const WITH_STREAMS: usize = 2048;
/// How many places a stream of WASI 0.3 takes in the table of those: what it is, and each of its ends.
const PLACES: usize = 3;
/// How many streams and futures of WASI 0.3 an instance has at most, in places.
pub(crate) const CONCURRENT: usize = WITH_STREAMS * PLACES;
/// So many streams are those of bodies and outputs, and count for nothing. Whoever has no more open is not to blame for what
/// its app has.
const FEW: usize = 16;

/// A guest has too much open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooManyFiles {
    /// The instance.
    #[error("the guest has more than {FILES} files and sockets open, or {WITH_STREAMS} with their streams")]
    Instance,
    /// The app.
    #[error("the guests of the app have more than {0} files and sockets open together")]
    App(usize),
}

/// How many files the instances of one app have open.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(AtomicUsize);

/// What one instance has of its app's share.
pub(crate) struct FileShare {
    usage: Arc<Usage>,
    most: usize,
    counted: usize,
}

impl FileShare {
    /// Nothing yet, of a share of `most`.
    pub(crate) fn new(usage: &Arc<Usage>, most: usize) -> Self {
        Self { usage: Arc::clone(usage), most, counted: 0 }
    }

    /// A number that the app has, and no other that runs.
    pub(crate) fn app(&self) -> usize {
        Arc::as_ptr(&self.usage).addr()
    }

    /// The share of a new instance.
    pub(super) fn fresh(&self) -> Self {
        Self::new(&self.usage, self.most)
    }

    /// Counts `open`.
    fn count(&mut self, open: usize) -> Result<(), TooManyFiles> {
        let files = &self.usage.files.0;
        let together = if open >= self.counted {
            let more = open - self.counted;
            files.fetch_add(more, Ordering::Relaxed).saturating_add(more)
        } else {
            let less = self.counted - open;
            files.fetch_sub(less, Ordering::Relaxed).saturating_sub(less)
        };
        self.counted = open;
        if together > self.most && open > FEW { Err(TooManyFiles::App(self.most)) } else { Ok(()) }
    }
}

impl Drop for FileShare {
    fn drop(&mut self) {
        self.usage.files.0.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

impl fmt::Debug for FileShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileShare").field("most", &self.most).field("counted", &self.counted).finish_non_exhaustive()
    }
}

/// Checks what is in a guest's table, beside `concurrent` places in that of WASI 0.3.
pub(crate) fn check(table: &mut ResourceTable, concurrent: usize, share: &mut FileShare) -> Result<(), TooManyFiles> {
    let (mut files, mut streams) = (0_usize, concurrent / PLACES);
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
    if files > FILES || files + streams > WITH_STREAMS {
        return Err(TooManyFiles::Instance);
    }
    share.count(files + streams.saturating_sub(FEW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_an_app_share_its_files_and_one_with_few_is_not_to_blame() {
        let usage = Arc::new(Usage::default());
        let share = FileShare::new(&usage, 100);
        let (mut one, mut other, mut small) = (share.fresh(), share.fresh(), share.fresh());
        assert_eq!(one.count(60), Ok(()));
        assert_eq!(other.count(50), Err(TooManyFiles::App(100)));
        assert_eq!(small.count(FEW), Ok(()));
        assert_eq!(one.count(10), Ok(()));
        assert_eq!(other.count(70), Ok(()));
        drop((one, other, small));
        assert_eq!(usage.files.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn streams_count_with_files_but_not_those_that_every_guest_has() {
        let usage = Arc::new(Usage::default());
        let mut share = FileShare::new(&usage, 100);
        let mut table = ResourceTable::new();
        assert_eq!(check(&mut table, FEW * PLACES, &mut share), Ok(()));
        assert_eq!(share.counted, 0);
        assert_eq!(check(&mut table, (FEW + 101) * PLACES, &mut share), Err(TooManyFiles::App(100)));
        assert_eq!(check(&mut table, CONCURRENT + PLACES, &mut share), Err(TooManyFiles::Instance));
    }
}
