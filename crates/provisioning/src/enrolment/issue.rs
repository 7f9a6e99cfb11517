//! A credential for keys that were made elsewhere.

use countersign_host::clock;
use countersign_keys::{Fault, KeyFileError, KeyFolder, Login, UserJwt, read_key, read_public};
use countersign_protocol::credential::{Credential, Role};
use countersign_protocol::enrolment::{EnrolmentCode, EnrolmentError, OpenedRequest};
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::{MAX_CREDENTIAL, SKEW};
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;
use serde_json::Value;

use super::known::KnownKeys;
use super::{ENROLL, refusal, unavailable};
use crate::changes::{Action, ChangeReport};
use crate::error::ProvisionError;
use crate::members::{Holder, issuer_of, sign_credential};
use crate::nats::{Accounts, LoginFiles, User, UserRole, login_stands, read_jwt};
use crate::standing::{Standing, listed};
use crate::terms::Content;
use crate::{DAY, no_randomness, until};

/// How long a client's credential holds unless somebody says otherwise, in milliseconds.
pub(super) fn default_life() -> i64 {
    90 * DAY
}

/// The credential and the JWT of a client that has made its own keys, both on disk: what it has already, or new ones.
pub(super) fn issue(
    folder: &KeyFolder,
    trust: &Trust,
    request: &OpenedRequest,
    (name, groups, life): (&Name, &[Name], i64),
    now: Millis,
) -> Result<(String, String), ProvisionError> {
    let accounts = Accounts::open(folder, ENROLL)?;
    let mut changes = ChangeReport::new(folder.clone(), now);
    remove_old_keys(&mut changes, request, name)?;
    let path = folder.credential(Role::Client, name);
    let present = present(folder, trust, name, now).filter(|present| present.key() == request.key());
    let (credential, raw) = match present {
        Some(present) => (present.clone(), present.raw().to_string()),
        None => {
            let (issuer, key) = issuer_of(folder, trust, ENROLL)?;
            let holder = Holder { role: Role::Client, name, key: request.key() };
            sign_credential((&issuer, &key), &holder, Content::Groups(groups.to_vec()), life, trust, now)?
        }
    };
    let login = LoginFiles::of_member(folder, Role::Client, name)?;
    let (groups, exp) = (credential.groups().to_vec(), credential.expires_at().seconds());
    // Before anything is written: a member with a credential that it cannot connect with is none.
    let connection = request.request().connection_key.as_str().to_owned();
    let jwt = login.prepare(&accounts, connection, groups, exp, &changes)?;
    let text = format!("{raw}\n");
    if !read_public(&path, MAX_CREDENTIAL + 2).is_ok_and(|there| there == text.as_bytes()) {
        changes.write(Action::Made, &path, text.as_bytes(), until(credential.expires_at()))?;
    }
    login.write(&mut changes, &jwt)?;
    Ok((raw, jwt))
}

/// Sees that a client of this name and these groups could be issued what it needs; nothing is written.
pub(super) fn rehearse(
    accounts: &Accounts,
    trust: &Trust,
    folder: &KeyFolder,
    name: &Name,
    groups: &[Name],
    life: i64,
    now: Millis,
) -> Result<(), ProvisionError> {
    let (issuer, key) = issuer_of(folder, trust, ENROLL)?;
    let some_key = SecretKey::from_seed(clock::random().map_err(no_randomness)?);
    let holder = Holder { role: Role::Client, name, key: some_key.public() };
    sign_credential((&issuer, &key), &holder, Content::Groups(groups.to_vec()), life, trust, now)?;
    let key = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, clock::random().map_err(no_randomness)?);
    let key = key.map_err(no_randomness)?.public_key();
    let exp = now.plus(life).seconds();
    let user = User { role: UserRole::Client, name: name.clone(), groups: groups.to_vec(), key, exp };
    accounts.jwt(&user, None, now).map(|_| ())
}

/// Why these keys cannot be a client's of this name.
pub(super) fn obstacle(
    (folder, keys): (&KeyFolder, &mut KnownKeys),
    trust: &Trust,
    request: &OpenedRequest,
    name: &Name,
    now: Millis,
) -> Result<(), EnrolmentError> {
    let known = |what: &str| Err(refusal(EnrolmentCode::KnownKey, what));
    let connection = request.request().connection_key.as_str();
    let Ok((nkeys::KeyPairType::User, connection_raw)) =
        nkeys::from_public_key(connection).map(|(prefix, raw)| (nkeys::KeyPairType::from(prefix), raw))
    else {
        return known("the connection key is not a user's public key");
    };
    if connection_raw == *request.key().as_bytes() {
        return known("the two keys of the request are the same");
    }
    if trust.is_revoked_key(&request.key().thumbprint()) {
        return known("the key of the request is revoked");
    }
    let is_known = keys.knows(folder, trust, (request.key(), connection_raw), name);
    if is_known.map_err(|error| unavailable(&error.into()))? {
        return known("a key of the request is somebody's already");
    }
    let standing = listed(folder, trust, Role::Client, name.clone(), now);
    if standing.standing == Standing::Revoked
        && standing.credential.as_ref().is_some_and(|credential| credential.key == *request.key())
    {
        return known("the credential of this key is revoked");
    }
    let is_living = matches!(standing.standing, Standing::InForce | Standing::EndsSoon | Standing::NotYetValid);
    if let Some(living) = standing.credential.as_ref().filter(|_| is_living) {
        if living.key != *request.key() {
            return Err(refusal(EnrolmentCode::NameTaken, format!("the client {name} has a living credential")));
        }
        // The JWT that goes with a credential ends with it. An older one is of who had the name before.
        let jwt = read_jwt(&folder.user_jwt(Role::Client, name)).map_err(|error| unavailable(&error))?;
        let goes_with_it = |jwt: &UserJwt| jwt.claims().get("exp").and_then(Value::as_i64) == Some(living.claims.exp);
        if jwt.is_some_and(|jwt| goes_with_it(&jwt) && jwt.key() != connection) {
            return known("this signing key was enrolled with another connection key");
        }
    }
    refuse_standing_login(folder, name, &standing.standing, now).map_err(|error| unavailable(&error))
}

/// What logs in to the broker in a name is on record once: before somebody else has the name, the broker refuses who had it.
pub(super) fn refuse_standing_login(
    folder: &KeyFolder,
    name: &Name,
    standing: &Standing,
    now: Millis,
) -> Result<(), ProvisionError> {
    if *standing != Standing::Revoked || !login_stands(folder, name, now)? {
        return Ok(());
    }
    Err(ProvisionError::request(format!("the client {name} is revoked, and can still log in to the broker"))
        .expecting("a broker that refuses the one who had the name before")
        .hinting("`countersign trust publish`, which has the broker refuse it; then run this again"))
}

/// The credential of a client as it is in the folder, whether it has expired or not.
fn present(folder: &KeyFolder, trust: &Trust, name: &Name, now: Millis) -> Option<Credential> {
    let raw = read_public(&folder.credential(Role::Client, name), MAX_CREDENTIAL + 2).ok()?;
    let credential = Credential::verify(std::str::from_utf8(&raw).ok()?.trim(), trust, now, SKEW).ok()?;
    (credential.role() == Role::Client && credential.name() == name).then_some(credential)
}

/// Removes the private keys of a client of this name that were made here before: they are not those of the new one.
fn remove_old_keys(changes: &mut ChangeReport, request: &OpenedRequest, name: &Name) -> Result<(), ProvisionError> {
    let folder = changes.folder().clone();
    let note = "the client has made keys of its own";
    let (key, creds) = (folder.key(Role::Client, name), folder.creds(Role::Client, name));
    match read_key(&key) {
        Ok(found) if found.public() != request.key() => changes.remove(&key, note)?,
        Ok(_) | Err(KeyFileError { fault: Fault::Missing, .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match Login::read(&creds) {
        Ok(login) if login.seed().public_key().as_deref() != Some(request.request().connection_key.as_str()) => {
            changes.remove(&creds, note)
        }
        Ok(_) | Err(KeyFileError { fault: Fault::Missing, .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
