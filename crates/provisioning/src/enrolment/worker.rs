//! The worker's side (section 14): keys that are made here and stay here, and the folder that an answer makes of them.
//!
//! Until the answer is believed, the keys are in a folder of their own. Each file is written at once and as a whole, the credential
//! last, so that whoever is killed runs the same again and completes it.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use countersign_host::clock;
use countersign_keys::{
    Fault, FolderLock, KeyFileError, KeyFolder, LOCK_WAIT, Seed, UserJwt, creds_text, load_member, load_pin,
    load_trust, read_key, read_public, read_secret, replace_public, replace_secret,
};
use countersign_protocol::command::Version;
use countersign_protocol::credential::Role;
use countersign_protocol::digest::Digest;
use countersign_protocol::enrolment::{
    AnswerError, Answered, Enrolment, EnrolmentRequest, Expected, OpenedRequest, open_answer,
};
use countersign_protocol::key::{SecretKey, Thumbprint};
use countersign_protocol::limits::{MAX_ENROLMENT_ANSWER, MAX_ENROLMENT_REQUEST, SKEW};
use countersign_protocol::name::{ConnectionKey, Name, TokenId};
use countersign_protocol::time::Millis;

use crate::changes::{Action, ChangeReport, FileChange};
use crate::error::ProvisionError;
use crate::{no_randomness, until};

/// How an enrolment began, which also names its folder.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// With a token.
    Token(&'a TokenId),
    /// With a request in a file.
    File,
}

/// An enrolment that has begun: both keys, on disk.
pub struct Enrolling {
    folder: KeyFolder,
    begun: PathBuf,
    name: Name,
    key: SecretKey,
    seed: Seed,
    connection: ConnectionKey,
    /// The requests that this process has made, the latest last.
    made: VecDeque<Vec<u8>>,
}

/// How many requests of a process are remembered: an issuer that has much to do answers one of the earlier ones.
const MOST: usize = 32;

/// What a worker wants to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The realm, where it is known.
    pub realm: Option<Name>,
    /// The client's name.
    pub name: Name,
    /// Its groups.
    pub groups: Vec<Name>,
}

impl Enrolling {
    /// Makes both keys, or finds those that an earlier run has made.
    pub fn begin(folder: &KeyFolder, origin: Origin<'_>, name: &Name) -> Result<Self, ProvisionError> {
        let (folder, begun) = (folder.clone(), begun(folder, origin, name));
        let path = begun.join("key.pem");
        let key = match read_key(&path) {
            Err(KeyFileError { fault: Fault::Missing, .. }) => {
                let key = SecretKey::from_seed(clock::random().map_err(no_randomness)?);
                replace_secret(&path, key.to_pem().as_bytes())?;
                key
            }
            found => found?,
        };
        let path = begun.join("connection.nk");
        let seed = match read_secret(&path) {
            Ok(text) => Seed::parse(text.trim()).ok_or_else(|| damaged(&path))?,
            Err(KeyFileError { fault: Fault::Missing, .. }) => {
                let seed = Seed::from_random(clock::random().map_err(no_randomness)?);
                let seed = seed.ok_or_else(|| no_randomness("no connection key came of it"))?;
                replace_secret(&path, format!("{}\n", seed.as_str()).as_bytes())?;
                seed
            }
            Err(error) => return Err(error.into()),
        };
        let connection = seed.public_key().and_then(|key| key.parse().ok()).ok_or_else(|| damaged(&path))?;
        Ok(Self { folder, begun, name: name.clone(), key, seed, connection, made: VecDeque::new() })
    }

    /// The thumbprint of the key that signs, by which a person knows the request.
    pub fn thumbprint(&self) -> Thumbprint {
        self.key.public().thumbprint()
    }

    /// A request, signed; it is remembered as one that the answer may be to, and by a later process as the only one.
    pub fn request(
        &mut self,
        wanted: &Wanted,
        token: Option<(&TokenId, Option<&SecretKey>)>,
        now: Millis,
    ) -> Result<Vec<u8>, ProvisionError> {
        let request = EnrolmentRequest {
            v: Version,
            realm: wanted.realm.clone(),
            token: token.map(|(id, _)| id.clone()),
            name: self.name.clone(),
            groups: wanted.groups.clone(),
            jwk: self.key.public().jwk(),
            connection_key: self.connection.clone(),
            issued_at: now,
        };
        let bytes = request.sign(&self.key, token.and_then(|(_, key)| key));
        replace_public(&self.request_file(), &bytes)?;
        if self.made.len() >= MOST {
            self.made.pop_front();
        }
        self.made.push_back(bytes.clone());
        Ok(bytes)
    }

    /// What the request asks for that was made last.
    pub fn wanted(&self) -> Option<Wanted> {
        let request = OpenedRequest::open(&read_public(&self.request_file(), MAX_ENROLMENT_REQUEST).ok()?).ok()?;
        let EnrolmentRequest { realm, name, groups, .. } = request.request().clone();
        (request.key() == self.key.public()).then_some(Wanted { realm, name, groups })
    }

    /// The request that was made last, if it asks for the same.
    pub fn last_request(&self, wanted: &Wanted) -> Option<Vec<u8>> {
        (self.wanted()? == *wanted).then(|| read_public(&self.request_file(), MAX_ENROLMENT_REQUEST).ok())?
    }

    /// The answer that was believed, where an earlier run has come so far.
    pub fn interrupted(&self) -> Option<Vec<u8>> {
        read_public(&self.begun.join("answer.json"), MAX_ENROLMENT_ANSWER).ok()
    }

    /// Whether a request is the one that was made last.
    pub fn is_latest(&self, request: Digest) -> bool {
        self.made.back().is_none_or(|bytes| Digest::of(bytes) == request)
    }

    /// Opens an answer to a request of this process, or to the last one of an earlier process.
    pub fn open(
        &self,
        answer: &[u8],
        pin: Thumbprint,
        wanted: &Wanted,
        now: Millis,
    ) -> Result<Result<Answered, AnswerError>, ProvisionError> {
        let mut requests: Vec<Digest> = self.made.iter().map(|bytes| Digest::of(bytes)).collect();
        requests.push(Digest::of(&read_public(&self.request_file(), MAX_ENROLMENT_REQUEST)?));
        let expected = Expected {
            pin,
            realm: wanted.realm.as_ref(),
            requests: &requests,
            name: &self.name,
            groups: Some(&wanted.groups),
            key: self.key.public(),
        };
        let answered = open_answer(answer, &expected, now, SKEW);
        if let Ok(Answered::Enrolled(enrolment)) = &answered
            && UserJwt::parse(enrolment.user_jwt()).is_none_or(|jwt| jwt.key() != self.connection.as_str())
        {
            return Ok(Err(AnswerError::Other("its JWT for the broker is about another connection key")));
        }
        Ok(answered)
    }

    /// Makes the folder of keys of the client that it is now.
    pub fn install(
        self,
        answer: &[u8],
        enrolment: &Enrolment,
        pin: Thumbprint,
        ca: Option<&str>,
        now: Millis,
    ) -> Result<Vec<FileChange>, ProvisionError> {
        let mut changes = ChangeReport::new(self.folder.clone(), now);
        expect_realm(&self.folder, enrolment.trust().realm(), &pin)?;
        // From here on the broker is not needed to complete it.
        if let Some(request) = self.made.iter().find(|bytes| Digest::of(bytes) == enrolment.request()) {
            replace_public(&self.request_file(), request)?;
        }
        replace_public(&self.begun.join("answer.json"), answer)?;
        let (folder, credential) = (&self.folder, enrolment.credential());
        public(&mut changes, &folder.pin(), format!("{pin}\n").as_bytes(), "the pin: the thumbprint of the root")?;
        if load_trust(folder).map_or(true, |trust| trust.version() < enrolment.trust().version()) {
            let trust = enrolment.trust();
            let note = format!("version {}, {}", trust.version(), until(trust.expires_at()));
            public(&mut changes, &folder.trust(), trust.bytes(), &note)?;
        }
        if let Some(ca) = ca {
            public(&mut changes, &folder.broker_ca(), ca.as_bytes(), "the broker's authority")?;
        }
        let (role, name) = (Role::Client, &self.name);
        let note = format!("signs the messages of client {name}");
        secret(&mut changes, &folder.key(role, name), self.key.to_pem().as_bytes(), &note)?;
        let creds = creds_text(enrolment.user_jwt(), &self.seed);
        secret(&mut changes, &folder.creds(role, name), creds.as_bytes(), "connects to the broker")?;
        let text = format!("{}\n", credential.raw());
        public(&mut changes, &folder.credential(role, name), text.as_bytes(), &until(credential.expires_at()))?;
        load_member(folder, role, name, &load_trust(folder)?, now, SKEW)?;
        replace_public(&self.begun.join("enrolled"), format!("{name}\n").as_bytes())?;
        for file in ["key.pem", "connection.nk", "request.json", "answer.json", "ca.pem"] {
            match fs::remove_file(self.begun.join(file)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(
                        KeyFileError { path: self.begun.join(file), fault: Fault::Io(error.to_string()) }.into()
                    );
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(changes.into_done())
    }

    /// Where the certificates of the broker's authority are while it is asked.
    pub fn ca_file(&self, ca: &str) -> Result<PathBuf, ProvisionError> {
        let path = self.begun.join("ca.pem");
        replace_public(&path, ca.as_bytes())?;
        Ok(path)
    }

    fn request_file(&self) -> PathBuf {
        self.begun.join("request.json")
    }
}

/// The folder of a worker, made where there is none, and locked: of two runs at once, each would make keys of its own.
pub fn lock_folder(folder: &KeyFolder) -> Result<FolderLock, ProvisionError> {
    refuse_issuer(folder)?;
    Ok(KeyFolder::create(folder.path())?.lock(LOCK_WAIT)?)
}

/// Whether an enrolment that began so was completed here, and the client is there.
pub fn is_enrolled(folder: &KeyFolder, origin: Origin<'_>, name: &Name, now: Millis) -> bool {
    let trust = load_trust(folder).ok().filter(|_| begun(folder, origin, name).join("enrolled").exists());
    trust.is_some_and(|trust| load_member(folder, Role::Client, name, &trust, now, SKEW).is_ok())
}

/// The names for which a request in a file was begun here.
pub fn begun_names(folder: &KeyFolder) -> Vec<Name> {
    let entries = fs::read_dir(folder.enrolment()).into_iter().flatten().flatten();
    let begun = entries.filter(|entry| entry.path().join("request.json").exists());
    begun.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("file.")?.parse().ok()).collect()
}

/// A folder of another realm, or under another pin, does not become this one.
pub fn expect_realm(folder: &KeyFolder, realm: &Name, pin: &Thumbprint) -> Result<(), ProvisionError> {
    if !folder.trust().exists() {
        return Ok(());
    }
    let trust = load_trust(folder)?;
    if trust.realm() != realm {
        return Err(crate::other_realm(folder, trust.realm(), realm));
    }
    if load_pin(folder)? != *pin {
        return Err(ProvisionError::keys(format!(
            "{} is another root than {pin}, from which the answer is to be verified",
            folder.pin().display()
        ))
        .expecting("the pin of this folder, or a folder of its own")
        .hinting("name another folder by --keys; or check with whoever runs the realm which root is the right one"));
    }
    Ok(())
}

fn begun(folder: &KeyFolder, origin: Origin<'_>, name: &Name) -> PathBuf {
    // A name has no dot.
    folder.enrolment().join(match origin {
        Origin::Token(id) => format!("token.{id}"),
        Origin::File => format!("file.{name}"),
    })
}

/// The keys of the realm are not where its workers are.
fn refuse_issuer(folder: &KeyFolder) -> Result<(), ProvisionError> {
    for key in [folder.issuer_key(), folder.root_key(), folder.authority()] {
        if key.exists() {
            return Err(ProvisionError::request(format!("{} is here: this is the issuer's folder", key.display()))
                .expecting("a folder for the worker alone, on its own machine")
                .hinting("name another folder by --keys"));
        }
    }
    Ok(())
}

fn damaged(path: &Path) -> ProvisionError {
    ProvisionError::keys(format!("{}: not a user's nkey seed", path.display()))
        .expecting("58 characters that begin with SU, as `countersign enroll` wrote them")
        .hinting("remove it: another key is made")
}

/// Writes a file that is no secret where it differs.
fn public(changes: &mut ChangeReport, path: &Path, bytes: &[u8], note: &str) -> Result<(), ProvisionError> {
    match read_public(path, bytes.len().max(MAX_ENROLMENT_ANSWER)) {
        Ok(there) if there == bytes => changes.note(Action::Left, path, note),
        Ok(_) => changes.write(Action::Renewed, path, bytes, note)?,
        Err(KeyFileError { fault: Fault::Missing, .. }) => changes.write(Action::Made, path, bytes, note)?,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Writes a secret where it differs.
fn secret(changes: &mut ChangeReport, path: &Path, bytes: &[u8], note: &str) -> Result<(), ProvisionError> {
    let did = match read_secret(path) {
        Ok(there) if there.as_bytes() == bytes => Action::Left,
        Ok(_) => Action::Renewed,
        Err(KeyFileError { fault: Fault::Missing, .. }) => Action::Made,
        Err(error) => return Err(error.into()),
    };
    if did != Action::Left {
        replace_secret(path, bytes)?;
    }
    changes.note(did, path, note);
    Ok(())
}
