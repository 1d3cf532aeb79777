//! One request of a client, and the answer to it.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::access::Access;
use super::pipe::Pipe;
use super::wire;
use crate::Headers;
use crate::commons::Frame;
use crate::request::RequestId;
use crate::stream::Attributes;

/// A request that has come in.
pub(super) struct Arrival {
    pub(super) id: RequestId,
    pub(super) headers: Headers,
    pub(super) end: bool,
    pub(super) attributes: Attributes,
    pub(super) protocol: &'static str,
    /// Where the status and the header fields of the answer are waited for.
    pub(super) head: oneshot::Sender<(StatusCode, HeaderMap)>,
    pub(super) to_client: Pipe,
    pub(super) to_upstream: Pipe,
}

/// A request that a worker serves.
pub(super) struct Exchange {
    pub(super) head: Option<oneshot::Sender<(StatusCode, HeaderMap)>>,
    pub(super) to_client: Pipe,
    pub(super) to_upstream: Pipe,
    /// The task that talks to the upstream.
    pub(super) forward: Option<AbortHandle>,
    /// Whether the client has said all it will.
    pub(super) request_ended: bool,
    pub(super) began: Instant,
    pub(super) access: Access,
}

impl Exchange {
    /// How long nothing has gone in or out.
    pub(super) fn silent_since(&self) -> Instant {
        self.to_client.moved().max(self.to_upstream.moved())
    }

    /// More of the answer, for the client. False: the filter has made something of it that can't be sent.
    pub(super) fn client_gets(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::Headers { headers, end } => {
                let Some(status) = wire::status(&headers) else { return false };
                self.access.status = status.as_u16();
                self.access.cache_status = headers.get("cache-status").map(str::to_owned);
                if end {
                    self.to_client.end();
                }
                if let Some(head) = self.head.take() {
                    // Nobody waits for it where the client has gone.
                    let _ = head.send((status, wire::fields(&headers)));
                }
            }
            frame => {
                if let Frame::Data { bytes, .. } = &frame {
                    self.access.bytes_sent += bytes.len() as u64;
                }
                put(&self.to_client, frame);
            }
        }
        true
    }

    /// Lets go of both sides.
    pub(super) fn close(&mut self) {
        self.to_client.break_off();
        self.cancel_upstream();
    }

    /// The upstream's answer isn't wanted any more, nor is what else the client sends.
    pub(super) fn cancel_upstream(&mut self) {
        self.to_upstream.break_off();
        if let Some(forward) = self.forward.take() {
            forward.abort();
        }
    }
}

/// Puts body or trailers into a pipe.
pub(super) fn put(pipe: &Pipe, frame: Frame) {
    let end = match frame {
        Frame::Headers { end, .. } => end,
        Frame::Data { bytes, end } => {
            if !bytes.is_empty() {
                pipe.push(hyper::body::Frame::data(Bytes::from(bytes)));
            }
            end
        }
        Frame::Trailers(trailers) => {
            pipe.push(hyper::body::Frame::trailers(wire::fields(&trailers)));
            true
        }
    };
    if end {
        pipe.end();
    }
}

/// Reads a body piece by piece, as long as there is room in the pipe that it goes on through, and posts each piece to the filter.
///
/// # Errors
///
/// When the peer breaks off.
pub(super) async fn pump(
    mut body: Incoming,
    http1: bool,
    pipe: &Pipe,
    post: impl Fn(Frame),
) -> Result<(), hyper::Error> {
    while pipe.room().await {
        let frame = body.frame().await.transpose()?;
        let frame = match frame.map(hyper::body::Frame::into_data) {
            None => Frame::Data { bytes: Vec::new(), end: true },
            // HTTP/1 ends a body with an empty piece, as in Envoy.
            Some(Ok(bytes)) => Frame::Data { bytes: bytes.into(), end: !http1 && body.is_end_stream() },
            Some(Err(frame)) => match frame.into_trailers() {
                Ok(trailers) => Frame::Trailers(wire::trailers(&trailers)),
                Err(_) => continue,
            },
        };
        let end = matches!(frame, Frame::Data { end: true, .. } | Frame::Trailers(_));
        pipe.posted();
        post(frame);
        if end {
            break;
        }
    }
    Ok(())
}
