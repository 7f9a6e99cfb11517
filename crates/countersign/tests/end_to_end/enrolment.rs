//! `countersign enroll`: workers that share nothing with the issuer's folder but a broker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_host::clock;
use countersign_protocol::command::Version;
use countersign_protocol::credential::Role;
use countersign_protocol::digest::Digest;
use countersign_protocol::enrolment::{EnrolmentAnswer, EnrolmentCode, EnrolmentError, Token};
use countersign_protocol::key::SecretKey;
use countersign_protocol::subject;
use countersign_protocol::trust::{Issuer, Trust, TrustBody};
use countersign_testkit::accounts;
use countersign_testkit::hostile::Peer;
use countersign_testkit::realm::name;
use serde_json::Value;

use crate::accounts::is_let_in;
use crate::fleet::Fleet;
use crate::issuer::issuer;
use crate::process::{Process, Ran};

/// A folder of a worker, in which no variable names keys or a broker.
pub struct Worker(pub PathBuf);

impl Worker {
    pub fn new(fleet: &Fleet, folder: &str) -> Self {
        let folder = fleet.path().join(folder);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn command(&self, fleet: &Fleet, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let bin = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap().display().to_string();
        let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
        command.args(arguments).current_dir(&self.0).env_clear().env("PATH", path).env("NO_COLOR", "1");
        command.env("HOME", fleet.path());
        command
    }

    pub fn spawn(&self, fleet: &Fleet, arguments: &[&str], input: &str) -> Process {
        Process::spawn_with(self.command(fleet, env!("CARGO_BIN_EXE_countersign"), arguments), input)
    }

    /// `countersign` with these arguments and this on standard input.
    pub fn run(&self, fleet: &Fleet, arguments: &[&str], input: &str) -> Ran {
        self.spawn(fleet, arguments, input).wait()
    }

    /// A line of shell, with this on standard input.
    pub fn shell(&self, fleet: &Fleet, line: &str, input: &str) -> Ran {
        Process::spawn_with(self.command(fleet, "sh", &["-c", line]), input).wait()
    }

    /// Runs a client until it is there.
    pub fn client(&self, fleet: &Fleet, client: &str) -> Process {
        let url = fleet.broker.url();
        let arguments = ["client", "--name", client, "--nats-url", &url, "--state", "state"];
        fleet.client_as(client, self.command(fleet, env!("CARGO_BIN_EXE_countersign"), &arguments))
    }

    fn write(&self, file: &str, content: &str, mode: u32) {
        let path = self.0.join(file);
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// A token by these arguments.
pub fn token(fleet: &Fleet, arguments: &[&str]) -> String {
    let made = fleet.run(&[&["enroll", "token"], arguments, &["-o", "json"]].concat()).exits(0).json();
    made["token"].as_str().unwrap().to_owned()
}

/// The broker's configuration, which no enrolment changes.
fn configuration(fleet: &Fleet) -> Vec<u8> {
    fs::read(fleet.keys().accounts()).unwrap()
}

/// It ends with this status and three lines, of which the first contains this and the last that; the token is in none.
#[track_caller]
fn refused(ran: Ran, code: i32, what: &str, hint: &str, token: &str) {
    let ran = ran.exits(code);
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| !line.starts_with("note: ")).collect();
    let [first, expected, last] = lines[..] else { panic!("three lines: {ran:#?}") };
    assert!(first.starts_with("error: ") && first.contains(what), "{what}: {ran:#?}");
    assert!(expected.starts_with("expected: ") && last.starts_with("try: ") && last.contains(hint), "{hint}: {ran:#?}");
    assert!(token.is_empty() || !format!("{ran:?}").contains(token), "{ran:#?}");
}

#[test]
fn one_line_enrols_a_worker_whose_first_ping_is_verified_and_the_broker_is_told_nothing() {
    let fleet = Fleet::new();
    let mut issuer = issuer(&fleet);
    let before = configuration(&fleet);
    let made = fleet.run(&["enroll", "token", "worker-7", "--group", "web", "--valid", "1h"]).exits(0);
    let [line] = made.stdout.lines().collect::<Vec<_>>()[..] else { panic!("one line: {made:#?}") };
    let worker = Worker::new(&fleet, "worker");
    let enrolled = Process::spawn(worker.command(&fleet, "sh", &["-c", line])).wait().exits(0);
    assert!(!enrolled.stderr.contains("warning"), "{enrolled:#?}");
    issuer.stderr.wait_for("enrolled worker-7 with the key ");

    let client = worker.client(&fleet, "worker-7");
    fleet.run(&["start", "@web"]).exits(0);
    let reply = fleet.run(&["ping", "worker-7", "-o", "json"]).exits(0);
    assert_eq!(reply.of("worker-7")["verdict"], "succeeded", "{reply:#?}");
    client.printed();

    assert_eq!(configuration(&fleet), before);
    let (folder, client) = (fleet.keys(), name("worker-7"));
    assert!(!folder.key(Role::Client, &client).exists() && !folder.creds(Role::Client, &client).exists());
    for (file, bits) in [("clients/worker-7.pem", 0o600), ("nats/client-worker-7.creds", 0o600)] {
        let mode = fs::metadata(worker.0.join("keys").join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, bits, "{file}");
    }
    // The same line again changes nothing, and the token is in no log.
    let again = Process::spawn(worker.command(&fleet, "sh", &["-c", line])).wait().exits(0);
    assert!(again.stderr.contains("worker-7 is enrolled already"), "{again:#?}");
    let secret = line.split(' ').nth(1).unwrap();
    let log = issuer.printed_errors();
    assert!(log.contains("enrolled worker-7") && !log.contains(secret), "{log}");
}

#[test]
fn each_reason_has_three_lines_of_its_own_and_the_token_works_after_all_of_them() {
    let fleet = Fleet::new();
    let token = token(&fleet, &["worker-7", "--group", "web"]);
    let worker = Worker::new(&fleet, "worker");
    let enroll = |arguments: &[&str], input: &str| worker.run(&fleet, &[&["enroll"], arguments].concat(), input);
    // The issuer is not there.
    let absent = enroll(&["--timeout", "1s"], &token);
    refused(absent, 4, "no issuer listened for 1 s", "start `countersign issuer`", &token);
    let key = || fs::read_dir(worker.0.join("keys/enrolment")).unwrap().next().unwrap().unwrap().path().join("key.pem");
    let made = fs::read(key()).unwrap();

    let issuer = issuer(&fleet);
    refused(enroll(&[], &token[..token.len() / 2]), 5, "cut short", "copy it again", "");
    let (head, tail) = token.split_at(200);
    let swapped = format!("{head}{}{}", if tail.starts_with('A') { "B" } else { "A" }, &tail[1..]);
    refused(enroll(&[], &swapped), 5, "was changed", "copy it again", "");
    refused(enroll(&[], "hello"), 5, "not an enrolment token", "--file", "");
    refused(enroll(&["--group", "db"], &token), 2, "for the groups [web]", "enroll token worker-7", &token);
    refused(enroll(&["--name", "worker-8"], &token), 2, "for the client worker-7", "leave out", &token);
    refused(enroll(&["--realm", "plant"], &token), 2, "of the realm demo, not plant", "ask for another", &token);
    let mut ended = Token::parse(&token).unwrap();
    ended.expires_at = clock::wall().plus(-1_000);
    refused(enroll(&[], &ended.to_text()), 5, "the token's time ended on", "ask for another", "");
    // Whoever has changed a token, and made its check fit, has not the issuer's word.
    let forged = |change: &dyn Fn(&mut Token)| {
        let mut forged = Token::parse(&token).unwrap();
        change(&mut forged);
        let other = Worker(worker.0.join("forged"));
        let _ = fs::create_dir(&other.0);
        other.run(&fleet, &["enroll"], &forged.to_text())
    };
    refused(forged(&|it| it.client.as_mut().unwrap().groups = vec![]), 5, "for the groups [web]", "--group", "");
    refused(forged(&|it| it.client.as_mut().unwrap().name = name("worker-1")), 5, "no such token", "enroll token", "");
    refused(forged(&|it| it.client.as_mut().unwrap().secret = [7; 32].into()), 5, "own key did not sign", "again", "");
    let taken = fleet.run(&["enroll", "token", "worker-1"]);
    refused(taken, 2, "worker-1 has a living credential", "--replace", "");

    // None of them has spent it. The keys of the first run are enrolled.
    let crossed = format!("\u{feff}{token}\r\n");
    worker.write("token", &crossed, 0o644);
    refused(enroll(&["--file", "token"], ""), 5, "open to others", "chmod 600 token", &token);
    worker.write("token", &crossed, 0o600);
    let done = enroll(&["--file", "token", "-o", "json"], "").exits(0);
    assert!(!done.stdout.contains(&token) && done.json()["name"] == "worker-7", "{done:#?}");
    assert_eq!(fs::read(worker.0.join("keys/clients/worker-7.pem")).unwrap(), made);

    let other = Worker::new(&fleet, "other");
    refused(other.run(&fleet, &["enroll"], &token), 5, "other keys were enrolled", "--replace", &token);
    let warned = other.run(&fleet, &["enroll", &token], "").exits(5);
    assert!(warned.stderr.contains("warning: the token is an argument"), "{warned:#?}");
    let here = fleet.run(&["enroll", &token]).exits(2);
    assert!(here.stderr.contains("this is the issuer's folder"), "{here:#?}");
    drop(issuer);
}

#[test]
fn what_only_the_issuer_knows_against_a_token_has_three_lines_and_the_same_folder_is_enrolled_afterwards() {
    let fleet = Fleet::new();
    let issuer = issuer(&fleet);
    let worker = Worker::new(&fleet, "worker");
    let enroll = |text: &str| worker.run(&fleet, &["enroll", "--timeout", "100s"], text);
    // Somebody else has the name since.
    let taken = token(&fleet, &["worker-7"]);
    fleet.run(&["credential", "issue", "client", "worker-7"]).exits(0);
    refused(enroll(&taken), 5, "worker-7 has a living credential", "enroll token worker-7 --replace", &taken);
    // Its time is over, by the issuer's clock.
    let ended = token(&fleet, &["worker-8"]);
    let record = fleet.keys().enrolment().join("tokens/worker-8.json");
    let mut remembered: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let expires_at = std::mem::replace(&mut remembered["expires_at"], (clock::wall().seconds() * 1_000).into());
    fs::write(&record, remembered.to_string()).unwrap();
    refused(enroll(&ended), 5, "the token's time ended on", "enroll token worker-8", &ended);
    // Another realm's broker does not know its user.
    let other = Fleet::new();
    let foreign = token(&other, &["worker-9"]);
    let elsewhere = worker.run(&fleet, &["enroll", "--nats-url", &fleet.broker.url()], &foreign);
    refused(elsewhere, 4, "the broker of the token", "compare this machine's clock", &foreign);

    // None of them was spent.
    remembered["expires_at"] = expires_at;
    fs::write(&record, remembered.to_string()).unwrap();
    fleet.run(&["revoke", "worker-7"]).exits(0);
    enroll(&taken).exits(0);
    enroll(&ended).exits(0);
    // A later token for the same name takes the place of the first.
    let [first, second] = [(); 2].map(|()| token(&fleet, &["worker-10"]));
    refused(enroll(&first), 5, "no such token", "enroll token worker-10", &first);
    enroll(&second).exits(0);
    drop(issuer);
}

#[test]
fn who_is_killed_after_it_has_asked_is_enrolled_when_it_asks_again_and_nobody_else_is() {
    let fleet = Fleet::new();
    let text = token(&fleet, &["worker-7"]);
    let account = accounts::key(&fs::read_to_string(fleet.keys().authority()).unwrap(), "realm");
    let seed = countersign_keys::Seed::from_random([9; 32]).unwrap();
    let mut broker =
        Peer::connect(fleet.broker.port(), Some(&accounts::user(&account, "enrolment", seed.as_str(), &[">"], &[">"])));
    broker.subscribe("cs.demo.enrolment.request.*");
    let worker = Worker::new(&fleet, "worker");
    let asking = worker.spawn(&fleet, &["enroll", "--timeout", "100s"], &text);
    let request = broker.message();
    asking.kill();

    // The answer to what it asked reaches nobody, and the issuer is killed after it.
    let mut issuing = issuer(&fleet);
    broker.publish(&request.subject, None, None, &request.body);
    issuing.stderr.wait_for("enrolled worker-7 with the key ");
    issuing.kill();
    let issuing = issuer(&fleet);
    let credential = fs::read(fleet.keys().credential(Role::Client, &name("worker-7"))).unwrap();
    let other = Worker::new(&fleet, "other");
    refused(other.run(&fleet, &["enroll"], &text), 5, "other keys were enrolled", "--replace", &text);
    worker.run(&fleet, &["enroll"], &text).exits(0);
    assert_eq!(fs::read(worker.0.join("keys/clients/worker-7.jwt")).unwrap(), credential);
    // Where it failed first, a fresh token works.
    let fresh = token(&fleet, &["worker-8"]);
    other.run(&fleet, &["enroll"], &fresh).exits(0);
    drop(issuing);
}

#[test]
fn a_hostile_broker_s_answers_count_for_nothing_and_the_issuer_s_does() {
    let fleet = Fleet::new();
    let text = token(&fleet, &["worker-7"]);
    let token = Token::parse(&text).unwrap();
    let account = accounts::key(&fs::read_to_string(fleet.keys().authority()).unwrap(), "realm");
    let seed = countersign_keys::Seed::from_random([9; 32]).unwrap();
    let mut broker =
        Peer::connect(fleet.broker.port(), Some(&accounts::user(&account, "enrolment", seed.as_str(), &[">"], &[">"])));
    broker.subscribe("cs.demo.enrolment.request.*");

    let worker = Worker::new(&fleet, "worker");
    let enrolling = worker.spawn(&fleet, &["enroll", "--timeout", "100s"], &text);
    let request = broker.message();
    assert_eq!(request.subject, subject::enrolment_request(&token.realm, &token.id).as_str());
    assert!(!String::from_utf8_lossy(&request.body).contains(&*token.seed));
    let payload: Value = serde_json::from_slice(&request.body).unwrap();
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload["payload"].as_str().unwrap().as_bytes()).unwrap();
    let asked: Value = serde_json::from_slice(&payload).unwrap();
    let jwk = serde_json::from_value(asked["jwk"].clone()).unwrap();
    let kid = countersign_protocol::key::PublicKey::try_from(&jwk).unwrap().thumbprint();
    let hears = subject::enrolment_answer(&token.realm, &token.id, &kid);
    // It says no, and yes, by an issuer of its own, for this request and for another; and repeats the request as the answer.
    let (root, own) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
    let body = TrustBody {
        v: Version,
        realm: name("demo"),
        version: 9,
        expires_at: clock::wall().plus(1_000_000),
        roots: vec![root.public().jwk()],
        threshold: 1,
        issuers: vec![Issuer { name: name("issuer"), jwk: own.public().jwk() }],
        revoked: Vec::new(),
    };
    let trust = Trust::verify(&Trust::sign(&body, &[&root]), root.public().thumbprint()).unwrap();
    let denied = EnrolmentError { code: EnrolmentCode::Denied, message: "no".to_owned() };
    for outcome in [Err(denied), Ok(("a.b.c".to_owned(), "a.b.c".to_owned()))] {
        for digest in [Digest::of(&request.body), Digest::of(b"another")] {
            let by = (&name("issuer"), &own);
            let answer = EnrolmentAnswer::sign(digest, &trust, by, outcome.clone(), clock::wall());
            broker.publish(&hears, None, None, &answer);
        }
    }
    broker.publish(&hears, None, None, &request.body);
    broker.publish(&hears, None, None, b"\xff");
    broker.flush();
    // A request that it has seen enrols nobody but whoever has those keys: it is sent again, first of all.
    let mut issuer = issuer(&fleet);
    broker.publish(&request.subject, Some(&hears), None, &request.body);
    issuer.stderr.wait_for("enrolled worker-7 with the key ");
    enrolling.wait().exits(0);
    let client = worker.client(&fleet, "worker-7");
    client.printed();
}

#[test]
fn a_name_that_lives_is_replaced_only_on_request_and_the_old_self_loses_the_broker_at_once() {
    let fleet = Fleet::new();
    let issuer = issuer(&fleet);
    let mut old = fleet.client("worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    let creds = fleet.path().join("old.creds");
    fs::copy(fleet.keys().creds(Role::Client, &name("worker-1")), &creds).unwrap();
    assert!(is_let_in(&fleet, &creds));
    let text = token(&fleet, &["worker-1", "--replace"]);
    // It can ask for no renewal, whoever restarts it.
    assert!(!is_let_in(&fleet, &creds));
    // Its connection is closed, and what it would sign is revoked.
    old.stderr.wait_for("not connected");
    let listed = fleet.run(&["credential", "list", "-o", "json"]).exits(0).json();
    let standing = listed["members"].as_array().unwrap().iter().find(|it| it["name"] == "worker-1").unwrap();
    assert_eq!(standing["state"], "revoked", "{listed:#}");
    let worker = Worker::new(&fleet, "worker");
    worker.run(&fleet, &["enroll"], &text).exits(0);
    let new = worker.client(&fleet, "worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    fleet.run(&["ping", "worker-1"]).exits(0);
    new.printed();
    old.kill();
    drop(issuer);
}

#[test]
fn a_replacement_that_did_not_reach_the_broker_is_completed_before_anybody_has_the_name() {
    let fleet = Fleet::new();
    let mut old = fleet.client("worker-1");
    let away = "nats://127.0.0.1:1";
    let unheard = fleet.run(&["enroll", "token", "worker-1", "--replace", "--nats-url", away]);
    refused(unheard, 4, "is in this folder only", "countersign trust publish", "");
    refused(fleet.run(&["enroll", "token", "worker-1"]), 2, "can still log in to the broker", "trust publish", "");
    token(&fleet, &["worker-1", "--replace"]);
    old.stderr.wait_for("not connected");
    old.kill();
}

#[test]
fn without_a_token_of_its_own_a_worker_waits_for_a_person_who_compares_the_thumbprint() {
    let fleet = Fleet::new();
    let mut issuer = issuer(&fleet);
    let text = token(&fleet, &["--ask", "--valid", "7d"]);
    let worker = Worker::new(&fleet, "worker");
    refused(worker.run(&fleet, &["enroll"], &text), 2, "names no client", "--name NAME", &text);
    let enroll = ["enroll", "--name", "worker-7", "--group", "web"];
    let pending = worker.run(&fleet, &[&enroll[..], &["--timeout", "1s"]].concat(), &text);
    refused(pending, 6, "nobody has decided on worker-7", "run this again", &text);
    let mut waiting = worker.spawn(&fleet, &[&enroll[..], &["--timeout", "100s"]].concat(), &text);
    let told = waiting.stderr.wait_for("a person has to approve worker-7 with the key ");
    issuer.stderr.wait_for("worker-7 asks with the key ");
    let listed = fleet.run(&["enroll", "list", "-o", "json"]).exits(0).json();
    let [request] = &listed["requests"].as_array().unwrap()[..] else { panic!("{listed:#}") };
    let kid = request["thumbprint"].as_str().unwrap();
    assert!(
        told.contains(kid) && request["groups"][0] == "web" && request["decision"] == "pending",
        "{told} {listed:#}"
    );
    let other = "3x7xpsb2u5qO4-MQfUunN7SNoUDj3VfgfBgIbgs4I8U";
    refused(fleet.run(&["enroll", "approve", "worker-7", other]), 2, "nobody with the key", "compare", "");
    fleet.run(&["enroll", "approve", "worker-7", kid]).exits(0);
    waiting.wait().exits(0);
    let second = Worker::new(&fleet, "second");
    let mut denied = second.spawn(&fleet, &["enroll", "--name", "worker-8", "--timeout", "100s"], &text);
    denied.stderr.wait_for("a person has to approve worker-8");
    fleet.run(&["enroll", "deny", "worker-8"]).exits(0);
    refused(denied.wait(), 5, "a person has denied it", "ask whoever runs the realm", &text);
}

#[test]
fn without_a_bus_a_request_is_carried_signed_and_accepted_whatever_an_editor_did_to_its_ends() {
    let fleet = Fleet::without_stream(&["worker-1"]);
    let worker = Worker::new(&fleet, "worker");
    let request = worker.run(&fleet, &["enroll", "request", "worker-7", "--group", "web"], "").exits(0);
    assert_eq!(
        worker.run(&fleet, &["enroll", "request", "worker-7", "--group", "web"], "").exits(0).stdout,
        request.stdout
    );
    let kid = request.stderr.split("thumbprint ").nth(1).unwrap().split(':').next().unwrap();
    fs::write(fleet.path().join("request.json"), format!("\u{feff}{}\r\n", request.stdout.trim_end())).unwrap();
    let other = "3x7xpsb2u5qO4-MQfUunN7SNoUDj3VfgfBgIbgs4I8U";
    let wrong = fleet.run(&["enroll", "sign", "request.json", "--kid", other]);
    refused(wrong, 5, &format!("was signed by the key {kid}"), "fetch the request again", "");
    let signed = fleet.run(&["enroll", "sign", "request.json", "--kid", kid]).exits(0);
    worker.write("answer.json", &format!("\u{feff}{}\r\n", signed.stdout.trim_end()), 0o644);
    let accept =
        |arguments: &[&str]| worker.run(&fleet, &[&["enroll", "accept", "answer.json"], arguments].concat(), "");
    refused(accept(&[]), 2, "nothing says which root to believe", "--pin THUMBPRINT", "");
    refused(accept(&["--pin", other]), 5, "is not believed", "compare --pin", "");
    let pin = fs::read_to_string(fleet.keys().pin()).unwrap();
    accept(&["--pin", pin.trim(), "-o", "json"]).exits(0);
    let client = worker.client(&fleet, "worker-7");
    client.printed();
    refused(accept(&["--pin", pin.trim()]), 5, "answers no request", "carry the request", "");
    refused(fleet.run(&["enroll", "sign", "nats.conf"]), 5, "no request for enrolment", "fetch it again", "");
}
