//! What the origin answers, whole or in pieces that a test lets go.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::sync::watch;

pub(super) type Outgoing = Response<BoxBody<Bytes, io::Error>>;

/// An answer of the origin's.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
    after: Duration,
}

#[derive(Clone, Debug)]
enum Body {
    Whole(Bytes),
    /// The rest comes when the gate opens.
    Gated(Bytes, Gate, Bytes),
    /// The connection breaks after this.
    BrokenOff(Bytes),
    /// It breaks before anything is said.
    Reset,
}

/// Holds back the end of a body until it is opened; then it stays open.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// Lets the rest of the body go, of this answer and every later one.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        // Can't fail: we hold a sender ourselves.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

impl Answer {
    /// A JSON document.
    #[must_use]
    pub fn json(status: StatusCode, document: &Value) -> Self {
        Self::with(status, Body::Whole(document.to_string().into()))
    }

    /// A status without a body.
    #[must_use]
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Body::Whole(Bytes::new()), after: Duration::ZERO }
    }

    /// `200` with a body in two pieces; the second waits for the gate. No `Content-Length`.
    #[must_use]
    pub fn in_two(first: impl Into<Bytes>, second: impl Into<Bytes>) -> (Self, Gate) {
        let gate = Gate(watch::Sender::new(false));
        (Self::with(StatusCode::OK, Body::Gated(first.into(), gate.clone(), second.into())), gate)
    }

    /// `200` with a body that promises `promised` bytes and breaks off after `sent`.
    #[must_use]
    pub fn broken_off(sent: impl Into<Bytes>, promised: u64) -> Self {
        let mut answer = Self::with(StatusCode::OK, Body::BrokenOff(sent.into()));
        answer.headers.insert(CONTENT_LENGTH, promised.into());
        answer
    }

    /// No answer: the connection breaks.
    #[must_use]
    pub fn reset() -> Self {
        Self::with(StatusCode::OK, Body::Reset)
    }

    /// Adds a header field.
    ///
    /// # Panics
    ///
    /// When the value can't stand in a header: tests write them out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header value as HTTP allows it");
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// Lets its header wait so long.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// What its header waits.
    pub(super) fn waits(&self) -> Duration {
        self.after
    }

    fn with(status: StatusCode, body: Body) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { status, headers, body, after: Duration::ZERO }
    }

    /// The response; an error where its connection is to break in its place.
    pub(super) fn into_response(self) -> io::Result<Outgoing> {
        let body = match self.body {
            Body::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            Body::Whole(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed(),
            Body::Gated(first, gate, second) => {
                let (mut sender, body) = Channel::new(1);
                tokio::spawn(async move {
                    if sender.send_data(first).await.is_ok() {
                        gate.opened().await;
                        let _ = sender.send_data(second).await; // nobody may be left to hear it
                    }
                });
                body.boxed()
            }
            Body::BrokenOff(sent) => {
                let (mut sender, body) = Channel::new(1);
                tokio::spawn(async move {
                    if sender.send_data(sent).await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(20)).await; // so that what was sent arrives
                        sender.abort(io::ErrorKind::ConnectionReset.into());
                    }
                });
                body.boxed()
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        Ok(response)
    }
}
