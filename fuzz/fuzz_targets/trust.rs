//! Trust bundles (section 7). The first byte chooses: a made-up bundle, or a made-up payload that the root did sign.
#![no_main]

use countersign_fuzz::{REALM, jws};
use countersign_protocol::envelope::MessageType;
use countersign_protocol::trust::Trust;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    if choice % 2 == 0 {
        assert!(Trust::verify(rest, REALM.pin).is_err());
        return;
    }
    let [protected, payload, signature] = jws(MessageType::Trust, &REALM.root, rest);
    let bundle =
        format!(r#"{{"payload":"{payload}","signatures":[{{"protected":"{protected}","signature":"{signature}"}}]}}"#);
    if let Ok(trust) = Trust::verify(bundle.as_bytes(), REALM.pin) {
        assert!(trust.version() >= 1);
        let issuer = REALM.issuer.public();
        assert!(trust.issuer(&issuer.thumbprint()).is_none_or(|(_, key)| key == issuer));
    }
});
