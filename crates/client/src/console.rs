//! Where jobs print.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::Mutex;

/// Where [`JobContext::print`](crate::JobContext::print) writes to. Clones share it.
#[derive(Clone)]
pub struct Console(Arc<Mutex<Box<dyn Write + Send>>>);

impl Console {
    /// A console that writes to this, and flushes it after each line.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(writer))))
    }

    /// Writes on a thread that may be blocked, by a pipe that nobody reads for instance; at most one is at a time.
    pub(crate) async fn print(&self, text: String) -> io::Result<()> {
        let mut writer = Arc::clone(&self.0).lock_owned().await;
        let writing = tokio::task::spawn_blocking(move || {
            writer.write_all(text.as_bytes())?;
            writer.flush()
        });
        writing.await.unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))
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
