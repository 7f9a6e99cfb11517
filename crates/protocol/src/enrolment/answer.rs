//! The answer: a credential, or why there is none, signed by an issuer of the trust bundle that comes with it.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Version;
use crate::credential::{Credential, CredentialError, Role};
use crate::digest::Digest;
use crate::envelope::body::{self, BodyError};
use crate::envelope::jws::Multisigned;
use crate::envelope::{HeaderError, MessageType};
use crate::json::{self, JsonError, present};
use crate::key::{PublicKey, SecretKey, Thumbprint};
use crate::limits::MAX_ENROLMENT_ANSWER;
use crate::name::Name;
use crate::text::words;
use crate::time::Millis;
use crate::trust::{Trust, TrustError};

/// The answer to a request, as the issuer signs it: with `credential` and `user_jwt`, or with `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["credential", "user_jwt"], "not": { "required": ["error"] } },
    { "required": ["error"], "not": { "anyOf": [{ "required": ["credential"] }, { "required": ["user_jwt"] }] } }
]))]
pub struct EnrolmentAnswer {
    /// The version of the protocol.
    pub v: Version,
    /// The realm.
    pub realm: Name,
    /// The issuer's name.
    pub from: Name,
    /// The digest of the request's bytes.
    pub request: Digest,
    /// When it was signed, by the issuer's clock.
    pub issued_at: Millis,
    /// The trust bundle in force, `trust.json` in unpadded base64url.
    pub trust: String,
    /// The credential.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "String")]
    pub credential: Option<String>,
    /// What the client logs in to the broker with (section 10).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "String")]
    pub user_jwt: Option<String>,
    /// Why there is no credential.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "EnrolmentError")]
    pub error: Option<EnrolmentError>,
}

/// Why somebody is not enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentError {
    /// Which rule it was.
    pub code: EnrolmentCode,
    /// The same for people.
    pub message: String,
}

words! {
    /// Which rule keeps somebody from being enrolled.
    pub enum EnrolmentCode {
        /// Other keys were enrolled with the token.
        TokenUsed = "token_used",
        /// The token's time is over.
        TokenExpired = "token_expired",
        /// The issuer has no such token: it was withdrawn, or a later one for the same name took its place.
        TokenUnknown = "token_unknown",
        /// The token's key did not sign the request.
        TokenKey = "token_key",
        /// The request is for another realm.
        Realm = "realm",
        /// The token is for other groups.
        Groups = "groups",
        /// The clocks differ too much.
        Clock = "clock",
        /// Another key has a living credential of this name.
        NameTaken = "name_taken",
        /// A key of the request is known already, or revoked.
        KnownKey = "known_key",
        /// A person has yet to decide.
        Pending = "pending",
        /// A person has decided against it.
        Denied = "denied",
        /// The issuer cannot do it now, for a reason of its own.
        Unavailable = "unavailable",
    }
}

/// What the worker asked for, which the answer must fit.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The root that the worker was given by another way than the answer.
    pub pin: Thumbprint,
    /// The realm, where the worker knows it.
    pub realm: Option<&'a Name>,
    /// The digests of the requests that it made, of which the answer must be to one.
    pub requests: &'a [Digest],
    /// The name that it asked for.
    pub name: &'a Name,
    /// The groups that it asked for; `None` where a person may have decided otherwise.
    pub groups: Option<&'a [Name]>,
    /// Its own key.
    pub key: &'a PublicKey,
}

/// What an answer comes to that an issuer has signed for this very request.
#[derive(Debug, Clone)]
pub enum Answered {
    /// With a credential.
    Enrolled(Enrolment),
    /// With none. The message is the issuer's, raw.
    Refused {
        /// The digest of the request that it is the answer to.
        request: Digest,
        /// Why.
        error: EnrolmentError,
        /// When, by the issuer's clock.
        at: Millis,
    },
}

/// A new client's credential and trust bundle, vouched for from the pin on. Only [`open_answer`] makes one.
#[derive(Debug, Clone)]
pub struct Enrolment {
    request: Digest,
    trust: Trust,
    credential: Credential,
    user_jwt: String,
}

impl Enrolment {
    /// The digest of the request that it is the answer to.
    pub fn request(&self) -> Digest {
        self.request
    }

    /// The trust bundle.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The credential, for the worker's own key.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// What it logs in to the broker with. Whether it is about its own connection key, whoever has that sees.
    pub fn user_jwt(&self) -> &str {
        &self.user_jwt
    }
}

/// Why an answer is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is longer than section 14 allows.
    #[error("{got} bytes; an answer has at most {MAX_ENROLMENT_ANSWER}")]
    Size {
        /// Its length, in bytes.
        got: usize,
    },
    /// It is not a payload with its signatures.
    #[error("not a signed document: {0}")]
    Form(JsonError),
    /// The payload or the bundle in it is not canonical base64url.
    #[error("what it holds is not canonical, unpadded base64url")]
    Encoding,
    /// The payload is not an answer.
    #[error("not an answer to a request for enrolment: {0}")]
    Body(String),
    /// The trust bundle in it is not of the pinned root.
    #[error("the trust bundle in it: {0}")]
    Trust(#[from] TrustError),
    /// A protected header is not exactly what section 2 says.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// It is not signed by one issuer that the bundle lists and does not revoke, under its name.
    #[error("not signed by an issuer of the realm")]
    Signature,
    /// It is of another realm.
    #[error("of the realm {got}, but {expected} was expected")]
    Realm {
        /// That of the token.
        expected: Name,
        /// That of the answer.
        got: Name,
    },
    /// It answers another request.
    #[error("the answer to another request")]
    Request,
    /// The credential in it does not hold.
    #[error("the credential in it: {0}")]
    Credential(#[from] CredentialError),
    /// The credential in it is another one than was asked for.
    #[error("the credential in it is another one: {0}")]
    Other(&'static str),
}

impl EnrolmentAnswer {
    /// The answer of an issuer to a request, signed.
    pub fn sign(
        request: Digest,
        trust: &Trust,
        (issuer, key): (&Name, &SecretKey),
        outcome: Result<(String, String), EnrolmentError>,
        now: Millis,
    ) -> Vec<u8> {
        let (credential, user_jwt, error) = match outcome {
            Ok((credential, user_jwt)) => (Some(credential), Some(user_jwt), None),
            Err(error) => (None, None, Some(error)),
        };
        let answer = Self {
            v: Version,
            realm: trust.realm().clone(),
            from: issuer.clone(),
            request,
            issued_at: now,
            trust: BASE64URL_NOPAD.encode(trust.bytes()),
            credential,
            user_jwt,
            error,
        };
        body::write(&Multisigned::sign(MessageType::EnrolmentAnswer, &body::write(&answer), &[key]))
    }

    /// What it says, of which there is exactly one.
    ///
    /// # Errors
    /// Where it has both a credential and an error, or neither.
    pub fn into_outcome(self) -> Result<Result<(String, String), EnrolmentError>, &'static str> {
        match (self.credential, self.user_jwt, self.error) {
            (Some(credential), Some(user_jwt), None) => Ok(Ok((credential, user_jwt))),
            (None, None, Some(error)) => Ok(Err(error)),
            _ => Err("`credential` and `user_jwt`, or `error` alone, was expected"),
        }
    }
}

/// Opens an answer as the worker does that asked, from the pin on: the bundle, its issuer, the signature, the request that it
/// answers, and the credential, which must be for the worker's own key, name and groups and hold now.
pub fn open_answer(bytes: &[u8], expected: &Expected<'_>, now: Millis, skew: i64) -> Result<Answered, AnswerError> {
    if bytes.len() > MAX_ENROLMENT_ANSWER {
        return Err(AnswerError::Size { got: bytes.len() });
    }
    let document: Multisigned = json::parse_as(bytes).map_err(AnswerError::Form)?;
    let payload = BASE64URL_NOPAD.decode(document.payload.as_bytes()).map_err(|_| AnswerError::Encoding)?;
    let answer: EnrolmentAnswer = body::read(MessageType::EnrolmentAnswer, &payload).map_err(|error| match error {
        BodyError::Json(error) => AnswerError::Body(error.to_string()),
        BodyError::Shape(detail) => AnswerError::Body(detail),
    })?;
    let bundle = BASE64URL_NOPAD.decode(answer.trust.as_bytes()).map_err(|_| AnswerError::Encoding)?;
    let trust = Trust::verify(&bundle, expected.pin)?;
    if let Some(realm) = expected.realm
        && realm != trust.realm()
    {
        return Err(AnswerError::Realm { expected: realm.clone(), got: trust.realm().clone() });
    }
    let signers = document.signers(MessageType::EnrolmentAnswer)?;
    let [kid] = signers.as_slice() else { return Err(AnswerError::Signature) };
    let (issuer, key) = trust.issuer(kid).ok_or(AnswerError::Signature)?;
    if trust.is_revoked_key(kid) || answer.from != *issuer || !document.is_signed_by(MessageType::EnrolmentAnswer, key)
    {
        return Err(AnswerError::Signature);
    }
    if answer.realm != *trust.realm() {
        return Err(AnswerError::Realm { expected: trust.realm().clone(), got: answer.realm });
    }
    let request = answer.request;
    if !expected.requests.contains(&request) {
        return Err(AnswerError::Request);
    }
    let at = answer.issued_at;
    let (credential, user_jwt) = match answer.into_outcome().map_err(|error| AnswerError::Body(error.to_owned()))? {
        Ok(enrolled) => enrolled,
        Err(error) => return Ok(Answered::Refused { request, error, at }),
    };
    let credential = Credential::verify(&credential, &trust, now, skew)?;
    if credential.role() != Role::Client || credential.name() != expected.name {
        return Err(AnswerError::Other("it is not a client's of the name that was asked for"));
    }
    if credential.key() != expected.key {
        return Err(AnswerError::Other("it is for another key"));
    }
    if expected.groups.is_some_and(|groups| credential.groups() != groups) {
        return Err(AnswerError::Other("it is for other groups"));
    }
    Ok(Answered::Enrolled(Enrolment { request, trust, credential, user_jwt }))
}

impl fmt::Display for EnrolmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
