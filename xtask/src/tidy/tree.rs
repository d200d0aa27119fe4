//! The text files of the repository.

use std::fs;
use std::path::Path;

use crate::failure::{During, Outcome};

/// What holds no source: build output, history (a file in a linked work tree),
/// fuzz inputs.
const SKIPPED: [&str; 5] = [".git", "target", "corpus", "artifacts", "__pycache__"];

/// Bytes of a file that is still read as text. The largest legitimate text
/// here is Cargo.lock at some 60 KB; golden files and corpora are not text.
const TEXT_SIZE_MAX: u64 = 1 << 20;

/// One text file.
#[derive(Debug)]
pub struct File {
    /// Path relative to the root, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// Every text file of the repository, in path order.
#[derive(Debug, Default)]
pub struct Tree {
    /// The files.
    pub files: Vec<File>,
}

impl Tree {
    /// Reads the tree under `root`. Files that are not UTF-8 are left out.
    ///
    /// # Errors
    /// A directory or file could not be read.
    pub fn read(root: &Path) -> Outcome<Self> {
        let mut tree = Self::default();
        tree.walk(root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn walk(&mut self, directory: &Path, prefix: &str) -> Outcome {
        for entry in fs::read_dir(directory).during(directory.display())? {
            let entry = entry.during(directory.display())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().during(&name)?;
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if kind.is_dir() {
                self.walk(&entry.path(), &format!("{prefix}{name}/"))?;
            } else if kind.is_file() && entry.metadata().during(&name)?.len() <= TEXT_SIZE_MAX {
                let path = format!("{prefix}{name}");
                // A file may vanish between listing and reading (editors do
                // that); what is gone needs no check.
                if let Ok(Ok(text)) = fs::read(entry.path()).map(String::from_utf8) {
                    self.files.push(File { path, text });
                }
            }
        }
        Ok(())
    }

    /// The text of the file at `path`.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        let file = self.files.iter().find(|file| file.path == path)?;
        Some(&file.text)
    }

    /// The files whose name ends with one of `endings`.
    pub fn ending<'a>(&'a self, endings: &'a [&str]) -> impl Iterator<Item = &'a File> {
        self.files
            .iter()
            .filter(|file| endings.iter().any(|ending| file.path.ends_with(ending)))
    }
}
