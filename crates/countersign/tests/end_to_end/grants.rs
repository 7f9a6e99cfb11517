//! What `credential issue` and `credential renew` grant, at the clients that check it.

use std::fs;

use crate::fleet::Fleet;
use crate::groups::{settled, verdicts};
use crate::process::Ran;

/// The code with which a client refused.
#[track_caller]
fn code(ran: &Ran, client: &str) -> String {
    ran.of(client)["error"]["code"].as_str().unwrap_or_else(|| panic!("{ran:#?}")).to_owned()
}

#[test]
fn an_operator_with_a_narrow_grant_can_do_what_it_says_and_is_forbidden_the_rest_until_it_is_widened() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2:db"]);
    let issue = ["credential", "issue", "operator", "bob", "--command", "ping", "--target", "@web", "--ttl", "10s"];
    fleet.run(&issue).exits(0);
    let _workers = ["worker-1", "worker-2"].map(|client| settled(&fleet, client));
    fleet.run(&["start", "@all", "--as", "alice"]).exits(0);
    let as_bob = |words: &[&str]| fleet.run(&[words, &["--as", "bob", "-o", "json"]].concat());

    assert_eq!(verdicts(&as_bob(&["ping", "@web"]).exits(0)), ["worker-1 succeeded"]);
    assert_eq!(code(&as_bob(&["stop", "worker-1"]).exits(1), "worker-1"), "forbidden");
    assert_eq!(code(&as_bob(&["ping", "worker-2"]).exits(1), "worker-2"), "forbidden");
    as_bob(&["ping", "worker-1", "--ttl", "11s"]).exits(2);

    let narrow = fs::read(fleet.keys().path().join("operators/bob.jwt")).unwrap();
    fleet.run(&["credential", "renew", "operator", "bob", "--command", "ping", "--command", "stop"]).exits(0);
    assert_ne!(fs::read(fleet.keys().path().join("operators/bob.jwt")).unwrap(), narrow);
    as_bob(&["stop", "worker-1"]).exits(0);
    assert_eq!(code(&as_bob(&["stop", "worker-2"]).exits(1), "worker-2"), "forbidden");
}
