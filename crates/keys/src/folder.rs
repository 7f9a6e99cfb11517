//! The keys folder: what lies where.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use countersign_protocol::credential::Role;
use countersign_protocol::key::Thumbprint;
use countersign_protocol::name::Name;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::file::{Fault, KeyFileError, make_private, refuse_exposed};

/// How long a command waits for another that changes the same folder.
pub const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often it looks whether the other is done.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// A keys folder that this process changes, and no other, until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct FolderLock(#[expect(dead_code, reason = "it is held")] File);

/// A keys folder, and the paths below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFolder {
    root: PathBuf,
}

/// What a folder of keys is, by what lies in it. What helps where something is missing depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderKind {
    /// The issuer's key is there: missing members can be made.
    Issuer,
    /// It belongs to a realm, and the issuer's key is elsewhere: what is missing comes from there.
    Member,
    /// Nothing says that it is a folder of keys.
    Other,
}

impl KeyFolder {
    /// The folder that a file belongs to, by its path; nothing is looked at.
    pub(super) fn of_file(file: &Path) -> Self {
        let folder = file.parent().unwrap_or(Path::new(""));
        let is_below = ["operators", "clients", "nats"].iter().any(|name| folder.ends_with(name));
        Self::new(if is_below { folder.parent().unwrap_or(Path::new("")) } else { folder })
    }

    /// What the folder is. An interrupted `init` leaves the root's key, and no trust bundle yet.
    pub fn kind(&self) -> FolderKind {
        let is_begun = self.root_key().exists() && !self.trust().exists();
        if self.issuer_key().exists() || is_begun {
            FolderKind::Issuer
        } else if self.trust().exists() || self.pin().exists() || self.has_members() {
            FolderKind::Member
        } else {
            FolderKind::Other
        }
    }

    /// Whether anybody has a credential here, or may have one: where that cannot be seen, too.
    pub fn has_members(&self) -> bool {
        [Role::Operator, Role::Client].iter().any(|role| self.names(*role).map_or(true, |names| !names.is_empty()))
    }

    /// The folder at a path; nothing is looked at.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder at a path, made with mode 0700 together with the folders below it; folders that exist already are given
    /// that mode: files that somebody else put there are still refused, for they are of another owner.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self, KeyFileError> {
        let folder = Self::new(root);
        make_private(&folder.root)?;
        refuse_exposed(&folder.root)?;
        for below in [folder_name(Role::Operator), folder_name(Role::Client), "nats"] {
            make_private(&folder.root.join(below))?;
        }
        Ok(folder)
    }

    /// Locks the folder for a change of what the realm, its issuer or its members have there, and waits for so long at most while
    /// another process has it. What the change rests on is read under the lock.
    pub fn lock(&self, wait: Duration) -> Result<FolderLock, KeyFileError> {
        let failed = |error: std::io::Error| KeyFileError::io(&self.root, &error);
        let folder = File::open(&self.root).map_err(failed)?;
        let until = Instant::now() + wait;
        loop {
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(FolderLock(folder)),
                Err(Errno::WOULDBLOCK) if Instant::now() < until => sleep(LOCK_POLL),
                Err(Errno::WOULDBLOCK) => return Err(KeyFileError::new(&self.root, Fault::Busy { waited: wait })),
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    /// Holds the folder as the one in which `countersign issuer` runs, until the file is dropped; `None` where another does. Others
    /// change the folder meanwhile.
    pub fn hold(&self) -> Result<Option<File>, KeyFileError> {
        let path = self.root.join("nats");
        let failed = |error: std::io::Error| KeyFileError::io(&path, &error);
        let folder = File::open(&path).map_err(failed)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(folder)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The root's private key, which signs trust bundles.
    pub fn root_key(&self) -> PathBuf {
        self.root.join("root.pem")
    }

    /// The issuer's private key, which signs credentials.
    pub fn issuer_key(&self) -> PathBuf {
        self.root.join("issuer.pem")
    }

    /// The signed trust bundle.
    pub fn trust(&self) -> PathBuf {
        self.root.join("trust.json")
    }

    /// The pin: a root's thumbprint, which the trust bundle is checked against.
    pub fn pin(&self) -> PathBuf {
        self.root.join("root.thumbprint")
    }

    /// The trust bundle that was accepted last under a pin, by the processes of this machine that share the folder.
    pub fn accepted_trust(&self, pin: &Thumbprint) -> PathBuf {
        self.root.join("trust").join(format!("accepted.{pin}.json"))
    }

    /// A version of the trust bundle, where the realm is kept: what `trust publish` publishes.
    pub fn trust_version(&self, version: u64) -> PathBuf {
        self.root.join("trust").join(format!("{version}.json"))
    }

    /// The message-signing key of an operator or a client.
    pub fn key(&self, role: Role, name: &Name) -> PathBuf {
        self.root.join(folder_name(role)).join(format!("{name}.pem"))
    }

    /// The credential of an operator or a client.
    pub fn credential(&self, role: Role, name: &Name) -> PathBuf {
        self.root.join(folder_name(role)).join(format!("{name}.jwt"))
    }

    /// What an operator or a client logs in to the broker with: a JWT and its connection key. A secret.
    pub fn creds(&self, role: Role, name: &Name) -> PathBuf {
        self.nats(&format!("{role}-{name}.creds"))
    }

    /// The public part of that, which also says here whose connection key is whose when the secret is elsewhere.
    pub fn user_jwt(&self, role: Role, name: &Name) -> PathBuf {
        self.nats(&format!("{role}-{name}.jwt"))
    }

    /// What the observer logs in with, who may subscribe and publishes nothing.
    pub fn observer_creds(&self) -> PathBuf {
        self.nats("observer.creds")
    }

    /// What logs in to make the broker's streams.
    pub fn setup_creds(&self) -> PathBuf {
        self.nats("setup.creds")
    }

    /// What logs in to publish trust bundles.
    pub fn trust_creds(&self) -> PathBuf {
        self.nats("trust.creds")
    }

    /// What logs in to give the broker changed accounts.
    pub fn accounts_creds(&self) -> PathBuf {
        self.nats("accounts.creds")
    }

    /// What the issuer's process logs in with.
    pub fn issuer_creds(&self) -> PathBuf {
        self.nats("issuer.creds")
    }

    /// What is remembered of enrolments: at the issuer tokens and requests, at a worker what it has not finished.
    pub fn enrolment(&self) -> PathBuf {
        self.root.join("enrolment")
    }

    /// The certificates of the broker's authority, where an enrolment token brought them.
    pub fn broker_ca(&self) -> PathBuf {
        self.nats("ca.pem")
    }

    /// The private keys of the broker's accounts: whoever has them lets users in.
    pub fn authority(&self) -> PathBuf {
        self.root.join("authority.nk")
    }

    /// The broker's accounts, which its configuration includes.
    pub fn accounts(&self) -> PathBuf {
        self.nats("accounts.conf")
    }

    fn nats(&self, file: &str) -> PathBuf {
        self.root.join("nats").join(file)
    }

    /// The operators or clients that have a credential here, by name. A folder that cannot be read is not one that is empty.
    pub fn names(&self, role: Role) -> Result<Vec<Name>, KeyFileError> {
        let folder = self.root.join(folder_name(role));
        let fault = |error: io::Error| KeyFileError::io(&folder, &error);
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(fault)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.map_err(fault)?.file_name();
            names.extend(file.to_str().and_then(|file| file.strip_suffix(".jwt")?.parse().ok()));
        }
        names.sort();
        Ok(names)
    }
}

fn folder_name(role: Role) -> &'static str {
    match role {
        Role::Operator => "operators",
        Role::Client => "clients",
    }
}
