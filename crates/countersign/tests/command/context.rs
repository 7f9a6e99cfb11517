//! Contexts: where keys, realm, operator and broker come from, and in which order.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use countersign_testkit::tls;
use serde_json::json;

use crate::broker::{Broker, configure};
use crate::folder::{Folder, Run, mode};

/// The command in another folder than that of the keys, for the same user.
fn elsewhere(folder: &Folder, args: &[&str]) -> Command {
    fs::create_dir_all(folder.path("elsewhere")).unwrap();
    let mut command = folder.command(args);
    command.current_dir(folder.path("elsewhere"));
    command
}

fn run(mut command: Command) -> Run {
    Run::of(command.output().unwrap())
}

fn set(folder: &Folder, args: &[&str]) -> Run {
    folder.run(&[&["context", "set", "plant"], args].concat())
}

/// It fails so, in three lines; the first says this.
#[track_caller]
fn fails(run: Run, status: i32, happened: &str) -> String {
    let run = run.expect(status);
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{run:#?}");
    assert!(lines[0].starts_with("error: ") && lines[0].contains(happened), "{happened}: {run:#?}");
    lines[2].to_owned()
}

#[test]
fn a_context_makes_every_command_work_from_any_folder() {
    let folder = Folder::with_keys(&["--operator", "alice", "--operator", "bob"]);
    configure(&folder);
    let broker = Broker::start_as_configured(&folder);
    fails(run(elsewhere(&folder, &["setup"])), 5, "there are no keys in ./keys");
    set(&folder, &["--keys", "keys", "--nats-url", &broker.url(), "--as", "bob"]).expect(0);
    folder.run(&["context", "use", "plant"]).expect(0);
    run(elsewhere(&folder, &["setup"])).expect(0);
    run(elsewhere(&folder, &["clients"])).expect(0);
    let listed = run(elsewhere(&folder, &["credential", "list", "-o", "json"])).expect(0);
    assert_eq!(listed.json()["realm"], "demo");
    let ping = run(elsewhere(&folder, &["ping", "worker-1", "--timeout", "1ms", "-o", "json"])).expect(3);
    assert_eq!(ping.json()["targets"], 1);
    let made = run(elsewhere(&folder, &["init", "-o", "json"])).expect(0);
    assert_eq!(made.json()["keys"], folder.path("keys").to_str().unwrap());
    let watched = run(elsewhere(&folder, &["watch", "--kind", "presence", "--client", "nobody", "--count", "0"]));
    // The line is wrong, and read with the context.
    assert!(watched.status == 2 && watched.stderr.contains("--count"), "{watched:#?}");
}

#[test]
fn an_option_comes_before_the_environment_that_before_a_context_and_that_before_the_default() {
    let folder = Folder::with_keys(&[]);
    let at = |port: u16| format!("nats://127.0.0.1:{port}");
    let tried = |run: Run, port: u16, source: Option<&str>| {
        let run = run.expect(4);
        assert!(run.stderr.contains(&format!("no NATS server answers at 127.0.0.1:{port}")), "{run:#?}");
        match source {
            Some(source) => assert!(run.stderr.contains(&format!("; the URL is from {source}")), "{run:#?}"),
            None => assert!(!run.stderr.contains("the URL is from"), "{run:#?}"),
        }
    };
    set(&folder, &["--keys", "keys", "--nats-url", &at(1)]).expect(0);
    folder.run(&["context", "set", "other", "--keys", "keys", "--nats-url", &at(2)]).expect(0);
    folder.run(&["context", "use", "plant"]).expect(0);
    tried(folder.run(&["ping", "worker-1"]), 1, Some("the context plant"));
    tried(folder.run(&["--context", "other", "ping", "worker-1"]), 2, Some("the context other"));
    let mut command = folder.command(&["ping", "worker-1"]);
    command.env("COUNTERSIGN_CONTEXT", "other");
    tried(run(command), 2, Some("the context other"));
    let mut command = folder.command(&["ping", "worker-1"]);
    command.env("NATS_URL", at(3));
    tried(run(command), 3, Some("NATS_URL"));
    let mut command = folder.command(&["ping", "worker-1", "--nats-url", &at(4)]);
    command.env("NATS_URL", at(3));
    tried(run(command), 4, None);
}

#[test]
fn the_realm_and_the_operator_of_a_context_hold_for_its_own_keys_only() {
    let folder = Folder::with_keys(&["--realm", "plant", "--operator", "alice"]);
    folder.run(&["init", "--keys", "lab", "--realm", "lab", "--operator", "carol"]).expect(0);
    set(&folder, &["--keys", "keys", "--realm", "plant", "--as", "alice", "--nats-url", "nats://127.0.0.1:1"])
        .expect(0);
    folder.run(&["context", "use", "plant"]).expect(0);
    fails(folder.run(&["ping", "worker-1", "--keys", "lab"]), 4, "no NATS server answers at 127.0.0.1:1");
    fails(
        folder.run(&["ping", "worker-1", "--as", "carol"]),
        5,
        "has no operator carol; the folder is from the context plant",
    );
    fails(folder.run(&["ping", "worker-1", "--realm", "lab"]), 2, "is of the realm plant, not lab");
}

#[test]
fn the_files_of_tls_of_a_context_hold_for_its_own_url_only() {
    let folder = Folder::with_keys(&[]);
    tls::write(&folder.path(""));
    let own = ["--tls-cert", "own.pem", "--tls-key", "own.key"];
    let all = [&["--keys", "keys", "--nats-url", "nats://127.0.0.1:1", "--tls-ca", "ca.pem"][..], &own].concat();
    set(&folder, &all).expect(0);
    folder.run(&["context", "use", "plant"]).expect(0);
    let from = |file: &str, source: &str| {
        let path = folder.path(file);
        format!("{} cannot be read: No such file or directory (os error 2); the file is from {source}", path.display())
    };
    fs::remove_file(folder.path("ca.pem")).unwrap();
    for words in [
        &["setup"][..],
        &["ping", "worker-1"],
        &["clients"],
        &["watch"],
        &["server"],
        &["client", "--name", "worker-1", "--state", "state"],
    ] {
        let hint = fails(run(elsewhere(&folder, words)), 5, &from("ca.pem", "the context plant"));
        assert!(hint.contains("correct the context plant"), "{words:?}: {hint}");
    }
    fails(run(elsewhere(&folder, &["trust", "publish"])), 4, &from("ca.pem", "the context plant"));
    // Another URL has nothing to do with them.
    fails(folder.run(&["setup", "--nats-url", "nats://127.0.0.1:2"]), 4, "answers at 127.0.0.1:2");
    let mut command = folder.command(&["setup"]);
    fails(
        run({
            command.env("NATS_URL", "nats://127.0.0.1:3");
            command
        }),
        4,
        "answers at 127.0.0.1:3",
    );
    // An option comes before the environment, that before the context.
    let with_variable = |args: &[&str]| {
        let mut command = folder.command(args);
        command.env("COUNTERSIGN_TLS_CA", "away.pem");
        run(command)
    };
    let of_variable =
        "error: away.pem cannot be read: No such file or directory (os error 2); the file is from COUNTERSIGN";
    assert!(with_variable(&["setup"]).expect(5).stderr.starts_with(of_variable));
    fails(with_variable(&["setup", "--tls-ca", "other.pem"]), 4, "no NATS server answers at 127.0.0.1:1");
    // The one that an option leaves is still the context's.
    fs::remove_file(folder.path("own.key")).unwrap();
    fails(folder.run(&["setup", "--tls-ca", "other.pem"]), 5, &from("own.key", "the context plant"));
}

#[test]
fn what_a_context_could_not_use_is_refused_and_nothing_is_written() {
    let folder = Folder::with_keys(&[]);
    fails(set(&folder, &["--keys", "no-such"]), 5, "there are no keys in the folder");
    fails(set(&folder, &["--keys", "keys", "--as", "mallory"]), 5, "has no operator mallory");
    fails(set(&folder, &["--keys", "keys", "--realm", "plant"]), 2, "is of the realm demo, not plant");
    fails(set(&folder, &["--keys", "keys", "--nats-url", "http://x"]), 2, "is not the URL of a NATS server");
    fails(set(&folder, &["--keys", "keys", "--nats-context", "nowhere"]), 2, "there is no NATS context nowhere");
    fails(set(&folder, &["--keys", "keys", "--nats-context", "../x"]), 2, "is no name of a NATS context");
    fails(set(&folder, &["--as", "alice"]), 2, "those of a folder of keys");
    fails(set(&folder, &["--keys", "keys", "--tls-ca", "keys/trust.json"]), 2, "for the broker that a URL names");
    let with_url = ["--nats-url", "nats://127.0.0.1:1"];
    fails(set(&folder, &[&with_url[..], &["--tls-ca", "away.pem"]].concat()), 5, "away.pem cannot be read");
    set(&folder, &[&with_url[..], &["--tls-cert", "keys/trust.json"]].concat()).expect(2);
    fails(set(&folder, &[]), 2, "would say nothing");
    folder.run(&["context", "set", "A", "--keys", "keys"]).expect(2);
    assert!(!folder.path(".config").exists());
}

#[test]
fn contexts_are_listed_shown_changed_and_removed() {
    let folder = Folder::with_keys(&["--operator", "alice", "--operator", "bob"]);
    assert!(folder.run(&["context", "list"]).expect(0).stdout.starts_with("there is no context"));
    fails(folder.run(&["context", "show"]), 2, "no context is in use");
    set(&folder, &["--keys", "keys", "--as", "alice", "--nats-url", "nats://user:secret@127.0.0.1:1"]).expect(0);
    set(&folder, &["--as", "bob"]).expect(0);
    fails(folder.run(&["context", "use", "palnt"]), 2, "there is no context palnt");
    folder.run(&["context", "use", "plant"]).expect(0);
    let keys = folder.path("keys");
    let expected =
        json!({ "name": "plant", "in_use": true, "keys": keys, "operator": "bob", "nats_url": "127.0.0.1:1" });
    assert_eq!(folder.run(&["context", "show", "-o", "json"]).expect(0).json(), expected);
    assert_eq!(folder.run(&["context", "list", "-o", "json"]).expect(0).json(), json!([expected]));
    let table = folder.run(&["context", "list"]).expect(0).stdout;
    assert!(table.contains("plant") && table.contains("bob") && !table.contains("secret"), "{table}");
    for (path, expected) in [(".config/countersign", 0o700), (".config/countersign/contexts/plant.json", 0o644)] {
        assert_eq!(mode(&folder.path(path)), expected, "{path}");
    }
    tls::write(&folder.path(""));
    set(&folder, &["--tls-ca", "ca.pem", "--tls-cert", "own.pem", "--tls-key", "own.key"]).expect(0);
    // A new URL leaves them: nothing that was required is silently no longer.
    set(&folder, &["--nats-url", "nats://127.0.0.1:2"]).expect(0);
    let shown = folder.run(&["context", "show", "-o", "json"]).expect(0).json();
    for (member, file) in [("tls_ca", "ca.pem"), ("tls_cert", "own.pem"), ("tls_key", "own.key")] {
        assert_eq!(shown[member], json!(folder.path(file)));
    }
    let text = folder.run(&["context", "show"]).expect(0).stdout;
    assert!(["ca.pem", "own.pem", "own.key"].iter().all(|file| text.contains(file)), "{text}");
    let table = folder.run(&["context", "list"]).expect(0).stdout;
    assert!(table.contains("  ca, cert  "), "{table}");
    folder.run(&["context", "remove", "plant"]).expect(0);
    fails(folder.run(&["context", "remove", "plant"]), 2, "there is no context plant");
    fails(folder.run(&["context", "show"]), 2, "no context is in use");
    folder.run(&["context", "use"]).expect(0);
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_line() {
    let folder = Folder::with_keys(&[]);
    set(&folder, &["--keys", "keys"]).expect(0);
    folder.run(&["context", "use", "plant"]).expect(0);
    let file = folder.path(".config/countersign/contexts/plant.json");
    for (text, happened) in [
        ("{\n  \"keys\": \"/k\",\n  \"colour\": 1\n}", "plant.json, line 3, column 10: unknown field `colour`"),
        ("{\n  \"keys\": \"/k\",\n  \"keys\": \"/l\"\n}", "line 3, column 8: duplicate field `keys`"),
        ("{\"keys\": ", "line 1, column 9: EOF while parsing"),
        ("{\"keys\": \"relative\"}", "`keys` is relative"),
        ("{\"nats_url\": \"nats://a\", \"nats_context\": \"b\"}", "both `nats_url` and `nats_context`"),
        ("{\"nats_url\": \"nats://a\", \"tls_ca\": \"ca.pem\"}", "`tls_ca` is ca.pem"),
        ("{\"nats_url\": \"nats://a\", \"tls_cert\": \"/own.pem\"}", "one of `tls_cert` and `tls_key`"),
        ("{\"nats_context\": \"a\", \"tls_ca\": \"/ca.pem\"}", "files of TLS, and no URL"),
    ] {
        fs::write(&file, text).unwrap();
        fails(folder.run(&["clients"]), 2, happened);
    }
    // What needs no context is not stopped by it.
    folder.run(&["schema"]).expect(0);
    folder.run(&["credential", "list", "--keys", "keys"]).expect(0);
    fs::write(&file, format!("{{\"keys\": {:?}}}", folder.path("keys"))).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let hint = fails(folder.run(&["credential", "list"]), 5, "plant.json can be written by others");
    assert!(hint.contains("chmod go-w"), "{hint}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    folder.run(&["credential", "list"]).expect(0);
    fs::write(folder.path(".config/countersign/context"), "../x").unwrap();
    fails(folder.run(&["credential", "list"]), 2, "names no context");
}

#[test]
fn a_context_of_the_nats_tool_names_the_broker() {
    let folder = Folder::with_keys(&[]);
    let nats = folder.path(".config/nats/context");
    fs::create_dir_all(&nats).unwrap();
    // As `nats context save` writes it.
    fs::write(nats.join("Plant 1.json"), "{\"description\": \"\", \"url\": \"nats://127.0.0.1:1\", \"token\": \"\"}")
        .unwrap();
    set(&folder, &["--keys", "keys", "--nats-context", "Plant 1"]).expect(0);
    let run = folder.run(&["--context", "plant", "ping", "worker-1"]);
    fails(run, 4, "no NATS server answers at 127.0.0.1:1: ");
    let with = |more: &str| {
        let text = format!("{{\"url\": \"nats://127.0.0.1:1\", {more}}}");
        fs::write(nats.join("Plant 1.json"), text).unwrap();
        folder.run(&["--context", "plant", "ping", "worker-1"])
    };
    let expected = format!("{} cannot be read", folder.path("ca.pem").display());
    let hint = fails(with("\"ca\": \"~/ca.pem\", \"cert\": \"\", \"key\": \"\""), 5, &expected);
    assert!(hint.contains("correct the context plant"), "{hint}");
    fails(set(&folder, &["--nats-context", "Plant 1"]), 5, &format!("the NATS context Plant 1: {expected}"));
    for path in ["ca.pem", "$HOME/ca.pem", "/$HOME/ca.pem", "~other/ca.pem", "~"] {
        fails(with(&format!("\"ca\": \"{path}\"")), 2, &format!("Plant 1.json: `ca` is {path}"));
    }
    fails(with("\"cert\": \"/own.pem\""), 2, "one of `cert` and `key` is there without the other");
    fs::write(nats.join("Plant 1.json"), "{\n\"url\": 7}").unwrap();
    fails(folder.run(&["--context", "plant", "ping", "worker-1"]), 2, "Plant 1.json, line 2");
    // XDG_CONFIG_HOME comes first.
    let mut command = folder.command(&["context", "list", "-o", "json"]);
    command.env("XDG_CONFIG_HOME", folder.path("xdg"));
    assert_eq!(Run::of(command.output().unwrap()).expect(0).json(), json!([]));
}
