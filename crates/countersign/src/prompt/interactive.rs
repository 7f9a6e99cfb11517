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
use super::session::{Said, Session};
use crate::failure::{Exit, Failure, Fallible};
use crate::output::counted;
use crate::{orders, output, words};

/// How long the prompt waits for the end of what was accepted, before it goes on without it.
const BRIEFLY: Duration = Duration::from_millis(300);

/// Sooner after Ctrl-C nobody has typed a line.
const AT_ONCE: Duration = Duration::from_millis(250);

/// Asks for lines until the person leaves.
pub(super) async fn run(session: Session<'_>) -> Fallible<Exit> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("signals cannot be heard: {error}"));
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
enum Then {
    Next,
    Leave,
}

/// What a wait ended with.
enum Woken {
    /// Something happened, and was told.
    Told,
    /// Ctrl-C.
    Interrupted,
    /// The process is to end.
    Ended,
}

impl Terminal<'_> {
    async fn talk(&mut self) -> Fallible<()> {
        loop {
            // A command that names nobody is for whom the prompt showed, whoever came and went while it was typed.
            let target = self.session.target();
            if self.ahead.is_empty() {
                match self.ask(self.session.prompt(target.as_ref()), true).await? {
                    // What was pasted may be several.
                    Typed::Line(lines) => self.ahead.extend(lines.lines().map(str::to_owned)),
                    Typed::Garbled => self.session.output.note("that was no text in UTF-8; it is forgotten"),
                    Typed::Interrupted => {
                        if let Then::Leave = self.offer().await? {
                            return Ok(());
                        }
                    }
                    Typed::End => return Ok(()),
                    Typed::Failed(why) => return Err(unreadable(&why)),
                }
            }
            if let Some(line) = self.ahead.pop_front()
                && let Then::Leave = self.say(&line, target.as_ref()).await?
            {
                return Ok(());
            }
        }
    }

    async fn say(&mut self, line: &str, target: Option<&Audience>) -> Fallible<Then> {
        let [terminations, hangups] = &mut self.endings;
        let struck = std::mem::take(&mut self.struck);
        let said = tokio::select! {
            biased;
            () = ready(()), if struck => Err(orders::interrupted(Exit::Interrupted)),
            said = self.session.say(line, target) => said,
            _ = self.interrupts.recv() => Err(orders::interrupted(Exit::Interrupted)),
            _ = terminations.recv() => Ok(Said::Quit),
            _ = hangups.recv() => Ok(Said::Quit),
        };
        match said {
            Ok(Said::Done) => Ok(Then::Next),
            Ok(Said::Given(ticket)) => self.wait_for(ticket).await,
            Ok(Said::Quit) => Ok(Then::Leave),
            // A typo never ends it.
            Err(failure) => {
                output::failure(&failure.at_the_prompt());
                if !self.ahead.is_empty() {
                    self.session
                        .output
                        .note(&format!("not done, after that: {}", counted(self.ahead.len() as u64, "more line")));
                    self.ahead.clear();
                }
                Ok(Then::Next)
            }
        }
    }

    /// Asks for a line, and tells meanwhile what happens.
    async fn ask(&mut self, prompt: String, remember: bool) -> Fallible<Typed> {
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
                happening = self.session.operator.next() => {
                    self.session.tell(happening.map_err(|error| orders::failure(error, None))?)?;
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
    async fn wake(&mut self) -> Fallible<Woken> {
        let [terminations, hangups] = &mut self.endings;
        tokio::select! {
            happening = self.session.operator.next() => {
                self.session.tell(happening.map_err(|error| orders::failure(error, None))?)?;
                Ok(Woken::Told)
            }
            _ = self.interrupts.recv() => Ok(Woken::Interrupted),
            _ = terminations.recv() => Ok(Woken::Ended),
            _ = hangups.recv() => Ok(Woken::Ended),
        }
    }

    /// Waits for the report on an order, or until every target has replied and what they have accepted takes longer.
    async fn wait_for(&mut self, ticket: RequestId) -> Fallible<Then> {
        let mut patience = None;
        while self.session.is_under_way(ticket) {
            if self.session.operator.awaits_first_reply(ticket) {
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
                    self.session.leave_in_background(ticket);
                    return Ok(Then::Next);
                }
            };
            match woken {
                Woken::Told => {}
                Woken::Interrupted => {
                    self.session.leave_in_background(ticket);
                    return self.offer().await;
                }
                Woken::Ended => return Ok(Then::Leave),
            }
        }
        Ok(Then::Next)
    }

    /// Ctrl-C: what is under way can be cancelled, or left to itself.
    async fn offer(&mut self) -> Fallible<Then> {
        let under_way = self.session.under_way();
        if under_way.is_empty() {
            self.session.output.note("nothing is under way; Ctrl-D leaves");
            return Ok(Then::Next);
        }
        let texts: Vec<String> = under_way.iter().map(|(_, text)| format!("`{text}`")).collect();
        let tickets: Vec<RequestId> = under_way.iter().map(|(ticket, _)| *ticket).collect();
        self.session.output.note(&format!("under way: {}", texts.join(", ")));
        match self.ask("cancel (c), stop waiting (s), or go on (Enter)? ".to_owned(), false).await? {
            Typed::Line(line) => match line.trim().to_lowercase().as_str() {
                "" | "go on" => {}
                "c" | "cancel" => return self.cancel(&tickets).await,
                "s" | "stop" | "stop waiting" => self.session.leave_all()?,
                _ => self.ahead.extend(line.lines().map(str::to_owned)),
            },
            Typed::Garbled => {}
            // Twice is meant.
            Typed::Interrupted => self.session.leave_all()?,
            Typed::End => return Ok(Then::Leave),
            Typed::Failed(why) => return Err(unreadable(&why)),
        }
        Ok(Then::Next)
    }

    async fn cancel(&mut self, tickets: &[RequestId]) -> Fallible<Then> {
        for ticket in tickets {
            let running = self.session.operator.running(*ticket);
            if running.is_empty() && self.session.is_under_way(*ticket) {
                self.session.output.note("nothing of it runs yet that could be cancelled; its verdicts are awaited");
            }
            let mut cancelling = Vec::new();
            for (command, clients) in running {
                let text = format!("{} {}", Builtin::Cancel, command.command_id);
                match self.session.give(&text, words::cancel(clients, command), self.session.options()).await {
                    Ok(given) => cancelling.push(given),
                    Err(failure) => {
                        output::failure(&failure.at_the_prompt());
                    }
                }
            }
            for given in cancelling {
                if let Then::Leave = Box::pin(self.wait_for(given)).await? {
                    return Ok(Then::Leave);
                }
            }
        }
        Ok(Then::Next)
    }

    fn learn(&self) {
        let operator = &self.session.operator;
        let clients = operator.known().into_iter().map(ToString::to_string);
        let groups = orders::groups(operator).into_iter().map(|group| format!("@{group}"));
        let targets = clients.chain(groups).chain([Audience::All.to_string()]).collect();
        let running = self.session.under_way().into_iter().flat_map(|(ticket, _)| operator.running(ticket));
        let ids = running.map(|(command, _)| command.command_id.to_string()).collect();
        self.editor.learn(Vocabulary { targets, ids });
    }
}

fn unreadable(why: &str) -> Failure {
    Failure::new(Exit::Failed, format!("the terminal cannot be read: {why}"))
}
