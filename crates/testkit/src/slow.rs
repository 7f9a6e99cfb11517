//! A slow way to a broker: a TCP forwarder that delays what goes through it, and may let it through only so fast.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::local;

/// How a way is slow.
#[derive(Debug, Clone, Copy)]
pub struct Slow {
    /// How long every byte takes, one way.
    pub delay: Duration,
    /// How many bytes a second come from the broker.
    pub rate: u32,
}

/// The URL of a slow way to a broker on a port of this machine. It ends with the process.
pub fn slow_way(port: u16, slow: Slow) -> String {
    let listener = TcpListener::bind(local(0)).unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for near in listener.incoming() {
            let Ok(near) = near else { break };
            thread::spawn(move || {
                // What TCP's own handshake takes on such a way.
                thread::sleep(slow.delay * 2);
                let Ok(far) = TcpStream::connect(local(port)) else { return };
                let (Ok(from_near), Ok(to_far)) = (near.try_clone(), far.try_clone()) else { return };
                carry(from_near, to_far, Slow { rate: u32::MAX, ..slow });
                carry(far, near, slow);
            });
        }
    });
    url
}

fn carry(mut from: TcpStream, mut to: TcpStream, slow: Slow) {
    let (sender, arrived) = mpsc::sync_channel::<(Instant, Vec<u8>)>(64);
    thread::spawn(move || {
        let mut buffer = vec![0; 4_096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + slow.delay, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in arrived {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            thread::sleep(Duration::from_secs_f64(f64::from(length) / f64::from(slow.rate)));
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
