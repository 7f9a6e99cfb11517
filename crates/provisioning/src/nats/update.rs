//! Changes of an account that the broker is to be given over the bus: JWT in, JWT out (section 10).

use countersign_host::clock;
use countersign_keys::{KeyFolder, UserJwt};
use countersign_protocol::credential::Role;
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;
use serde_json::Value;

use super::accounts::read_file;
use super::authority::{Account, Authority};
use super::file::AccountsFile;
use super::jwt::{Claims, issued_at, lasting, sign, verify};
use super::login::read_jwt;
use crate::changes::{Action, ChangeReport, FileChange};
use crate::error::ProvisionError;
use crate::standing::{Standing, list};

/// What changes the realm's account: the folder's private keys and its copy of the accounts.
pub struct AccountKeeper {
    authority: Authority,
    folder: KeyFolder,
    file: AccountsFile,
}

/// A member that the trust bundle revokes, and what it logs in to the broker with.
#[derive(Debug)]
pub struct RevokedLogin {
    /// Operator or client.
    pub role: Role,
    /// Its name.
    pub name: Name,
    /// The latest JWT that the folder has of it, which names the connection key.
    pub jwt: Option<UserJwt>,
}

/// The members of a folder whose key, credential or issuer the trust bundle revokes.
pub fn revoked_logins(folder: &KeyFolder, trust: &Trust) -> Result<Vec<RevokedLogin>, ProvisionError> {
    let revoked = list(folder, trust)?.into_iter().filter(|member| member.standing == Standing::Revoked);
    revoked
        .map(|member| {
            let jwt = read_jwt(&folder.user_jwt(member.role, &member.name))?;
            Ok(RevokedLogin { role: member.role, name: member.name, jwt })
        })
        .collect()
}

/// Whether what a client logged in with last still lets somebody in: it has not ended, and the account that the broker was given last
/// does not revoke it.
pub(crate) fn login_stands(folder: &KeyFolder, client: &Name, now: Millis) -> Result<bool, ProvisionError> {
    let Some(jwt) = read_jwt(&folder.user_jwt(Role::Client, client))? else { return Ok(false) };
    let has_ended = jwt.claims().get("exp").and_then(Value::as_i64).is_some_and(|exp| exp <= now.seconds());
    let keeper = AccountKeeper::open(folder)?;
    let account = keeper.file.accounts.get(&keeper.realm_account()).and_then(|account| keeper.realm(account));
    let revoked = account.and_then(|account| revocations::until(&account, jwt.key()));
    Ok(!has_ended && revoked.is_none_or(|until| until < jwt.issued_at()))
}

/// Why an account cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountError {
    /// What the broker has was not signed by this authority, or is about another account.
    Foreign,
    /// It could not be signed. Never seen in practice.
    Unsigned,
}

impl std::fmt::Display for AccountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Foreign => "the broker's account is not one that authority.nk has signed",
            Self::Unsigned => "the account could not be signed",
        })
    }
}

impl std::error::Error for AccountError {}

impl AccountKeeper {
    /// With the private keys in a folder.
    pub fn open(folder: &KeyFolder) -> Result<Self, ProvisionError> {
        let authority = Authority::read(&folder.authority())?.ok_or_else(|| {
            ProvisionError::keys(format!("{} is missing", folder.authority().display()))
                .expecting("the private keys of the broker's accounts, which sign their changes")
                .hinting("bring it back, or run this on the issuer's machine")
        })?;
        let file = read_file(folder)?.unwrap_or_default();
        Ok(Self { authority, folder: folder.clone(), file })
    }

    /// The realm's account, by its name at the broker.
    pub fn realm_account(&self) -> String {
        self.authority.id(Account::Realm)
    }

    /// The realm's account with these logins revoked, in place of the one that the broker has at present: every JWT about their
    /// keys that was issued by then is refused, for ever. The newer of the broker's account and the folder's is changed,
    /// and the revocations of both stay: a folder that was brought back from a copy does not bring anybody back. An
    /// account that refuses all of them already is returned as it is.
    pub fn revoke<'a>(
        &self,
        present: &str,
        logins: impl IntoIterator<Item = &'a UserJwt>,
        at: Millis,
    ) -> Result<String, AccountError> {
        let brokers = self.realm(present).ok_or(AccountError::Foreign)?;
        let ours = self.file.accounts.get(&self.realm_account()).and_then(|jwt| self.realm(jwt));
        let mut claims = match &ours {
            Some(ours) if issued_at(ours) > issued_at(&brokers) => ours.clone(),
            _ => brokers.clone(),
        };
        for other in [Some(&brokers), ours.as_ref()].into_iter().flatten() {
            revocations::keep(&mut claims, other);
        }
        for login in logins {
            if revocations::until(&claims, login.key()).is_none_or(|until| until < login.issued_at()) {
                revocations::add(&mut claims, login.key(), at.seconds().max(login.issued_at()));
            }
        }
        if claims == brokers {
            return Ok(present.to_owned());
        }
        let iat = at.seconds().max(issued_at(&claims).saturating_add(1));
        sign(lasting(claims), iat, self.authority.signs_accounts()).ok_or(AccountError::Unsigned)
    }

    /// Keeps in the folder what the broker has taken, so that a broker that starts with it knows of the revocations.
    pub fn save(&mut self, account: &str) -> Result<Vec<FileChange>, ProvisionError> {
        let before = self.file.accounts.insert(self.realm_account(), account.to_owned());
        let mut changes = ChangeReport::new(self.folder.clone(), clock::wall());
        if before.as_deref() != Some(account) {
            let note = "the realm's account, as the broker has it now";
            changes.write(Action::Renewed, &self.folder.accounts(), self.file.text().as_bytes(), note)?;
        }
        Ok(changes.into_done())
    }

    fn realm(&self, jwt: &str) -> Option<Claims> {
        let claims = verify(jwt.trim(), &self.authority.signs_accounts().public_key())?;
        (claims.get("sub")?.as_str()? == self.realm_account()).then_some(claims)
    }
}

/// The revocations in an account's claims: public keys of users, and until when what was issued is refused, in seconds.
pub(super) mod revocations {
    use serde_json::{Map, Value};

    use super::Claims;

    /// Adds those of other claims; of two for one key the later stays.
    pub(crate) fn keep(claims: &mut Claims, other: &Claims) {
        let others = other.get("nats").and_then(|nats| nats.get("revocations")).and_then(Value::as_object);
        for (key, until) in others.into_iter().flatten() {
            add(claims, key, until.as_i64().unwrap_or_default());
        }
    }

    /// Until when what was issued to a key is revoked.
    pub(crate) fn until(claims: &Claims, key: &str) -> Option<i64> {
        claims.get("nats")?.get("revocations")?.get(key)?.as_i64()
    }

    /// Revokes what was issued to a key until then.
    pub(crate) fn add(claims: &mut Claims, key: &str, until: i64) {
        let Some(Value::Object(nats)) = claims.get_mut("nats") else { return };
        let revocations = nats.entry("revocations").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(revocations) = revocations {
            let before = revocations.get(key).and_then(Value::as_i64).unwrap_or(i64::MIN);
            revocations.insert(key.to_owned(), until.max(before).into());
        }
    }
}
