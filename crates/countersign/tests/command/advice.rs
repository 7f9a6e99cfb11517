//! The advice where a broker accepts no more connections, or stores no streams: what helps, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use countersign_testkit::accounts;

use crate::broker::{Broker, configure};
use crate::folder::{Folder, Run};
use crate::permissions::User;

/// It fails for the broker's sake, in three lines: what happened, what was expected, what to do.
#[track_caller]
fn advises(run: Run, happened: &str, advice: &str) {
    let run = run.expect(4);
    let [error, expected, advised] = run.stderr.lines().collect::<Vec<_>>()[..] else {
        panic!("three lines: {run:#?}")
    };
    assert!(error.starts_with("error: ") && error.contains(happened), "{happened}: {run:#?}");
    assert!(expected.starts_with("expected: "), "{run:#?}");
    assert!(advised.starts_with("try: ") && advised.contains(advice), "{advice}: {run:#?}");
}

const ALL: [&[&str]; 5] =
    [&["setup"], &["ping", "worker-1"], &["ping", "@all"], &["clients"], &["clients", "forget", "worker-1"]];

#[test]
fn where_the_broker_is_at_its_limit_of_connections_the_advice_is_to_raise_it_and_not_to_make_keys() {
    let folder = Folder::with_keys(&[]);
    configure(&folder);
    let configuration = folder.read("nats.conf");
    fs::write(folder.path("nats.conf"), format!("max_connections: 1\n{configuration}")).unwrap();
    let broker = Broker::start_as_configured(&folder);
    let one = User::connect(&folder, &broker, "observer");
    for arguments in ALL.into_iter().chain([&["watch"][..]]) {
        let run = folder.run(&[arguments, &["--nats-url", &broker.url()]].concat());
        assert!(!run.stderr.contains("countersign init"), "{run:#?}");
        advises(run, "refuses us: nats: maximum connections exceeded", "raise `max_connections`");
    }
    drop(one);
}

#[test]
fn where_the_broker_has_no_jetstream_every_command_that_needs_it_advises_what_helps() {
    let folder = Folder::with_keys(&[]);
    let broker = Broker::start_without_jetstream(&folder);
    let run = |arguments: &[&str]| folder.run(&[arguments, &["--nats-url", &broker.url()]].concat());
    let none = "the broker does not tell the roster: it keeps none";
    for arguments in [&["clients"][..], &["clients", "forget", "worker-1"]] {
        advises(run(arguments), none, "run `countersign setup` once");
    }
    advises(run(&["ping", "@all"]), none, "run `countersign setup` once, or name the clients one by one");
    advises(run(&["setup"]), "does not make the stream cs-demo-presence", "add `jetstream {}`");
}

#[test]
fn where_the_account_of_the_presences_has_no_jetstream_the_advice_is_to_write_the_accounts_again() {
    let folder = Folder::with_keys(&[]);
    let signer = accounts::key(&folder.read("keys/authority.nk"), "authority");
    let before = folder.read("keys/nats/accounts.conf");
    let without = before.lines().map(|line| match line.split_once(": ") {
        Some((id, jwt)) if accounts::jwt_in(jwt).is_some() && jwt.len() > 300 => {
            let mut claims = accounts::claims(jwt);
            if let Some(limits) = claims["nats"]["limits"].as_object_mut() {
                limits.retain(|limit, _| !limit.ends_with("_storage") && limit != "streams" && limit != "consumer");
            }
            // The broker keeps what it has of this id, which is the digest of all else: `init` signs the same within a second.
            claims["jti"] = "without JetStream".into();
            format!("{id}: {}\n", accounts::signed(claims, &signer))
        }
        _ => format!("{line}\n"),
    });
    let without: String = without.collect();
    fs::write(folder.path("keys/nats/accounts.conf"), without).unwrap();
    let broker = Broker::start(&folder);
    let run = folder.run(&["setup", "--nats-url", &broker.url()]);
    advises(run, "JetStream not enabled for account", "run `countersign init`; then restart the broker");
    drop(broker);
    folder.run(&["init"]).expect(0);
    let broker = Broker::start(&folder);
    folder.run(&["setup", "--nats-url", &broker.url()]).expect(0);
}

/// A folder in which only what an operator was given lies, beside the issuer's.
fn given_to_operator(folder: &Folder) {
    let given =
        ["trust.json", "root.thumbprint", "operators/alice.pem", "operators/alice.jwt", "nats/operator-alice.creds"];
    given.iter().for_each(|file| give(folder, file, file));
}

/// Copies a file of the issuer's folder into the other one.
fn give(folder: &Folder, file: &str, name: &str) {
    let to = folder.path("mine").join(name);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(folder.path("keys").join(file), &to).unwrap();
}

#[test]
fn a_client_is_told_which_of_its_files_are_not_there_and_whose_it_was_given() {
    let folder = Folder::with_keys(&["--client", "worker-1", "--client", "worker-2"]);
    for file in ["trust.json", "root.thumbprint", "clients/worker-1.jwt"] {
        give(&folder, file, file);
    }
    let lacks = |happened: &str, advice: &str| {
        let run = folder.run(&["client", "--name", "worker-1", "--keys", "mine", "--state", "state"]).expect(5);
        let lines: Vec<&str> = run.stderr.lines().collect();
        assert!(lines[0].starts_with("error: mine/") && lines[0].contains(happened), "{happened}: {run:#?}");
        assert!(lines[2].contains(advice), "{advice}: {run:#?}");
    };
    lacks(
        "clients/worker-1.pem: is not here, and the credential of the client worker-1 is",
        "the machine that has the key",
    );
    give(&folder, "clients/worker-1.pem", "clients/worker-1.pem");
    lacks("nats/client-worker-1.creds does not exist", "fetch it from the machine that has issuer.pem");
    give(&folder, "nats/client-worker-2.creds", "nats/client-worker-1.creds");
    lacks(
        "it logs in to the broker as worker-2, and not as worker-1",
        "fetch the right file from the machine that has",
    );
    give(&folder, "nats/client-worker-1.creds", "nats/client-worker-1.creds");
    give(&folder, "clients/worker-2.pem", "clients/worker-1.pem");
    lacks("clients/worker-1.pem: ", "put the right key there");
}

#[test]
fn where_the_issuers_key_is_not_nothing_is_issued_or_renewed_and_that_is_the_reason() {
    let folder = Folder::with_keys(&[]);
    given_to_operator(&folder);
    for words in [
        &["issue", "client", "worker-7"][..],
        &["issue", "operator", "bob"],
        &["renew", "client", "worker-1"],
        &["renew", "operator", "alice"],
        &["renew", "client", "--all"],
    ] {
        let run = folder.run(&[&["credential"], words, &["--keys", "mine"]].concat()).expect(5);
        let happened = "error: mine/issuer.pem is missing, and a credential is to be issued\n";
        let advice = format!("try: run `countersign credential {}` on the machine that has it", words[0]);
        assert!(run.stderr.starts_with(happened) && run.stderr.contains(&advice), "{run:#?}");
    }
}

#[test]
fn a_folder_of_keys_of_another_user_is_named_with_its_owner() {
    if !rustix::process::geteuid().is_root() {
        // Only root can become another user.
        return;
    }
    let folder = Folder::with_keys(&[]);
    fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let command = folder.command(&["credential", "list", "--keys", "keys"]);
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(command.get_program());
    nobody.args(command.get_args()).current_dir(folder.path(""));
    let run = Run::of(nobody.output().unwrap()).expect(5);
    assert!(
        run.stderr.contains(" cannot be used: it belongs to user 0, and this process runs as user 65534\n"),
        "{run:#?}"
    );
    assert!(run.stderr.contains("try: run as its owner, or name your own folder of keys by --keys\n"), "{run:#?}");
}

#[test]
fn in_a_folder_without_keys_the_advice_is_to_name_them_and_init_is_for_a_new_realm() {
    let folder = Folder::new();
    for arguments in [&["ping", "worker-1"][..], &["clients"], &["setup"], &["watch"], &["credential", "list"]] {
        let run = folder.run(arguments).expect(5);
        let lines: Vec<&str> = run.stderr.lines().collect();
        assert_eq!(
            lines[0], "error: there are no keys in ./keys, and nothing names another folder of keys",
            "{run:#?}"
        );
        assert!(lines[2].starts_with("try: go to its folder, or name it by --keys or COUNTERSIGN_KEYS; "), "{run:#?}");
    }
    let mut command = folder.command(&["clients"]);
    command.env("COUNTERSIGN_KEYS", "away");
    let run = Run::of(command.output().unwrap()).expect(5);
    assert!(
        run.stderr.starts_with("error: there are no keys in the folder away; the folder is from COUNTERSIGN_KEYS\n"),
        "{run:#?}"
    );
}

#[test]
fn where_the_issuer_is_elsewhere_the_advice_is_to_go_there() {
    let folder = Folder::with_keys(&[]);
    given_to_operator(&folder);
    for (arguments, happened) in [
        (&["ping", "worker-1", "--as", "bob"][..], "the folder mine has no operator bob"),
        (&["client", "--name", "worker-1"], "the folder mine has no client worker-1"),
        (&["client", "--claim"], "the folder mine has no client"),
        (&["watch"], "mine/nats/observer.creds does not exist"),
        (&["setup"], "mine/nats/setup.creds does not exist"),
    ] {
        let with_keys = |keys: &str| {
            folder.run(
                &[arguments, &["--keys", keys, "--state", "state"][..if arguments[0] == "client" { 4 } else { 2 }]]
                    .concat(),
            )
        };
        let run = with_keys("mine").expect(5);
        assert!(run.stderr.contains(happened), "{run:#?}");
        assert!(run.stderr.lines().nth(2).unwrap().contains("the machine that has issuer.pem"), "{run:#?}");
    }
    // On the issuer's machine, it is said how to make one here.
    let run = folder.run(&["ping", "worker-1", "--as", "bob"]).expect(5);
    let advice = "try: make one by `countersign credential issue operator bob`; or name another folder by --keys";
    assert_eq!(run.stderr.lines().nth(2), Some(advice), "{run:#?}");
}

#[test]
fn init_makes_no_key_in_a_folder_whose_issuer_is_elsewhere() {
    let folder = Folder::with_keys(&[]);
    given_to_operator(&folder);
    let files = || {
        let mut files: Vec<String> = Vec::new();
        for below in ["", "operators", "clients", "nats"] {
            for entry in fs::read_dir(folder.path("mine").join(below)).into_iter().flatten() {
                let entry = entry.unwrap();
                if entry.path().is_file() {
                    files.push(format!("{below}/{}", entry.file_name().to_str().unwrap()));
                }
            }
        }
        files.sort();
        files
    };
    let before = files();
    for more in [&[][..], &["--operator", "bob"], &["--client", "worker-7"]] {
        let run = folder.run(&[&["init", "--keys", "mine"], more].concat()).expect(5);
        assert!(run.stderr.contains("mine/issuer.pem is not here, and mine/"), "{run:#?}");
        assert!(run.stderr.contains("on the machine that has issuer.pem"), "{run:#?}");
        assert_eq!(files(), before);
    }
    // Nor a second realm beside what is there of the first.
    fs::remove_file(folder.path("mine/trust.json")).unwrap();
    fs::remove_file(folder.path("mine/root.thumbprint")).unwrap();
    let before = files();
    let run = folder.run(&["init", "--keys", "mine"]).expect(5);
    assert!(run.stderr.contains("mine/trust.json is missing, and this folder has keys of a realm"), "{run:#?}");
    assert_eq!(files(), before);
}

#[test]
fn at_the_broker_of_another_realm_it_is_said_where_the_url_is_from_and_what_to_check_first() {
    let strangers = Folder::with_keys(&[]);
    let broker = Broker::start(&strangers);
    let folder = Folder::with_keys(&[]);
    given_to_operator(&folder);
    let run = |keys: &str, arguments: &[&str]| {
        let mut command = folder.command(arguments);
        command.env("COUNTERSIGN_KEYS", keys).env("NATS_URL", broker.url());
        Run::of(command.output().unwrap())
    };
    let check = "check that it is this realm's broker (the URL is from NATS_URL); if it is, ";
    for arguments in [&["ping", "worker-1"][..], &["clients"]] {
        advises(run("keys", arguments), "refuses us", &format!("{check}`countersign init`"));
        advises(run("mine", arguments), "refuses us", &format!("{check}ask whoever has issuer.pem"));
    }
    for arguments in [&["setup"][..], &["watch"]] {
        advises(run("keys", arguments), "refuses us", check);
    }
}

#[test]
fn a_path_in_a_command_to_paste_is_quoted_for_the_shell() {
    let folder = Folder::new();
    for (keys, quoted) in
        [("my keys", "'my keys/root.thumbprint'"), ("a'b", "\"a'b/root.thumbprint\""), ("$x", "'$x/root.thumbprint'")]
    {
        folder.run(&["init", "--keys", keys]).expect(0);
        let file = folder.path(keys).join("root.thumbprint");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let run = folder.run(&["credential", "list", "--keys", keys]).expect(5);
        let command = format!("chmod go-w {quoted}");
        assert!(run.stderr.contains(&format!("run `{command}`")), "{run:#?}");
        let pasted = Command::new("sh").args(["-c", &command]).current_dir(folder.path("")).status().unwrap();
        assert!(pasted.success(), "{command}");
        folder.run(&["credential", "list", "--keys", keys]).expect(0);
    }
}
