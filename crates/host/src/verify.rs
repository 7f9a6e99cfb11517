//! Verification of what has arrived, on all cores where there is a backlog (section 9).

use std::panic::resume_unwind;
use std::thread::{self, Builder};

use countersign_protocol::envelope::Delivery;

/// How many messages make a thread worth its start.
const SHARE: usize = 16;

/// Opens deliveries, in their order, on at most so many threads.
pub fn open_all<T: Send>(deliveries: &[Delivery], threads: usize, open: impl Fn(&Delivery) -> T + Sync) -> Vec<T> {
    let open = |deliveries: &[Delivery]| -> Vec<T> { deliveries.iter().map(&open).collect() };
    let threads = threads.min(deliveries.len() / SHARE);
    if threads < 2 {
        return open(deliveries);
    }
    let mut shares = deliveries.chunks(deliveries.len().div_ceil(threads));
    let own = shares.next().unwrap_or_default();
    thread::scope(|scope| {
        let open = &open;
        // Where the system gives no thread, this one does that share as well.
        let others: Vec<_> =
            shares.map(|share| (share, Builder::new().spawn_scoped(scope, move || open(share)))).collect();
        let mut opened = open(own);
        for (share, thread) in others {
            opened.extend(match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(_) => open(share),
            });
        }
        opened
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use countersign_protocol::command::Command;
    use countersign_protocol::envelope::Reason;
    use countersign_testkit::realm::{Draft, Realm, START, full_grant, message_id, to};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_is_kept_on_any_number_of_threads() {
        let realm = Realm::new("demo");
        let alice = realm.operator("alice", full_grant());
        let verifier = realm.verifier();
        let deliveries: Vec<Delivery> = (0..67)
            .map(|number| {
                let mut signed = Draft::new(&alice, to("worker-1"), "ping", json!({}), number, START).sign(&alice);
                if number % 5 == 0 {
                    signed.body = vec![b' '; 3].into();
                }
                signed.delivery()
            })
            .collect();
        for (threads, count) in [(1, 67), (2, 67), (3, 67), (64, 67), (100, 67), (4, 31), (4, 32), (4, 0)] {
            let opened = open_all(&deliveries[..count], threads, |it| verifier.open::<Command>(it, START));
            assert_eq!(opened.len(), count);
            for (number, opened) in (0..).zip(opened) {
                match opened {
                    Ok(command) => assert_eq!(command.message().id, message_id(number)),
                    Err(rejected) => assert_eq!((number % 5, rejected.reason), (0, Reason::Signature)),
                }
            }
        }
    }
}
