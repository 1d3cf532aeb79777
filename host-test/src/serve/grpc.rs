//! gRPC callouts: messages over HTTP/2, each behind five bytes that say whether it is compressed (it never is) and how long it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::sleep;

use super::cluster::Cluster;
use super::forward::SERVICE_TIME;
use super::mail::{Mailbox, Message};
use super::pipe::{Outgoing, Pipe};
use super::wire;
use crate::Headers;
use crate::failure::UpstreamFailure;
use crate::grpc::{self, Kind, Part};
use crate::job::Job;
use crate::upstream::Response;
use crate::vm::VmKey;

/// Bytes of a message that comes in; a longer one breaks the call off.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A gRPC call or stream of a filter.
pub(super) struct GrpcCall {
    pub(super) cluster: Arc<Cluster>,
    pub(super) mailbox: Mailbox,
    pub(super) vm: VmKey,
    pub(super) root: u32,
    pub(super) token: u32,
    pub(super) kind: Kind,
    /// What the filter sends.
    pub(super) messages: Pipe,
    pub(super) within: Option<Duration>,
}

impl GrpcCall {
    /// Makes it, and tells the filter what comes.
    pub(super) async fn run(self, headers: Headers) {
        let too_late = async {
            match self.within {
                Some(within) => sleep(within).await,
                None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            answer = self.converse(headers) => answer,
            () = too_late => Err(UpstreamFailure::Timeout),
        };
        let (answer, details) = match answer {
            Ok(answer) => (answer, grpc::ANSWERED),
            Err(failure) => (made_up(failure), failure.words().details),
        };
        if self.kind == Kind::Call {
            return self.post(grpc::of_call(&answer, details));
        }
        let trailers_only = answer.trailers.is_empty() && answer.headers.has("grpc-status");
        let is_grpc = answer.headers.status() == 200;
        self.post(Part::TrailingMetadata(match (answer.reset, trailers_only) {
            (true, _) => Headers::new(),
            _ if !is_grpc => Headers::new(),
            (false, true) => answer.headers.clone(),
            (false, false) => answer.trailers.clone(),
        }));
        self.post(grpc::ending(&answer, details));
    }

    /// Sends and receives. A stream's messages are told as they come; a call's are part of the answer.
    async fn converse(&self, headers: Headers) -> Result<Response, UpstreamFailure> {
        let started = Instant::now();
        let body = Outgoing::new(self.messages.body(|| ()));
        let sent = match wire::upstream_request(&headers, body) {
            Some(request) => self.cluster.send(request).await,
            None => Err(UpstreamFailure::Reset),
        };
        let (head, mut body) = match sent {
            Ok(answer) => answer.into_parts(),
            Err(failure) => {
                self.begin(Headers::new());
                return Err(failure);
            }
        };
        let mut answer = Response::new(head.status.as_u16());
        answer.headers = wire::response_headers(head.status, &head.headers);
        answer.headers.set(SERVICE_TIME, started.elapsed().as_millis().to_string());
        let trailers_only = body.is_end_stream() && answer.headers.has("grpc-status");
        let is_grpc = answer.headers.status() == 200;
        self.begin(if trailers_only || !is_grpc { Headers::new() } else { answer.headers.clone() });
        // What isn't gRPC has no messages.
        if !is_grpc {
            return Ok(answer);
        }
        let mut received = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(bytes)) => received.extend_from_slice(&bytes),
                Ok(Err(frame)) => {
                    answer.trailers = frame.trailers_ref().map(wire::trailers).unwrap_or_default();
                }
                Err(_) => answer.reset = true,
            }
            while let Some(message) = take_message(&mut received) {
                match self.kind {
                    Kind::Call => answer = answer.chunk(Duration::ZERO, message),
                    _ => self.post(Part::Message(message)),
                }
            }
            if answer.reset || received.len() > MESSAGE_BYTES_MAX || received.first().is_some_and(|flag| *flag != 0) {
                answer.reset = true;
                break;
            }
        }
        Ok(answer)
    }

    fn begin(&self, metadata: Headers) {
        if self.kind == Kind::Stream {
            self.post(Part::InitialMetadata(metadata));
        }
    }

    fn post(&self, part: Part) {
        self.mailbox.send(Message::To(self.vm, Job::Grpc { root: self.root, token: self.token, part }));
    }
}

/// A message as it goes over the network.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], length.to_be_bytes().as_slice(), message].concat().into()
}

/// Takes a whole, uncompressed message from what has come.
fn take_message(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (prefix, rest) = received.split_first_chunk::<5>()?;
    let [0, length @ ..] = *prefix else { return None };
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    let message = rest.get(..length)?.to_vec();
    received.drain(..5 + length);
    Some(message)
}

/// An answer that Envoy's router makes up for a gRPC request.
fn made_up(failure: UpstreamFailure) -> Response {
    let words = failure.words();
    Response::grpc_status(grpc::status_of(words.status.into()), words.body)
}

#[cfg(test)]
mod tests {
    use super::{framed, take_message};

    #[test]
    fn messages_are_cut_out_of_whatever_pieces_they_come_in() {
        let whole = [framed(b"one"), framed(b""), framed(b"three")].concat();
        for cut in 0..whole.len() {
            let (mut received, mut messages) = (Vec::new(), Vec::new());
            for piece in [&whole[..cut], &whole[cut..]] {
                received.extend_from_slice(piece);
                while let Some(message) = take_message(&mut received) {
                    messages.push(String::from_utf8(message).unwrap());
                }
            }
            assert_eq!((messages, received.len()), (vec!["one".into(), String::new(), "three".into()], 0), "{cut}");
        }
        assert_eq!(take_message(&mut vec![1, 0, 0, 0, 0]), None, "compressed");
    }
}
