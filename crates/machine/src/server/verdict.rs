//! Verdicts: the outcome at each target, exactly one.

use std::collections::BTreeMap;

use countersign_protocol::ending::Term;
use countersign_protocol::envelope::Reason;
use countersign_protocol::id::MessageId;
use countersign_protocol::json::{self, JsonText};
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorBody, Outcome, State};
use serde_json::Value;

/// The text on every refusal that is not on record: it is about one delivery only (section 5).
pub const NOT_RUN: &str = "not run by this delivery";

/// How many JSON values an error's details may hold to be part of a verdict: four times what section 5 lists of errors.
const MAX_DETAILS: usize = 256;

/// What became of the command at one target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The client signed that it is done.
    Succeeded {
        /// The result; `None` where the client remembers only the status (section 8).
        result: Option<JsonText>,
    },
    /// The client signed that it ran and failed.
    Failed {
        /// Why; its texts are the client's, raw.
        error: ErrorBody,
    },
    /// The client signed that it does not do it.
    Refused {
        /// Why; its texts are the client's, raw.
        error: ErrorBody,
    },
    /// The client signed that it was cancelled while it ran.
    Cancelled {
        /// Why; its texts are the client's, raw.
        error: ErrorBody,
    },
    /// The client signed that it crashed while it ran; it is never run again.
    Interrupted {
        /// Why; its texts are the client's, raw.
        error: ErrorBody,
    },
    /// The client signed that it runs, and its end is not awaited.
    Accepted,
    /// Nothing is known of the outcome.
    NoReply {
        /// That, for people.
        text: String,
    },
    /// Probably not run: the verified roster shows that the client is gone.
    Offline {
        /// That, and that it is a guess, for people.
        text: String,
    },
}

impl Verdict {
    /// The verdict that a final reply gives; `None` for an interim one.
    pub(super) fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Accepted | Outcome::Progress(_) => None,
            Outcome::Succeeded(result) => Some(Self::Succeeded { result: Some(JsonText::from(&result)) }),
            Outcome::Failed(error) => Some(Self::Failed { error: bounded(error) }),
            Outcome::Refused(error) => Some(Self::Refused { error: bounded(error) }),
            Outcome::Cancelled(error) => Some(Self::Cancelled { error: bounded(error) }),
            Outcome::Interrupted(error) => Some(Self::Interrupted { error: bounded(error) }),
        }
    }

    /// Another one in its place, for a request whose report is made: it holds nothing that a client sent.
    pub(super) fn without_content(&self) -> Self {
        match self {
            Self::NoReply { .. } | Self::Offline { .. } => self.clone(),
            _ => Self::Accepted,
        }
    }

    /// The word that scripts rely on.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Refused { .. } => "refused",
            Self::Cancelled { .. } => "cancelled",
            Self::Interrupted { .. } => "interrupted",
            Self::Accepted => "accepted",
            Self::NoReply { .. } => "no_reply",
            Self::Offline { .. } => "offline",
        }
    }

    /// The result, if it succeeded and the client had it still, as a value that is made for the caller.
    pub fn result(&self) -> Option<Value> {
        match self {
            Self::Succeeded { result } => result.as_ref().map(JsonText::value),
            _ => None,
        }
    }

    /// The result as it is stored.
    pub fn result_text(&self) -> Option<&JsonText> {
        match self {
            Self::Succeeded { result } => result.as_ref(),
            _ => None,
        }
    }

    /// The signed error, if it ended in one.
    pub fn error(&self) -> Option<&ErrorBody> {
        match self {
            Self::Failed { error }
            | Self::Refused { error }
            | Self::Cancelled { error }
            | Self::Interrupted { error } => Some(error),
            _ => None,
        }
    }

    /// What a person must know besides: [`NOT_RUN`], or what is not known.
    pub fn remark(&self) -> Option<&str> {
        match self {
            Self::Refused { error } => (!error.code.is_recorded()).then_some(NOT_RUN),
            Self::Succeeded { result: None } => Some("the client remembers only that it succeeded"),
            Self::NoReply { text } | Self::Offline { text } => Some(text),
            _ => None,
        }
    }
}

/// The error without its details where they hold more than [`MAX_DETAILS`] values: a report holds one for each target.
pub(super) fn bounded(mut error: ErrorBody) -> ErrorBody {
    let count = |details: &serde_json::Map<String, Value>| details.values().map(json::count).sum::<usize>();
    error.details = error.details.filter(|details| count(details) <= MAX_DETAILS);
    error
}

/// The verdict on one target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetReport {
    /// The client.
    pub client: Name,
    /// The id under which it was sent the request last, and which `result` and `cancel` take there.
    pub command_id: MessageId,
    /// The verdict.
    pub verdict: Verdict,
    /// Whether it rests on a reply that is on record: then nothing that comes later changes it.
    pub is_final: bool,
    /// The state that the client's last reply carried; `None` where none was taken.
    pub state: Option<State>,
    /// Milliseconds from the command's first sending to the reply that decided; `None` where none did.
    pub latency_ms: Option<f64>,
    /// The term of the client's credential, by what it signed last; `None` where nothing of it was taken.
    pub credential: Option<Term>,
    /// How many processes spoke for the client that may have been alive at once: over 1 the verdict is the word of one of them
    /// (section 5). One that started after the last word of another is not counted twice.
    pub processes: usize,
}

/// Why something that arrived was ignored (section 5): it was counted, shown once for each signer, and changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Ignored {
    /// The verifier did not let it pass.
    #[error("not authentic ({0})")]
    Rejected(Reason),
    /// It is to another operator or session, or its signer is not the client that its subject names.
    #[error("not a reply to this process")]
    Elsewhere,
    /// No command of that id is pending here.
    #[error("a reply to a command that is not pending here")]
    NotPending,
    /// The command did not go to that client.
    #[error("a reply to a command that was not sent to it")]
    NotAddressed,
    /// It answers other bytes than those that were sent to that client.
    #[error("a reply to other bytes than it was sent")]
    OtherBytes,
    /// Its members do not fit its status, or its result does not fit the command.
    #[error("a reply that does not fit the command")]
    Unfit,
    /// It is a second final reply, and differs from the first: a security event, for the client's key or record is in use
    /// twice.
    #[error("a second final reply that differs from the first")]
    Conflict,
    /// It is an event on a subject that is not its signer's for events of its kind.
    #[error("an event that does not belong to its subject")]
    Misplaced,
}

/// All verdicts on one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The id under which the request was sent: at a single target the last one, else the first one; some of several targets
    /// may have been sent it again under another id (section 8).
    pub command_id: MessageId,
    /// The command's name.
    pub command: Name,
    /// One entry for each target, by name.
    pub replies: Vec<TargetReport>,
    /// How many interim replies are missing, by their numbers.
    pub gaps: u64,
    /// Whether the end of what runs was not to be awaited.
    pub detached: bool,
}

impl Report {
    /// How many targets got each verdict, by the verdict's word.
    pub fn summary(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for reply in &self.replies {
            *counts.entry(reply.verdict.word()).or_default() += 1;
        }
        counts
    }

    /// The exit status: 1 if some target failed, refused, was cancelled or interrupted; else 3 if some gave no reply or is
    /// offline; else 6 if some runs although its end was to be awaited; else 0.
    pub fn exit_status(&self) -> u8 {
        let verdicts = || self.replies.iter().map(|reply| &reply.verdict);
        if verdicts().any(|verdict| verdict.error().is_some()) {
            1
        } else if verdicts().any(|verdict| matches!(verdict, Verdict::NoReply { .. } | Verdict::Offline { .. })) {
            3
        } else if !self.detached && verdicts().any(|verdict| matches!(verdict, Verdict::Accepted)) {
            6
        } else {
            0
        }
    }
}
