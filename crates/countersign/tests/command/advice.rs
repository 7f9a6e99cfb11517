//! The advice where a broker accepts no more connections, or stores no streams: what helps, and nothing else.

use std::fs;

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
fn where_the_account_of_the_presences_has_no_jetstream_the_advice_is_to_write_the_list_of_users_again() {
    let folder = Folder::with_keys(&[]);
    let users = folder.path("keys/nats/users.conf");
    let without = folder.read("keys/nats/users.conf").replace("    jetstream: enabled\n", "");
    fs::write(&users, without).unwrap();
    let broker = Broker::start(&folder);
    let run = folder.run(&["setup", "--nats-url", &broker.url()]);
    advises(run, "JetStream not enabled for account", "run `countersign init`");
    folder.run(&["init"]).expect(0);
    broker.reload();
    // What it logs is not read here; it has the accounts when it makes the stream.
    let made = (0..100).map(|_| folder.run(&["setup", "--nats-url", &broker.url()])).find(|run| run.status == 0);
    assert!(made.is_some(), "the advice helps");
}
