//! Who signs: members whose credential expires while they run, and two processes that reply as one client.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use countersign_host::clock;
use countersign_keys::read_key;
use countersign_protocol::credential::{Claims, Confirmation, Credential, Role};
use countersign_protocol::id::Uuid;
use countersign_protocol::time::Millis;
use countersign_testkit::broker::TIMEOUT;
use countersign_testkit::realm::{full_grant, name};
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::forge::Forger;
use crate::process::Signal;
use crate::pty::{CTRL_D, Pty};

/// Issues a member a credential that lasts for some seconds from now on. Returns its expiry.
fn credential_for(fleet: &Fleet, role: Role, member: &str, seconds: i64) -> Millis {
    let (keys, member, now) = (fleet.keys(), name(member), clock::wall().seconds());
    let claims = Claims {
        iss: name("issuer"),
        sub: member.clone(),
        jti: Uuid::from_random([u8::try_from(seconds % 251).unwrap(); 16]),
        iat: now,
        nbf: now - 60,
        exp: now + seconds,
        realm: name("demo"),
        role,
        cnf: Confirmation { jwk: read_key(&keys.key(role, &member)).unwrap().public().jwk() },
        grant: (role == Role::Operator).then(full_grant),
        groups: (role == Role::Client).then(|| vec![name("web")]),
    };
    let issuer = read_key(&keys.issuer_key()).unwrap();
    fs::write(keys.credential(role, &member), Credential::issue(&claims, &issuer)).unwrap();
    Millis::from_seconds(claims.exp)
}

/// The entry of a client in the roster.
fn entry(fleet: &Fleet, client: &str) -> Value {
    let clients = fleet.run(&["clients", "-o", "json"]).exits(0).json();
    let entries = clients["clients"].as_array().unwrap();
    entries.iter().find(|entry| entry["client"] == client).unwrap().clone()
}

#[test]
fn a_client_whose_credential_expires_while_it_runs_obeys_nobody_and_is_reported_by_name_and_date() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2:web"]);
    let _other = fleet.client("worker-2");
    let until = credential_for(&fleet, Role::Client, "worker-1", 15);
    let mut worker =
        fleet.client_as("worker-1", fleet.command(&["client", "--name", "worker-1", "--health", "health"]));
    worker.stderr.wait_for(&format!("the credential of worker-1 is not in force (it ends on {})", until.utc()));
    assert_eq!(fleet.event("worker-1", "security")["data"], json!({ "reason": "credential", "count": 1 }));
    fleet.run(&["health", "--health", "health"]).exits(1);

    // Its presence can be verified for the skew, and cannot after that: the report is the same.
    let expired = format!("credential expired on {}", until.utc());
    let missed = |audience: &str| {
        let ran = fleet.run(&["start", audience, "--timeout", "1s"]).exits(3);
        let row = ran.stdout.lines().find(|line| line.starts_with("worker-1 ")).unwrap();
        assert!(row.contains("no_reply") && row.contains(&expired), "{ran:#?}");
        assert!(ran.stdout.contains("1 no_reply, 1 succeeded"), "{ran:#?}");
        ran.stderr
    };
    missed("@all");
    let deadline = Instant::now() + TIMEOUT;
    while entry(&fleet, "worker-1").get("state").is_some() {
        assert!(Instant::now() < deadline, "its presence is still verified");
    }
    for audience in ["@all", "@web"] {
        let stderr = missed(audience);
        assert!(stderr.contains("signed by worker-1") && stderr.contains(&until.utc()), "{stderr}");
    }
    let listed = entry(&fleet, "worker-1");
    assert_eq!(listed, json!({ "client": "worker-1", "expired": true, "credential_expires_at": until }));
    assert!(fleet.run(&["clients"]).exits(0).stdout.contains(&format!("expired on {}", until.utc())));

    // Its own machine stops it, and it can be removed, or come back under another credential.
    worker.signal(Signal::TERM);
    worker.wait().exits(0);
    fleet.run(&["clients", "forget", "worker-1"]).exits(0);
    assert_eq!(entry(&fleet, "worker-1"), json!({ "client": "worker-1" }));
    credential_for(&fleet, Role::Client, "worker-1", 3_600);
    let _worker = fleet.client("worker-1");
    let listed = entry(&fleet, "worker-1");
    assert_eq!((&listed["state"], listed.get("expired")), (&json!("unready"), None), "it has obeyed nobody");
    fleet.run(&["start", "@all"]).exits(0);
}

#[test]
fn a_prompt_sends_no_command_after_the_expiry_of_its_own_credential_and_still_shows_the_roster() {
    let (fleet, _worker) = Fleet::ready();
    let until = credential_for(&fleet, Role::Operator, "alice", 15);
    let mut command = fleet.command(&["server"]);
    command.env("XDG_STATE_HOME", fleet.path().join("xdg"));
    let mut person = Pty::spawn(&command);
    person.wait_for(&format!("the credential of alice ends on {}", until.utc()));
    person.wait_for("worker-1 ready> ");
    while clock::wall() < until {
        thread::sleep(Duration::from_millis(50));
    }
    person.line("ping worker-1");
    person.wait_for(&format!("the credential of alice is not in force: it ends on {}", until.utc()));
    person.wait_for("nothing was sent");
    person.wait_for("worker-1 ready> ");
    person.line("clients");
    person.wait_for("LAST SEEN");
    person.wait_for("worker-1 ready> ");
    person.keys(CTRL_D);
    person.wait();
    fleet.run(&["ping", "worker-1"]).exits(5);
}

#[test]
fn a_one_shot_command_reports_that_two_processes_answer_and_its_verdict_is_from_the_one_that_it_was_for() {
    let (fleet, _original) = Fleet::ready();
    let original = Forger::new(&fleet);
    let epoch = fleet.status("worker-1")["epoch"].clone();
    let mut clone = fleet.command(&["client", "--name", "worker-1"]);
    clone.env("COUNTERSIGN_STATE", fleet.path().join("clone"));
    let _clone = fleet.client_as("worker-1", clone);
    let mut observer = fleet.observer();
    let (operator, id) = loop {
        // The last presence that the broker stores is the original's.
        original.request(&original.command("stop", json!({})));
        original.request(&original.command("start", json!({})));
        observer.so_far();
        let operator = fleet.spawn(&["calculate", "worker-1", "600", "x", "-o", "json"]);
        let sent = observer.wait_for("the command", |it| it.json()["command"]["name"] == "calculate").json();
        if sent["epoch"] == epoch {
            break (operator, sent["id"].as_str().unwrap().to_owned());
        }
        operator.kill();
    };
    // In whichever order they arrive.
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let is_reply = |body: &Value| body["command_id"] == *id && body.get("command_digest").is_some();
        let reply = observer.wait_for("a reply", |it| is_reply(&it.json())).json();
        if reply["status"] != "progress" && !answered.contains(&reply["boot"]) {
            answered.push(reply["boot"].clone());
        }
    }
    original.request(&original.command("cancel", json!({ "command_id": id })));
    let ran = operator.wait().exits(1);
    assert_eq!((ran.verdict("worker-1").as_str(), &ran.of("worker-1")["boots"]), ("cancelled cancelled", &json!(2)));
    assert!(ran.stderr.contains("warning: two processes answer as worker-1"), "{ran:#?}");
}
