//! Certificates that are made on the spot.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// Writes into a folder an authority (`ca.pem`), another one (`other.pem`), a certificate of the first for a broker at `localhost`
/// (`broker.pem`, `broker.key`) and one for whoever connects to it (`own.pem`, `own.key`).
pub fn write(folder: &Path) {
    write_for(folder, Duration::from_secs(365 * 86_400));
}

/// The same, where the two certificates are valid for so long.
pub fn write_for(folder: &Path, life: Duration) {
    let (_, other) = authority();
    fs::write(folder.join("other.pem"), other).unwrap();
    let (issuer, ca) = authority();
    fs::write(folder.join("ca.pem"), ca).unwrap();
    for (name, purpose) in
        [("broker", ExtendedKeyUsagePurpose::ServerAuth), ("own", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages.push(purpose);
        params.not_after = (SystemTime::now() + life).into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (Issuer::new(params, key), certificate.pem())
}
