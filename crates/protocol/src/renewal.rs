//! Renewal over the bus (section 7): a member asks the issuer for its next credential, and what it takes to believe the answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Version;
use crate::credential::Credential;
use crate::digest::Digest;
use crate::envelope::body::{self, BodyError};
use crate::envelope::{Authentic, Delivery, Identity, MessageType, Reason, Rejected, Signed, Verifier, jws};
use crate::id::{MessageId, Uuid};
use crate::json;
use crate::key::SecretKey;
use crate::limits::{RENEWAL_AGE, SKEW};
use crate::name::Name;
use crate::subject;
use crate::text::{echo, words};
use crate::time::Millis;
use crate::trust::Trust;

/// A request for the next credential, as a member signs it: by the key and under the credential that it has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewalRequest {
    /// The version of the protocol.
    pub v: Version,
    /// What tells this request from every other.
    pub id: MessageId,
    /// The realm that it belongs to.
    pub realm: Name,
    /// The member that asks.
    pub from: Name,
    /// The `jti` of its present credential.
    pub credential: Uuid,
    /// The subject of this member's requests.
    pub subject: String,
    /// When it was signed, in milliseconds since the Unix epoch.
    pub issued_at: Millis,
}

/// The answer, as the issuer signs it: with `user_jwt` where the member is renewed, with `error` where it is not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["user_jwt"] }, { "required": ["error"] }]))]
pub struct RenewalAnswer {
    /// The version of the protocol.
    pub v: Version,
    /// The realm that it belongs to.
    pub realm: Name,
    /// The issuer's name.
    pub from: Name,
    /// The `jti` of the credential that comes with it: the new one, or with `error` the present one.
    pub credential: Uuid,
    /// The subject of the answers to this member.
    pub subject: String,
    /// The digest of the request's body.
    pub request: Digest,
    /// When it was signed, in milliseconds since the Unix epoch.
    pub issued_at: Millis,
    /// What the member connects to the broker with from now on; its connection key stays (section 10).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "String")]
    pub user_jwt: Option<String>,
    /// Why there is no new credential.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "RenewalError")]
    pub error: Option<RenewalError>,
}

/// Why a member is not renewed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewalError {
    /// Which rule it was.
    pub code: RenewalCode,
    /// The same for people.
    pub message: String,
}

words! {
    /// Which rule keeps a member from being renewed.
    pub enum RenewalCode {
        /// Less than half of the credential's life is over.
        TooEarly = "too_early",
        /// The issuer has no member of this role and name.
        Unknown = "unknown",
        /// The issuer has another key of this role and name.
        Replaced = "replaced",
        /// The issuer cannot do it now, for a reason of its own.
        Unavailable = "unavailable",
    }
}

/// What an answer comes to that is the issuer's, for this very request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answered {
    /// With a new credential.
    Renewed(Renewal),
    /// With none. The message is the issuer's, raw.
    Refused(RenewalError),
}

/// A new credential of a member and its JWT for the broker, both vouched for by the issuer. Only [`open_answer`] makes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Renewal {
    credential: Credential,
    user_jwt: String,
}

impl Renewal {
    /// The credential, for the key that the member has.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// What it connects to the broker with.
    pub fn user_jwt(&self) -> &str {
        &self.user_jwt
    }
}

impl RenewalRequest {
    /// A request by a member, signed.
    pub fn sign(id: MessageId, by: &Identity, now: Millis) -> Signed {
        let credential = by.credential();
        let subject = subject::renewal_request(credential.realm(), credential.role(), by.name());
        let request = Self {
            v: Version,
            id,
            realm: credential.realm().clone(),
            from: by.name().clone(),
            credential: credential.jti(),
            subject: subject.clone(),
            issued_at: now,
        };
        by.sign(MessageType::RenewalRequest, subject, body::write(&request))
    }

    /// Opens a request as the issuer does. The verifier's skew says for how long after its end a credential may still be
    /// renewed ([`RENEWAL_GRACE`](crate::limits::RENEWAL_GRACE)); the request itself must be fresh by the usual one.
    pub fn open(delivery: &Delivery, verifier: &Verifier, now: Millis) -> Result<Authentic<Self>, Rejected> {
        let request = verifier.open::<Self>(delivery, now)?;
        let (message, credential) = (request.message(), request.credential());
        let signed = |reason, detail: &str| Rejected::new(reason, Some(credential.name().clone()), detail);
        if message.subject != subject::renewal_request(&message.realm, credential.role(), credential.name()) {
            return Err(signed(Reason::Address, "the subject is not that of the requests of whoever signed it"));
        }
        if !credential.has_begun(now, SKEW) {
            return Err(signed(Reason::Credential, "the credential does not hold yet"));
        }
        let age = now.since(message.issued_at);
        if age > RENEWAL_AGE {
            return Err(signed(Reason::Late, "it was signed too long ago"));
        }
        if age < -SKEW {
            return Err(signed(Reason::Ahead, "it was signed ahead of the time here"));
        }
        Ok(request)
    }
}

impl RenewalAnswer {
    /// The answer to a request, signed by the issuer's key. The credential comes with it: the new one, or with an error the
    /// present one.
    pub fn sign(
        request: &Authentic<RenewalRequest>,
        (issuer, key): (&Name, &SecretKey),
        credential: &Credential,
        outcome: Result<String, RenewalError>,
        now: Millis,
    ) -> Signed {
        let asked = request.credential();
        let subject = subject::renewal_answer(asked.realm(), asked.role(), asked.name());
        let (user_jwt, error) = match outcome {
            Ok(jwt) => (Some(jwt), None),
            Err(error) => (None, Some(error)),
        };
        let answer = Self {
            v: Version,
            realm: asked.realm().clone(),
            from: issuer.clone(),
            credential: credential.jti(),
            subject: subject.clone(),
            request: request.digest(),
            issued_at: now,
            user_jwt,
            error,
        };
        let body = body::write(&answer);
        let protected = jws::protect(MessageType::RenewalAnswer, key.public().thumbprint());
        let signature = jws::sign(key, &jws::signing_input(&protected, &body));
        Signed {
            subject,
            signature: format!("{protected}..{signature}"),
            credential: credential.raw().clone(),
            body: body.into(),
        }
    }

    /// What it says, of which there is exactly one.
    ///
    /// # Errors
    /// Where it has both a JWT and an error, or neither.
    pub fn into_outcome(self) -> Result<Result<String, RenewalError>, &'static str> {
        match (self.user_jwt, self.error) {
            (Some(jwt), None) => Ok(Ok(jwt)),
            (None, Some(error)) => Ok(Err(error)),
            _ => Err("exactly one of `user_jwt` and `error` was expected"),
        }
    }
}

/// The answer in a delivery that an issuer of a trust bundle signed for the subject on which it arrived.
pub fn verify_answer(delivery: &Delivery, trust: &Trust) -> Result<RenewalAnswer, Rejected> {
    let unsigned = |reason, detail: String| Rejected::new(reason, None, detail);
    let headers = delivery.headers()?;
    let kid = jws::unprotect(headers.protected, MessageType::RenewalAnswer)
        .map_err(|error| unsigned(Reason::Type, error.to_string()))?;
    let Some((issuer, key)) = trust.issuer(&kid).filter(|_| !trust.is_revoked_key(&kid)) else {
        return Err(unsigned(Reason::Signature, format!("signed by the key {kid}, which is no issuer's")));
    };
    if !jws::verify(key, &jws::signing_input(headers.protected, delivery.body()), headers.signature) {
        return Err(unsigned(Reason::Signature, format!("not signed by the issuer's key {kid}")));
    }
    let signed = |reason, detail: String| Rejected::new(reason, Some(issuer.clone()), detail);
    let answer: RenewalAnswer =
        body::read(MessageType::RenewalAnswer, delivery.body()).map_err(|error| match error {
            BodyError::Json(error) => signed(Reason::Json, error.to_string()),
            BodyError::Shape(detail) => signed(Reason::Envelope, detail),
        })?;
    if answer.realm != *trust.realm() || answer.from != *issuer {
        let detail = format!("by {} of the realm {}, but signed by {issuer}", answer.from, answer.realm);
        return Err(signed(Reason::Realm, detail));
    }
    if answer.subject != delivery.subject() {
        let detail = format!("for {}, but arrived on {}", echo(&answer.subject), echo(delivery.subject()));
        return Err(signed(Reason::Address, detail));
    }
    Ok(answer)
}

/// Opens an answer as the member does that asked: by an issuer of its trust bundle, to the request with this digest, and where it
/// brings a credential, one for its own name, role and key that holds now.
pub fn open_answer(
    delivery: &Delivery,
    asked: &Digest,
    identity: &Identity,
    trust: &Trust,
    now: Millis,
    skew: i64,
) -> Result<Answered, Rejected> {
    let answer = verify_answer(delivery, trust)?;
    let issuer = answer.from.clone();
    let signed = |reason, detail: String| Rejected::new(reason, Some(issuer.clone()), detail);
    let own = identity.credential();
    if answer.subject != subject::renewal_answer(own.realm(), own.role(), own.name()) {
        return Err(signed(Reason::Address, "for somebody else".to_owned()));
    }
    if answer.request != *asked {
        return Err(signed(Reason::Address, "the answer to another request".to_owned()));
    }
    let jti = answer.credential;
    let user_jwt = match answer.into_outcome().map_err(|error| signed(Reason::Envelope, error.to_owned()))? {
        Ok(user_jwt) => user_jwt,
        Err(error) => return Ok(Answered::Refused(error)),
    };
    let raw = delivery.headers()?.credential;
    let credential =
        Credential::verify(raw, trust, now, skew).map_err(|error| signed(Reason::Credential, error.to_string()))?;
    if credential.jti() != jti || !own.is_succeeded_by(&credential) {
        let detail = format!("with a credential of {} that is not the next one", credential.name());
        return Err(signed(Reason::Credential, detail));
    }
    Ok(Answered::Renewed(Renewal { credential, user_jwt }))
}
