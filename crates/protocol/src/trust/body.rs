//! What a trust bundle says (section 7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Version;
use crate::id::Uuid;
use crate::json;
use crate::key::{Jwk, Thumbprint};
use crate::name::Name;
use crate::time::Millis;

/// What a trust bundle says, exactly this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustBody {
    /// 1.
    pub v: Version,
    /// The realm.
    pub realm: Name,
    /// Counts the realm's bundles; an older one is never accepted.
    #[schemars(range(min = 1))]
    pub version: u64,
    /// When a client stops obeying under it.
    pub expires_at: Millis,
    /// The keys that may sign a bundle.
    pub roots: Vec<Jwk>,
    /// How many of them must.
    #[schemars(range(min = 1))]
    pub threshold: u64,
    /// Those who may issue credentials.
    pub issuers: Vec<Issuer>,
    /// What is refused at once.
    pub revoked: Vec<Revoked>,
}

/// One who may issue credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Its name, the `iss` of what it issues.
    pub name: Name,
    /// Its key.
    pub jwk: Jwk,
}

/// What is no longer to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RevokedWire", into = "RevokedWire")]
pub enum Revoked {
    /// One credential.
    Credential {
        /// Its id.
        jti: Uuid,
        /// From when on messages under it are to be doubted; for auditors.
        since: Millis,
    },
    /// Every credential of a key, or from an issuer's key.
    Key {
        /// The key's thumbprint.
        kid: Thumbprint,
        /// From when on messages under it are to be doubted; for auditors.
        since: Millis,
    },
}

/// A [`Revoked`] as it is written: exactly one of `jti` and `kid`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["jti"] }, { "required": ["kid"] }]))]
struct RevokedWire {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Uuid")]
    jti: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Thumbprint")]
    kid: Option<Thumbprint>,
    since: Millis,
}

impl TryFrom<RevokedWire> for Revoked {
    type Error = &'static str;

    fn try_from(wire: RevokedWire) -> Result<Self, Self::Error> {
        match (wire.jti, wire.kid) {
            (Some(jti), None) => Ok(Self::Credential { jti, since: wire.since }),
            (None, Some(kid)) => Ok(Self::Key { kid, since: wire.since }),
            _ => Err("exactly one of `jti` and `kid` was expected"),
        }
    }
}

impl From<Revoked> for RevokedWire {
    fn from(revoked: Revoked) -> Self {
        match revoked {
            Revoked::Credential { jti, since } => Self { jti: Some(jti), kid: None, since },
            Revoked::Key { kid, since } => Self { jti: None, kid: Some(kid), since },
        }
    }
}
