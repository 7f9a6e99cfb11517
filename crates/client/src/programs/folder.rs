//! The folder of definitions, read as a whole set.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_protocol::name::Name;
use countersign_protocol::text::escape;
use rustix::fs::OFlags;
use rustix::process::geteuid;

use super::definition::Program;
use super::executable::shown;

/// The longest definition, in bytes.
const MAX_DEFINITION: u64 = 65_536;
/// How many files a folder of definitions may hold.
const MAX_FILES: usize = 4_096;

/// A set of programs that are commands.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    programs: Vec<Program>,
    ignored: Vec<Ignored>,
}

/// Something in the folder that is no definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Its name, escaped.
    pub name: String,
    /// Why.
    pub why: &'static str,
}

/// A rule that a definition breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionError {
    /// The file, or the folder.
    pub path: PathBuf,
    /// The line, from 1, where it is in one.
    pub line: Option<usize>,
    /// What happened.
    pub what: String,
    /// What was expected.
    pub expected: String,
}

impl Programs {
    /// Reads every definition of a folder, `NAME.toml` each. A program that is confined (`read_only`) reaches nothing below
    /// `hidden`: name the client's keys and its state there.
    ///
    /// # Errors
    /// Every rule that one of them breaks: with one wrong definition there is no set.
    pub fn read(folder: &Path, hidden: &[PathBuf]) -> Result<Self, Vec<DefinitionError>> {
        let real = |path: &PathBuf| fs::canonicalize(path).or_else(|_| std::path::absolute(path));
        let hidden: Vec<PathBuf> = hidden.iter().filter_map(|path| real(path).ok()).collect();
        let error = |what: String, expected: &str| {
            vec![DefinitionError { path: folder.to_owned(), line: None, what, expected: expected.to_owned() }]
        };
        let found = fs::metadata(folder).and_then(|found| Ok((found, names(folder)?)));
        let (found, names) = found.map_err(|cause| error(cause.to_string(), "a folder of definitions"))?;
        if let Some(what) = untrusted(&found) {
            return Err(error(
                what,
                "a folder that belongs to the client's user or root, and that only its owner may change (`chmod go-w`)",
            ));
        }
        let mut set = Self::default();
        let (mut errors, mut definitions) = (Vec::new(), Vec::new());
        for name in names {
            match kind(folder, &name) {
                Kind::Definition(of) => definitions.push((of, name)),
                Kind::Ignored(why) => set.ignored.push(Ignored { name: escape(&name).into_owned(), why }),
                Kind::Wrong(what, expected) => {
                    errors.push(DefinitionError { path: folder.join(name), line: None, what, expected });
                }
            }
        }
        for (name, file) in definitions {
            let path = folder.join(file);
            let read = read_trusted(&path, MAX_DEFINITION).map_err(|what| {
                let expected =
                    "a regular file of the client's user or root, that only its owner may change (`chmod go-w`)";
                let expected = expected.to_owned();
                vec![DefinitionError { path: path.clone(), line: None, what, expected }]
            });
            match read.and_then(|text| Program::read(name, &path, &text, &hidden)) {
                Ok(program) => set.programs.push(program),
                Err(wrong) => errors.extend(wrong),
            }
        }
        errors.extend(twins(folder, &set, &errors));
        set.ignored.retain(|file| !set.programs.iter().any(|program| program.files.contains(&file.name)));
        if errors.is_empty() { Ok(set) } else { Err(errors) }
    }

    /// The programs, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Program> {
        self.programs.iter()
    }

    /// The longest time that one of them may take to end after SIGTERM.
    pub fn grace(&self) -> Duration {
        self.programs.iter().map(|program| program.grace).max().unwrap_or_default()
    }

    /// What is in the folder and is no definition.
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    pub(crate) fn into_programs(self) -> Vec<Program> {
        self.programs
    }
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.path))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

enum Kind {
    Definition(Name),
    Ignored(&'static str),
    Wrong(String, String),
}

fn kind(folder: &Path, name: &str) -> Kind {
    if name.starts_with('.') {
        return Kind::Ignored("hidden");
    }
    if fs::symlink_metadata(folder.join(name)).is_ok_and(|found| found.is_dir()) {
        return Kind::Ignored("a folder");
    }
    let Some(stem) = name.strip_suffix(".toml") else { return Kind::Ignored("its name does not end with .toml") };
    match stem.parse() {
        Ok(name) => Kind::Definition(name),
        Err(error) => Kind::Wrong(format!("its name is no command's: {error}"), "NAME.toml, in lower case".to_owned()),
    }
}

/// The files whose names differ only in case from another's.
fn twins(folder: &Path, set: &Programs, errors: &[DefinitionError]) -> Vec<DefinitionError> {
    let read = set.programs.iter().map(|program| folder.join(format!("{}.toml", program.name())));
    let mut seen = BTreeMap::<String, Vec<PathBuf>>::new();
    let mut paths: Vec<PathBuf> = read.chain(errors.iter().map(|error| error.path.clone())).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        seen.entry(path.to_string_lossy().to_lowercase()).or_default().push(path);
    }
    let twins = seen.into_values().filter(|paths| paths.len() > 1).flatten();
    let what = || "another file's name differs from it only in case".to_owned();
    let expected = || "one file for each command".to_owned();
    twins.map(|path| DefinitionError { path, line: None, what: what(), expected: expected() }).collect()
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if names.len() == MAX_FILES {
            return Err(io::Error::other(format!("it holds more than {MAX_FILES} files")));
        }
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The text of a file that is trusted: a regular one, of the client's user or root, that nobody else may change. It never
/// blocks.
pub(super) fn read_trusted(path: &Path, max: u64) -> Result<String, String> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = file.map_err(|error| match fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        true => format!("it is a link to something that cannot be read: {error}"),
        false => error.to_string(),
    })?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if let Some(what) = untrusted(&found) {
        return Err(what);
    }
    let mut text = String::new();
    file.take(max + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > max {
        return Err(format!("it is longer than {max} bytes"));
    }
    Ok(text)
}

/// Why what a file or folder holds is not to be trusted.
fn untrusted(found: &fs::Metadata) -> Option<String> {
    let mode = found.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Some(format!("it can be written by others than its owner: its mode is {mode:04o}"));
    }
    let us = geteuid().as_raw();
    (found.uid() != us && found.uid() != 0)
        .then(|| format!("it belongs to user {}, and this process runs as user {us}", found.uid()))
}

#[cfg(test)]
mod tests;
