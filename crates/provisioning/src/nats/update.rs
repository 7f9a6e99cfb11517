//! Changes of an account that the broker is to be given over the bus: JWT in, JWT out (section 10).

use countersign_keys::{KeyFolder, replace_public};
use countersign_protocol::time::Millis;

use super::accounts::read_file;
use super::authority::{Account, Authority};
use super::file::AccountsFile;
use super::jwt::{Claims, issued_at, lasting, sign, verify};
use crate::error::ProvisionError;

/// What changes the realm's account: the folder's private keys and its copy of the accounts.
pub struct AccountKeeper {
    authority: Authority,
    folder: KeyFolder,
    file: AccountsFile,
}

/// Why an account cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountError {
    /// What the broker has was not signed by this authority, or is about another account.
    Foreign,
    /// A key to be revoked is not a user's public key.
    NoKey,
    /// It could not be signed. Never seen in practice.
    Unsigned,
}

impl std::fmt::Display for AccountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Foreign => "the broker's account is not one that authority.nk has signed",
            Self::NoKey => "what is to be revoked is not the public key of a user",
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

    /// The realm's account with these connection keys revoked, in place of the one that the broker has at present: every JWT about
    /// them that was issued by then is refused, for ever. The newer of the broker's account and the folder's is changed,
    /// and the revocations of both stay: a folder that was brought back from a copy does not bring anybody back.
    pub fn revoke(&self, present: &str, keys: &[String], at: Millis) -> Result<String, AccountError> {
        let present = self.realm(present).ok_or(AccountError::Foreign)?;
        let ours = self.file.accounts.get(&self.realm_account()).and_then(|jwt| self.realm(jwt));
        let (mut claims, older) = match ours {
            Some(ours) if issued_at(&ours) > issued_at(&present) => (ours, Some(present)),
            ours => (present, ours),
        };
        if let Some(older) = &older {
            revocations::keep(&mut claims, older);
        }
        for key in keys {
            if !key.starts_with('U') || nkeys::from_public_key(key).is_err() {
                return Err(AccountError::NoKey);
            }
            revocations::add(&mut claims, key, at.seconds());
        }
        let iat = at.seconds().max(issued_at(&claims).saturating_add(1));
        sign(lasting(claims), iat, self.authority.signs_accounts()).ok_or(AccountError::Unsigned)
    }

    /// Keeps in the folder what the broker has taken, so that a broker that starts with it knows of the revocations.
    pub fn save(&mut self, account: &str) -> Result<(), ProvisionError> {
        self.file.accounts.insert(self.realm_account(), account.to_owned());
        Ok(replace_public(&self.folder.accounts(), self.file.text().as_bytes())?)
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
