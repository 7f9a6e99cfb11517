//! The checks of section 9 from size to subject, in their order: what passes is authentic.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;

use super::body::{self, BodyError};
use super::copies::Copies;
use super::delivery::Headers;
use super::rejected::Expired;
use super::remembered::Remembered;
use super::{Delivery, MessageType, Reason, Rejected, jws};
use crate::command::Command;
use crate::credential::{Credential, CredentialError, Role};
use crate::digest::Digest;
use crate::event::Event;
use crate::id::Uuid;
use crate::key::Thumbprint;
use crate::name::Name;
use crate::renewal::RenewalRequest;
use crate::reply::{Reply, State};
use crate::text::echo;
use crate::time::Millis;
use crate::trust::Trust;

/// How many verified credentials are remembered: more signers than one side meets at a time, a fleet that answers all at once
/// included. Each takes some 2 KiB.
const MAX_REMEMBERED: usize = 16_384;

/// Verifies what arrives against one trust bundle. A credential whose issuer's signature was verified is remembered, so that
/// the next message with the same bytes spares it; its times and its revocation are looked at each time. What clones remember
/// they share.
#[derive(Debug, Clone)]
pub struct Verifier {
    trust: Arc<Trust>,
    skew: i64,
    remembered: Arc<Mutex<Remembered>>,
    /// Where copies are counted.
    copies: Option<Arc<Mutex<Copies>>>,
}

/// A message whose signature, credential and envelope hold and which arrived where it says. Only [`Verifier::open`]
/// makes one; whether it is addressed to whoever received it, and allowed, is not said yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authentic<M> {
    message: M,
    credential: Credential,
    digest: Digest,
}

/// A body that can be signed and opened: [`Command`], [`Reply`], [`Event`] or [`RenewalRequest`].
pub trait Payload: DeserializeOwned + sealed::Sealed {
    /// The type that its signature must be for.
    const TYPE: MessageType;
    /// The role that its signer must have; `None` where members of each sign it.
    const SIGNER: Option<Role>;

    /// The realm that it names.
    fn realm(&self) -> &Name;
    /// The name of its signer.
    fn from(&self) -> &Name;
    /// The `jti` of its signer's credential.
    fn credential(&self) -> Uuid;
    /// The subject that it belongs to.
    fn subject(&self) -> &str;
    /// The client's state when it signed, and when that was; nothing in what an operator signs.
    fn client(&self) -> Option<(State, Millis)>;
}

impl Verifier {
    /// A verifier that trusts what the bundle trusts; clocks may differ by `skew` milliseconds (section 8).
    pub fn new(trust: Arc<Trust>, skew: i64) -> Self {
        Self { trust, skew, remembered: nothing(), copies: None }
    }

    /// The bundle in force.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// Verifies from now on against another bundle; what was remembered under the old one is forgotten.
    pub fn set_trust(&mut self, trust: Arc<Trust>) {
        self.trust = trust;
        self.remembered = nothing();
    }

    /// Remembers a credential that was verified elsewhere. At 16,384 the one that expires first makes room.
    pub fn remember(&self, credential: &Credential) {
        self.remembered().add(credential);
    }

    /// Opens ten deliveries of one message in a second from now on, and drops the others as `repeat` before they are parsed
    /// (section 8): for what arrives from the broker, where anybody can copy what was signed.
    #[must_use]
    pub fn sparing_copies(self) -> Self {
        Self { copies: Some(Arc::default()), ..self }
    }

    /// Makes an authentic message of a delivery, or says at which check of section 9 it failed.
    pub fn open<M: Payload>(&self, delivery: &Delivery, now: Millis) -> Result<Authentic<M>, Rejected> {
        let unsigned = |reason, detail: String| Rejected::new(reason, None, detail);
        let headers = delivery.headers()?;
        let kid = jws::unprotect(headers.protected, M::TYPE).map_err(|e| unsigned(Reason::Type, e.to_string()))?;
        let credential = self.credential(headers.credential, M::SIGNER)?;
        if let Err(error) = credential.still_valid(now, self.skew, &self.trust) {
            let rejected = unsigned(Reason::Credential, error.to_string());
            // An operator's has nobody to be renewed for: nothing more is spent on it.
            let is_expired = matches!(error, CredentialError::Expired { .. }) && M::SIGNER == Some(Role::Client);
            let message = is_expired.then(|| self.message::<M>(delivery, &headers, kid, &credential, now));
            return Err(match message.and_then(|message| message.ok()?.0.client()) {
                Some((state, issued_at)) => expired(credential, state, issued_at),
                None => rejected,
            });
        }
        let (message, digest) = self.message(delivery, &headers, kid, &credential, now)?;
        Ok(Authentic { message, digest, credential })
    }

    /// The message that a credential's holder signed for the subject on which it arrived, and its digest.
    fn message<M: Payload>(
        &self,
        delivery: &Delivery,
        headers: &Headers<'_>,
        kid: Thumbprint,
        credential: &Credential,
        now: Millis,
    ) -> Result<(M, Digest), Rejected> {
        let unsigned = |reason, detail: String| Rejected::new(reason, None, detail);
        if kid != credential.kid() {
            let detail = format!("signed with the key {kid}, but the credential is for {}", credential.kid());
            return Err(unsigned(Reason::Signature, detail));
        }
        if !jws::verify(credential.key(), &jws::signing_input(headers.protected, &delivery.body), headers.signature) {
            return Err(unsigned(Reason::Signature, format!("not signed by the key {kid}")));
        }

        let signed = |reason, detail: String| Rejected::new(reason, Some(credential.name().clone()), detail);
        let digest = Digest::of(&delivery.body);
        if self.copies.as_ref().is_some_and(|copies| !lock(copies).admit(&digest, &delivery.subject, now)) {
            return Err(signed(Reason::Repeat, "the same message too often".to_owned()));
        }
        let message: M = body::read(M::TYPE, &delivery.body).map_err(|error| match error {
            BodyError::Json(error) => signed(Reason::Json, error.to_string()),
            BodyError::Shape(detail) => signed(Reason::Envelope, detail),
        })?;
        if message.realm() != self.trust.realm() {
            let detail = format!("for the realm {}, but this is {}", message.realm(), self.trust.realm());
            return Err(signed(Reason::Realm, detail));
        }
        if (message.from(), message.credential()) != (credential.name(), credential.jti()) {
            let (from, jti) = (message.from(), message.credential());
            let (name, own) = (credential.name(), credential.jti());
            let detail = format!("names {from} and {jti}, but came with {name}'s credential {own}");
            return Err(signed(Reason::Credential, detail));
        }
        if message.subject() != delivery.subject {
            let detail = format!("for {}, but arrived on {}", echo(message.subject()), echo(&delivery.subject));
            return Err(signed(Reason::Address, detail));
        }
        Ok((message, digest))
    }

    /// A credential that the issuer signed, for this role where one is expected; whether it is in force is not looked at.
    fn credential(&self, raw: &str, role: Option<Role>) -> Result<Credential, Rejected> {
        let known = self.remembered().find(raw);
        let credential = match known {
            Some(known) => Ok(known),
            // Whether the message holds or not: else a flood of forged ones under a genuine credential costs twice as much.
            None => Credential::issued(raw, &self.trust).inspect(|credential| self.remember(credential)),
        };
        let credential = credential.map_err(|error| Rejected::new(Reason::Credential, None, error.to_string()))?;
        match role {
            Some(role) if credential.role() != role => {
                let detail = format!("{}'s role is {}, but {role} was expected", credential.name(), credential.role());
                Err(Rejected::new(Reason::Credential, None, detail))
            }
            _ => Ok(credential),
        }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        lock(&self.remembered)
    }
}

/// A panic elsewhere does not spoil what is remembered: it is added to and looked up, and is whole in between.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything holds but that the client's credential has expired.
fn expired(credential: Credential, state: State, issued_at: Millis) -> Rejected {
    let (name, until) = (credential.name().clone(), credential.expires_at().utc());
    let detail = format!("everything holds but that the credential of {name} expired on {until}");
    let expired = Some(Box::new(Expired { credential, state, issued_at }));
    Rejected { reason: Reason::Credential, signer: Some(name), detail, expired }
}

fn nothing() -> Arc<Mutex<Remembered>> {
    Arc::new(Mutex::new(Remembered::new(MAX_REMEMBERED)))
}

impl<M> Authentic<M> {
    /// The message.
    pub fn message(&self) -> &M {
        &self.message
    }

    /// The message alone, without what proves it.
    pub fn into_message(self) -> M {
        self.message
    }

    /// The signer's credential.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The digest of the body's very bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! payload {
    ($message:ident, $signer:expr, $client:expr) => {
        impl sealed::Sealed for $message {}

        impl Payload for $message {
            const TYPE: MessageType = MessageType::$message;
            const SIGNER: Option<Role> = $signer;

            fn realm(&self) -> &Name {
                &self.realm
            }

            fn from(&self) -> &Name {
                &self.from
            }

            fn credential(&self) -> Uuid {
                self.credential
            }

            fn subject(&self) -> &str {
                &self.subject
            }

            fn client(&self) -> Option<(State, Millis)> {
                let read: fn(&Self) -> Option<(State, Millis)> = $client;
                read(self)
            }
        }
    };
}

payload!(Command, Some(Role::Operator), |_| None);
payload!(Reply, Some(Role::Client), |reply| Some((reply.state, reply.issued_at)));
payload!(Event, Some(Role::Client), |event| Some((event.state, event.issued_at)));
payload!(RenewalRequest, None, |_| None);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

    use super::*;
    use crate::command::Version;
    use crate::credential::{Claims, Confirmation};
    use crate::envelope::{Identity, Signed};
    use crate::key::SecretKey;
    use crate::trust::{Issuer, TrustBody};

    /// The key of everybody.
    fn key() -> SecretKey {
        SecretKey::from_seed([1; 32])
    }

    fn trust() -> Trust {
        let (name, jwk): (Name, _) = ("demo".parse().unwrap(), key().public().jwk());
        let body = TrustBody {
            v: Version,
            realm: name.clone(),
            version: 1,
            expires_at: Millis::new(0),
            roots: vec![jwk.clone()],
            threshold: 1,
            issuers: vec![Issuer { name, jwk }],
            revoked: vec![],
        };
        Trust::verify(&Trust::sign(&body, &[&key()]), key().public().thumbprint()).unwrap()
    }

    fn credential(number: u8, exp: i64) -> Credential {
        let name: Name = "demo".parse().unwrap();
        let claims = Claims {
            iss: name.clone(),
            sub: name.clone(),
            jti: Uuid::from_random([number; 16]),
            iat: 0,
            nbf: 0,
            exp,
            realm: name,
            role: Role::Client,
            cnf: Confirmation { jwk: key().public().jwk() },
            grant: None,
            groups: Some(vec![]),
        };
        Credential::verify(&Credential::issue(&claims, &key()), &trust(), Millis::new(0), 0).unwrap()
    }

    #[test]
    fn remembered_credentials_are_bounded_and_the_first_to_expire_makes_room() {
        // Two expire at one moment.
        let [first, second, third, last] = [(1, 1), (2, 2), (3, 2), (4, 4)].map(|(n, exp)| credential(n, exp));
        let mut remembered = Remembered::new(3);
        for credential in [&second, &third, &first, &first] {
            remembered.add(credential);
        }
        assert!([&first, &second, &third].iter().all(|it| remembered.find(it.raw()).as_ref() == Some(*it)));
        remembered.add(&last);
        let found = [&first, &second, &third, &last].map(|it| remembered.find(it.raw()).is_some());
        assert_eq!(found, [false, true, true, true]);
    }

    #[test]
    fn the_credential_of_a_forged_message_is_verified_once_and_forgotten_with_its_bundle() {
        let mut verifier = Verifier::new(Arc::new(trust()), 0);
        let signer = Identity::new(key(), credential(1, 1)).unwrap();
        let genuine = signer.sign(MessageType::Event, "cs.demo.event.demo.job".to_owned(), b"{}".to_vec());
        let forged = Signed { body: (&b"{ }"[..]).into(), ..genuine };
        let rejected = verifier.open::<Event>(&forged.delivery(), Millis::new(0)).unwrap_err();
        assert_eq!(rejected.reason, Reason::Signature);
        assert_eq!(verifier.remembered().find(&forged.credential).as_ref(), Some(signer.credential()));
        verifier.set_trust(Arc::new(trust()));
        assert_eq!(verifier.remembered().find(&forged.credential), None);
    }
}
