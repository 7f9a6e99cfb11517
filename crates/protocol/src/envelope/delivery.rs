//! What the broker delivers, and what is handed to it.

use std::sync::Arc;

use bytes::Bytes;

use super::{CREDENTIAL_HEADER, Reason, Rejected, SIGNATURE_HEADER};
use crate::limits::{MAX_BODY, MAX_CREDENTIAL, MAX_SIGNATURE};

/// A message as it arrived from the broker: nothing in it is to be believed yet.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub(super) subject: String,
    pub(super) body: Bytes,
    has_status: bool,
    signature: Header,
    credential: Header,
}

/// One of our two headers as it was found.
#[derive(Debug, Clone)]
enum Header {
    Absent,
    One(String),
    TooLong(usize),
    Repeated,
}

/// The headers of a [`Delivery`] that has one of each, none too long and the signature detached.
pub(crate) struct Headers<'a> {
    pub(crate) protected: &'a str,
    pub(crate) signature: &'a str,
    pub(crate) credential: &'a str,
}

impl Delivery {
    /// Takes what arrived. Of the headers it keeps only ours, without the spaces and tabs around their values;
    /// `has_status` says that NATS sent a status line with them, which makes the message none of ours (section 2).
    pub fn new<'a>(
        subject: &str,
        has_status: bool,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: Bytes,
    ) -> Self {
        let mut signature = Header::Absent;
        let mut credential = Header::Absent;
        for (name, value) in headers {
            match name {
                SIGNATURE_HEADER => signature.add(value, MAX_SIGNATURE),
                CREDENTIAL_HEADER => credential.add(value, MAX_CREDENTIAL),
                _ => {}
            }
        }
        Self { subject: subject.to_owned(), body, has_status, signature, credential }
    }

    /// The subject that it arrived on: the broker's word, as all of it is.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The body as it arrived.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The first two checks of section 9: size, then the headers' count and form.
    pub(crate) fn headers(&self) -> Result<Headers<'_>, Rejected> {
        if self.body.len() > MAX_BODY {
            let detail = format!("a body of {} bytes; at most {MAX_BODY} are accepted", self.body.len());
            return Err(Rejected::new(Reason::Size, None, detail));
        }
        if self.has_status {
            return Err(Rejected::new(Reason::Headers, None, "a status line"));
        }
        let signature = self.signature.one(SIGNATURE_HEADER)?;
        let credential = self.credential.one(CREDENTIAL_HEADER)?;
        match signature.split_once("..") {
            Some((protected, signature)) => Ok(Headers { protected, signature, credential }),
            None => Err(Rejected::new(Reason::Headers, None, "the signature is not a detached JWS")),
        }
    }
}

impl Header {
    fn add(&mut self, value: &str, longest: usize) {
        let value = value.trim_matches([' ', '\t']);
        *self = match self {
            Self::Absent if value.len() > longest => Self::TooLong(value.len()),
            Self::Absent => Self::One(value.to_owned()),
            _ => Self::Repeated,
        };
    }

    fn one(&self, name: &str) -> Result<&str, Rejected> {
        let (reason, detail) = match self {
            Self::One(value) => return Ok(value),
            Self::Absent => (Reason::Headers, format!("no {name} header")),
            Self::TooLong(length) => (Reason::Size, format!("a {name} header of {length} bytes")),
            Self::Repeated => (Reason::Headers, format!("more than one {name} header")),
        };
        Err(Rejected::new(reason, None, detail))
    }
}

/// A message that an [`Identity`](super::Identity) signed, ready to be published: the same bytes each time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signed {
    /// The subject to publish it on, which the body names too.
    pub subject: String,
    /// The value of the signature header.
    pub signature: String,
    /// The value of the credential header.
    pub credential: Arc<str>,
    /// The JSON body.
    pub body: Bytes,
}

impl Signed {
    /// A document that has its signatures in it, and no headers (sections 7 and 14).
    pub fn document(subject: String, body: Vec<u8>) -> Self {
        Self { subject, signature: String::new(), credential: "".into(), body: body.into() }
    }

    /// What it counts for at a broker with a `max_payload`, in bytes: the block of our two headers, and the body (section 10).
    pub fn size(&self) -> usize {
        let header = |name: &str, value: &str| name.len() + ": ".len() + value.len() + "\r\n".len();
        let headers = header(SIGNATURE_HEADER, &self.signature) + header(CREDENTIAL_HEADER, &self.credential);
        "NATS/1.0\r\n".len() + headers + "\r\n".len() + self.body.len()
    }

    /// The message as an honest broker delivers it.
    pub fn delivery(&self) -> Delivery {
        let headers = [(SIGNATURE_HEADER, &*self.signature), (CREDENTIAL_HEADER, &*self.credential)];
        Delivery::new(&self.subject, false, headers, self.body.clone())
    }
}
