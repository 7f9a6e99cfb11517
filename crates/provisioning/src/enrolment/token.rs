//! Making a token.

use std::fs;

use countersign_host::clock;
use countersign_keys::{KeyFolder, Seed};
use countersign_protocol::credential::Role;
use countersign_protocol::enrolment::{Token, TokenClient};
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::{MAX_CA, MAX_TOKEN};
use countersign_protocol::name::{Name, TokenId};
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;
use zeroize::Zeroizing;

use super::ENROLL;
use super::issue::{default_life, refuse_standing_login, rehearse};
use super::record::{OpenRecord, Records, TokenRecord, all, write};
use crate::error::ProvisionError;
use crate::members::issuer_of;
use crate::nats::{Accounts, User, UserRole};
use crate::no_randomness;
use crate::standing::{Standing, listed};
use crate::terms::sorted;

/// For how long after its token's end its user of the broker may still ask, in milliseconds: whoever was cut off asks again, and who
/// comes too late is told so.
pub(super) const GRACE: i64 = 3_600_000;

/// What a token is for.
#[derive(Debug, Clone)]
pub struct TokenTerms {
    /// The client and its groups; `None` where whoever has the token may ask, and a person decides.
    pub client: Option<(Name, Vec<Name>)>,
    /// For how long it can be used, in milliseconds.
    pub valid_ms: i64,
    /// How long the credential will hold, in milliseconds, by default 90 days.
    pub life_ms: Option<i64>,
}

/// Where the broker is.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Its URL.
    pub url: String,
    /// The text of the file of its authority's certificates.
    pub ca: Option<String>,
}

/// Makes a token, and remembers its public part. One for the same client that was made before is worth nothing from then on.
pub fn make_token(
    folder: &KeyFolder,
    trust: &Trust,
    terms: &TokenTerms,
    broker: &Broker,
    now: Millis,
) -> Result<Token, ProvisionError> {
    issuer_of(folder, trust, ENROLL)?;
    let accounts = Accounts::open(folder, ENROLL)?;
    accounts.expect_authority()?;
    let ca = broker.ca.as_deref().map(certificates).transpose()?;
    let id = TokenId::from_random(clock::random().map_err(no_randomness)?);
    let expires_at = now.plus(terms.valid_ms);
    let client = match &terms.client {
        Some((name, groups)) => {
            let groups = sorted(groups);
            refuse_living(folder, trust, name, now)?;
            // What does not fit is refused here, and not on the worker.
            rehearse(&accounts, trust, folder, name, &groups, terms.life_ms.unwrap_or_else(default_life), now)?;
            let secret = Zeroizing::new(clock::random().map_err(no_randomness)?);
            Some(TokenClient { name: name.clone(), groups, secret })
        }
        None => None,
    };
    let seed = Seed::from_random(clock::random().map_err(no_randomness)?);
    let seed = seed.ok_or_else(|| no_randomness("no connection key came of it"))?;
    let key = seed.public_key().ok_or_else(|| no_randomness("no connection key came of it"))?;
    let exp = expires_at.plus(GRACE).seconds();
    let user = User { role: UserRole::Enrolment, name: Name::from(&id), groups: Vec::new(), key, exp };
    let user_jwt = accounts.jwt(&user, None, now)?;
    let token = Token {
        id: id.clone(),
        realm: trust.realm().clone(),
        root: trust.pin(),
        expires_at,
        client,
        broker: broker.url.clone(),
        ca,
        user_jwt,
        seed: Zeroizing::new(seed.as_str().to_owned()),
    };
    if token.to_text().len() > MAX_TOKEN {
        return Err(ProvisionError::request("the token would be too long")
            .expecting(format!("{MAX_TOKEN} characters at most"))
            .hinting("name fewer groups"));
    }
    let records = Records::of(folder);
    forget_old(&records, now);
    match &token.client {
        Some(client) => write(&records.token(&client.name), &record(&token, client, terms.life_ms))?,
        None => write(&records.open(&id), &OpenRecord { id, expires_at })?,
    }
    Ok(token)
}

fn record(token: &Token, client: &TokenClient, life_ms: Option<i64>) -> TokenRecord {
    TokenRecord {
        id: token.id.clone(),
        name: client.name.clone(),
        groups: client.groups.clone(),
        key: SecretKey::public(&client.key()).jwk(),
        expires_at: token.expires_at,
        life_ms,
        spent: None,
    }
}

/// A name that a living credential has is not given to other keys.
fn refuse_living(folder: &KeyFolder, trust: &Trust, name: &Name, now: Millis) -> Result<(), ProvisionError> {
    let standing = listed(folder, trust, Role::Client, name.clone(), now).standing;
    match &standing {
        Standing::InForce | Standing::EndsSoon | Standing::NotYetValid => {
            Err(ProvisionError::request(format!("the client {name} has a living credential"))
                .expecting("a name that nobody has, or whose credential has expired or is revoked")
                .hinting("`--replace` revokes its keys at once; or choose another name"))
        }
        Standing::Expired | Standing::Revoked | Standing::Unusable(_) => {
            refuse_standing_login(folder, name, &standing, now)
        }
    }
}

/// Removes what can be of no use any more, so that the folder does not grow by what was never used.
fn forget_old(records: &Records, now: Millis) {
    let ended = |expires_at: Millis| now.since(expires_at) > GRACE;
    let tokens = all::<TokenRecord>(&records.tokens_folder()).into_iter();
    let tokens = tokens.filter(|(_, record)| ended(record.expires_at)).map(|(path, _)| path);
    let open = all::<OpenRecord>(&records.open_folder()).into_iter();
    let open = open.filter(|(_, record)| ended(record.expires_at)).map(|(path, _)| path);
    for path in tokens.chain(open) {
        // It is of no use, and in nobody's way.
        let _ = fs::remove_file(path);
    }
}

/// The certificates in a text, without what else is in it: a key that lies in the same file is not passed on.
fn certificates(text: &str) -> Result<String, ProvisionError> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut found = String::new();
    for block in text.split(BEGIN).skip(1) {
        let Some((base64, _)) = block.split_once(END) else { continue };
        let base64: String =
            base64.lines().map(str::trim).filter(|it| !it.is_empty()).flat_map(|it| [it, "\n"]).collect();
        found.extend([BEGIN, "\n", &base64, END, "\n"]);
    }
    if found.is_empty() || found.len() > MAX_CA {
        return Err(ProvisionError::request(format!("the file of --tls-ca has {} bytes of certificates", found.len()))
            .expecting(format!("certificates in PEM, {MAX_CA} bytes at most"))
            .hinting("name a file with the certificate of the broker's authority alone"));
    }
    Ok(found)
}
