//! Operators and clients: their keys and credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use countersign_host::clock;
use countersign_keys::{Fault, KeyFolder, Login, Seed, read_key, read_public};
use countersign_protocol::credential::{Claims, Confirmation, Credential, CredentialError, Role};
use countersign_protocol::id::Uuid;
use countersign_protocol::key::{PublicKey, SecretKey};
use countersign_protocol::limits::MAX_CREDENTIAL;
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;

use super::changes::{Action, ChangeReport};
use super::terms::{Content, Terms};
use super::{DAY, create_key, existing_key, former, until};
use crate::error::ProvisionError;
use crate::nats::{Accounts, LoginFiles, read_jwt};

/// Longer than any credential lives: with this skew one is verified whatever the time, so that what it grants is known
/// when it has expired and is to be renewed.
pub(super) const ANY_TIME: i64 = i64::MAX;

/// Makes and renews what belongs to the operators and clients.
pub(super) struct Members<'a> {
    changes: &'a mut ChangeReport,
    trust: &'a Trust,
    accounts: &'a Accounts,
    /// What a person runs again when something is missing.
    program: &'static str,
    /// The broker's users as an earlier version listed them.
    former: BTreeMap<String, String>,
    /// Every connection key that is known, by its 32 bytes.
    connection_keys: BTreeSet<[u8; 32]>,
}

/// When a credential that is there is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Past half its life, or for another key or other terms.
    WhenDue,
    /// In any case.
    Always,
}

/// Whose credential it is.
pub(super) struct Holder<'a> {
    pub(super) role: Role,
    pub(super) name: &'a Name,
    pub(super) key: &'a PublicKey,
}

/// A member, and where its credential is stored.
struct Member<'a> {
    role: Role,
    name: &'a Name,
    /// `None` where the key lies elsewhere: then it is the key of the credential that is there.
    key: Option<&'a PublicKey>,
    path: &'a Path,
}

/// A credential, and what becomes of its file.
struct Issued {
    credential: Credential,
    /// `None` where it is there already.
    raw: Option<String>,
    verb: Action,
    note: String,
}

impl Issued {
    fn write(&self, changes: &mut ChangeReport, path: &Path) -> Result<(), ProvisionError> {
        match &self.raw {
            Some(raw) => changes.write(self.verb, path, format!("{raw}\n").as_bytes(), self.note.as_str()),
            None => {
                changes.note(self.verb, path, self.note.as_str());
                Ok(())
            }
        }
    }
}

impl<'a> Members<'a> {
    pub(super) fn new(
        changes: &'a mut ChangeReport,
        trust: &'a Trust,
        accounts: &'a Accounts,
        program: &'static str,
    ) -> Result<Self, ProvisionError> {
        let former = former::users(changes.folder())?;
        let mut connection_keys: BTreeSet<[u8; 32]> = former.values().filter_map(|key| raw(key)).collect();
        for entry in std::fs::read_dir(changes.folder().path().join("nats")).into_iter().flatten().flatten() {
            let path = entry.path();
            let key = match path.extension().and_then(|extension| extension.to_str()) {
                Some("jwt") => read_jwt(&path)?.map(|jwt| jwt.key().to_owned()),
                Some("creds") => Login::read(&path)?.seed().public_key(),
                _ => None,
            };
            connection_keys.extend(key.and_then(|key| raw(&key)));
        }
        Ok(Self { changes, trust, accounts, program, former, connection_keys })
    }

    /// Every operator or client of the folder, and those that are wanted; the default one if that is nobody.
    pub(super) fn all_of(
        &mut self,
        role: Role,
        wanted: BTreeMap<Name, Terms>,
        default: &str,
    ) -> Result<(), ProvisionError> {
        // Those that are there already keep what they have unless something else is asked for.
        let mut all: BTreeMap<Name, Terms> =
            self.changes.folder().names(role)?.into_iter().map(|name| (name, Terms::unchanged(role))).collect();
        all.extend(wanted);
        if all.is_empty() {
            all.insert(super::default_name(default), Terms::unchanged(role));
        }
        all.iter().try_for_each(|(name, terms)| self.member(name, terms, Renewal::WhenDue))
    }

    /// Makes the keys of a member where there are none, issues or renews its credential, and lets it in to the broker.
    pub(super) fn member(&mut self, name: &Name, terms: &Terms, renewal: Renewal) -> Result<(), ProvisionError> {
        let role = terms.role();
        let folder = self.changes.folder().clone();
        let path = folder.credential(role, name);
        let key = existing_key(self.changes, &folder.key(role, name))?;
        let mut login = LoginFiles::of_member(&folder, role, name)?;
        let lives_elsewhere = key.is_none() && !login.has_key() && path.exists();
        let key = if lives_elsewhere {
            None
        } else {
            let seed = login.ensure_key()?;
            self.connects(&seed);
            let key = match key {
                Some(key) => key,
                None => {
                    create_key(self.changes, &folder.key(role, name), format!("signs the messages of {role} {name}"))?
                }
            };
            Some(*key.public())
        };
        let member = Member { role, name, key: key.as_ref(), path: &path };
        let Some(issued) = self.credential(&member, terms, renewal)? else { return Ok(()) };
        let Some(connection) = login.known_key(self.former.get(&format!("{role} {name}"))) else {
            issued.write(self.changes, &path)?;
            self.changes.note(
                Action::Left,
                &folder.user_jwt(role, name),
                "missing, and its connection key is not known here",
            );
            return Ok(());
        };
        let (groups, exp) = (issued.credential.groups().to_vec(), issued.credential.expires_at().seconds());
        // Before anything is written: a member with a credential that it cannot connect with is none.
        let jwt = login.prepare(self.accounts, connection, groups, exp, self.changes)?;
        issued.write(self.changes, &path)?;
        login.write(self.changes, &jwt)
    }

    fn connects(&mut self, seed: &Seed) {
        self.connection_keys.extend(seed.public_key().and_then(|nkey| raw(&nkey)));
    }

    /// Issues or renews a credential where that is due; `None` where the one that is there says nothing that could be kept.
    fn credential(
        &mut self,
        member: &Member<'_>,
        terms: &Terms,
        renewal: Renewal,
    ) -> Result<Option<Issued>, ProvisionError> {
        let Member { role, name, key, path } = *member;
        let default_life = match role {
            Role::Operator => 30 * DAY,
            Role::Client => 90 * DAY,
        };
        if let Some(key) = key
            && !path.exists()
        {
            let life = terms.life_ms.unwrap_or(default_life);
            return self.issue(Action::Made, member, key, terms.content(None), life, "");
        }
        let raw = read_public(path, MAX_CREDENTIAL + 2)?;
        let old = match self.read(role, name, &raw) {
            Ok(old) => old,
            Err(why) => {
                // A member that somebody revoked or replaced by hand is not brought back as a side effect.
                self.changes.note(Action::Left, path, format!("not renewed: {why}"));
                return Ok(None);
            }
        };
        let now = self.changes.now();
        let life = old.expires_at().since(old.issued_at());
        let key = key.unwrap_or(old.key());
        let content = terms.content(Some(&old));
        let why = if old.key() != key {
            "for its new key; "
        } else if !content.is_of(&old) {
            content.difference()
        } else if now.since(old.issued_at()) > life / 2 {
            "past half its life; "
        } else if renewal == Renewal::WhenDue {
            let note = until(old.expires_at());
            return Ok(Some(Issued { credential: old, raw: None, verb: Action::Left, note }));
        } else {
            ""
        };
        let life = terms.life_ms.unwrap_or(if life > 0 { life } else { default_life });
        self.issue(Action::Renewed, member, key, content, life, why)
    }

    /// The credential that is there, whether it has expired or not.
    fn read(&self, role: Role, name: &Name, raw: &[u8]) -> Result<Credential, String> {
        let text = std::str::from_utf8(raw).map_err(|error| error.to_string())?;
        let credential = Credential::verify(text.trim(), self.trust, self.changes.now(), ANY_TIME)
            .map_err(|error| error.to_string())?;
        if credential.role() != role || credential.name() != name {
            return Err(format!("it is of {} {}", credential.role(), credential.name()));
        }
        Ok(credential)
    }

    fn issue(
        &mut self,
        verb: Action,
        to: &Member<'_>,
        key: &PublicKey,
        content: Content,
        life: i64,
        why: &str,
    ) -> Result<Option<Issued>, ProvisionError> {
        let Member { role, name, .. } = *to;
        if self.connection_keys.contains(key.as_bytes()) {
            let key = self.changes.folder().key(role, name);
            return Err(ProvisionError::keys(format!(
                "{} is the key of a connection to the broker too",
                key.display()
            ))
            .expecting("a key that signs messages and nothing else: the broker chooses what a connection key signs")
            .hinting(format!("remove it, and run `{}` again to have another", self.program)));
        }
        let (issuer, issuer_key) = self.issuer()?;
        let now = self.changes.now();
        let holder = Holder { role, name, key };
        let (credential, raw) = sign_credential((&issuer, &issuer_key), &holder, content, life, self.trust, now)?;
        let groups = credential.groups();
        let mut note = format!("{why}{}", until(credential.expires_at()));
        if !groups.is_empty() {
            let groups: Vec<&str> = groups.iter().map(Name::as_str).collect();
            note = format!("{note}; in {}", groups.join(", "));
        }
        Ok(Some(Issued { credential, raw: Some(raw), verb, note }))
    }

    /// The issuer's name and key. It is read only when something is to be issued: it may be elsewhere otherwise.
    pub(super) fn issuer(&self) -> Result<(Name, SecretKey), ProvisionError> {
        issuer_of(self.changes.folder(), self.trust, self.program)
    }
}

/// The name and the key of a folder's issuer, which the trust bundle lists.
pub(super) fn issuer_of(
    folder: &KeyFolder,
    trust: &Trust,
    program: &'static str,
) -> Result<(Name, SecretKey), ProvisionError> {
    let path = folder.issuer_key();
    let key = read_key(&path).map_err(|error| match error.fault {
        Fault::Missing => {
            ProvisionError::keys(format!("{} is missing, and a credential is to be issued", path.display()))
                .expecting("the issuer's private key, which signs credentials")
                .hinting(format!("run `{program}` on the machine that has it, or bring it back for that time"))
        }
        _ => error.into(),
    })?;
    match trust.issuer(&key.public().thumbprint()) {
        Some((name, _)) => Ok((name.clone(), key)),
        None => Err(ProvisionError::keys(format!("{} is not the key of an issuer in trust.json", path.display()))
            .expecting("the key of an issuer that trust.json names")
            .hinting("bring the right one back")),
    }
}

/// Signs a credential from now on, for so many milliseconds, and sees that it holds.
pub(super) fn sign_credential(
    (issuer, issuer_key): (&Name, &SecretKey),
    holder: &Holder<'_>,
    content: Content,
    life: i64,
    trust: &Trust,
    now: Millis,
) -> Result<(Credential, String), ProvisionError> {
    let Holder { role, name, key } = *holder;
    let (grant, groups) = match content {
        Content::Grant(grant) => (Some(grant), None),
        Content::Groups(groups) => (None, Some(groups)),
    };
    let claims = Claims {
        iss: issuer.clone(),
        sub: name.clone(),
        jti: Uuid::from_random(clock::random().map_err(super::no_randomness)?),
        iat: now.seconds(),
        nbf: now.seconds(),
        exp: now.plus(life).seconds(),
        realm: trust.realm().clone(),
        role,
        cnf: Confirmation { jwk: key.jwk() },
        grant,
        groups,
    };
    let raw = Credential::issue(&claims, issuer_key);
    let credential = Credential::verify(&raw, trust, now, 0).map_err(|error| {
        ProvisionError::keys(format!("the new credential of {role} {name} would not hold: {error}"))
            .expecting("one that trust.json vouches for, 4 KiB long at most")
            .hinting(match error {
                CredentialError::Size { .. } => "name fewer groups, commands or targets",
                _ => "ask for fewer groups, or remove a key that was revoked",
            })
    })?;
    Ok((credential, raw))
}

/// The 32 bytes of a connection key.
fn raw(nkey: &str) -> Option<[u8; 32]> {
    nkeys::from_public_key(nkey).ok().map(|(_, raw)| raw)
}
