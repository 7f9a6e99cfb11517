//! The private keys of the broker's accounts, all in one file, so that there are all of them or none.

use std::path::Path;

use countersign_host::clock;
use countersign_keys::{Fault, KeyFileError, read_secret};
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
    sign_users: [KeyPair; 7],
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
        let mut text = Zeroizing::new(String::with_capacity(1_024));
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
        let text = match read_secret(path) {
            Ok(text) => text,
            Err(KeyFileError { fault: Fault::Missing, .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut lines = text.lines();
        let keys = titles().map(|(title, kind)| {
            let (found, seed) = lines.next()?.trim().split_once(' ')?;
            KeyPair::from_seed(seed).ok().filter(|key| found == title && key.key_pair_type() == kind)
        });
        let keys = keys.collect::<Option<Vec<KeyPair>>>().and_then(Self::of);
        keys.map(Some).ok_or_else(|| {
            ProvisionError::keys(format!("{}: not the keys of the broker's accounts", path.display()))
                .expecting("the lines that `countersign init` wrote, each a name and a seed")
                .hinting("bring the file back from a copy; a new one would be another broker's")
        })
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
