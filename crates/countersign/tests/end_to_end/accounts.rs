//! The broker's accounts: who is let in, without a word to the broker, and who is put out.

use std::fs;
use std::path::Path;

use countersign_keys::{Login, UserJwt};
use countersign_link::{BrokerAccess, Link, LinkConfig, LinkError, MAX_WAITING, update_account};
use countersign_protocol::credential::Role;
use countersign_protocol::time::Millis;
use countersign_provisioning::AccountKeeper;
use countersign_testkit::realm::name;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::fleet::Fleet;

/// Has the broker take the realm's account with this login revoked, and confirm that it has.
fn revoke(fleet: &Fleet, user: &UserJwt) {
    let keeper = AccountKeeper::open(&fleet.keys()).unwrap();
    let (url, login) = (fleet.broker.url(), Login::read(&fleet.keys().accounts_creds()).unwrap());
    let access = BrokerAccess { broker: url.into(), login, inbox_prefix: "_INBOX.accounts" };
    let change = |present: &str| keeper.revoke(present, [user], Millis::from_seconds(user.issued_at()));
    Runtime::new().unwrap().block_on(update_account(access, &keeper.realm_account(), change)).unwrap();
}

/// Whether the broker lets somebody in.
pub fn is_let_in(fleet: &Fleet, creds: &Path) -> bool {
    let config = LinkConfig {
        broker: fleet.broker.url().into(),
        name: "test".to_owned(),
        login: Login::read(creds).unwrap(),
        inbox_prefix: "_INBOX.test".to_owned(),
        subscriptions: Vec::new(),
        max_waiting: MAX_WAITING,
        wait: false,
    };
    match Runtime::new().unwrap().block_on(Link::connect(config)) {
        Ok(_) => true,
        Err(LinkError::Refused { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_client_that_is_added_while_the_broker_runs_connects_and_nothing_of_the_brokers_changes() {
    let fleet = Fleet::new();
    let before = fs::read(fleet.keys().accounts()).unwrap();
    fleet.run(&["credential", "issue", "client", "worker-2", "--group", "web"]).exits(0);
    fleet.run(&["init", "--client", "worker-3"]).exits(0);
    let _workers = ["worker-2", "worker-3"].map(|client| fleet.client(client));
    fleet.run(&["start", "worker-2", "worker-3"]).exits(0);
    fleet.run(&["ping", "@web"]).exits(0);
    assert_eq!(fs::read(fleet.keys().accounts()).unwrap(), before);
    assert!(!fleet.broker.log().contains("Reloaded"));
}

#[test]
fn a_revoked_key_is_put_out_at_once_and_stays_out_and_its_client_comes_back_with_a_renewed_login_without_a_restart() {
    let (mut fleet, mut worker) = Fleet::ready();
    let accounts = fs::read(fleet.keys().accounts()).unwrap();
    let (creds, jwt) = {
        let (keys, worker) = (fleet.keys(), name("worker-1"));
        (keys.creds(Role::Client, &worker), keys.user_jwt(Role::Client, &worker))
    };
    let user = || UserJwt::parse(&fs::read_to_string(&jwt).unwrap()).unwrap();
    let issued = user().issued_at();
    let mut other = fleet.peer(&fleet.keys().creds(Role::Operator, &name("alice")));
    assert!(is_let_in(&fleet, &creds));
    revoke(&fleet, &user());
    worker.stderr.wait_for("refuses us");
    other.flush();
    assert_eq!(other.errors(), [""; 0], "nobody else is put out");
    assert!(!is_let_in(&fleet, &creds));

    // The file that it starts with does not know of it.
    fleet.broker.stop();
    fleet.broker.restart();
    assert_eq!(fs::read(fleet.keys().accounts()).unwrap(), accounts);
    assert!(!is_let_in(&fleet, &creds), "the broker keeps it in its store");

    // What is issued to the key later is taken; a revocation is until a second.
    while user().issued_at() <= issued {
        fleet.run(&["credential", "renew", "client", "worker-1"]).exits(0);
    }
    fleet.run(&["ping", "worker-1", "--retry"]).exits(0);
}

#[test]
fn who_is_revoked_is_put_out_by_the_broker_and_not_let_in_again_after_it_was_restarted_without_its_store() {
    let mut fleet = Fleet::new();
    fleet.run(&["credential", "issue", "operator", "bob"]).exits(0);
    let creds = ["alice", "bob"].map(|operator| fleet.keys().creds(Role::Operator, &name(operator)));
    let [alice, mut bob] = creds.each_ref().map(|creds| fleet.peer(creds));
    let revoked = fleet.run(&["revoke", "alice", "-o", "json"]).exits(0).json();
    assert_eq!(revoked["logins"], json!({ "refused": ["operator alice"] }));
    alice.wait_for_end();
    bob.flush();
    assert!(!is_let_in(&fleet, &creds[0]) && is_let_in(&fleet, &creds[1]));

    // It is confirmed again, and changes nothing.
    let accounts = fs::read(fleet.keys().accounts()).unwrap();
    let again = fleet.run(&["revoke", "alice", "-o", "json"]).exits(0).json();
    assert_eq!((&again["logins"], &again["files"]), (&revoked["logins"], &json!([])));
    assert_eq!(fs::read(fleet.keys().accounts()).unwrap(), accounts);

    fleet.broker.stop();
    fs::remove_dir_all(fleet.broker.accounts_store()).unwrap();
    fleet.broker.restart();
    assert!(!is_let_in(&fleet, &creds[0]) && is_let_in(&fleet, &creds[1]));
}

#[test]
fn without_the_keys_of_the_accounts_a_revocation_is_published_and_what_is_missing_for_the_broker_is_said() {
    let fleet = Fleet::new();
    let (authority, away) = (fleet.keys().authority(), fleet.path().join("authority.nk"));
    fs::rename(&authority, &away).unwrap();
    let ran = fleet.run(&["revoke", "alice"]).exits(5);
    assert!(ran.stdout.contains("version 2 of the trust bundle is published"), "{ran:#?}");
    assert!(ran.stderr.contains("authority.nk is missing") && ran.stderr.lines().count() == 3, "{ran:#?}");
    let alice = fleet.keys().creds(Role::Operator, &name("alice"));
    assert!(is_let_in(&fleet, &alice));
    fs::rename(&away, &authority).unwrap();
    let ran = fleet.run(&["trust", "publish"]).exits(0);
    assert!(ran.stdout.ends_with("the broker refuses the logins of what is revoked: operator alice\n"), "{ran:#?}");
    assert!(!is_let_in(&fleet, &alice));
}
