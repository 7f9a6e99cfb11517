//! The user that a program runs as.

use std::fs::File;
use std::io::Read;

use rustix::process::{getegid, geteuid};
use serde::{Deserialize, Serialize};

/// The longest `/etc/passwd` or `/etc/group` that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// A user of this machine, with what fits it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) home: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The supplementary groups, the first one included.
    pub(super) groups: Vec<u32>,
}

impl User {
    /// The user of a name, from `/etc/passwd` and `/etc/group`.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let passwd = read("/etc/passwd")?;
        let user = entries(&passwd).find(|entry| entry.first() == Some(&name));
        let user = user.and_then(|entry| Self::of_entry(&entry));
        let mut user = user.ok_or_else(|| format!("the user `{}` is not in /etc/passwd", name.escape_debug()))?;
        let group = read("/etc/group")?;
        let is_member = |entry: &Vec<&str>| entry.get(3).is_some_and(|members| members.split(',').any(|it| it == name));
        let groups = entries(&group).filter(is_member).filter_map(|entry| entry.get(2)?.parse::<u32>().ok());
        user.groups.extend(groups);
        user.groups.dedup();
        Ok(user)
    }

    /// The user of this process; where it has no entry, by its number.
    pub(super) fn own() -> Self {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let passwd = read("/etc/passwd").unwrap_or_default();
        let known = entries(&passwd).filter_map(|entry| Self::of_entry(&entry)).find(|user| user.uid == uid);
        let nobody = || Self { name: uid.to_string(), home: "/".to_owned(), uid, gid, groups: vec![gid] };
        known.unwrap_or_else(nobody)
    }

    /// Whether a process of this user need not change anything to be it.
    pub(super) fn is_own(&self) -> bool {
        self.uid == geteuid().as_raw()
    }

    fn of_entry(entry: &[&str]) -> Option<Self> {
        let [name, _, uid, gid, _, home, ..] = entry else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        Some(Self { name: (*name).to_owned(), home: (*home).to_owned(), uid, gid, groups: vec![gid] })
    }
}

fn read(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| format!("{path}: {error}"))
}

fn entries(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.split(':').collect())
}
