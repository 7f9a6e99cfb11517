//! A peer of a real broker.

use std::collections::VecDeque;
use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use countersign_protocol::envelope::Signed;
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;

use super::wire::{self, Message, Operation, publish_frame, signed_headers};
use crate::accounts::{jwt_in, seed_in};
use crate::broker::{TIMEOUT, local};

/// A connection to a broker that publishes any bytes and stores all that it is sent. It blocks; a thread reads for it.
#[derive(Debug)]
pub struct Peer {
    stream: Arc<Mutex<TcpStream>>,
    arrived: Receiver<Operation>,
    waiting: VecDeque<Message>,
    errors: Vec<String>,
    subscriptions: usize,
}

impl Peer {
    /// Connects to a broker on this machine, with the credentials of one of its users, or a seed, where it asks for them.
    pub fn connect(port: u16, creds: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(local(port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let Operation::Info(info) = wire::read(&mut reader).unwrap() else { panic!("a broker begins with INFO") };
        let mut connect = serde_json::json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "protocol": 1,
            "lang": "test", "version": "1", "name": "peer", "echo": true,
        });
        if let Some(creds) = creds {
            let pair = KeyPair::from_seed(seed_in(creds)).unwrap();
            connect["jwt"] = jwt_in(creds).into();
            let signature = pair.sign(info["nonce"].as_str().expect("a nonce").as_bytes()).unwrap();
            connect["nkey"] = pair.public_key().into();
            connect["sig"] = BASE64URL_NOPAD.encode(&signature).into();
        }
        stream.write_all(format!("CONNECT {connect}\r\n").as_bytes()).unwrap();
        let stream = Arc::new(Mutex::new(stream));
        let for_thread = Arc::clone(&stream);
        let (sender, arrived) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(operation) = wire::read(&mut reader) {
                let sent = match operation {
                    Operation::Ping => for_thread.lock().unwrap().write_all(b"PONG\r\n").is_ok(),
                    operation => sender.send(operation).is_ok(),
                };
                if !sent {
                    break;
                }
            }
        });
        let mut peer = Self { stream, arrived, waiting: VecDeque::new(), errors: Vec::new(), subscriptions: 0 };
        peer.flush();
        assert_eq!(peer.errors, Vec::<String>::new(), "the broker lets it in");
        peer
    }

    /// Subscribes; whatever is published afterwards, by anybody, is received.
    pub fn subscribe(&mut self, subject: &str) {
        self.subscriptions += 1;
        self.write(format!("SUB {subject} {}\r\n", self.subscriptions).as_bytes());
        self.flush();
    }

    /// Publishes anything at all.
    pub fn publish(&self, subject: &str, reply: Option<&str>, headers: Option<&[u8]>, body: &[u8]) {
        self.write(&publish_frame(subject.as_bytes(), reply, headers, body));
    }

    /// Publishes a signed message where it belongs.
    pub fn send(&self, message: &Signed) {
        self.send_to(&message.subject, message);
    }

    /// Publishes a signed message on a subject that may be another.
    pub fn send_to(&self, subject: &str, message: &Signed) {
        self.publish(subject, None, Some(&signed_headers(message)), &message.body);
    }

    /// Publishes signed messages by one write.
    pub fn send_all<'a>(&self, messages: impl IntoIterator<Item = &'a Signed>) {
        let frames = messages
            .into_iter()
            .map(|it| publish_frame(it.subject.as_bytes(), None, Some(&signed_headers(it)), &it.body));
        self.write(&frames.collect::<Vec<_>>().concat());
    }

    /// Writes any bytes to the broker.
    pub fn write(&self, bytes: &[u8]) {
        self.stream.lock().unwrap().write_all(bytes).unwrap();
    }

    /// Waits until the broker has taken everything that was written.
    pub fn flush(&mut self) {
        self.write(b"PING\r\n");
        let deadline = Instant::now() + TIMEOUT;
        while !self.take_one(deadline).expect("the broker answers a PING") {}
    }

    /// The next message; a test fails where none arrives in time.
    pub fn message(&mut self) -> Message {
        self.wait_for("a message", |_| true)
    }

    /// The first message that fits; those before it are passed over.
    pub fn wait_for(&mut self, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        self.until(what, fits).pop().unwrap()
    }

    /// All messages up to the first that fits, which is the last of them.
    pub fn until(&mut self, what: &str, fits: impl Fn(&Message) -> bool) -> Vec<Message> {
        let deadline = Instant::now() + TIMEOUT;
        let mut messages = Vec::new();
        loop {
            while let Some(message) = self.waiting.pop_front() {
                messages.push(message);
                if messages.last().is_some_and(&fits) {
                    return messages;
                }
            }
            if self.take_one(deadline).is_none() {
                let subjects: Vec<&str> = messages.iter().map(|message| message.subject.as_str()).collect();
                panic!("{what} did not arrive; there were {subjects:?} and the errors {:?}", self.errors);
            }
        }
    }

    /// Waits until the broker has closed the connection.
    pub fn wait_for_end(&self) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.arrived.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("the broker keeps the connection"),
            }
        }
    }

    /// All messages that the broker had for this peer until now.
    pub fn so_far(&mut self) -> Vec<Message> {
        self.flush();
        self.waiting.drain(..).collect()
    }

    /// What the broker complained of until now.
    pub fn errors(&mut self) -> &[String] {
        self.flush();
        &self.errors
    }

    /// Takes one operation: whether it was a PONG; nothing when none came in time.
    fn take_one(&mut self, deadline: Instant) -> Option<bool> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match self.arrived.recv_timeout(left) {
            Ok(Operation::Pong) => return Some(true),
            Ok(Operation::Message(message)) => self.waiting.push_back(message),
            Ok(Operation::Error(error)) => self.errors.push(error),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => panic!("the broker closed the connection: {:?}", self.errors),
        }
        Some(false)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Ok(stream) = self.stream.lock() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
