//! What leaves the gateway: forwarded requests and callouts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use tokio::time::{sleep, timeout};

use super::cluster::Cluster;
use super::exchange::pump;
use super::mail::{Mailbox, Message};
use super::pipe::{BrokenOff, Outgoing, Pipe};
use super::wire;
use crate::Headers;
use crate::abi::Direction;
use crate::commons::Frame;
use crate::failure::UpstreamFailure;
use crate::job::Job;
use crate::request::RequestId;
use crate::stream::LocalResponse;
use crate::vm::CallResponse;

/// What of a callout's answer is kept before it counts as broken off, as in Envoy (`kBufferLimitForResponse`).
const ANSWER_BYTES_MAX: usize = 32 << 20;

pub(super) const SERVICE_TIME: &str = "x-envoy-upstream-service-time";

/// A request on its way to the upstream.
pub(super) struct Forward {
    pub(super) id: RequestId,
    pub(super) cluster: Arc<Cluster>,
    pub(super) mailbox: Mailbox,
    pub(super) to_client: Pipe,
    pub(super) to_upstream: Pipe,
    /// How long the upstream may take to begin its answer, once it has the whole request.
    pub(super) timeout: Option<Duration>,
}

impl Forward {
    /// Sends it, and posts the answer to the filter as it comes.
    pub(super) async fn run(self, headers: Headers) {
        let started = Instant::now();
        let body = self.to_upstream.body(|| ());
        let Some(request) = wire::upstream_request(&headers, Outgoing::new(body)) else {
            return self.fail(UpstreamFailure::Reset);
        };
        let answer = tokio::select! {
            answer = self.cluster.send(request) => answer,
            () = self.too_late() => Err(UpstreamFailure::Timeout),
        };
        let (head, body) = match answer {
            Ok(answer) => answer.into_parts(),
            Err(failure) => return self.fail(failure),
        };
        let mut headers = wire::response_headers(head.status, &head.headers);
        headers.set(SERVICE_TIME, started.elapsed().as_millis().to_string());
        let end = body.is_end_stream();
        self.to_client.posted();
        self.post(Frame::Headers { headers, end });
        if end {
            return;
        }
        let http1 = head.version < http::Version::HTTP_2;
        if pump(body, http1, &self.to_client, |frame| self.post(frame)).await.is_err() {
            self.fail(UpstreamFailure::Cut);
        }
    }

    async fn too_late(&self) {
        match self.timeout {
            Some(timeout) => {
                self.to_upstream.over().await;
                sleep(timeout).await;
            }
            None => std::future::pending().await,
        }
    }

    fn post(&self, frame: Frame) {
        let job = Job::Frame { request: self.id, direction: Direction::Response, frame };
        self.mailbox.send(Message::Of(self.id, job));
    }

    fn fail(&self, failure: UpstreamFailure) {
        self.mailbox.send(Message::Of(self.id, Job::UpstreamFailed(self.id, failure)));
    }
}

/// Makes a callout. `None`: the answer broke off after it had begun.
pub(super) async fn call(
    cluster: Arc<Cluster>,
    headers: Headers,
    body: Vec<u8>,
    within: Option<Duration>,
) -> Option<CallResponse> {
    let started = Instant::now();
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    let Some(request) = wire::upstream_request(&headers, Outgoing::new(body.map_err(|BrokenOff| BrokenOff))) else {
        return Some(made_up(UpstreamFailure::Reset));
    };
    let deadline = async {
        match within {
            Some(within) => sleep(within).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let answer = tokio::select! {
        answer = cluster.send(request) => answer,
        () = &mut deadline => Err(UpstreamFailure::Timeout),
    };
    let (head, body) = match answer {
        Ok(answer) => answer.into_parts(),
        Err(failure) => return Some(made_up(failure)),
    };
    let (body, trailers) = tokio::select! {
        whole = collect(body) => whole?,
        // Too late for an answer of the gateway's own.
        () = &mut deadline => return None,
    };
    let mut headers = wire::response_headers(head.status, &head.headers);
    headers.set(SERVICE_TIME, started.elapsed().as_millis().to_string());
    Some(CallResponse { headers, body, trailers })
}

async fn collect(body: Incoming) -> Option<(Vec<u8>, Headers)> {
    let whole = Limited::new(body, ANSWER_BYTES_MAX).collect().await.ok()?;
    let trailers = whole.trailers().map(wire::trailers).unwrap_or_default();
    Some((whole.to_bytes().into(), trailers))
}

/// An answer that Envoy's router makes up.
fn made_up(failure: UpstreamFailure) -> CallResponse {
    let words = failure.words();
    let (headers, body) = LocalResponse::of_host(words.status.into(), words.details, words.body).encode(false, false);
    CallResponse { headers, body: body.unwrap_or_default(), trailers: Headers::new() }
}

/// Posts to a VM after a while.
pub(super) async fn later(after: Duration, mailbox: Mailbox, message: Message) {
    sleep(after).await;
    mailbox.send(message);
}

/// Waits for something, but not for ever.
pub(super) async fn at_most<T>(within: Duration, what: impl Future<Output = T>) -> Option<T> {
    timeout(within, what).await.ok()
}
