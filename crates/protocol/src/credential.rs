//! Credentials (section 6): who holds a key, and what it may do, signed by an issuer.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ending::Term;
use crate::envelope::body::{self, BodyError};
use crate::envelope::{HeaderError, MessageType, jws};
use crate::id::Uuid;
use crate::json::{JsonError, present};
use crate::key::{Jwk, KeyError, PublicKey, SecretKey, Thumbprint};
use crate::limits::MAX_CREDENTIAL;
use crate::name::Name;
use crate::text::words;
use crate::time::Millis;
use crate::trust::Trust;

/// The claims of a credential, exactly these. An operator's has `grant` and no `groups`, a client's `groups` and no `grant`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "properties": { "role": { "const": "operator" } }, "required": ["grant"], "not": { "required": ["groups"] } },
    { "properties": { "role": { "const": "client" } }, "required": ["groups"], "not": { "required": ["grant"] } }
]))]
pub struct Claims {
    /// The issuer's name.
    pub iss: Name,
    /// The name that the credential vouches for.
    pub sub: Name,
    /// The credential's own id, which every body that it covers names.
    pub jti: Uuid,
    /// When it was issued, in seconds since the Unix epoch; nothing is decided by it.
    pub iat: i64,
    /// When it begins to hold, in seconds since the Unix epoch.
    pub nbf: i64,
    /// When it no longer holds, in seconds since the Unix epoch.
    pub exp: i64,
    /// The realm that it holds in.
    pub realm: Name,
    /// Which messages its key may sign.
    pub role: Role,
    /// The key that it is for.
    pub cnf: Confirmation,
    /// What an operator may do.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Grant")]
    pub grant: Option<Grant>,
    /// The groups that a client belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Vec<Name>")]
    pub groups: Option<Vec<Name>>,
}

/// The key that a credential is for (RFC 7800).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The public key.
    pub jwk: Jwk,
}

words! {
    /// Which messages the holder of a credential signs.
    pub enum Role {
        /// Commands.
        Operator = "operator",
        /// Replies and events.
        Client = "client",
    }
}

/// What an operator may do. Empty lists grant nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The commands.
    pub commands: Commands,
    /// The clients within reach.
    pub clients: Vec<Name>,
    /// The groups whose clients are within reach.
    pub groups: Vec<Name>,
    /// Whether every client is within reach.
    pub all: bool,
    /// The longest life of a command, in milliseconds; the client's own limit may be shorter.
    #[schemars(range(min = 1))]
    pub max_ttl_ms: i64,
}

impl Grant {
    /// Whether it covers a command.
    pub fn permits(&self, command: &str) -> bool {
        match &self.commands {
            Commands::Any => true,
            Commands::Only(names) => names.iter().any(|name| name.as_str() == command),
        }
    }

    /// Whether a client, which belongs to these groups, is within reach.
    pub fn reaches(&self, client: &Name, groups: &[Name]) -> bool {
        self.all || self.clients.contains(client) || groups.iter().any(|group| self.groups.contains(group))
    }
}

/// The commands of a [`Grant`]: `["*"]`, which stands alone, or names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Commands {
    /// Every command.
    Any,
    /// These commands.
    Only(Vec<Name>),
}

impl Serialize for Commands {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => ["*"].serialize(serializer),
            Self::Only(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Commands {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        if names == ["*"] {
            return Ok(Self::Any);
        }
        let names: Result<_, _> = names.iter().map(|name| name.parse()).collect();
        names.map(Self::Only).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Commands {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Commands".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": ["*"] }, generator.subschema_for::<Vec<Name>>()] })
    }
}

/// A credential that an issuer of the trust bundle signed and that held when it was read. Cheap to clone; two are equal
/// when their bytes are.
#[derive(Clone)]
pub struct Credential(Arc<Verified>);

struct Verified {
    raw: Arc<str>,
    issuer: Thumbprint,
    claims: Claims,
    key: PublicKey,
    kid: Thumbprint,
}

/// What an issuer of the trust bundle signed, whether it holds or not: to be shown or renewed. No message is verified with
/// it: that takes a [`Credential`].
#[derive(Debug, Clone)]
pub struct Examined {
    /// Its claims.
    pub claims: Claims,
    /// The key that it is for.
    pub key: PublicKey,
    /// The thumbprint of the issuer's key.
    pub issuer: Thumbprint,
    /// Whether its holder may sign with it, and why not.
    pub holds: Result<(), CredentialError>,
}

/// Why a credential is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// It is longer than section 2 allows.
    #[error("a credential of {got} bytes; at most {MAX_CREDENTIAL} are accepted")]
    Size {
        /// Its length, in bytes.
        got: usize,
    },
    /// It is not a compact JWS: three parts, with dots between them.
    #[error("not a JWT in compact form: three parts of unpadded base64url were expected")]
    Form,
    /// Its protected header is not exactly what section 6 says.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The trust bundle knows no such issuer.
    #[error("issued by the key {got}, which is no issuer in the trust bundle")]
    UnknownIssuer {
        /// The key that claims to have issued it.
        got: Thumbprint,
    },
    /// The issuer did not sign it.
    #[error("not signed by the issuer's key {kid}")]
    Signature {
        /// The issuer's key.
        kid: Thumbprint,
    },
    /// Its claims break a rule of section 3.
    #[error("the claims are not strict JSON: {0}")]
    Json(JsonError),
    /// Its claims are not exactly those of section 6.
    #[error("the claims are not those of a credential: {0}")]
    Claims(String),
    /// `iss` is not the name of the issuer whose key signed it.
    #[error("`iss` is {got}, but the key that signed it is {expected}'s")]
    Issuer {
        /// The issuer that signed it.
        expected: Name,
        /// The issuer that it names.
        got: Name,
    },
    /// It is for another realm.
    #[error("for the realm {got}, but this is {expected}")]
    Realm {
        /// The realm of the trust bundle.
        expected: Name,
        /// The realm that it names.
        got: Name,
    },
    /// The key that it is for is not one of section 2.
    #[error("the key that it is for is refused: {0}")]
    Key(KeyError),
    /// It does not hold yet.
    #[error("not valid before {}, but it is {}", Millis::from_seconds(*nbf).utc(), now.utc())]
    NotYetValid {
        /// When it begins to hold, in seconds.
        nbf: i64,
        /// The moment of the check.
        now: Millis,
    },
    /// It no longer holds.
    #[error("expired on {}, and it is {}", Millis::from_seconds(*exp).utc(), now.utc())]
    Expired {
        /// When it ceased to hold, in seconds.
        exp: i64,
        /// The moment of the check.
        now: Millis,
    },
    /// The trust bundle revokes it, its key, or its issuer.
    #[error("the credential {jti}, its key or its issuer's is revoked")]
    Revoked {
        /// The credential.
        jti: Uuid,
    },
}

impl Credential {
    /// Verifies a credential in compact form against a trust bundle: header, issuer's signature, claims, realm, times
    /// (`nbf − skew ≤ now < exp + skew`, the skew in milliseconds) and revocation.
    pub fn verify(raw: &str, trust: &Trust, now: Millis, skew: i64) -> Result<Self, CredentialError> {
        let credential = Self::issued(raw, trust)?;
        credential.still_valid(now, skew, trust)?;
        Ok(credential)
    }

    /// What a credential says, and whether its holder may sign with it (`nbf − skew ≤ now < exp`, section 6). An error means
    /// that no issuer of the trust bundle signed it, or that what it signed is no credential.
    pub fn examine(raw: &str, trust: &Trust, now: Millis, skew: i64) -> Result<Examined, CredentialError> {
        let credential = Self::issued(raw, trust)?;
        let Verified { issuer, claims, key, .. } = &*credential.0;
        let holds = credential.still_valid(now, skew, trust).and_then(|()| match now < credential.expires_at() {
            true => Ok(()),
            false => Err(CredentialError::Expired { exp: claims.exp, now }),
        });
        Ok(Examined { claims: claims.clone(), key: *key, issuer: *issuer, holds })
    }

    /// What an issuer of the trust bundle signed; nothing that changes with time is looked at.
    pub(crate) fn issued(raw: &str, trust: &Trust) -> Result<Self, CredentialError> {
        if raw.len() > MAX_CREDENTIAL {
            return Err(CredentialError::Size { got: raw.len() });
        }
        let (input, signature) = raw.rsplit_once('.').ok_or(CredentialError::Form)?;
        let (protected, payload) = input.split_once('.').ok_or(CredentialError::Form)?;
        let issuer = jws::unprotect(protected, MessageType::Credential)?;
        let (_, issuer_key) = trust.issuer(&issuer).ok_or(CredentialError::UnknownIssuer { got: issuer })?;
        if !jws::verify(issuer_key, input, signature) {
            return Err(CredentialError::Signature { kid: issuer });
        }
        let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).map_err(|_| CredentialError::Form)?;
        let claims: Claims = body::read(MessageType::Credential, &payload).map_err(|error| match error {
            BodyError::Json(error) => CredentialError::Json(error),
            BodyError::Shape(detail) => CredentialError::Claims(detail),
        })?;
        let key = PublicKey::try_from(&claims.cnf.jwk).map_err(CredentialError::Key)?;
        Ok(Self(Arc::new(Verified { raw: raw.into(), issuer, claims, key, kid: key.thumbprint() })))
    }

    /// Whether a credential that was verified before holds now, and under this trust bundle: everything but the issuer's
    /// signature over bytes that have not changed since.
    pub fn still_valid(&self, now: Millis, skew: i64, trust: &Trust) -> Result<(), CredentialError> {
        self.vouched_for(trust)?;
        let claims = &self.0.claims;
        // 128 bits hold every sum of 64-bit times and skews, so no claim overflows.
        let [at, skew] = [now.get(), skew].map(i128::from);
        if i128::from(claims.nbf) * 1_000 - skew > at {
            return Err(CredentialError::NotYetValid { nbf: claims.nbf, now });
        }
        if at >= i128::from(claims.exp) * 1_000 + skew {
            return Err(CredentialError::Expired { exp: claims.exp, now });
        }
        Ok(())
    }

    /// Whether a trust bundle vouches for it, whatever the time: it lists the issuer under its name, is of the same realm, and
    /// revokes neither it nor a key of it.
    pub fn vouched_for(&self, trust: &Trust) -> Result<(), CredentialError> {
        let Verified { issuer, claims, kid, .. } = &*self.0;
        let (name, _) = trust.issuer(issuer).ok_or(CredentialError::UnknownIssuer { got: *issuer })?;
        if claims.iss != *name {
            return Err(CredentialError::Issuer { expected: name.clone(), got: claims.iss.clone() });
        }
        if claims.realm != *trust.realm() {
            return Err(CredentialError::Realm { expected: trust.realm().clone(), got: claims.realm.clone() });
        }
        // Before the times: one that has expired and is not revoked holds but for that.
        if trust.is_revoked(&claims.jti, kid) || trust.is_revoked(&claims.jti, issuer) {
            return Err(CredentialError::Revoked { jti: claims.jti });
        }
        Ok(())
    }

    /// Signs claims with an issuer's key: a credential in compact form. Nothing is checked; whoever issues verifies it.
    pub fn issue(claims: &Claims, issuer: &SecretKey) -> String {
        let protected = jws::protect(MessageType::Credential, issuer.public().thumbprint());
        let input = jws::signing_input(&protected, &body::write(claims));
        let signature = jws::sign(issuer, &input);
        format!("{input}.{signature}")
    }

    /// The credential in compact form, the very bytes that were verified.
    pub fn raw(&self) -> &Arc<str> {
        &self.0.raw
    }

    /// The realm that it is for.
    pub fn realm(&self) -> &Name {
        &self.0.claims.realm
    }

    /// The name that it vouches for.
    pub fn name(&self) -> &Name {
        &self.0.claims.sub
    }

    /// Its id.
    pub fn jti(&self) -> Uuid {
        self.0.claims.jti
    }

    /// The thumbprint of the key that it is for.
    pub fn kid(&self) -> Thumbprint {
        self.0.kid
    }

    /// The key that it is for.
    pub fn key(&self) -> &PublicKey {
        &self.0.key
    }

    /// Which messages the key may sign.
    pub fn role(&self) -> Role {
        self.0.claims.role
    }

    /// What the holder may do, if it is an operator.
    pub fn grant(&self) -> Option<&Grant> {
        self.0.claims.grant.as_ref()
    }

    /// The groups that the holder belongs to; an operator is in none.
    pub fn groups(&self) -> &[Name] {
        self.0.claims.groups.as_deref().unwrap_or_default()
    }

    /// When it was issued.
    pub fn issued_at(&self) -> Millis {
        Millis::from_seconds(self.0.claims.iat)
    }

    /// When it no longer holds, the skew apart.
    pub fn expires_at(&self) -> Millis {
        Millis::from_seconds(self.0.claims.exp)
    }

    /// When it begins to hold, the skew apart.
    pub fn begins_at(&self) -> Millis {
        Millis::from_seconds(self.0.claims.nbf)
    }

    /// Whether it has begun to hold at a moment.
    pub fn has_begun(&self, now: Millis, skew: i64) -> bool {
        now >= self.begins_at().plus(-skew)
    }

    /// Whether half of its life is over at a moment.
    pub fn is_past_half(&self, now: Millis) -> bool {
        now.since(self.begins_at()) >= self.expires_at().since(self.begins_at()) / 2
    }

    /// Whether another one may take its place: it is for the same key, name, role and realm.
    pub fn is_succeeded_by(&self, next: &Self) -> bool {
        let holder = |it: &Self| (*it.key(), it.name().clone(), it.role(), it.realm().clone());
        holder(self) == holder(next) && next.jti() != self.jti()
    }

    /// Its term, the skew apart.
    pub fn term(&self) -> Term {
        Term::between(self.begins_at(), self.expires_at())
    }

    /// Whether the holder may sign with it at a moment of its own clock, `nbf − skew ≤ now < exp`. Its receivers allow the
    /// skew after `exp` too: what is signed before `exp` is never refused for a clock that is a little ahead.
    pub fn is_in_force(&self, now: Millis, skew: i64) -> bool {
        now < self.expires_at() && self.has_begun(now, skew)
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        self.raw() == other.raw()
    }
}

impl Eq for Credential {}

impl Hash for Credential {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw().hash(state);
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, {}, {})", self.name(), self.jti(), self.kid())
    }
}
