//! One session at the prompt: the operator, whom commands are for, and what is under way.

use std::collections::BTreeMap;

use countersign_host::clock;
use countersign_machine::server::{Audience, Presence, Report, RequestId, Update};
use countersign_protocol::credential::Grant;
use countersign_protocol::envelope::Expired;
use countersign_protocol::name::Name;
use countersign_protocol::reply::State;
use countersign_server::{Operator, OperatorEvent};

use super::line::{self, Line};
use crate::args::Options;
use crate::cli_error::{CliResult, Exit};
use crate::commands::{clients, schemas};
use crate::output::{Gathering, Output, late_line, news_line};
use crate::parsing::Request;
use crate::requests;

/// Who gives commands, and what they have given.
pub(super) struct Session<'a> {
    options: &'a Options,
    pub(super) operator: Operator,
    pub(super) output: Output,
    /// Whether somebody reads what clients say unasked; a script waits for verdicts and for nothing else.
    hears_news: bool,
    /// Whom `use` named.
    target: Option<Audience>,
    under_way: BTreeMap<RequestId, OpenRequest>,
    /// Whether it was said that the operator's credential ends soon.
    warned: bool,
}

/// An order that has no report yet.
struct OpenRequest {
    /// What was typed, for people.
    text: String,
    gathering: Gathering,
    /// Whether it is for more than one client.
    is_for_many: bool,
    /// Whether the prompt has gone on without it.
    in_background: bool,
}

/// What came of a line.
pub(super) enum LineOutcome {
    /// It is done.
    Done,
    /// An order was given, and its verdicts are awaited.
    Given(RequestId),
    /// Leave.
    Quit,
}

impl<'a> Session<'a> {
    pub(super) fn new(options: &'a Options, operator: Operator, output: Output, hears_news: bool) -> Self {
        let mut session =
            Self { options, operator, output, hears_news, target: None, under_way: BTreeMap::new(), warned: false };
        session.warn();
        session
    }

    /// Does what a line says, as far as nothing is to be awaited. What names nobody is for `usual`. Nothing is sent when this
    /// is dropped while it waits.
    pub(super) async fn say(&mut self, line: &str, usual: Option<&Audience>) -> CliResult<LineOutcome> {
        match line::read(line, self.options, usual)? {
            Line::Nothing => {}
            Line::Quit => return Ok(LineOutcome::Quit),
            Line::Show(text) => self.output.text(&text)?,
            Line::Use(target) => self.use_target(target)?,
            Line::Schema(name) => schemas::show(name.as_deref(), self.output).map(|_| ())?,
            Line::Clients(action, options) => {
                clients::show_or_forget(&options, action.as_ref(), &mut self.operator, self.output).await?;
            }
            Line::Request(request, options) => return self.give(line, request, &options).await.map(LineOutcome::Given),
        }
        Ok(LineOutcome::Done)
    }

    /// Whom commands are for that name nobody: whom `use` named, or the only client that is there.
    pub(super) fn target(&self) -> Option<Audience> {
        let there = |presence: &&Presence| presence.state() != State::Terminated;
        self.target.clone().or_else(|| {
            let mut there = self.operator.roster().entries().filter(there);
            let only = there.next()?.client().clone();
            there.next().is_none().then(|| Audience::Clients(vec![only]))
        })
    }

    /// What stands before the cursor: whom commands are for, and in which state they are.
    pub(super) fn prompt(&self, target: Option<&Audience>) -> String {
        let roster = self.operator.roster();
        match target {
            None => "countersign> ".to_owned(),
            Some(Audience::Clients(clients)) if clients.len() == 1 => {
                let known = clients.first().and_then(|client| roster.entry(client));
                let state = match known {
                    Some(presence) if presence.expires_at() <= clock::wall() => "expired".to_owned(),
                    Some(presence) if self.operator.is_silent(presence.client()) => "silent".to_owned(),
                    Some(presence) => presence.state().to_string(),
                    None if clients.first().is_some_and(|it| roster.expired(it).is_some()) => "expired".to_owned(),
                    None => "unknown".to_owned(),
                };
                format!("{} {state}> ", Audience::Clients(clients.clone()))
            }
            Some(many) => {
                let is_meant = |it: &&Presence| self.is_meant(many, it.client(), it.groups(), it.state());
                let meant: Vec<&Presence> = roster.entries().filter(is_meant).collect();
                let is_expired = |it: &&Expired| self.is_meant(many, it.client(), it.groups(), it.state());
                let expired = roster.all_expired().filter(is_expired).count();
                let now = clock::wall();
                let is_ready = |it: &&&Presence| {
                    it.state() == State::Ready && !self.operator.is_silent(it.client()) && it.expires_at() > now
                };
                let ready = meant.iter().filter(is_ready).count();
                let name = match many {
                    Audience::Clients(clients) => format!("{} clients", clients.len()),
                    Audience::Group(_) | Audience::All => many.to_string(),
                };
                format!("{name} {ready}/{} ready> ", meant.len() + expired)
            }
        }
    }

    /// Tells what happened; the status that a report ends with.
    pub(super) fn tell(&mut self, event: OperatorEvent) -> CliResult<Option<(RequestId, Exit)>> {
        match event {
            OperatorEvent::Update { id, update } => {
                self.update(id, &update);
                Ok(None)
            }
            OperatorEvent::Done { id, report } => self.done(id, &report).map(|exit| Some((id, exit))),
        }
    }

    /// Waits for the report on an order that takes no longer than its time-out; the status that it ends with.
    pub(super) async fn finish(&mut self, ticket: RequestId) -> CliResult<Exit> {
        loop {
            let event = self.operator.next().await.map_err(|error| requests::failure(error, None))?;
            if let Some((_, exit)) = self.tell(event)?.filter(|(done, _)| *done == ticket) {
                return Ok(exit);
            }
        }
    }

    /// Whether an order has no report yet.
    pub(super) fn is_under_way(&self, ticket: RequestId) -> bool {
        self.under_way.contains_key(&ticket)
    }

    /// What is under way, for people; nothing where nothing is.
    pub(super) fn under_way(&self) -> Vec<(RequestId, &str)> {
        self.under_way.iter().map(|(ticket, order)| (*ticket, order.text.as_str())).collect()
    }

    /// The prompt goes on without an order.
    pub(super) fn leave_in_background(&mut self, ticket: RequestId) {
        if let Some(order) = self.under_way.get_mut(&ticket) {
            order.in_background = true;
            self.output.note(format!("`{}` goes on in the background; Ctrl-C offers to cancel it", order.text));
        }
    }

    /// Waits for nothing any more: each order under way ends with what is known.
    pub(super) fn leave_all(&mut self) -> CliResult<()> {
        let tickets: Vec<RequestId> = self.under_way.keys().copied().collect();
        tickets.into_iter().for_each(|ticket| self.operator.interrupt(ticket));
        while let Some(event) = self.operator.try_next() {
            self.tell(event)?;
        }
        Ok(())
    }

    /// Gives an order.
    pub(super) async fn give(&mut self, text: &str, request: Request, options: &Options) -> CliResult<RequestId> {
        self.warn();
        requests::refuse_long_life(options.ttl, self.operator.identity())?;
        let Request { audience, call } = request;
        let request = requests::request(call, options)?;
        let submitted = self.operator.submit(request, &audience, requests::how(options)).await;
        let ticket = submitted.map_err(|error| requests::failure(error, Some(&self.operator)))?;
        let mut gathering = Gathering::new(self.output, options.output);
        gathering.incomplete(self.operator.incomplete());
        let is_for_many = !matches!(&audience, Audience::Clients(clients) if clients.len() == 1);
        let order = OpenRequest { text: text.trim().to_owned(), gathering, is_for_many, in_background: false };
        self.under_way.insert(ticket, order);
        Ok(ticket)
    }

    /// Says once that the operator's credential ends soon: a prompt may stay open longer.
    fn warn(&mut self) {
        if !self.warned
            && let Some(warning) = requests::warning(self.operator.identity(), clock::wall())
        {
            self.warned = true;
            self.output.note(&warning);
        }
    }

    /// The options of the session.
    pub(super) fn options(&self) -> &'a Options {
        self.options
    }

    /// Whether an order to an audience is for a client, as the roster knows it.
    fn is_meant(&self, audience: &Audience, client: &Name, groups: &[Name], state: State) -> bool {
        let reaches = |grant: &Grant| grant.reaches(client, groups);
        let is_expected =
            state != State::Terminated && self.operator.identity().credential().grant().is_some_and(reaches);
        match audience {
            Audience::Clients(clients) => clients.contains(client),
            Audience::Group(group) => is_expected && groups.contains(group),
            Audience::All => is_expected,
        }
    }

    fn use_target(&mut self, target: Option<Audience>) -> CliResult<()> {
        if let Some(Audience::Clients(clients)) = &target {
            let known = self.operator.known();
            if let Some(unknown) = clients.iter().find(|client| !known.contains(client)) {
                return Err(requests::unknown_client(unknown, Some(&self.operator)));
            }
        }
        if let Some(Audience::Group(group)) = &target
            && let Some(failure) = requests::unknown_group(group, &self.operator)
        {
            return Err(failure);
        }
        self.target = target;
        Ok(())
    }

    fn update(&mut self, ticket: Option<RequestId>, update: &Update) {
        let order = ticket.and_then(|ticket| self.under_way.get_mut(&ticket));
        match (update, order) {
            (Update::ClientEvent { client, news }, _) if self.hears_news => self.output.event(&news_line(client, news)),
            (Update::ClientEvent { .. }, _) => {}
            (Update::Reply { client, command_id, outcome, late: true, .. }, _) => {
                self.output.reply(&late_line(client, *command_id, outcome));
            }
            (Update::Reply { client, command_id, outcome, .. }, Some(order)) if order.in_background => {
                if order.is_for_many {
                    order.gathering.stream(client, *command_id, outcome);
                }
                order.gathering.update(update);
            }
            (update, Some(order)) => order.gathering.update(update),
            (update, None) => Gathering::new(self.output, self.options.output).update(update),
        }
    }

    fn done(&mut self, ticket: RequestId, report: &Report) -> CliResult<Exit> {
        if let Some(order) = self.under_way.remove(&ticket) {
            if order.in_background {
                self.output.note(format!("what came of `{}`:", order.text));
            }
            order.gathering.finish(report, clock::wall())?;
        }
        Ok(requests::exit(report))
    }
}
