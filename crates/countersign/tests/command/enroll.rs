//! `countersign enroll` where no broker is needed: what a token is made for, and what is refused.

use countersign_protocol::enrolment::Token;

use crate::folder::{Folder, mode};

#[test]
fn a_name_or_a_group_that_is_a_pattern_is_refused_with_the_rule_and_leaves_nothing() {
    let folder = Folder::with_keys(&[]);
    let before = folder.files();
    let long = "a".repeat(300);
    for wrong in ["*", ">", "a.b", "", "a b", "Worker-7", "wörker", &long] {
        for args in [vec!["token", wrong], vec!["token", "worker-7", "--group", wrong], vec!["request", wrong]] {
            let run = folder.run(&[&["enroll"], &args[..]].concat()).expect(2);
            // One without end is cut short, and the rule with it.
            let rule = if wrong.len() > 64 { "…" } else { "1 to 64 of a-z, 0-9, - and _" };
            assert!(run.stderr.lines().count() <= 3 && run.stderr.contains(rule), "{args:?}: {run:#?}");
        }
    }
    let groups: Vec<String> = (0..300).map(|number| format!("group-{number}")).collect();
    let groups: Vec<&str> = groups.iter().flat_map(|group| ["--group", group]).collect();
    let run = folder.run(&[&["enroll", "token", "worker-7"], &groups[..]].concat()).expect(5);
    assert!(run.stderr.contains("4 KiB long at most") && run.stderr.contains("fewer groups"), "{run:#?}");
    assert_eq!(folder.files(), before);
}

#[test]
fn a_token_is_in_no_file_of_the_issuer_and_changes_nothing_that_the_broker_reads() {
    let folder = Folder::with_keys(&[]);
    let before = folder.files();
    let run =
        folder.run(&["enroll", "token", "worker-7", "--group", "web", "--nats-url", "tls://b.example", "-o", "json"]);
    let made = run.expect(0).json();
    let text = made["token"].as_str().unwrap();
    let token = Token::parse(text).unwrap();
    assert_eq!(token.broker, "tls://b.example");
    assert_eq!((made["name"].as_str(), made["groups"][0].as_str()), (Some("worker-7"), Some("web")));
    let mut after = folder.files();
    let record = folder.path("keys/enrolment/tokens/worker-7.json");
    let remembered = String::from_utf8(after.remove(&record).unwrap()).unwrap();
    assert_eq!(after, before);
    assert!(!remembered.contains(&*token.seed) && !remembered.contains("secret"), "{remembered}");
    assert_eq!(mode(&folder.path("keys/enrolment")), 0o700);
}

#[test]
fn a_token_carries_the_certificates_of_the_broker_s_authority_and_no_key_that_lies_beside_them() {
    let folder = Folder::with_keys(&[]);
    let ca = "junk\n-----BEGIN CERTIFICATE-----\r\nQUJD\r\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    std::fs::write(folder.path("ca.pem"), ca).unwrap();
    let made = folder.run(&["enroll", "token", "worker-7", "--tls-ca", "ca.pem", "-o", "json"]).expect(0).json();
    let token = Token::parse(made["token"].as_str().unwrap()).unwrap();
    assert_eq!(token.ca.as_deref(), Some("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"));
    std::fs::write(folder.path("ca.pem"), "nothing").unwrap();
    let run = folder.run(&["enroll", "token", "worker-8", "--tls-ca", "ca.pem"]).expect(2);
    assert!(run.stderr.contains("has 0 bytes of certificates"), "{run:#?}");
}

#[test]
fn without_the_keys_of_the_issuer_nobody_is_enrolled_and_the_file_is_named() {
    let folder = Folder::with_keys(&[]);
    std::fs::rename(folder.path("keys/issuer.pem"), folder.path("issuer.pem")).unwrap();
    for args in [&["enroll", "token", "worker-7"][..], &["enroll", "list"]] {
        let run = folder.run(args).expect(5);
        assert!(run.stderr.contains("keys/issuer.pem"), "{run:#?}");
    }
    std::fs::rename(folder.path("issuer.pem"), folder.path("keys/issuer.pem")).unwrap();
    assert_eq!(folder.run(&["enroll", "list"]).expect(0).stdout, "nobody has asked\n");
}
