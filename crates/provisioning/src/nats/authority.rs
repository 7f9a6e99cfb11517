//! The private keys of the broker's accounts, all in one file, so that there are all of them or none.

use std::path::Path;

use countersign_host::clock;
use countersign_keys::{Fault, KeyFileError, read_secret, replace_secret};
use nkeys::{KeyPair, KeyPairType};
use zeroize::Zeroizing;

use super::user::UserRole;
use crate::error::ProvisionError;
use crate::no_randomness;

/// One of the broker's accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// The broker's own, by which accounts are changed.
    System,
    /// That of the operators and clients.
    Realm,
    /// That of what the broker stores.
    Store,
}

impl Account {
    pub(super) const ALL: [Self; 3] = [Self::System, Self::Realm, Self::Store];

    fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Realm => "realm",
            Self::Store => "store",
        }
    }
}

/// All the keys.
pub(super) struct Authority {
    signs_accounts: KeyPair,
    accounts: [KeyPair; 3],
    sign_users: [KeyPair; 8],
}

/// What a key in the file is called, and of which kind it is: in this order.
fn titles() -> impl Iterator<Item = (&'static str, KeyPairType)> {
    let accounts = Account::ALL.map(Account::word).into_iter().map(|word| (word, KeyPairType::Account));
    let signing = UserRole::ALL.map(UserRole::signing_key).into_iter().map(|word| (word, KeyPairType::Account));
    std::iter::once(("authority", KeyPairType::Operator)).chain(accounts).chain(signing)
}

impl Authority {
    /// New keys, and the text of the file that they are kept in.
    pub(super) fn create() -> Result<(Self, Zeroizing<String>), ProvisionError> {
        let mut text = Zeroizing::new(String::with_capacity(2_048));
        let mut keys = Vec::new();
        for (title, kind) in titles() {
            let key = KeyPair::new_from_raw(kind, clock::random().map_err(no_randomness)?).map_err(no_randomness)?;
            let seed = Zeroizing::new(key.seed().map_err(no_randomness)?);
            text.extend([title, " ", &seed, "\n"]);
            keys.push(key);
        }
        let keys = Self::of(keys).ok_or_else(|| no_randomness("a key is missing"))?;
        Ok((keys, text))
    }

    /// The keys in a file; `None` where there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, ProvisionError> {
        let Some(text) = read_text(path)? else { return Ok(None) };
        let keys = titles().map(|(title, kind)| find(&text, title, kind)).collect::<Option<Vec<KeyPair>>>();
        keys.and_then(Self::of).map(Some).ok_or_else(|| {
            ProvisionError::keys(format!("{}: not the keys of the broker's accounts", path.display()))
                .expecting("the lines that `countersign init` wrote, each a name and a seed")
                .hinting("where an earlier version made it, run `countersign init`; else bring it back from a copy")
        })
    }

    /// Adds to a file what an earlier version did not know: signing keys of kinds of users. Says whether there were such.
    pub(super) fn complete(path: &Path) -> Result<bool, ProvisionError> {
        let Some(text) = read_text(path)? else { return Ok(false) };
        let is_known = |title: &str| text.lines().any(|line| line.split(' ').next() == Some(title));
        let missing: Vec<&str> =
            UserRole::ALL.map(UserRole::signing_key).into_iter().filter(|title| !is_known(title)).collect();
        // Of a file that is damaged nothing is made; whoever reads it says so.
        let is_sound = titles().all(|(title, kind)| missing.contains(&title) || find(&text, title, kind).is_some());
        if missing.is_empty() || !is_sound {
            return Ok(false);
        }
        let mut completed = Zeroizing::new(String::with_capacity(text.len() + 128 * missing.len()));
        completed.push_str(text.trim_end());
        for title in missing {
            let key = KeyPair::new_from_raw(KeyPairType::Account, clock::random().map_err(no_randomness)?);
            let seed = Zeroizing::new(key.map_err(no_randomness)?.seed().map_err(no_randomness)?);
            completed.extend(["\n", title, " ", &seed]);
        }
        completed.push('\n');
        replace_secret(path, completed.as_bytes())?;
        Ok(true)
    }

    fn of(keys: Vec<KeyPair>) -> Option<Self> {
        let mut keys = keys.into_iter();
        let signs_accounts = keys.next()?;
        let accounts = [keys.next()?, keys.next()?, keys.next()?];
        let rest: Vec<KeyPair> = keys.collect();
        Some(Self { signs_accounts, accounts, sign_users: rest.try_into().ok()? })
    }

    /// The key that signs the accounts.
    pub(super) fn signs_accounts(&self) -> &KeyPair {
        &self.signs_accounts
    }

    /// An account's public key, which is its name at the broker.
    pub(super) fn id(&self, account: Account) -> String {
        self.accounts[account as usize].public_key()
    }

    /// The key that signs the users of a role.
    pub(super) fn signs_users(&self, role: UserRole) -> &KeyPair {
        &self.sign_users[role as usize]
    }
}

fn read_text(path: &Path) -> Result<Option<Zeroizing<String>>, ProvisionError> {
    match read_secret(path) {
        Ok(text) => Ok(Some(text)),
        Err(KeyFileError { fault: Fault::Missing, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The key of a title, of this kind.
fn find(text: &str, title: &str, kind: KeyPairType) -> Option<KeyPair> {
    let mut named = text.lines().filter_map(|line| line.trim().split_once(' ')).filter(|(found, _)| *found == title);
    let seed = named.next().filter(|_| named.clone().next().is_none())?.1;
    KeyPair::from_seed(seed).ok().filter(|key| key.key_pair_type() == kind)
}
