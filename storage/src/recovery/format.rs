//! The files FORMAT and LOCK.

use super::io_error;
use crate::disk::{Disk, read_file, write_all_at};
use crate::error::OpenError;
use crate::frame::{u32_at, u64_at};
use std::any::Any;
use std::io;
use std::path::Path;

const MAGIC: [u8; 8] = *b"FOREBAY1";
/// The version of everything below the data directory.
const VERSION: u32 = 1;
/// Magic, version, node identity, checksum.
const LEN: usize = 8 + 4 + 16 + 4;

/// Creates the directory if needed, locks it and checks its version.
pub(super) fn claim(
    disk: &dyn Disk,
    data_dir: &Path,
) -> Result<Box<dyn Any + Send + Sync>, OpenError> {
    let topics = data_dir.join("topics");
    disk.create_dir_all(&topics)
        .map_err(io_error("create", &topics))?;
    let lock_path = data_dir.join("LOCK");
    let lock = disk.lock(&lock_path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked {
            path: data_dir.to_owned(),
        },
        _ => io_error("lock", &lock_path)(error),
    })?;
    let path = data_dir.join("FORMAT");
    match read_file(disk, &path, 4096) {
        Ok(bytes) => check(&bytes, data_dir, &path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(disk, data_dir, &path).map_err(io_error("create", &path))?;
        }
        Err(error) => return Err(io_error("read", &path)(error)),
    }
    Ok(lock)
}

fn check(bytes: &[u8], data_dir: &Path, path: &Path) -> Result<(), OpenError> {
    let format_error = |reason| OpenError::Format {
        path: path.to_owned(),
        reason,
    };
    if bytes.len() != LEN {
        return Err(format_error("it has another length"));
    }
    if u64_at(bytes, 0) != u64::from_le_bytes(MAGIC) {
        return Err(format_error("it begins with other bytes"));
    }
    if crc32c::crc32c(&bytes[..LEN - 4]) != u32_at(bytes, LEN - 4) {
        return Err(format_error("its checksum is wrong"));
    }
    match u32_at(bytes, 8) {
        VERSION => Ok(()),
        found => Err(OpenError::Version {
            path: data_dir.to_owned(),
            found,
            expected: VERSION,
        }),
    }
}

fn create(disk: &dyn Disk, data_dir: &Path, path: &Path) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&disk.entropy().to_le_bytes());
    bytes.extend_from_slice(&disk.entropy().to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    let fresh = data_dir.join("FORMAT.new");
    let file = disk.create(&fresh)?;
    write_all_at(&*file, &bytes, 0)?;
    file.fdatasync()?;
    disk.rename(&fresh, path)?;
    disk.fsync_dir(data_dir)?;
    match data_dir.parent() {
        Some(parent) => disk.fsync_dir(parent),
        None => Ok(()),
    }
}
