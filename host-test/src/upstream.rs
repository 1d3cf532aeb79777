//! Scripted upstreams: the origin behind the gateway, and the clusters that callouts go to.

use std::time::Duration;

use crate::abi::Status;
use crate::message::{Chunk, message_builders};
use crate::{Headers, RequestId, Thread};

/// Names one request that reached a scripted upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u64);

/// What a [`Call`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// An HTTP request: forwarded, or a callout.
    Http,
    /// A gRPC callout with one message, which is the call's body as it is: frames aren't shown.
    GrpcCall,
    /// A gRPC stream that was opened. Its messages come to [`Upstream::grpc_message`].
    GrpcStream,
}

/// A request that reached a scripted upstream: one that the gateway forwarded, or a callout of a filter.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name, to answer it later.
    pub id: CallId,
    /// The client's request that was forwarded; `None` for a callout.
    pub request: Option<RequestId>,
    /// What it is.
    pub kind: CallKind,
    /// Which cluster was called; `origin` for a forwarded request.
    pub cluster: String,
    /// Which gateway calls.
    pub gateway: usize,
    /// Which of its threads.
    pub thread: Thread,
    /// When it arrived, or its headers did, on the world's monotonic clock.
    pub at: Duration,
    /// The wall clock then, since 1970.
    pub wall: Duration,
    /// Its header lines, pseudo-headers among them.
    pub headers: Headers,
    /// Its body, as far as it has come.
    pub body: Vec<u8>,
    /// When each piece of a forwarded body arrived, and how many bytes it had.
    pub pieces: Vec<(Duration, usize)>,
    /// Its trailer lines.
    pub trailers: Headers,
    /// Whether all of it has arrived.
    pub whole: bool,
    /// How long the gateway waits for an answer once all of it has arrived; `None` for ever.
    pub timeout: Option<Duration>,
}

impl Call {
    /// `:method`.
    pub fn method(&self) -> &str {
        self.headers.get(":method").unwrap_or("")
    }

    /// `:path`, with the query.
    pub fn path(&self) -> &str {
        self.headers.get(":path").unwrap_or("")
    }

    /// The field's first line; `None` where it is absent or not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The body as text, bytes that aren't UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A scripted upstream. Closures from `&Call` to anything that becomes a [`Reply`] can be given to the builder directly;
/// implement this to answer a call while another one comes in (long polls).
pub trait Upstream {
    /// Answers a call that has arrived as a whole, at once, after a while, or by keeping it for later.
    fn call(&mut self, call: &Call, kept: &mut Kept) -> Reply;

    /// Hears of a forwarded request whose headers have arrived and whose body is on its way: an answer given here doesn't wait for the
    /// rest, and [`call`](Self::call) isn't asked any more.
    fn begins(&mut self, call: &Call, kept: &mut Kept) -> Option<Reply> {
        let _ = (call, kept);
        None
    }

    /// Hears a message on a gRPC stream that is open, or (`None`) only that the filter will send no more; says what follows on it,
    /// if anything. Each chunk of a response is a message; one with [`Response::grpc_status`] closes the stream.
    fn grpc_message(&mut self, stream: &Call, message: Option<&[u8]>, end: bool, kept: &mut Kept) -> Option<Response> {
        let _ = (stream, message, end, kept);
        None
    }
}

/// Answers to calls that were kept with [`Reply::later`], given while another call is being answered.
#[derive(Debug, Default)]
pub struct Kept {
    pub(crate) answers: Vec<(CallId, Reply)>,
}

impl Kept {
    /// Answers a kept call. Nothing happens if it was answered before, timed out or was called off.
    pub fn answer(&mut self, call: CallId, reply: impl Into<Reply>) {
        self.answers.push((call, reply.into()));
    }
}

pub(crate) struct Closure<F>(pub(crate) F);

impl<F, R> Upstream for Closure<F>
where
    F: FnMut(&Call) -> R,
    R: Into<Reply>,
{
    fn call(&mut self, call: &Call, _kept: &mut Kept) -> Reply {
        (self.0)(call).into()
    }
}

/// What becomes of a call.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(crate) fate: Fate,
    pub(crate) after: Duration,
    pub(crate) background: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Response(Response),
    Refuse(Status),
    ConnectFailure,
    Reset,
    Hang,
    Later { otherwise: Option<(Duration, Response)> },
}

impl Reply {
    fn of(fate: Fate) -> Self {
        Self { fate, after: Duration::ZERO, background: false }
    }

    /// The callout is refused while the filter makes it, and no callback follows: `BadArgument` as for an unknown cluster,
    /// `InternalFailure` as for one without a healthy host. A forwarded request sees a connect failure.
    pub fn refuse(status: Status) -> Self {
        Self::of(Fate::Refuse(status))
    }

    /// No connection: Envoy answers 503 with a body of its own.
    pub fn connect_failure() -> Self {
        Self::of(Fate::ConnectFailure)
    }

    /// The connection breaks before the answer's headers: Envoy answers 503 with a body of its own. (After them, see
    /// [`Response::then_reset`]: only then does a callout's callback hear of 0 headers.)
    pub fn reset() -> Self {
        Self::of(Fate::Reset)
    }

    /// No answer ever: Envoy answers 504 after the timeout, if there is one.
    pub fn hang() -> Self {
        Self::of(Fate::Hang)
    }

    /// Keeps the call, to be answered with [`World::complete`](crate::World::complete) or [`Kept::answer`]. The gateway's timeout
    /// runs on.
    pub fn later() -> Self {
        Self { background: true, ..Self::of(Fate::Later { otherwise: None }) }
    }

    /// Keeps the call like [`Reply::later`], and answers it so if nothing else did within `hold`: a long poll.
    pub fn later_or(hold: Duration, otherwise: Response) -> Self {
        Self { background: true, ..Self::of(Fate::Later { otherwise: Some((hold, otherwise)) }) }
    }

    /// The response, if it is one that comes by itself.
    pub(crate) fn response(&self) -> Option<&Response> {
        match &self.fate {
            Fate::Response(response) => Some(response),
            _ => None,
        }
    }

    /// Changes the response, if it is one.
    pub(crate) fn map_response(mut self, change: impl FnOnce(Response) -> Response) -> Self {
        match self.fate {
            Fate::Response(response) => self.fate = Fate::Response(change(response)),
            Fate::Later { otherwise: Some((hold, response)) } => {
                self.fate = Fate::Later { otherwise: Some((hold, change(response))) };
            }
            other => self.fate = other,
        }
        self
    }

    /// Takes this long to begin.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = delay;
        self
    }

    /// Says that nobody waits for this: [`World::run_until_idle`](crate::World::run_until_idle) may stop before it comes.
    #[must_use]
    pub fn background(mut self) -> Self {
        self.background = true;
        self
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::of(Fate::Response(response))
    }
}

/// An answer of a scripted upstream.
///
/// Interim (1xx) answers aren't here: Envoy doesn't show them to filters.
#[derive(Clone, Debug)]
pub struct Response {
    pub(crate) headers: Headers,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) trailers: Headers,
    pub(crate) after: Duration,
    /// How long after the last chunk the end, or the reset, comes.
    pub(crate) ends_after: Duration,
    pub(crate) reset: bool,
    pub(crate) last_chunk_ends: bool,
}

impl Response {
    message_builders!();

    /// An answer without a body.
    pub fn new(status: u16) -> Self {
        Self {
            headers: [(":status", status.to_string())].into_iter().collect(),
            chunks: Vec::new(),
            trailers: Headers::new(),
            after: Duration::ZERO,
            ends_after: Duration::ZERO,
            reset: false,
            last_chunk_ends: false,
        }
    }

    /// 200 with this body.
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::new(200).body(body)
    }

    /// A gRPC answer: one message, and status 0.
    pub fn grpc(message: impl AsRef<[u8]>) -> Self {
        Self {
            chunks: vec![Chunk { after: Duration::ZERO, bytes: message.as_ref().to_vec() }],
            ..Self::grpc_messages()
        }
        .trailer("grpc-status", "0")
    }

    /// A gRPC answer that is a status, with its message, and nothing else.
    pub fn grpc_status(status: u32, message: &str) -> Self {
        let response = Self::grpc_messages().header("grpc-status", status.to_string());
        if message.is_empty() { response } else { response.header("grpc-message", message) }
    }

    /// Some messages on a gRPC stream, which stays open: each [`chunk`](Self::chunk) is one. A trailer `grpc-status` closes it.
    pub fn grpc_messages() -> Self {
        Self::new(200).header("content-type", "application/grpc")
    }

    /// Says the status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.headers.set(":status", status.to_string());
        self
    }

    /// Takes this long to begin.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = delay;
        self
    }

    /// Breaks off after what was said so far, instead of ending.
    #[must_use]
    pub fn then_reset(mut self, after: Duration) -> Self {
        self.ends_after = after;
        self.reset = true;
        self
    }

    /// As long as before, but no byte of the body is right.
    pub(crate) fn garbled(mut self) -> Self {
        for chunk in &mut self.chunks {
            for byte in &mut chunk.bytes {
                *byte = !*byte;
            }
        }
        self
    }

    /// How long it takes from its begin to its end.
    pub(crate) fn takes(&self) -> Duration {
        self.after + self.chunks.iter().map(|chunk| chunk.after).sum::<Duration>() + self.ends_after
    }

    /// Each piece of body comes this much later.
    pub(crate) fn slowed(mut self, by: Duration) -> Self {
        self.chunks.iter_mut().for_each(|chunk| chunk.after += by);
        self
    }

    /// So many bytes longer, and its `content-length` with it.
    pub(crate) fn longer(mut self, bytes: usize) -> Self {
        self.chunks.push(Chunk { after: Duration::ZERO, bytes: vec![b'.'; bytes] });
        if self.headers.has("content-length") {
            let length: usize = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
            self.headers.set("content-length", length.to_string());
        }
        self
    }

    /// Marks the last piece of body as the end, as HTTP/2 upstreams may. Otherwise an empty piece ends the body, as with
    /// HTTP/1 upstreams.
    #[must_use]
    pub fn last_chunk_ends(mut self) -> Self {
        self.last_chunk_ends = true;
        self
    }
}
