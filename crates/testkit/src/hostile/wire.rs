//! The NATS protocol as far as tests speak it.

use std::fmt;
use std::io::{self, BufRead};

use countersign_protocol::envelope::{CREDENTIAL_HEADER, Delivery, SIGNATURE_HEADER, Signed};

/// A message as it came over the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub subject: String,
    /// NATS's own reply field.
    pub reply: Option<String>,
    /// The raw header block, empty where there is none.
    pub headers: Vec<u8>,
    pub body: Vec<u8>,
}

impl Message {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.lines().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// What follows the version in the first line of the headers, such as `503`; empty where there is no status.
    pub fn status(&self) -> &str {
        let block = std::str::from_utf8(&self.headers).unwrap_or_default();
        block.lines().next().unwrap_or_default().trim_start_matches("NATS/1.0").trim()
    }

    /// The message as whoever verifies it sees it.
    pub fn delivery(&self) -> Delivery {
        Delivery::new(&self.subject, !self.status().is_empty(), self.lines(), self.body.clone().into())
    }

    /// The message as it was signed, to be sent again or changed.
    pub fn signed(&self) -> Signed {
        Signed {
            subject: self.subject.clone(),
            signature: self.header(SIGNATURE_HEADER).expect("a signature").to_owned(),
            credential: self.header(CREDENTIAL_HEADER).expect("a credential").into(),
            body: self.body.clone().into(),
        }
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let block = std::str::from_utf8(&self.headers).unwrap_or_default();
        block.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()))
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [headers, body] = [&self.headers, &self.body].map(|bytes| String::from_utf8_lossy(bytes));
        write!(f, "{} ({:?})\n{headers}{body}", self.subject, self.reply)
    }
}

/// One thing that came over a connection.
#[derive(Debug)]
pub(super) enum Operation {
    Message(Message),
    Subscribe { subject: String, sid: String },
    Connect(serde_json::Value),
    Info(serde_json::Value),
    Ping,
    Pong,
    Error(String),
    Other,
}

/// Reads the next operation, of a broker or of a client; an error at the end of the stream too.
pub(super) fn read(from: &mut impl BufRead) -> io::Result<Operation> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    Ok(match verb {
        // What a broker sends has the subscription's number after the subject.
        "MSG" | "HMSG" => Operation::Message(read_message(from, verb == "HMSG", 2, &words)?),
        "PUB" | "HPUB" => Operation::Message(read_message(from, verb == "HPUB", 1, &words)?),
        "SUB" => Operation::Subscribe { subject: words[0].to_owned(), sid: words[words.len() - 1].to_owned() },
        "CONNECT" => Operation::Connect(serde_json::from_str(rest)?),
        "INFO" => Operation::Info(serde_json::from_str(rest)?),
        "PING" => Operation::Ping,
        "PONG" => Operation::Pong,
        "-ERR" => Operation::Error(rest.trim_matches('\'').to_owned()),
        _ => Operation::Other,
    })
}

fn read_message(from: &mut impl BufRead, with_headers: bool, names: usize, words: &[&str]) -> io::Result<Message> {
    let sizes = if with_headers { 2 } else { 1 };
    let (named, sized) = words.split_at(words.len() - sizes);
    let size = |index: usize| sized[index].parse::<usize>().map_err(io::Error::other);
    let headers = if with_headers { size(0)? } else { 0 };
    let mut bytes = vec![0; size(sizes - 1)? + 2];
    from.read_exact(&mut bytes)?;
    bytes.truncate(bytes.len() - 2);
    let body = bytes.split_off(headers);
    let reply = named.get(names).map(|reply| (*reply).to_owned());
    Ok(Message { subject: named[0].to_owned(), reply, headers: bytes, body })
}

/// What a client sends to publish: any subject, any header block, or none.
pub(super) fn publish_frame(subject: &[u8], reply: Option<&str>, headers: Option<&[u8]>, body: &[u8]) -> Vec<u8> {
    let reply = reply.map_or_else(String::new, |reply| format!(" {reply}"));
    let (verb, sizes) = match headers {
        Some(headers) => ("HPUB ", format!("{} {}", headers.len(), headers.len() + body.len())),
        None => ("PUB ", body.len().to_string()),
    };
    let rest = format!("{reply} {sizes}\r\n");
    [verb.as_bytes(), subject, rest.as_bytes(), headers.unwrap_or_default(), body, b"\r\n"].concat()
}

/// What a broker sends for a message to subscription `sid`: any subject, any header block.
pub fn message_frame(subject: &[u8], sid: &str, headers: &[u8], body: &[u8]) -> Vec<u8> {
    let sizes = format!(" {sid} {} {}\r\n", headers.len(), headers.len() + body.len());
    [b"HMSG ", subject, sizes.as_bytes(), headers, body, b"\r\n"].concat()
}

/// The same for a message that somebody signed.
pub fn signed_frame(sid: &str, message: &Signed) -> Vec<u8> {
    message_frame(message.subject.as_bytes(), sid, &signed_headers(message), &message.body)
}

/// The header block of a signed message.
pub fn signed_headers(message: &Signed) -> Vec<u8> {
    header_block(&[(SIGNATURE_HEADER, &message.signature), (CREDENTIAL_HEADER, &message.credential)])
}

/// A well-formed header block of these headers.
pub fn header_block(headers: &[(&str, &str)]) -> Vec<u8> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("NATS/1.0\r\n{lines}\r\n").into_bytes()
}

/// Header blocks that no NATS client can make sense of, and what is wrong with each.
pub fn hostile_header_blocks() -> Vec<(&'static str, Vec<u8>)> {
    let long = format!("NATS/1.0\r\nA: {}\r\n\r\n", "a".repeat(70_000));
    vec![
        ("a bare CR", b"NATS/1.0\r\nA: b\rc\r\n\r\n".to_vec()),
        ("a bare CR in our header", b"NATS/1.0\r\nCountersign-Signature: a\r..b\r\n\r\n".to_vec()),
        ("a bare LF", b"NATS/1.0\r\nA: b\nc\r\n\r\n".to_vec()),
        ("no colon", b"NATS/1.0\r\nA\r\n\r\n".to_vec()),
        ("a space in a name", b"NATS/1.0\r\nA b: c\r\n\r\n".to_vec()),
        ("invalid UTF-8", b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n".to_vec()),
        ("no terminator", b"NATS/1.0\r\nA: b".to_vec()),
        ("no line end at all", b"NATS/1.0".to_vec()),
        ("70 kB", long.into_bytes()),
        ("another version", b"NATS/2.0\r\nA: b\r\n\r\n".to_vec()),
        ("a status that is none", b"NATS/1.0 no\r\nA: b\r\n\r\n".to_vec()),
    ]
}
