//! The folder that a program works in: made for it, and removed after it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};

use crate::programs::launch::MAX_RESULT;

const PROGRESS: &str = "progress";

/// A folder with mode 0700; it is removed with the value.
pub(super) struct PrivateFolder {
    /// It holds `work`, in which the program works, and beside it what the program reports by.
    path: PathBuf,
    work: PathBuf,
    /// The end of a FIFO that progress is read from. It is never at its end, and reading never blocks.
    progress: File,
}

impl PrivateFolder {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(path)?;
        let (work, fifo) = (path.join("work"), path.join(PROGRESS));
        DirBuilder::new().mode(0o700).create(&work)?;
        mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR)?;
        let flags = raw(OFlags::NONBLOCK | OFlags::NOFOLLOW);
        let progress = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&fifo)?;
        Ok(Self { path: path.to_owned(), work, progress })
    }

    /// Where the program works.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    pub(super) fn result_path(&self) -> PathBuf {
        self.path.join("result")
    }

    pub(super) fn progress_path(&self) -> PathBuf {
        self.path.join(PROGRESS)
    }

    pub(super) fn progress(&self) -> io::Result<File> {
        self.progress.try_clone()
    }

    /// What the program has left in the place of its result: nothing, a bounded regular file, or why it is neither.
    pub(super) fn result(&self) -> Result<Option<Vec<u8>>, String> {
        let path = self.result_path();
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
            Ok(found) if !found.is_file() => return Err("it is not a regular file".to_owned()),
            Ok(_) => {}
        }
        let flags = raw(OFlags::NONBLOCK | OFlags::NOFOLLOW);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(|error| error.to_string())?;
        if !file.metadata().is_ok_and(|found| found.is_file()) {
            return Err("it is not a regular file".to_owned());
        }
        let (mut bytes, bound) = (Vec::new(), MAX_RESULT.saturating_add(1));
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        file.take(bound).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() > MAX_RESULT { Err(format!("it is longer than {MAX_RESULT} bytes")) } else { Ok(Some(bytes)) }
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes the folder of a program. What cannot be removed is left to whoever cleans the folder of temporary files.
pub(in crate::programs) fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
        open_up(path);
        let _ = fs::remove_dir_all(path);
    }
}

/// Gives back the right to remove what a program has closed to itself.
fn open_up(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let _ = fs::set_permissions(&folder, Permissions::from_mode(0o700));
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(entries.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir())).map(|entry| entry.path()));
    }
}

fn raw(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or_default()
}
