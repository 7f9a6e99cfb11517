//! What runs for weeks outlives what it began with: the issuer, `watch` and the prompt, by what is renewed meanwhile.

use std::fs;
use std::path::Path;

use countersign_host::clock;
use countersign_keys::{Login, load_trust, read_key};
use countersign_protocol::credential::Role;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Trust, TrustBody};
use countersign_testkit::accounts;

use crate::fleet::Fleet;
use crate::issuer::{age, issuer};
use crate::process::{Process, Signal};
use crate::prompt::prompt_at;
use crate::watch::watching;

const DAY: i64 = 86_400;

/// Gives a user who is no member a login that is almost over, with so many seconds left.
fn age_login(fleet: &Fleet, user: &str, creds: &Path, left: i64) {
    let (text, now) = (fs::read_to_string(creds).unwrap(), clock::wall().seconds());
    let old = accounts::jwt_in(&text).unwrap();
    let mut claims = accounts::claims(old);
    claims["iat"] = (now - 300 * DAY).into();
    claims["exp"] = (now + left).into();
    let signer = accounts::key(&fs::read_to_string(fleet.keys().authority()).unwrap(), &format!("signs-{user}"));
    let aged = accounts::signed(claims, &signer);
    fs::write(creds, text.replace(old, &aged)).unwrap();
    fs::write(creds.with_extension("jwt"), aged).unwrap();
}

/// Gives the folder a first trust bundle that has so many days left.
fn age_trust(fleet: &Fleet, days: i64) {
    let folder = fleet.keys();
    let root = read_key(&folder.root_key()).unwrap();
    let expires_at = Millis::from_seconds(clock::wall().seconds() + days * DAY);
    let body = TrustBody { expires_at, ..load_trust(&folder).unwrap().body().clone() };
    fs::write(folder.trust(), Trust::sign(&body, &[&root])).unwrap();
}

#[test]
fn an_issuer_renews_the_trust_bundle_for_everybody_and_its_own_login_which_it_uses_when_the_old_one_ends() {
    let fleet = Fleet::new();
    age_trust(&fleet, 100);
    let _worker = fleet.client("worker-1");
    let watch = watching(&fleet, &[]);
    let creds = fleet.keys().issuer_creds();
    age_login(&fleet, "issuer", &creds, 4);
    let before = accounts::claims(Login::read(&creds).unwrap().jwt());
    let mut issuer = issuer(&fleet);
    issuer.stderr.wait_for("published version 2 of the trust bundle");
    fleet.presence_that("worker-1", "trust 2", |body| body["data"]["trust"]["version"] == 2);
    assert!(load_trust(&fleet.keys()).unwrap().expires_at() > clock::wall().plus(300 * DAY * 1_000));
    let after = accounts::claims(Login::read(&creds).unwrap().jwt());
    assert!(after["exp"].as_i64() > before["exp"].as_i64().map(|exp| exp + 100 * DAY), "{before} {after}");
    issuer.stderr.wait_for("not connected: what it logged in with has ended");
    issuer.stderr.wait_for(" connected");
    // It still receives what members ask.
    age(&fleet, Role::Client, "worker-1", 864_000, 500_000);
    let token = fleet.run(&["enroll", "token", "worker-2", "-o", "json"]).exits(0).json();
    let mut worker = fleet.command(&["enroll", "--timeout", "30s"]);
    fs::create_dir(fleet.path().join("elsewhere")).unwrap();
    worker.current_dir(fleet.path().join("elsewhere"));
    Process::spawn_with(worker, token["token"].as_str().unwrap()).wait().exits(0);
    issuer.stderr.wait_for("enrolled worker-2");
    drop(watch);
}

#[test]
fn a_renewed_trust_bundle_that_could_not_be_published_is_published_once_the_broker_stores_it() {
    let mut fleet = Fleet::without_stream(&["worker-1"]);
    age_trust(&fleet, 100);
    let mut worker = fleet.spawn(&["client", "--name", "worker-1"]);
    let mut first = issuer(&fleet);
    first.stderr.wait_for("version 2 of the trust bundle is not published");
    first.kill();
    // The next one finds that it is in the folder, and may not be at the broker.
    let mut next = issuer(&fleet);
    next.stderr.wait_for("version 2 of the trust bundle is not published");
    fleet.run(&["setup"]).exits(0);
    fleet.broker.stop();
    fleet.broker.restart();
    next.stderr.wait_for("published version 2 of the trust bundle");
    worker.stderr.wait_for("version 2 of the trust bundle is in force");
}

#[test]
fn an_issuer_reports_its_health_while_it_is_connected_and_ends_with_0_on_either_signal() {
    let mut fleet = Fleet::new();
    for signal in [Signal::INT, Signal::TERM] {
        let mut issuer = fleet.spawn(&["issuer", "--health", "health"]);
        issuer.stderr.wait_for(" connected");
        // The report is written right after the line.
        issuer_is(&fleet, 0);
        fleet.broker.stop();
        issuer.stderr.wait_for("not connected");
        issuer_is(&fleet, 1);
        fleet.broker.restart();
        issuer.stderr.wait_for(" connected");
        issuer_is(&fleet, 0);
        issuer.signal(signal);
        issuer.wait().exits(0);
        fleet.run(&["health", "--health", "health"]).exits(1);
    }
}

/// Waits until the health report leads to an exit status.
fn issuer_is(fleet: &Fleet, status: i32) {
    let health = || fleet.run(&["health", "--health", "health"]).code;
    while health() != Some(status) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn watch_is_back_with_a_login_that_was_renewed_while_it_ran() {
    let fleet = Fleet::new();
    age_login(&fleet, "observer", &fleet.keys().observer_creds(), 6);
    let mut watch = watching(&fleet, &[]);
    fleet.run(&["init"]).exits(0);
    watch.stderr.wait_for("the connection to the broker is lost; connecting again: what it logged in with has ended");
    watch.stderr.wait_for("connected again");
    let _worker = fleet.client("worker-1");
    watch.stdout.wait_for("worker-1 → everyone       unready");
}

#[test]
fn a_prompt_outlives_the_credential_that_it_began_with() {
    let (fleet, _worker) = Fleet::ready();
    let _issuer = issuer(&fleet);
    let first = age(&fleet, Role::Operator, "alice", 12, 0);
    fleet.run(&["init"]).exits(0);
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.wait_for("the credential of alice is renewed until");
    person.wait_for("what it logged in with has ended");
    person.wait_for("the connection to the broker is back");
    assert!(clock::wall() >= first.expires_at().plus(-2_000));
    person.wait_for("the credential of alice is renewed until");
    while clock::wall() < first.expires_at().plus(1_000) {
        person.line("ping");
        person.wait_for("worker-1: it is ");
    }
    person.line("ping");
    person.wait_for("worker-1: it is ");
}

#[test]
fn the_doctor_finds_the_client_whose_credential_ends_soon_and_then_that_it_has_ended() {
    let fleet = Fleet::new();
    let end = age(&fleet, Role::Client, "worker-1", 864_000, 863_980).expires_at();
    let _worker = fleet.client("worker-1");
    let says = |what: &str| {
        let found = fleet.run(&["doctor", "-o", "json"]).json();
        let finding = found["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["check"] == "clients" && it["what"].as_str().is_some_and(|it| it.starts_with(what)))?;
        assert_eq!(finding["try"], "countersign credential renew client worker-1");
        Some((finding["level"].as_str()?.to_owned(), found["status"].clone()))
    };
    assert_eq!(says("has a credential that ends soon: worker-1, on ").unwrap().0, "warning");
    let ended = loop {
        if let Some(ended) = says("has an expired credential: worker-1, on ") {
            break ended;
        }
        assert!(clock::wall() < end.plus(120_000), "it has ended");
    };
    assert_eq!(ended, ("broken".to_owned(), "broken".into()));
}
