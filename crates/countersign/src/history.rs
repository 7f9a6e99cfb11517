//! What this operator sent from this machine, and the verdicts: a file of its own, which answers what became of a command long
//! after its clients have forgotten it. It is no proof: whoever can write the file can write anything into it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign_host::clock;
use countersign_machine::server::{Report, Verdict, recorded};
use countersign_protocol::command::{Builtin, Recorded};
use countersign_protocol::id::MessageId;
use countersign_protocol::json::read;
use countersign_protocol::name::Name;
use countersign_protocol::reply::Outcome;
use countersign_protocol::time::Millis;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::{Output, answer_text, reply_answer};
use crate::realm::Realm;
use crate::text::cut;

/// How long a file grows, in bytes. Then it takes the place of the one before it, and another one begins.
const MAX_FILE: u64 = 16 * 1_024 * 1_024;
/// How much is kept of the arguments, of the targets and of an answer, in characters.
const MAX_TEXT: usize = 512;
/// How many targets of one command are kept by name.
const MAX_TARGETS: usize = 1_024;
const NO_PLACE: &str = "there is no folder for the history";
/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 256 * 1_024;

/// The history of one operator in one realm.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// The file; `None` where there is no place for it.
    path: Option<PathBuf>,
    operator: Name,
    output: Output,
    /// Whether it was said that it cannot be written.
    warned: Arc<AtomicBool>,
}

/// What is written of one command, and of what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    history: History,
    id: MessageId,
    /// The command's name: by it, its result is shown.
    command: Name,
    /// Whether it was sent before, and this is about a query for its outcome.
    is_resumed: bool,
    /// The verdicts that are written.
    written: BTreeSet<(Name, String)>,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Sent {
        at: Millis,
        id: MessageId,
        command: Name,
        args: String,
        to: String,
        targets: Vec<Name>,
    },
    Verdict {
        at: Millis,
        id: MessageId,
        client: Name,
        verdict: String,
        #[serde(rename = "final")]
        is_final: bool,
        text: String,
    },
}

/// A command of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SentEntry {
    /// The id under which it was sent first.
    pub(crate) command_id: MessageId,
    /// When it was sent.
    pub(crate) at: Millis,
    /// Its name.
    pub(crate) command: Name,
    /// Its arguments, cut.
    pub(crate) args: String,
    /// Its audience, cut.
    pub(crate) to: String,
    /// What is known of each target.
    pub(crate) targets: BTreeMap<Name, Option<VerdictEntry>>,
}

/// The latest verdict on a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct VerdictEntry {
    /// When it was written.
    pub(crate) at: Millis,
    /// The word that scripts rely on.
    pub(crate) verdict: String,
    /// Whether it rests on a reply that is on record.
    #[serde(rename = "final")]
    pub(crate) is_final: bool,
    /// What the client answered, cut.
    pub(crate) text: String,
}

impl History {
    /// Of an operator of a realm. Nothing is read or written yet.
    pub(crate) fn of(realm: &Realm, operator: &Name, output: Output) -> Self {
        let path = realm.file_of(operator, "jsonl");
        Self { path, operator: operator.clone(), output, warned: Arc::default() }
    }

    /// Writes that a command is sent, before anything is reported of it.
    pub(crate) fn record(&self, id: MessageId, command: &Name, args: &str, to: &str, targets: Vec<Name>) -> Recording {
        let (args, to) = (cut(args, MAX_TEXT).into_owned(), cut(to, MAX_TEXT).into_owned());
        let targets = targets.into_iter().take(MAX_TARGETS).collect();
        self.write(&[Line::Sent { at: clock::wall(), id, command: command.clone(), args, to, targets }]);
        Recording { is_resumed: false, ..self.resume(id, command) }
    }

    /// Writes a final reply that came after the report on its command.
    pub(crate) fn late(&self, id: MessageId, client: &Name, outcome: &Outcome) {
        if let Some(entry) = self.known().get(&id) {
            Recording { is_resumed: false, ..self.resume(id, &entry.command) }.reply(client, outcome);
        }
    }

    /// Goes on with a command that is in it.
    pub(crate) fn resume(&self, id: MessageId, command: &Name) -> Recording {
        Recording { history: self.clone(), id, command: command.clone(), is_resumed: true, written: BTreeSet::new() }
    }

    /// What it holds. What is no line of this version, or was not written to its end, is passed over.
    pub(crate) fn read(&self) -> CliResult<BTreeMap<MessageId, SentEntry>> {
        let Some(path) = &self.path else {
            return Err(CliError::new(Exit::Failed, NO_PLACE)
                .expected("an absolute XDG_STATE_HOME or HOME")
                .hint("set one of the two"));
        };
        let mut entries = BTreeMap::new();
        for path in [path.with_extension("old.jsonl"), path.clone()] {
            let read = File::open(&path).and_then(|file| read_lines(BufReader::new(file), &mut entries));
            if let Err(error) = read.map_err(|error| (error.kind(), error))
                && error.0 != ErrorKind::NotFound
            {
                let what = format!("the history cannot be read: {}: {}", path.display(), error.1);
                return Err(CliError::new(Exit::Failed, what)
                    .expected("a file of this user")
                    .hint("check its permissions, or move it away"));
            }
        }
        Ok(entries)
    }

    /// The same, where its loss is no failure.
    pub(crate) fn known(&self) -> BTreeMap<MessageId, SentEntry> {
        self.read().unwrap_or_default()
    }

    /// Appends lines by one write: two processes may do so at once. A failure fails no command, and is said once.
    fn write(&self, lines: &[Line]) {
        let failed = match &self.path {
            Some(path) => append(path, lines)
                .err()
                .map(|error| format!("the history {} cannot be written: {error}", path.display())),
            None => Some(NO_PLACE.to_owned()),
        };
        if let Some(failed) = failed.filter(|_| !self.warned.swap(true, Ordering::Relaxed)) {
            self.output.alarm(&failed);
        }
    }
}

impl Recording {
    /// The command's name.
    pub(crate) fn command(&self) -> &Name {
        &self.command
    }

    /// Writes the verdict that a reply is, before it is reported: that it runs, or how it ended.
    pub(crate) fn reply(&mut self, client: &Name, outcome: &Outcome) {
        if self.is_resumed {
            // It answers a query about the command.
            return;
        }
        let status = outcome.status();
        let is_final = match outcome {
            Outcome::Progress(_) => return,
            Outcome::Accepted => false,
            Outcome::Succeeded(_) => true,
            Outcome::Failed(error)
            | Outcome::Refused(error)
            | Outcome::Cancelled(error)
            | Outcome::Interrupted(error) => error.code.is_recorded(),
        };
        let is_written = is_final || matches!(outcome, Outcome::Accepted);
        if is_written && self.written.insert((client.clone(), status.to_string())) {
            let line = self.line(client, status.as_str(), is_final, &reply_answer(self.command.as_str(), outcome));
            self.history.write(&[line]);
        }
    }

    /// Writes the verdicts of a report that are not written yet.
    pub(crate) fn report(&mut self, report: &Report) {
        let mut lines = Vec::new();
        let is_result = report.command.as_str() == Builtin::Result.name();
        for reply in &report.replies {
            let found = reply.verdict.result().filter(|_| is_result).and_then(|result| read::<Recorded>(&result).ok());
            let verdict = match found {
                // Another operator may have sent a command under the same id.
                Some(found) if found.operator != self.history.operator => None,
                Some(found) => recorded(found),
                // That a query for it has failed says nothing of the command.
                None => Some(reply.verdict.clone()).filter(|verdict| !is_result && !self.is_no_answer(verdict)),
            };
            let Some(verdict) = verdict else { continue };
            if self.written.insert((reply.client.clone(), verdict.word().to_owned())) {
                let text = answer_text(self.command.as_str(), None, &verdict);
                lines.push(self.line(&reply.client, verdict.word(), reply.is_final, &text));
            }
        }
        if !lines.is_empty() {
            self.history.write(&lines);
        }
    }

    /// Whether it says only that a query about a command that was sent before was not answered.
    fn is_no_answer(&self, verdict: &Verdict) -> bool {
        self.is_resumed && matches!(verdict, Verdict::NoReply { .. } | Verdict::Offline { .. })
    }

    fn line(&self, client: &Name, verdict: &str, is_final: bool, text: &str) -> Line {
        let text = cut(text, MAX_TEXT).into_owned();
        Line::Verdict {
            at: clock::wall(),
            id: self.id,
            client: client.clone(),
            verdict: verdict.to_owned(),
            is_final,
            text,
        }
    }
}

impl fmt::Display for SentEntry {
    /// What was sent, when and to whom, in a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}, {}", self.command, self.to, self.at.utc())
    }
}

impl SentEntry {
    /// How many targets got each verdict, by its word; `unknown` where none was written.
    pub(crate) fn summary(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for verdict in self.targets.values() {
            *counts.entry(verdict.as_ref().map_or("unknown", |verdict| verdict.verdict.as_str())).or_default() += 1;
        }
        counts
    }
}

fn append(path: &PathBuf, lines: &[Line]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = open(path)?;
    if file.metadata()?.len() > MAX_FILE {
        rotate(path)?;
        file = open(path)?;
    }
    let mut bytes = Vec::new();
    // What a full disk has cut off is to spoil no other line.
    let length = file.metadata()?.len();
    let mut last = [0];
    if length > 0 && file.read_at(&mut last, length - 1)? == 1 && last != *b"\n" {
        bytes.push(b'\n');
    }
    for line in lines {
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
    }
    file.write_all(&bytes)
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Puts the file in the place of the one before it. Of two processes one does; whoever writes to it meanwhile still writes to
/// what is read.
fn rotate(path: &PathBuf) -> io::Result<()> {
    let folder = File::open(path.parent().unwrap_or(path))?;
    if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() && fs::metadata(path)?.len() > MAX_FILE {
        fs::rename(path, path.with_extension("old.jsonl"))?;
    }
    Ok(())
}

fn read_lines(mut from: impl BufRead, into: &mut BTreeMap<MessageId, SentEntry>) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        if from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        match serde_json::from_slice(&line) {
            Ok(Line::Sent { at, id, command, args, to, targets }) => {
                let targets = targets.into_iter().map(|client| (client, None)).collect();
                into.insert(id, SentEntry { command_id: id, at, command, args, to, targets });
            }
            Ok(Line::Verdict { at, id, client, verdict, is_final, text }) => {
                if let Some(entry) = into.get_mut(&id) {
                    let verdict = VerdictEntry { at, verdict, is_final, text };
                    let known = entry.targets.entry(client).or_default();
                    // What a client signed does not give way to what a later wait did not learn.
                    if is_final || !known.as_ref().is_some_and(|known| known.is_final) {
                        *known = Some(verdict);
                    }
                }
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use std::os::unix::fs::PermissionsExt;

    use countersign_machine::server::TargetReport;
    use countersign_protocol::digest::Digest;
    use countersign_protocol::json::JsonText;
    use countersign_protocol::reply::{ErrorBody, ErrorCode};
    use serde_json::json;

    use super::*;

    fn id(n: u64) -> MessageId {
        MessageId::new(Millis::new(1_795_485_600_000), [0, 0, 0, 0, 0, 0, 0, 0, 0, u8::try_from(n).unwrap()])
    }

    fn history(folder: &tempfile::TempDir) -> History {
        let path = folder.path().join("history.d/demo/alice.jsonl");
        History { path: Some(path), operator: name("alice"), output: Output::silent(), warned: Arc::default() }
    }

    fn name(name: &str) -> Name {
        name.parse().unwrap()
    }

    #[test]
    fn what_was_sent_and_what_came_of_it_is_read_again_and_nobody_else_can_read_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let history = history(&folder);
        let mut recording =
            history.record(id(1), &name("ping"), "{}", "@all", vec![name("worker-1"), name("worker-2")]);
        recording.reply(&name("worker-1"), &Outcome::Succeeded(json!(1)));
        recording.reply(&name("worker-1"), &Outcome::Succeeded(json!(1)));
        let busy = Outcome::Refused(ErrorBody::new(ErrorCode::Busy, "no"));
        recording.reply(&name("worker-2"), &busy);
        let entries = history.read().unwrap();
        let entry = &entries[&id(1)];
        assert_eq!((entry.command.as_str(), entry.to.as_str()), ("ping", "@all"));
        assert_eq!(entry.summary(), [("succeeded", 1), ("unknown", 1)].into());
        let path = history.path.as_ref().unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 2, "each verdict is written once");
    }

    #[test]
    fn a_line_that_was_not_written_to_its_end_spoils_no_other_one() {
        let folder = tempfile::TempDir::new().unwrap();
        let history = history(&folder);
        history.record(id(1), &name("ping"), "{}", "worker-1", vec![name("worker-1")]);
        let path = history.path.clone().unwrap();
        open(&path).unwrap().write_all(b"{\"event\":\"sent\",\"at\":17").unwrap();
        history.record(id(2), &name("ping"), "{}", "worker-1", vec![name("worker-1")]);
        assert_eq!(history.read().unwrap().into_keys().collect::<Vec<_>>(), [id(1), id(2)]);
    }

    #[test]
    fn it_is_bounded_and_the_latest_stay() {
        let folder = tempfile::TempDir::new().unwrap();
        let history = history(&folder);
        history.record(id(1), &name("ping"), "{}", "worker-1", vec![]);
        let path = history.path.clone().unwrap();
        for n in 2..=3 {
            open(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
            history.record(id(n), &name("ping"), &"x".repeat(10_000), "worker-1", vec![]);
        }
        let kept: u64 =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|it| it.unwrap().metadata().unwrap().len()).sum();
        assert!(kept < 2 * MAX_FILE, "{kept}");
        let entries = history.read().unwrap();
        assert_eq!(entries.keys().collect::<Vec<_>>(), [&id(2), &id(3)]);
        assert!(entries[&id(3)].args.chars().count() <= MAX_TEXT + 1);
    }

    #[test]
    fn several_processes_write_at_once_and_lose_nothing() {
        let folder = tempfile::TempDir::new().unwrap();
        let history = history(&folder);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let history = history.clone();
                scope.spawn(move || {
                    for n in 0..50 {
                        history.record(id(thread * 50 + n), &name("ping"), "{}", "worker-1", vec![name("worker-1")]);
                    }
                });
            }
        });
        assert_eq!(history.read().unwrap().len(), 200);
    }

    #[test]
    fn what_another_operator_sent_under_the_same_id_and_what_a_query_did_not_learn_change_nothing() {
        let folder = tempfile::TempDir::new().unwrap();
        let history = history(&folder);
        let worker = name("worker-1");
        history
            .record(id(1), &name("report"), "{}", "worker-1", vec![worker.clone()])
            .reply(&worker, &Outcome::Accepted);
        let report = |command: &str, verdict| {
            let reply = TargetReport {
                credential: None,
                client: worker.clone(),
                command_id: id(1),
                verdict,
                is_final: true,
                state: None,
                latency_ms: None,
                processes: 1,
            };
            Report { command_id: id(1), command: name(command), replies: vec![reply], gaps: 0, detached: false }
        };
        let result = |operator: &str| {
            let digest = Digest::of(b"its bytes");
            let found = json!({"status": "failed", "command_digest": digest, "operator": operator});
            report("result", Verdict::Succeeded { result: Some(JsonText::from(&found)) })
        };
        let gone = || Verdict::Offline { text: "probably not run".to_owned() };
        let silent = || Verdict::NoReply { text: "unknown".to_owned() };
        for resumed in [result("mallory"), report("result", gone()), report("wait", gone()), report("wait", silent())] {
            history.resume(id(1), &name("report")).report(&resumed);
            assert_eq!(history.read().unwrap()[&id(1)].summary(), [("accepted", 1)].into());
        }
        history.resume(id(1), &name("report")).report(&result("alice"));
        assert_eq!(history.read().unwrap()[&id(1)].summary(), [("failed", 1)].into());
    }

    #[test]
    fn a_later_wait_that_learns_nothing_does_not_take_back_what_a_client_signed() {
        let folder = tempfile::TempDir::new().unwrap();
        let history = history(&folder);
        let mut recording = history.record(id(1), &name("ping"), "{}", "worker-1", vec![name("worker-1")]);
        recording.reply(&name("worker-1"), &Outcome::Succeeded(json!(1)));
        let unknown = recording.line(&name("worker-1"), "no_reply", false, "");
        history.write(&[unknown]);
        assert_eq!(history.read().unwrap()[&id(1)].summary(), [("succeeded", 1)].into());
    }
}
