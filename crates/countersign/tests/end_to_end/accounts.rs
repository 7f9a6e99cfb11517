//! The broker's accounts: who is let in, without a word to the broker, and who is put out.

use std::fs;
use std::path::Path;

use countersign_keys::{Login, UserJwt};
use countersign_link::{BrokerAccess, Link, LinkConfig, LinkError, MAX_WAITING, update_account};
use countersign_protocol::credential::Role;
use countersign_protocol::time::Millis;
use countersign_provisioning::AccountKeeper;
use countersign_testkit::realm::name;
use tokio::runtime::Runtime;

use crate::fleet::Fleet;

/// Has the broker take the realm's account with these keys revoked, and confirm that it has.
fn revoke(fleet: &Fleet, keys: &[String], at: i64) {
    let keeper = AccountKeeper::open(&fleet.keys()).unwrap();
    let (url, login) = (fleet.broker.url(), Login::read(&fleet.keys().accounts_creds()).unwrap());
    let access = BrokerAccess { broker: url.into(), login, inbox_prefix: "_INBOX.accounts" };
    let change = |present: &str| keeper.revoke(present, keys, Millis::from_seconds(at));
    Runtime::new().unwrap().block_on(update_account(access, &keeper.realm_account(), change)).unwrap();
}

/// Whether the broker lets somebody in.
fn is_let_in(fleet: &Fleet, creds: &Path) -> bool {
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
    let (key, issued) = (user().key().to_owned(), user().issued_at());
    let mut other = fleet.peer(&fleet.keys().creds(Role::Operator, &name("alice")));
    assert!(is_let_in(&fleet, &creds));
    revoke(&fleet, &[key], issued);
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
