//! gRPC on its way to the filter, in the order in which Envoy tells of it (`Grpc::AsyncStreamImpl`).
//!
//! A call with one message hears of one message or of one status. A stream hears of the initial metadata, of each message, of the
//! trailing metadata and of the status. All of them are told to the root context.

use crate::Headers;
use crate::upstream::Response;

/// What a callout is, as its token tells (`WasmBase::CalloutType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    /// One message out, one in.
    Call,
    /// Messages both ways.
    Stream,
    /// No token has this shape.
    Unknown,
}

impl Kind {
    pub(crate) fn of(token: u32) -> Self {
        match token & 3 {
            0 => Self::Http,
            1 => Self::Call,
            2 => Self::Stream,
            _ => Self::Unknown,
        }
    }
}

/// Gives tokens out; each kind counts for itself.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    given: [u32; 3],
}

impl Tokens {
    pub(crate) fn next(&mut self, kind: Kind) -> u32 {
        let kind = match kind {
            Kind::Http | Kind::Unknown => 0,
            Kind::Call => 1,
            Kind::Stream => 2,
        };
        self.given[kind] = self.given[kind].wrapping_add(1) & (u32::MAX >> 2);
        (self.given[kind] << 2) | u32::try_from(kind).unwrap_or(0)
    }
}

/// A gRPC call or stream that a root context holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handle {
    /// The filter has sent all that it will.
    pub(crate) local_closed: bool,
    /// The status has come.
    pub(crate) remote_closed: bool,
}

/// What a filter is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    InitialMetadata(Headers),
    Message(Vec<u8>),
    TrailingMetadata(Headers),
    Close { status: u32, message: String },
}

/// Statuses that Envoy gives by itself.
pub(crate) const UNKNOWN: u32 = 2;
pub(crate) const INTERNAL: u32 = 13;

/// Envoy's `response.code_details` for an upstream that answered.
pub(crate) const ANSWERED: &str = "via_upstream";

/// For one that reset the stream within its answer.
const RESET: &str = "upstream_reset_after_response_started{remote_reset}";

/// How an answer ends. Behind the words of the status come the details, in braces if there are words (seen in Envoy 1.40).
pub(crate) fn ending(response: &Response, details: &str) -> Part {
    let http = response.headers.status();
    // The trailers, or the headers where nothing follows them.
    let fields =
        if response.chunks.is_empty() && response.trailers.is_empty() { &response.headers } else { &response.trailers };
    let told = fields.get("grpc-status").and_then(|status| status.parse().ok());
    let message = match fields.get("grpc-message") {
        Some(words) if !words.is_empty() => format!("{words}{{{details}}}"),
        _ => details.to_owned(),
    };
    match told {
        _ if response.reset => Part::Close { status: INTERNAL, message: RESET.to_owned() },
        Some(status) => Part::Close { status, message },
        None if http == 200 => Part::Close { status: UNKNOWN, message },
        None => Part::Close { status: status_of(http.into()), message },
    }
}

/// What becomes of the answer to a call with one message.
pub(crate) fn of_call(response: &Response, details: &str) -> Part {
    match ending(response, details) {
        Part::Close { status: 0, .. } => match response.chunks.first() {
            Some(chunk) => Part::Message(chunk.bytes.clone()),
            None => Part::Close { status: INTERNAL, message: String::new() },
        },
        close => close,
    }
}

/// The gRPC status that Envoy gives for an HTTP status (`Grpc::Utility::httpToGrpcStatus`).
pub(crate) fn status_of(http: u32) -> u32 {
    match http {
        400 => INTERNAL,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::{ANSWERED, Kind, Part, Response, Tokens, of_call};

    #[test]
    fn tokens_tell_their_kind_and_never_repeat() {
        let mut tokens = Tokens::default();
        let given: Vec<u32> =
            [Kind::Http, Kind::Call, Kind::Stream, Kind::Http].into_iter().map(|kind| tokens.next(kind)).collect();
        assert_eq!(given, [4, 5, 6, 8]);
        assert_eq!(
            given.into_iter().map(Kind::of).collect::<Vec<_>>(),
            [Kind::Http, Kind::Call, Kind::Stream, Kind::Http]
        );
    }

    #[test]
    fn an_answer_to_a_call_is_a_message_or_a_status() {
        let close = |status, message: &str| Part::Close { status, message: message.into() };
        for (response, want) in [
            (Response::grpc("hi"), Part::Message(b"hi".to_vec())),
            (Response::grpc_status(7, "no"), close(7, "no{via_upstream}")),
            (Response::grpc_status(0, ""), close(13, "")),
            (Response::new(404), close(12, "via_upstream")),
            (Response::new(200), close(2, "via_upstream")),
            (
                Response::ok("cut").then_reset(std::time::Duration::ZERO),
                close(13, "upstream_reset_after_response_started{remote_reset}"),
            ),
        ] {
            assert_eq!(of_call(&response, ANSWERED), want, "{response:?}");
        }
    }
}
