//! What the broker answers to a request for the presences that it stores. The answers are bounded, whatever it sends; and
//! what a client stored is distinguished from what the broker itself states.

use std::ops::ControlFlow;

use bytes::Bytes;
use countersign_link::{Answer, StoredError, StoredMessage, stored_message};
use countersign_protocol::envelope::Delivery;
use countersign_protocol::limits::MAX_BODY;
use countersign_protocol::text::echo;

/// How many presences are requested at a time, and verified together.
pub(crate) const PAGE: usize = 512;
/// How long an answer may be, in bytes: the longest body, and the subjects and headers that come with it.
const MAX_ANSWER: usize = MAX_BODY + 16_384;

/// The error where there is no stream.
const NO_PRESENCES: &str = "it keeps none (`countersign setup` makes the stream)";

/// What the broker answers to one request for a page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) presences: Vec<Delivery>,
    /// The subjects under which something is stored that is longer than any presence.
    pub(crate) too_long: Vec<String>,
    first: u64,
    /// The number of the last message received, or the one before the page.
    pub(crate) last: u64,
}

impl Page {
    /// The page that begins with this number.
    pub(crate) fn from(number: u64) -> Self {
        Self { presences: Vec::new(), too_long: Vec::new(), first: number, last: number.saturating_sub(1) }
    }

    /// Takes an answer. The last one ends the page, and states where the next begins, if there is one.
    pub(crate) fn take(&mut self, answer: &Answer) -> Result<ControlFlow<Option<u64>>, String> {
        // A client may have stored a status too. Only to what is stored the broker adds a number.
        let sequence = number(answer, "Nats-Sequence");
        match answer.status.filter(|_| sequence.is_none()) {
            None if self.presences.len() + self.too_long.len() == PAGE => {
                Err(format!("a page of {PAGE} has more than that"))
            }
            None => {
                self.last = sequence.filter(|it| *it > self.last).unwrap_or(self.last);
                // The broker states under which subject it was stored; the signature shows whether that is true.
                let subject = answer.last_header("Nats-Subject").unwrap_or_default();
                if answer.body.len() > MAX_BODY || answer.length > MAX_ANSWER {
                    self.too_long.push(subject.to_owned());
                } else {
                    self.presences.push(delivery(subject, answer));
                }
                Ok(ControlFlow::Continue(()))
            }
            Some(204) if number(answer, "Nats-Num-Pending") == Some(0) => Ok(ControlFlow::Break(None)),
            Some(204) => {
                let last = number(answer, "Nats-Last-Sequence").unwrap_or(self.last.max(self.first));
                let next = last.checked_add(1).filter(|next| *next > self.first && last >= self.last);
                Ok(ControlFlow::Break(Some(next.ok_or("its pages run backwards")?)))
            }
            Some(404) => Ok(ControlFlow::Break(None)),
            Some(503) => Err(NO_PRESENCES.to_owned()),
            Some(status) => {
                let why = answer.description.as_deref().unwrap_or_default();
                Err(format!("it answers {status} {}", echo(why)))
            }
        }
    }
}

/// Reads the answer to a request for a single message. `None` where the broker stores no such message.
pub(crate) fn stored_presence(answer: &Answer) -> Result<Option<StoredMessage>, String> {
    stored_message(answer, MAX_ANSWER).map_err(|error| match error {
        StoredError::NoStream => NO_PRESENCES.to_owned(),
        StoredError::Other(why) => why,
    })
}

/// An answer carries the stored message's own headers and body. The body is copied: the library hands out a slice of all that
/// arrived with it, and would keep all of that alive.
fn delivery(subject: &str, answer: &Answer) -> Delivery {
    let headers = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Delivery::new(subject, false, headers, Bytes::copy_from_slice(&answer.body))
}

fn number(answer: &Answer, header: &str) -> Option<u64> {
    answer.last_header(header)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use countersign_protocol::envelope::{CREDENTIAL_HEADER, SIGNATURE_HEADER};
    use data_encoding::BASE64;
    use serde_json::{Value, json};

    use super::*;

    fn page() -> Page {
        Page::from(7)
    }

    fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// An answer with this body and so many bytes in all.
    fn presence(body: usize, length: usize) -> Answer {
        Answer { body: vec![0; body].into(), length, ..Answer::default() }
    }

    /// What an answer with a status comes to, which has these headers.
    fn end(status: u16, headers: &[(&str, &str)]) -> Result<ControlFlow<Option<u64>>, String> {
        page().take(&Answer { status: Some(status), headers: owned(headers), ..presence(0, 0) })
    }

    #[test]
    fn a_page_has_no_more_answers_than_were_requested() {
        let mut page = page();
        for _ in 0..PAGE {
            assert_eq!(page.take(&presence(1, 1)), Ok(ControlFlow::Continue(())));
        }
        assert_eq!(page.take(&presence(1, 1)), Err("a page of 512 has more than that".to_owned()));
        assert_eq!(page.presences.len(), PAGE);
    }

    /// A message of the stream: its own headers, and after them what the broker adds.
    fn stored(own: &[(&str, &str)], sequence: &str, subject: &str) -> Answer {
        let added = [("Nats-Subject", subject), ("Nats-Sequence", sequence)];
        Answer { headers: owned(&[own, &added].concat()), ..presence(1, 1) }
    }

    #[test]
    fn what_is_longer_than_any_presence_is_left_out_and_named() {
        let mut page = page();
        assert_eq!(page.take(&presence(MAX_BODY, MAX_ANSWER)), Ok(ControlFlow::Continue(())));
        for (body, length) in [(MAX_BODY + 1, MAX_BODY + 1), (0, MAX_ANSWER + 1)] {
            let long = stored(&[], "9", "cs.demo.event.worker-1.presence");
            let long = Answer { body: vec![0; body].into(), length, ..long };
            assert_eq!(page.take(&long), Ok(ControlFlow::Continue(())));
        }
        assert_eq!((page.presences.len(), page.last), (1, 9));
        assert_eq!(page.too_long, ["cs.demo.event.worker-1.presence"; 2]);
    }

    #[test]
    fn what_a_client_had_stored_says_nothing_in_the_brokers_place() {
        let forged =
            [("Nats-Subject", "cs.demo.event.worker-2.presence"), ("Nats-Sequence", "900"), ("Nats-Num-Pending", "0")];
        for status in [None, Some(204), Some(404), Some(503), Some(408)] {
            let mut page = page();
            let answer = Answer { status, ..stored(&forged, "8", "cs.demo.event.worker-1.presence") };
            assert_eq!(page.take(&answer), Ok(ControlFlow::Continue(())), "{status:?}");
            let subjects: Vec<&str> = page.presences.iter().map(Delivery::subject).collect();
            assert_eq!((subjects, page.last), (vec!["cs.demo.event.worker-1.presence"], 8));
        }
    }

    /// The answer to a request for a single message.
    fn read(json: &Value) -> Result<Option<StoredMessage>, String> {
        stored_presence(&Answer { body: json.to_string().into(), ..presence(0, 0) })
    }

    #[test]
    fn a_single_message_is_read_whatever_its_headers_are() {
        let headers = format!(
            "NATS/1.0\r\nBad\rX: y\r\nno colon\r\n{SIGNATURE_HEADER}:  a..b \r\n{CREDENTIAL_HEADER}: c\r\n\r\n"
        );
        let message = json!({
            "subject": "cs.demo.event.worker-1.presence", "seq": 8, "time": "2026-11-25T15:02:24Z",
            "hdrs": BASE64.encode(headers.as_bytes()), "data": BASE64.encode(b"{}"),
        });
        let stored = read(&json!({ "type": "x", "message": message })).unwrap().unwrap();
        assert_eq!((stored.sequence, stored.delivery.subject()), (8, "cs.demo.event.worker-1.presence"));
        let as_sent = [(SIGNATURE_HEADER, "a..b"), (CREDENTIAL_HEADER, "c")];
        let expected = Delivery::new(stored.delivery.subject(), false, as_sent, Bytes::from_static(b"{}"));
        assert_eq!(format!("{:?}", stored.delivery), format!("{expected:?}"));
    }

    #[test]
    fn an_answer_without_a_message_is_an_error_or_says_that_there_is_none() {
        assert!(read(&json!({ "error": { "code": 404, "err_code": 10_037 } })).unwrap().is_none());
        assert_eq!(
            read(&json!({ "error": { "code": 500, "description": "no\u{1b}" } })).unwrap_err(),
            "it answers no\\u{1b}"
        );
        for odd in [
            json!({}),
            json!({ "message": { "subject": "x", "seq": -1 } }),
            json!({ "message": { "subject": "x", "seq": 1, "data": "?" } }),
        ] {
            assert_eq!(read(&odd).unwrap_err(), "it answers with no message", "{odd}");
        }
        let long = Answer { length: MAX_ANSWER * 2, ..presence(0, 0) };
        assert_eq!(stored_presence(&long).unwrap_err(), format!("an answer is {} bytes long", MAX_ANSWER * 2));
    }

    #[test]
    fn each_page_begins_beyond_the_one_before() {
        let last = |number| end(204, &[("Nats-Num-Pending", "1"), ("Nats-Last-Sequence", number)]);
        assert_eq!(last("7"), Ok(ControlFlow::Break(Some(8))));
        assert_eq!(last("900"), Ok(ControlFlow::Break(Some(901))));
        assert_eq!(last("no number"), Ok(ControlFlow::Break(Some(8))));
        for number in ["6", "0", "18446744073709551615"] {
            assert_eq!(last(number), Err("its pages run backwards".to_owned()), "{number}");
        }
    }

    #[test]
    fn the_last_page_says_that_it_is_and_an_empty_stream_has_none() {
        assert_eq!(end(204, &[("Nats-Num-Pending", "0")]), Ok(ControlFlow::Break(None)));
        assert_eq!(end(404, &[]), Ok(ControlFlow::Break(None)));
        assert_eq!(end(503, &[]).unwrap_err(), "it keeps none (`countersign setup` makes the stream)");
        assert_eq!(end(408, &[]).unwrap_err(), "it answers 408 ");
    }
}
