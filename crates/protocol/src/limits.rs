//! The figures of the protocol, in bytes, milliseconds and pieces.

/// Section 2: the longest body, in bytes; exactly this is accepted.
pub const MAX_BODY: usize = 262_144;
/// Section 2: the longest value of the signature header, in bytes.
pub const MAX_SIGNATURE: usize = 1_024;
/// Section 2: the longest value of the credential header, in bytes.
pub const MAX_CREDENTIAL: usize = 4_096;
/// Section 10: what a broker's `max_payload` must leave room for, in bytes: a body, the two headers, and 1 KiB for their names
/// and for what NATS adds.
pub const MIN_MAX_PAYLOAD: usize = MAX_BODY + MAX_SIGNATURE + MAX_CREDENTIAL + 1_024;
/// Section 3: the deepest nesting, the top level being 1.
pub const MAX_DEPTH: usize = 32;
/// Section 3: how many values one JSON text holds, the outermost object and every member's and element's value counted. Parsed,
/// a value takes up to some 670 bytes (an object of one member is the worst), hence a body no more than 11 MB.
pub const MAX_VALUES: usize = 16_384;
/// Section 3: the largest magnitude of an integer, 2^53 − 1.
pub const MAX_INTEGER: i64 = (1 << 53) - 1;
/// Section 4: the longest `x` of `calculate`, in seconds.
pub const MAX_SECONDS: f64 = 86_400.0;
/// Section 4: the longest `msg` of `calculate`, in characters.
pub const MAX_MESSAGE: usize = 4_096;
/// Section 4: how many jobs a `jobs` result lists.
pub const MAX_JOBS_LISTED: usize = 256;
/// Section 4: how many bytes of output one answer has.
pub const MAX_PIECE: usize = 131_072;
/// Section 4: the longest description of a command, in characters.
pub const MAX_DESCRIPTION: usize = 1_024;
/// Section 5: how many errors a refusal lists.
pub const MAX_ERRORS: usize = 16;
/// Section 5: how much of the input a message for people or a JSON pointer echoes, in characters.
pub const MAX_ECHO: usize = 64;
/// Section 5: the largest refusal, in bytes.
pub const MAX_REFUSAL: usize = 4_096;
/// Section 5: how often a client publishes its presence, in milliseconds.
pub const HEARTBEAT: i64 = 10_000;
/// Section 7: how long after its signing a request for renewal is answered, in milliseconds.
pub const RENEWAL_AGE: i64 = 60_000;
/// Section 7: how long after its end a credential is still renewed over the bus, in milliseconds: a request may have been under way.
pub const RENEWAL_GRACE: i64 = 60_000;
/// Section 14: the longest enrolment token, in characters.
pub const MAX_TOKEN: usize = 16 * 1_024;
/// Section 14: the longest text of certificates in a token, in bytes.
pub const MAX_CA: usize = 8 * 1_024;
/// Section 14: the longest request for enrolment, in bytes.
pub const MAX_ENROLMENT_REQUEST: usize = 16_384;
/// Section 14: the longest answer to one, in bytes.
pub const MAX_ENROLMENT_ANSWER: usize = 262_144;
/// Section 14: how far the worker's clock and the issuer's may differ at an enrolment over the bus, in milliseconds: twice the
/// skew, half of it for the way.
pub const ENROLMENT_SKEW: i64 = 2 * SKEW;
/// Section 8: how far two clocks may differ, in milliseconds, unless configured.
pub const SKEW: i64 = 5_000;
/// Section 8: how long after its expiry a command is still answered `expired`, in milliseconds.
pub const LATE: i64 = 60_000;
/// Section 8: the longest life of a command, in milliseconds, unless its credential allows less.
pub const MAX_TTL: i64 = 60_000;
/// Section 8: what is issued further ahead than this is dropped, in milliseconds.
pub const MAX_AHEAD: i64 = 3_600_000;
/// Section 8: how far a client's time may be ahead of the mark that is safely on its disk, in milliseconds.
pub const UNSYNCED: i64 = 15_000;
/// Section 8: how long the record of a job outlives its final reply, in milliseconds, unless configured.
pub const JOB_RETENTION: i64 = 86_400_000;
/// Section 8: the shortest time that it may be configured to, in milliseconds.
pub const MIN_JOB_RETENTION: i64 = 60_000;
/// Section 8: the longest time that it may be configured to, in milliseconds.
pub const MAX_JOB_RETENTION: i64 = 30 * 86_400_000;
/// Section 8: how long the record of a command that is no job outlives the begin of a new epoch at most, in milliseconds.
pub const EPOCH_RETENTION: i64 = 3_600_000;
/// Section 8: how many records a client keeps.
pub const MAX_RECORDS: usize = 1_048_576;
/// Section 8: how many records more are kept free for control commands.
pub const CONTROL_RESERVE: usize = 1_024;
/// Section 8: the largest sum of kept replies, in bytes.
pub const MAX_KEPT_REPLIES: usize = 64 * 1_024 * 1_024;
/// Section 8: how often in a second one command is answered from the journal, or refused without one; and how many copies of
/// one message are parsed.
pub const REPEATS_PER_SECOND: u32 = 10;
/// Section 8: security events in a second for one signer.
pub const ALARMS_PER_SECOND: u32 = 10;
