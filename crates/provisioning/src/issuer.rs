//! The issuer while it runs: members ask for their next credential over the bus, and what they are answered is in the folder first
//! (section 7).

use std::fs::File;

use countersign_keys::{Fault, KeyFileError, KeyFolder, read_public};
use countersign_protocol::credential::{Credential, Role};
use countersign_protocol::envelope::{Authentic, Signed};
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::{MAX_CREDENTIAL, RENEWAL_GRACE, SKEW};
use countersign_protocol::name::Name;
use countersign_protocol::renewal::{RenewalAnswer, RenewalCode, RenewalError, RenewalRequest};
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;

use crate::changes::{Action, ChangeReport};
use crate::error::ProvisionError;
use crate::members::{ANY_TIME, Holder, issuer_of, sign_credential};
use crate::nats::{Accounts, LoginFiles};
use crate::terms::Content;
use crate::until;

const ISSUER: &str = "countersign issuer";

/// The keys of the issuer and of the broker's accounts, in a folder that no other such process has. Commands change it meanwhile.
pub struct Issuer {
    folder: KeyFolder,
    accounts: Accounts,
    name: Name,
    key: SecretKey,
    life_ms: Option<i64>,
    _held: File,
}

/// What became of a request.
pub struct Renewed {
    /// The answer, to be published.
    pub answer: Signed,
    /// What it says, for the log.
    pub outcome: Result<Credential, RenewalError>,
    /// Whether the credential was issued for this request; else it was there already.
    pub is_new: bool,
}

impl Issuer {
    /// With the keys of a folder. The life of what it issues is that of the credential before, unless one is given, in
    /// milliseconds.
    pub fn open(folder: &KeyFolder, trust: &Trust, life_ms: Option<i64>) -> Result<Self, ProvisionError> {
        let (name, key) = issuer_of(folder, trust, ISSUER)?;
        let accounts = Accounts::open(folder, ISSUER)?;
        accounts.expect_authority()?;
        let _held = hold(folder)?;
        Ok(Self { folder: folder.clone(), accounts, name, key, life_ms, _held })
    }

    /// Signs by the key that is in the folder now, which the trust bundle must list.
    pub fn reload(&mut self, trust: &Trust) -> Result<(), ProvisionError> {
        (self.name, self.key) = issuer_of(&self.folder, trust, ISSUER)?;
        Ok(())
    }

    /// Answers a request. `None` where the trust bundle in force does not vouch for who asks.
    pub fn answer(&self, request: &Authentic<RenewalRequest>, trust: &Trust, now: Millis) -> Option<Renewed> {
        let asked = request.credential();
        asked.still_valid(now, RENEWAL_GRACE, trust).ok()?;
        let (outcome, is_new) = match self.renew(asked, trust, now) {
            Ok((credential, user_jwt, is_new)) => (Ok((credential, user_jwt)), is_new),
            Err(error) => (Err(error), false),
        };
        let credential = outcome.as_ref().map_or(asked, |(credential, _)| credential).clone();
        let (said, outcome) = match outcome {
            Ok((credential, user_jwt)) => (Ok(user_jwt), Ok(credential)),
            // What went wrong here is for the log here.
            Err(error) if error.code == RenewalCode::Unavailable => {
                let said = "the issuer cannot do it now, and its log says why".to_owned();
                (Err(RenewalError { message: said, ..error.clone() }), Err(error))
            }
            Err(error) => (Err(error.clone()), Err(error)),
        };
        let answer = RenewalAnswer::sign(request, (&self.name, &self.key), &credential, said, now);
        Some(Renewed { answer, outcome, is_new })
    }

    /// The credential and the JWT that follow, both on disk.
    fn renew(
        &self,
        asked: &Credential,
        trust: &Trust,
        now: Millis,
    ) -> Result<(Credential, String, bool), RenewalError> {
        let (role, name) = (asked.role(), asked.name());
        let on_record = self.on_record(role, name, trust, now)?;
        if on_record.key() != asked.key() {
            return Err(refusal(RenewalCode::Replaced, format!("the {role} {name} has another key")));
        }
        let is_newer = on_record != *asked && on_record.issued_at() >= asked.issued_at();
        let login = LoginFiles::of_member(&self.folder, role, name).map_err(|error| unavailable(&error))?;
        let connection = login.known_key(None).ok_or_else(|| {
            refusal(RenewalCode::Unavailable, format!("the connection key of the {role} {name} is not on record"))
        })?;
        let is_there = is_newer && !on_record.is_past_half(now);
        if !is_there && !asked.is_past_half(now.plus(SKEW)) {
            return Err(refusal(RenewalCode::TooEarly, "less than half of its credential's life is over".to_owned()));
        }
        let mut changes = ChangeReport::new(self.folder.clone(), now);
        let done = self.issue(if is_newer { &on_record } else { asked }, is_there, (trust, now));
        let written = done.and_then(|(credential, raw)| {
            let (groups, exp) = (credential.groups().to_vec(), credential.expires_at().seconds());
            let jwt = login.prepare(&self.accounts, connection, groups, exp, &changes)?;
            if let Some(raw) = raw {
                let note = until(credential.expires_at());
                changes.write(Action::Renewed, &self.folder.credential(role, name), raw.as_bytes(), note)?;
            }
            login.write(&mut changes, &jwt)?;
            Ok((credential, jwt))
        });
        let (credential, jwt) = written.map_err(|error: ProvisionError| unavailable(&error))?;
        Ok((credential, jwt, !is_there))
    }

    /// What follows a credential: another one with its content, or itself where it is the one that was not fetched yet.
    fn issue(
        &self,
        from: &Credential,
        is_there: bool,
        (trust, now): (&Trust, Millis),
    ) -> Result<(Credential, Option<String>), ProvisionError> {
        if is_there {
            return Ok((from.clone(), None));
        }
        let content = match from.grant() {
            Some(grant) => Content::Grant(grant.clone()),
            None => Content::Groups(from.groups().to_vec()),
        };
        let life = self.life_ms.unwrap_or(from.expires_at().since(from.begins_at()));
        let holder = Holder { role: from.role(), name: from.name(), key: from.key() };
        let (credential, raw) = sign_credential((&self.name, &self.key), &holder, content, life, trust, now)?;
        Ok((credential, Some(format!("{raw}\n"))))
    }

    /// The latest credential of a member that was issued here, expired or not.
    fn on_record(&self, role: Role, name: &Name, trust: &Trust, now: Millis) -> Result<Credential, RenewalError> {
        let path = self.folder.credential(role, name);
        let raw = match read_public(&path, MAX_CREDENTIAL + 2) {
            Ok(raw) => raw,
            Err(KeyFileError { fault: Fault::Missing, .. }) => {
                return Err(refusal(RenewalCode::Unknown, format!("the issuer has no {role} {name}")));
            }
            Err(error) => return Err(unavailable(&error.into())),
        };
        let text = std::str::from_utf8(&raw).unwrap_or_default();
        let credential = Credential::verify(text.trim(), trust, now, ANY_TIME);
        match credential {
            Ok(credential) if (credential.role(), credential.name()) == (role, name) => Ok(credential),
            Ok(_) => Err(refusal(RenewalCode::Unavailable, "the issuer's copy is of somebody else".to_owned())),
            Err(error) => Err(refusal(RenewalCode::Unavailable, format!("the issuer's copy does not hold: {error}"))),
        }
    }
}

fn refusal(code: RenewalCode, message: String) -> RenewalError {
    RenewalError { code, message }
}

fn unavailable(error: &ProvisionError) -> RenewalError {
    refusal(RenewalCode::Unavailable, error.to_string())
}

/// The folder, for this process alone.
fn hold(folder: &KeyFolder) -> Result<File, ProvisionError> {
    folder.hold()?.ok_or_else(|| {
        ProvisionError::system(format!("an issuer runs in the folder {} already", folder.path().display()))
            .expecting("one `countersign issuer` for a folder of keys")
            .hinting("end the other one, or leave it to that")
    })
}

#[cfg(test)]
mod tests;
