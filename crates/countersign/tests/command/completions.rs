//! What is completed in a shell, as the shells' scripts ask for it.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::folder::Folder;

/// The words that complete a line, whose last word has been begun.
fn complete(folder: &Folder, line: &[&str]) -> Vec<String> {
    let mut command = folder.command(&[&["--", "countersign"], line].concat());
    command.env("COUNTERSIGN_COMPLETE", "fish");
    let ran = crate::folder::Run::of(command.output().unwrap()).expect(0);
    assert_eq!(ran.stderr, "");
    ran.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

/// A realm whose operator has seen a roster.
fn seen(words: &serde_json::Value) -> Folder {
    let folder = Folder::with_keys(&["--client", "worker-1", "--client", "worker-2:web"]);
    let path = words_file(&folder);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, words.to_string()).unwrap();
    folder
}

fn words_file(folder: &Folder) -> PathBuf {
    let pin: String = folder.read("keys/root.thumbprint").chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    folder.path(&format!(".local/state/countersign/history.d/demo.{pin}/alice.words.json"))
}

#[test]
fn commands_targets_arguments_members_and_files_are_completed_where_they_can_stand() {
    let folder = seen(&json!({
        "clients": ["press"], "groups": ["web"], "commands": ["report"], "args": {"report": ["name", "pages"]},
    }));
    fs::write(folder.path("arguments.json"), "{}").unwrap();
    for (line, words) in [
        (&["sta"][..], &["start", "status"][..]),
        (&["ping", "p"], &["press"]),
        (&["ping", "w"], &["worker-1", "worker-2"]),
        (&["stop", "press", "worker-1", "@"], &["@all", "@web"]),
        (&["call", "press", "rep"], &["report"]),
        (&["call", "press", "report", "pa"], &["pages="]),
        (&["call", "press", "report", "pages=3", "n"], &["name="]),
        (&["call", "press", "calculate", "m"], &["msg="]),
        (&["call", "press", "report", "--args-file", "arg"], &["arguments.json"]),
        (&["ping", "--keys", "ke"], &["keys/"]),
        (&["ping", "--as", "a"], &["alice"]),
        (&["ping", "--time"], &["--timeout"]),
        (&["clients", "forget", ""], &["press", "worker-1", "worker-2"]),
        (&["credential", "renew", "client", "wor"], &["worker-1", "worker-2"]),
        (&["credential", "issue", "operator", "bob", "--target", "@w"], &["@web"]),
        (&["revoke", "a"], &["alice"]),
        (&["watch", "--kind", "pre"], &["presence"]),
        (&["schema", "calculate.a"], &["calculate.args"]),
        (&["completions", "z"], &["zsh"]),
        (&["ping", "-o", "js"], &["json"]),
    ] {
        let found = complete(&folder, line);
        let found: Vec<&str> = found
            .iter()
            .map(String::as_str)
            .filter(|word| !word.starts_with('-') || line.last().unwrap().starts_with('-'))
            .collect();
        assert_eq!(found, words, "{line:?}");
    }
}

#[test]
fn the_keys_that_the_line_or_a_context_names_are_the_ones_whose_names_are_completed() {
    let folder = seen(&json!({ "clients": ["press"] }));
    fs::rename(folder.path("keys"), folder.path("elsewhere")).unwrap();
    assert_eq!(complete(&folder, &["ping", "pre"]), [""; 0]);
    assert_eq!(complete(&folder, &["ping", "--keys", "elsewhere", "pre"]), ["press"]);
    folder.run(&["context", "set", "plant", "--keys", "elsewhere"]).expect(0);
    assert_eq!(complete(&folder, &["ping", "--context", "pl"]), ["plant"]);
    assert_eq!(complete(&folder, &["ping", "--context", "plant", "pre"]), ["press"]);
    folder.run(&["context", "use", "plant"]).expect(0);
    assert_eq!(complete(&folder, &["ping", "pre"]), ["press"]);
}

#[test]
fn what_is_wrong_with_the_line_the_keys_or_the_names_is_no_error_and_is_not_printed() {
    let hostile = "$(touch hacked)";
    let folder = seen(&json!({ "clients": ["press", hostile] }));
    assert_eq!(complete(&folder, &["ping", "pre"]), [""; 0], "a name that is none spoils the file");
    fs::write(words_file(&folder), json!({ "args": { "report": ["good", hostile, "a b", "\u{1b}[2J"] } }).to_string())
        .unwrap();
    let found = complete(&folder, &["call", "worker-1", "report", ""]);
    assert!(found.contains(&"good=".to_owned()), "{found:?}");
    assert!(found.iter().all(|word| !word.contains(['$', ' ', '\u{1b}'])), "{found:?}");
    // A file that anybody could have written to is as good as none.
    fs::write(words_file(&folder), json!({ "clients": ["press"] }).to_string()).unwrap();
    fs::set_permissions(words_file(&folder), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert_eq!(complete(&folder, &["ping", "pre"]), [""; 0]);
    fs::write(folder.path("keys/trust.json"), "spoilt").unwrap();
    assert_eq!(complete(&folder, &["ping", "--no-such", "x", "wor"]), [""; 0], "nobody is known");
    assert_eq!(complete(&folder, &["sche"]), ["schema", "schemas"]);
}

#[test]
fn there_is_a_script_for_each_shell_and_it_calls_the_program_on_path() {
    let folder = Folder::new();
    for (shell, part) in [
        ("bash", "complete -o nospace -o bashdefault -o nosort -F _clap_complete_countersign countersign"),
        ("zsh", "#compdef countersign"),
        ("fish", "complete --keep-order --exclusive --command countersign"),
    ] {
        let script = folder.run(&["completions", shell]).expect(0);
        assert!(script.stdout.contains(part), "{script:?}");
        assert!(!script.stdout.contains("target/debug"), "{script:?}");
    }
    assert!(folder.run(&["completions", "csh"]).expect(2).stderr.contains("bash, zsh, fish"));
}
