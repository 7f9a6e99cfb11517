//! Keys (sections 2, 6 and 7): Ed25519, JWKs (RFC 8037), thumbprints (RFC 7638) and private keys in PKCS#8 PEM.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use ed25519::pkcs8::spki::der::pem::LineEnding;
use ed25519::pkcs8::{self, DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// A public key that has passed section 2: the canonical encoding of a point that is not of small order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

/// Why some bytes or a JWK are not a [`PublicKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// `x` is not the canonical, unpadded base64url of 32 bytes.
    #[error("the `x` of a key must be the unpadded base64url of 32 bytes")]
    Encoding,
    /// The bytes are no point of the curve.
    #[error("the key is not a point of the curve")]
    NotAPoint,
    /// The bytes encode a point that has another, canonical encoding.
    #[error("the key is not canonically encoded")]
    NonCanonical,
    /// The point is of small order: such a key signs everything.
    #[error("the key is of small order")]
    SmallOrder,
}

impl PublicKey {
    /// The key that 32 bytes encode, if section 2 allows it.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::NonCanonical);
        }
        if key.is_weak() {
            return Err(KeyError::SmallOrder);
        }
        Ok(Self(key))
    }

    /// Whether this key signed the message, strictly (section 2): S < L, R canonical and not of small order, the equation
    /// without the cofactor.
    ///
    /// `verify_strict` does all of it: it parses S as a canonical scalar, refuses an R of small order, and compares the
    /// bytes of R with the canonical encoding of the point that it computes.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }

    /// The RFC 7638 thumbprint (SHA-256) of the key's JWK: the `kid` by which everything names it.
    pub fn thumbprint(&self) -> Thumbprint {
        let x = BASE64URL_NOPAD.encode(self.as_bytes());
        Thumbprint(Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)).into())
    }

    /// The key as a JWK.
    pub fn jwk(&self) -> Jwk {
        Jwk { kty: KeyType::Okp, crv: Curve::Ed25519, x: BASE64URL_NOPAD.encode(self.as_bytes()) }
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.thumbprint())
    }
}

/// A public key as a JSON Web Key (RFC 8037) of exactly these members; not yet checked to be a valid key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwk {
    /// `OKP`.
    pub kty: KeyType,
    /// `Ed25519`.
    pub crv: Curve,
    /// The key's 32 bytes in unpadded base64url.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"))]
    pub x: String,
}

/// The one type of keys that a [`Jwk`] may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum KeyType {
    /// An octet key pair.
    #[serde(rename = "OKP")]
    Okp,
}

/// The one curve that a [`Jwk`] may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Curve {
    /// Edwards 25519, for signatures.
    Ed25519,
}

impl TryFrom<&Jwk> for PublicKey {
    type Error = KeyError;

    fn try_from(jwk: &Jwk) -> Result<Self, KeyError> {
        Self::from_bytes(&decode(&jwk.x).ok_or(KeyError::Encoding)?)
    }
}

/// The RFC 7638 thumbprint (SHA-256) of a key's JWK; 43 characters of unpadded base64url as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thumbprint([u8; 32]);

/// Why a text is not a [`Thumbprint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a thumbprint: 43 characters of unpadded base64url were expected")]
pub struct InvalidThumbprint;

impl Thumbprint {
    /// The least of all thumbprints, where a range of them begins.
    pub const MIN: Self = Self([0; 32]);

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Thumbprint {
    type Err = InvalidThumbprint;

    fn from_str(text: &str) -> Result<Self, InvalidThumbprint> {
        decode(text).map(Self).ok_or(InvalidThumbprint)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Thumbprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Thumbprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Thumbprint {
    fn schema_name() -> Cow<'static, str> {
        "Thumbprint".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$" })
    }
}

/// A private key. Its secret is wiped from memory when it is dropped, and no text form but [`to_pem`](Self::to_pem) shows
/// it; two are equal when their public keys are.
#[derive(Clone)]
pub struct SecretKey {
    signing: SigningKey,
    public: PublicKey,
}

/// Why a text is not a [`SecretKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// Not a private key in PKCS#8 PEM at all: another label, an encrypted key, a damaged file.
    #[error("not an unencrypted private key in PKCS#8 PEM (`BEGIN PRIVATE KEY`): {0}")]
    Form(pkcs8::Error),
    /// A private key for another algorithm.
    #[error("a private key for another algorithm; an Ed25519 key was expected")]
    Algorithm,
    /// PKCS#8 version 2, which carries the public key too and which OpenSSL 3.0 cannot read.
    #[error("a private key in PKCS#8 version 2; version 1, without the public key, was expected")]
    Version,
}

impl SecretKey {
    /// The key that 32 random bytes make.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(&seed);
        seed.zeroize();
        // A clamped scalar is a multiple of 8 and not of L, so its point is canonical and never of small order.
        let public = PublicKey(signing.verifying_key());
        Self { signing, public }
    }

    /// Reads a private key in PKCS#8 PEM, version 1, as [`to_pem`](Self::to_pem) and `openssl pkey` write it (section 7).
    pub fn from_pem(pem: &str) -> Result<Self, SecretKeyError> {
        let pair = KeypairBytes::from_pkcs8_pem(pem).map_err(|error| match error {
            pkcs8::Error::PublicKey(_) => SecretKeyError::Algorithm,
            other => SecretKeyError::Form(other),
        })?;
        if pair.public_key.is_some() {
            return Err(SecretKeyError::Version);
        }
        Ok(Self::from_seed(pair.secret_key))
    }

    /// The key in PKCS#8 PEM, version 1, which `openssl pkey` reads (section 7).
    #[expect(clippy::expect_used, reason = "48 bytes of DER always encode")]
    pub fn to_pem(&self) -> Zeroizing<String> {
        KeypairBytes { secret_key: self.signing.to_bytes(), public_key: None }
            .to_pkcs8_pem(LineEnding::LF)
            .expect("a PKCS#8 document of fixed length")
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature over a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for SecretKey {}

impl Hash for SecretKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.public.hash(state);
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public.thumbprint())
    }
}

/// 32 bytes from their canonical, unpadded base64url.
fn decode(text: &str) -> Option<[u8; 32]> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}
