//! What a program can reach where its definition confines it: Landlock, which the kernel keeps for it and all that it starts.

use std::fs;
use std::path::{Path, PathBuf};

use countersign_protocol::text::escape;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use serde::{Deserialize, Serialize};

use super::executable::shown;

/// What every confined program may read and execute, where it is there.
const SYSTEM: [&str; 12] = [
    "/bin",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/proc",
    "/run/systemd/resolve",
    "/sbin",
    "/sys",
    "/usr",
];
const DEVICES: [&str; 5] = ["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];
/// The oldest version that also keeps files from being truncated, of Linux 6.2.
const REQUIRED: ABI = ABI::V3;
/// The version whose rules are applied as far as the kernel has them: it adds devices, signals and abstract sockets.
const WANTED: ABI = ABI::V6;

/// What a program may reach beside the system's folders, its own files and its private folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Confinement {
    pub(super) readable: Vec<PathBuf>,
    pub(super) writable: Vec<PathBuf>,
    /// What it may never reach, wherever it lies: the client's keys and its state.
    pub(super) hidden: Vec<PathBuf>,
}

/// Why this system cannot confine a program; nothing where it can.
pub(super) fn obstacle() -> Option<String> {
    ruleset().and_then(Ruleset::create).err().map(|error| {
        let error = escape(&error.to_string()).into_owned();
        format!("this system cannot confine a program, which takes Landlock as in Linux 6.2 or later: {error}")
    })
}

impl Confinement {
    /// Confines this process, which has one thread, and what it starts. `folder` is its own to write to.
    pub(super) fn apply(&self, folder: &Path) -> Result<(), String> {
        let read = AccessFs::from_read(WANTED);
        let mut rules = Vec::new();
        let mut system: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        system.retain(|path| path.exists());
        for path in system.iter().chain(&self.readable) {
            rules.extend(self.opened(path)?.into_iter().map(|path| (path, read)));
        }
        for path in &self.writable {
            rules.extend(self.opened(path)?.into_iter().map(|path| (path, AccessFs::from_all(WANTED))));
        }
        rules.push((folder.to_owned(), AccessFs::from_all(WANTED)));
        let devices = DEVICES.iter().map(PathBuf::from).filter(|device| device.exists());
        rules.extend(devices.map(|device| (device, AccessFs::ReadFile | AccessFs::WriteFile)));
        restrict(rules).map_err(|error| format!("it cannot be confined: {}", escape(&error)))
    }

    /// A path, without what is hidden below it.
    fn opened(&self, path: &Path) -> Result<Vec<PathBuf>, String> {
        let path = fs::canonicalize(path).map_err(|error| format!("{}: {error}", shown(path)))?;
        let (mut found, mut next) = (Vec::new(), vec![path]);
        while let Some(path) = next.pop() {
            if self.hidden.iter().any(|hidden| path.starts_with(hidden)) {
                continue;
            }
            if !self.hidden.iter().any(|hidden| hidden.starts_with(&path)) {
                found.push(path);
                continue;
            }
            // What a link leads to is judged where it is.
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            let entries = entries.filter(|entry| entry.file_type().is_ok_and(|it| !it.is_symlink()));
            next.extend(entries.map(|entry| entry.path()));
        }
        Ok(found)
    }
}

fn ruleset() -> Result<Ruleset, RulesetError> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let ruleset = ruleset.handle_access(AccessFs::from_all(REQUIRED))?.set_compatibility(CompatLevel::BestEffort);
    ruleset.handle_access(AccessFs::from_all(WANTED))?.scope(Scope::from_all(WANTED))
}

fn restrict(rules: Vec<(PathBuf, BitFlags<AccessFs>)>) -> Result<(), String> {
    let error = |error: RulesetError| error.to_string();
    let mut created = ruleset().and_then(Ruleset::create).map_err(error)?;
    for (path, access) in rules {
        // What this user cannot reach need not be opened.
        let Ok(opened) = PathFd::new(&path) else { continue };
        created = created.add_rule(PathBeneath::new(opened, access)).map_err(error)?;
    }
    let status = created.restrict_self().map_err(error)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("the kernel does not enforce Landlock".to_owned()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced if !status.no_new_privs => {
            Err("privileges could still be gained".to_owned())
        }
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_folder_is_opened_without_what_is_hidden_below_it_or_linked_from_it() {
        let folder = TempDir::new().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for path in ["a/keys/own", "a/docs", "b"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::write(root.join("a/file"), "").unwrap();
        symlink(root.join("a/keys"), root.join("a/link")).unwrap();
        let opened = |path: &str, hidden: &[&str]| {
            let hidden = hidden.iter().map(|path| root.join(path)).collect();
            let mut opened = Confinement { hidden, ..Confinement::default() }.opened(&root.join(path)).unwrap();
            opened.sort();
            opened
        };
        let of = |paths: &[&str]| paths.iter().map(|path| root.join(path)).collect::<Vec<_>>();
        assert_eq!(opened("", &["a/keys"]), of(&["a/docs", "a/file", "b"]));
        assert_eq!(opened("a/link", &["a/keys"]), of(&[]), "a link is what it leads to");
        assert_eq!(opened("a/keys/own", &["a/keys"]), of(&[]));
        assert_eq!(opened("a", &["c"]), of(&["a"]));
    }
}
