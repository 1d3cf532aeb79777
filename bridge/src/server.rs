//! Connections: how many, how long, and how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::{Service, Store, http};

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Calls at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// How long calls under way may still take after the signal to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// What the bridge takes on at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections; more wait to be accepted.
    pub connections: usize,
    /// Calls, held polls among them; more are refused as busy.
    pub requests: usize,
    /// Bytes of a request's body, hence of an entry.
    pub body_bytes: usize,
    /// How long a connection may be silent before or within the head of a request, in HTTP/1.1 also between two. Gateways
    /// should close theirs earlier, so that they never send into a close.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1024, requests: 1024, body_bytes: 8 << 20, silence: Duration::from_secs(75) }
    }
}

/// The HTTP server around a [`Service`].
pub struct Bridge {
    service: Service,
    limits: Limits,
}

impl Bridge {
    /// A bridge on this store, with the default limits.
    pub fn new(store: impl Store) -> Self {
        Self { service: Service::new(store), limits: Limits::default() }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The calls without HTTP.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service.clone()
    }

    /// The calls as an axum router, to be served by somebody else.
    pub fn router(&self) -> Router {
        http::router(self.service.clone(), self.limits)
    }

    /// Serves until `stop` resolves; then takes no more connections, ends held polls, and gives the calls under way five
    /// seconds. True if they all ended in time.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) -> bool {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let drain = GracefulShutdown::new();
        let router = self.router();
        tokio::pin!(stop);
        loop {
            let (stream, place) = tokio::select! {
                accepted = accept(&listener, &places) => accepted,
                () = &mut stop => break,
            };
            let connection = Connection {
                service: self.service.clone(),
                router: router.clone(),
                silence: self.limits.silence,
                place,
            };
            tokio::spawn(connection.run(stream, drain.watcher()));
        }
        drop(listener);
        self.service.stop();
        timeout(DRAIN, drain.shutdown()).await.is_ok()
    }
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { std::future::pending().await };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                // The peer has gone, or descriptors have run out: in both cases later ones may do better.
                tracing::warn!(%error, "a connection couldn't be accepted");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

struct Connection {
    service: Service,
    router: Router,
    silence: Duration,
    place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, drain: Watcher) {
        let _place = self.place;
        let began = tokio::select! {
            began = timeout(self.silence, version_shows(&stream)) => matches!(began, Ok(Ok(()))),
            () = self.service.stopped() => false,
        };
        if !began {
            return;
        }
        let _ = stream.set_nodelay(true); // only slower without
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(self.silence).max_buf_size(HEAD_BYTES_MAX);
        server
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(self.silence)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
        let service = TowerToHyperService::new(self.router);
        let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = drain.watch(connection).await {
            tracing::debug!(error = &*error, "a connection ended early");
        }
    }
}

/// Waits until enough bytes are there to tell HTTP/2 from HTTP/1.1. The server would wait for them without end.
async fn version_shows(stream: &TcpStream) -> std::io::Result<()> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 || count == seen.len() || !PREFACE.starts_with(&seen[..count]) {
            return Ok(());
        }
        sleep(Duration::from_millis(10)).await; // peeking shows the same bytes again at once
    }
}
