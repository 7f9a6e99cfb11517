//! Texts and verdicts about silence, about clocks, and about what a client remembers.

use countersign_protocol::command::Recorded;
use countersign_protocol::json::JsonText;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Status};
use countersign_protocol::time::span;

use super::verdict::bounded;
use super::{Now, Verdict};

pub(super) fn unknown(why: &str) -> Verdict {
    Verdict::NoReply { text: format!("{why}: whether it ran, and how it ended, is unknown") }
}

/// The verdict that a client remembers; `None` while it runs. The error may have been dropped to make room (section 8).
pub fn recorded(recorded: Recorded) -> Option<Verdict> {
    let Recorded { status, result, error, .. } = recorded;
    let error_or =
        |code| error.map_or_else(|| ErrorBody::new(code, "the client remembers only that it ended so"), bounded);
    match status {
        Status::Accepted | Status::Progress => None,
        Status::Succeeded => Some(Verdict::Succeeded { result: result.as_ref().map(JsonText::from) }),
        Status::Failed => Some(Verdict::Failed { error: error_or(ErrorCode::Failed) }),
        Status::Refused => Some(Verdict::Refused { error: error_or(ErrorCode::Internal) }),
        Status::Cancelled => Some(Verdict::Cancelled { error: error_or(ErrorCode::Cancelled) }),
        Status::Interrupted => Some(Verdict::Interrupted { error: error_or(ErrorCode::Interrupted) }),
    }
}

/// What a refusal for reasons of time shows of this machine's clock, where it differs by more than clocks may.
pub(super) fn clock_notice(client: &Name, error: &ErrorBody, now: Now) -> Option<String> {
    if !matches!(error.code, ErrorCode::Expired | ErrorCode::NotYetValid) {
        return None;
    }
    let ahead = now.wall.get().saturating_sub(error.details.as_ref()?.get("now")?.as_i64()?);
    let off = i64::try_from(ahead.unsigned_abs()).unwrap_or(i64::MAX);
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let text = format!("this machine's clock is {} {direction} that of {client}: one of the two is wrong", span(off));
    (off > SKEW).then_some(text)
}
