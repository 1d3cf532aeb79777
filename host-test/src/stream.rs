//! One HTTP exchange as a filter of Envoy's chain holds it: two halves, each with what is withheld and what is visible.

use std::collections::BTreeMap;

use crate::abi::{Direction, Status};
use crate::grpc::status_of;
use crate::{Headers, RequestId};

/// Whether parts of a message pass the filter (`FilterManager`'s `IterationState`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Iteration {
    #[default]
    Going,
    /// `StopSingleIteration`: callbacks go on, what they are shown isn't passed on.
    Stopped,
    /// `StopAllBuffer` and `StopAllWatermark`: callbacks wait too.
    StoppedAll,
}

/// One direction of an exchange.
#[derive(Debug, Default)]
pub(crate) struct Half {
    /// The header lines, kept after they have passed for properties and the access log.
    pub(crate) headers: Option<Headers>,
    pub(crate) trailers: Option<Headers>,
    /// Body that a paused filter holds back (`bufferedData`).
    pub(crate) buffer: Option<Vec<u8>>,
    /// The piece of body that a body callback is being shown.
    pub(crate) chunk: Vec<u8>,
    pub(crate) iteration: Iteration,
    /// Whether the headers have passed the filter.
    pub(crate) headers_passed: bool,
    /// Whether the sender's end has been seen, though perhaps not passed on.
    pub(crate) end_seen: bool,
    /// Whether nothing more is to pass.
    pub(crate) over: bool,
    /// Which maps the module may touch: those of the running phase, or of the one it is paused in.
    pub(crate) headers_visible: bool,
    pub(crate) trailers_visible: bool,
    /// Whether the last body callback paused, so that the whole buffer is visible and the next piece joins it.
    pub(crate) buffering: bool,
    /// Whether a body callback is running.
    pub(crate) in_body: bool,
    /// Bytes of body that arrived, and that passed.
    pub(crate) body_bytes: u64,
    pub(crate) passed_bytes: u64,
    /// Whether the filter has changed the body.
    pub(crate) changed: bool,
}

impl Half {
    /// The body that the module may see now.
    pub(crate) fn body(&mut self) -> Option<&mut Vec<u8>> {
        if self.buffering {
            Some(self.buffer.get_or_insert_default())
        } else if self.in_body {
            Some(&mut self.chunk)
        } else {
            None
        }
    }

    /// Puts what a body callback was shown behind what is held back already.
    pub(crate) fn hold_back(&mut self, mut chunk: Vec<u8>) {
        self.buffer.get_or_insert_default().append(&mut chunk);
    }
}

/// How an answer of the filter's own stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LocalReply {
    #[default]
    None,
    /// Asked for, and sent once the callback has returned.
    Asked,
    Sent,
}

/// What is known of a stream beside its messages, as properties: paths whose parts are separated by zero bytes.
pub(crate) type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// A stream context.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) request: RequestId,
    pub(crate) root: u32,
    pub(crate) requesting: Half,
    pub(crate) responding: Half,
    pub(crate) local_reply: LocalReply,
    /// Whether some headers of a response, from wherever, have entered the filter chain.
    pub(crate) response_started: bool,
    /// Whether the client has got headers.
    pub(crate) response_sent: bool,
    pub(crate) is_head: bool,
    /// Envoy's words for where the response came from.
    pub(crate) details: String,
    /// Envoy's `response.flags`.
    pub(crate) flags: u64,
    pub(crate) filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) attributes: Attributes,
    /// The access log phase: all maps are readable.
    pub(crate) logging: bool,
    /// Nothing more happens but the last callbacks.
    pub(crate) ended: bool,
    /// Whether the client got the whole response.
    pub(crate) whole: bool,
    /// Whether the VM failed, and the client was told.
    pub(crate) failed: bool,
    /// Time since 1970 when it began, in nanoseconds.
    pub(crate) started_wall: u64,
}

impl Stream {
    pub(crate) fn new(request: RequestId, root: u32, headers: &Headers, started_wall: u64) -> Self {
        Self {
            request,
            root,
            requesting: Half::default(),
            responding: Half::default(),
            local_reply: LocalReply::None,
            response_started: false,
            response_sent: false,
            is_head: headers.get(":method") == Some("HEAD"),
            details: String::new(),
            flags: 0,
            filter_state: BTreeMap::new(),
            attributes: Attributes::new(),
            logging: false,
            ended: false,
            whole: false,
            failed: false,
            started_wall,
        }
    }
}

impl Stream {
    pub(crate) fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Request => &self.requesting,
            Direction::Response => &self.responding,
        }
    }

    pub(crate) fn half_mut(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Request => &mut self.requesting,
            Direction::Response => &mut self.responding,
        }
    }

    /// The header lines that the module may see now.
    pub(crate) fn visible_headers(&self, direction: Direction) -> Option<&Headers> {
        let half = self.half(direction);
        half.headers.as_ref().filter(|_| half.headers_visible || self.logging)
    }

    /// The trailer lines that the module may see now.
    pub(crate) fn visible_trailers(&self, direction: Direction) -> Option<&Headers> {
        let half = self.half(direction);
        // The access log isn't shown the request's.
        let logged = self.logging && direction == Direction::Response;
        half.trailers.as_ref().filter(|_| half.trailers_visible || logged)
    }
}

/// What `proxy_send_local_response` asked for.
#[derive(Debug)]
pub(crate) struct LocalResponse {
    pub(crate) status: u32,
    pub(crate) details: String,
    pub(crate) body: Vec<u8>,
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) grpc_status: Option<u32>,
}

impl LocalResponse {
    /// One of Envoy's own.
    pub(crate) fn of_host(status: u32, details: &str, body: &str) -> Self {
        let body = body.as_bytes().to_vec();
        Self { status, details: details.to_owned(), body, headers: Vec::new(), grpc_status: None }
    }

    /// The complete headers, and the body that goes with them, as Envoy's `Utility::prepareLocalReply` and `encodeLocalReply` make them.
    pub(crate) fn encode(self, is_grpc: bool, is_head: bool) -> (Headers, Option<Vec<u8>>) {
        let mut headers = Headers::new();
        if is_grpc {
            headers.add(":status", "200");
            headers.add("content-type", "application/grpc");
            for (name, value) in self.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"content-length")) {
                // Its own fields stand; the ones that gRPC needs win.
                if !headers.has(&String::from_utf8_lossy(name)) {
                    headers.add(name, value);
                }
            }
            if !headers.has("grpc-status") {
                headers.add("grpc-status", self.grpc_status.unwrap_or_else(|| status_of(self.status)).to_string());
            }
            if !self.body.is_empty() && !is_head {
                headers.add("grpc-message", percent_encoded(&self.body));
            }
            return (headers, None);
        }
        headers.add(":status", self.status.to_string());
        for (name, value) in &self.headers {
            headers.add(name, value);
        }
        if self.body.is_empty() {
            headers.remove("content-length");
            headers.remove("content-type");
            return (headers, None);
        }
        headers.set("content-length", self.body.len().to_string());
        if !headers.has("content-type") {
            headers.add("content-type", "text/plain");
        }
        (headers, (!is_head).then_some(self.body))
    }
}

/// A text as `grpc-message` carries it, without a line break at its end.
fn percent_encoded(text: &[u8]) -> Vec<u8> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let encode = |byte: &u8| match byte {
        b' '..=b'~' if *byte != b'%' => vec![*byte],
        other => format!("%{other:02X}").into_bytes(),
    };
    text.iter().flat_map(encode).collect()
}

/// What the set-buffer rules make of a replacement: `start` 0 drains `length` bytes and puts the new ones before the rest, `start` at
/// or past the end appends, and anything between is refused.
pub(crate) fn set_buffer(buffer: &mut Vec<u8>, start: u32, length: u32, data: &[u8]) -> Result<(), Status> {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    if start == 0 {
        let drained = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        buffer.splice(..drained, data.iter().copied());
        Ok(())
    } else if start >= buffer.len() {
        buffer.extend_from_slice(data);
        Ok(())
    } else {
        Err(Status::BadArgument)
    }
}

#[cfg(test)]
mod tests {
    use super::{LocalResponse, Status, set_buffer};

    /// facts: cpp-host `BufferBase::copyFrom`.
    #[test]
    fn a_buffer_is_drained_from_its_start_or_extended_at_its_end() {
        for (start, length, want) in [
            (0, 2, Ok("XYc")),
            (0, 0, Ok("XYabc")),
            (0, u32::MAX, Ok("XY")),
            (3, 0, Ok("abcXY")),
            (9, 9, Ok("abcXY")),
            (1, 1, Err(Status::BadArgument)),
        ] {
            let mut buffer = b"abc".to_vec();
            let outcome =
                set_buffer(&mut buffer, start, length, b"XY").map(|()| String::from_utf8_lossy(&buffer).into_owned());
            assert_eq!(outcome, want.map(str::to_owned), "start {start}, length {length}");
        }
    }

    /// facts: Envoy's `prepareLocalReply` (hosts.md §11).
    #[test]
    fn a_local_reply_gets_its_length_and_type_from_its_body() {
        let reply = |body: &str, headers: &[(&str, &str)]| LocalResponse {
            headers: headers
                .iter()
                .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
                .collect(),
            ..LocalResponse::of_host(200, "", body)
        };
        let (headers, body) = reply("hit", &[("content-length", "99"), ("x", "1"), ("x", "2")]).encode(false, false);
        assert_eq!((headers.get("content-length"), headers.get("content-type")), (Some("3"), Some("text/plain")));
        assert_eq!((headers.all("x"), body), (vec!["1".into(), "2".into()], Some(b"hit".to_vec())));
        let (headers, body) = reply("hit", &[("content-type", "a/b")]).encode(false, true);
        assert_eq!(
            (headers.get("content-length"), headers.get("content-type"), body),
            (Some("3"), Some("a/b"), None),
            "HEAD"
        );
        let (headers, _) = reply("", &[("content-length", "9"), ("content-type", "a/b")]).encode(false, false);
        assert!(!headers.has("content-length") && !headers.has("content-type"));
    }
}
