//! A single message of a stream, as JetStream answers with it: JSON, in which its headers and body are encoded, so that nothing
//! in them breaks the connection that it comes over.

use countersign_protocol::envelope::Delivery;
use countersign_protocol::json;
use countersign_protocol::text::echo;
use data_encoding::BASE64;
use serde_json::{Map, Value};

use super::Answer;

/// JetStream's error code where there is no such message.
const NO_MESSAGE: u64 = 10_037;
/// Its error code where there is no such stream.
pub(super) const NO_STREAM: u64 = 10_059;

/// One message of a stream. Nothing of it is verified.
#[derive(Debug)]
pub struct StoredMessage {
    /// Its number in the stream.
    pub sequence: u64,
    /// The message, on the subject that it was stored under.
    pub delivery: Delivery,
}

/// Why there is no answer to a request for a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// There is no such stream.
    #[error("there is no such stream")]
    NoStream,
    /// Something else; escaped.
    #[error("{0}")]
    Other(String),
}

/// Reads the answer to a request for a single message. `None` where the stream has none; encoded, everything is longer by a
/// third, so that an answer may have half as much again as `longest` bytes.
pub fn stored_message(answer: &Answer, longest: usize) -> Result<Option<StoredMessage>, StoredError> {
    if answer.status == Some(503) {
        return Err(StoredError::NoStream);
    }
    if answer.length > longest / 2 * 3 {
        return Err(StoredError::Other(format!("an answer is {} bytes long", answer.length)));
    }
    let answer = json::parse(&answer.body).map_err(|_| StoredError::Other("it answers what is not JSON".to_owned()))?;
    if let Some(error) = answer.get("error") {
        return match error.get("err_code").and_then(Value::as_u64) {
            Some(NO_MESSAGE) => Ok(None),
            Some(NO_STREAM) => Err(StoredError::NoStream),
            _ => {
                let why = error.get("description").and_then(Value::as_str).unwrap_or("an error");
                Err(StoredError::Other(format!("it answers {}", echo(why))))
            }
        };
    }
    let message = answer.get("message").and_then(Value::as_object).and_then(stored);
    message.map(Some).ok_or_else(|| StoredError::Other("it answers with no message".to_owned()))
}

fn stored(message: &Map<String, Value>) -> Option<StoredMessage> {
    let bytes = |name: &str| match message.get(name) {
        None => Some(Vec::new()),
        Some(text) => BASE64.decode(text.as_str()?.as_bytes()).ok(),
    };
    let subject = message.get("subject")?.as_str()?;
    let (headers, body) = (bytes("hdrs")?, bytes("data")?);
    let headers = String::from_utf8_lossy(&headers);
    let lines = headers.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    let delivery = Delivery::new(subject, false, lines.map(|(name, value)| (name, value.trim())), body.into());
    Some(StoredMessage { sequence: message.get("seq")?.as_u64()?, delivery })
}
