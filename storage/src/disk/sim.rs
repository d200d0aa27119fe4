//! A disk in memory that loses, tears and refuses on purpose.

use super::{DirEntry, Disk, DiskFile, Space};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a disk guarantees to write as a whole.
const SECTOR: usize = 512;

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO.
    Io,
    /// ENOSPC.
    Full,
}

#[derive(Debug, Clone, Default)]
struct File {
    /// What a crash leaves.
    durable: Vec<u8>,
    /// What readers see.
    current: Vec<u8>,
    /// Sectors that differ, in the order of their writing.
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum Name {
    File(usize),
    Dir,
}

#[derive(Debug, Default)]
struct Image {
    files: Vec<File>,
    names: BTreeMap<PathBuf, Name>,
    /// Names as a crash may leave them, per directory synced.
    durable_names: BTreeMap<PathBuf, Name>,
    locks: BTreeSet<PathBuf>,
    /// Counts writes, syncs and changes of names.
    operations: u64,
    fail: Option<(u64, Fault, bool)>,
    free: u64,
    is_dead: bool,
    random: Option<fastrand::Rng>,
}

/// A simulated disk; clones share it. What was written and not synced may or
/// may not survive [`SimDisk::crash`], sector by sector; names likewise until
/// their directory is synced.
#[derive(Clone)]
pub struct SimDisk {
    image: Arc<Mutex<Image>>,
}

struct SimFile {
    image: Arc<Mutex<Image>>,
    id: usize,
}

impl SimDisk {
    /// Returns an empty disk whose chances follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut names = BTreeMap::new();
        names.insert(PathBuf::from("/"), Name::Dir);
        let image = Image {
            durable_names: names.clone(),
            names,
            free: 1 << 40,
            random: Some(fastrand::Rng::with_seed(seed)),
            ..Image::default()
        };
        SimDisk {
            image: Arc::new(Mutex::new(image)),
        }
    }

    /// Fails the `n`-th changing operation from here on, once.
    pub fn fail_nth(&self, n: u64, fault: Fault) {
        let mut image = self.image.lock();
        image.fail = Some((image.operations + n, fault, false));
    }

    /// Cuts the power at the `n`-th changing operation from here on: it and all
    /// later ones fail.
    pub fn cut_power_at(&self, n: u64) {
        let mut image = self.image.lock();
        image.fail = Some((image.operations + n, Fault::Io, true));
    }

    /// Returns whether the fault has happened.
    pub fn has_failed(&self) -> bool {
        self.image.lock().fail.is_none()
    }

    /// Returns the number of changing operations so far.
    pub fn operations(&self) -> u64 {
        self.image.lock().operations
    }

    /// Sets the free space that the disk reports.
    pub fn set_free(&self, bytes: u64) {
        self.image.lock().free = bytes;
    }

    /// Cuts the power: each sector and each name that was not synced survives or not by chance.
    /// Returns the disk that the next process finds.
    #[must_use]
    pub fn crash(&self, seed: u64) -> SimDisk {
        let image = self.image.lock();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut names = image.durable_names.clone();
        let all: BTreeSet<&PathBuf> = image
            .names
            .keys()
            .chain(image.durable_names.keys())
            .collect();
        for path in all {
            if random.bool() {
                match image.names.get(path) {
                    Some(name) => names.insert(path.clone(), name.clone()),
                    None => names.remove(path),
                };
            }
        }
        // A name whose directory did not survive is lost with it.
        let kept: Vec<PathBuf> = names.keys().cloned().collect();
        for path in kept {
            let lives = path
                .ancestors()
                .skip(1)
                .all(|parent| matches!(names.get(parent), Some(Name::Dir)));
            if !lives {
                names.remove(&path);
            }
        }
        let files = image
            .files
            .iter()
            .map(|file| file.after_crash(&mut random))
            .collect();
        let after = Image {
            files,
            durable_names: names.clone(),
            names,
            free: image.free,
            random: Some(random),
            ..Image::default()
        };
        SimDisk {
            image: Arc::new(Mutex::new(after)),
        }
    }

    /// Returns a copy of what a process would find that starts after a clean stop.
    #[must_use]
    pub fn copy(&self) -> SimDisk {
        let image = self.image.lock();
        let after = Image {
            files: image.files.clone(),
            names: image.names.clone(),
            durable_names: image.durable_names.clone(),
            free: image.free,
            random: image.random.clone(),
            ..Image::default()
        };
        SimDisk {
            image: Arc::new(Mutex::new(after)),
        }
    }

    /// Returns all files below a directory.
    pub fn files_below(&self, dir: &Path) -> Vec<PathBuf> {
        let image = self.image.lock();
        image
            .names
            .iter()
            .filter(|(path, name)| path.starts_with(dir) && matches!(name, Name::File(_)))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Replaces the contents of a file, durably.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut image = self.image.lock();
        if let Some(Name::File(id)) = image.names.get(path).cloned() {
            let file = &mut image.files[id];
            change(&mut file.current);
            file.durable = file.current.clone();
            file.dirty.clear();
        }
    }
}

impl File {
    fn after_crash(&self, random: &mut fastrand::Rng) -> File {
        let mut bytes = self.durable.clone();
        // The length is metadata and survives or not as a whole.
        if self.current.len() > bytes.len() && random.bool() {
            bytes.resize(self.current.len(), 0);
        }
        for sector in &self.dirty {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.current.len());
            if start < end && random.bool() {
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(&self.current[start..end]);
            }
        }
        File {
            durable: bytes.clone(),
            current: bytes,
            dirty: BTreeSet::new(),
        }
    }

    fn touch(&mut self, start: usize, end: usize) {
        self.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
    }
}

impl Image {
    /// Counts a changing operation and fails it when its turn has come.
    fn operate(&mut self) -> io::Result<()> {
        if self.is_dead {
            return Err(error_of(Fault::Io));
        }
        self.operations += 1;
        match self.fail {
            Some((at, fault, is_power_cut)) if self.operations >= at => {
                self.fail = None;
                self.is_dead = is_power_cut;
                Err(error_of(fault))
            }
            _ => Ok(()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Name::File(id)) => Ok(*id),
            Some(Name::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn has_parent(&self, path: &Path) -> bool {
        path.parent()
            .is_some_and(|parent| matches!(self.names.get(parent), Some(Name::Dir)))
    }
}

fn error_of(fault: Fault) -> io::Error {
    match fault {
        Fault::Io => io::Error::other("simulated input/output error"),
        Fault::Full => io::ErrorKind::StorageFull.into(),
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let image = self.image.lock();
        let bytes = &image.files[self.id].current;
        let start = usize::try_from(position).map_or(bytes.len(), |at| at.min(bytes.len()));
        let length = buffer.len().min(bytes.len() - start);
        buffer[..length].copy_from_slice(&bytes[start..start + length]);
        Ok(length)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut image = self.image.lock();
        let result = image.operate();
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let start = position as usize;
        // A failed write may have written a part.
        let written = if result.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        let file = &mut image.files[self.id];
        if file.current.len() < start + written {
            file.current.resize(start + written, 0);
        }
        file.current[start..start + written].copy_from_slice(&bytes[..written]);
        file.touch(start, start + written);
        result.map(|()| written)
    }

    fn fdatasync(&self) -> io::Result<()> {
        let mut image = self.image.lock();
        image.operate()?;
        let file = &mut image.files[self.id];
        file.durable = file.current.clone();
        file.dirty.clear();
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let current = self.length()?;
        if current < length {
            self.set_length(length)
        } else {
            Ok(())
        }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.image.lock().files[self.id].current.len() as u64)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut image = self.image.lock();
        image.operate()?;
        let file = &mut image.files[self.id];
        file.current.resize(length as usize, 0);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.image.lock().file(path)?;
        Ok(Arc::new(SimFile {
            image: Arc::clone(&self.image),
            id,
        }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut image = self.image.lock();
        image.operate()?;
        if !image.has_parent(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let id = image.files.len();
        image.files.push(File::default());
        image.names.insert(path.to_owned(), Name::File(id));
        drop(image);
        Ok(Arc::new(SimFile {
            image: Arc::clone(&self.image),
            id,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut image = self.image.lock();
        image.operate()?;
        let moved: Vec<(PathBuf, Name)> = image
            .names
            .iter()
            .filter(|(path, _)| path.starts_with(from))
            .map(|(path, name)| (path.clone(), name.clone()))
            .collect();
        if moved.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        for (path, name) in moved {
            image.names.remove(&path);
            let rest = path.strip_prefix(from).unwrap_or(Path::new(""));
            let target = if rest.as_os_str().is_empty() {
                to.to_owned()
            } else {
                to.join(rest)
            };
            image.names.insert(target, name);
        }
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut image = self.image.lock();
        image.file(path)?;
        image.operate()?;
        image.names.remove(path);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut image = self.image.lock();
        if matches!(image.names.get(path), Some(Name::Dir)) {
            return Ok(());
        }
        image.operate()?;
        let ancestors: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
        for ancestor in ancestors {
            image.names.entry(ancestor).or_insert(Name::Dir);
        }
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut image = self.image.lock();
        image.operate()?;
        image.names.retain(|name, _| !name.starts_with(path));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let image = self.image.lock();
        if !matches!(image.names.get(path), Some(Name::Dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let entries = image
            .names
            .iter()
            .filter(|(name, _)| name.parent() == Some(path))
            .filter_map(|(name, kind)| {
                Some(DirEntry {
                    name: name.file_name()?.to_str()?.to_owned(),
                    is_dir: matches!(kind, Name::Dir),
                })
            })
            .collect();
        Ok(entries)
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        let mut image = self.image.lock();
        image.operate()?;
        image
            .durable_names
            .retain(|name, _| name.parent() != Some(path));
        let fresh: Vec<(PathBuf, Name)> = image
            .names
            .iter()
            .filter(|(name, _)| name.parent() == Some(path))
            .map(|(name, kind)| (name.clone(), kind.clone()))
            .collect();
        image.durable_names.extend(fresh);
        Ok(())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        Ok(Space {
            free: self.image.lock().free,
            total: 1 << 40,
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut image = self.image.lock();
        if !image.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock {
            image: Arc::clone(&self.image),
            path: path.to_owned(),
        }))
    }

    fn entropy(&self) -> u64 {
        match &mut self.image.lock().random {
            Some(random) => random.u64(..),
            None => 0,
        }
    }

    fn is_native(&self) -> bool {
        false
    }
}

struct SimLock {
    image: Arc<Mutex<Image>>,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.image.lock().locks.remove(&self.path);
    }
}
