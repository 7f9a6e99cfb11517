//! Log lines on standard error: time in UTC, level, text. What came from outside is escaped, and
//! every kind of line is limited.

use std::time::Duration;

use countersign_host::clock;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::FormatFields as _;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::VerbosityArgs;
use crate::limit::{COUNT_DELAY, limit};
use crate::output;

/// Starts to log: by default what a client does (`info`), and of an operator's command only what is wrong (`warn`); less with
/// `-q`, more with `-v`, and everything, of the NATS library too, with `-vv`.
pub(crate) fn start(verbosity: &VerbosityArgs, default: LevelFilter) {
    let (ours, others) = match verbosity.verbose {
        _ if verbosity.quiet => (LevelFilter::ERROR, LevelFilter::OFF),
        0 => (default, LevelFilter::OFF),
        1 => (LevelFilter::DEBUG, LevelFilter::WARN),
        _ => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    let filter = Targets::new().with_target("countersign", ours).with_default(others);
    // A second call would change nothing; there is none.
    let _ = tracing_subscriber::registry().with(Lines).with(filter).try_init();
    // Without this thread, counts are printed with the next line of their kind.
    let _ = std::thread::Builder::new().name("countersign-counts".to_owned()).spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(COUNT_DELAY.unsigned_abs()));
            output::log_counts(clock::since_boot());
        }
    });
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = String::new();
        if DefaultFields::new().format_fields(Writer::new(&mut text), event).is_ok() {
            // The name is that of the place in the source.
            let about = event.metadata();
            limit(about.name(), *about.level(), &text).iter().for_each(output::log);
        }
    }
}
