//! What is known of a client whose credential has expired (section 6): its name, and never more than that.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use countersign_protocol::command::Command;
use countersign_protocol::credential::Claims;
use countersign_protocol::envelope::{Identity, MessageType, Reason, Rejected, Signed, Verifier};
use countersign_protocol::event::Event;
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::{Reply, State};
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Revoked, TrustBody};

use common::*;

const EXPIRED: Millis = NOW.plus(100_000 + SKEW);

fn sign(typ: MessageType, subject: &str, body: &serde_json::Value) -> Signed {
    worker().sign(typ, subject.to_owned(), body.to_string().into_bytes())
}

fn signed_event() -> Signed {
    sign(MessageType::Event, EVENT, &event())
}

fn rejected(verifier: &Verifier, message: &Signed, now: Millis) -> Rejected {
    let rejected = verifier.open::<Event>(&message.delivery(), now).unwrap_err();
    assert_eq!(rejected.reason, Reason::Credential);
    rejected
}

#[test]
fn what_a_client_signed_under_a_credential_that_has_expired_names_it_and_the_date_and_is_not_authentic() {
    let verifier = verifier();
    let reply = sign(MessageType::Reply, REPLY, &reply());
    let of_reply = verifier.open::<Reply>(&reply.delivery(), EXPIRED).unwrap_err();
    for rejected in [of_reply, rejected(&verifier, &signed_event(), EXPIRED)] {
        assert_eq!((rejected.reason, rejected.signer), (Reason::Credential, Some(name("worker-1"))));
        assert!(rejected.detail.ends_with(&NOW.plus(100_000).utc()), "{}", rejected.detail);
        let expired = rejected.expired.unwrap();
        assert_eq!((expired.client(), expired.groups()), (&name("worker-1"), &[name("web")][..]));
        assert_eq!((expired.expired_at(), expired.issued_at()), (NOW.plus(100_000), NOW));
        assert_eq!(expired.state(), State::Ready);
    }
    assert!(verifier.open::<Event>(&signed_event().delivery(), EXPIRED.plus(-1)).is_ok(), "until the skew is over");
}

#[test]
fn nobody_is_named_where_anything_else_is_wrong_too() {
    let good = signed_event();
    let elsewhere = sign(MessageType::Event, EVENT, &with(event(), serde_json::json!({ "from": "worker-2" })));
    let unfit = sign(MessageType::Event, EVENT, &with(event(), serde_json::json!({ "state": "well" })));
    let forged = Signed { body: b"{}".as_slice().into(), ..good.clone() };
    let misplaced = Signed { subject: EVENT.replace("worker-1", "worker-2"), ..good.clone() };
    let stranger = key(9);
    let raw = countersign_protocol::credential::Credential::issue(&worker_claims(), &stranger);
    let unknown = Signed { credential: raw.into(), ..good.clone() };
    for (message, what) in
        [(elsewhere, "name"), (unfit, "shape"), (forged, "body"), (misplaced, "subject"), (unknown, "issuer")]
    {
        let rejected = rejected(&verifier(), &message, EXPIRED);
        assert_eq!((rejected.signer, rejected.expired), (None, None), "{what}");
    }
    let early = rejected(&verifier(), &good, NOW.plus(-100_001 - SKEW));
    assert_eq!(early.expired, None, "not valid yet");
    for revoked in [
        Revoked::Credential { jti: WORKER.parse().unwrap(), since: NOW },
        Revoked::Key { kid: worker_key().public().thumbprint(), since: NOW },
        Revoked::Key { kid: issuer().public().thumbprint(), since: NOW },
    ] {
        let trust = trust_of(&TrustBody { revoked: vec![revoked], ..trust_body() });
        assert_eq!(rejected(&Verifier::new(trust, SKEW), &good, EXPIRED).expired, None, "revoked");
    }
}

#[test]
fn an_operator_whose_credential_has_expired_is_nobody() {
    let rejected = verifier().open::<Command>(&signed().delivery(), EXPIRED).unwrap_err();
    assert_eq!((rejected.reason, rejected.signer, rejected.expired), (Reason::Credential, None, None));
}

#[test]
fn its_holder_signs_until_the_end_and_is_warned_in_the_last_third() {
    let holder = |nbf, exp| credential_of(&Claims { nbf: NOW_S + nbf, exp: NOW_S + exp, ..worker_claims() });
    let short = holder(-100, 200);
    let is_in_force = |millis: i64| short.credential().is_in_force(NOW.plus(millis), SKEW);
    assert_eq!([-105_001, -105_000, 199_999, 200_000].map(is_in_force), [false, true, true, false]);
    assert_eq!(short.credential().term().warns_at(), NOW.plus(100_000));
    let month = 30 * 86_400;
    assert_eq!(holder(0, month).credential().term().warns_at(), NOW.plus(month * 2 / 3 * 1_000));
}

fn credential_of(claims: &Claims) -> Identity {
    Identity::new(worker_key(), credential(claims)).unwrap()
}
