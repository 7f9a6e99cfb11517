//! Reading what jobs write, from any number of clients at once, and checking it against what they signed (section 13).

mod query;
mod tail;

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::time::Duration;

use countersign_machine::server::{Audience, CommandRequest, Options, Report, RequestId, Update, Verdict};
use countersign_protocol::command::{Builtin, Call, CommandId};
use countersign_protocol::json::read;
use countersign_protocol::name::Name;
use countersign_protocol::output::{OutputPiece, OutputQuery, Stream, StreamReport};
use countersign_protocol::reply;
use countersign_server::{Operator, OperatorError, OperatorEvent};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::query::{call, final_report, probe, readable};
use self::tail::{Outcome, Tail};
use crate::args::{FollowArgs, Format};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::{Gathering, Output, StreamPrinter};
use crate::requests;
use crate::text::{command, counted, reply_error};

/// How soon a job that has written nothing new is asked again.
const POLL: Duration = Duration::from_millis(400);
/// How many clients are asked at a time.
const MAX_ASKED: usize = 16;
/// How many ranges of a stream are named that are not kept: a job may write faster than it is read, all the time.
const MAX_GAPS: u64 = 4;
/// How often a client that does not answer is asked before it is given up.
const ATTEMPTS: u32 = 3;

/// The streams that are read.
#[derive(Debug)]
pub(crate) struct Following {
    output: Output,
    printer: StreamPrinter,
    options: Options,
    /// How long all of it may last, in milliseconds, and when that is over.
    deadline: Option<i64>,
    ends_at: Option<Instant>,
    /// Whether the end of the jobs is awaited.
    to_the_end: bool,
    readings: Vec<Reading>,
    /// What is asked and not answered yet.
    asked: BTreeMap<RequestId, Question>,
    /// Why nothing could be read.
    failure: Option<CliError>,
    exit: Exit,
    /// Whoever reads what is printed has read enough.
    is_read_enough: bool,
    /// The person does not wait any more.
    is_interrupted: bool,
}

/// A question to a client.
#[derive(Debug, Clone, Copy)]
enum Question {
    /// Who of all targets has output of the job.
    Probe(CommandId, Stream),
    /// The next piece of this reading.
    Piece(usize),
    /// All of it was read: what the final reply says of it.
    FinalReply(usize),
}

/// One stream of one client.
#[derive(Debug)]
struct Reading {
    client: Name,
    command: CommandId,
    stream: Stream,
    tail: Tail,
    state: State,
    fruitless: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be asked from then on.
    Due(Instant),
    Asked,
    Over,
}

impl Following {
    /// Nothing is read yet. `several` has each line name its client; `separate` has standard error go to standard error.
    pub(crate) fn new(output: Output, options: Options, to_the_end: bool, several: bool, separate: bool) -> Self {
        let printer = StreamPrinter::new(output, several, separate);
        // The deadline is that of the whole, and not of each question.
        let (deadline, options) = (options.deadline, Options { detach: false, deadline: None, ..options });
        let ends_at =
            deadline.and_then(|millis| u64::try_from(millis).ok()).map(|it| Instant::now() + Duration::from_millis(it));
        Self {
            output,
            printer,
            options,
            deadline,
            ends_at,
            to_the_end,
            readings: Vec::new(),
            asked: BTreeMap::new(),
            failure: None,
            exit: Exit::Succeeded,
            is_read_enough: false,
            is_interrupted: false,
        }
    }

    /// Reads a stream from its beginning, unless it is read already.
    pub(crate) fn add(&mut self, client: &Name, command: CommandId, stream: Stream) {
        let is_same = |it: &Reading| it.client == *client && it.stream == stream;
        if !self.readings.iter().any(is_same) {
            let (tail, state) = (Tail::default(), State::Due(Instant::now()));
            self.readings.push(Reading { client: client.clone(), command, stream, tail, state, fruitless: 0 });
        }
    }

    /// For a stream of one job, from each client of an audience that has it on record.
    pub(crate) async fn of_job(
        operator: &mut Operator,
        job: CommandId,
        audience: &Audience,
        options: Options,
        args: FollowArgs,
        output: Output,
    ) -> CliResult<Self> {
        let stream = if args.stderr { Stream::Stderr } else { Stream::Stdout };
        let several = !matches!(audience, Audience::Clients(clients) if clients.len() == 1);
        let mut following = Self::new(output, options, args.follow, several, false);
        let request = CommandRequest::new(probe(job, stream), false)?;
        let submitted = operator.submit(request, audience, following.options).await;
        let id = submitted.map_err(|error| requests::failure(error, Some(operator)))?;
        following.asked.insert(id, Question::Probe(job, stream));
        Ok(following)
    }

    /// For the output of what a request starts: both streams, to the end.
    pub(crate) fn of_request(output: Output, options: Options, audience: &Audience) -> Self {
        let several = !matches!(audience, Audience::Clients(clients) if clients.len() == 1);
        Self::new(output, options, true, several, true)
    }

    /// How the request is submitted whose jobs are read.
    pub(crate) fn request_options(&self) -> Options {
        Options { deadline: self.deadline, ..self.options }
    }

    /// Reads what the jobs of a request write, from when they are accepted to their ends. As [`Operator::report`] does, it ends
    /// with one verdict for each target.
    pub(crate) async fn report(
        &mut self,
        operator: &mut Operator,
        id: RequestId,
        interrupt: impl Future<Output = ()>,
        gathering: &mut Gathering,
    ) -> Result<Report, OperatorError> {
        let mut interrupt = pin!(interrupt);
        let mut report = None;
        while report.is_none() || !self.is_over() {
            tokio::select! {
                event = self.next_of(operator, id) => match event? {
                    Some(OperatorEvent::Done { id: done, report: of }) if done == id => report = Some(of),
                    Some(OperatorEvent::Update { update, .. }) => gathering.update(&update),
                    Some(OperatorEvent::Done { .. }) | None => {}
                },
                () = &mut interrupt, if !self.is_interrupted => {
                    self.is_interrupted = true;
                    operator.interrupt(id);
                }
            }
        }
        report.ok_or(OperatorError::Interrupted)
    }

    /// Waits until something happens that is not an answer to this, which reads meanwhile what the jobs of a request write;
    /// `None` where everything is read so far and something else may be due.
    pub(crate) async fn next_of(
        &mut self,
        operator: &mut Operator,
        id: RequestId,
    ) -> Result<Option<OperatorEvent>, OperatorError> {
        self.ask(operator).await?;
        tokio::select! {
            event = operator.next() => {
                let event = self.take(event?);
                if let Some(OperatorEvent::Update { id: Some(about), update }) = &event
                    && *about == id
                {
                    self.accepted(operator, id, update);
                }
                Ok(event)
            }
            () = tokio::time::sleep_until(self.wake_at()) => Ok(None),
        }
    }

    /// Reads what a job writes once its client has accepted it.
    fn accepted(&mut self, operator: &Operator, id: RequestId, update: &Update) {
        let Update::Reply { client, command_id, outcome, .. } = update else { return };
        if matches!(outcome, reply::Outcome::Accepted) {
            // An id alone might be another operator's command as well.
            let running = operator.running(id);
            let named = running
                .into_iter()
                .find(|(command, clients)| command.command_id == *command_id && clients.contains(client));
            let by_id = CommandId { command_id: *command_id, command_digest: None };
            let command = named.map_or(by_id, |(command, _)| command);
            Stream::ALL.iter().for_each(|stream| self.add(client, command, *stream));
        }
    }

    /// Whether everything is read, or given up.
    pub(crate) fn is_over(&self) -> bool {
        self.is_read_enough
            || self.is_interrupted
            || self.is_late()
            || self.asked.is_empty() && self.readings.iter().all(|it| it.state == State::Over)
    }

    /// Whether the deadline is over.
    fn is_late(&self) -> bool {
        self.ends_at.is_some_and(|at| at <= Instant::now())
    }

    /// When somebody is to be asked next.
    pub(crate) fn wake_at(&self) -> Instant {
        let due = self.readings.iter().filter_map(|it| match it.state {
            State::Due(at) => Some(at),
            _ => None,
        });
        let due = due.min().filter(|_| self.asked.len() < MAX_ASKED);
        let next = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
        self.ends_at.map_or(next, |at| next.min(at))
    }

    /// Waits until something happens that is not an answer to this, or until everything is read: then it is `None`.
    pub(crate) async fn next(&mut self, operator: &mut Operator) -> Result<Option<OperatorEvent>, OperatorError> {
        while !self.is_over() {
            self.ask(operator).await?;
            tokio::select! {
                event = operator.next() => {
                    let event = self.take(event?);
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                () = tokio::time::sleep_until(self.wake_at()) => {}
            }
        }
        Ok(None)
    }

    /// Asks whoever is due.
    async fn ask(&mut self, operator: &mut Operator) -> Result<(), OperatorError> {
        let now = Instant::now();
        for index in 0..self.readings.len() {
            let reading = &self.readings[index];
            let is_due = matches!(reading.state, State::Due(at) if at <= now);
            if !is_due || self.asked.len() >= MAX_ASKED {
                continue;
            }
            let CommandId { command_id, command_digest } = reading.command;
            let (question, call) = if reading.tail.is_at_end() {
                (Question::FinalReply(index), call(Builtin::Result, json!(reading.command)))
            } else {
                let (stream, offset) = (reading.stream, reading.tail.offset());
                let query = OutputQuery { command_id, command_digest, stream, offset };
                (Question::Piece(index), call(Builtin::Output, json!(query)))
            };
            let audience = Audience::Clients(vec![reading.client.clone()]);
            let submitted = operator.submit(CommandRequest::new(call, false)?, &audience, self.options).await;
            self.readings[index].state = match submitted {
                Ok(id) => {
                    self.asked.insert(id, question);
                    State::Asked
                }
                // The connection is being made again by itself.
                Err(_) if operator.is_cut_off() && self.to_the_end => State::Due(now + POLL),
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Takes what answers a question of this; everything else is returned.
    fn take(&mut self, event: OperatorEvent) -> Option<OperatorEvent> {
        match event {
            OperatorEvent::Update { id: Some(id), update: Update::Reply { .. } } if self.asked.contains_key(&id) => {
                None
            }
            OperatorEvent::Done { id, report } => match self.asked.remove(&id) {
                Some(question) => {
                    self.answered(question, &report);
                    None
                }
                None => Some(OperatorEvent::Done { id, report }),
            },
            event => Some(event),
        }
    }

    /// What it came to; a line that is open is ended.
    pub(crate) fn finish(&mut self) -> CliResult<Exit> {
        let ended = self.printer.end_line();
        self.written(ended);
        let is_unread = !self.asked.is_empty() || self.readings.iter().any(|it| it.state != State::Over);
        if is_unread && self.is_late() && !self.is_interrupted && !self.is_read_enough {
            self.output.alarm("the deadline is over: there may be more output than was shown; the job goes on");
            self.exit = self.exit.worse(Exit::NotEnded);
        }
        self.failure.take().map_or(Ok(self.exit), Err)
    }

    fn answered(&mut self, question: Question, report: &Report) {
        let (index, is_verified) = match question {
            Question::Probe(job, stream) => {
                return match readable(report) {
                    Ok(clients) => clients.iter().for_each(|client| self.add(client, job, stream)),
                    Err(failure) => self.failure = Some(failure),
                };
            }
            Question::Piece(index) => (index, false),
            Question::FinalReply(index) => (index, true),
        };
        let reading = &mut self.readings[index];
        match report.replies.first().map(|reply| &reply.verdict) {
            Some(Verdict::Succeeded { result }) => {
                let result = result.as_ref().map(|result| result.value()).unwrap_or_default();
                reading.fruitless = 0;
                if is_verified {
                    let report = final_report(&result, reading.stream);
                    return self.verified(index, report);
                }
                match read::<OutputPiece>(&result) {
                    Ok(piece) => self.piece(index, &piece),
                    Err(error) => {
                        let text = format!("{}: its answer cannot be read: {error}", reading.client);
                        self.give_up(index, Exit::Failed, &text);
                    }
                }
            }
            // What was read is compared with the answers alone.
            Some(Verdict::Failed { .. } | Verdict::Refused { .. }) if is_verified => self.verified(index, None),
            Some(Verdict::Failed { error } | Verdict::Refused { error }) => {
                let text = format!("{}: {}", reading.client, reply_error("", error));
                self.give_up(index, Exit::Failed, &text);
            }
            _ => {
                reading.fruitless += 1;
                reading.state = State::Due(Instant::now() + POLL);
                if reading.fruitless >= ATTEMPTS {
                    let text = format!(
                        "{}: no reply; {} was read up to byte {}, and it is not known whether that is all",
                        reading.client,
                        reading.stream,
                        reading.tail.offset()
                    );
                    self.give_up(index, Exit::NoReply, &text);
                }
            }
        }
    }

    fn piece(&mut self, index: usize, piece: &OutputPiece) {
        let reading = &mut self.readings[index];
        let (client, stream) = (reading.client.clone(), reading.stream);
        match reading.tail.take(piece) {
            Err(lie) => {
                return self.give_up(index, Exit::Failed, &format!("{client}: {stream} contradicts itself: {lie}"));
            }
            Ok(Some((from, until))) if reading.tail.gaps() <= MAX_GAPS => {
                let more = if reading.tail.gaps() == MAX_GAPS { "; further ranges are only counted" } else { "" };
                self.warn(&format!("{client}: bytes {from} to {until} of {stream} are not kept{more}"));
            }
            Ok(Some(_)) => {}
            Ok(None) => {}
        }
        let printed = self.printer.print(&client, stream, &piece.data.0);
        self.written(printed);
        let reading = &mut self.readings[index];
        let at_end = reading.tail.is_at_end();
        if at_end || piece.data.0.is_empty() {
            let flushed = self.printer.flush(&client, stream, at_end);
            self.written(flushed);
        }
        let reading = &mut self.readings[index];
        reading.state = match (piece.data.0.is_empty(), at_end) {
            (_, true) | (false, false) => State::Due(Instant::now()),
            (true, false) if self.to_the_end => State::Due(Instant::now() + POLL),
            (true, false) => State::Over,
        };
        if reading.state == State::Over {
            let bytes = counted(reading.tail.bytes(), "byte");
            self.output
                .note(format!("{client}: it runs, and has written {bytes} to {stream}; --follow waits for its end"));
        }
    }

    fn verified(&mut self, index: usize, report: Option<StreamReport>) {
        let reading = &mut self.readings[index];
        let (client, stream, bytes) = (&reading.client, reading.stream, reading.tail.bytes());
        let text = match reading.tail.outcome(report.as_ref()) {
            Outcome::Complete => return reading.state = State::Over,
            Outcome::Open => return reading.state = State::Due(Instant::now() + POLL),
            Outcome::Missing(lost, fits) => {
                let rest = if fits { "; what is kept has the digest that the client signed" } else { "" };
                format!("{client}: {stream} is not complete: {lost} of {} are not kept{rest}", counted(bytes, "byte"))
            }
            Outcome::Unproved => format!(
                "{client}: the client's process ended while the job ran; of {stream} {} kept, and nothing proves that \
                 this is all",
                counted(bytes, "byte") + if bytes == 1 { " is" } else { " are" }
            ),
            Outcome::Different(why) => format!("{client}: {stream} is not what the client signed: {why}"),
        };
        self.give_up(index, Exit::Failed, &text);
    }

    fn give_up(&mut self, index: usize, exit: Exit, text: &str) {
        self.readings[index].state = State::Over;
        self.exit = self.exit.worse(exit);
        self.warn(text);
    }

    /// Says it on a line of its own.
    fn warn(&mut self, text: &str) {
        let ended = self.printer.end_line();
        self.written(ended);
        self.output.alarm(text);
    }

    fn written(&mut self, written: io::Result<()>) {
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.is_read_enough = true,
            Err(error) => {
                self.is_read_enough = true;
                self.exit = self.exit.worse(Exit::Failed);
                self.output.alarm(&format!("what was read cannot be written: {error}"));
            }
        }
    }
}

/// The job whose output a command reads; `None` where it does something else.
pub(crate) fn job(call: &Call, dry_run: bool) -> Option<CommandId> {
    let is_output = call.name.as_str() == Builtin::Output.name() && !dry_run;
    let OutputQuery { command_id, command_digest, .. } =
        read(&Value::Object(call.args.clone())).ok().filter(|_| is_output)?;
    Some(CommandId { command_id, command_digest })
}

/// Whether a command reads what a job wrote, however much of its id is there.
pub(crate) fn reads(call: &Call, dry_run: bool) -> bool {
    call.name.as_str() == Builtin::Output.name() && !dry_run
}

/// The person does not want to read on.
pub(crate) fn interrupted(exit: Exit) -> CliError {
    CliError::new(exit, "interrupted: there may be more output than was shown")
        .expected("to read to the end, where what was read is compared with what the client signed")
}

/// What jobs write is no JSON document.
pub(crate) fn check_format(reads: bool, format: Format) -> CliResult<()> {
    if !reads || format == Format::Table {
        return Ok(());
    }
    Err(CliError::usage("what a job writes is bytes, and not JSON")
        .expected("no -o where output is read")
        .hint(command("result TARGET COMMAND-ID -o json") + " shows the outcome with a report on its output"))
}
