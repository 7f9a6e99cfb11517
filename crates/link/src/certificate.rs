//! When the broker's certificate ends.

use std::future::ready;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::rustls::client::WebPkiServerVerifier;
use async_nats::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use async_nats::rustls::pki_types::pem::{Error as PemError, PemObject};
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use async_nats::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use countersign_keys::Login;
use countersign_protocol::text::escape;
use countersign_protocol::time::Millis;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::address::parse;
use super::supervisor::answer;
use super::{BrokerAddress, LinkError, TlsFiles};

/// How long before its end people are told of a certificate, in seconds: 14 days. Whoever renews by machine has done so by then.
const AHEAD: u64 = 14 * 86_400;
/// How long one broker may take.
const LIMIT: Duration = Duration::from_secs(5);

/// When the first certificate of the brokers that a URL names ends, or of those that vouch for it, where that is within 14 days;
/// `None` where none does. It connects to each broker by itself, with TLS, and passes over those that cannot be reached so; there
/// is an error where none can.
pub async fn certificate_end(
    broker: &BrokerAddress,
    login: &Login,
    inbox_prefix: &str,
) -> Result<Option<Millis>, LinkError> {
    let unseen = || LinkError::System("the broker's certificate was not seen".to_owned());
    let (broker, login, inbox_prefix) = (broker.clone(), login.clone(), inbox_prefix.to_owned());
    let (seen, end) = oneshot::channel();
    // As for every connection: what a hostile broker does to the library stays there.
    std::thread::spawn(move || {
        if let Ok(runtime) = Builder::new_current_thread().enable_all().build() {
            let ends = runtime.block_on(look(&broker, &login, &inbox_prefix));
            runtime.shutdown_background();
            // Nobody may wait for it any more.
            let _ = seen.send(ends);
        }
    });
    let ends = end.await.map_err(|_| unseen())??;
    if ends.is_empty() { Err(unseen()) } else { Ok(ends.into_iter().flatten().min()) }
}

/// Of each broker that shows its certificate.
async fn look(broker: &BrokerAddress, login: &Login, inbox_prefix: &str) -> Result<Vec<Option<Millis>>, LinkError> {
    let mut ends = Vec::new();
    for server in parse(&broker.url)? {
        let end = Arc::new(OnceLock::new());
        let (login, jwt) = (login.clone(), login.latest_jwt());
        let options = ConnectOptions::with_auth_callback(move |nonce| ready(answer(&login, &jwt, &nonce)))
            .custom_inbox_prefix(inbox_prefix)
            .tls_client_config(config(&broker.tls, &end)?)
            .require_tls(true)
            .ignore_discovered_servers();
        // What became of it is seen by whoever connects for more than this.
        let _ = timeout(LIMIT, options.connect(server)).await;
        ends.extend(end.get().copied());
    }
    Ok(ends)
}

/// The same authorities and the same certificate of ours as for every connection.
fn config(files: &TlsFiles, end: &Arc<OnceLock<Option<Millis>>>) -> Result<ClientConfig, LinkError> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(ca) => roots.add_parsable_certificates(certificates(ca)?),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    let system = |error: &dyn std::fmt::Display| LinkError::System(escape(&error.to_string()).into_owned());
    let inner = WebPkiServerVerifier::builder(Arc::new(roots)).build().map_err(|error| system(&error))?;
    let verifier = Arc::new(LooksAhead { inner, end: Arc::clone(end) });
    // The verifier is rustls' own, which is asked a second time for a later moment.
    let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = &files.own else { return Ok(builder.with_no_client_auth()) };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    builder.with_client_auth_cert(certificates(certificate)?, private).map_err(|error| system(&error))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let fail = |error: PemError| unreadable(file, &error);
    CertificateDer::pem_file_iter(file).map_err(fail)?.collect::<Result<_, _>>().map_err(fail)
}

fn unreadable(file: &Path, error: &PemError) -> LinkError {
    LinkError::TlsFile {
        file: escape(&file.to_string_lossy()).into_owned(),
        why: escape(&error.to_string()).into_owned(),
    }
}

/// Verifies a certificate, and whether it still holds in [`AHEAD`].
#[derive(Debug)]
struct LooksAhead {
    inner: Arc<WebPkiServerVerifier>,
    end: Arc<OnceLock<Option<Millis>>>,
}

impl ServerCertVerifier for LooksAhead {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(certificate, others, name, ocsp, now)?;
        let later = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().saturating_add(AHEAD)));
        let ahead = self.inner.verify_server_cert(certificate, others, name, ocsp, later);
        let end = match ahead {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                i64::try_from(not_after.as_secs()).ok().map(Millis::from_seconds)
            }
            _ => None,
        };
        self.end.get_or_init(|| end);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
