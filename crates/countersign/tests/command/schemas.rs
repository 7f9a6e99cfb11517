//! The JSON Schemas on the command line.

use std::fs;

use countersign_protocol::schema;

use crate::folder::Folder;

#[test]
fn the_names_of_all_schemas_are_listed() {
    let names: Vec<&str> = schema::all().iter().map(|schema| schema.name()).collect();
    assert_eq!(Folder::new().run(&["schema"]).expect(0).stdout.lines().collect::<Vec<_>>(), names);
}

#[test]
fn a_schema_is_printed_as_it_is_committed() {
    let run = Folder::new().run(&["schema", "calculate.args"]).expect(0);
    let all = schema::all();
    let expected = all.iter().find(|schema| schema.name() == "calculate.args").unwrap();
    assert_eq!(run.stdout, expected.text());
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");
    Folder::new().run(&["schemas", "--check", committed]).expect(0);
}

#[test]
fn what_was_written_is_found_right() {
    let folder = Folder::new();
    folder.run(&["schemas", "--write", "schemas"]).expect(0);
    assert_eq!(fs::read_dir(folder.path("schemas")).unwrap().count(), schema::all().len());
    folder.run(&["schemas", "--check", "schemas"]).expect(0);
}

#[test]
fn a_check_names_what_differs_is_missing_or_does_not_belong_and_writes_nothing() {
    let folder = Folder::new();
    folder.run(&["schemas", "--write", "schemas"]).expect(0);
    let [drifted, missing, extra] =
        ["ping.args", "reply", "pong"].map(|name| folder.path(&format!("schemas/{name}.json")));
    let text = fs::read_to_string(&drifted).unwrap().replacen("ping", "pong", 1);
    fs::write(&drifted, &text).unwrap();
    fs::remove_file(&missing).unwrap();
    fs::write(&extra, "{}").unwrap();

    let run = folder.run(&["schemas", "--check", "schemas"]).expect(1);
    assert_eq!(
        run.stderr.lines().next().unwrap(),
        "error: in schemas: ping.args.json differs, reply.json is missing, pong.json does not belong"
    );
    assert_eq!(run.stderr.lines().count(), 3);
    assert_eq!(fs::read_to_string(&drifted).unwrap(), text);
    assert!(!missing.exists() && extra.exists());
}

#[test]
fn a_folder_that_is_not_there_has_no_schemas() {
    let folder = Folder::new();
    let run = folder.run(&["schemas", "--check", "nowhere"]).expect(1);
    assert!(run.stderr.contains("client-info.json is missing"), "{run:?}");
    assert!(!folder.path("nowhere").exists());
}
