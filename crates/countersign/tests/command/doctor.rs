//! `doctor`: each thing that it finds is broken here, found, and named with what to do.

use std::process::Command;

use serde_json::Value;

use crate::folder::{Folder, Run};

mod broker;
mod files;

/// What the doctor says of a folder, and the status that it ends with.
struct Diagnosis {
    run: Run,
    findings: Vec<Value>,
}

impl Diagnosis {
    fn of(run: Run) -> Self {
        let findings = run.json()["findings"].as_array().unwrap().clone();
        Self { run, findings }
    }

    /// The doctor's look at a folder without a broker.
    fn offline(folder: &Folder, more: &[&str]) -> Self {
        Self::at(folder, "nats://127.0.0.1:1", more)
    }

    fn at(folder: &Folder, url: &str, more: &[&str]) -> Self {
        Self::of(folder.run(&[&["doctor", "-o", "json", "--nats-url", url, "--state", "state"], more].concat()))
    }

    /// The finding of a check that says this.
    fn finding(&self, check: &str, says: &str) -> Option<&Value> {
        self.findings
            .iter()
            .find(|it| it["check"] == check && it["what"].as_str().is_some_and(|what| what.contains(says)))
    }

    /// It found this, says what it means, and what to do.
    #[track_caller]
    fn found(&self, level: &str, check: &str, says: &str, hint: &str) -> &Self {
        let Some(finding) = self.finding(check, says) else {
            panic!("no finding about {check} says {says}: {:#?}", self.run)
        };
        let text = |member: &str| finding[member].as_str().unwrap_or_default();
        assert_eq!(text("level"), level, "{finding:#}");
        assert!(!text("expected").is_empty() && text("try").contains(hint), "{hint}: {finding:#}");
        self
    }

    /// Nothing is wrong with what this check looks at.
    #[track_caller]
    fn is_fine(&self, check: &str) -> &Self {
        let of_check: Vec<&Value> = self.findings.iter().filter(|it| it["check"] == check).collect();
        assert!(!of_check.is_empty() && of_check.iter().all(|it| it["level"] == "fine"), "{check}: {of_check:#?}");
        self
    }

    /// The exit status that its findings make.
    #[track_caller]
    fn exits(&self, status: i32) -> &Self {
        assert_eq!(self.run.status, status, "{:#?}", self.run);
        self
    }
}

/// A folder with the content of another.
fn copy_of(folder: &Folder) -> Folder {
    let copy = Folder::new();
    let copied = Command::new("cp").args(["-a", "keys"]).arg(copy.path("")).current_dir(folder.path("")).status();
    assert!(copied.unwrap().success());
    copy
}

/// Moves a member's own files to a folder of keys that holds nothing else, as docs/operations.md says.
fn move_member(folder: &Folder, role: &str, name: &str) -> Folder {
    let machine = Folder::new();
    let all = [
        ("trust.json".to_owned(), true),
        ("root.thumbprint".to_owned(), true),
        (format!("{role}s/{name}.jwt"), true),
        (format!("{role}s/{name}.pem"), false),
        (format!("nats/{role}-{name}.creds"), false),
    ];
    for (file, stays) in all {
        let to = machine.path("keys").join(&file);
        let mut private = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(private.recursive(true), 0o700).create(to.parent().unwrap()).unwrap();
        std::fs::copy(folder.path("keys").join(&file), &to).unwrap();
        if !stays {
            std::fs::remove_file(folder.path("keys").join(&file)).unwrap();
        }
    }
    machine
}
