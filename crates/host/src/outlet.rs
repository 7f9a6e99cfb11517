//! Writing that nobody waits for: a bounded queue, and a thread of its own that whoever does not read may block.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where an [`Outlet`] writes to, on its thread. Its methods may block.
pub trait Sink<T>: Send + 'static {
    /// Writes one item.
    fn write(&mut self, item: T);

    /// Reports that so many items were lost at this place, because the queue was full.
    fn lost(&mut self, count: u64);
}

/// How much may wait in an [`Outlet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many items.
    pub items: usize,
    /// How many bytes; the last item may go beyond.
    pub bytes: usize,
}

/// A queue before a [`Sink`]. Its thread ends when it is dropped and everything is written.
pub struct Outlet<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    /// There is something to write, or nothing will come any more.
    to_write: Condvar,
    /// Everything is written.
    written: Condvar,
}

struct State<T> {
    waiting: VecDeque<Waiting<T>>,
    items: usize,
    bytes: usize,
    is_writing: bool,
    is_closed: bool,
}

enum Waiting<T> {
    Item(T, usize),
    /// So many items were lost at this place.
    Lost(u64),
}

impl<T: Send + 'static> Outlet<T> {
    /// Starts the thread.
    pub fn new(mut sink: impl Sink<T>) -> io::Result<Self> {
        let state = State { waiting: VecDeque::new(), items: 0, bytes: 0, is_writing: false, is_closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), to_write: Condvar::new(), written: Condvar::new() });
        let for_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("countersign-outlet".to_owned()).spawn(move || {
            while let Some(next) = for_thread.next() {
                match next {
                    Waiting::Item(item, _) => sink.write(item),
                    Waiting::Lost(count) => sink.lost(count),
                }
            }
        })?;
        Ok(Self(shared))
    }

    /// Has an item written, and never blocks. `false` where the bounds are reached: then it is lost, and counted.
    pub fn push(&self, item: T, bytes: usize, bounds: Bounds) -> bool {
        let mut state = self.0.lock();
        let fits = state.items < bounds.items && state.bytes < bounds.bytes;
        if fits {
            state.items += 1;
            state.bytes += bytes;
            state.waiting.push_back(Waiting::Item(item, bytes));
        } else if let Some(Waiting::Lost(count)) = state.waiting.back_mut() {
            *count += 1;
        } else {
            state.waiting.push_back(Waiting::Lost(1));
        }
        self.0.to_write.notify_one();
        fits
    }

    /// Waits until everything is written, but no longer than this; whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let waited = self.0.written.wait_timeout_while(self.0.lock(), limit, |state| !state.is_done());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_done()
    }
}

impl<T> Shared<T> {
    /// Waits for the next thing to write; `None` when there will be none.
    fn next(&self) -> Option<Waiting<T>> {
        let mut state = self.lock();
        state.is_writing = false;
        if state.is_done() {
            self.written.notify_all();
        }
        let wait = self.to_write.wait_while(state, |state| state.waiting.is_empty() && !state.is_closed);
        state = wait.unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front()?;
        state.is_writing = true;
        if let Waiting::Item(_, bytes) = &next {
            state.items -= 1;
            state.bytes -= bytes;
        }
        Some(next)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn is_done(&self) -> bool {
        self.waiting.is_empty() && !self.is_writing
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.to_write.notify_one();
    }
}

impl<T> fmt::Debug for Outlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outlet")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const FOREVER: Duration = Duration::from_secs(60);
    const BOUNDS: Bounds = Bounds { items: 2, bytes: 100 };

    /// Announces what it is about to write, and writes it when it may.
    struct Gate {
        output: Sender<String>,
        permitted: Receiver<()>,
    }

    impl Sink<u32> for Gate {
        fn write(&mut self, item: u32) {
            self.output.send(item.to_string()).unwrap();
            // An error means that the test is over.
            let _ = self.permitted.recv();
        }

        fn lost(&mut self, count: u64) {
            self.output.send(format!("lost {count}")).unwrap();
        }
    }

    fn outlet() -> (Outlet<u32>, Receiver<String>, Sender<()>) {
        let ((output, written), (permit, permitted)) = (channel(), channel());
        (Outlet::new(Gate { output, permitted }).unwrap(), written, permit)
    }

    #[test]
    fn what_does_not_fit_is_lost_at_once_and_reported_in_its_place() {
        let (outlet, written, permit) = outlet();
        assert!(outlet.push(1, 1, BOUNDS));
        assert_eq!(written.recv_timeout(FOREVER).unwrap(), "1", "and it is blocked there");
        let taken = [2, 3, 4, 5].map(|item| outlet.push(item, 1, BOUNDS));
        assert_eq!(taken, [true, true, false, false]);
        assert!(!outlet.flush(Duration::ZERO));
        permit.send(()).unwrap();
        assert_eq!(written.recv_timeout(FOREVER).unwrap(), "2");
        assert!(outlet.push(6, 1, BOUNDS), "there is room again");
        drop(permit);
        assert!(outlet.flush(FOREVER));
        let rest: Vec<String> = written.try_iter().collect();
        assert_eq!(rest, ["3", "lost 2", "6"]);
    }

    #[test]
    fn bytes_are_bounded_too_and_one_item_may_go_beyond() {
        let (outlet, written, permit) = outlet();
        outlet.push(1, 1_000, BOUNDS);
        written.recv_timeout(FOREVER).unwrap();
        assert!(outlet.push(2, 1_000, BOUNDS));
        assert!(!outlet.push(3, 0, BOUNDS));
        assert!(outlet.push(4, 0, Bounds { bytes: 2_000, ..BOUNDS }), "whoever may use more");
        drop(permit);
        assert!(outlet.flush(FOREVER));
    }

    #[test]
    fn what_waits_is_written_though_nobody_holds_the_outlet_any_more() {
        let (outlet, written, permit) = outlet();
        outlet.push(1, 1, BOUNDS);
        outlet.push(2, 1, BOUNDS);
        drop((outlet, permit));
        assert_eq!(written.iter().collect::<Vec<_>>(), ["1", "2"], "and then its thread ends");
    }
}
