//! Bringing the journal to the disk without holding up the loop: an fsync may take seconds.

use std::fs::File;
use std::io;
use std::thread;

use countersign_machine::client::Mark;
use tokio::sync::mpsc;

/// Brings what was written to the disk, one request at a time, each on a thread of its own.
#[derive(Debug)]
pub(crate) struct Syncer {
    /// At most one request is under way, and so at most one answer.
    answer: mpsc::Sender<io::Result<Mark>>,
    answers: mpsc::Receiver<io::Result<Mark>>,
    is_busy: bool,
}

impl Syncer {
    pub(crate) fn new() -> Self {
        let (answer, answers) = mpsc::channel(1);
        Self { answer, answers, is_busy: false }
    }

    /// Brings a file to the disk, in which this mark is the latest. While another request is under way nothing is done: the
    /// next mark is due soon.
    pub(crate) fn request(&mut self, file: io::Result<File>, mark: Mark) {
        if self.is_busy {
            return;
        }
        self.is_busy = true;
        let answer = self.answer.clone();
        let sync = move || {
            let synced = file.and_then(|file| file.sync_data()).map(|()| mark);
            // Nobody waits for it once the client has ended.
            let _ = answer.try_send(synced);
        };
        if let Err(error) = thread::Builder::new().name("sync".to_owned()).spawn(sync) {
            let _ = self.answer.try_send(Err(error));
        }
    }

    /// The next mark that is on the disk, or why it is not. It can be dropped while it waits.
    pub(crate) async fn synced(&mut self) -> io::Result<Mark> {
        let answer = self.answers.recv().await;
        self.is_busy = false;
        // This value holds a sender itself, so that the answers never end.
        answer.unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
    }
}
