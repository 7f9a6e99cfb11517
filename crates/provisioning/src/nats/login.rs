//! The files by which somebody logs in to the broker: the secret one with the key, and beside it the JWT alone, which stays here
//! when the other is elsewhere.

use std::path::PathBuf;

use countersign_host::clock;
use countersign_keys::{
    Fault, KeyFileError, KeyFolder, Login, MAX_USER_JWT, Seed, UserJwt, creds_text, read_public, read_secret,
    replace_secret,
};
use countersign_protocol::credential::Role;
use countersign_protocol::name::Name;

use super::accounts::Accounts;
use super::user::{User, UserRole};
use crate::changes::{Action, ChangeReport};
use crate::error::ProvisionError;
use crate::{DAY, no_randomness, until_second};

/// How long somebody who has no credential may connect, in seconds: a year, renewed past half of it.
const LIFE: i64 = 365 * DAY / 1_000;

/// Where they are, whose they are, and what is in them.
pub(crate) struct LoginFiles {
    role: UserRole,
    name: Name,
    creds: PathBuf,
    jwt: PathBuf,
    /// The key, where the secret file is here.
    seed: Option<Seed>,
    /// The latest JWT.
    present: Option<UserJwt>,
}

impl LoginFiles {
    /// Those of a member.
    pub(crate) fn of_member(folder: &KeyFolder, role: Role, name: &Name) -> Result<Self, ProvisionError> {
        Self::read(role.into(), name.clone(), folder.creds(role, name))
    }

    /// Those of somebody who is no member.
    pub(crate) fn of(role: UserRole, creds: PathBuf) -> Result<Self, ProvisionError> {
        Self::read(role, crate::default_name(role.word()), creds)
    }

    fn read(role: UserRole, name: Name, creds: PathBuf) -> Result<Self, ProvisionError> {
        let jwt = creds.with_extension("jwt");
        let login = match Login::read(&creds) {
            Ok(login) => Some(login),
            Err(KeyFileError { fault: Fault::Missing, .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let present = match &login {
            Some(login) => UserJwt::parse(login.jwt()),
            None => read_jwt(&jwt)?,
        };
        Ok(Self { role, name, creds, jwt, seed: login.map(|login| login.seed().clone()), present })
    }

    /// Whether the key is here.
    pub(crate) fn has_key(&self) -> bool {
        self.seed.is_some()
    }

    /// The key; made in memory where there is none here, of the seed file of an earlier version if that is there.
    pub(crate) fn ensure_key(&mut self) -> Result<Seed, ProvisionError> {
        let seed = match self.seed.take() {
            Some(seed) => seed,
            None => match read_secret(&self.former()) {
                Ok(text) => Seed::parse(text.trim()).ok_or_else(|| {
                    ProvisionError::keys(format!("{}: not a user's nkey seed", self.former().display()))
                        .expecting("58 characters that begin with SU")
                        .hinting("remove it, and another key is made")
                })?,
                Err(KeyFileError { fault: Fault::Missing, .. }) => {
                    let random = clock::random().map_err(no_randomness)?;
                    Seed::from_random(random).ok_or_else(|| no_randomness("no connection key came of it"))?
                }
                Err(error) => return Err(error.into()),
            },
        };
        Ok(self.seed.insert(seed).clone())
    }

    /// Whose key is elsewhere is known by its JWT, and before there was one by the broker's list of users.
    pub(crate) fn known_key(&self, former: Option<&String>) -> Option<String> {
        self.seed
            .as_ref()
            .and_then(Seed::public_key)
            .or_else(|| self.present.as_ref().map(|it| it.key().to_owned()))
            .or_else(|| former.cloned())
    }

    /// A JWT until a moment, in seconds. Nothing is written.
    pub(crate) fn prepare(
        &self,
        accounts: &Accounts,
        key: String,
        groups: Vec<Name>,
        exp: i64,
        changes: &ChangeReport,
    ) -> Result<String, ProvisionError> {
        let user = User { role: self.role, name: self.name.clone(), groups, key, exp };
        accounts.jwt(&user, self.present.as_ref().map(UserJwt::as_str), changes.now())
    }

    /// Until when somebody who is no member may connect, in seconds: until its JWT ends, if that is not past half its life.
    pub(crate) fn end(&self, changes: &ChangeReport) -> i64 {
        let now = changes.now().seconds();
        let present = self.present.as_ref().and_then(|it| it.claims().get("exp")).and_then(serde_json::Value::as_i64);
        present.filter(|exp| exp.saturating_sub(now) > LIFE / 2).unwrap_or(now.saturating_add(LIFE))
    }

    /// Writes what differs from what is there: the secret first where its key is here, and the JWT alone last.
    pub(crate) fn write(&self, changes: &mut ChangeReport, jwt: &str) -> Result<(), ProvisionError> {
        let end =
            UserJwt::parse(jwt).and_then(|it| it.claims().get("exp")?.as_i64()).map_or_else(String::new, until_second);
        if let Some(seed) = &self.seed {
            let text = creds_text(jwt, seed);
            match read_secret(&self.creds) {
                Ok(present) if *present == *text => changes.note(Action::Left, &self.creds, end.clone()),
                Ok(_) => {
                    replace_secret(&self.creds, text.as_bytes())?;
                    changes.note(Action::Renewed, &self.creds, end.clone());
                }
                Err(KeyFileError { fault: Fault::Missing, .. }) => {
                    changes.create(&self.creds, text.as_bytes(), format!("{} {end}", self.role.use_of_login()))?;
                }
                Err(error) => return Err(error.into()),
            }
            self.remove_former(changes)?;
        }
        let text = format!("{jwt}\n");
        match read_public(&self.jwt, MAX_USER_JWT + 2) {
            Ok(present) if present == text.as_bytes() => changes.note(Action::Left, &self.jwt, ""),
            Ok(_) if self.seed.is_none() => {
                let note = format!("{end}; copy it to where its .creds file is");
                changes.write(Action::Renewed, &self.jwt, text.as_bytes(), note)?;
            }
            Ok(_) => changes.write(Action::Renewed, &self.jwt, text.as_bytes(), end)?,
            Err(KeyFileError { fault: Fault::Missing, .. }) => {
                changes.write(Action::Made, &self.jwt, text.as_bytes(), "whose connection key it is")?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The file of the key alone, as earlier versions made it.
    fn former(&self) -> PathBuf {
        self.creds.with_extension("nk")
    }

    fn remove_former(&self, changes: &mut ChangeReport) -> Result<(), ProvisionError> {
        let former = self.former();
        if former.exists() { changes.remove(&former, "its key is in the .creds file now") } else { Ok(()) }
    }
}

/// A JWT in a file of its own; `None` where there is no such file.
pub(crate) fn read_jwt(path: &std::path::Path) -> Result<Option<UserJwt>, ProvisionError> {
    match read_public(path, MAX_USER_JWT + 2) {
        Ok(bytes) => match std::str::from_utf8(&bytes).ok().and_then(UserJwt::parse) {
            Some(jwt) => Ok(Some(jwt)),
            None => Err(ProvisionError::keys(format!("{}: not a user's JWT", path.display()))
                .expecting("the JWT of a user of the broker, as `countersign init` writes it")
                .hinting("bring it back: it may be the only record here of that connection key")),
        },
        Err(KeyFileError { fault: Fault::Missing, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
