//! What the JWTs of the authority and of its accounts state (section 10).
//!
//! Nobody in the realm's account has a right on the store, which is in another: the realm exports to it what is stored, and
//! imports three of its questions. The broker does not start JetStream without a system account.

use countersign_protocol::name::Name;
use countersign_protocol::subject;
use serde_json::{Value, json};

use super::authority::{Account, Authority};
use super::jwt::Claims;
use super::user::UserRole;

/// The streams that the store may have: presences and trust.
const STREAMS: u8 = 2;

/// What the authority states about itself: who it is, and which account is the broker's own.
pub(super) fn authority_claims(realm: &Name, authority: &Authority) -> Claims {
    claims(
        format!("cs-{realm}"),
        authority.signs_accounts().public_key(),
        json!({ "system_account": authority.id(Account::System), "type": "operator", "version": 2 }),
    )
}

/// What it states about an account.
pub(super) fn account_claims(account: Account, realm: &Name, authority: &Authority) -> Claims {
    let roles = UserRole::ALL.into_iter().filter(|role| role.account() == account);
    let scopes: Vec<Value> = roles.map(|role| role.scope(realm, authority)).collect();
    let mut limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
    });
    let [presence, bundles] = [subject::every_presence(realm), subject::every_trust_bundle(realm)];
    let stored = [("presence", &presence), ("trust", &bundles)];
    let requests = [
        ("roster page", format!("$JS.API.DIRECT.GET.{}", subject::presence_stream(realm)), subject::roster_page(realm)),
        (
            "roster message",
            format!("$JS.API.STREAM.MSG.GET.{}", subject::presence_stream(realm)),
            subject::roster_message(realm),
        ),
        ("trust", format!("$JS.API.STREAM.MSG.GET.{}", subject::trust_stream(realm)), subject::trust_get(realm)),
    ];
    let id = |account| authority.id(account);
    let (name, exports, imports) = match account {
        Account::System => (format!("cs-{realm}-system"), Vec::new(), Vec::new()),
        Account::Realm => (
            format!("cs-{realm}"),
            stored.map(|(name, subject)| json!({ "name": name, "subject": subject, "type": "stream" })).to_vec(),
            requests
                .map(|(name, subject, local)| {
                    json!({
                        "name": name, "subject": subject, "account": id(Account::Store), "local_subject": local,
                        "type": "service",
                    })
                })
                .to_vec(),
        ),
        Account::Store => {
            let room = json!({ "mem_storage": 0, "disk_storage": -1, "streams": STREAMS, "consumer": -1 });
            if let (Value::Object(limits), Value::Object(room)) = (&mut limits, room) {
                limits.extend(room);
            }
            (
                format!("cs-{realm}-store"),
                requests
                    .map(|(name, subject, _)| {
                        // A page is many messages.
                        let kind = if subject.contains("DIRECT") { "Stream" } else { "Singleton" };
                        json!({ "name": name, "subject": subject, "type": "service", "response_type": kind })
                    })
                    .to_vec(),
                stored
                    .map(|(name, subject)| {
                        json!({ "name": name, "subject": subject, "account": id(Account::Realm), "type": "stream" })
                    })
                    .to_vec(),
            )
        }
    };
    claims(
        name,
        id(account),
        json!({
            "imports": imports, "exports": exports, "limits": limits, "signing_keys": scopes, "type": "account",
            "version": 2,
        }),
    )
}

fn claims(name: String, subject: String, nats: Value) -> Claims {
    let mut claims = Claims::new();
    claims.insert("name".to_owned(), name.into());
    claims.insert("sub".to_owned(), subject.into());
    claims.insert("nats".to_owned(), nats);
    claims
}
