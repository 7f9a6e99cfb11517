//! `countersign watch`: live traffic, verified.

use std::sync::Arc;

use countersign_host::clock;
use countersign_keys::{Login, load_pin};
use countersign_link::{Link, LinkConfig, LinkError, LinkEvent, LinkEvents, MAX_WAITING, READABLE, without_secrets};
use countersign_protocol::credential::Role;
use countersign_protocol::envelope::Delivery;
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use tokio::time::interval;

use crate::args::{Format, WatchArgs};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::{Output, POLL_INTERVAL, is_read};
use crate::realm::Realm;
use crate::signals::Signals;
use crate::suggest::suggest;
use countersign_machine::observer::{Filter, Watcher};

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
    let pin = load_pin(&realm.folder)?;
    for (role, names) in [(Role::Client, &args.client), (Role::Operator, &args.operator)] {
        note_unknown(role, names, &realm.folder.names(role), output);
    }
    let everything = subject::everything(realm.trust.realm());
    let connecting = Link::connect(LinkConfig {
        broker: args.realm.broker.address(),
        name: "observer".to_owned(),
        login,
        // Nothing is ever requested from the broker, and the observer could not receive the answer.
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
    let questions = [subject::roster_page(realm.trust.realm()), subject::roster_message(realm.trust.realm())];
    let watcher = Watcher::new(Arc::new(realm.trust), pin);
    let left = args.count.unwrap_or(u64::MAX);
    let watch = Watch {
        _link: link,
        events,
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
    /// The connection lives as long as this does.
    _link: Link,
    events: LinkEvents,
    watcher: Watcher,
    filter: Filter,
    format: Format,
    output: Output,
    /// Where operators ask the broker for the roster.
    questions: [String; 2],
    /// How many lines are still to be printed.
    left: u64,
    was_lost: bool,
}

impl Watch {
    async fn run(mut self) -> CliResult<Exit> {
        let mut events = Vec::with_capacity(BATCH);
        let mut glances = interval(POLL_INTERVAL);
        loop {
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
            LinkEvent::Message(delivery) => return self.show(&delivery),
            // The broker sends this to whoever publishes. On a subject of the realm somebody has forged it.
            LinkEvent::NoResponders { subject, .. } => {
                return self.show(&Delivery::new(&subject, true, [], Default::default()));
            }
            LinkEvent::Shed(count) => {
                self.watcher.was_away();
                let text = format!("{count} messages were passed over: more arrived than could be shown");
                self.output.notice(true, &text);
            }
            LinkEvent::Connected if std::mem::take(&mut self.was_lost) => {
                self.watcher.was_away();
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
