//! What a request is answered. What the answer says is on disk before it is given.

use countersign_keys::KeyFolder;
use countersign_protocol::enrolment::{
    EnrolmentAnswer, EnrolmentCode, EnrolmentError, EnrolmentRequest, OpenedRequest, RequestError,
};
use countersign_protocol::key::PublicKey;
use countersign_protocol::limits::ENROLMENT_SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;

use super::known::KnownKeys;
use super::record::{Keys, OpenRecord, Records, TokenRecord, read, write};
use super::{ENROLL, ask, issue, refusal, token, unavailable};
use crate::error::ProvisionError;
use crate::members::issuer_of;

/// What became of a request.
#[derive(Debug)]
pub struct EnrolmentOutcome {
    /// The request, signed by its own key. Its texts are the worker's, raw.
    pub request: OpenedRequest,
    /// The answer, to be published or carried back.
    pub answer: Vec<u8>,
    /// Why there is no credential; for the log, with what went wrong here.
    pub refused: Option<EnrolmentError>,
}

/// Answers a request that came over the bus, by its token (section 14). An error means that it is not answered.
pub fn answer(
    folder: &KeyFolder,
    keys: &mut KnownKeys,
    trust: &Trust,
    raw: &[u8],
    now: Millis,
) -> Result<EnrolmentOutcome, EnrolmentFault> {
    let request = OpenedRequest::open(raw).map_err(EnrolmentFault::Request)?;
    let outcome = decide((folder, keys), trust, &request, now);
    signed(folder, trust, request, outcome, now)
}

/// Answers a request that a person has checked and brought here, without a token.
pub fn sign_request(
    folder: &KeyFolder,
    trust: &Trust,
    request: OpenedRequest,
    life_ms: Option<i64>,
    now: Millis,
) -> Result<EnrolmentOutcome, EnrolmentFault> {
    let EnrolmentRequest { name, groups, .. } = request.request().clone();
    let life = life_ms.unwrap_or_else(issue::default_life);
    let outcome = expect_realm(trust, request.request())
        .and_then(|()| issue::obstacle((folder, &mut KnownKeys::default()), trust, &request, &name, now))
        .and_then(|()| enrol(folder, trust, &request, (&name, &groups, life), now));
    signed(folder, trust, request, outcome, now)
}

/// Why a request is not answered at all.
#[derive(Debug)]
pub enum EnrolmentFault {
    /// It is none.
    Request(RequestError),
    /// This folder cannot sign an answer.
    Folder(ProvisionError),
}

impl From<ProvisionError> for EnrolmentFault {
    fn from(error: ProvisionError) -> Self {
        Self::Folder(error)
    }
}

impl std::fmt::Display for EnrolmentFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request(error) => error.fmt(f),
            Self::Folder(error) => error.fmt(f),
        }
    }
}

fn signed(
    folder: &KeyFolder,
    trust: &Trust,
    request: OpenedRequest,
    outcome: Result<(String, String), EnrolmentError>,
    now: Millis,
) -> Result<EnrolmentOutcome, EnrolmentFault> {
    let (issuer, key) = issuer_of(folder, trust, ENROLL)?;
    let refused = outcome.as_ref().err().cloned();
    // What went wrong here is for the log here.
    let said = outcome.map_err(|error| match error.code {
        EnrolmentCode::Unavailable => refusal(error.code, "the issuer cannot do it now, and its log says why"),
        _ => error,
    });
    let answer = EnrolmentAnswer::sign(request.digest(), trust, (&issuer, &key), said, now);
    Ok(EnrolmentOutcome { request, answer, refused })
}

fn decide(
    (folder, known): (&KeyFolder, &mut KnownKeys),
    trust: &Trust,
    opened: &OpenedRequest,
    now: Millis,
) -> Result<(String, String), EnrolmentError> {
    let request = opened.request();
    expect_realm(trust, request)?;
    let records = Records::of(folder);
    let unknown = || refusal(EnrolmentCode::TokenUnknown, "the issuer has no such token");
    let id = request.token.as_ref().ok_or_else(unknown)?;
    let path = records.token(&request.name);
    let found = read::<TokenRecord>(&path).map_err(|error| unavailable(&error))?.filter(|record| record.id == *id);
    let Some(record) = found else {
        let open = read::<OpenRecord>(&records.open(id)).map_err(|error| unavailable(&error))?.ok_or_else(unknown)?;
        expect_time(open.expires_at, request, now)?;
        ask::decided(folder, opened, now)?;
        issue::obstacle((folder, known), trust, opened, &request.name, now)?;
        let what = (&request.name, request.groups.as_slice(), issue::default_life());
        return enrol(folder, trust, opened, what, now);
    };
    if !PublicKey::try_from(&record.key).is_ok_and(|key| opened.is_signed_by(&key)) {
        return Err(refusal(EnrolmentCode::TokenKey, "the token's own key did not sign the request"));
    }
    if request.groups != record.groups {
        let groups: Vec<&str> = record.groups.iter().map(Name::as_str).collect();
        return Err(refusal(EnrolmentCode::Groups, format!("the token is for the groups [{}]", groups.join(", "))));
    }
    let keys = Keys::of(opened);
    match &record.spent {
        Some(spent) if *spent != keys => {
            return Err(refusal(EnrolmentCode::TokenUsed, "other keys were enrolled with the token"));
        }
        // For as long as its user of the broker may ask.
        Some(_) if now.since(record.expires_at) > token::GRACE => {
            return Err(refusal(EnrolmentCode::TokenExpired, "the token's time is over"));
        }
        Some(_) => {}
        None => expect_time(record.expires_at, request, now)?,
    }
    issue::obstacle((folder, known), trust, opened, &record.name, now)?;
    if record.spent.is_none() {
        // From here on nobody else is enrolled with it; whoever asks again with these keys is answered.
        let spent = TokenRecord { spent: Some(keys), ..record.clone() };
        write(&path, &spent).map_err(|error| unavailable(&error))?;
    }
    let life = record.life_ms.unwrap_or_else(issue::default_life);
    enrol(folder, trust, opened, (&record.name, &record.groups, life), now)
}

fn enrol(
    folder: &KeyFolder,
    trust: &Trust,
    request: &OpenedRequest,
    what: (&Name, &[Name], i64),
    now: Millis,
) -> Result<(String, String), EnrolmentError> {
    issue::issue(folder, trust, request, what, now).map_err(|error| unavailable(&error))
}

fn expect_realm(trust: &Trust, request: &EnrolmentRequest) -> Result<(), EnrolmentError> {
    match &request.realm {
        Some(realm) if realm != trust.realm() => {
            Err(refusal(EnrolmentCode::Realm, format!("this is the issuer of the realm {}", trust.realm())))
        }
        _ => Ok(()),
    }
}

/// The token's time, and the clocks.
fn expect_time(expires_at: Millis, request: &EnrolmentRequest, now: Millis) -> Result<(), EnrolmentError> {
    if now >= expires_at {
        let message = format!("the token's time ended on {}, and it is {} here", expires_at.utc(), now.utc());
        return Err(refusal(EnrolmentCode::TokenExpired, message));
    }
    if now.since(request.issued_at).abs() > ENROLMENT_SKEW {
        let message = format!("it is {} here, and the request says {}", now.utc(), request.issued_at.utc());
        return Err(refusal(EnrolmentCode::Clock, message));
    }
    Ok(())
}
