//! Requests to the broker itself, and its answers: for what is not a signed message.

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;

use super::{Link, headers, lock};

/// An inbox on the present connection of a link. It is gone with that connection.
#[derive(Debug)]
pub struct Inbox {
    client: Client,
    name: String,
    answers: Subscriber,
}

/// What came to an [`Inbox`]. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// What the request named: the last token of the subject.
    pub token: String,
    /// The status of its first line, if it has one.
    pub status: Option<u16>,
    /// What follows the status.
    pub description: Option<String>,
    /// Its headers, those of one name in their order.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Bytes,
    /// Its length in bytes, headers included.
    pub length: usize,
}

impl Link {
    /// A new inbox; `None` while there is no connection.
    pub async fn inbox(&self) -> Option<Inbox> {
        let client = lock(&self.shared.client).clone()?;
        let name = client.new_inbox();
        let answers = client.subscribe(format!("{name}.*")).await.ok()?;
        Some(Inbox { client, name, answers })
    }
}

impl Inbox {
    /// Sends a request on a subject. The answer names this token, which has the form of a name. `None` where the connection
    /// broke.
    pub async fn request(&self, subject: String, token: &str, body: &Value) -> Option<()> {
        let inbox = format!("{}.{token}", self.name);
        self.client.publish_with_reply(subject, inbox, body.to_string().into()).await.ok()
    }

    /// The next answer; `None` where the connection broke.
    pub async fn next(&mut self) -> Option<Answer> {
        self.answers.next().await.map(Answer::from)
    }
}

impl Answer {
    /// The last header of a name: the broker adds its own after those of a message that it stores.
    pub fn last_header(&self, name: &str) -> Option<&str> {
        self.headers.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl From<Message> for Answer {
    fn from(message: Message) -> Self {
        Self {
            token: message.subject.rsplit('.').next().unwrap_or_default().to_owned(),
            status: message.status.map(|status| status.as_u16()),
            headers: headers(&message).map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            description: message.description,
            length: message.length,
            body: message.payload,
        }
    }
}
