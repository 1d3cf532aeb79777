//! The calls over HTTP: bytes to words and back. Every answer carries the marker, a refusal too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bridge_api::{CONTENT_TYPE, FEED, LOOKUP, MARKER, PURGE, RELEASE, STORE, VERSION, WAIT, decode, encode};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::{Error, Limits, Service};

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Calls {
    service: Service,
    limits: Limits,
    free: Arc<Semaphore>,
}

pub(crate) fn router(service: Service, limits: Limits) -> Router {
    let free = Arc::new(Semaphore::new(limits.requests));
    Router::new()
        .route(LOOKUP, post(lookup))
        .route(STORE, post(store))
        .route(PURGE, post(purge))
        .route(FEED, post(feed))
        .route(WAIT, post(wait))
        .route(RELEASE, post(release))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .fallback(async |request: Request| refuse("none", &Error::NotFound(request.uri().path().to_owned())))
        .method_not_allowed_fallback(async || refuse("none", &Error::MethodNotAllowed))
        .layer(map_response(mark))
        .with_state(Calls { service, limits, free })
}

async fn mark(mut response: Response) -> Response {
    response.headers_mut().insert(MARKER, HeaderValue::from_static(VERSION));
    response
}

async fn lookup(State(calls): State<Calls>, request: Request) -> Response {
    let work = async |asked, _| calls.service.lookup(&asked).await;
    calls.answer("lookup", request, work).await
}

async fn store(State(calls): State<Calls>, request: Request) -> Response {
    let work = async |asked, payload| calls.service.store(asked, payload).await.map(bare);
    calls.answer("store", request, work).await
}

async fn purge(State(calls): State<Calls>, request: Request) -> Response {
    let work = async |asked, _| calls.service.purge(&asked).await.map(bare);
    calls.answer("purge", request, work).await
}

async fn feed(State(calls): State<Calls>, request: Request) -> Response {
    let work = async |asked, _| calls.service.feed(&asked).await.map(bare);
    calls.answer("feed", request, work).await
}

async fn wait(State(calls): State<Calls>, request: Request) -> Response {
    let work = async |asked, _| calls.service.wait(asked).await.map(bare);
    calls.answer("wait", request, work).await
}

async fn release(State(calls): State<Calls>, request: Request) -> Response {
    let work = async |asked, _| calls.service.release(&asked).await.map(bare);
    calls.answer("release", request, work).await
}

async fn readyz(State(calls): State<Calls>) -> Response {
    match calls.service.ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => refuse("ready", &error),
    }
}

/// A reply that carries no stored bytes.
fn bare<T>(reply: T) -> (T, Bytes) {
    (reply, Bytes::new())
}

impl Calls {
    /// One call from body to answer. Health isn't counted: a busy bridge is alive.
    async fn answer<Asked, Reply>(
        &self,
        call: &'static str,
        request: Request,
        work: impl AsyncFnOnce(Asked, Bytes) -> Result<(Reply, Bytes), Error>,
    ) -> Response
    where
        Asked: DeserializeOwned,
        Reply: Serialize,
    {
        let began = Instant::now();
        let outcome = async {
            let _place = self.free.try_acquire().map_err(|_| Error::Busy(self.limits.requests))?;
            let body = self.body(request).await?;
            let (asked, payload) = decode(&body).map_err(|error| {
                Error::Malformed(format!("the body's first line isn't the JSON that `{call}` takes: {error}"))
            })?;
            work(asked, body.slice_ref(payload)).await
        };
        match outcome.await {
            Ok((reply, payload)) => {
                tracing::debug!(call, elapsed_us = began.elapsed().as_micros(), bytes = payload.len(), "answered");
                let body = Body::from(encode(&reply, &payload));
                ([(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))], body).into_response()
            }
            Err(error) => refuse(call, &error),
        }
    }

    async fn body(&self, request: Request) -> Result<Bytes, Error> {
        let max = self.limits.body_bytes;
        let too_large = || Error::TooLarge(format!("the body has more than {max} bytes; see `--max-body-bytes`"));
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

fn refuse(call: &'static str, error: &Error) -> Response {
    // What the store does is told by the service, when it changes.
    tracing::debug!(call, status = error.status().as_u16(), %error, "refused");
    let body = Body::from(encode(&error.refusal(), b""));
    (error.status(), [(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))], body).into_response()
}
