//! What a client sends, and what it gets.

use std::time::Duration;

use crate::Headers;
use crate::message::{Chunk, message_builders};

/// Names a request of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// A client's request, for [`World::send`](crate::World::send).
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) headers: Headers,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) trailers: Headers,
    pub(crate) gateway: usize,
    pub(crate) worker: usize,
    /// Whether the client goes silent after its chunks instead of ending the request.
    pub(crate) unfinished: bool,
}

impl Request {
    message_builders!();

    /// A request of any method, to host `example.com`, worker 0 of gateway 0.
    pub fn new(method: &str, path: &str) -> Self {
        let headers = [(":authority", "example.com"), (":path", path), (":method", method), (":scheme", "http")];
        Self {
            headers: headers.into_iter().collect(),
            chunks: Vec::new(),
            trailers: Headers::new(),
            gateway: 0,
            worker: 0,
            unfinished: false,
        }
    }

    /// A GET request.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A HEAD request.
    pub fn head(path: &str) -> Self {
        Self::new("HEAD", path)
    }

    /// A PUT request.
    pub fn put(path: &str) -> Self {
        Self::new("PUT", path)
    }

    /// A POST request.
    pub fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    /// A PATCH request.
    pub fn patch(path: &str) -> Self {
        Self::new("PATCH", path)
    }

    /// A DELETE request.
    pub fn delete(path: &str) -> Self {
        Self::new("DELETE", path)
    }

    /// Says which host is asked.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.headers.set(":authority", host);
        self
    }

    /// Goes silent after what was said so far, and leaves the request unfinished.
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.unfinished = true;
        self
    }

    /// Says which gateway takes the connection, counted from 0.
    #[must_use]
    pub fn gateway(mut self, gateway: usize) -> Self {
        self.gateway = gateway;
        self
    }

    /// Says which worker of the gateway takes the connection, counted from 0.
    #[must_use]
    pub fn worker(mut self, worker: usize) -> Self {
        self.worker = worker;
        self
    }
}

/// How a client's exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// The whole answer came.
    Complete,
    /// The gateway broke it off: what came is cut short, or nothing came at all (then the status is 0).
    Reset,
    /// The client went away.
    ClientGone,
}

/// What a client got.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code; 0 if no headers came.
    pub status: u16,
    /// The header lines without pseudo-headers, in order, repeated ones kept.
    pub headers: Headers,
    /// All of the body that came.
    pub body: Vec<u8>,
    /// When each piece of the body arrived at the client, and how many bytes it had.
    pub pieces: Vec<(Duration, usize)>,
    /// The trailer lines.
    pub trailers: Headers,
    /// How it ended.
    pub ending: Ending,
    /// Whether the gateway itself answered, the filter or Envoy on its own account, rather than the origin.
    pub local_reply: bool,
    /// `response.code_details`: `via_upstream` for the origin's answers, what the filter gave for its own.
    pub details: String,
    /// When the request came in, on the world's monotonic clock.
    pub started: Duration,
    /// When the first header arrived at the client.
    pub headers_at: Option<Duration>,
    /// When the exchange ended.
    pub ended: Duration,
    /// Which gateway served it.
    pub gateway: usize,
    /// Which worker of it.
    pub worker: usize,
}

impl Answer {
    /// The field's first line; `None` where it is absent or not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The body as text, bytes that aren't UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// From the request's first byte to the end.
    pub fn took(&self) -> Duration {
        self.ended - self.started
    }
}
