//! A realm's life: its root and issuer, the keys and credentials of its members, its trust bundle, and the broker's accounts.
//! What is there is never overwritten; what is missing is made, and what is past half its life is renewed (section 7).

mod chain;
mod changes;
pub mod enrolment;
mod error;
mod former;
mod issue;
mod issuer;
mod members;
mod nats;
mod standing;
mod terms;
#[cfg(test)]
mod tests;
mod trust;

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use countersign_host::clock;
use countersign_keys::{Fault, KeyFileError, KeyFolder, LOCK_WAIT, read_key};
use countersign_protocol::credential::Role;
use countersign_protocol::key::SecretKey;
use countersign_protocol::name::{InvalidName, Name};
use countersign_protocol::time::Millis;

pub use self::chain::{
    Advanced, OldIssuers, adopt, member_key, replace_lost_root, revoke, rotate_issuer, rotate_root, versions,
};
use self::changes::ChangeReport;
pub use self::changes::{Action, FileChange};
pub use self::error::{ProvisionError, ProvisionFault};
pub use self::issue::{issue, renew, renew_all};
pub use self::issuer::{Issuer, Renewed};
use self::members::Members;
pub use self::nats::{AccountError, AccountKeeper, RevokedLogin, revoked_logins};
use self::nats::{Accounts, LoginFiles, UserRole};
pub use self::standing::{Listed, Standing, examine, list};
pub use self::terms::{LIVES, Rights, Terms, group};
pub use self::trust::renew_trust;

/// A day in milliseconds.
const DAY: i64 = 86_400_000;
/// What a person runs again.
const INIT: &str = "countersign init";

/// Who is to be in the realm.
#[derive(Debug, Clone, Default)]
pub struct ProvisionRequest {
    /// The realm; `None` for that of the folder, or `demo` in a new one.
    pub realm: Option<Name>,
    /// Operators, besides those that are there; `alice` where there would be none.
    pub operators: Vec<Name>,
    /// Clients, besides those that are there; `worker-1` where there would be none.
    pub clients: Vec<NewClient>,
}

/// A client that `init` is asked for: `worker-1`, or `worker-1:web,db` with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewClient {
    /// Its name.
    pub name: Name,
    /// Its groups, each once and in order; `None` leaves those that it has.
    pub groups: Option<Vec<Name>>,
}

impl NewClient {
    fn terms(&self) -> Terms {
        Terms { rights: Rights::Client { groups: self.groups.clone() }, life_ms: None }
    }
}

impl FromStr for NewClient {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, groups) = match text.split_once(':') {
            None => (text, None),
            Some((name, "")) => (name, Some(Vec::new())),
            Some((name, groups)) => {
                let groups = groups.split(',').map(group).collect::<Result<Vec<Name>, _>>()?;
                (name, Some(terms::sorted(&groups)))
            }
        };
        Ok(Self { name: name.parse().map_err(|error: InvalidName| error.to_string())?, groups })
    }
}

/// What was done, file by file.
#[derive(Debug)]
pub struct Provisioned {
    /// The realm.
    pub realm: Name,
    /// Every file that it needs, made, renewed or left.
    pub files: Vec<FileChange>,
}

/// Makes in a folder of keys what is missing there, and renews what is due, under the folder's lock: whoever calls anything else
/// here that changes a folder takes it. After an error what was made stays.
pub fn provision(keys: &Path, request: &ProvisionRequest) -> Result<Provisioned, ProvisionError> {
    refuse_contradictions(&request.clients)?;
    let folder = KeyFolder::create(keys)?;
    let _lock = folder.lock(LOCK_WAIT)?;
    let mut changes = ChangeReport::new(folder, clock::wall());
    let realm = fill(&mut changes, request.realm.as_ref(), &request.operators, &request.clients)?;
    Ok(Provisioned { realm, files: changes.into_done() })
}

/// A folder is of one realm, and another was asked for.
pub fn other_realm(folder: &KeyFolder, realm: &Name, wanted: &Name) -> ProvisionError {
    ProvisionError::request(format!("the folder {} is of the realm {realm}, not {wanted}", folder.path().display()))
        .expecting("one folder of keys for each realm")
        .hinting("name the folder of that realm by --keys, or leave out --realm")
}

fn fill(
    changes: &mut ChangeReport,
    realm: Option<&Name>,
    operators: &[Name],
    clients: &[NewClient],
) -> Result<Name, ProvisionError> {
    let trust = trust::ensure(changes, realm)?;
    changes.expect_issuer_for_keys();
    let accounts = Accounts::ensure(changes, trust.realm(), INIT)?;
    logins(changes, &accounts, Missing::AreMade)?;
    let mut members = Members::new(changes, &trust, &accounts, INIT)?;
    let operators = operators.iter().map(|name| (name.clone(), Terms::unchanged(Role::Operator)));
    members.all_of(Role::Operator, operators.collect(), "alice")?;
    let clients: BTreeMap<Name, Terms> = clients.iter().map(|client| (client.name.clone(), client.terms())).collect();
    members.all_of(Role::Client, clients, "worker-1")?;
    former::remove(changes)?;
    Ok(trust.realm().clone())
}

/// Renews what those log in with who are no members and whose keys are here, past half of its life.
pub fn renew_logins(folder: &KeyFolder) -> Result<Vec<FileChange>, ProvisionError> {
    let mut changes = ChangeReport::new(folder.clone(), clock::wall());
    let accounts = Accounts::open(folder, INIT)?;
    logins(&mut changes, &accounts, Missing::StayElsewhere)?;
    Ok(changes.into_done())
}

/// What becomes of a connection key that is not in the folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    AreMade,
    StayElsewhere,
}

/// What those log in with who are no members.
fn logins(changes: &mut ChangeReport, accounts: &Accounts, missing: Missing) -> Result<(), ProvisionError> {
    let folder = changes.folder().clone();
    for (role, creds) in [
        (UserRole::Observer, folder.observer_creds()),
        (UserRole::Setup, folder.setup_creds()),
        (UserRole::Trust, folder.trust_creds()),
        (UserRole::Accounts, folder.accounts_creds()),
        (UserRole::Issuer, folder.issuer_creds()),
    ] {
        let mut login = LoginFiles::of(role, creds)?;
        if missing == Missing::StayElsewhere && !login.has_key() {
            continue;
        }
        let Some(key) = login.ensure_key()?.public_key() else {
            return Err(no_randomness("no connection key came of it"));
        };
        let jwt = login.prepare(accounts, key, Vec::new(), login.end(changes), changes)?;
        login.write(changes, &jwt)?;
    }
    Ok(())
}

/// One client with two sets of groups cannot be had.
fn refuse_contradictions(clients: &[NewClient]) -> Result<(), ProvisionError> {
    for (index, client) in clients.iter().enumerate() {
        if clients.iter().skip(index + 1).any(|other| other.name == client.name && other.groups != client.groups) {
            return Err(ProvisionError::request(format!(
                "the client {} is named twice, with different groups",
                client.name
            ))
            .expecting("each client once, with all its groups")
            .hinting(format!("--client {}:GROUP,GROUP", client.name)));
        }
    }
    Ok(())
}

/// The key in a file, which is left as it is; nothing where there is no such file.
fn existing_key(changes: &mut ChangeReport, path: &Path) -> Result<Option<SecretKey>, ProvisionError> {
    match read_key(path) {
        Ok(found) => {
            changes.note(Action::Left, path, "");
            Ok(Some(found))
        }
        Err(KeyFileError { fault: Fault::Missing, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn create_key(changes: &mut ChangeReport, path: &Path, note: impl Into<String>) -> Result<SecretKey, ProvisionError> {
    let key = SecretKey::from_seed(clock::random().map_err(no_randomness)?);
    changes.create(path, key.to_pem().as_bytes(), note)?;
    Ok(key)
}

fn no_randomness(error: impl std::fmt::Display) -> ProvisionError {
    ProvisionError::system(error).expecting("random bytes for a key").hinting("run it again")
}

/// Until when something holds, for people; in seconds.
fn until_second(end: i64) -> String {
    until(Millis::from_seconds(end))
}

/// Until when something holds, for people.
fn until(end: Millis) -> String {
    format!("until {}", end.utc())
}

#[expect(clippy::expect_used, reason = "the defaults are names")]
fn default_name(name: &str) -> Name {
    name.parse().expect("a name")
}
