//! A broker that is made up: it lets everybody in and sends what a test wants.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use countersign_protocol::envelope::Signed;
use serde_json::{Value, json};

use super::wire::{self, Message, Operation, signed_frame};
use crate::broker::{TIMEOUT, local};

/// A TCP server that greets as a nats-server does, with a nonce of the test's choice.
#[derive(Debug)]
pub struct FakeBroker {
    listener: TcpListener,
    nonce: String,
}

/// One connection that somebody made to it.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    arrived: Receiver<Operation>,
    connect: Value,
    subscriptions: Vec<(String, String)>,
}

impl FakeBroker {
    /// Begins to listen on a port of its own.
    pub fn start(nonce: &str) -> Self {
        Self { listener: TcpListener::bind(local(0)).unwrap(), nonce: nonce.to_owned() }
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("nats://{}", self.listener.local_addr().unwrap())
    }

    /// Waits for the next connection, and until whoever makes it has introduced itself and been let in.
    pub fn accept(&self) -> Session {
        self.accept_and(true)
    }

    /// Waits for the two connections of an operator: that of the requests, and that of the events.
    pub fn accept_operator(&self) -> [Session; 2] {
        let of_events =
            |session: &Session| session.connect["name"].as_str().is_some_and(|name| name.ends_with("-events"));
        let [first, second] = [self.accept(), self.accept()];
        if of_events(&first) { [second, first] } else { [first, second] }
    }

    /// The same, but nobody is let in: a PING gets no answer.
    pub fn accept_silently(&self) -> Session {
        self.accept_and(false)
    }

    fn accept_and(&self, let_in: bool) -> Session {
        let (mut stream, _) = self.listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let info = json!({
            "server_id": "FAKE", "server_name": "fake", "version": "2.10.0", "proto": 1, "headers": true,
            "max_payload": 1_048_576, "auth_required": true, "nonce": self.nonce,
        });
        stream.write_all(format!("INFO {info}\r\n").as_bytes()).unwrap();
        let (sender, arrived) = mpsc::channel();
        let (mut reader, mut answers) = (BufReader::new(stream.try_clone().unwrap()), stream.try_clone().unwrap());
        thread::spawn(move || {
            while let Ok(operation) = wire::read(&mut reader) {
                if let_in && matches!(operation, Operation::Ping) && answers.write_all(b"PONG\r\n").is_err() {
                    break;
                }
                if sender.send(operation).is_err() {
                    break;
                }
            }
        });
        let mut session = Session { stream, arrived, connect: Value::Null, subscriptions: Vec::new() };
        while session.connect.is_null() {
            session.take_one("CONNECT");
        }
        session
    }
}

impl Session {
    /// What it sent when it connected.
    pub fn connect(&self) -> &Value {
        &self.connect
    }

    /// Waits until it has subscribed to a subject, and returns the subscription's number.
    pub fn subscription(&mut self, subject: &str) -> String {
        loop {
            if let Some((_, sid)) = self.subscriptions.iter().find(|(known, _)| known == subject) {
                return sid.clone();
            }
            self.take_one(subject);
        }
    }

    /// Sends any bytes. A peer that has gone meanwhile does not get them, which is its right.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a signed message to its subject's subscription.
    pub fn deliver(&mut self, message: &Signed) {
        let sid = self.subscription(&message.subject);
        self.send(&signed_frame(&sid, message));
    }

    /// The next message that it published and that fits; nothing if it closed the connection before.
    pub fn published(&mut self, fits: impl Fn(&Message) -> bool) -> Option<Message> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.arrived.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Operation::Message(message)) if fits(&message) => return Some(message),
                Ok(Operation::Subscribe { subject, sid }) => self.subscriptions.push((subject, sid)),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("no message arrived"),
            }
        }
    }

    fn take_one(&mut self, what: &str) {
        match self.arrived.recv_timeout(TIMEOUT) {
            Ok(Operation::Connect(connect)) => self.connect = connect,
            Ok(Operation::Subscribe { subject, sid }) => self.subscriptions.push((subject, sid)),
            Ok(_) => {}
            Err(error) => panic!("{what} did not arrive: {error}"),
        }
    }
}
