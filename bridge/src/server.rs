//! Connections: where they come from, how many, how long, and how they end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::access::Access;
use crate::hooks::Hooks;
use crate::http::{Front, Shared, Surroundings};
use crate::metrics::Metrics;
use crate::tls::Tls;
use crate::{Service, Store};

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Calls at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the bridge takes on at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections; more wait to be accepted.
    pub connections: usize,
    /// Calls, held polls among them; more are refused as busy.
    pub requests: usize,
    /// Bytes of a request's body, hence of an entry.
    pub body_bytes: usize,
    /// Calls per second of one address, with as many in reserve; 0 is no limit.
    pub rate: u32,
    /// How long a connection may be silent before or within the head of a request, in HTTP/1.1 also between two. Gateways
    /// should close theirs earlier, so that they never send into a close.
    pub silence: Duration,
    /// How long calls under way may still take after the signal to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            requests: 1024,
            body_bytes: 8 << 20,
            rate: 0,
            silence: Duration::from_secs(75),
            drain: Duration::from_secs(5),
        }
    }
}

/// Which calls are answered at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// All of them.
    All,
    /// Those of gateways.
    Gateways,
    /// Those of people and programs.
    Admin,
    /// Deliveries to webhooks.
    Hooks,
}

/// A place where the bridge listens.
pub struct Listener {
    socket: Socket,
    tls: Option<Tls>,
    role: Role,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// An address of the network.
    #[must_use]
    pub fn tcp(listener: TcpListener, role: Role) -> Self {
        Self { socket: Socket::Tcp(listener), tls: None, role }
    }

    /// A socket in the file system, for this user only; one that a dead process left behind is replaced.
    ///
    /// # Errors
    ///
    /// When it can't be made, or somebody listens there.
    pub fn unix(path: &Path, role: Role) -> io::Result<Self> {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { socket: Socket::Unix(listener, path.to_owned()), tls: None, role })
    }

    /// The same, encrypted.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// The address, if it is one of the network.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// Takes connections until it shall stop, and then those that are there already: their peers have sent into them.
    async fn take(
        self,
        places: Arc<Semaphore>,
        front: Front,
        came: mpsc::UnboundedSender<Taken>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let pass_on = |(stream, place)| {
            let _ = came.send(Taken { stream, place, tls: self.tls.clone(), front: front.clone() });
        };
        loop {
            tokio::select! {
                accepted = self.accept(&places) => pass_on(accepted),
                _ = stopping.wait_for(|stop| *stop) => break,
            }
        }
        while let Ok(accepted) = timeout(Duration::ZERO, self.accept(&places)).await {
            pass_on(accepted);
        }
    }

    /// The next connection, once there is a place for it.
    async fn accept(&self, places: &Arc<Semaphore>) -> (Stream, OwnedSemaphorePermit) {
        loop {
            let Ok(place) = Arc::clone(places).acquire_owned().await else { std::future::pending().await };
            let accepted = match &self.socket {
                Socket::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                    let _ = stream.set_nodelay(true); // only slower without
                    Stream::Tcp(stream, peer.ip())
                }),
                Socket::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            };
            match accepted {
                Ok(stream) => return (stream, place),
                Err(error) => {
                    // The peer has gone, or descriptors have run out: in both cases later ones may do better.
                    tracing::warn!(%error, "a connection couldn't be accepted");
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path); // left behind, it is replaced by the next
        }
    }
}

enum Stream {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

/// A connection, and what is served on it.
struct Taken {
    stream: Stream,
    place: OwnedSemaphorePermit,
    tls: Option<Tls>,
    front: Front,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub Option<IpAddr>);

/// The HTTP server around a [`Service`].
pub struct Bridge {
    service: Service,
    limits: Limits,
    access: Access,
    hooks: Hooks,
    metrics: Metrics,
}

impl Bridge {
    /// A bridge on this store, with the default limits and without tokens.
    pub fn new(store: impl Store) -> Self {
        let metrics = Metrics::new();
        let service = Service::new(store).with_metrics(metrics.clone());
        Self { service, limits: Limits::default(), access: Access::open(), hooks: Hooks::default(), metrics }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same for those who hold these tokens.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The same with these webhooks.
    #[must_use]
    pub fn with_hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// The calls without HTTP.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service.clone()
    }

    /// The calls as an axum router, to be served by somebody else.
    pub fn router(&self) -> Router {
        self.surroundings().router(Role::All)
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings::new(Shared::new(
            self.service.clone(),
            self.limits,
            self.access.clone(),
            self.hooks.clone(),
            self.metrics.clone(),
        ))
    }

    /// Serves all calls at one address; see [`serve_at`](Self::serve_at).
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) -> bool {
        self.serve_at(vec![Listener::tcp(listener, Role::All)], stop).await
    }

    /// Serves until `stop` resolves; then takes no more connections, ends held polls, and gives the calls under way some
    /// time. True if they all ended in it.
    pub async fn serve_at(self, listeners: Vec<Listener>, stop: impl Future<Output = ()>) -> bool {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let surroundings = self.surroundings();
        let drain = GracefulShutdown::new();
        let (came, mut coming) = mpsc::unbounded_channel(); // the places are what bounds it
        let (stopping, _) = watch::channel(false);
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| {
                let front = surroundings.front(listener.role);
                tokio::spawn(listener.take(Arc::clone(&places), front, came.clone(), stopping.subscribe()))
            })
            .collect();
        drop(came);
        let start = |Taken { stream, place, tls, front }| {
            let connection = Connection {
                service: self.service.clone(),
                front,
                silence: self.limits.silence,
                metrics: self.metrics.clone(),
                _place: place,
            };
            tokio::spawn(connection.run(stream, tls, drain.watcher()));
        };
        tokio::pin!(stop);
        loop {
            tokio::select! {
                Some(taken) = coming.recv() => start(taken),
                () = &mut stop => break,
            }
        }
        stopping.send_replace(true);
        for task in accepting {
            let _ = task.await; // until then its listener is open
        }
        while let Ok(taken) = coming.try_recv() {
            start(taken);
        }
        self.service.stop();
        timeout(self.limits.drain, drain.shutdown()).await.is_ok()
    }
}

struct Connection {
    service: Service,
    front: Front,
    silence: Duration,
    metrics: Metrics,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: Stream, tls: Option<Tls>, drain: Watcher) {
        self.metrics.connections.inc();
        match stream {
            Stream::Tcp(stream, peer) => self.secure(stream, Peer(Some(peer)), tls, drain).await,
            Stream::Unix(stream) => self.secure(stream, Peer(None), tls, drain).await,
        }
        self.metrics.connections.dec();
    }

    async fn secure<IO>(&self, stream: IO, peer: Peer, tls: Option<Tls>, drain: Watcher)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(tls) = tls else { return self.clear(stream, peer, drain).await };
        let shaken = self.unless_stopped(timeout(self.silence, tls.acceptor().accept(stream))).await;
        match shaken {
            Some(Ok(Ok(stream))) => {
                let is_2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.serve(stream, is_2, peer, drain).await;
            }
            Some(Ok(Err(error))) => tracing::debug!(%error, "a TLS handshake failed"),
            Some(Err(_)) | None => {}
        }
    }

    /// Without TLS, the first bytes tell HTTP/2 from HTTP/1.1. The server would wait for them without end.
    async fn clear<IO>(&self, mut stream: IO, peer: Peer, drain: Watcher)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let seen = self.unless_stopped(timeout(self.silence, beginning(&mut stream))).await;
        if let Some(Ok(Ok(seen))) = seen {
            let is_2 = seen == PREFACE;
            self.serve(Rewound { seen: seen.into(), stream }, is_2, peer, drain).await;
        }
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased; // what has come already is answered
            done = work => Some(done),
            () = self.service.stopped() => None,
        }
    }

    async fn serve<IO>(&self, stream: IO, is_2: bool, peer: Peer, drain: Watcher)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(self.silence).max_buf_size(HEAD_BYTES_MAX);
        server
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(self.silence)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
        let server = if is_2 { server.http2_only() } else { server.http1_only() };
        let connection = server.serve_connection(TokioIo::new(stream), self.front.of(peer)).into_owned();
        if let Err(error) = drain.watch(connection).await {
            tracing::debug!(error = &*error, "a connection ended early");
        }
    }
}

/// As many bytes as it takes to tell HTTP/2 from HTTP/1.1.
async fn beginning(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut seen = Vec::with_capacity(PREFACE.len());
    while seen.len() < PREFACE.len() && PREFACE.starts_with(&seen) {
        let mut rest = (&mut *stream).take((PREFACE.len() - seen.len()) as u64);
        if rest.read_buf(&mut seen).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(seen)
}

/// A stream whose first bytes have been read already.
struct Rewound<IO> {
    seen: Bytes,
    stream: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Rewound<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.seen.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.seen.len().min(buffer.remaining());
        buffer.put_slice(&self.seen.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Rewound<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
