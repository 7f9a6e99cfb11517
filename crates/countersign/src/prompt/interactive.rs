//! A person at a terminal.

use std::collections::VecDeque;
use std::future::ready;
use std::time::Duration;

use countersign_machine::server::{Audience, RequestId};
use countersign_protocol::command::Builtin;
use countersign_protocol::text::echo;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::completion::Words;
use super::editor::{Editor, Typed, history_file};
use super::session::{LineOutcome, Session};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::short_id::short;
use crate::text::{Place, counted};
use crate::{args, output, parsing, requests};

/// How long the prompt waits for the end of what was accepted, before it goes on without it.
const BACKGROUND_AFTER: Duration = Duration::from_millis(300);

/// A line that comes sooner after Ctrl-C was typed before it.
const TYPED_BEFORE: Duration = Duration::from_millis(250);

/// How often the prompt is compared with what it says: clients fall silent and credentials end without an event.
const LOOK: Duration = Duration::from_millis(250);

/// Asks for lines until the person leaves.
pub(super) async fn run(session: Session<'_>) -> CliResult<Exit> {
    let failed = |error: std::io::Error| CliError::new(Exit::Failed, format!("signals cannot be handled: {error}"));
    let interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let terminations = signal(SignalKind::terminate()).map_err(failed)?;
    let hangups = signal(SignalKind::hangup()).map_err(failed)?;
    session.output.note("`help` teaches, Tab completes, Ctrl-D leaves");
    let editor = Editor::start(history_file())?;
    let mut terminal = Terminal {
        session,
        editor,
        interrupts,
        endings: [terminations, hangups],
        pending: VecDeque::new(),
        interrupted: false,
    };
    let ended = terminal.run().await;
    // However it ends: what is open has its verdicts as far as they are known.
    terminal.session.stop_waiting()?;
    ended.map(|()| Exit::Succeeded)
}

/// The person, and what they see.
struct Terminal<'a> {
    session: Session<'a>,
    editor: Editor,
    interrupts: Signal,
    endings: [Signal; 2],
    /// Lines that were typed or pasted already, and are to be done before the next one is read.
    pending: VecDeque<String>,
    /// Ctrl-C came between the end of a line and its execution.
    interrupted: bool,
}

/// Whether it goes on.
enum LoopFlow {
    Next,
    Leave,
}

/// What stands before the cursor.
#[derive(Clone, Copy)]
enum Prompt<'a> {
    /// The prompt of a line whose commands are for this target if they name none.
    Line(Option<&'a Audience>),
    /// A question. Its answer is not a line to remember.
    Question(&'a str),
}

/// What a wait ended with.
enum WakeReason {
    /// Something happened, and was shown.
    Event,
    /// Ctrl-C.
    Interrupted,
    /// The process is to end.
    Ended,
}

impl Terminal<'_> {
    async fn run(&mut self) -> CliResult<()> {
        loop {
            // A command without a target is for the one that the prompt showed, whoever came and went while it was typed.
            let target = self.session.target();
            if self.pending.is_empty() {
                match self.ask(Prompt::Line(target.as_ref())).await? {
                    // What was pasted may be several.
                    Typed::Line(lines) => self.pending.extend(lines.lines().map(str::to_owned)),
                    Typed::Garbled => self.session.output.note("that was no text in UTF-8; it is forgotten"),
                    Typed::Interrupted => {
                        if let LoopFlow::Leave = self.offer_cancel().await? {
                            return Ok(());
                        }
                    }
                    Typed::End => return Ok(()),
                    Typed::Failed(why) => return Err(unreadable(&why)),
                }
            }
            if let Some(line) = self.pending.pop_front()
                && let LoopFlow::Leave = self.run_line(&line, target.as_ref()).await?
            {
                return Ok(());
            }
        }
    }

    async fn run_line(&mut self, line: &str, target: Option<&Audience>) -> CliResult<LoopFlow> {
        let [terminations, hangups] = &mut self.endings;
        let interrupted = std::mem::take(&mut self.interrupted);
        let outcome = tokio::select! {
            biased;
            () = ready(()), if interrupted => Err(requests::interrupted(Exit::Interrupted)),
            outcome = self.session.run_line(line, target) => outcome,
            _ = self.interrupts.recv() => Err(self.session.interrupted(Exit::Interrupted)),
            _ = terminations.recv() => Ok(LineOutcome::Quit),
            _ = hangups.recv() => Ok(LineOutcome::Quit),
        };
        match outcome {
            Ok(LineOutcome::Done | LineOutcome::Ended(_)) => Ok(LoopFlow::Next),
            Ok(LineOutcome::Sent(id)) => self.wait_for(id).await,
            Ok(LineOutcome::Quit) => Ok(LoopFlow::Leave),
            // A typo never ends it.
            Err(failure) => {
                output::failure(&failure, Place::Prompt);
                if !self.pending.is_empty() {
                    self.session
                        .output
                        .note(format!("not done, after that: {}", counted(self.pending.len() as u64, "more line")));
                    self.pending.clear();
                }
                Ok(LoopFlow::Next)
            }
        }
    }

    /// Reads a line, and shows meanwhile what happens.
    async fn ask(&mut self, prompt: Prompt<'_>) -> CliResult<Typed> {
        self.update_vocabulary();
        // What was printed without a line to be typed must not wait for one, and come after what is printed later.
        output::print_all();
        let shown = match prompt {
            Prompt::Line(target) => self.session.prompt(target),
            Prompt::Question(question) => question.to_owned(),
        };
        self.editor.read_line(shown, matches!(prompt, Prompt::Line(_)));
        let mut interrupted = None;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let [terminations, hangups] = &mut self.endings;
            tokio::select! {
                typed = self.editor.typed() => {
                    self.interrupted = interrupted.is_some_and(|at: Instant| at.elapsed() < TYPED_BEFORE);
                    return Ok(typed);
                }
                event = self.session.operator.next() => {
                    self.session.on_event(event.map_err(|error| requests::failure(error, None))?)?;
                }
                _ = looks.tick() => {
                    if let Prompt::Line(target) = prompt {
                        self.editor.change_prompt(&self.session.prompt(target));
                    }
                }
                // While a line is edited, Ctrl-C is a key. As a signal it comes before that, when there is nothing that it
                // could mean, or after Enter.
                _ = self.interrupts.recv() => interrupted = Some(Instant::now()),
                _ = terminations.recv() => return Ok(Typed::End),
                _ = hangups.recv() => return Ok(Typed::End),
            }
        }
    }

    /// Waits until something happens.
    async fn wake(&mut self) -> CliResult<WakeReason> {
        let [terminations, hangups] = &mut self.endings;
        tokio::select! {
            event = self.session.operator.next() => {
                self.session.on_event(event.map_err(|error| requests::failure(error, None))?)?;
                Ok(WakeReason::Event)
            }
            _ = self.interrupts.recv() => Ok(WakeReason::Interrupted),
            _ = terminations.recv() => Ok(WakeReason::Ended),
            _ = hangups.recv() => Ok(WakeReason::Ended),
        }
    }

    /// Waits for the report on a request, or until every target has replied and what they have accepted takes longer.
    async fn wait_for(&mut self, id: RequestId) -> CliResult<LoopFlow> {
        let mut background_at = None;
        while self.session.is_open(id) {
            if self.session.operator.awaits_first_reply(id) {
                background_at = None;
            } else {
                background_at = background_at.or_else(|| Some(Instant::now() + BACKGROUND_AFTER));
            }
            let over = async {
                match background_at {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let woken = tokio::select! {
                woken = self.wake() => woken?,
                () = over => {
                    self.session.move_to_background(id);
                    return Ok(LoopFlow::Next);
                }
            };
            match woken {
                WakeReason::Event => {}
                WakeReason::Interrupted => {
                    self.session.move_to_background(id);
                    return self.offer_cancel().await;
                }
                WakeReason::Ended => return Ok(LoopFlow::Leave),
            }
        }
        Ok(LoopFlow::Next)
    }

    /// Ctrl-C: what is under way can be cancelled, or left to itself.
    async fn offer_cancel(&mut self) -> CliResult<LoopFlow> {
        let open = self.session.open_requests();
        if open.is_empty() {
            self.session.output.note("Ctrl-D leaves");
            return Ok(LoopFlow::Next);
        }
        let texts: Vec<String> = match open.as_slice() {
            [(_, only)] => vec![format!("`{only}`")],
            several => several.iter().zip(1..).map(|((_, text), number)| format!("{number} `{text}`")).collect(),
        };
        let requests: Vec<RequestId> = open.iter().map(|(id, _)| *id).collect();
        self.session.output.note(format!("under way: {}", texts.join(", ")));
        let cancel = if requests.len() == 1 { "cancel (c)" } else { "cancel all (c) or one (its number)" };
        let question = format!("{cancel}, stop waiting (s, Ctrl-C), or go on (Enter)? ");
        loop {
            let line = match self.ask(Prompt::Question(&question)).await? {
                Typed::Line(line) => line,
                Typed::Garbled => continue,
                Typed::Interrupted => {
                    self.session.stop_waiting()?;
                    return Ok(LoopFlow::Next);
                }
                Typed::End => return Ok(LoopFlow::Leave),
                Typed::Failed(why) => return Err(unreadable(&why)),
            };
            match answer(&line, &requests) {
                Some(Answer::GoOn) => {}
                Some(Answer::Cancel(these)) => return self.cancel(&these).await,
                Some(Answer::StopWaiting) => self.session.stop_waiting()?,
                Some(Answer::Commands) => self.pending.extend(line.lines().map(str::to_owned)),
                None => {
                    let note = format!(
                        "`{}` is no answer, and nothing was done; a command may be typed here too",
                        echo(&line)
                    );
                    self.session.output.note(note);
                    continue;
                }
            }
            return Ok(LoopFlow::Next);
        }
    }

    async fn cancel(&mut self, requests: &[RequestId]) -> CliResult<LoopFlow> {
        let args = self.session.args();
        for id in requests {
            let running = self.session.operator.running(*id);
            if running.is_empty() && self.session.is_open(*id) {
                self.session.output.note("nothing of it runs yet that could be cancelled; its verdicts are awaited");
            }
            let mut cancelling = Vec::new();
            for (command, clients) in running {
                let text = format!("{} {}", Builtin::Cancel, command.command_id);
                match self
                    .session
                    .submit(&text, parsing::cancel(clients, command), &args.send, args.output.format())
                    .await
                {
                    Ok(id) => cancelling.push(id),
                    Err(failure) => {
                        output::failure(&failure, Place::Prompt);
                    }
                }
            }
            for id in cancelling {
                if let LoopFlow::Leave = Box::pin(self.wait_for(id)).await? {
                    return Ok(LoopFlow::Leave);
                }
            }
        }
        Ok(LoopFlow::Next)
    }

    fn update_vocabulary(&mut self) {
        let vocabulary = self.session.vocabulary();
        let operator = &self.session.operator;
        let running = self.session.open_requests().into_iter().flat_map(|(id, _)| operator.running(id));
        let ids = running.map(|(command, _)| short(&command.command_id)).collect();
        self.editor.update(Words { vocabulary, ids });
    }
}

fn unreadable(why: &str) -> CliError {
    CliError::new(Exit::Failed, format!("the terminal cannot be read: {why}"))
}

/// What an answer to the question after Ctrl-C asks for.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    GoOn,
    Cancel(Vec<RequestId>),
    StopWaiting,
    /// It is no answer, but what can be typed at the prompt.
    Commands,
}

/// What is meant, where something is.
fn answer(line: &str, requests: &[RequestId]) -> Option<Answer> {
    let typed = line.trim().to_lowercase();
    let numbered = || requests.get(typed.parse::<usize>().ok()?.checked_sub(1)?);
    match typed.as_str() {
        "" | "g" | "go on" => Some(Answer::GoOn),
        "c" | "cancel" | "cancel all" => Some(Answer::Cancel(requests.to_vec())),
        "s" | "stop" | "stop waiting" => Some(Answer::StopWaiting),
        _ => match numbered() {
            Some(one) => Some(Answer::Cancel(vec![*one])),
            None => {
                let first = line.split_whitespace().next()?;
                args::prompt_commands().iter().any(|command| command == first).then_some(Answer::Commands)
            }
        },
    }
}
