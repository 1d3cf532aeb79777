//! Clients' connections.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::exchange::{Arrival, pump};
use super::forward::at_most;
use super::mail::{Drain, Mailbox, Message};
use super::pipe::{BrokenOff, Outgoing, Pipe};
use super::wire::{self, HEAD_BYTES_MAX, Unwanted};
use crate::abi::Direction;
use crate::job::Job;
use crate::request::RequestId;
use crate::stream::Attributes;

/// Header lines of a request, as many as Envoy takes.
const HEAD_LINES_MAX: usize = 100;

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;

/// How long a client may be silent before or within a request's head, in HTTP/1.1 also between two requests.
const SILENCE: Duration = Duration::from_secs(60);

/// Names requests and connections of a whole server.
#[derive(Clone, Default)]
pub(super) struct Numbers(Arc<AtomicU64>);

impl Numbers {
    pub(super) fn next(&self) -> u64 {
        // Only uniqueness is asked for.
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A client's connection.
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) numbers: Numbers,
    pub(super) mailbox: Mailbox,
}

impl Connection {
    /// Serves it until it ends, or until it is drained.
    pub(super) async fn serve(self, stream: TcpStream, mut drain: Drain) {
        let http2 = tokio::select! {
            version = at_most(SILENCE, speaks_http2(&stream)) => version,
            () = drain.begun() => None,
        };
        let Some(Ok(http2)) = http2 else { return };
        let _ = stream.set_nodelay(true); // only slower without
        let connection = Arc::new(self);
        let service = service_fn(move |request| Arc::clone(&connection).answer(request));
        let stream = TokioIo::new(stream);
        if http2 {
            let mut server = http2::Builder::new(TokioExecutor::new());
            server
                .timer(TokioTimer::new())
                .keep_alive_interval(SILENCE)
                .max_concurrent_streams(STREAMS_MAX)
                .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
            until_drained(server.serve_connection(stream, service), drain).await;
        } else {
            let mut server = http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(SILENCE)
                .max_buf_size(2 * HEAD_BYTES_MAX)
                .max_headers(HEAD_LINES_MAX);
            until_drained(server.serve_connection(stream, service), drain).await;
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Outgoing>, BrokenOff> {
        let (request, body) = request.into_parts();
        let headers = match wire::request_headers(&request, self.peer) {
            Ok(headers) => headers,
            Err(unwanted) => return Ok(refusal(unwanted)),
        };
        let id = RequestId(self.numbers.next());
        let (to_client, to_upstream) = (Pipe::new(), Pipe::new());
        let (head, answered) = oneshot::channel();
        let protocol = match request.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        let arrival = Arrival {
            id,
            headers,
            end: body.is_end_stream(),
            attributes: self.attributes(protocol),
            protocol,
            head,
            to_client: to_client.clone(),
            to_upstream: to_upstream.clone(),
        };
        let whole = arrival.end;
        // Dropped with this future if the client goes before the answer begins, and with the answer if it goes after.
        let mailbox = self.mailbox.clone();
        let answer = to_client.body(move || mailbox.send(Message::Of(id, Job::ClientGone(id))));
        self.mailbox.send(Message::Arrived(Box::new(arrival)));
        if !whole {
            let http1 = request.version < Version::HTTP_2;
            tokio::spawn(upload(body, http1, to_upstream, id, self.mailbox.clone()));
        }
        let (status, fields) = answered.await.map_err(|_| BrokenOff)?;
        let mut response = Response::new(Outgoing::new(answer));
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        Ok(response)
    }

    /// What properties say of a request beside its headers.
    fn attributes(&self, protocol: &str) -> Attributes {
        let number = |number: u64| number.to_le_bytes().to_vec();
        let lines: [(&str, Vec<u8>); 8] = [
            ("request\0protocol", protocol.into()),
            ("connection_id", number(self.number)),
            ("connection\0id", number(self.number)),
            ("connection\0mtls", vec![0]),
            ("source\0address", self.peer.to_string().into()),
            ("source\0port", number(self.peer.port().into())),
            ("destination\0address", self.local.to_string().into()),
            ("destination\0port", number(self.local.port().into())),
        ];
        lines.into_iter().map(|(path, value)| (path.into(), value)).collect()
    }
}

async fn upload(body: Incoming, http1: bool, pipe: Pipe, id: RequestId, mailbox: Mailbox) {
    let post = |frame| {
        let job = Job::Frame { request: id, direction: Direction::Request, frame };
        mailbox.send(Message::Of(id, job));
    };
    if pump(body, http1, &pipe, post).await.is_err() {
        mailbox.send(Message::Of(id, Job::ClientGone(id)));
    }
}

fn refusal(unwanted: Unwanted) -> Response<Outgoing> {
    let mut response = Response::new(Outgoing::new(Empty::<Bytes>::new().map_err(|never| match never {})));
    match unwanted {
        Unwanted::Status(status) => *response.status_mut() = status,
        Unwanted::Elsewhere(path) => {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            match HeaderValue::try_from(path) {
                Ok(path) => _ = response.headers_mut().insert("location", path),
                Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
            }
        }
    }
    response
}

async fn until_drained(connection: impl GracefulConnection, mut drain: Drain) {
    let mut connection = pin!(connection);
    tokio::select! {
        // However it ended: what it broke off has been told to the filter.
        _ = connection.as_mut() => return,
        () = drain.begun() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Waits until enough bytes are there to tell HTTP/2 from HTTP/1.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 || !PREFACE.starts_with(&seen[..count]) {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        sleep(Duration::from_millis(5)).await; // peeking shows the same bytes again at once
    }
}
