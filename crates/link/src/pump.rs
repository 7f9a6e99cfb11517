//! What the library has parsed, taken from it message by message.
//!
//! A message takes up to 40 times its size once the library has parsed it: its headers are a map, with three allocations for each.
//! The library reads up to 128 times before it lets anything else on its thread have a turn, and parses hundreds of messages
//! meanwhile. A task of its own would find them all there. The pump is no task but a [`Waker`]: when the library puts a message
//! into a subscription's channel, it wakes whoever waits for it, and to be woken is to take the message, then and there. So the
//! library holds one at a time, whatever a turn of it brings.

use std::collections::HashMap;
use std::future::{poll_fn, ready};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::task::{Context, Poll, Wake, Waker};

use async_nats::{Message, Subscriber};
use futures_util::future::FutureExt;
use futures_util::stream::{AbortHandle, BoxStream, SelectAll, StreamExt, abortable, once};
use tokio::sync::Notify;
use tokio::task::unconstrained;

use super::{Shared, lock};

/// Pumps until it is dropped.
pub(super) struct Pump(Arc<Waked>);

struct Waked {
    shared: Arc<Shared>,
    /// Each subscription ends with `None`.
    messages: Mutex<SelectAll<BoxStream<'static, Option<Message>>>>,
    /// What ends the latest subscription to each subject.
    handles: Mutex<HashMap<String, AbortHandle>>,
    /// Whether it was woken since the messages were last looked at.
    woken: AtomicBool,
    ended: Notify,
}

impl Pump {
    /// Hands every message of these subscriptions over from now on.
    pub(super) fn start(subscribers: Vec<(String, Subscriber)>, shared: &Arc<Shared>) -> Self {
        let pump = Self(Arc::new(Waked {
            shared: Arc::clone(shared),
            messages: Mutex::default(),
            handles: Mutex::default(),
            woken: AtomicBool::new(false),
            ended: Notify::new(),
        }));
        subscribers.into_iter().for_each(|(subject, subscriber)| pump.take(subject, subscriber));
        pump
    }

    /// Hands the messages of one more subscription over, in the place of an earlier one to the same subject.
    pub(super) fn take(&self, subject: String, subscriber: Subscriber) {
        let (stream, handle) = abortable(subscriber.map(Some).chain(once(ready(None))));
        lock(&self.0.messages).push(stream.boxed());
        if let Some(before) = lock(&self.0.handles).insert(subject, handle) {
            before.abort();
        }
        Arc::clone(&self.0).wake();
    }

    /// Waits for the end of a subscription that was not ended here: the library's task is gone.
    pub(super) async fn ended(&self) {
        self.0.ended.notified().await;
    }
}

impl Drop for Pump {
    /// The channels have the waker, and the waker has the channels.
    fn drop(&mut self) {
        let messages = std::mem::take(&mut *lock(&self.0.messages));
        drop(messages);
    }
}

impl Wake for Waked {
    /// Whoever finds the messages in use leaves them to who uses them, who looks again.
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        while self.woken.load(Ordering::SeqCst) {
            let mut messages = match self.messages.try_lock() {
                Ok(messages) => messages,
                Err(TryLockError::Poisoned(messages)) => messages.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            self.woken.store(false, Ordering::SeqCst);
            let waker = Waker::from(Arc::clone(&self));
            let mut context = Context::from_waker(&waker);
            let take = poll_fn(|context| {
                while let Poll::Ready(Some(item)) = messages.poll_next_unpin(context) {
                    match item {
                        Some(message) => self.shared.message(&message),
                        None => self.ended.notify_one(),
                    }
                }
                Poll::Ready(())
            });
            // Without the bound on the turn of the library's task, on whose time this is.
            let _: Poll<()> = pin!(unconstrained(take)).poll_unpin(&mut context);
        }
    }
}
