//! A person at a terminal.

use std::collections::VecDeque;
use std::future::ready;
use std::time::Duration;

use countersign_machine::server::{Audience, RequestId};
use countersign_protocol::command::Builtin;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::completion::Vocabulary;
use super::editor::{Editor, Typed, history_file};
use super::session::{LineOutcome, Session};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::text::{Place, counted};
use crate::{output, parsing, requests};

/// How long the prompt waits for the end of what was accepted, before it goes on without it.
const BRIEFLY: Duration = Duration::from_millis(300);

/// Sooner after Ctrl-C nobody has typed a line.
const AT_ONCE: Duration = Duration::from_millis(250);

/// Asks for lines until the person leaves.
pub(super) async fn run(session: Session<'_>) -> CliResult<Exit> {
    let failed = |error: std::io::Error| CliError::new(Exit::Failed, format!("signals cannot be heard: {error}"));
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
        ahead: VecDeque::new(),
        struck: false,
    };
    let ended = terminal.talk().await;
    // However it ends: what is under way has its verdicts as far as they are known.
    terminal.session.leave_all()?;
    ended.map(|()| Exit::Succeeded)
}

/// The person, and what they see.
struct Terminal<'a> {
    session: Session<'a>,
    editor: Editor,
    interrupts: Signal,
    endings: [Signal; 2],
    /// Lines that were typed or pasted already, and are to be done before another one is asked for.
    ahead: VecDeque<String>,
    /// Ctrl-C came between the end of a line and its being done.
    struck: bool,
}

/// Whether it goes on.
enum LoopFlow {
    Next,
    Leave,
}

/// What a wait ended with.
enum WakeReason {
    /// Something happened, and was told.
    Told,
    /// Ctrl-C.
    Interrupted,
    /// The process is to end.
    Ended,
}

impl Terminal<'_> {
    async fn talk(&mut self) -> CliResult<()> {
        loop {
            // A command that names nobody is for whom the prompt showed, whoever came and went while it was typed.
            let target = self.session.target();
            if self.ahead.is_empty() {
                match self.ask(self.session.prompt(target.as_ref()), true).await? {
                    // What was pasted may be several.
                    Typed::Line(lines) => self.ahead.extend(lines.lines().map(str::to_owned)),
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
            if let Some(line) = self.ahead.pop_front()
                && let LoopFlow::Leave = self.say(&line, target.as_ref()).await?
            {
                return Ok(());
            }
        }
    }

    async fn say(&mut self, line: &str, target: Option<&Audience>) -> CliResult<LoopFlow> {
        let [terminations, hangups] = &mut self.endings;
        let struck = std::mem::take(&mut self.struck);
        let said = tokio::select! {
            biased;
            () = ready(()), if struck => Err(requests::interrupted(Exit::Interrupted)),
            said = self.session.say(line, target) => said,
            _ = self.interrupts.recv() => Err(requests::interrupted(Exit::Interrupted)),
            _ = terminations.recv() => Ok(LineOutcome::Quit),
            _ = hangups.recv() => Ok(LineOutcome::Quit),
        };
        match said {
            Ok(LineOutcome::Done) => Ok(LoopFlow::Next),
            Ok(LineOutcome::Given(requests)) => self.wait_for(requests).await,
            Ok(LineOutcome::Quit) => Ok(LoopFlow::Leave),
            // A typo never ends it.
            Err(failure) => {
                output::failure(&failure, Place::Prompt);
                if !self.ahead.is_empty() {
                    self.session
                        .output
                        .note(format!("not done, after that: {}", counted(self.ahead.len() as u64, "more line")));
                    self.ahead.clear();
                }
                Ok(LoopFlow::Next)
            }
        }
    }

    /// Asks for a line, and tells meanwhile what happens.
    async fn ask(&mut self, prompt: String, remember: bool) -> CliResult<Typed> {
        self.learn();
        // What was printed without a line to be typed must not wait for one, and come after what is printed later.
        output::print_all();
        self.editor.ask(prompt, remember);
        let mut interrupted = None;
        loop {
            let [terminations, hangups] = &mut self.endings;
            tokio::select! {
                typed = self.editor.typed() => {
                    self.struck = interrupted.is_some_and(|at: Instant| at.elapsed() < AT_ONCE);
                    return Ok(typed);
                }
                event = self.session.operator.next() => {
                    self.session.tell(event.map_err(|error| requests::failure(error, None))?)?;
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
                self.session.tell(event.map_err(|error| requests::failure(error, None))?)?;
                Ok(WakeReason::Told)
            }
            _ = self.interrupts.recv() => Ok(WakeReason::Interrupted),
            _ = terminations.recv() => Ok(WakeReason::Ended),
            _ = hangups.recv() => Ok(WakeReason::Ended),
        }
    }

    /// Waits for the report on an order, or until every target has replied and what they have accepted takes longer.
    async fn wait_for(&mut self, requests: RequestId) -> CliResult<LoopFlow> {
        let mut patience = None;
        while self.session.is_under_way(requests) {
            if self.session.operator.awaits_first_reply(requests) {
                patience = None;
            } else {
                patience = patience.or_else(|| Some(Instant::now() + BRIEFLY));
            }
            let over = async {
                match patience {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let woken = tokio::select! {
                woken = self.wake() => woken?,
                () = over => {
                    self.session.leave_in_background(requests);
                    return Ok(LoopFlow::Next);
                }
            };
            match woken {
                WakeReason::Told => {}
                WakeReason::Interrupted => {
                    self.session.leave_in_background(requests);
                    return self.offer_cancel().await;
                }
                WakeReason::Ended => return Ok(LoopFlow::Leave),
            }
        }
        Ok(LoopFlow::Next)
    }

    /// Ctrl-C: what is under way can be cancelled, or left to itself.
    async fn offer_cancel(&mut self) -> CliResult<LoopFlow> {
        let under_way = self.session.under_way();
        if under_way.is_empty() {
            self.session.output.note("nothing is under way; Ctrl-D leaves");
            return Ok(LoopFlow::Next);
        }
        let texts: Vec<String> = under_way.iter().map(|(_, text)| format!("`{text}`")).collect();
        let requests: Vec<RequestId> = under_way.iter().map(|(requests, _)| *requests).collect();
        self.session.output.note(format!("under way: {}", texts.join(", ")));
        match self.ask("cancel (c), stop waiting (s), or go on (Enter)? ".to_owned(), false).await? {
            Typed::Line(line) => match line.trim().to_lowercase().as_str() {
                "" | "go on" => {}
                "c" | "cancel" => return self.cancel(&requests).await,
                "s" | "stop" | "stop waiting" => self.session.leave_all()?,
                _ => self.ahead.extend(line.lines().map(str::to_owned)),
            },
            Typed::Garbled => {}
            // Twice is meant.
            Typed::Interrupted => self.session.leave_all()?,
            Typed::End => return Ok(LoopFlow::Leave),
            Typed::Failed(why) => return Err(unreadable(&why)),
        }
        Ok(LoopFlow::Next)
    }

    async fn cancel(&mut self, requests: &[RequestId]) -> CliResult<LoopFlow> {
        for requests in requests {
            let running = self.session.operator.running(*requests);
            if running.is_empty() && self.session.is_under_way(*requests) {
                self.session.output.note("nothing of it runs yet that could be cancelled; its verdicts are awaited");
            }
            let mut cancelling = Vec::new();
            for (command, clients) in running {
                let text = format!("{} {}", Builtin::Cancel, command.command_id);
                match self.session.give(&text, parsing::cancel(clients, command), self.session.options()).await {
                    Ok(given) => cancelling.push(given),
                    Err(failure) => {
                        output::failure(&failure, Place::Prompt);
                    }
                }
            }
            for given in cancelling {
                if let LoopFlow::Leave = Box::pin(self.wait_for(given)).await? {
                    return Ok(LoopFlow::Leave);
                }
            }
        }
        Ok(LoopFlow::Next)
    }

    fn learn(&self) {
        let operator = &self.session.operator;
        let clients = operator.known().into_iter().map(ToString::to_string);
        let groups = requests::groups(operator).into_iter().map(|group| format!("@{group}"));
        let targets = clients.chain(groups).chain([Audience::All.to_string()]).collect();
        let running = self.session.under_way().into_iter().flat_map(|(requests, _)| operator.running(requests));
        let ids = running.map(|(command, _)| command.command_id.to_string()).collect();
        self.editor.learn(Vocabulary { targets, ids });
    }
}

fn unreadable(why: &str) -> CliError {
    CliError::new(Exit::Failed, format!("the terminal cannot be read: {why}"))
}
