//! Opening, making and replacing single files.

use std::fmt;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_protocol::key::SecretKey;
use countersign_protocol::text::escape;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::folder::{FolderKind, KeyFolder};

/// The longest secret file, in bytes; a key in PEM has 119, a file of credentials up to 4,000.
const MAX_SECRET: usize = 16 * 1024;

/// Why a file of the keys folder cannot be used. [`fmt::Display`] says what happened, what was expected and what to do,
/// each on a line of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a file of the keys folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is no such file.
    Missing,
    /// There is one already, and a key is never overwritten.
    Exists,
    /// It is a symbolic link.
    Link,
    /// It is a folder, a FIFO, a socket or a device.
    NotRegular,
    /// It belongs to somebody else.
    Foreign {
        /// The user id of its owner.
        owner: u32,
        /// The effective user id of this process.
        us: u32,
    },
    /// Group or others may do something with it, and it holds a secret.
    TooOpen {
        /// Its permission bits.
        mode: u32,
    },
    /// Group or others may write to it, and what stands in it, or below it, is trusted.
    Writable {
        /// Its permission bits.
        mode: u32,
    },
    /// It is longer than such a file can be.
    TooLong {
        /// The bound, in bytes.
        max: usize,
    },
    /// This user may not use it.
    Denied {
        /// The user id of the owner of what is in the way, where that can be seen.
        owner: Option<u32>,
        /// The effective user id of this process.
        us: u32,
    },
    /// Another process changes the folder.
    Busy {
        /// For how long it was waited for.
        waited: Duration,
    },
    /// The operating system does not allow it.
    Io(String),
    /// It can be read, and its content is wrong.
    Content {
        /// What happened.
        what: String,
        /// What was expected.
        expected: &'static str,
        /// What to do.
        hint: &'static str,
    },
}

impl KeyFileError {
    pub(super) fn new(path: &Path, fault: Fault) -> Self {
        Self { path: path.to_owned(), fault }
    }

    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        let fault = match error.kind() {
            io::ErrorKind::NotFound => Fault::Missing,
            io::ErrorKind::AlreadyExists => Fault::Exists,
            io::ErrorKind::PermissionDenied => {
                let owner = path.ancestors().find_map(|path| path.metadata().ok()).map(|found| found.uid());
                Fault::Denied { owner, us: geteuid().as_raw() }
            }
            _ => Fault::Io(error.to_string()),
        };
        Self::new(path, fault)
    }

    /// What happened.
    pub fn what(&self) -> String {
        let path = self.shown();
        match &self.fault {
            Fault::Missing => format!("{path} does not exist"),
            Fault::Exists => format!("{path} exists already"),
            Fault::Link => format!("{path} is a symbolic link"),
            Fault::NotRegular => format!("{path} is not a regular file"),
            Fault::Foreign { owner, us } => {
                format!("{path} belongs to user {owner}, and this process runs as user {us}")
            }
            Fault::TooOpen { mode } => format!("{path} is open to others: its mode is {mode:04o}"),
            Fault::Writable { mode } => format!("{path} can be written by others: its mode is {mode:04o}"),
            Fault::TooLong { max } => format!("{path} is longer than {max} bytes"),
            Fault::Denied { owner: Some(owner), us } if owner != us => {
                format!("{path} cannot be used: it belongs to user {owner}, and this process runs as user {us}")
            }
            Fault::Denied { .. } => format!("{path} cannot be used: permission denied"),
            Fault::Busy { waited } => {
                format!("another process has been changing the folder {path} for {:.1} s", waited.as_secs_f64())
            }
            Fault::Io(error) => format!("{path}: {error}"),
            Fault::Content { what, .. } => format!("{path}: {what}"),
        }
    }

    /// What was expected.
    pub fn expected(&self) -> &'static str {
        match &self.fault {
            Fault::Missing => "a file that `countersign init` makes",
            Fault::Exists => "no such file: a key is never overwritten",
            Fault::Link | Fault::NotRegular => "a regular file, so that nobody can put another in its place",
            Fault::Foreign { .. } => "an owner who is the user that uses it; root, where it holds no secret",
            Fault::TooOpen { .. } => "mode 0600: a private key is for its owner alone",
            Fault::Writable { .. } => "that nobody else can write to it: everything rests on what it holds",
            Fault::TooLong { .. } => "one key, credential or trust bundle, and nothing else",
            Fault::Denied { .. } => "a file that the user of this process may use",
            Fault::Busy { .. } => "one process that changes a folder of keys at a time",
            Fault::Io(_) => "a file that this process can read and write",
            Fault::Content { expected, .. } => expected,
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        let (path, word) = (self.shown(), shell_word(&self.path));
        match &self.fault {
            Fault::Missing => self.where_from().to_owned(),
            Fault::Exists => format!("move {path} away if a new one is wanted"),
            Fault::Link => format!("put the file itself at {path}"),
            Fault::NotRegular => format!("remove {path}; then {}", self.where_from()),
            Fault::Foreign { us, .. } => format!("run as its owner, or `chown {us} {word}`"),
            Fault::TooOpen { .. } => format!("run `chmod 600 {word}`, and renew the key if others may have read it"),
            Fault::Writable { .. } => format!("check what is in it, then run `chmod go-w {word}`"),
            Fault::TooLong { .. } => "check that it is the right file".to_owned(),
            Fault::Denied { owner: Some(owner), us } if owner != us => {
                "run as its owner, or name your own folder of keys by --keys".to_owned()
            }
            Fault::Denied { .. } => "check its mode, and the mode of its folder".to_owned(),
            Fault::Busy { .. } => "run it again when the other has ended".to_owned(),
            Fault::Io(_) => "check the folder's permissions and the disk".to_owned(),
            Fault::Content { hint, .. } => (*hint).to_owned(),
        }
    }

    /// How a file that is missing comes there.
    fn where_from(&self) -> &'static str {
        match KeyFolder::of_file(&self.path).kind() {
            FolderKind::Issuer => "run `countersign init`, which makes what is missing in its folder of keys",
            FolderKind::Member => "fetch it from the machine that has issuer.pem, where `countersign init` makes it",
            FolderKind::Other => {
                "name your folder of keys by `--keys`, COUNTERSIGN_KEYS or a context; `countersign init` is for a new realm"
            }
        }
    }

    fn shown(&self) -> String {
        escape(&self.path.to_string_lossy()).into_owned()
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nexpected: {}\ntry: {}", self.what(), self.expected(), self.hint())
    }
}

impl std::error::Error for KeyFileError {}

/// A path as one word of a command that a person may paste into a shell. A control character in it is shown, escaped, and
/// not pasted.
pub fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = escape(&text);
    // No option.
    let text = if text.starts_with('-') { format!("./{text}") } else { text.into_owned() };
    shlex::try_quote(&text).map(std::borrow::Cow::into_owned).unwrap_or_default()
}

/// Reads a message-signing key: PKCS#8 PEM in a regular file of mode 0600 of this user, reached by no link.
pub fn read_key(path: &Path) -> Result<SecretKey, KeyFileError> {
    let text = read_secret(path)?;
    SecretKey::from_pem(text.trim()).map_err(|error| {
        let what = error.to_string();
        let expected = "an Ed25519 private key in PKCS#8 PEM, version 1";
        let hint = "check that it is the right file; `openssl pkey -noout -text -in FILE` shows what it is";
        KeyFileError::new(path, Fault::Content { what, expected, hint })
    })
}

/// Makes a secret file: exclusively and as a whole, with mode 0600, on disk when this returns; missing folders are made with mode
/// 0700. A file that exists already is [`Fault::Exists`], and nothing happens to it.
pub fn create_secret(path: &Path, secret: &[u8]) -> Result<(), KeyFileError> {
    let fresh = write_fresh(path, secret, 0o600)?;
    let moved = match renameat_with(CWD, &fresh, CWD, path, RenameFlags::NOREPLACE) {
        // Not every file system can do that; each that has links refuses a second one of a name.
        Err(Errno::INVAL | Errno::NOSYS) => {
            std::fs::hard_link(&fresh, path).and_then(|()| std::fs::remove_file(&fresh))
        }
        moved => moved.map_err(io::Error::from),
    };
    moved.and_then(|()| sync_folder(folder_of(path))).map_err(|error| {
        // It is in nobody's way; the next attempt removes it too.
        let _ = std::fs::remove_file(&fresh);
        KeyFileError::io(path, &error)
    })
}

/// Puts a secret file in the place of another, at once and on disk when this returns.
pub fn replace_key(fresh: &Path, path: &Path) -> Result<(), KeyFileError> {
    let replaced = std::fs::rename(fresh, path).and_then(|()| sync_folder(folder_of(path)));
    replaced.map_err(|error| KeyFileError::io(path, &error))
}

/// Reads a file of the keys folder that is no secret, of at most so many bytes. It may be a link to a regular file, which
/// must be this user's or root's. Neither the file nor its folder may be writable by others.
pub fn read_public(path: &Path, max: usize) -> Result<Vec<u8>, KeyFileError> {
    let bytes = read_own(path, max)?;
    refuse_shared_folder(path)?;
    Ok(bytes)
}

/// Reads a file that is no secret and need not lie in a folder of its own, under the other conditions of [`read_public`].
pub fn read_own(path: &Path, max: usize) -> Result<Vec<u8>, KeyFileError> {
    let (file, about) = open(path, OFlags::empty())?;
    refuse_foreign(path, &about)?;
    refuse_writable(path, &about)?;
    refuse_exposed(path)?;
    let mut bytes = Vec::new();
    read_bounded(path, file, max, &mut bytes)?;
    Ok(bytes)
}

/// Refuses a path on which somebody else can put another file or folder in place of what is there: it, or a folder on the way
/// to it, is of another user than this one and root, or everybody may write to it. A folder with the sticky bit, such as
/// `/tmp`, lets nobody replace what is another's. Groups are not looked at: on many systems each person is a group alone, and
/// what they make may be written by that group.
pub fn refuse_exposed(path: &Path) -> Result<(), KeyFileError> {
    let absolute = std::path::absolute(path).map_err(|error| KeyFileError::io(path, &error))?;
    // The way to a link counts as well as the way to what it leads to.
    let real = std::fs::canonicalize(&absolute).unwrap_or_default();
    for folder in absolute.ancestors().chain(real.ancestors()) {
        let about = match std::fs::metadata(folder) {
            Ok(about) => about,
            // What is not there is no danger yet; who needs it says that it is missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(KeyFileError::io(folder, &error)),
        };
        refuse_foreign(folder, &about)?;
        let mode = about.mode() & 0o7777;
        if mode & 0o1002 == 0o0002 {
            return Err(KeyFileError::new(folder, Fault::Writable { mode }));
        }
    }
    Ok(())
}

/// Puts a file that is no secret in the place of another, at once and on disk when this returns; missing folders are made
/// with mode 0700.
pub fn replace_public(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    replace(path, bytes, 0o644)
}

/// Puts a secret file in the place of another, with mode 0600, in the same way.
pub fn replace_secret(path: &Path, secret: &[u8]) -> Result<(), KeyFileError> {
    replace(path, secret, 0o600)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyFileError> {
    let fresh = write_fresh(path, bytes, mode)?;
    let replaced = std::fs::rename(fresh, path).and_then(|()| sync_folder(folder_of(path)));
    replaced.map_err(|error| KeyFileError::io(path, &error))
}

/// What is to become a file, whole and on disk, beside it.
fn write_fresh(path: &Path, bytes: &[u8], mode: u32) -> Result<PathBuf, KeyFileError> {
    let failed = |error: io::Error| KeyFileError::io(path, &error);
    let folder = folder_of(path);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    // A link that somebody put there is not followed.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh).map_err(failed)?;
    let fresh = PathBuf::from(fresh);
    match file.write_all(bytes).and_then(|()| file.sync_all()) {
        Ok(()) => Ok(fresh),
        Err(error) => {
            // A disk that is full has use for the room; the next attempt removes it too.
            let _ = std::fs::remove_file(fresh);
            Err(failed(error))
        }
    }
}

/// Makes a folder with mode 0700, or gives one that exists already that mode.
pub(super) fn make_private(folder: &Path) -> Result<(), KeyFileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| std::fs::set_permissions(folder, Permissions::from_mode(0o700)))
        // Nothing that `init` would make is missing, whatever the kind of error: this is what it makes.
        .map_err(|error| KeyFileError::new(folder, Fault::Io(error.to_string())))
}

/// Reads a text that is a secret, under the conditions of [`read_key`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let (file, about) = open(path, OFlags::NOFOLLOW)?;
    refuse_exposed(folder_of(path))?;
    refuse_shared_folder(path)?;
    let us = geteuid().as_raw();
    if about.uid() != us {
        return Err(KeyFileError::new(path, Fault::Foreign { owner: about.uid(), us }));
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::new(path, Fault::TooOpen { mode }));
    }
    // Of the bound's size from the start: a vector that grows leaves copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 1));
    read_bounded(path, file, MAX_SECRET, &mut bytes)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(KeyFileError::new(path, Fault::Io("it is not text".to_owned()))),
    }
}

/// Refuses a file whose folder, or that of the file that it is a link to, group or others may write to.
fn refuse_shared_folder(path: &Path) -> Result<(), KeyFileError> {
    let failed = |error: io::Error| KeyFileError::io(path, &error);
    let real = std::fs::canonicalize(path).map_err(failed)?;
    for folder in [folder_of(path), folder_of(&real)] {
        refuse_writable(folder, &std::fs::metadata(folder).map_err(failed)?)?;
    }
    Ok(())
}

/// Root may do everything anyway, and nobody else's file is trusted.
fn refuse_foreign(path: &Path, about: &Metadata) -> Result<(), KeyFileError> {
    let (owner, us) = (about.uid(), geteuid().as_raw());
    if owner == us || owner == 0 { Ok(()) } else { Err(KeyFileError::new(path, Fault::Foreign { owner, us })) }
}

fn refuse_writable(path: &Path, about: &Metadata) -> Result<(), KeyFileError> {
    let mode = about.mode() & 0o7777;
    if mode & 0o022 == 0 { Ok(()) } else { Err(KeyFileError::new(path, Fault::Writable { mode })) }
}

/// Opens a regular file without waiting for anything (a FIFO without a writer would make one wait for ever).
fn open(path: &Path, more: OFlags) -> Result<(File, Metadata), KeyFileError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    let file = rustix::fs::open(path, flags, Mode::empty()).map(File::from).map_err(|error| match error {
        Errno::LOOP => KeyFileError::new(path, Fault::Link),
        Errno::NXIO => KeyFileError::new(path, Fault::NotRegular),
        other => KeyFileError::io(path, &other.into()),
    })?;
    match file.metadata() {
        Ok(about) if about.is_file() => Ok((file, about)),
        Ok(_) => Err(KeyFileError::new(path, Fault::NotRegular)),
        Err(error) => Err(KeyFileError::io(path, &error)),
    }
}

fn read_bounded(path: &Path, file: File, max: usize, into: &mut Vec<u8>) -> Result<(), KeyFileError> {
    let more_than_max = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(more_than_max).read_to_end(into).map_err(|error| KeyFileError::io(path, &error))?;
    if into.len() > max {
        return Err(KeyFileError::new(path, Fault::TooLong { max }));
    }
    // Every file here is a text, and editors put a byte-order mark before one.
    if into.starts_with(b"\xef\xbb\xbf") {
        into.drain(..3);
    }
    Ok(())
}

pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
