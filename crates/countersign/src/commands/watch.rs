//! `countersign watch`: live traffic, verified.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_host::clock;
use countersign_keys::{Login, keep_trust};
use countersign_link::{
    Link, LinkConfig, LinkError, LinkEvent, LinkEvents, MAX_WAITING, READABLE, TrustRequest, without_secrets,
};
use countersign_protocol::credential::Role;
use countersign_protocol::envelope::Delivery;
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use countersign_protocol::trust::StoredTrust;
use tokio::time::{interval, sleep, timeout};

use crate::args::{Format, WatchArgs};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::{Output, POLL_INTERVAL, is_read};
use crate::realm::Realm;
use crate::signals::Signals;
use crate::suggest::suggest;
use countersign_machine::observer::{Filter, Watcher};
use countersign_machine::trust::{Follower, Taken};

/// How long the trust bundles that were published before are waited for.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How many events are taken from the link at a time.
const BATCH: usize = 64;

/// Shows what goes over the broker, until a signal ends it.
pub(crate) async fn run(args: &WatchArgs, output: Output, mut signals: Signals) -> CliResult<Exit> {
    if args.output.format() == Format::Json {
        return Err(CliError::usage("`-o json` is one document when all is known, and what is watched has no end")
            .expected("-o ndjson, one object a line")
            .hint("countersign watch -o ndjson"));
    }
    let realm = Realm::open(&args.realm.keys)?;
    let login = Login::read(&realm.folder.observer_creds())?;
    for (role, names) in [(Role::Client, &args.client), (Role::Operator, &args.operator)] {
        note_unknown(role, names, &realm.folder.names(role)?, output);
    }
    let everything = subject::everything(realm.trust.realm());
    let connecting = Link::connect(LinkConfig {
        broker: args.realm.broker.address(),
        name: "observer".to_owned(),
        login,
        inbox_prefix: "_INBOX.observer".to_owned(),
        subscriptions: vec![everything.clone()],
        max_waiting: MAX_WAITING,
        wait: false,
    });
    let (link, events) = tokio::select! {
        connected = connecting => {
            connected.map_err(|error| CliError::no_broker(error, &args.realm.broker, &realm.folder))?
        }
        exit = signals.first() => return Ok(exit),
    };
    if link.is_readable_by_others() {
        output.note(READABLE);
    }
    output.note(format!("watching {everything} at {}; Ctrl-C ends", without_secrets(&args.realm.broker.nats_url)));

    let filter = Filter {
        clients: args.client.clone(),
        operators: args.operator.clone(),
        kinds: args.kind.clone(),
        bad: args.bad,
    };
    let name = realm.trust.realm();
    let questions = [subject::roster_page(name), subject::roster_message(name), subject::trust_get(name)];
    let accepted = realm.folder.accepted_trust(&realm.trust.pin());
    let trust = Arc::new(realm.trust);
    let seed = clock::random().map_err(|error| CliError::new(Exit::Failed, error))?;
    let follower = Follower::new(Arc::clone(&trust), seed);
    let watcher = Watcher::new(trust);
    let left = args.count.unwrap_or(u64::MAX);
    let watch = Watch {
        link,
        events,
        follower,
        fetching: TrustRequest::default(),
        accepted,
        watcher,
        filter,
        questions,
        format: args.output.format(),
        output,
        left,
        was_lost: false,
    };
    // On a thread of its own: where nobody takes what is printed, a signal still ends it.
    let watching = tokio::spawn(watch.run());
    tokio::select! {
        // A panic has printed its own error.
        ended = watching => ended.unwrap_or(Ok(Exit::Failed)),
        exit = signals.first() => Ok(exit),
    }
}

struct Watch {
    link: Link,
    events: LinkEvents,
    follower: Follower,
    /// The request for the next trust bundle, while it is under way.
    fetching: TrustRequest,
    /// Where the trust bundle is written that was accepted last.
    accepted: PathBuf,
    watcher: Watcher,
    filter: Filter,
    format: Format,
    output: Output,
    /// Where the broker is asked for what it stores.
    questions: [String; 3],
    /// How many lines are still to be printed.
    left: u64,
    was_lost: bool,
}

impl Watch {
    async fn run(mut self) -> CliResult<Exit> {
        let mut events = Vec::with_capacity(BATCH);
        let mut glances = interval(POLL_INTERVAL);
        self.catch_up().await;
        loop {
            let due = self.follower.wake_at().saturating_sub(clock::since_boot());
            let due = Duration::from_millis(u64::try_from(due).unwrap_or(0));
            tokio::select! {
                taken = self.events.recv_many(&mut events, BATCH) => {
                    if taken == 0 {
                        return Err(LinkError::System("its thread ended".to_owned()).into());
                    }
                    for event in events.drain(..) {
                        if !self.process(event)? {
                            return Ok(Exit::Succeeded);
                        }
                    }
                }
                answer = self.fetching.answer() => self.answered(answer),
                () = sleep(due) => self.fetch(),
                _ = glances.tick() => {
                    if !is_read() {
                        return Ok(Exit::Succeeded);
                    }
                }
            }
        }
    }

    /// Takes one event; `false` where it was the last to be shown, or nobody reads any more.
    fn process(&mut self, event: LinkEvent) -> CliResult<bool> {
        match event {
            // An operator's request to the broker, unsigned as all that is for it: neither command nor reply.
            LinkEvent::Message(delivery) if self.questions.iter().any(|it| it == delivery.subject()) => {}
            LinkEvent::Message(delivery) => {
                let shown = self.show(&delivery);
                if let Some(version) = subject::trust_version(self.follower.trust().realm(), delivery.subject()) {
                    let taken = self.follower.take(version, delivery.body(), clock::since_boot());
                    self.take_trust(taken);
                }
                return shown;
            }
            // The broker sends this to whoever publishes. On a subject of the realm somebody has forged it.
            LinkEvent::NoResponders { subject, .. } => {
                return self.show(&Delivery::new(&subject, true, [], Default::default()));
            }
            LinkEvent::Shed(count) => {
                self.watcher.was_away();
                self.follower.missed(clock::since_boot());
                let text = format!("messages passed over, because more arrived than could be shown: {count}");
                self.output.notice(true, &text);
            }
            LinkEvent::Connected if std::mem::take(&mut self.was_lost) => {
                self.watcher.was_away();
                self.follower.connected(clock::since_boot());
                self.output.notice(false, "connected again; what went over the broker meanwhile was not seen");
            }
            LinkEvent::Connected => {}
            LinkEvent::Disconnected { why } => {
                self.was_lost = true;
                self.watcher.was_away();
                let text = format!("the connection to the broker is lost; connecting again: {why}");
                self.output.notice(false, &text);
            }
            LinkEvent::Allowed { subject } => {
                self.watcher.was_away();
                self.output.note(format!(
                    "the broker now allows what it refused: {subject}; what went over it meanwhile was not seen"
                ));
            }
            // Nothing is ever published.
            LinkEvent::Unsent { .. } => {}
            LinkEvent::Denied { why } => self.output.notice(true, &format!("the broker does not allow it: {why}")),
        }
        Ok(true)
    }

    /// Takes the versions of the trust bundle that were published before, as far as they come in time.
    async fn catch_up(&mut self) {
        let all = async {
            while let Some(version) = self.follower.trust().version().checked_add(1) {
                let answer = self.link.stored_trust(self.follower.trust().realm(), version).await;
                self.answered(answer);
                if self.follower.trust().version() != version {
                    break;
                }
            }
        };
        if timeout(CATCH_UP, all).await.is_err() {
            self.follower.missed(clock::since_boot());
        }
    }

    fn answered(&mut self, answer: StoredTrust) {
        if let Some(taken) = self.follower.answered(answer, clock::since_boot()) {
            self.take_trust(taken);
        }
    }

    /// Judges by the next version from now on. What is not accepted was shown as that, where it was published.
    fn take_trust(&mut self, taken: Taken) {
        let Taken::Next(trust) = taken else { return };
        let version = trust.version();
        self.output.note(format!("version {version} of the trust bundle is in force"));
        if let Err(error) = keep_trust(&self.accepted, &trust) {
            self.output.note(format!("it is not remembered: {}", error.what()));
        }
        self.watcher.set_trust(Arc::clone(&trust));
        self.follower.apply(trust, clock::since_boot());
    }

    /// Asks the broker for the next version, where that is due. A request that is under way is given up.
    fn fetch(&mut self) {
        let Some(version) = self.follower.fetch(clock::since_boot()) else { return };
        self.fetching.begin(&self.link, self.follower.trust().realm(), version);
    }

    fn show(&mut self, delivery: &Delivery) -> CliResult<bool> {
        for observation in self.watcher.take(delivery, clock::wall()) {
            if self.filter.shows(&observation, &self.watcher) {
                self.left -= 1;
                if !self.output.observation(&observation, self.format)? || self.left == 0 {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// A name that the folder of keys does not know may be one that it need not know, and may be a slip.
fn note_unknown(role: Role, names: &[Name], known: &[Name], output: Output) {
    for unknown in names.iter().filter(|name| !known.contains(name)) {
        if let Some(near) = suggest(unknown.as_str(), known.iter().map(Name::as_str)) {
            output.note(format!("the folder of keys has no {role} {unknown}; the nearest that it has is {near}"));
        }
    }
}
