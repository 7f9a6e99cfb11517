//! The broker's accounts in a folder of keys: made once, changed only where what they state has changed.

use countersign_keys::{Fault, KeyFileError, KeyFolder, MAX_USER_JWT, read_public};
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;

use super::account::{account_claims, authority_claims};
use super::authority::{Account, Authority};
use super::file::{AccountsFile, MAX_FILE};
use super::jwt::{Claims, issued_at, lasting, sign, verify};
use super::update::revocations;
use super::user::User;
use crate::changes::{Action, ChangeReport};
use crate::error::ProvisionError;
use crate::no_randomness;

/// The accounts of a folder. Without the private keys nobody is issued a JWT here.
pub(crate) struct Accounts {
    authority: Option<Authority>,
    folder: KeyFolder,
    program: &'static str,
}

impl Accounts {
    /// Those that are there; `program` is what a person runs again.
    pub(crate) fn open(folder: &KeyFolder, program: &'static str) -> Result<Self, ProvisionError> {
        if !folder.accounts().exists() {
            return Err(ProvisionError::keys(format!("{} does not exist", folder.accounts().display()))
                .expecting("the broker's accounts, in which the members are users")
                .hinting("run `countersign init`, which makes them"));
        }
        Ok(Self { authority: Authority::read(&folder.authority())?, folder: folder.clone(), program })
    }

    /// Makes the keys where there are none and no accounts either, and the file that the broker's configuration includes.
    pub(crate) fn ensure(
        changes: &mut ChangeReport,
        realm: &Name,
        program: &'static str,
    ) -> Result<Self, ProvisionError> {
        let folder = changes.folder().clone();
        let path = folder.authority();
        let present = read_file(&folder)?;
        let is_completed = Authority::complete(&path)?;
        let authority = match (Authority::read(&path)?, &present) {
            (Some(authority), _) if is_completed => {
                changes.note(Action::Renewed, &path, "with keys for new kinds of users");
                authority
            }
            (Some(authority), _) => {
                changes.note(Action::Left, &path, "");
                authority
            }
            (None, Some(_)) => {
                changes.note(Action::Left, &folder.accounts(), "");
                return Ok(Self { authority: None, folder, program });
            }
            (None, None) => {
                let (authority, text) = Authority::create()?;
                changes.create(&path, text.as_bytes(), "signs who may connect to the broker")?;
                authority
            }
        };
        let file = file(realm, &authority, present.as_ref(), changes.now())?;
        let text = file.text();
        match present {
            Some(present) if present == file => changes.note(Action::Left, &folder.accounts(), ""),
            Some(_) => {
                let note = "the accounts have changed: restart the broker";
                changes.write(Action::Renewed, &folder.accounts(), text.as_bytes(), note)?;
            }
            None => changes.write(
                Action::Made,
                &folder.accounts(),
                text.as_bytes(),
                "nats.conf includes it; a broker that runs with another file must be restarted",
            )?,
        }
        Ok(Self { authority: Some(authority), folder, program })
    }

    /// Refuses where nobody can be issued a JWT.
    pub(crate) fn expect_authority(&self) -> Result<(), ProvisionError> {
        self.authority().map(|_| ())
    }

    fn authority(&self) -> Result<&Authority, ProvisionError> {
        let path = self.folder.authority();
        self.authority.as_ref().ok_or_else(|| {
            ProvisionError::keys(format!("{} is missing, and somebody is to be let in to the broker", path.display()))
                .expecting("the private keys of the broker's accounts")
                .hinting(format!("bring it back for the time of `{}`", self.program))
        })
    }

    /// A JWT for a user: the one that is there if it states the same, else a new one.
    pub(crate) fn jwt(&self, user: &User, present: Option<&str>, now: Millis) -> Result<String, ProvisionError> {
        if self.authority.is_none()
            && let Some(present) = present
            && is_of(user, present)
        {
            return Ok(present.to_owned());
        }
        let authority = self.authority()?;
        let (key, claims) = (authority.signs_users(user.role), user.claims(authority));
        if let Some(present) = present
            && verify(present, &key.public_key()).is_some_and(|present| lasting(present) == claims)
        {
            return Ok(present.to_owned());
        }
        let jwt = sign(claims, now.seconds(), key).ok_or_else(|| no_randomness("the JWT is not signed"))?;
        if jwt.len() > MAX_USER_JWT {
            let word = user.role.word();
            return Err(ProvisionError::request(format!(
                "the JWT of the {word} {} would be {} bytes long",
                user.name,
                jwt.len()
            ))
            .expecting(format!("at most {MAX_USER_JWT}: a broker takes 4,096 bytes of a CONNECT, in which it stands"))
            .hinting("name fewer groups"));
        }
        Ok(jwt)
    }
}

/// Whether a JWT is about this user, until the same end.
fn is_of(user: &User, jwt: &str) -> bool {
    countersign_keys::claims_in(jwt).is_some_and(|claims| {
        claims.get("sub").and_then(serde_json::Value::as_str) == Some(&user.key)
            && claims.get("exp").and_then(serde_json::Value::as_i64) == Some(user.exp)
    })
}

/// The file of a folder; `None` where there is none.
pub(super) fn read_file(folder: &KeyFolder) -> Result<Option<AccountsFile>, ProvisionError> {
    match read_public(&folder.accounts(), MAX_FILE) {
        Ok(bytes) => Ok(Some(AccountsFile::parse(&String::from_utf8_lossy(&bytes)))),
        Err(KeyFileError { fault: Fault::Missing, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The file that should be there. What states the same as before stays as it was signed, and revocations stay.
fn file(
    realm: &Name,
    authority: &Authority,
    present: Option<&AccountsFile>,
    now: Millis,
) -> Result<AccountsFile, ProvisionError> {
    let signer = authority.signs_accounts();
    let signed = |mut wanted: Claims, present: Option<&String>| {
        let old = present.and_then(|jwt| Some((jwt, verify(jwt, &signer.public_key())?)));
        if let Some((jwt, old)) = old {
            let before = issued_at(&old);
            revocations::keep(&mut wanted, &old);
            if lasting(old) == wanted {
                return Ok(jwt.clone());
            }
            // The broker takes the newer one.
            return sign(wanted, now.seconds().max(before.saturating_add(1)), signer).ok_or(());
        }
        sign(wanted, now.seconds(), signer).ok_or(())
    };
    let failed = |()| no_randomness("an account is not signed");
    let mut file = AccountsFile {
        authority: signed(authority_claims(realm, authority), present.map(|it| &it.authority)).map_err(failed)?,
        system: authority.id(Account::System),
        accounts: Default::default(),
    };
    for account in Account::ALL {
        let id = authority.id(account);
        let old = present.and_then(|it| it.accounts.get(&id));
        let jwt = signed(account_claims(account, realm, authority), old).map_err(failed)?;
        file.accounts.insert(id, jwt);
    }
    Ok(file)
}
