//! Counters of the block device under a directory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};
use xtask::failure::{During, Failure, Outcome};

/// A sector of /sys/block/*/stat, whatever the device uses.
const SECTOR_SIZE: f64 = 512.0;

/// Bytes written so far to the device that holds `directory`, by everyone.
pub fn bytes_written(directory: &Path) -> Outcome<f64> {
    let device = fs::metadata(directory).during(directory.display())?.dev();
    let path = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
    let text = fs::read_to_string(&path).during(&path)?;
    // Field 7: sectors written (Documentation/block/stat.rst).
    let field = text.split_whitespace().nth(6);
    let sectors: Option<f64> = field.and_then(|text| text.parse().ok());
    let sectors = sectors.ok_or_else(|| Failure::new(format!("{path}: no sectors written")))?;
    Ok(sectors * SECTOR_SIZE)
}
