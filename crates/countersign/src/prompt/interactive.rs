//! A person at a terminal.

use std::time::Duration;

use countersign_machine::server::{Audience, Ticket};
use countersign_protocol::command::Builtin;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::completion::Vocabulary;
use super::editor::{Editor, Typed, history_file};
use super::session::{Said, Session};
use crate::failure::{Exit, Failure, Fallible};
use crate::words;
use crate::{orders, output};

/// How long the prompt waits for the end of what was accepted, before it goes on without it.
const BRIEFLY: Duration = Duration::from_millis(300);

/// Asks for lines until the person leaves.
pub(super) async fn run(session: Session<'_>) -> Fallible<Exit> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("signals cannot be heard: {error}"));
    let interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let terminations = signal(SignalKind::terminate()).map_err(failed)?;
    let hangups = signal(SignalKind::hangup()).map_err(failed)?;
    session.output.note("`help` teaches, Tab completes, Ctrl-D leaves");
    let editor = Editor::start(history_file())?;
    Terminal { session, editor, interrupts, endings: [terminations, hangups] }.run().await
}

/// The person, and what they see.
struct Terminal<'a> {
    session: Session<'a>,
    editor: Editor,
    interrupts: Signal,
    endings: [Signal; 2],
}

impl Terminal<'_> {
    async fn run(mut self) -> Fallible<Exit> {
        let mut line = None;
        loop {
            let typed = match line.take() {
                Some(line) => Typed::Line(line),
                None => self.ask(self.session.prompt(), true).await?,
            };
            match typed {
                Typed::Line(typed) => match self.session.say(&typed).await {
                    Ok(Said::Done) => {}
                    Ok(Said::Given(ticket)) => line = self.wait_for(ticket).await?,
                    Ok(Said::Quit) => break,
                    // A typo never ends it.
                    Err(failure) => {
                        output::failure(&failure.at_the_prompt());
                    }
                },
                Typed::Interrupted => line = self.offer().await?,
                Typed::End => break,
                Typed::Failed(why) => return Err(unreadable(&why)),
            }
        }
        self.session.leave_all()?;
        output::print_all();
        Ok(Exit::Succeeded)
    }

    /// Asks for a line, and tells meanwhile what happens.
    async fn ask(&mut self, prompt: String, remember: bool) -> Fallible<Typed> {
        self.learn();
        // What was printed without a line to be typed must not wait for one, and come after what is printed later.
        output::print_all();
        self.editor.ask(prompt, remember);
        let [terminations, hangups] = &mut self.endings;
        loop {
            tokio::select! {
                typed = self.editor.typed() => return Ok(typed),
                happening = self.session.operator.next() => {
                    let happening = happening.map_err(|error| orders::failure(error, None))?;
                    self.session.tell(happening)?;
                }
                // Ctrl-C in the moment between two lines: there is nothing that it could mean.
                _ = self.interrupts.recv() => {}
                _ = terminations.recv() => return Ok(Typed::End),
                _ = hangups.recv() => return Ok(Typed::End),
            }
        }
    }

    /// Waits for the report on an order, or until every target has replied and what they have accepted takes longer. Tells
    /// what was typed instead of an answer, if the person was asked something.
    async fn wait_for(&mut self, ticket: Ticket) -> Fallible<Option<String>> {
        loop {
            while let Some(happening) = self.session.operator.happened() {
                self.session.tell(happening)?;
            }
            if !self.session.is_under_way(ticket) {
                return Ok(None);
            }
            let all_replied = !self.session.operator.awaits_first_reply(ticket);
            tokio::select! {
                happening = self.session.operator.next() => {
                    let happening = happening.map_err(|error| orders::failure(error, None))?;
                    self.session.tell(happening)?;
                }
                () = sleep(BRIEFLY), if all_replied => {
                    self.session.leave_in_background(ticket);
                    return Ok(None);
                }
                _ = self.interrupts.recv() => {
                    self.session.leave_in_background(ticket);
                    return self.offer().await;
                }
            }
        }
    }

    /// Ctrl-C: what is under way can be cancelled, or left to itself. Tells what was typed instead of an answer.
    async fn offer(&mut self) -> Fallible<Option<String>> {
        let under_way = self.session.under_way();
        if under_way.is_empty() {
            self.session.output.note("nothing is under way; Ctrl-D leaves");
            return Ok(None);
        }
        let texts: Vec<String> = under_way.iter().map(|(_, text)| format!("`{text}`")).collect();
        let tickets: Vec<Ticket> = under_way.iter().map(|(ticket, _)| *ticket).collect();
        self.session.output.note(&format!("under way: {}", texts.join(", ")));
        match self.ask("cancel (c), stop waiting (s), or go on (Enter)? ".to_owned(), false).await? {
            Typed::Line(line) => match line.trim() {
                "" => Ok(None),
                "c" | "cancel" => self.cancel(&tickets).await.map(|()| None),
                "s" => self.session.leave_all().map(|()| None),
                _ => Ok(Some(line)),
            },
            // Twice is meant.
            Typed::Interrupted | Typed::End => self.session.leave_all().map(|()| None),
            Typed::Failed(why) => Err(unreadable(&why)),
        }
    }

    async fn cancel(&mut self, tickets: &[Ticket]) -> Fallible<()> {
        for ticket in tickets {
            let running = self.session.operator.running(*ticket);
            if running.is_empty() && self.session.is_under_way(*ticket) {
                self.session.output.note("nothing of it runs yet that could be cancelled; its verdicts are awaited");
            }
            for (id, clients) in running {
                let text = format!("{} {id}", Builtin::Cancel);
                match self.session.give(&text, words::cancel(clients, id), self.session.options()).await {
                    Ok(cancelling) => self.session.finish(cancelling).await?,
                    Err(failure) => output::failure(&failure.at_the_prompt()),
                };
            }
        }
        Ok(())
    }

    fn learn(&self) {
        let operator = &self.session.operator;
        let clients = operator.known().into_iter().map(ToString::to_string);
        let groups = orders::groups(operator).into_iter().map(|group| format!("@{group}"));
        let targets = clients.chain(groups).chain([Audience::All.to_string()]).collect();
        let running = self.session.under_way().into_iter().flat_map(|(ticket, _)| operator.running(ticket));
        let ids = running.map(|(id, _)| id.to_string()).collect();
        self.editor.learn(Vocabulary { targets, ids });
    }
}

fn unreadable(why: &str) -> Failure {
    Failure::new(Exit::Failed, format!("the terminal cannot be read: {why}"))
}
