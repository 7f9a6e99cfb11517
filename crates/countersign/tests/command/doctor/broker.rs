//! What is found at the broker and at the clients.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use countersign_testkit::{accounts, tls};
use rustix::process::{Pid, Signal, kill_process};

use super::{Diagnosis, copy_of, move_member};
use crate::broker::{Broker, configure};
use crate::folder::Folder;
use crate::permissions::User;

/// A client that ends with the test.
struct Worker(Child);

impl Worker {
    /// One that has been heard.
    fn start(folder: &Folder, broker: &Broker) -> Self {
        let mut command =
            folder.command(&["client", "--name", "worker-1", "--state", "state", "--nats-url", &broker.url()]);
        let worker = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        folder.run(&["start", "worker-1", "--retry", "--timeout", "30s", "--nats-url", &broker.url()]).expect(0);
        worker
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn streams_trust_and_clients_are_found_as_they_break_and_fine_when_they_are_mended() {
    let folder = Folder::with_keys(&["--client", "worker-1", "--client", "worker-2"]);
    let broker = Broker::start(&folder);
    let url = broker.url();
    let look = || Diagnosis::at(&folder, &url, &[]);
    let run = |arguments: &[&str]| folder.run(&[arguments, &["--nats-url", &url]].concat());
    for stream in ["presence", "trust"] {
        look()
            .found("broken", "streams", &format!("the broker has no stream cs-demo-{stream}"), "countersign setup")
            .exits(2);
    }
    run(&["setup"]).expect(0);
    let found = look();
    found.is_fine("streams").is_fine("rights").is_fine("broker").is_fine("clock");
    found
        .found("warning", "clients", "was never heard: worker-1; worker-2", "countersign client --name worker-1")
        .exits(1);

    // Somebody changes a stream.
    let changed = r#"{"name":"cs-demo-presence","subjects":["cs.demo.event.*.presence"],"max_msgs_per_subject":1,"max_msgs":-1,
        "max_bytes":-1,"max_age":0,"max_msg_size":65536,"storage":"file","retention":"limits","discard":"old","num_replicas":1,
        "no_ack":true,"allow_direct":false}"#;
    User::connect(&folder, &broker, "setup").request(
        "$JS.API.STREAM.UPDATE.cs-demo-presence",
        "_INBOX.setup.test",
        changed,
    );
    look().found("broken", "streams", "cs-demo-presence is not as it should be: Direct Get", "countersign setup");
    run(&["setup"]).expect(0);
    look().is_fine("streams");

    let worker = Worker::start(&folder, &broker);
    let found = look();
    let heard = found.finding("clients", "1 of 2 clients answered").unwrap();
    assert_eq!(heard["level"], "fine");
    found.found("warning", "places", "client worker-1, which runs here", "move each");
    worker.signal(Signal::STOP);
    run(&["revoke", "worker-2"]).expect(0);
    let found = look();
    found.found("broken", "clients", "does not answer: worker-1", "countersign watch --client worker-1").exits(2);
    found.found(
        "warning",
        "clients",
        "holds an older trust bundle: worker-1, version 1 of 2",
        "countersign trust publish",
    );
    worker.signal(Signal::CONT);
    let deadline = Instant::now() + Duration::from_secs(30);
    while look().finding("clients", "holds an older trust bundle").is_some() {
        assert!(Instant::now() < deadline, "the client takes the version that it missed");
    }
    run(&["terminate", "worker-1"]).expect(0);
    look().found("warning", "clients", "has ended: worker-1", "clients forget worker-1");

    // What was made without a broker is nowhere else.
    folder.run(&["revoke", "worker-1", "--nats-url", "nats://127.0.0.1:1"]).expect(4);
    let found = look();
    found.found("broken", "trust", "the broker does not store version 3", "countersign trust publish");
    found.found("broken", "broker", "lets in members that the trust bundle revokes", "countersign trust publish");
    run(&["trust", "publish"]).expect(0);
    look().is_fine("trust").is_fine("broker");

    // The same realm on machines of its members.
    let operator = move_member(&folder, "operator", "alice");
    let found = Diagnosis::at(&operator, &url, &[]);
    found.is_fine("rights").is_fine("broker").is_fine("places");
    assert!(found.finding("clients", "answered").is_some(), "{:#?}", found.run);
}

#[test]
fn a_broker_with_other_accounts_or_less_than_the_roles_need_is_found() {
    let folder = Folder::with_keys(&[]);
    let other = Folder::with_keys(&[]);
    let broker = Broker::start(&other);
    let found = Diagnosis::at(&folder, &broker.url(), &[]);
    found.found("broken", "logins", "the login of operator alice: the NATS server at", "nats/accounts.conf").exits(2);

    // An operator that may not receive events, as with accounts of another version; and a broker that takes too little.
    let folder = copy_of(&folder);
    let signer = accounts::key(&folder.read("keys/authority.nk"), "authority");
    let lines = folder.read("keys/nats/accounts.conf");
    let lines = lines.lines().map(|line| match line.split_once(": ") {
        Some((id, jwt)) if line.contains("  A") => {
            let mut claims = accounts::claims(jwt);
            for scope in claims["nats"]["signing_keys"]
                .as_array_mut()
                .into_iter()
                .flatten()
                .filter(|it| it["role"] == "operator")
            {
                let allowed = scope["template"]["sub"]["allow"].as_array_mut().unwrap();
                allowed.retain(|subject| *subject != "cs.demo.event.>");
            }
            // The broker keeps what it has of this id.
            claims["jti"] = format!("without events {id}").into();
            format!("{id}: {}\n", accounts::signed(claims, &signer))
        }
        _ => format!("{line}\n"),
    });
    let less: String = lines.collect();
    fs::write(folder.path("keys/nats/accounts.conf"), less).unwrap();
    configure(&folder);
    fs::write(folder.path("nats.conf"), folder.read("nats.conf").replace("max_payload: 320KB", "max_payload: 64KB"))
        .unwrap();
    let broker = Broker::start_as_configured(&folder);
    let found = Diagnosis::at(&folder, &broker.url(), &[]);
    found.found("broken", "rights", "the broker does not allow it to operator alice", "restart the broker");
    assert!(
        found.finding("rights", "cs.demo.event.>").is_some() && found.finding("rights", "client").is_none(),
        "{:#?}",
        found.run
    );
    found.found("warning", "broker", "takes messages of 65536 bytes at most", "max_payload: 320KB");
}

#[test]
fn a_broker_without_jetstream_and_none_at_all_are_found() {
    let folder = Folder::with_keys(&[]);
    let broker = Broker::start_without_jetstream(&folder);
    let found = Diagnosis::at(&folder, &broker.url(), &[]);
    found.found("broken", "streams", "does not show the stream cs-demo-presence", "add `jetstream {}`").exits(2);
    drop(broker);
    let found = Diagnosis::offline(&folder, &[]);
    found.found("broken", "broker", "no NATS server answers at 127.0.0.1:1", "start the server").exits(2);
}

#[test]
fn a_certificate_that_does_not_prove_the_broker_is_found() {
    let folder = Folder::with_keys(&[]);
    tls::write(&folder.path(""));
    configure(&folder);
    let block = "tls { cert_file: broker.pem, key_file: broker.key }\n";
    fs::write(folder.path("nats.conf"), format!("{block}{}", folder.read("nats.conf"))).unwrap();
    let broker = Broker::start_as_configured(&folder);
    let url = format!("tls://localhost:{}", broker.port);
    Diagnosis::at(&folder, &url, &["--tls-ca", "other.pem"])
        .found("broken", "broker", "ertificate", "--tls-ca")
        .exits(2);
    let found = Diagnosis::at(&folder, &url, &["--tls-ca", "ca.pem"]);
    assert!(found.finding("broker", "lets us in, with TLS").is_some(), "{:#?}", found.run);
    // It is for the name, and not for the address.
    let url = format!("tls://127.0.0.1:{}", broker.port);
    Diagnosis::at(&folder, &url, &["--tls-ca", "ca.pem"]).found("broken", "broker", "ertificate", "--tls-ca").exits(2);
}

#[test]
fn a_certificate_of_the_broker_that_ends_within_14_days_is_found() {
    for (days, is_found) in [(13, true), (15, false)] {
        let folder = Folder::with_keys(&[]);
        tls::write_for(&folder.path(""), Duration::from_secs(days * 86_400));
        configure(&folder);
        let block = "tls { cert_file: broker.pem, key_file: broker.key, ca_file: ca.pem, verify: true }\n";
        fs::write(folder.path("nats.conf"), format!("{block}{}", folder.read("nats.conf"))).unwrap();
        let broker = Broker::start_as_configured(&folder);
        // Where TLS is asked for, and where the broker requires it.
        for url in ["tls", "nats"].map(|scheme| format!("{scheme}://localhost:{}", broker.port)) {
            let own = ["--tls-ca", "ca.pem", "--tls-cert", "own.pem", "--tls-key", "own.key"];
            let found = Diagnosis::at(&folder, &url, &own);
            match is_found {
                true => drop(found.found("warning", "broker", "the broker's certificate", "renew it").exits(2)),
                false => assert!(found.finding("broker", "certificate").is_none(), "{:#?}", found.run),
            }
        }
    }
}

#[test]
fn a_key_of_tls_that_others_can_read_is_found() {
    let folder = Folder::with_keys(&[]);
    tls::write(&folder.path(""));
    let own = ["--tls-cert", "own.pem", "--tls-key", "own.key"];
    for (mode, is_found) in [(0o644, true), (0o640, true), (0o600, false), (0o400, false)] {
        fs::set_permissions(folder.path("own.key"), fs::Permissions::from_mode(mode)).unwrap();
        let found = Diagnosis::offline(&folder, &own);
        match is_found {
            true => drop(found.found("warning", "keys", "own.key is open to others", "chmod 600 own.key")),
            false => drop(found.is_fine("keys")),
        }
    }
}
