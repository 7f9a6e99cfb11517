//! The token: one line, which a person carries from the issuer's machine to the worker.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::command::Version;
use crate::envelope::body;
use crate::json::{self, present};
use crate::key::{SecretKey, Thumbprint};
use crate::limits::{MAX_CA, MAX_TOKEN};
use crate::name::{Name, TokenId};
use crate::time::Millis;

/// What every token begins with.
const PREFIX: &str = "csenroll1.";
/// How long the check at its end is, in characters.
const CHECK: usize = 8;

/// An enrolment token: what a worker must know to ask, and to believe the answer. A secret; `Debug` shows none of it.
#[derive(Clone)]
pub struct Token {
    /// Tells it from every other token.
    pub id: TokenId,
    /// The realm.
    pub realm: Name,
    /// The thumbprint of the root, from which on the answer is verified.
    pub root: Thumbprint,
    /// When its time is over, by the issuer's clock.
    pub expires_at: Millis,
    /// Whose token it is; `None` where whoever has it may ask, and a person decides.
    pub client: Option<TokenClient>,
    /// The URL of the broker.
    pub broker: String,
    /// The certificates of the broker's authority, in PEM.
    pub ca: Option<String>,
    /// The JWT of a user of the broker who may ask, and hear the answer.
    pub user_jwt: String,
    /// That user's key: a seed.
    pub seed: Zeroizing<String>,
}

/// What a token grants, without a person's decision.
#[derive(Clone)]
pub struct TokenClient {
    /// The name of the client.
    pub name: Name,
    /// The groups that it will be in.
    pub groups: Vec<Name>,
    /// What the request is to be signed with, as the 32 bytes of a private key: never sent.
    pub secret: Zeroizing<[u8; 32]>,
}

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as one.
    #[error("not an enrolment token: one begins with {PREFIX}")]
    NotAToken,
    /// It is longer than one can be.
    #[error("longer than an enrolment token can be, {MAX_TOKEN} characters")]
    TooLong,
    /// Its end is missing.
    #[error("the enrolment token is cut short: its end is missing")]
    CutShort,
    /// It is not as it was made.
    #[error("the enrolment token was changed: its check does not fit")]
    Changed,
    /// It fits its check and is not one of this version.
    #[error("the enrolment token is not one of this version: {0}")]
    Content(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: Version,
    id: TokenId,
    realm: Name,
    root: Thumbprint,
    expires_at: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    client: Option<WireClient>,
    broker: String,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    ca: Option<String>,
    user_jwt: String,
    seed: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireClient {
    name: Name,
    groups: Vec<Name>,
    key: String,
}

impl Token {
    /// Reads a line. White space is passed over, also where a terminal has broken the line, and so is a byte-order mark.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text: Zeroizing<String> = Zeroizing::new(
            text.chars().filter(|it| !it.is_whitespace() && *it != '\u{feff}').take(MAX_TOKEN + 1).collect(),
        );
        let rest = text.strip_prefix(PREFIX).ok_or(match PREFIX.starts_with(text.as_str()) && !text.is_empty() {
            true => TokenError::CutShort,
            false => TokenError::NotAToken,
        })?;
        if text.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let (payload, end) = rest.split_once('.').ok_or(TokenError::CutShort)?;
        if end.len() < CHECK {
            return Err(TokenError::CutShort);
        }
        if end != check(payload) {
            return Err(TokenError::Changed);
        }
        let content = |why: &dyn fmt::Display| TokenError::Content(why.to_string());
        let json = BASE64URL_NOPAD.decode(payload.as_bytes()).map(Zeroizing::new).map_err(|error| content(&error))?;
        let wire: Wire = json::parse_as(&json).map_err(|error| content(&error))?;
        if wire.ca.as_ref().is_some_and(|ca| ca.len() > MAX_CA) {
            return Err(content(&"its certificates are too long"));
        }
        let client = wire.client.map(WireClient::read).transpose()?;
        Ok(Self {
            id: wire.id,
            realm: wire.realm,
            root: wire.root,
            expires_at: wire.expires_at,
            client,
            broker: wire.broker,
            ca: wire.ca,
            user_jwt: wire.user_jwt,
            seed: Zeroizing::new(wire.seed),
        })
    }

    /// The line.
    pub fn to_text(&self) -> Zeroizing<String> {
        let client = self.client.as_ref().map(|client| WireClient {
            name: client.name.clone(),
            groups: client.groups.clone(),
            key: BASE64URL_NOPAD.encode(client.secret.as_slice()),
        });
        let wire = Wire {
            v: Version,
            id: self.id.clone(),
            realm: self.realm.clone(),
            root: self.root,
            expires_at: self.expires_at,
            client,
            broker: self.broker.clone(),
            ca: self.ca.clone(),
            user_jwt: self.user_jwt.clone(),
            seed: self.seed.to_string(),
        };
        let json = Zeroizing::new(body::write(&wire));
        let payload = Zeroizing::new(BASE64URL_NOPAD.encode(&json));
        Zeroizing::new(format!("{PREFIX}{}.{}", *payload, check(&payload)))
    }
}

impl WireClient {
    fn read(self) -> Result<TokenClient, TokenError> {
        let bytes = BASE64URL_NOPAD.decode(self.key.as_bytes()).map(Zeroizing::new).ok();
        let secret = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
        let secret = secret.ok_or_else(|| TokenError::Content("its key is not 32 bytes".to_owned()))?;
        Ok(TokenClient { name: self.name, groups: self.groups, secret: Zeroizing::new(secret) })
    }
}

impl TokenClient {
    /// The key that signs the request.
    pub fn key(&self) -> SecretKey {
        SecretKey::from_seed(*self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).field("realm", &self.realm).finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What tells a token from one with a mistake in it; it proves nothing.
fn check(payload: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(payload.as_bytes()).into();
    BASE64URL_NOPAD.encode(digest.get(..CHECK / 4 * 3).unwrap_or_default())
}
