//! Final replies as they are retained: what the replies of one process have in common is shared among them, what follows from
//! the command's record is left out, and both are put together again byte for byte.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use countersign_protocol::command::Version;
use countersign_protocol::envelope::Signed;
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{Reply, State, Status};
use countersign_protocol::subject;
use countersign_protocol::time::Millis;
use serde::Deserialize;

use crate::client::message::message_id;
use crate::client::refusal::ReplyContext;

/// What separates the protected header from the signature (section 2).
const DETACHED: &str = "..";

/// A final reply that is retained.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::client) enum RetainedReply {
    /// One that this program puts together again.
    CompactReply(CompactReply),
    /// One in another form, of another version of the program.
    Whole(Box<Signed>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::client) struct CompactReply {
    signer: Arc<ReplySigner>,
    issued_at: Millis,
    n: u64,
    seq: u64,
    state: State,
    /// The signature proper, and then what follows the status in the body.
    rest: Arc<[u8]>,
    /// How much of it the signature is.
    signature: u32,
}

/// What the replies of one process have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::client) struct ReplySigner {
    realm: Name,
    name: Name,
    jti: Uuid,
    epoch: Uuid,
    boot: Uuid,
    credential: Arc<str>,
    protected: String,
}

/// What a body contains that its command's record does not.
#[derive(Deserialize)]
struct ReplyFields {
    realm: Name,
    from: Name,
    credential: Uuid,
    issued_at: Millis,
    epoch: Uuid,
    boot: Uuid,
    n: u64,
    state: State,
    seq: u64,
}

impl RetainedReply {
    /// Retains the final reply to a command, with what it shares with those before it.
    pub(super) fn new(
        reply: Signed,
        reply_context: &ReplyContext,
        status: Status,
        signers: &mut Interner<ReplySigner>,
    ) -> Self {
        match CompactReply::new(&reply, reply_context, status, signers) {
            Some(short) => Self::CompactReply(short),
            None => Self::Whole(Box::new(reply)),
        }
    }

    /// The reply as it was signed.
    pub(super) fn signed(&self, reply_context: &ReplyContext, status: Status) -> Signed {
        match self {
            Self::CompactReply(short) => short.signed(reply_context, status),
            Self::Whole(signed) => (**signed).clone(),
        }
    }

    /// What it takes in memory beside its record, in bytes; the credential is shared.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::CompactReply(short) => short.rest.len(),
            Self::Whole(reply) => reply.subject.len() + reply.signature.len() + reply.body.len(),
        }
    }
}

impl CompactReply {
    fn new(
        reply: &Signed,
        reply_context: &ReplyContext,
        status: Status,
        signers: &mut Interner<ReplySigner>,
    ) -> Option<Self> {
        let ReplyFields { realm, from, credential, issued_at, epoch, boot, n, state, seq } =
            serde_json::from_slice(&reply.body).ok()?;
        let (protected, signature) = reply.signature.split_once(DETACHED)?;
        let signer = ReplySigner {
            realm,
            name: from,
            jti: credential,
            epoch,
            boot,
            credential: Arc::clone(&reply.credential),
            protected: protected.to_owned(),
        };
        let signer = signers.share(&signer).unwrap_or_else(|| signers.add(Arc::new(signer)));
        let mut short = Self { signer, issued_at, n, seq, state, rest: Arc::default(), signature: 0 };
        let rest = reply.body.strip_prefix(short.head(reply_context, status).as_slice())?;
        short.rest = [signature.as_bytes(), rest].concat().into();
        short.signature = signature.len().try_into().ok()?;
        (reply.subject == short.subject(reply_context)).then_some(short)
    }

    fn signed(&self, reply_context: &ReplyContext, status: Status) -> Signed {
        let (signature, rest) = self.rest.split_at(usize::try_from(self.signature).unwrap_or(0).min(self.rest.len()));
        let mut body = self.head(reply_context, status);
        body.extend_from_slice(rest);
        Signed {
            subject: self.subject(reply_context),
            signature: format!("{}{DETACHED}{}", self.signer.protected, String::from_utf8_lossy(signature)),
            credential: Arc::clone(&self.signer.credential),
            body: body.into(),
        }
    }

    fn subject(&self, reply_context: &ReplyContext) -> String {
        subject::reply(&reply_context.reply_to, &self.signer.name)
    }

    /// The body up to its status.
    fn head(&self, reply_context: &ReplyContext, status: Status) -> Vec<u8> {
        let ReplySigner { realm, name, jti, epoch, boot, .. } = &*self.signer;
        let mut head = crate::client::message::to_json(&Reply {
            v: Version,
            id: message_id(*boot, self.n, self.issued_at),
            realm: realm.clone(),
            from: name.clone(),
            credential: *jti,
            to: reply_context.operator.clone(),
            subject: self.subject(reply_context),
            command_id: reply_context.key.id,
            command_digest: reply_context.digest,
            issued_at: self.issued_at,
            epoch: *epoch,
            boot: *boot,
            n: self.n,
            state: self.state,
            seq: self.seq,
            status,
            progress: None,
            result: None,
            error: None,
        });
        // The brace that ends it.
        head.pop();
        head
    }
}

/// The values that were seen last, so that those who have the same one share it. It is no part of any state: two are always
/// equal.
#[derive(Debug, Clone)]
pub(super) struct Interner<T>(VecDeque<Arc<T>>);

impl<T: PartialEq> Interner<T> {
    /// How many there are, at most.
    const MOST: usize = 32;

    /// The same value, if it was seen lately.
    pub(super) fn share(&self, value: &T) -> Option<Arc<T>> {
        self.0.iter().find(|recent| ***recent == *value).cloned()
    }

    /// Takes a new one, and gives it back.
    pub(super) fn add(&mut self, value: Arc<T>) -> Arc<T> {
        if self.0.len() == Self::MOST {
            self.0.pop_back();
        }
        self.0.push_front(Arc::clone(&value));
        value
    }
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> PartialEq for Interner<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Interner<T> {}

impl<T> Hash for Interner<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
