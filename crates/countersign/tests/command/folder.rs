//! A folder of its own for each test, and the command run in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use countersign_protocol::key::SecretKey;
use countersign_protocol::trust::Trust;
use serde_json::Value;
use tempfile::TempDir;

/// A folder that the command runs in; it inherits nothing of the test's environment.
pub struct Folder(TempDir);

/// The exit status and the output of a run.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Folder {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A folder in which `countersign init` has run.
    pub fn with_keys(args: &[&str]) -> Self {
        let folder = Self::new();
        folder.run(&[&["init"], args].concat()).expect(0);
        folder
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        // Nothing of the test's own environment: it may have colours, a width, a broker.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.0.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap())
    }

    /// Every file below the folder of keys, with its bytes.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path("keys")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        files
    }

    pub fn key(&self, below_keys: &str) -> SecretKey {
        SecretKey::from_pem(&fs::read_to_string(self.path("keys").join(below_keys)).unwrap()).unwrap()
    }

    pub fn trust(&self) -> Trust {
        let pin = fs::read_to_string(self.path("keys/root.thumbprint")).unwrap().trim().parse().unwrap();
        Trust::verify(&fs::read(self.path("keys/trust.json")).unwrap(), pin).unwrap()
    }

    pub fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap()
    }
}

impl Run {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        // A process that a signal ended has no status of its own.
        let status = output.status.code().unwrap_or(-1);
        Self { status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The run, which must have ended so.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// What was printed as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// What `init` did to a file, and its note.
    #[track_caller]
    pub fn did(&self, file: &str) -> (String, String) {
        let files = self.json()["files"].as_array().unwrap().clone();
        let change = files.iter().find(|change| change["file"] == file).unwrap_or_else(|| panic!("{file}: {self:#?}"));
        (change["did"].as_str().unwrap().to_owned(), change["note"].as_str().unwrap().to_owned())
    }
}

/// The permission bits of a file.
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
