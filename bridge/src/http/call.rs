//! One call: bytes to words, what it may do, and words to bytes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bridge_api::{CONTENT_TYPE, decode, encode};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Frame, SizeHint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{Shared, Surroundings};
use crate::Error;
use crate::access::{Grant, Scope};

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// A kind of call: what it is called in logs and metrics, who may make it, and whether its answer may be held.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub name: &'static str,
    pub scope: Scope,
    /// Another scope that is as good.
    pub or: Option<Scope>,
    pub held: bool,
}

impl Kind {
    pub(super) const fn new(name: &'static str, scope: Scope) -> Self {
        Self { name, scope, or: None, held: false }
    }
}

/// The body of a request, whoever hands it over.
pub(super) trait Incoming: hyper::body::Body<Data = Bytes, Error: Into<axum::BoxError>> {}

impl<B: hyper::body::Body<Data = Bytes, Error: Into<axum::BoxError>>> Incoming for B {}

/// A request that says which namespace it is about.
pub(super) trait About {
    fn namespace(&self) -> &str;
}

/// What a call came to, in a word for metrics.
pub(super) trait CameTo {
    fn outcome(&self) -> &'static str;
}

impl Surroundings {
    /// One call from body to answer.
    pub(super) async fn answer<Asked, Reply>(
        &self,
        kind: Kind,
        request: http::Request<impl Incoming>,
        work: impl AsyncFnOnce(&Shared, Asked, Bytes) -> Result<(Reply, Bytes), Error>,
    ) -> Response
    where
        Asked: DeserializeOwned + About,
        Reply: Serialize + CameTo,
    {
        let began = Instant::now();
        let shared = &*self.0;
        let took = |began: Instant| (!kind.held).then(|| began.elapsed());
        let outcome = async {
            let grant = granted(&request, &[kind.scope, kind.or.unwrap_or(kind.scope)])?;
            let _place = shared.place()?;
            let body = shared.body(request).await?;
            let (asked, payload) = decode::<Asked>(&body).map_err(|error| {
                let call = kind.name;
                Error::Malformed(format!("the body's first line isn't the JSON that `{call}` takes: {error}"))
            })?;
            grant.check_namespace(asked.namespace())?;
            if !payload.is_empty() {
                shared.metrics.came(payload.len());
            }
            work(shared, asked, body.slice_ref(payload)).await
        };
        match outcome.await {
            Ok((reply, payload)) => {
                shared.metrics.ended(kind.name, reply.outcome(), took(began));
                tracing::debug!(call = kind.name, outcome = reply.outcome(), bytes = payload.len(), "answered");
                if !payload.is_empty() {
                    shared.metrics.went(payload.len());
                }
                say(&reply, payload)
            }
            Err(error) => {
                shared.metrics.ended(kind.name, error.code(), took(began));
                refuse(kind.name, &error)
            }
        }
    }
}

/// Whoever asks, if they may make calls of one of these kinds.
pub(super) fn granted<B>(request: &http::Request<B>, scopes: &[Scope]) -> Result<Arc<Grant>, Error> {
    let grant = request.extensions().get::<Arc<Grant>>().ok_or(Error::Unauthorized)?;
    if scopes.iter().any(|scope| grant.allows(*scope)) {
        return Ok(Arc::clone(grant));
    }
    let wanted = scopes.first().map_or_else(String::new, Scope::to_string);
    Err(Error::Forbidden(format!("calls of scope `{wanted}`")))
}

pub(super) fn say(reply: &impl Serialize, payload: Bytes) -> Response {
    let mut head = encode(reply, b"");
    if !payload.is_empty() {
        head.push(b'\n');
    }
    let body = Body::new(InTwo { next: head.into(), last: payload });
    ([(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))], body).into_response()
}

pub(super) fn say_text(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], Body::from(text)).into_response()
}

/// An answer that is JSON and nothing else.
pub(super) fn say_json(reply: &impl Serialize) -> Response {
    let body = Body::from(encode(reply, b""));
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// An answer's head and payload one after the other, the payload as it came from the store: not copied behind the head.
struct InTwo {
    next: Bytes,
    last: Bytes,
}

impl hyper::body::Body for InTwo {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let last = std::mem::take(&mut self.last);
        let next = std::mem::replace(&mut self.next, last);
        Poll::Ready((!next.is_empty()).then(|| Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.next.len() + self.last.len()) as u64)
    }
}

impl Shared {
    pub(super) fn place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Error> {
        self.free.try_acquire().map_err(|_| Error::Busy(self.limits.requests))
    }

    pub(super) async fn body(&self, request: http::Request<impl Incoming>) -> Result<Bytes, Error> {
        self.body_within(request, self.limits.body_bytes).await
    }

    pub(super) async fn body_within(&self, request: http::Request<impl Incoming>, max: usize) -> Result<Bytes, Error> {
        let too_large = || Error::TooLarge(format!("the body has more than {max} bytes"));
        let announced =
            request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|bytes: u64| bytes > max as u64) {
            return Err(too_large()); // before the peer sends it all
        }
        let body = Limited::new(request.into_body(), max).collect();
        match timeout(BODY_TIME, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => Err(Error::Malformed(format!("the body broke off: {error}"))),
            Err(_) => Err(Error::Slow(BODY_TIME.as_secs())),
        }
    }
}

pub(super) fn refuse(call: &'static str, error: &Error) -> Response {
    // What the store does is told by the service, when it changes.
    tracing::debug!(call, status = error.status().as_u16(), %error, "refused");
    let body = Body::from(encode(&error.refusal(), b""));
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    let mut response = (error.status(), [kind], body).into_response();
    if matches!(error, Error::Unauthorized) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(error, Error::TooOften) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
