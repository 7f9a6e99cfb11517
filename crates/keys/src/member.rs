//! An operator or a client as its files describe it, and the trust bundle that it is judged by.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use countersign_protocol::credential::{Credential, CredentialError, Role};
use countersign_protocol::envelope::Identity;
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::MAX_CREDENTIAL;
use countersign_protocol::name::Name;
use countersign_protocol::renewal::Renewal;
use countersign_protocol::text::echo;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::file::{Fault, KeyFileError, read_key, read_public, replace_public, replace_secret};
use super::folder::{FolderKind, KeyFolder};
use super::login::{Login, UserJwt, claims_in, creds_text};

/// What an operator or a client needs to take part: its identity, and what it logs in to the broker with.
#[derive(Debug, Clone)]
pub struct Member {
    /// The message-signing key and the credential that belongs to it.
    pub identity: Identity,
    /// What it logs in to the broker with, by another key (section 7).
    pub login: Login,
    /// Where its credential is, and what it logs in with; `None` where it is in memory only, and cannot be renewed.
    pub files: Option<MemberFiles>,
    /// What its inboxes begin with, and its permissions at the broker allow: `_INBOX.<role>-<name>`.
    pub inbox_prefix: String,
}

/// How long a member waits for a command that changes its folder. It asks again where that is not done by then.
const KEEP_WAIT: Duration = Duration::from_millis(250);

/// The files of a member that change when it is renewed.
#[derive(Debug, Clone)]
pub struct MemberFiles {
    credential: PathBuf,
    creds: PathBuf,
    /// The connection key, which stays.
    seed: Seed,
}

impl MemberFiles {
    /// A credential that somebody has put in the place of this one since, for the same key and in force now.
    pub fn newer(&self, present: &Credential, trust: &Trust, now: Millis, skew: i64) -> Option<Credential> {
        let raw = read_public(&self.credential, MAX_CREDENTIAL + 2).ok()?;
        let credential = Credential::verify(std::str::from_utf8(&raw).ok()?.trim(), trust, now, skew).ok()?;
        let is_newer = present.is_succeeded_by(&credential) && credential.issued_at() >= present.issued_at();
        (is_newer && credential.is_in_force(now, skew)).then_some(credential)
    }

    /// Writes what the issuer has answered: what logs in, then the credential, each as a whole and on disk when this returns. Old and
    /// new ones go together in every combination, so that an interruption does no harm. A credential that somebody has put there
    /// since the answer stays.
    pub fn keep(&self, renewal: &Renewal) -> Result<(), KeyFileError> {
        let _lock = KeyFolder::of_file(&self.credential).lock(KEEP_WAIT)?;
        if self.is_outdated(renewal.credential().raw()) {
            return Ok(());
        }
        let content = |what: &str| {
            let (expected, hint) =
                ("a JWT about this member's own connection key", "renew it where the issuer's key is");
            KeyFileError::new(&self.creds, Fault::Content { what: what.to_owned(), expected, hint })
        };
        let jwt = UserJwt::parse(renewal.user_jwt()).filter(|jwt| Some(jwt.key()) == self.seed.public_key().as_deref());
        let jwt = jwt.ok_or_else(|| content("the issuer has answered with a JWT about another connection key"))?;
        let present = Login::read(&self.creds)?;
        if *present.seed() != self.seed {
            return Err(content("it holds another connection key than when this process started"));
        }
        if present.jwt() != jwt.as_str() {
            replace_secret(&self.creds, creds_text(jwt.as_str(), &self.seed).as_bytes())?;
        }
        let raw = format!("{}\n", renewal.credential().raw());
        match read_public(&self.credential, MAX_CREDENTIAL + 2) {
            Ok(present) if present == raw.as_bytes() => Ok(()),
            _ => replace_public(&self.credential, raw.as_bytes()),
        }
    }
}

impl MemberFiles {
    /// Whether another credential for the same key is there that was issued no earlier. Whether it holds is seen when it is used.
    fn is_outdated(&self, raw: &str) -> bool {
        let Ok(present) = read_public(&self.credential, MAX_CREDENTIAL + 2) else { return false };
        let present = String::from_utf8_lossy(&present);
        let (Some(present), Some(new)) = (claims_in(present.trim()), claims_in(raw)) else { return false };
        let issued_at = |claims: &Map<String, Value>| claims.get("iat").and_then(Value::as_i64);
        present != new && present.get("cnf") == new.get("cnf") && issued_at(&present) >= issued_at(&new)
    }
}

/// A connection key: a user's nkey seed. Its text is wiped from memory when it is dropped, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed(Zeroizing<String>);

impl Seed {
    /// The seed that 32 random bytes make; `None` is never seen in practice.
    pub fn from_random(random: [u8; 32]) -> Option<Self> {
        let seed = KeyPair::new_from_raw(KeyPairType::User, random).ok()?.seed().ok()?;
        Some(Self(Zeroizing::new(seed)))
    }

    /// A user's seed, as text.
    pub fn parse(text: &str) -> Option<Self> {
        let pair = KeyPair::from_seed(text).ok()?;
        (pair.key_pair_type() == KeyPairType::User && text.starts_with("SU"))
            .then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The text of the seed: a secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The public key, as the broker knows the user (`U…`); `None` is never seen in practice.
    pub fn public_key(&self) -> Option<String> {
        KeyPair::from_seed(&self.0).ok().map(|pair| pair.public_key())
    }

    /// Whether it is the very key that signs messages. The broker makes who connects sign a text of its choice, which would
    /// forge messages with such a key (section 7).
    pub fn is(&self, key: &SecretKey) -> bool {
        nkeys::decode_seed(&self.0).is_ok_and(|(_, seed)| SecretKey::from_seed(seed).public() == key.public())
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seed").field(&self.public_key().unwrap_or_default()).finish()
    }
}

/// The identity of an operator or a client, and what it logs in with (sections 6, 7 and 10).
///
/// Refused are: a key file that others can reach, a credential that does not hold now or is for another name or role, a
/// key that is not the credential's, and a connection key that is the key that signs messages.
pub fn load_member(
    folder: &KeyFolder,
    role: Role,
    name: &Name,
    trust: &Trust,
    now: Millis,
    skew: i64,
) -> Result<Member, KeyFileError> {
    let path = folder.credential(role, name);
    let raw = read_public(&path, MAX_CREDENTIAL + 2)?;
    let expected = "the credential of this name and role, issued in this realm, in force now, not revoked";
    let is_issuer = folder.kind() == FolderKind::Issuer;
    let fail = |what: String, hint| KeyFileError::new(&path, Fault::Content { what, expected, hint });
    let unusable = |what: String| {
        fail(
            what,
            match is_issuer {
                true => "run `countersign init` to renew one that has expired, or `countersign credential renew`",
                false => {
                    "fetch the new one from the machine that has issuer.pem, where `countersign credential renew` makes it"
                }
            },
        )
    };
    let revoked = |what: String| {
        fail(
            what,
            match is_issuer {
                true => "remove the files of that name and run `countersign credential issue`: new keys are needed",
                false => "ask whoever keeps the realm; `countersign trust show` lists what is revoked",
            },
        )
    };
    let text = std::str::from_utf8(&raw).map_err(|_| unusable("not text".to_owned()))?;
    let credential = Credential::verify(text.trim(), trust, now, skew).map_err(|error| match error {
        CredentialError::Revoked { .. } => revoked(error.to_string()),
        error => unusable(error.to_string()),
    })?;
    if credential.role() != role || credential.name() != name {
        return Err(unusable(format!("the credential of the {} {}", credential.role(), credential.name())));
    }

    let path = folder.key(role, name);
    let key = read_key(&path).map_err(|error| match error.fault {
        Fault::Missing => {
            let what = format!("is not here, and the credential of the {role} {name} is");
            let expected = "the key beside its credential: it is on one machine only";
            let hint = "go to the machine that has the key, or bring the key from there";
            KeyFileError::new(&path, Fault::Content { what, expected, hint })
        }
        _ => error,
    })?;
    let creds = folder.creds(role, name);
    let login = Login::read(&creds)?;
    if login.seed().is(&key) {
        let what = format!("the same key as {}, which signs messages", path.display());
        let expected = "a connection key of its own: the broker makes it sign whatever the broker likes";
        let hint = match folder.kind() {
            FolderKind::Issuer => {
                "remove it and run `countersign init`, which makes another; and replace the key that signs"
            }
            _ => "replace both: `countersign credential issue` makes others on the machine that has issuer.pem",
        };
        return Err(KeyFileError::new(&creds, Fault::Content { what, expected, hint }));
    }
    if let Some(other) = login.user_name().filter(|user| user != name.as_str()) {
        let what = format!("it logs in to the broker as {}, and not as {name}", echo(&other));
        let expected = "what this member logs in with: the broker lets nobody speak for another";
        let hint = match folder.kind() {
            FolderKind::Issuer => {
                "put the right file there, or remove it and run `countersign init`, which makes another"
            }
            _ => "fetch the right file from the machine that has issuer.pem",
        };
        return Err(KeyFileError::new(&creds, Fault::Content { what, expected, hint }));
    }
    let identity = Identity::new(key, credential).map_err(|error| {
        let expected = "the key that the credential beside it was issued for";
        let hint = "put the right key there, or issue a credential for this one";
        KeyFileError::new(&path, Fault::Content { what: error.to_string(), expected, hint })
    })?;
    let files = MemberFiles { credential: folder.credential(role, name), creds, seed: login.seed().clone() };
    Ok(Member { identity, login, files: Some(files), inbox_prefix: format!("_INBOX.{role}-{name}") })
}
