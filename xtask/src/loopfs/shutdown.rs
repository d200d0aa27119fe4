//! The filesystem shutdown ioctl: the only unsafe code of this crate, because
//! rustix leaves it to the caller to know what an ioctl reads.
#![expect(unsafe_code, reason = "ioctl has no safe wrapper")]

use std::fs::File;
use std::io;

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `FS_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)` of linux/fs.h; ext4 and XFS
/// spell it EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN.
const SHUTDOWN: Opcode = opcode::read::<u32>(b'X', 125);

/// `FS_SHUTDOWN_FLAGS_NOLOGFLUSH`: stop at once, flush neither data nor journal.
const NO_LOG_FLUSH: u32 = 2;

/// Stops the filesystem that `file` lies on, flushing nothing.
pub fn without_log_flush(file: &File) -> io::Result<()> {
    // SAFETY: the opcode is declared as _IOR by history, but the kernel reads
    // a u32 through the pointer and writes nothing. Setter passes a pointer to
    // a u32 that lives until the call returns.
    unsafe { ioctl(file, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }?;
    Ok(())
}
