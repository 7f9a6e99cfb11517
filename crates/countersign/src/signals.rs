//! SIGINT and SIGTERM end every command: handled from the start, on a thread and in a runtime of their own, which nothing
//! that blocks the rest of the process can block. As process 1 of a container, too, which only gets the signals that it
//! handles. SIGXFSZ is handled and ends nothing: a file that may not grow is an error of the write, as a full disk is.

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use rustix::process::Signal;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cli_error::Exit;
use crate::output;

/// How long the process may take to end after the first signal.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The first signal, if one has arrived.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    received: watch::Receiver<Option<Exit>>,
    spares_interrupts: Arc<AtomicBool>,
    /// How much longer the process may take to end, in milliseconds.
    grace: Arc<AtomicU64>,
}

impl Signals {
    /// Handles them from now on. Where that is impossible, they end the process by themselves.
    pub(crate) fn listen() -> Self {
        let (received, listening) = (watch::Sender::new(None), sync_channel(1));
        let signals = Self { received: received.subscribe(), spares_interrupts: Arc::default(), grace: Arc::default() };
        let (spares_interrupts, grace) = (Arc::clone(&signals.spares_interrupts), Arc::clone(&signals.grace));
        let thread = std::thread::Builder::new().name("countersign-signals".to_owned());
        if thread.spawn(move || handle(&received, &spares_interrupts, &grace, &listening.0)).is_ok() {
            // An error means that the thread has given up.
            let _ = listening.1.recv();
        }
        signals
    }

    /// Waits for the first. Returns the exit status of a command that it interrupts.
    pub(crate) async fn first(&mut self) -> Exit {
        match self.received.wait_for(Option::is_some).await.map(|first| *first) {
            Ok(Some(exit)) => exit,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Gives the process so much longer to end, for programs that take their time; what was given before stays.
    pub(crate) fn allow(&self, grace: Duration) {
        self.grace.fetch_max(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// From now on SIGINT is a key of the prompt, and ends nothing here.
    pub(crate) fn spare_interrupts(&self) {
        self.spares_interrupts.store(true, Ordering::Relaxed);
    }
}

fn handle(
    received: &watch::Sender<Option<Exit>>,
    spares_interrupts: &AtomicBool,
    grace: &AtomicU64,
    listening: &SyncSender<()>,
) {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        // It stays handled when this is dropped. Where it is not, a limit on the size of files ends the process.
        let _ = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()));
        let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else { return };
        let _ = listening.send(());
        let mut next = async || loop {
            tokio::select! {
                _ = terminate.recv() => return Exit::Terminated,
                _ = interrupt.recv() => {
                    if !spares_interrupts.load(Ordering::Relaxed) {
                        return Exit::Interrupted;
                    }
                }
            }
        };
        let first = next().await;
        received.send_replace(Some(first));
        let why = tokio::select! {
            _ = next() => "a second signal",
            () = sleep(END_TIMEOUT + Duration::from_millis(grace.load(Ordering::Relaxed))) => "it did not end in time",
        };
        tracing::warn!("ended at once: {why}; the next start of a client answers for what was left");
        output::flush_at_once();
        exit(i32::from(first as u8));
    });
}
