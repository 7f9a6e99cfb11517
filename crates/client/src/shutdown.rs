//! How a client is asked to end.

use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long a client may take to end once it was asked to, beyond the grace of its programs.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A pair: who requests the end, and who ends.
pub fn shutdown() -> (Stopper, Shutdown) {
    let (sender, receiver) = watch::channel(0);
    (Stopper(sender), Shutdown { requests: receiver, deadline: None })
}

/// Asks a client to end; for a program's handler of signals. A client whose stopper is dropped never gets a request.
#[derive(Debug)]
pub struct Stopper(watch::Sender<u32>);

/// What a client listens to.
#[derive(Debug)]
pub struct Shutdown {
    requests: watch::Receiver<u32>,
    deadline: Option<Instant>,
}

/// How a client is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShutdownRequest {
    /// As the command `terminate` makes it.
    Orderly,
    /// Without another word.
    AtOnce,
}

impl Stopper {
    /// Asks once more. The first time the client ends as the command `terminate` makes it: jobs are cancelled, replies are
    /// flushed, in 5 seconds at most and the longest `grace` of its programs. The second time it ends at once.
    pub fn stop(&self) {
        self.0.send_modify(|requests| *requests = requests.saturating_add(1));
    }
}

impl Shutdown {
    /// Waits for a request: an orderly one first, then, when asked again or after 5 seconds and `grace`, the other.
    pub(crate) async fn requested(&mut self, grace: Duration) -> ShutdownRequest {
        let Some(deadline) = self.deadline else {
            self.request_count_reaches(1).await;
            self.deadline = Some(Instant::now() + TIMEOUT + grace);
            return ShutdownRequest::Orderly;
        };
        tokio::select! {
            () = self.request_count_reaches(2) => {}
            () = sleep_until(deadline) => {}
        }
        ShutdownRequest::AtOnce
    }

    /// Waits until it is to end at once.
    pub(crate) async fn at_once(&mut self, grace: Duration) {
        while self.requested(grace).await != ShutdownRequest::AtOnce {}
    }

    async fn request_count_reaches(&mut self, times: u32) {
        if self.requests.wait_for(|requests| *requests >= times).await.is_err() {
            pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_second_request_ends_it_at_once() {
        let (stopper, mut shutdown) = shutdown();
        stopper.stop();
        assert_eq!(shutdown.requested(Duration::ZERO).await, ShutdownRequest::Orderly);
        let before = Instant::now();
        stopper.stop();
        assert_eq!(shutdown.requested(Duration::ZERO).await, ShutdownRequest::AtOnce);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn five_seconds_after_the_first_request_it_ends_at_once() {
        let (stopper, mut shutdown) = shutdown();
        stopper.stop();
        assert_eq!(shutdown.requested(Duration::ZERO).await, ShutdownRequest::Orderly);
        let before = Instant::now();
        assert_eq!(shutdown.requested(Duration::ZERO).await, ShutdownRequest::AtOnce);
        assert_eq!(before.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_stopper_there_is_never_a_request() {
        let (stopper, mut shutdown) = shutdown();
        drop(stopper);
        assert!(tokio::time::timeout(Duration::from_secs(60), shutdown.at_once(Duration::ZERO)).await.is_err());
    }
}
