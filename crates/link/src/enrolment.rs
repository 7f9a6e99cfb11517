//! The connection of a worker that asks to be enrolled (section 14).

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use countersign_keys::Login;
use futures_util::StreamExt;

use super::stream::{BrokerAccess, connect};
use super::{BrokerAddress, Link, LinkError};

/// A connection that can ask, and hear the answer, and nothing else.
#[derive(Debug)]
pub struct EnrolmentLink {
    link: Link,
    client: Client,
    answers: Subscriber,
    request: String,
    answer: String,
}

/// What a worker hears. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// An answer.
    Answer(Bytes),
    /// The broker says that nobody listens who could answer.
    NoIssuer,
}

impl EnrolmentLink {
    /// Connects with a token's user, and subscribes to its answers. Fails at once where no broker answers.
    pub async fn connect(
        broker: BrokerAddress,
        login: Login,
        request: String,
        answer: String,
    ) -> Result<Self, LinkError> {
        let access = BrokerAccess { broker, login, inbox_prefix: "_INBOX.enrolment" };
        let (link, client) = connect("enrolment", access).await?;
        let broken = |error: &dyn std::fmt::Display| LinkError::System(error.to_string());
        let answers = client.subscribe(answer.clone()).await.map_err(|error| broken(&error))?;
        Ok(Self { link, client, answers, request, answer })
    }

    /// Sends a request; `false` where the connection broke.
    pub async fn ask(&self, request: Vec<u8>) -> bool {
        // The reply subject is for the broker's word that nobody listens.
        let sent = self.client.publish_with_reply(self.request.clone(), self.answer.clone(), request.into()).await;
        sent.is_ok() && self.client.flush().await.is_ok()
    }

    /// The next that is heard; `None` where the connection broke. Nothing is lost when this is dropped while it waits.
    pub async fn hear(&mut self) -> Option<Heard> {
        let message = self.answers.next().await?;
        let is_unheard = message.status.is_some_and(|status| status.as_u16() == 503);
        Some(if is_unheard { Heard::NoIssuer } else { Heard::Answer(message.payload) })
    }

    /// Whether whoever can listen can read.
    pub fn is_readable_by_others(&self) -> bool {
        self.link.is_readable_by_others()
    }
}
