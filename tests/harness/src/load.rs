//! Clients that don't stop, and what each of their requests came to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::{CacheStatus, Client, Request};

/// A request of a [`Load`], as its client saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which one: method and path.
    pub request: String,
    /// When it was sent.
    pub began: Instant,
    /// How long its client waited for the whole answer.
    pub took: Duration,
    /// The answer's status; none if there was no complete answer.
    pub status: Option<StatusCode>,
    /// What the answer says of our cache.
    pub cache: CacheStatus,
}

impl Seen {
    /// Whether it was answered, and with anything but an error of the server's or the gateway's.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.status.is_some_and(|status| status.as_u16() < 500)
    }
}

/// Clients that ask one request after the other, each on its connection, until the end.
#[derive(Debug)]
pub struct Load {
    over: Arc<AtomicBool>,
    clients: JoinSet<Vec<Seen>>,
}

impl Load {
    /// Starts so many. `request` says what the nth request of a client is; each pauses so long between two.
    #[must_use]
    pub fn start(
        server: Client,
        clients: usize,
        pause: Duration,
        request: impl Fn(usize, usize) -> Request + Clone + Send + Sync + 'static,
    ) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        for number in 0..clients {
            let (over, request) = (Arc::clone(&over), request.clone());
            running.spawn(ask(server, over, pause, move |nth| request(number, nth)));
        }
        Self { over, clients: running }
    }

    /// Ends it, after the requests that are under way; what became of all of them.
    pub async fn end(self) -> Vec<Seen> {
        self.over.store(true, Ordering::Relaxed);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

async fn ask(server: Client, over: Arc<AtomicBool>, pause: Duration, request: impl Fn(usize) -> Request) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut connection = None;
    for nth in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        if connection.is_none() {
            connection = server.connect().await.ok();
        }
        let asked = request(nth);
        let (name, began) = (asked.to_string(), Instant::now());
        let answer = match &mut connection {
            Some(open) => open.send(asked).await.ok(),
            None => None,
        };
        if answer.is_none() {
            connection = None;
        }
        let status = answer.as_ref().map(|answer| answer.status);
        let cache = answer.map(|answer| answer.cache_status()).unwrap_or_default();
        seen.push(Seen { request: name, began, took: began.elapsed(), status, cache });
        sleep(pause).await;
    }
    seen
}
