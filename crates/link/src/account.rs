//! An account at a broker that keeps its accounts itself: the present one is looked up, and a changed one is given to it over the
//! bus, to every server of a cluster at once (section 10).

use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::LinkError;
use super::stream::{BrokerAccess, connect};

/// How long the broker may take for one answer, and a cluster to give the changed account to all of its servers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the account is looked up meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountUpdateError<E> {
    /// No broker, or it refused us.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What is to be changed is not what was expected.
    #[error("{0}")]
    Change(E),
    /// The broker's error; not escaped.
    #[error("{0}")]
    Refused(String),
    /// The broker has taken it, and has another one all the same: somebody else may have changed it at the same time.
    #[error("the broker does not have the changed account")]
    NotConfirmed,
}

/// Looks up an account, has it changed, gives the changed one to the broker, and returns it once the broker has it. An account
/// that is returned as it was is not given again. The login is one of the broker's system account.
pub async fn update_account<E>(
    access: BrokerAccess<'_>,
    account: &str,
    change: impl FnOnce(&str) -> Result<String, E>,
) -> Result<String, AccountUpdateError<E>> {
    let (_link, client) = connect("accounts", access).await?;
    let lookup = format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP");
    let present = request(&client, &lookup, Bytes::new()).await.map_err(AccountUpdateError::Refused)?;
    let present = String::from_utf8_lossy(&present).into_owned();
    if present.is_empty() {
        return Err(AccountUpdateError::Refused(format!("it has no account {account}")));
    }
    let changed = change(&present).map_err(AccountUpdateError::Change)?;
    if changed == present {
        return Ok(changed);
    }
    let update = request(&client, "$SYS.REQ.CLAIMS.UPDATE", changed.clone().into());
    let answer: Value = serde_json::from_slice(&update.await.map_err(AccountUpdateError::Refused)?).unwrap_or_default();
    if answer["data"]["code"] != 200 {
        let why = answer["error"]["description"].as_str().unwrap_or("its answer is not understood");
        return Err(AccountUpdateError::Refused(why.to_owned()));
    }
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    while request(&client, &lookup, Bytes::new()).await.map_err(AccountUpdateError::Refused)? != changed {
        if Instant::now() >= deadline {
            return Err(AccountUpdateError::NotConfirmed);
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(changed)
}

async fn request(client: &Client, subject: &str, body: Bytes) -> Result<Bytes, String> {
    match timeout(ANSWER_TIMEOUT, client.request(subject.to_owned(), body)).await {
        Ok(Ok(answer)) => Ok(answer.payload),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    }
}
