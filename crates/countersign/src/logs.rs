//! Log lines on standard error: time in UTC, level, text. What came from outside is escaped.

use std::fmt;

use anstyle::AnsiColor;
use countersign_host::clock;
use countersign_protocol::text::escape;
use jiff::Timestamp;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::Options;
use crate::output::log_writer;

/// Begins to log. By itself a client tells what it does (`info`) and an operator's command only what is amiss; `-q` says
/// less, `-v` more and `-vv` everything, of the NATS library too.
pub(crate) fn begin(options: &Options, usual: LevelFilter) {
    let (ours, others) = match options.verbose {
        _ if options.quiet => (LevelFilter::ERROR, LevelFilter::OFF),
        0 => (usual, LevelFilter::OFF),
        1 => (LevelFilter::DEBUG, LevelFilter::WARN),
        _ => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    let lines = tracing_subscriber::fmt::layer().event_format(Lines).with_writer(log_writer);
    let filter = Targets::new().with_target("countersign", ours).with_default(others);
    // A second call would change nothing; there is none.
    let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
}

struct Lines;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for Lines {
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = String::new();
        ctx.format_fields(Writer::new(&mut fields), event)?;
        let level = *event.metadata().level();
        let colour = match level {
            Level::ERROR => AnsiColor::Red,
            Level::WARN => AnsiColor::Yellow,
            Level::INFO => AnsiColor::Green,
            _ => AnsiColor::Blue,
        };
        let style = colour.on_default();
        let now = Timestamp::from_millisecond(clock::wall().get()).unwrap_or_default();
        writeln!(writer, "{now:.3} {style}{level:5}{style:#} {}", escape(&fields))
    }
}
