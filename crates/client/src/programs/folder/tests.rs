#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::json;
use tempfile::TempDir;

use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
        fs::set_permissions(folder.path().join(name), Permissions::from_mode(0o644)).unwrap();
    }
    folder
}

#[track_caller]
fn refused(text: &str) -> String {
    let folder = folder(&[("report.toml", text)]);
    let errors = Programs::read(folder.path(), &[]).unwrap_err();
    let shown = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    shown.replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn a_program_and_nothing_else_is_a_definition() {
    let folder = folder(&[("uptime.toml", "program = [\"/usr/bin/env\"]\n")]);
    let set = Programs::read(folder.path(), &[]).unwrap();
    let program = set.iter().next().unwrap();
    assert_eq!((program.name().as_str(), program.timeout.as_secs(), program.grace.as_secs()), ("uptime", 600, 5));
    assert!(program.args.accepts(&json!({})) && !program.args.accepts(&json!({ "x": 1 })));
    assert!(program.result.accepts(&json!({ "exit_code": 0, "stdout": {}, "stderr": {}, "value": [1] })));
    assert_eq!(program.obstacle(), None);
}

#[test]
fn a_schema_is_a_table_or_a_file_beside_the_definition_and_the_result_requires_its_value() {
    let text = r##"
program = ["/usr/bin/env"]
args = "report.args.json"
[result]
type = "object"
properties = { total = { "$ref" = "#/$defs/count" } }
"$defs" = { count = { type = "integer" } }
"##;
    let schema = r#"{"type":"object","additionalProperties":false,"properties":{"pages":{"type":"integer"}}}"#;
    let folder = folder(&[("report.toml", text), ("report.args.json", schema), ("other.json", "{}")]);
    let set = Programs::read(folder.path(), &[]).unwrap();
    let program = set.iter().next().unwrap();
    assert!(program.args.accepts(&json!({ "pages": 3 })) && !program.args.accepts(&json!({ "pages": "3" })));
    let whole = |value| json!({ "exit_code": 0, "stdout": {}, "stderr": {}, "value": value });
    assert!(program.result.accepts(&whole(json!({ "total": 1 }))));
    assert!(!program.result.accepts(&whole(json!({ "total": "1" }))));
    assert!(!program.result.accepts(&json!({ "exit_code": 0, "stdout": {}, "stderr": {} })));
    let ignored: Vec<_> = set.ignored().iter().map(|file| file.name.as_str()).collect();
    assert_eq!(ignored, ["other.json"]);
}

#[test]
fn every_wrong_rule_is_named_with_its_file_and_line() {
    for (line, expected) in [
        ("program = []", "`program` is empty"),
        ("program = [\"env\"]", "absolute path"),
        ("program = [\"/usr/bin/env\"]\ntimeout = \"5\"", "DIR/report.toml:3: `timeout`"),
        ("program = [\"/usr/bin/env\"]\ntimeout = 5", "DIR/report.toml:3"),
        ("program = [\"/usr/bin/env\"]\ngrace = \"2h\"", "`grace`"),
        ("program = [\"/usr/bin/env\"]\nshell = true", "unknown field `shell`"),
        ("program = [\"/usr/bin/env\"]\nprogram = [\"/usr/bin/env\"]", "DIR/report.toml:3"),
        ("program = [\"/usr/bin/env\"]\nconcurrency = 0", "`concurrency`"),
        ("program = [\"/usr/bin/env\"]\nmemory = \"lots\"", "`memory`"),
        ("program = [\"/usr/bin/env\"]\nuser = \"no-such-user\"", "not in /etc/passwd"),
        ("program = [\"/usr/bin/env\"]\nworking_directory = \"data\"", "not absolute"),
        ("program = [\"/usr/bin/env\"]\nenvironment = { COUNTERSIGN_RESULT = \"x\" }", "cannot be set"),
        ("program = [\"/usr/bin/env\"]\nargs = \"../secret.json\"", "beside the definition"),
        ("program = [\"/usr/bin/env\"]\nargs = \"none.json\"", "No such file"),
        ("program = [\"/usr/bin/env\"]\nargs = { type = \"object\" }", "does not describe"),
        ("program = [\"/usr/bin/env\"]\nargs = { type = 1 }", "no JSON Schema"),
        ("program = [\"/usr/bin/env\"]\nwritable = [\"/srv\"]", "is not confined"),
        ("program = [\"/usr/bin/env\"]\nread_only = true\nreadable = [\"srv\"]", "`readable` has srv"),
        ("program = [\"/usr/bin/env\"]\ntrust = \"anybody\"", "`trust` is `anybody`"),
    ] {
        let text = refused(&format!("# a comment\n{line}\n"));
        assert!(text.contains(expected) && text.contains("DIR/report.toml:"), "{line}: {text}");
    }
}

#[test]
fn what_may_run_what_a_sender_supplies_needs_a_user_of_its_own_or_an_explicit_word() {
    let script = |rest: &str| {
        let args =
            "{ type = \"object\", additionalProperties = false, properties = { script = { type = \"string\" } } }";
        format!("program = [\"/usr/bin/env\"]\nargs = {args}\n{rest}\n")
    };
    assert!(refused(&script("")).contains("take for code"));
    let accepted = |text: &str| Programs::read(folder(&[("run.toml", text)]).path(), &[]).is_ok();
    assert!(accepted(&script("trust = \"same-user\"")));
    assert_eq!(accepted(&script("user = \"nobody\"")), geteuid().is_root(), "only root can change the user");
    assert_eq!(accepted(&script("read_only = true")), !geteuid().is_root(), "root has other ways than files");
    assert!(!accepted(&script("user = \"root\"")), "whose keys the client holds, or to whom it cannot change");
}

#[test]
fn what_others_may_write_is_refused() {
    let folder = folder(&[("report.toml", "program = [\"/usr/bin/env\"]\n")]);
    let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let file = folder.path().join("report.toml");
    for (path, back) in [(file.as_path(), 0o644), (folder.path(), 0o755)] {
        for mode in [0o777, 0o775] {
            set(path, mode);
            let errors = Programs::read(folder.path(), &[]).unwrap_err();
            assert!(errors[0].what.contains("written by others"), "{errors:?}");
        }
        set(path, back);
    }
    let program = folder.path().join("run.sh");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    set(&program, 0o757);
    let text = format!("program = [\"/bin/sh\", \"{}\"]\n", program.display());
    assert!(refused(&text).contains("written by others"), "the script, too, is the program");
}

#[test]
fn leftovers_are_ignored_by_name_and_what_is_no_file_is_refused_without_a_hang() {
    let good = "program = [\"/usr/bin/env\"]\n";
    let leftovers = ["report.toml~", ".report.toml.swp", "report.toml.rpmsave", "#report.toml#"];
    let folder = folder(&[("report.toml", good)]);
    for name in leftovers {
        fs::write(folder.path().join(name), "nonsense").unwrap();
    }
    fs::create_dir(folder.path().join("old.toml")).unwrap();
    let set = Programs::read(folder.path(), &[]).unwrap();
    let mut ignored: Vec<_> = set.ignored().iter().map(|file| file.name.clone()).collect();
    ignored.sort();
    assert_eq!(ignored, ["#report.toml#", ".report.toml.swp", "old.toml", "report.toml.rpmsave", "report.toml~"]);
    assert_eq!(set.iter().count(), 1);

    mkfifoat(CWD, folder.path().join("x.toml"), Mode::RWXU).unwrap();
    symlink("nowhere", folder.path().join("y.toml")).unwrap();
    fs::write(folder.path().join("Report.toml"), good).unwrap();
    let errors = Programs::read(folder.path(), &[]).unwrap_err();
    let of = |name: &str| {
        let path = folder.path().join(name);
        errors.iter().filter(|error| error.path == path).map(|error| error.what.clone()).collect::<Vec<_>>().join(";")
    };
    assert!(of("x.toml").contains("not a regular file"), "{errors:?}");
    assert!(of("y.toml").contains("a link"), "{errors:?}");
    assert!(of("Report.toml").contains("only in case") && of("report.toml").contains("only in case"), "{errors:?}");
}

#[test]
fn a_command_of_the_protocol_cannot_be_replaced() {
    let folder = folder(&[("ping.toml", "program = [\"/usr/bin/env\"]\n")]);
    assert!(Programs::read(folder.path(), &[]).unwrap_err()[0].what.contains("of the protocol itself"));
}
