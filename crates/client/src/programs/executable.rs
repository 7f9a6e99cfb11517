//! Whether a file can be started, told before it is tried: the system's own words do not say what is missing, and the C
//! library would give a file that it cannot read to a shell.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use countersign_protocol::text::escape;
use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

/// How much of a file the kernel reads to see what it is, in bytes.
const HEAD: u64 = 256;

/// Why the system would not start a file, in words; nothing where it would.
pub(super) fn obstacle(path: &Path) -> Option<String> {
    check(path).err()
}

/// Why something is not to be started: others than its owner or root may change it.
pub(super) fn writable_by_others(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    let mode = found.mode() & 0o7777;
    let shown = shown(path);
    (mode & 0o022 != 0).then(|| format!("{shown} can be written by others than its owner: its mode is {mode:04o}"))
}

fn check(path: &Path) -> Result<(), String> {
    let shown = shown(path);
    let found = fs::metadata(path).map_err(|error| unreachable_file(path, &error))?;
    if found.is_dir() {
        return Err(format!("{shown} is a folder"));
    }
    if !found.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Err(format!("{shown} is not executable: its mode has no x"));
    }
    if statvfs(path).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        return Err(format!("{shown} is on a file system that is mounted noexec"));
    }
    if access(path, Access::EXEC_OK).is_err() {
        return Err(format!("{shown} may not be executed by this user"));
    }
    let mut head = Vec::new();
    match File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head)) {
        Ok(_) => known_format(&shown, &head),
        // What may be executed and not read is no script.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(format!("{shown} cannot be read: {error}")),
    }
}

fn unreachable_file(path: &Path, error: &io::Error) -> String {
    let shown = shown(path);
    match error.kind() {
        io::ErrorKind::NotFound => format!("{shown} does not exist"),
        io::ErrorKind::PermissionDenied => {
            let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
            above.reverse();
            let closed = above.into_iter().find(|folder| access(*folder, Access::EXEC_OK).is_err());
            let closed = closed.map_or_else(|| "a folder above it".to_owned(), self::shown);
            format!("{shown} cannot be reached: this user may not enter {closed}")
        }
        _ => format!("{shown}: {error}"),
    }
}

fn known_format(shown: &str, head: &[u8]) -> Result<(), String> {
    if let Some(rest) = head.strip_prefix(b"#!") {
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        return interpreter(shown, line);
    }
    if head.starts_with(b"\x7fELF") {
        return native(shown, head);
    }
    if head.starts_with("\u{feff}#!".as_bytes()) {
        return Err(format!("{shown} begins with a byte order mark, so that the system does not see its `#!`"));
    }
    match head {
        [] => Err(format!("{shown} is empty")),
        _ => Err(format!("{shown} is neither a program of this system nor a script that begins with `#!`")),
    }
}

fn interpreter(shown: &str, line: &[u8]) -> Result<(), String> {
    let line = line.trim_ascii_start();
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let path = String::from_utf8_lossy(&line[..end]);
    if path.is_empty() {
        return Err(format!("{shown} names no interpreter after `#!`"));
    }
    let named = escape(&path);
    match fs::metadata(&*path) {
        Ok(found) if found.is_file() && found.mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(format!("the interpreter `{named}` of {shown} is not an executable file")),
        Err(_) if path.ends_with('\r') => {
            Err(format!("the interpreter `{named}` of {shown} does not exist: its lines end with \\r\\n"))
        }
        Err(_) => Err(format!("the interpreter `{named}` of {shown} does not exist")),
    }
}

/// Whether an ELF file is for this machine, by the header of the file that runs now.
fn native(shown: &str, head: &[u8]) -> Result<(), String> {
    let mut own = Vec::new();
    let read = File::open("/proc/self/exe").and_then(|file| file.take(HEAD).read_to_end(&mut own));
    // Bytes 4 and 5 are the word size and the byte order, 18 and 19 the architecture.
    let machine = |head: &[u8]| Some((head.get(4..6)?.to_vec(), head.get(18..20)?.to_vec()));
    match (read, machine(head)) {
        (_, None) => Err(format!("{shown} is cut off")),
        (Ok(_), theirs) if theirs != machine(&own) => {
            // A 32-bit program may run all the same: the system knows.
            let compatible = theirs.is_some_and(|(class, _)| class.first() == Some(&1)) && cfg!(target_arch = "x86_64");
            let is_foreign = head.get(18..20) != Some(&[3, 0][..]);
            if compatible && !is_foreign {
                Ok(())
            } else {
                Err(format!("{shown} is a program for another architecture"))
            }
        }
        _ => Ok(()),
    }
}

pub(super) fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use std::fs::Permissions;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_cannot_be_started_is_told_in_words_of_its_own() {
        let folder = TempDir::new().unwrap();
        let mut foreign = fs::read("/proc/self/exe").unwrap();
        foreign.truncate(4_096);
        foreign[18] ^= 0x55;
        let file = |name: &str, content: &[u8], mode: u32| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        };
        let cases = [
            (file("crlf", b"#!/bin/sh\r\nexit 0\r\n", 0o755), "the interpreter `/bin/sh\\r`"),
            (file("mark", b"\xef\xbb\xbf#!/bin/sh\n", 0o755), "byte order mark"),
            (file("none", b"echo hello\n", 0o755), "neither a program"),
            (file("gone", b"#!/no/such/interpreter -x\n", 0o755), "the interpreter `/no/such/interpreter`"),
            (file("nameless", b"#! \n", 0o755), "names no interpreter"),
            (file("closed", b"#!/bin/sh\n", 0o644), "has no x"),
            (file("empty", b"", 0o755), "is empty"),
            (file("foreign", &foreign, 0o755), "another architecture"),
            (folder.path().to_owned(), "is a folder"),
            (folder.path().join("missing"), "does not exist"),
        ];
        for (path, word) in cases {
            let why = obstacle(&path).unwrap();
            assert!(why.contains(word), "{}: {why}", path.display());
        }
        assert_eq!(obstacle(&file("good", b"#!/bin/sh\n", 0o755)), None);
        assert_eq!(obstacle(Path::new("/proc/self/exe")), None);
    }

    #[test]
    fn what_others_may_write_is_not_to_be_started() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("script");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        for (mode, refused) in [(0o755, false), (0o775, true), (0o757, true), (0o700, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(writable_by_others(&path).is_some(), refused, "{mode:o}");
        }
    }
}
