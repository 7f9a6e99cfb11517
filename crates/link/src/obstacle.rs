//! What stands in the way of a connection, by the error of the broker or the operating system, and what to do about it.

use std::error::Error as _;
use std::io;

use async_nats::{ConnectError, ConnectErrorKind, ServerError, rustls};

use super::supervisor::shown;

/// Why a broker does not let us in, or is not reached. Each has advice of its own; see [`LinkError`](super::LinkError).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The host's name has no address.
    Name,
    /// Nothing listens there, or the way to it is closed.
    Absent,
    /// It did not answer within the time that it was given.
    Silent,
    /// What answers does not speak the protocol of NATS's clients.
    NotNats,
    /// No TLS session came about.
    Tls,
    /// The broker does not know the connection key.
    Key,
    /// The broker's account or credentials for this key have ended.
    Ended,
    /// The broker waited too long for our introduction.
    Late,
    /// The broker has as many connections as it takes.
    Full,
    /// The broker refuses for another reason.
    Other,
}

impl Obstacle {
    /// What a broker means that ends the introduction with `-ERR` and this text.
    pub(super) fn refusal(text: &str) -> Self {
        let text = text.to_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        if has(&["timeout", "stale connection"]) {
            Self::Late
        } else if has(&["expired", "revoked", "account missing"]) {
            Self::Ended
        } else if has(&["authorization", "authentication"]) {
            Self::Key
        } else if has(&["maximum connections", "maximum account", "throttling"]) {
            Self::Full
        } else if has(&["tls"]) {
            Self::Tls
        } else if has(&["port", "protocol", "parser"]) {
            Self::NotNats
        } else {
            Self::Other
        }
    }

    /// Why the library has no connection: what it is, the error of the broker or the system, and whether it is the broker's.
    pub(super) fn of(error: &ConnectError) -> (Self, String, bool) {
        let source = error.source();
        let why = shown(&source.map_or_else(|| error.to_string(), ToString::to_string));
        if let Some(text) = source.and_then(|source| source.downcast_ref::<ServerError>()) {
            return (Self::refusal(&text.to_string()), why, true);
        }
        let io = source.and_then(|source| source.downcast_ref::<io::Error>());
        let is_tls = io.and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<rustls::Error>());
        let obstacle = match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                return (Self::Key, why, true);
            }
            ConnectErrorKind::Dns => Self::Name,
            ConnectErrorKind::TimedOut => Self::Silent,
            ConnectErrorKind::Tls => Self::Tls,
            _ if is_tls => Self::Tls,
            _ if io.is_some_and(|error| error.kind() != io::ErrorKind::InvalidInput) => Self::Absent,
            _ => Self::NotNats,
        };
        (obstacle, why, false)
    }

    /// What was expected.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Name => "the name of a host, or its address",
            Self::Absent => "a running NATS server",
            Self::Silent => "a NATS server that answers in time; --timeout has no part in this",
            Self::NotNats => "a NATS server's port for clients, 4222 by default",
            Self::Tls => "a certificate for this host name by an authority that this machine trusts",
            Self::Key => {
                "credentials (.creds) of an account that this broker has (nats/accounts.conf), neither expired nor revoked"
            }
            Self::Ended => "credentials (.creds) that have neither expired nor been revoked",
            Self::Late => "a connection that is made within the server's own time limit",
            Self::Full => "a NATS server that has room for one more connection",
            Self::Other => "a NATS server that lets us in",
        }
    }

    /// What to do.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Name => "correct the name in `--nats-url` or NATS_URL, or check this machine's name service",
            Self::Absent => "start the server, or name another by `--nats-url` or NATS_URL",
            Self::Silent => {
                "check the way to it (firewall, address, port) and its load, or name another by `--nats-url`"
            }
            Self::NotNats => "name the port for clients by `--nats-url` or NATS_URL, not one for routes or leaf nodes",
            Self::Tls => {
                "nats:// without --tls-ca where the server has no TLS; --tls-ca names its authority, --tls-cert what it may ask of us"
            }
            Self::Key => {
                "run `countersign init`, which renews what has expired; a server needs the nats/accounts.conf of this realm"
            }
            Self::Ended => "run `countersign credential renew` on the issuer's machine, and copy what it writes",
            Self::Late => "try again; if that does not help, raise `timeout` in the server's `authorization`",
            Self::Full => {
                "raise `max_connections` in the server's configuration, or end connections that are not needed"
            }
            Self::Other => "look for the reason in the server's log and configuration",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_says_has_the_advice_that_helps() {
        for (text, obstacle) in [
            ("nats: authorization violation", Obstacle::Key),
            ("nats: Authentication Timeout", Obstacle::Late),
            ("nats: Stale Connection", Obstacle::Late),
            ("nats: User Authentication Expired", Obstacle::Ended),
            ("nats: Account Authentication Expired", Obstacle::Ended),
            ("nats: User Authentication Revoked", Obstacle::Ended),
            ("nats: maximum connections exceeded", Obstacle::Full),
            ("nats: maximum account active connections exceeded", Obstacle::Full),
            ("nats: Secure Connection - TLS Required", Obstacle::Tls),
            ("nats: Attempted To Connect To Route Port", Obstacle::NotNats),
            ("nats: Unknown Protocol Operation", Obstacle::NotNats),
            ("nats: Parser Error", Obstacle::NotNats),
            ("nats: Server Shutdown", Obstacle::Other),
        ] {
            assert_eq!(Obstacle::refusal(text), obstacle, "{text}");
        }
    }

    #[test]
    fn only_for_an_unknown_key_is_the_advice_to_make_keys() {
        use Obstacle::{Absent, Ended, Full, Key, Late, Name, NotNats, Other, Silent, Tls};
        for obstacle in [Name, Absent, Silent, NotNats, Tls, Ended, Late, Full, Other] {
            assert!(!obstacle.hint().contains("countersign init"), "{obstacle:?}");
        }
        assert!(Key.hint().contains("countersign init"));
    }
}
