//! From the broker's URL to a server that answers: every address of every server of it is given its own time.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use async_nats::ServerAddr;
use countersign_protocol::text::{echo, escape};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{sleep, timeout};

use super::{LinkError, Obstacle, without_secrets};
use countersign_host::clock;

/// How many servers a URL may name.
const MAX_SERVERS: usize = 64;
/// How many addresses of one name are tried.
const MAX_ADDRESSES: usize = 32;
/// How long after one address the next is tried beside it, where the first has neither failed nor answered (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Reads the broker's URL: one server, or several with commas between.
pub(super) fn parse(url: &str) -> Result<Vec<ServerAddr>, LinkError> {
    let servers: Vec<ServerAddr> = url.split(',').map(|one| server(one.trim())).collect::<Result<_, _>>()?;
    if servers.len() > MAX_SERVERS {
        return Err(unusable(url, &format!("it names {} servers, and at most {MAX_SERVERS} are taken", servers.len())));
    }
    Ok(servers)
}

fn server(url: &str) -> Result<ServerAddr, LinkError> {
    let server: ServerAddr =
        url.parse().map_err(|error: std::io::Error| unusable(url, escape(&error.to_string()).as_ref()))?;
    match server.scheme() {
        "nats" | "tls" if server.host().is_empty() => Err(unusable(url, "it names no host")),
        "nats" | "tls" => Ok(server),
        // The library would speak plain TCP to it.
        scheme => Err(unusable(url, &format!("the scheme {scheme}:// (NATS over WebSocket) is not supported"))),
    }
}

fn unusable(url: &str, why: &str) -> LinkError {
    LinkError::Url { url: echo(&without_secrets(url)), why: why.to_owned() }
}

/// The servers in an order by chance, so that a fleet spreads over them.
pub(super) fn shuffled(servers: &[ServerAddr]) -> Vec<ServerAddr> {
    let mut keyed: Vec<(u32, &ServerAddr)> =
        servers.iter().map(|server| (clock::random().map_or(0, u32::from_le_bytes), server)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, server)| server.clone()).collect()
}

/// `host:port` of all servers, for a sentence.
pub(super) fn named(servers: &[ServerAddr]) -> String {
    servers.iter().map(place).collect::<Vec<_>>().join(", ")
}

/// `host:port` of one server.
pub(super) fn place(server: &ServerAddr) -> String {
    format!("{}:{}", server.host(), server.port())
}

/// The server under each of its addresses, in the order of the name service.
pub(super) async fn addresses(server: &ServerAddr, limit: Duration) -> Result<Vec<ServerAddr>, LinkError> {
    let fail = |obstacle, why: String| LinkError::NoBroker { at: place(server), why, obstacle };
    let found = match timeout(limit, server.socket_addrs()).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(fail(Obstacle::Name, escape(&error.to_string()).into_owned())),
        Err(_) => return Err(fail(Obstacle::Name, format!("no address of it within {} s", limit.as_secs()))),
    };
    let mut seen: BTreeSet<IpAddr> = BTreeSet::new();
    let new = found.map(|address| address.ip()).filter(|ip| seen.insert(*ip)).take(MAX_ADDRESSES);
    let addresses: Vec<ServerAddr> = new.filter_map(|ip| at(server, ip)).collect();
    if addresses.is_empty() {
        return Err(fail(Obstacle::Name, "the name has no address".to_owned()));
    }
    Ok(addresses)
}

fn at(server: &ServerAddr, ip: IpAddr) -> Option<ServerAddr> {
    let mut url = server.clone().into_inner();
    url.set_ip_host(ip).ok()?;
    ServerAddr::from_url(url).ok()
}

/// Tries all of them: the next one as soon as one has failed, or after [`STAGGER`] beside those that have not answered. The
/// first success counts, and the rest are dropped; if there is none, the most telling failure.
pub(super) async fn race<T, R, F>(items: Vec<T>, attempt: impl Fn(T) -> F) -> Result<R, LinkError>
where
    F: Future<Output = Result<R, LinkError>>,
{
    let mut left = items.into_iter();
    let mut running = FuturesUnordered::new();
    let mut worst = LinkError::System("there is no server to connect to".to_owned());
    loop {
        match left.next() {
            Some(item) => running.push(attempt(item)),
            None if running.is_empty() => return Err(worst),
            None => {}
        }
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(connected) => return Ok(connected),
                Err(error) if error.rank() >= worst.rank() => worst = error,
                Err(_) => {}
            },
            () = sleep(STAGGER), if left.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use std::future::pending;

    use super::*;

    fn failure(obstacle: Obstacle) -> LinkError {
        LinkError::NoBroker { at: "there".to_owned(), why: "why".to_owned(), obstacle }
    }

    fn refusal() -> LinkError {
        LinkError::Refused { at: "there".to_owned(), why: "why".to_owned(), obstacle: Obstacle::Full }
    }

    #[tokio::test]
    async fn the_address_that_answers_is_found_behind_many_that_never_do() {
        let found = race((0..MAX_ADDRESSES).collect(), async |number| match number {
            31 => Ok(number),
            _ => pending().await,
        });
        assert_eq!(found.await, Ok(31));
    }

    #[tokio::test]
    async fn of_many_failures_the_one_that_explains_most_is_reported() {
        let worst = race(vec![failure(Obstacle::Absent), refusal(), failure(Obstacle::Name)], async |error| {
            Err::<(), _>(error)
        });
        assert_eq!(worst.await, Err(refusal()));
    }

    #[test]
    fn every_scheme_but_nats_and_tls_is_refused_by_name() {
        for scheme in ["ws", "wss", "http", "WS"] {
            let error = parse(&format!("nats://127.0.0.1:4222,{scheme}://user:secret@127.0.0.1:8080")).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("`{scheme}://")) || text.contains(&scheme.to_lowercase()), "{text}");
            assert!(matches!(error, LinkError::Url { .. }) && !text.contains("secret"), "{text}");
        }
        for url in ["nats://127.0.0.1:4222", "127.0.0.1:4222", "tls://broker.example", " nats://[::1]:1 , nats://b"] {
            assert!(parse(url).is_ok(), "{url}");
        }
        assert!(matches!(parse("nats://"), Err(LinkError::Url { .. })));
        assert!(matches!(parse(&vec!["a"; MAX_SERVERS + 1].join(",")), Err(LinkError::Url { .. })));
    }

    #[tokio::test]
    async fn an_address_takes_the_place_of_the_name_and_nothing_else() {
        let server: ServerAddr = "nats://user@127.0.0.1:4333".parse().unwrap();
        assert_eq!(addresses(&server, STAGGER).await.unwrap(), std::slice::from_ref(&server));
        let moved = at(&server, "::1".parse().unwrap()).unwrap();
        assert_eq!((moved.host(), moved.port(), moved.username()), ("::1", 4333, Some("user")));
    }
}
