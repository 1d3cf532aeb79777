//! What a case consists of, for either side to play.

use std::time::Duration;

use crate::probe::on;

/// Between two pieces of a body: long enough that no busy machine glues them together.
pub const PAUSE: Duration = Duration::from_millis(100);

/// How long the gateway waits for the origin.
pub const ROUTE_TIMEOUT: Duration = Duration::from_millis(600);

/// One exchange through one filter.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    /// Callbacks that do more than tell that they were called.
    callbacks: Vec<(&'static str, &'static str)>,
    /// More functions and globals.
    others: &'static str,
    pub request: Sent,
    pub origin: Answer,
    /// What callouts get from the case's own cluster.
    pub callout: Answer,
    pub callout_timeout_ms: u32,
    /// What gRPC callouts get from another cluster of the case's own, if it has one.
    pub grpc: Option<Talk>,
    /// Envoy's `per_connection_buffer_limit_bytes`.
    pub buffer_limit: Option<u32>,
    /// Envoy's `allow_on_headers_stop_iteration`.
    pub stop_in_headers_alone: bool,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: &'static str,
    pub path: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Body,
    /// Goes away once it has this much of the answer's body.
    pub leaves_after: Option<usize>,
}

/// What an upstream does.
#[derive(Clone, Debug)]
pub enum Answer {
    Reply {
        status: u16,
        headers: Vec<(&'static str, &'static str)>,
        body: Body,
        ends: bool,
    },
    /// The connection closes before any answer.
    Close,
    /// There never is an answer.
    Hang,
    /// Headers come and one piece of body, and then nothing more.
    HangAfter(&'static str),
    /// Nobody listens.
    Refuse,
}

/// What a gRPC server does.
#[derive(Clone, Copy, Debug)]
pub enum Talk {
    /// Answers a call with this message.
    Message(&'static str),
    /// Answers with a status and its words, and nothing else.
    Status(u32, &'static str),
    /// Answers with a status of HTTP, as something does that isn't a gRPC server.
    Http(u16),
    /// Gives each message back, and status 0 once the caller has sent its last.
    Echo,
    /// Sends this message, and resets the stream.
    Cut(&'static str),
    /// There never is an answer.
    Hang,
    /// Nobody listens.
    Refuse,
}

/// A body.
#[derive(Clone, Debug)]
pub enum Body {
    None,
    /// In one piece, with its length.
    Whole(&'static str),
    /// In pieces with a [`PAUSE`] between, and trailers.
    Chunks(&'static [&'static str], &'static [(&'static str, &'static str)]),
}

impl Answer {
    pub fn ok(body: &'static str) -> Self {
        Self::Reply { status: 200, headers: vec![("x-origin", "1")], body: Body::Whole(body), ends: true }
    }

    pub fn chunks(chunks: &'static [&'static str]) -> Self {
        Self::Reply { status: 200, headers: vec![("x-origin", "1")], body: Body::Chunks(chunks, &[]), ends: true }
    }

    pub fn status(self, status: u16) -> Self {
        match self {
            Self::Reply { headers, body, ends, .. } => Self::Reply { status, headers, body, ends },
            other => other,
        }
    }

    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        if let Self::Reply { headers, .. } = &mut self {
            headers.push((name, value));
        }
        self
    }

    pub fn trailers(mut self, more: &'static [(&'static str, &'static str)]) -> Self {
        if let Self::Reply { body: Body::Chunks(_, trailers), .. } = &mut self {
            *trailers = more;
        }
        self
    }

    /// Breaks off after its last piece.
    pub fn cut(mut self) -> Self {
        if let Self::Reply { ends, .. } = &mut self {
            *ends = false;
        }
        self
    }
}

impl Case {
    pub fn new(name: &'static str) -> Self {
        let request = Sent { method: "GET", path: "/", headers: Vec::new(), body: Body::None, leaves_after: None };
        Self {
            name,
            callbacks: Vec::new(),
            others: "",
            request,
            origin: Answer::ok("menu"),
            callout: Answer::Refuse,
            callout_timeout_ms: 2000,
            grpc: None,
            buffer_limit: None,
            stop_in_headers_alone: false,
        }
    }

    /// What a callback does after it has told its arguments.
    pub fn on(mut self, callback: &'static str, body: &'static str) -> Self {
        self.callbacks.retain(|(there, _)| *there != callback);
        self.callbacks.push((callback, body));
        self
    }

    pub fn with(mut self, others: &'static str) -> Self {
        self.others = others;
        self
    }

    pub fn request(mut self, method: &'static str, path: &'static str) -> Self {
        (self.request.method, self.request.path) = (method, path);
        self
    }

    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.request.headers.push((name, value));
        self
    }

    /// Posts a body.
    pub fn post(mut self, body: Body) -> Self {
        (self.request.method, self.request.body) = ("POST", body);
        self
    }

    pub fn leaves_after(mut self, body_bytes: usize) -> Self {
        self.request.leaves_after = Some(body_bytes);
        self
    }

    pub fn origin(mut self, origin: Answer) -> Self {
        self.origin = origin;
        self
    }

    pub fn callout(mut self, callout: Answer) -> Self {
        self.callout = callout;
        self
    }

    pub fn callout_timeout(mut self, milliseconds: u32) -> Self {
        self.callout_timeout_ms = milliseconds;
        self
    }

    pub fn grpc(mut self, talk: Talk) -> Self {
        self.grpc = Some(talk);
        self
    }

    pub fn buffer_limit(mut self, bytes: u32) -> Self {
        self.buffer_limit = Some(bytes);
        self
    }

    pub fn stop_in_headers_alone(mut self) -> Self {
        self.stop_in_headers_alone = true;
        self
    }

    /// The cluster that its filter calls with `$ask`.
    pub fn cluster(&self) -> String {
        format!("asked-by-{}", self.name)
    }

    /// The cluster that its filter's gRPC callouts go to.
    pub fn grpc_cluster(&self) -> String {
        format!("talks-to-{}", self.name)
    }

    /// Whether the server can't have heard: nobody listens, or the call is called off before it has a connection.
    pub fn grpc_unheard(&self) -> bool {
        matches!(self.grpc, Some(Talk::Refuse)) || self.name.ends_with("cancelled")
    }

    /// The filter: tells of every callback of a stream, and does what the case wants.
    pub fn filter(&self) -> String {
        const TOLD: [(&str, &str, &str); 10] = [
            ("request_headers", "(call $note \"end\" (local.get $end))", "(i32.const 0)"),
            (
                "request_body",
                "(call $note \"size\" (local.get $size)) (call $note \"end\" (local.get $end))",
                "(i32.const 0)",
            ),
            ("request_trailers", "(call $note \"count\" (local.get $size))", "(i32.const 0)"),
            ("response_headers", "(call $note \"end\" (local.get $end))", "(i32.const 0)"),
            (
                "response_body",
                "(call $note \"size\" (local.get $size)) (call $note \"end\" (local.get $end))",
                "(i32.const 0)",
            ),
            ("response_trailers", "(call $note \"count\" (local.get $size))", "(i32.const 0)"),
            (
                "http_call_response",
                "(call $note \"headers\" (local.get $headers)) (call $note \"size\" (local.get $size))
                 (call $note \"trailers\" (local.get $trailers))",
                "",
            ),
            ("log", "", ""),
            ("done", "", "(i32.const 1)"),
            ("delete", "", ""),
        ];
        let body = |name: &str| self.callbacks.iter().find(|(callback, _)| *callback == name).map(|(_, body)| *body);
        let mut functions: String = TOLD
            .iter()
            .map(|(name, told, otherwise)| {
                let body = body(name).unwrap_or(otherwise);
                on(name, &format!("(call $say \"{name}\")\n{told}\n{body}"))
            })
            .collect();
        let quiet = self.callbacks.iter().filter(|(name, _)| TOLD.iter().all(|(told, ..)| told != name));
        functions.extend(quiet.map(|(name, body)| on(name, body)));
        let (cluster, grpc, timeout) = (self.cluster(), self.grpc_cluster(), self.callout_timeout_ms);
        functions += &format!(
            "(global $held (mut i32) (i32.const 0))
             (global $before (mut i32) (i32.const 0))
             (func $number (param i32 i32)
            (local $status i32)
            (local.set $status (call $get_property (local.get 0) (local.get 1) (i32.const 0) (i32.const 4)))
            (if (local.get $status) (then (call $note \"status\" (local.get $status)) (return)))
            (call $note \"bytes\" (i32.load (i32.const 4)))
            (call $note \"number\" (i32.load (i32.load (i32.const 0)))))
             (func $hold (param i32) (result i32) (global.set $held (local.get 0)) (i32.const 1))
             (func $ask
                (call $note \"asked\" (call $http_call \"{cluster}\" CALL_HEADERS \"ask\"
                    (i32.const 0) (i32.const 0) (i32.const {timeout}) (i32.const 8))))
             (func $grpc_ask
                (call $note \"grpc asked\" (call $grpc_call \"{grpc}\" \"a.B\" \"C\" (i32.const 0) (i32.const 0) \"who\" (i32.const {timeout}) (i32.const 8))))
             (func $grpc_open
                (call $note \"grpc opened\" (call $grpc_stream \"{grpc}\" \"a.B\" \"D\" (i32.const 0) (i32.const 0) (i32.const 8))))\n"
        );
        functions + self.others
    }
}
