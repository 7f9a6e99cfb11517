//! The helps, word for word. `SNAPSHOTS=overwrite` writes them again, for a person to read before they are committed.

use countersign_protocol::command::Builtin;
use snapbox::{Assert, Data};

use crate::folder::Folder;

/// All subcommands, in the order of the help.
fn subcommands() -> Vec<&'static str> {
    let builtins = Builtin::ALL.iter().map(|builtin| builtin.name());
    let before = [
        "init",
        "credential",
        "enroll",
        "context",
        "revoke",
        "trust",
        "setup",
        "issuer",
        "doctor",
        "client",
        "commands",
        "health",
    ];
    let after = ["wait", "call", "clients", "history", "server", "watch", "schema", "completions", "man", "schemas"];
    before.into_iter().chain(builtins).chain(after).collect()
}

/// All of them, also those of others, as they are typed.
pub fn every_subcommand() -> Vec<&'static str> {
    let below =
        CREDENTIALS.into_iter().chain(ENROLL).chain(TRUST).chain(CONTEXTS).chain(["clients forget", "commands check"]);
    subcommands().into_iter().chain(below).collect()
}

/// The subcommands of `trust`, as they are typed.
const TRUST: [&str; 5] = ["trust show", "trust publish", "trust rotate", "trust rotate issuer", "trust rotate root"];

/// The subcommands of `credential`, as they are typed.
const CREDENTIALS: [&str; 8] = [
    "credential issue",
    "credential issue client",
    "credential issue operator",
    "credential renew",
    "credential renew client",
    "credential renew operator",
    "credential show",
    "credential list",
];

/// The subcommands of `enroll`, as they are typed.
const ENROLL: [&str; 7] =
    ["enroll token", "enroll request", "enroll sign", "enroll accept", "enroll list", "enroll approve", "enroll deny"];

/// The subcommands of `context`, as they are typed.
const CONTEXTS: [&str; 5] = ["context list", "context show", "context set", "context use", "context remove"];

fn words(subcommand: &str) -> Vec<&str> {
    subcommand.split(' ').collect()
}

fn check(args: &[&str], snapshot: &str) {
    let run = Folder::new().run(args).expect(0);
    assert_eq!(run.stderr, "");
    let path = format!("{}/tests/command/helps/{snapshot}.txt", env!("CARGO_MANIFEST_DIR"));
    Assert::new().normalize_paths(false).action_env("SNAPSHOTS").eq(run.stdout, Data::read_from(path.as_ref(), None));
}

#[test]
fn the_help_is_as_committed() {
    check(&["--help"], "countersign");
}

#[test]
fn every_subcommand_has_a_help_as_committed() {
    for subcommand in every_subcommand() {
        check(&[&words(subcommand)[..], &["--help"]].concat(), &subcommand.replace(' ', "-"));
    }
}

#[test]
fn every_subcommand_is_in_the_help() {
    let help = Folder::new().run(&["-h"]).expect(0).stdout;
    let listed =
        help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|word| !word.is_empty());
    let listed: Vec<&str> = listed.take(subcommands().len() + 1).collect();
    assert_eq!(listed, [subcommands(), vec!["help"]].concat());
}

#[test]
fn no_line_of_a_help_is_wider_than_80_columns() {
    for subcommand in every_subcommand() {
        for form in ["-h", "--help"] {
            let help = Folder::new().run(&[&words(subcommand)[..], &[form]].concat()).expect(0).stdout;
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{subcommand}: {line}");
            }
        }
    }
}

#[test]
fn without_a_subcommand_the_help_is_given_as_an_error() {
    let run = Folder::new().run(&[]).expect(2);
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("Usage: countersign [OPTIONS] <COMMAND>"), "{run:?}");
}

#[test]
fn the_version_is_that_of_the_package() {
    let run = Folder::new().run(&["--version"]).expect(0);
    assert_eq!(run.stdout, concat!("countersign ", env!("CARGO_PKG_VERSION"), "\n"));
}
