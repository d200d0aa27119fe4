//! An ext4 filesystem in a file, which can be cut like a power supply.

mod shutdown;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::failure::{During, Failure, Outcome};

/// A filesystem stays busy for some moments after the last process that used
/// it was reaped; the kernel closes its files in the background.
const UNMOUNT_TRIES: u32 = 200;

/// Says why filesystems cannot be made here, if they cannot.
#[must_use]
pub fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting a loop filesystem needs root".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("/dev/loop-control is missing: no loop devices".to_owned());
    }
    let found = Command::new("mkfs.ext4").arg("-V").output();
    if found.is_err() {
        return Some("mkfs.ext4 is missing: install e2fsprogs".to_owned());
    }
    None
}

/// A mounted ext4 on a loop device. Dropping it unmounts it.
#[derive(Debug)]
pub struct LoopFs {
    image: PathBuf,
    mount: PathBuf,
}

impl LoopFs {
    /// Makes a sparse image of `size` bytes in `directory` and mounts it.
    ///
    /// # Errors
    /// A command failed.
    pub fn create(directory: &Path, size: u64) -> Outcome<Self> {
        let fs = Self {
            image: directory.join("disk.img"),
            mount: directory.join("disk"),
        };
        fs::create_dir_all(&fs.mount).during(fs.mount.display())?;
        let image = File::create(&fs.image).during(fs.image.display())?;
        image.set_len(size).during(fs.image.display())?;
        drop(image);
        let mut mkfs = Command::new("mkfs.ext4");
        run(mkfs.args(["-q", "-F", "-m", "0"]).arg(&fs.image))?;
        fs.mount()?;
        Ok(fs)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// The loop device under the mount, for its counters in sysfs.
    ///
    /// # Errors
    /// The mount table cannot be read.
    pub fn device(&self) -> Outcome<String> {
        let table = fs::read_to_string("/proc/self/mounts").during("mount table")?;
        let mount = self.mount.to_string_lossy();
        let line = table
            .lines()
            .find(|line| line.split(' ').nth(1) == Some(&mount));
        let device = line.and_then(|line| line.split(' ').next()?.strip_prefix("/dev/"));
        device
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(format!("{mount} is not mounted")))
    }

    /// Cuts the filesystem off: what was not submitted to the device, the
    /// journal included, is lost, as in a power cut.
    ///
    /// # Errors
    /// The filesystem refused.
    pub fn cut(&self) -> Outcome {
        let root = File::open(&self.mount).during(self.mount.display())?;
        shutdown::without_log_flush(&root).during("FS_IOC_SHUTDOWN")
    }

    /// Unmounts and mounts again, which replays the journal.
    ///
    /// # Errors
    /// A command failed.
    pub fn remount(&self) -> Outcome {
        self.unmount()?;
        self.mount()
    }

    /// Mounts the image.
    ///
    /// # Errors
    /// The command failed.
    pub fn mount(&self) -> Outcome {
        let mut mount = Command::new("mount");
        run(mount
            .args(["-t", "ext4", "-o", "loop"])
            .arg(&self.image)
            .arg(&self.mount))
    }

    /// Repairs the unmounted image, as an operator would after an I/O error.
    ///
    /// # Errors
    /// Errors remain.
    pub fn repair(&self) -> Outcome {
        let mut fsck = Command::new("e2fsck");
        let output = fsck
            .args(["-f", "-y"])
            .arg(&self.image)
            .output()
            .during("e2fsck")?;
        // 1: errors were corrected (e2fsck(8)).
        match output.status.code() {
            Some(0 | 1) => Ok(()),
            _ => Err(Failure::new(format!("e2fsck: {}", output.status))),
        }
    }

    /// Unmounts; waits for files that the kernel still closes.
    ///
    /// # Errors
    /// It stays busy.
    pub fn unmount(&self) -> Outcome {
        let mut result = Ok(());
        for _ in 0..UNMOUNT_TRIES {
            result = run(Command::new("umount").arg(&self.mount));
            if result.is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        result
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the lazy unmount ends
        // when the last user of the filesystem does.
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.mount));
    }
}

/// A tmpfs of a limited size, to hold an image that runs out of blocks.
#[derive(Debug)]
pub struct TmpFs {
    mount: PathBuf,
}

impl TmpFs {
    /// Mounts `size` bytes at `mount`.
    ///
    /// # Errors
    /// A command failed.
    pub fn create(mount: &Path, size: u64) -> Outcome<Self> {
        fs::create_dir_all(mount).during(mount.display())?;
        let option = format!("size={size}");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &option, "tmpfs"])
            .arg(mount))?;
        Ok(Self {
            mount: mount.to_path_buf(),
        })
    }
}

impl Drop for TmpFs {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.mount));
    }
}

fn run(command: &mut Command) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().during(&name)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{name}: {}", text.trim())))
}
