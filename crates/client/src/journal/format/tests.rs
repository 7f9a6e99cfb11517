#![allow(clippy::unwrap_used, reason = "a test may")]

use countersign_protocol::key::Thumbprint;

use super::*;

const ID: &str = "01999999-9999-7999-8999-999999999999";
const EPOCH: &str = "02020202-0202-4202-8202-020202020202";

fn key() -> JobKey {
    JobKey { id: ID.parse().unwrap(), operator: Thumbprint::MIN }
}

fn entries() -> Vec<(Entry, String)> {
    let operator = Thumbprint::MIN;
    let digest = format!("sha256:{}", "00".repeat(32));
    let started = Started {
        reply_context: ReplyContext {
            key: key(),
            operator: "alice".parse().unwrap(),
            reply_to: format!("cs.demo.reply.alice.s1.{ID}"),
            digest: digest.parse().unwrap(),
        },
        command: "calculate".parse().unwrap(),
        long_running: true,
        at: Millis::new(2),
        until: Millis::new(3),
    };
    let reply = Signed {
        subject: "cs.demo".to_owned(),
        signature: "a..b".to_owned(),
        credential: "c".into(),
        body: r#"{"v":1,"text":"ü"}"#.into(),
    };
    let finished = |reply| Finished { key: key(), at: Millis::new(4), status: Status::Succeeded, reply };
    vec![
        (
            Entry::EpochStarted(EpochStart {
                at: Millis::new(1),
                epoch: EPOCH.parse().unwrap(),
                since: Millis::new(-5),
                trust: 7,
            }),
            format!(r#"{{"epoch":{{"at":1,"epoch":"{EPOCH}","since":-5,"trust":7}}}}"#),
        ),
        (
            Entry::Started(started),
            format!(r#"{{"started":{{"key":{{"id":"{ID}","operator":"{operator}"}},"operator":"alice","#,)
                + &format!(r#""reply_to":"cs.demo.reply.alice.s1.{ID}","digest":"{digest}","command":"calculate","#)
                + r#""long_running":true,"at":2,"until":3}}"#,
        ),
        (
            Entry::Interim { key: key(), seq: 9 },
            format!(r#"{{"interim":{{"key":{{"id":"{ID}","operator":"{operator}"}},"seq":9}}}}"#),
        ),
        (
            Entry::Finished(finished(None)),
            format!(r#"{{"finished":{{"key":{{"id":"{ID}","operator":"{operator}"}},"at":4,"status":"succeeded"}}}}"#),
        ),
        (
            Entry::Finished(finished(Some(reply))),
            format!(r#"{{"finished":{{"key":{{"id":"{ID}","operator":"{operator}"}},"at":4,"status":"succeeded","#)
                + r#""reply":{"subject":"cs.demo","signature":"a..b","credential":"c","body":"{\"v\":1,\"text\":\"ü\"}"}}}"#,
        ),
        (Entry::Mark { at: Millis::new(6) }, r#"{"mark":{"at":6}}"#.to_owned()),
    ]
}

#[test]
fn version_1_looks_like_this() {
    for (entry, payload) in entries() {
        let mut frame = Vec::new();
        write(&entry, &mut frame).unwrap();
        let (head, written) = frame.split_at(HEAD);
        assert_eq!(str::from_utf8(written).unwrap(), payload);
        let (length, sum) = head.split_at(4);
        assert_eq!(u32::from_le_bytes(length.try_into().unwrap()), u32::try_from(payload.len()).unwrap());
        assert_eq!(u32::from_le_bytes(sum.try_into().unwrap()), crc32fast::hash(payload.as_bytes()));
    }
}

#[test]
fn what_was_written_is_read_again_and_nothing_else() {
    for (entry, payload) in entries() {
        assert_eq!(read(payload.as_bytes()).as_ref(), Some(&entry));
        let with_more = payload.replacen("\":{", "\":{\"more\":1,", 1);
        assert_eq!(read(with_more.as_bytes()), None, "{with_more}");
    }
    let unknown = [r#"{"stopped":{"at":6}}"#, r#"{"mark":{}}"#, r#"{"mark":{"at":6.5}}"#, "{}", "[]", ""];
    unknown.iter().for_each(|payload| assert_eq!(read(payload.as_bytes()), None, "{payload}"));
    let (_, finished) = &entries()[3];
    assert_eq!(read(finished.replace("succeeded", "won").as_bytes()), None);
}

#[test]
fn a_reply_that_is_no_text_is_not_written() {
    let body = bytes::Bytes::from_static(b"\xff");
    let reply = Signed { subject: String::new(), signature: String::new(), credential: "".into(), body };
    let entry =
        Entry::Finished(Finished { key: key(), at: Millis::new(4), status: Status::Failed, reply: Some(reply) });
    assert!(write(&entry, &mut Vec::new()).is_err());
}
