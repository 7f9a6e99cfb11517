//! Every subcommand with `-o json`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::folder::{Folder, Run};
use crate::help::every_subcommand;

/// The subcommands without it, and why.
const WITHOUT: [(&str, &str); 7] = [
    ("client", "it runs until it is ended; its output is the logs and what jobs print"),
    ("issuer", "it runs until it is ended; its output is the logs"),
    ("enroll request", "what it prints is the request, in JSON"),
    ("enroll sign", "what it prints is the answer, in JSON"),
    ("completions", "what it prints is a script, for a shell"),
    ("man", "what it makes are files"),
    ("schemas", "what it makes or compares are files"),
];

#[test]
fn every_subcommand_prints_json_or_there_is_a_reason_why_not() {
    for subcommand in every_subcommand() {
        let words: Vec<&str> = subcommand.split(' ').chain(["--help"]).collect();
        let help = Folder::new().run(&words).expect(0).stdout;
        let usage = help.lines().find(|line| line.starts_with("Usage: ")).unwrap();
        let is_group = usage.ends_with("[OPTIONS] <COMMAND>");
        let is_without = is_group || WITHOUT.iter().any(|(name, _)| *name == subcommand);
        assert_eq!(help.contains("--output <FORMAT>"), !is_without, "{subcommand}: {help}");
    }
}

/// One document on standard output, whatever else is said.
fn document(folder: &Folder, status: i32, args: &[&str]) -> Value {
    let run: Run = folder.run(&[args, &["-o", "json"]].concat()).expect(status);
    assert_eq!(run.stdout.lines().count(), 1, "{run:#?}");
    run.json()
}

#[test]
fn what_is_said_in_notes_to_people_is_a_document_in_json() {
    let folder = Folder::with_keys(&[]);
    let keys = folder.path("keys");
    let context = document(&folder, 0, &["context", "set", "plant", "--keys", "keys"]);
    assert_eq!(context, json!({ "name": "plant", "in_use": false, "keys": keys.to_str() }));
    assert_eq!(document(&folder, 0, &["context", "use", "plant"]), json!({ "in_use": "plant" }));
    assert_eq!(document(&folder, 0, &["context", "use"]), json!({ "in_use": null }));
    assert_eq!(document(&folder, 0, &["context", "remove", "plant"]), json!({ "removed": "plant" }));

    let names = document(&folder, 0, &["schema"]);
    assert!(names.as_array().unwrap().contains(&json!("calculate.args")), "{names}");
    let schema = document(&folder, 0, &["schema", "calculate.args"]);
    assert_eq!(schema, folder.run(&["schema", "calculate.args"]).json());

    assert_eq!(document(&folder, 1, &["health", "--health", "none"]), json!({ "healthy": false, "age_ms": null }));
}

#[test]
fn a_folder_of_programs_is_described_in_json_also_where_it_is_wrong() {
    let folder = Folder::new();
    let write = |name: &str, text: &str| {
        fs::write(folder.path("commands.d").join(name), text).unwrap();
        fs::set_permissions(folder.path("commands.d").join(name), PermissionsExt::from_mode(0o644)).unwrap();
    };
    fs::create_dir(folder.path("commands.d")).unwrap();
    fs::set_permissions(folder.path("commands.d"), PermissionsExt::from_mode(0o755)).unwrap();
    write("good.toml", "program = [\"/bin/true\"]\n");
    write("no_file.toml", "program = [\"/no/such/file\"]\n");
    write("notes.txt", "");
    let found = document(&folder, 1, &["commands", "check", "commands.d"]);
    assert_eq!(found["commands"][0], json!({ "name": "good", "obstacle": null }));
    assert!(found["commands"][1]["obstacle"].is_string(), "{found}");
    assert_eq!((&found["ignored"][0]["file"], &found["errors"]), (&json!("notes.txt"), &json!([])), "{found}");

    write("bad.toml", "program = 3\n");
    let found = document(&folder, 1, &["commands", "check", "commands.d"]);
    assert_eq!((&found["errors"][0]["line"], &found["commands"]), (&json!(1), &json!([])), "{found}");
    assert!(found["errors"][0]["file"].as_str().unwrap().ends_with("bad.toml"), "{found}");
}
