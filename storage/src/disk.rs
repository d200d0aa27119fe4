//! The seam between the log and files.

mod real;
mod sim;

pub use real::RealDisk;
pub use sim::{Fault, SimDisk};

use std::any::Any;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Space of the filesystem that holds a path, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an unprivileged process may still allocate.
    pub free: u64,
    /// Size of the filesystem.
    pub total: u64,
}

/// An open file. Writes are visible to reads at once and durable only after
/// [`DiskFile::fdatasync`]; a failed sync says nothing about what is on disk.
pub trait DiskFile: Send + Sync {
    /// Reads at `position` until `buffer` is full or the file ends; returns the bytes read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes a prefix of `slices` at `position`; returns the bytes written.
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Makes the contents and the length durable.
    fn fdatasync(&self) -> io::Result<()>;
    /// Allocates blocks and extends the file to `length` bytes.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Returns the length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Cuts or extends the file.
    fn set_length(&self, length: u64) -> io::Result<()>;
}

/// Files and directories. A created, renamed or removed name is durable only
/// after [`Disk::fsync_dir`] of its directory.
pub trait Disk: Send + Sync {
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a file, or empties an existing one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file or a directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its parents; an existing one is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Lists a directory in no particular order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes the names in a directory durable.
    fn fsync_dir(&self, path: &Path) -> io::Result<()>;
    /// Returns the space of the filesystem that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Takes an exclusive lock that ends when the value is dropped, or fails
    /// with [`io::ErrorKind::WouldBlock`].
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;
    /// Returns 64 unpredictable bits.
    fn entropy(&self) -> u64;
    /// Returns whether paths are paths of the operating system, so that a
    /// library with file access of its own can use them.
    fn is_native(&self) -> bool;
}

/// Writes all of `bytes` at `position`.
pub(crate) fn write_all_at(file: &dyn DiskFile, bytes: &[u8], position: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let written =
            file.write_vectored_at(&[IoSlice::new(&bytes[done..])], position + done as u64)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        done += written;
    }
    Ok(())
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let length = file.length()?;
    if length > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // A machine with 64 bits may have written more than one with 32 has room for.
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(length)
        .map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.resize(length, 0);
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
