//! TLS to a real broker, with certificates made on the spot.

use std::fs;
use std::process::{Child, Stdio};

use countersign_testkit::tls;

use crate::broker::{Broker, configure};
use crate::folder::{Folder, Run};

/// A client that ends with the test.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A broker that requires TLS, and a certificate of whoever connects.
fn with_tls() -> (Folder, Broker) {
    let folder = Folder::with_keys(&[]);
    tls::write(&folder.path(""));
    configure(&folder);
    let block = "tls { cert_file: broker.pem, key_file: broker.key, ca_file: ca.pem, verify: true }\n";
    fs::write(folder.path("nats.conf"), format!("{block}{}", folder.read("nats.conf"))).unwrap();
    let broker = Broker::start_as_configured(&folder);
    (folder, broker)
}

const OWN: [&str; 4] = ["--tls-cert", "own.pem", "--tls-key", "own.key"];

#[test]
fn a_command_and_its_reply_go_over_tls_with_certificates_on_both_sides() {
    let (folder, broker) = with_tls();
    let url = format!("tls://localhost:{}", broker.port);
    let all = [&["--nats-url", &url, "--tls-ca", "ca.pem"][..], &OWN].concat();
    let run = |arguments: &[&str]| folder.run(&[arguments, &all].concat());
    run(&["setup"]).expect(0);
    // By the environment, too.
    let mut worker = folder.command(&["client", "--name", "worker-1", "--state", "state", "--nats-url", &url]);
    worker.envs([("COUNTERSIGN_TLS_CA", "ca.pem"), ("COUNTERSIGN_TLS_CERT", "own.pem")]);
    worker.env("COUNTERSIGN_TLS_KEY", "own.key").stdout(Stdio::null()).stderr(Stdio::null());
    let _worker = Worker(worker.spawn().unwrap());
    let ran = run(&["start", "worker-1", "--retry"]).expect(0);
    assert!(!ran.stderr.contains("has no TLS"), "{ran:#?}");
    run(&["ping", "worker-1"]).expect(0);
}

#[test]
fn a_context_names_the_files_of_tls_by_itself_or_by_a_context_of_the_nats_tool() {
    let (folder, broker) = with_tls();
    let url = format!("tls://localhost:{}", broker.port);
    let all = [&["--keys", "keys", "--nats-url", &url, "--tls-ca", "ca.pem"][..], &OWN].concat();
    folder.run(&[&["context", "set", "plant"], &all[..]].concat()).expect(0);
    let nats = folder.path(".config/nats/context");
    fs::create_dir_all(&nats).unwrap();
    let files = r#""ca": "~/ca.pem", "cert": "~/own.pem", "key": "~/own.key""#;
    fs::write(nats.join("plant.json"), format!("{{\"url\": \"{url}\", {files}}}")).unwrap();
    folder.run(&["context", "set", "by-nats", "--keys", "keys", "--nats-context", "plant"]).expect(0);
    fs::create_dir(folder.path("elsewhere")).unwrap();
    for context in ["plant", "by-nats"] {
        let mut command = folder.command(&["--context", context, "setup"]);
        Run::of(command.current_dir(folder.path("elsewhere")).output().unwrap()).expect(0);
    }
}

#[test]
fn what_does_not_prove_who_it_is_is_refused_on_either_side_and_nothing_falls_back_to_plain_text() {
    let (folder, broker) = with_tls();
    let [by_name, by_address, plain] =
        ["tls://localhost", "tls://127.0.0.1", "nats://localhost"].map(|url| format!("{url}:{}", broker.port));
    let setup = |url: &str, more: &[&str]| folder.run(&[&["setup", "--nats-url", url][..], more].concat());
    let refused = |run: Run| {
        let run = run.expect(4);
        assert_eq!(run.stderr.lines().count(), 3, "{run:#?}");
        run
    };
    let with = |ca: &'static str| [&["--tls-ca", ca][..], &OWN].concat();
    // An authority that is not the broker's, none at all, and a name that is not in its certificate.
    for run in [
        setup(&by_name, &with("other.pem")),
        setup(&by_name, &OWN),
        setup(&by_address, &with("ca.pem")),
        setup(&plain, &with("other.pem")),
    ] {
        assert!(refused(run).stderr.contains("ertificate"));
    }
    // No certificate of ours.
    refused(setup(&by_name, &["--tls-ca", "ca.pem"]));
    // What the URL does not ask for is required for the sake of the files.
    setup(&plain, &with("ca.pem")).expect(0);
    let open = Folder::with_keys(&[]);
    tls::write(&open.path(""));
    let broker = Broker::start(&open);
    refused(open.run(&["setup", "--nats-url", &broker.url(), "--tls-ca", "ca.pem"]));
    open.run(&["setup", "--nats-url", &broker.url()]).expect(0);
}

#[test]
fn a_certificate_without_its_key_is_wrong_usage_and_a_file_that_is_missing_is_named() {
    let folder = Folder::with_keys(&[]);
    for option in ["--tls-cert", "--tls-key"] {
        folder.run(&["setup", option, "own.pem"]).expect(2);
    }
    let run = folder.run(&["setup", "--tls-ca", "away.pem"]).expect(5);
    assert!(run.stderr.starts_with("error: away.pem cannot be read: No such file"), "{run:#?}");
}
