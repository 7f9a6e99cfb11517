//! Where the broker is, and what proves that it is it.

use std::path::PathBuf;

use async_nats::{ConnectOptions, ServerAddr};
use countersign_protocol::text::escape;

use super::LinkError;

/// What to say where [`Link::is_readable_by_others`](super::Link::is_readable_by_others).
pub const READABLE: &str = "the connection to the broker has no TLS, and leaves this machine: whoever can listen can read; --tls-ca or tls:// requires it";

/// A broker's URL, and the files of TLS. A certificate is verified whenever there is TLS, and nothing turns that off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerAddress {
    /// `nats://host:port` or `tls://host:port`, or several with commas between, of which any will do. Every address of every
    /// name is tried.
    pub url: String,
    /// The files of TLS.
    pub tls: TlsFiles,
}

/// The files of TLS, in PEM. With any of them TLS is required, whatever the URL says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that the broker's certificate may be from; by default those that the system trusts.
    pub ca: Option<PathBuf>,
    /// A certificate of our own and its key, for a broker that asks for one.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl From<&str> for BrokerAddress {
    fn from(url: &str) -> Self {
        Self { url: url.to_owned(), tls: TlsFiles::default() }
    }
}

impl From<String> for BrokerAddress {
    fn from(url: String) -> Self {
        Self { url, tls: TlsFiles::default() }
    }
}

impl From<&String> for BrokerAddress {
    fn from(url: &String) -> Self {
        url.as_str().into()
    }
}

impl TlsFiles {
    /// Whether TLS is required for their sake.
    pub(super) fn require(&self) -> bool {
        *self != Self::default()
    }

    /// Whether they can be read: the library would say that there is no broker.
    pub fn check(&self) -> Result<(), LinkError> {
        let own = self.own.iter().flat_map(|(certificate, key)| [certificate, key]);
        for file in self.ca.iter().chain(own) {
            std::fs::File::open(file).map_err(|error| LinkError::TlsFile {
                file: escape(&file.to_string_lossy()).into_owned(),
                why: error.to_string(),
            })?;
        }
        Ok(())
    }

    /// Adds them to the options of a connection.
    pub(super) fn apply(&self, mut options: ConnectOptions) -> ConnectOptions {
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &self.own {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        options.require_tls(self.require())
    }
}

/// Whether what goes to a server leaves this machine.
pub(super) fn leaves_this_machine(server: &ServerAddr) -> bool {
    let host = server.host().trim_matches(['[', ']']);
    !host.eq_ignore_ascii_case("localhost") && !host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether every server of a URL is on this machine.
pub fn is_loopback(url: &str) -> bool {
    super::address::parse(url).is_ok_and(|servers| !servers.iter().any(leaves_this_machine))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn only_what_goes_to_a_loopback_address_stays_on_this_machine() {
        for (url, leaves) in [
            ("nats://127.0.0.1:4222", false),
            ("nats://127.8.8.8", false),
            ("nats://[::1]:4222", false),
            ("nats://localhost", false),
            ("nats://LOCALHOST:1", false),
            ("nats://localhost.example", true),
            ("nats://broker", true),
            ("nats://10.0.0.1:4222", true),
            ("nats://0.0.0.0", true),
        ] {
            assert_eq!(leaves_this_machine(&url.parse().unwrap()), leaves, "{url}");
        }
    }
}
