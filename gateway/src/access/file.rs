//! The file of users on disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use forebay_access::acls::{self, Acls, AclsError};
use forebay_access::users::{FILE_LEN_MAX, Users, UsersError};
use rustix::fs::FlockOperation;

/// Bytes of the secret of a node.
pub const SECRET_LEN: usize = 32;

/// Why the file of users cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it.
    #[error("{}: {source}", path.display())]
    Users {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: UsersError,
    },
    /// What is in the file of permissions.
    #[error("{}: {source}", path.display())]
    Acls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: AclsError,
    },
    /// It is not ours.
    #[error("{}: expected at most {len_max} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        len_max: usize,
    },
}

/// What a file is like: when and how much was written.
pub fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    // A replaced file of the same length and second has another inode.
    Some((metadata.modified().ok()?, metadata.ino() ^ metadata.len()))
}

/// Reads the users; a file that is not there has none.
///
/// # Errors
/// [`FileError`].
pub fn read(path: &Path) -> Result<Users, FileError> {
    match text(path, FILE_LEN_MAX)? {
        None => Ok(Users::default()),
        Some(text) => Users::parse(&text).map_err(|source| FileError::Users {
            path: path.to_path_buf(),
            source,
        }),
    }
}

/// Reads the permissions that Kafka clients have set; a file that is not there has
/// none.
///
/// # Errors
/// [`FileError`].
pub fn read_acls(path: &Path) -> Result<Acls, FileError> {
    let text = text(path, acls::FILE_LEN_MAX)?.unwrap_or_default();
    Acls::parse(&text).map_err(|source| FileError::Acls {
        path: path.to_path_buf(),
        source,
    })
}

/// The text of a file of at most `len_max` bytes; `None` when it is not there.
fn text(path: &Path, len_max: usize) -> Result<Option<String>, FileError> {
    let io = |source| FileError::Io {
        path: path.to_path_buf(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut text = String::new();
    let mut limited = file.take(len_max as u64 + 1);
    limited.read_to_string(&mut text).map_err(io)?;
    if text.len() > len_max {
        return Err(FileError::TooLong {
            path: path.to_path_buf(),
            len_max,
        });
    }
    Ok(Some(text))
}

/// As [`read`], with the stamp from before it was read.
pub fn read_with_stamp(path: &Path) -> Result<(Users, Option<(SystemTime, u64)>), FileError> {
    let stamp = stamp(path);
    Ok((read(path)?, stamp))
}

/// Changes the users: one writer at a time, and the file is replaced whole, for
/// its owner only. Durable on return.
///
/// # Errors
/// The change, or [`FileError`].
pub fn change<E: From<FileError>>(
    path: &Path,
    change: impl FnOnce(&mut Users) -> Result<(), E>,
) -> Result<(), E> {
    let io = |source| FileError::Io {
        path: path.to_path_buf(),
        source,
    };
    let lock = private(
        OpenOptions::new().create(true).truncate(false).write(true),
        &sibling(path, ".lock"),
    )
    .map_err(io)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|error| io(error.into()))?;
    let mut users = read(path)?;
    change(&mut users)?;
    replace(path, &users.to_text())?;
    Ok(())
}

/// Puts a text in the place of a file, for its owner only. Durable on return; on an
/// error the file is what it was, or, when only its directory could not be synced,
/// what it was or the text.
///
/// # Errors
/// [`FileError::Io`].
#[expect(
    clippy::disallowed_methods,
    reason = "what is synced is a file of its own, which is not put in place when that fails"
)]
pub fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    let written = sibling(path, ".new");
    let write = || {
        let mut file = private(
            OpenOptions::new().create(true).truncate(true).write(true),
            &written,
        )?;
        let owner = |path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.uid(), metadata.gid()))
        };
        let made = file.metadata()?;
        // The node reads it as its own user, whoever changes it. The node itself must
        // not ask for the owner that the file has anyway: the service may not.
        if let Some((user, group)) = owner(path).or_else(|| owner(path.parent()?))
            && (user, group) != (made.uid(), made.gid())
        {
            std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&written, path)?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| FileError::Io {
        path: path.to_path_buf(),
        source,
    })
}

fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Opens a file that only its owner reads.
fn private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).open(path)
}

/// A secret of the node that stays the same, made when there is none. Who asks for a
/// user that does not exist is answered with a salt from it: one that changed with each
/// start would tell that there is no such user.
pub fn secret(path: &Path) -> [u8; SECRET_LEN] {
    // What is longer is not one of ours.
    if let Ok(Some(kept)) = text(path, 2 * SECRET_LEN)
        && let Ok(bytes) = BASE64.decode(kept.trim_end())
        && let Ok(bytes) = bytes.try_into()
    {
        return bytes;
    }
    let made = chance().unwrap_or_default();
    let text = format!("{}\n", BASE64.encode(made));
    if let Err(error) = replace(path, &text) {
        tracing::warn!("until the next start only, salts of unknown users are the same: {error}");
    }
    made
}

/// Bytes that nobody can guess.
///
/// # Errors
/// The system has none.
pub fn chance<const LEN: usize>() -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login-secret");
        let made = secret(&path);
        assert_ne!(made, [0; SECRET_LEN]);
        assert_eq!(secret(&path), made);
        let mode = std::fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "something else\n").unwrap();
        let next = secret(&path);
        assert_ne!(next, made);
        assert_eq!(secret(&path), next);
        // Where nothing can be written there is still one.
        let nowhere = dir.path().join("missing/login-secret");
        assert_ne!(secret(&nowhere), secret(&nowhere));
    }
}
