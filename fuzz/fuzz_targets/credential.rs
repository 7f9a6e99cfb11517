//! Credentials (section 6). The first byte chooses: a made-up credential, or made-up claims that the issuer did sign.
#![no_main]

use countersign_fuzz::{NOW, REALM, jws};
use countersign_protocol::credential::{Credential, Role};
use countersign_protocol::envelope::MessageType;
use countersign_protocol::limits::SKEW;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    if choice % 2 == 0 {
        assert!(Credential::verify(&String::from_utf8_lossy(rest), &REALM.trust, NOW, SKEW).is_err());
        return;
    }
    let raw = jws(MessageType::Credential, &REALM.issuer, rest).join(".");
    let Ok(credential) = Credential::verify(&raw, &REALM.trust, NOW, SKEW) else { return };
    assert_eq!(credential.raw().as_ref(), raw);
    assert_eq!(credential.realm().as_str(), "demo");
    assert_eq!(credential.kid(), credential.key().thumbprint());
    assert_eq!(credential.grant().is_some(), credential.role() == Role::Operator);
    assert!(credential.expires_at().plus(SKEW) > NOW);
});
