//! Where jobs print.

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use countersign_host::outlet::{Bounds, Outlet, Sink};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How much may wait to be written where nobody reads; what comes then is lost.
const BOUNDS: Bounds = Bounds { items: 1_024, bytes: 1024 * 1024 };
/// How long a job waits until its line is written. After that it goes on, and the line is written when somebody reads.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Where [`JobContext::print`](crate::JobContext::print) writes to: by a thread of its own, since whoever does not read blocks
/// it. Clones share it.
#[derive(Clone)]
pub struct Console {
    /// Without its thread nothing can be printed, and every job that tries gets an error.
    outlet: Option<Arc<Outlet<Line>>>,
    limit: Duration,
}

struct Line {
    text: String,
    /// Receives the outcome.
    written: oneshot::Sender<io::Result<()>>,
}

struct Paper<W>(W);

impl Console {
    /// A console that writes to this, and flushes it after each line.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self { outlet: Outlet::new(Paper(writer)).ok().map(Arc::new), limit: TIMEOUT }
    }

    /// One whose jobs wait until their line is written, however long that takes: for tests in which time is made up.
    #[cfg(test)]
    pub(crate) fn without_limit(writer: impl Write + Send + 'static) -> Self {
        Self { limit: Duration::MAX, ..Self::new(writer) }
    }

    /// Has a line written. An error says that it was not, and will not be.
    pub(crate) async fn print(&self, text: String) -> io::Result<()> {
        let written = self.push(text)?;
        let written = match self.limit {
            Duration::MAX => Ok(written.await),
            limit => timeout(limit, written).await,
        };
        match written {
            Ok(written) => written.unwrap_or_else(|_| Err(io::Error::other("the writer is gone"))),
            Err(_) => Ok(()),
        }
    }

    /// Waits until everything is written, but no longer than this; whether it is.
    pub(crate) async fn flush(&self, limit: Duration) -> bool {
        match self.push(String::new()) {
            Ok(written) => timeout(limit, written).await.is_ok(),
            Err(_) => false,
        }
    }

    fn push(&self, text: String) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let outlet = self.outlet.as_ref().ok_or_else(|| io::Error::other("there is no thread to print"))?;
        let (written, done) = oneshot::channel();
        let bytes = text.len();
        if outlet.push(Line { text, written }, bytes, BOUNDS) {
            Ok(done)
        } else {
            let why = "the output of this client is not read, and what waits for it is at its bound: the line is lost";
            Err(io::Error::new(io::ErrorKind::StorageFull, why))
        }
    }
}

impl<W: Write + Send + 'static> Sink<Line> for Paper<W> {
    fn write(&mut self, Line { text, written }: Line) {
        let writing = || self.0.write_all(text.as_bytes()).and_then(|()| self.0.flush());
        let done = catch_unwind(AssertUnwindSafe(writing));
        let done = done.unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
        if let Err(Err(error)) = written.send(done) {
            tracing::warn!("a line that a job printed is lost: {error}");
        }
    }

    fn lost(&mut self, count: u64) {
        tracing::warn!("nobody read the output, and of what jobs printed this many lines are lost: {count}");
    }
}

impl Default for Console {
    /// Standard output.
    fn default() -> Self {
        Self::new(io::stdout())
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console")
    }
}
