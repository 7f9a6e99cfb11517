//! One session at the prompt: the operator, the target, and the commands whose verdicts are awaited.

use std::collections::BTreeMap;

use countersign_host::clock;
use countersign_machine::server::{Audience, CommandRequest, Options, Presence, Report, RequestId, Update};
use countersign_protocol::command::{Builtin, Call, CommandId};
use countersign_protocol::credential::Grant;
use countersign_protocol::envelope::Expired;
use countersign_protocol::name::Name;
use countersign_protocol::reply::State;
use countersign_server::{Operator, OperatorEvent};
use serde_json::{Map, Value};

use super::line::{self, Line};
use crate::args::{FollowArgs, Format, SendArgs, ServerArgs};
use crate::arguments;
use crate::cli_error::{CliError, CliResult, Exit};
use crate::commands::{clients, history, listing, schemas};
use crate::follow::{self, Following};
use crate::history::History;
use crate::output::{Gathering, Output, event_line, late_line};
use crate::parsing::Request;
use crate::realm::listed;
use crate::requests;
use crate::vocabulary::{Vocabulary, VocabularyFile};

/// Who sends commands, and those that have no report yet.
pub(super) struct Session<'a> {
    args: &'a ServerArgs,
    pub(super) operator: Operator,
    history: History,
    pub(super) output: Output,
    /// Whether the clients' events are shown: to a person, and not in the output of a script.
    shows_events: bool,
    /// What `use` set.
    target: Option<Audience>,
    open: BTreeMap<RequestId, OpenRequest>,
    /// What Tab completes.
    vocabulary: Vocabulary,
    /// Where a shell finds it.
    words: VocabularyFile,
    /// Whether the output of a job is being read.
    is_reading: bool,
    /// Whether there was a note that the operator's credential ends soon.
    warned: bool,
}

/// A command that has no report yet.
struct OpenRequest {
    /// What was typed, for people.
    text: String,
    /// What was sent.
    call: Call,
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
    /// A command was sent, and its verdicts are awaited.
    Sent(RequestId),
    /// A command was sent, and this is what it came to.
    Ended(Exit),
    /// Leave.
    Quit,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        args: &'a ServerArgs,
        operator: Operator,
        history: History,
        words: VocabularyFile,
        output: Output,
        shows_events: bool,
    ) -> Self {
        words.update(|vocabulary| vocabulary.take_roster(&operator));
        let mut session = Self {
            args,
            operator,
            history,
            output,
            shows_events,
            target: None,
            open: BTreeMap::new(),
            vocabulary: words.read(),
            words,
            is_reading: false,
            warned: false,
        };
        session.note_expiry();
        session
    }

    /// Does what a line means, and does not wait for verdicts. What names no target is for the default one. Nothing is sent
    /// when this is dropped while it waits.
    pub(super) async fn run_line(&mut self, line: &str, default: Option<&Audience>) -> CliResult<LineOutcome> {
        self.run_words(line, default).await.map_err(|error| error.corrected(&line::words(line)))
    }

    async fn run_words(&mut self, line: &str, default: Option<&Audience>) -> CliResult<LineOutcome> {
        self.is_reading = false;
        match line::read(line, default).map_err(|error| self.without_target(line, default, error))? {
            Line::Nothing => {}
            Line::Quit => return Ok(LineOutcome::Quit),
            Line::Show(text) => self.output.text(&text)?,
            Line::Use(target) => self.use_target(target)?,
            Line::History(args) => {
                history::show(&self.history, &args.filter, args.output.or(self.args.output), self.output)?;
            }
            Line::Schema(name, output) => {
                schemas::show(name.as_deref(), output.or(self.args.output).format(), self.output)?;
            }
            Line::Clients(output) => {
                clients::show(&mut self.operator, output.or(self.args.output).format(), self.output).await?;
                self.keep_words();
            }
            Line::Forget(names, output) => {
                let format = output.or(self.args.output).format();
                clients::remove(&self.args.sender.realm, &names, &mut self.operator, format, self.output).await?;
            }
            Line::Commands(targets, output) => {
                let format = output.or(self.args.output).format();
                listing::show(&mut self.operator, &listing::audience(&targets)?, format, self.output).await?;
                self.keep_words();
            }
            Line::Request(mut request, send, output, follow) => {
                let (send, format) = (send.or(&self.args.send), output.or(self.args.output).format());
                if !request.pairs.is_empty() {
                    let args = self.describe(&request, &send).await?;
                    request.take_args(args);
                }
                if follow::reads(&request.call, send.dry_run) {
                    follow::check_format(true, format)?;
                }
                let request = self.with_whole_id(request, &send).await?;
                if let Some(job) = follow::job(&request.call, send.dry_run) {
                    self.is_reading = true;
                    return self.read(job, &request.audience, &send, follow).await.map(LineOutcome::Ended);
                }
                if follow.follow {
                    follow::check_format(true, format)?;
                    self.is_reading = true;
                    return self.submit_and_read(line, request, &send, format).await.map(LineOutcome::Ended);
                }
                return self.submit(line, request, &send, format).await.map(LineOutcome::Sent);
            }
        }
        Ok(LineOutcome::Done)
    }

    /// What a line that was interrupted did not come to.
    pub(super) fn interrupted(&self, exit: Exit) -> CliError {
        if self.is_reading { follow::interrupted(exit) } else { requests::interrupted(exit) }
    }

    /// The error about a line; where it lacks only a target, and all that could be one have ended, that is why.
    fn without_target(&self, line: &str, default: Option<&Audience>, error: CliError) -> CliError {
        let clients: Vec<Name> = self.operator.roster().entries().map(|presence| presence.client().clone()).collect();
        let ended = self.operator.roster().entries().all(|presence| presence.state() == State::Terminated);
        if default.is_some() || clients.is_empty() || !ended || line::read(line, Some(&Audience::All)).is_err() {
            return error;
        }
        CliError::usage(format!("no target is named, and every client has ended: {}", listed(&clients)))
            .expected("a client that is there")
            .hint(format!("start one again: {}", requests::how_to_start(&clients)))
    }

    /// The target of commands that name none: what `use` set, or the only client that is there.
    pub(super) fn target(&self) -> Option<Audience> {
        let there = |presence: &&Presence| presence.state() != State::Terminated;
        self.target.clone().or_else(|| {
            let mut there = self.operator.roster().entries().filter(there);
            let only = there.next()?.client().clone();
            there.next().is_none().then(|| Audience::Clients(vec![only]))
        })
    }

    /// What stands before the cursor: the context if there is one, and the target and its state, or that there is no
    /// connection.
    pub(super) fn prompt(&self, target: Option<&Audience>) -> String {
        let context = self.args.sender.context().map(|context| format!("[{context}] ")).unwrap_or_default();
        context + &self.prompt_of_target(target)
    }

    fn prompt_of_target(&self, target: Option<&Audience>) -> String {
        if self.operator.is_cut_off() {
            return "disconnected> ".to_owned();
        }
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
                let is_targeted = |it: &&Presence| self.is_targeted(many, it.client(), it.groups(), it.state());
                let targeted: Vec<&Presence> = roster.entries().filter(is_targeted).collect();
                let is_expired = |it: &&Expired| self.is_targeted(many, it.client(), it.groups(), it.state());
                let expired = roster.all_expired().filter(is_expired).count();
                let now = clock::wall();
                let is_ready = |it: &&&Presence| {
                    it.state() == State::Ready && !self.operator.is_silent(it.client()) && it.expires_at() > now
                };
                let ready = targeted.iter().filter(is_ready).count();
                let name = match many {
                    Audience::Clients(clients) => format!("{} clients", clients.len()),
                    Audience::Group(_) | Audience::All => many.to_string(),
                };
                format!("{name} {ready}/{} ready> ", targeted.len() + expired)
            }
        }
    }

    /// Shows what happened. Returns the exit status of a request whose report it is.
    pub(super) fn on_event(&mut self, event: OperatorEvent) -> CliResult<Option<(RequestId, Exit)>> {
        match event {
            OperatorEvent::Update { id, update } => {
                self.update(id, &update);
                Ok(None)
            }
            OperatorEvent::Done { id, report } => self.done(id, &report).map(|exit| Some((id, exit))),
        }
    }

    /// Waits for the report on a request. Returns its exit status.
    pub(super) async fn wait_for_report(&mut self, id: RequestId) -> CliResult<Exit> {
        loop {
            let event = self.operator.next().await.map_err(|error| requests::failure(error, None))?;
            if let Some((_, exit)) = self.on_event(event)?.filter(|(done, _)| *done == id) {
                return Ok(exit);
            }
        }
    }

    /// Whether a request has no report yet.
    pub(super) fn is_open(&self, id: RequestId) -> bool {
        self.open.contains_key(&id)
    }

    /// The requests that have no report yet, as they were typed.
    pub(super) fn open_requests(&self) -> Vec<(RequestId, &str)> {
        self.open.iter().map(|(id, request)| (*id, request.text.as_str())).collect()
    }

    /// The prompt goes on without waiting for a request.
    pub(super) fn move_to_background(&mut self, id: RequestId) {
        if let Some(request) = self.open.get_mut(&id) {
            request.in_background = true;
            self.output.note(format!("`{}` goes on in the background; Ctrl-C offers to cancel it", request.text));
        }
    }

    /// Waits for nothing any more: each open request ends with what is known.
    pub(super) fn stop_waiting(&mut self) -> CliResult<()> {
        let ids: Vec<RequestId> = self.open.keys().copied().collect();
        ids.into_iter().for_each(|id| self.operator.interrupt(id));
        while let Some(event) = self.operator.try_next() {
            self.on_event(event)?;
        }
        Ok(())
    }

    /// Sends a command.
    pub(super) async fn submit(
        &mut self,
        text: &str,
        request: Request,
        send: &SendArgs,
        format: Format,
    ) -> CliResult<RequestId> {
        self.note_expiry();
        let options = requests::options(send, self.operator.identity())?;
        let known = requests::known(&request, &self.history);
        let (command, audience) = (request.command(send.dry_run, &known)?, &request.audience);
        let submitted = self.operator.submit(command, audience, options).await;
        let id = submitted.map_err(|error| requests::failure(error, Some(&self.operator)))?;
        let mut gathering = Gathering::new(self.output, format);
        gathering.incomplete(self.operator.incomplete());
        let sent = self.operator.sent(id);
        gathering.record(requests::recording(&request, send.dry_run, sent, &known, &self.history));
        gathering.knowing(known);
        let is_for_many = !matches!(audience, Audience::Clients(clients) if clients.len() == 1);
        let (text, call) = (text.trim().to_owned(), request.call);
        let request = OpenRequest { text, call, gathering, is_for_many, in_background: false };
        self.open.insert(id, request);
        Ok(id)
    }

    /// The arguments by the schemas that the targets tell.
    async fn describe(&mut self, request: &Request, send: &SendArgs) -> CliResult<Map<String, Value>> {
        let Request { audience, call: Call { name, .. }, pairs, .. } = request;
        let options = requests::options(send, self.operator.identity())?;
        let (question, asked) = arguments::question(&self.operator, audience, name);
        let submitted = self.operator.submit(CommandRequest::new(question, false)?, &asked, options).await;
        let id = submitted.map_err(|error| requests::failure(error, Some(&self.operator)))?;
        loop {
            match self.operator.next().await.map_err(|error| requests::failure(error, None))? {
                OperatorEvent::Done { id: done, report } if done == id => {
                    self.learn(&report);
                    return arguments::by_answers(name, pairs, &report)
                        .map_err(|error| requests::meant_command(error, name, &self.operator));
                }
                OperatorEvent::Update { id: about, update: Update::Reply { .. } } if about == Some(id) => {}
                event => drop(self.on_event(event)?),
            }
        }
    }

    /// Sends a command, and reads what its jobs write until they end. Once this is dropped, the command goes on in the
    /// background.
    async fn submit_and_read(
        &mut self,
        text: &str,
        request: Request,
        send: &SendArgs,
        format: Format,
    ) -> CliResult<Exit> {
        let options = requests::options(send, self.operator.identity())?;
        let mut following = Following::of_request(self.output, options, &request.audience);
        let id = self.submit(text, request, send, format).await?;
        if let Some(request) = self.open.get_mut(&id) {
            request.in_background = true;
            request.gathering.following();
        }
        // The verdicts come after what they are about.
        let mut report = None;
        while report.is_none() || !following.is_over() {
            let event = following.next_of(&mut self.operator, id).await.map_err(|it| requests::failure(it, None))?;
            match event {
                Some(OperatorEvent::Done { id: done, report: of }) if done == id => report = Some(of),
                Some(event) => drop(self.on_event(event)?),
                None => {}
            }
        }
        let read = following.finish()?;
        report.map_or(Ok(read), |report| Ok(self.done(id, &report)?.worse(read)))
    }

    /// Reads what a job wrote, and shows meanwhile what else happens.
    async fn read(
        &mut self,
        job: CommandId,
        audience: &Audience,
        send: &SendArgs,
        args: FollowArgs,
    ) -> CliResult<Exit> {
        self.note_expiry();
        let options = requests::options(send, self.operator.identity())?;
        let mut following = Following::of_job(&mut self.operator, job, audience, options, args, self.output).await?;
        while let Some(event) = following.next(&mut self.operator).await.map_err(|it| requests::failure(it, None))? {
            self.on_event(event)?;
        }
        following.finish()
    }

    /// The same with the whole id of the command that it is about, where a part of it was typed.
    async fn with_whole_id(&mut self, request: Request, send: &SendArgs) -> CliResult<Request> {
        let Some(short) = request.short_id() else { return Ok(request) };
        let options = requests::options(send, self.operator.identity())?;
        let jobs = self.jobs(&request.audience, options).await?;
        let known = requests::known(&request, &self.history);
        let id = requests::whole_id(&short, &known, &request.audience, &jobs)?;
        Ok(request.with_id(id))
    }

    /// The jobs of clients. What happens meanwhile is shown.
    async fn jobs(&mut self, audience: &Audience, options: Options) -> CliResult<Report> {
        let submitted = self.operator.submit(requests::jobs()?, audience, options).await;
        let query = submitted.map_err(|error| requests::failure(error, Some(&self.operator)))?;
        loop {
            match self.operator.next().await.map_err(|error| requests::failure(error, None))? {
                OperatorEvent::Done { id, report } if id == query => return Ok(report),
                OperatorEvent::Update { id: Some(id), update: Update::Reply { .. } } if id == query => {}
                event => drop(self.on_event(event)?),
            }
        }
    }

    /// Notes once that the operator's credential ends soon: a prompt may stay open longer.
    fn note_expiry(&mut self) {
        let warning = requests::expiry_warning(self.operator.identity(), self.operator.trust(), clock::wall());
        let warned = std::mem::replace(&mut self.warned, warning.is_some());
        if let Some(warning) = warning.filter(|_| !warned) {
            self.output.note(&warning);
        }
    }

    /// The options of the session.
    pub(super) fn args(&self) -> &'a ServerArgs {
        self.args
    }

    /// Whether a command to an audience is for a client, as the roster knows it.
    fn is_targeted(&self, audience: &Audience, client: &Name, groups: &[Name], state: State) -> bool {
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

    fn update(&mut self, id: Option<RequestId>, update: &Update) {
        let request = id.and_then(|id| self.open.get_mut(&id));
        match (update, request) {
            (Update::ClientEvent { client, event }, _) if self.shows_events => {
                self.output.event(&event_line(client, event))
            }
            (Update::ClientEvent { .. }, _) => {}
            (Update::Reply { client, command_id, outcome, late: true, .. }, _) => {
                self.history.late(*command_id, client, outcome);
                self.output.reply(&late_line(client, *command_id, outcome));
            }
            (Update::Reply { client, command_id, outcome, .. }, Some(request)) if request.in_background => {
                if request.is_for_many {
                    request.gathering.stream(client, *command_id, outcome);
                }
                request.gathering.update(update);
            }
            (update, Some(request)) => request.gathering.update(update),
            (update, None) => Gathering::new(self.output, self.args.output.format()).update(update),
        }
    }

    /// What Tab completes now.
    pub(super) fn vocabulary(&mut self) -> Vocabulary {
        self.vocabulary.take_roster(&self.operator);
        self.vocabulary.clone()
    }

    /// Has the shell complete what the roster has now.
    fn keep_words(&self) {
        self.words.update(|vocabulary| vocabulary.take_roster(&self.operator));
    }

    /// Remembers what clients describe.
    fn learn(&mut self, report: &Report) {
        if report.command.as_str() == Builtin::Describe.name() {
            self.vocabulary.take_descriptions(report);
            self.words.update(|vocabulary| vocabulary.take_descriptions(report));
        }
    }

    fn done(&mut self, id: RequestId, report: &Report) -> CliResult<Exit> {
        self.learn(report);
        if let Some(request) = self.open.remove(&id) {
            if request.in_background {
                self.output.note(format!("what came of `{}`:", request.text));
            }
            request.gathering.finish(report, clock::wall())?;
            let typed = line::words(&request.text);
            if let Some(meant) = requests::meant_by(&request.call, report, &typed, &self.operator) {
                self.output.note(meant);
            }
        }
        Ok(requests::exit(report))
    }
}
