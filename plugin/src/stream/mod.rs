//! One request and its response.

mod ask;
mod fetched;
mod fill;
mod forward;
mod look;
mod revalidate;
mod tell;
mod validate;
mod write;

use std::mem;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use routecache_core::cache_status::{CacheStatus, Forward};
use routecache_core::entry::{Freshness, Ticket};
use routecache_core::fetch::FETCH;
use routecache_core::fields::Fields;
use routecache_core::key::CacheKey;
use routecache_core::planted::planted;
use routecache_core::reply::Replay;
use routecache_core::request::{Plan, Wanted, Writing};

use self::tell::tell;
use crate::host::{self, Buffer, Map};
use crate::lookup::Candidate;
use crate::root::Instance;

/// See the module.
pub struct Stream {
    id: u32,
    instance: Rc<Instance>,
    state: State,
    /// It is a fetch of the filter's own.
    is_fetch: bool,
}

/// What this exchange waits for.
enum State {
    /// Nothing: no rule speaks of it, it is answered, or all that could be done is done.
    Passing,
    /// The response header, to say in it how the request was handled.
    Telling(CacheStatus),
    /// The bridge's answer about a key; the request is paused.
    Asking { question: Question, key: CacheKey, token: u32 },
    /// The answer to a fetch about what is stored; the request is paused.
    Fetching { question: Question, group: Option<bridge_api::Ticket>, token: u32 },
    /// Our own reply on its way out, to be looked at ([`Replay::look`]); with its header as it was sent.
    Replying { replay: Rc<Replay>, sent: Vec<u8> },
    /// The response header, to decide whether to store.
    Filling { question: Question, group: Option<bridge_api::Ticket> },
    /// The rest of a response that is to be stored.
    Storing(Fill),
    /// The body of a response, in whose place another one goes.
    Replacing(Vec<u8>),
    /// The response header of a write.
    Writing(Writing),
}

/// A request that no entry of this gateway answered.
struct Question {
    wanted: Wanted,
    /// Taken before anything was looked up; none when shared data couldn't be had, and then nothing is stored.
    ticket: Option<Ticket>,
    /// Those that the request alone decides.
    tags: Vec<String>,
    /// Whose groups a response may name.
    origin: (&'static str, String),
    /// Its header as the host gave it: `Vary` may ask for any of it.
    request: Vec<u8>,
    candidate: Option<Candidate>,
    why: Forward,
    detail: Option<&'static str>,
    asked_ms: u64,
    asked_wall_ms: u64,
}

/// A response on its way into the tiers.
struct Fill {
    question: Question,
    group: Option<bridge_api::Ticket>,
    accepted: Accepted,
    status: u16,
    received_ms: u64,
    header: Vec<u8>,
    body: Vec<u8>,
}

/// A response may be stored, and how.
struct Accepted {
    ticket: Ticket,
    freshness: Freshness,
    tags: Vec<String>,
}

impl Fill {
    /// The response whose header has just come.
    fn new(
        question: Question,
        group: Option<bridge_api::Ticket>,
        accepted: Accepted,
        status: u16,
        header: Vec<u8>,
    ) -> Self {
        Self { question, group, accepted, status, received_ms: host::monotonic_ms(), header, body: Vec::new() }
    }
}

impl Stream {
    /// A new exchange.
    pub fn new(id: u32, instance: Rc<Instance>) -> Self {
        Self { id, instance, state: State::Passing, is_fetch: false }
    }

    /// Answers a request, or finds out what is to be asked before it can be; and whether the group may be.
    fn begin(&mut self, fields: &Fields<'_>, end_of_stream: bool) -> (Action, Option<(Question, bool)>) {
        let instance = Rc::clone(&self.instance);
        match instance.engine.plan(fields, end_of_stream) {
            Plan::Read(mut reading) => {
                if self.is_fetch {
                    reading.wanted.is_fetched();
                }
                let now_ms = host::monotonic_ms();
                match self.look(&reading.wanted, reading.terms(), fields, now_ms) {
                    Ok(()) => return (Action::Pause, None),
                    Err(nothing) => {
                        // A fetch without a ticket could store nothing.
                        let worthwhile = !self.is_fetch || nothing.ticket.is_some();
                        match self.question(&reading, nothing, now_ms).filter(|_| worthwhile) {
                            Some(asked) => return (Action::Pause, Some(asked)),
                            None if self.is_fetch => return (self.decline(), None),
                            None => {}
                        }
                    }
                }
            }
            _ if self.is_fetch => return (self.decline(), None),
            Plan::Ignore => {}
            Plan::Bypass(reason) => {
                self.state = State::Telling(CacheStatus::forwarded(Forward::Bypass, false, Some(reason.word())));
            }
            Plan::Write(write) => self.state = State::Writing(write),
        }
        (Action::Continue, None)
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, token: u32, header_count: usize, body_len: usize, _: usize) {
        match mem::replace(&mut self.state, State::Passing) {
            State::Asking { question, key, token: asked } if asked == token => {
                self.heard(question, &key, header_count, body_len);
            }
            State::Fetching { question, group, token: asked } if asked == token => {
                self.fetched(question, group, header_count);
            }
            other => self.state = other,
        }
    }

    fn on_done(&mut self) -> bool {
        self.instance.worker.borrow_mut().held.remove(&self.id);
        // A write whose outcome nobody saw may have happened.
        let state = mem::replace(&mut self.state, State::Passing);
        if let (State::Storing(fill), true) = (&state, planted("partial_stored")) {
            self.store(fill);
        }
        if let (State::Writing(write), false) = (state, planted("unknown_outcome")) {
            let tags = self.instance.engine.purged_by(&write, None);
            if !tags.is_empty() {
                self.instance.purge(tags, None);
            }
        }
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let Some(request) = host::header_map(Map::Request) else { return Action::Continue };
        let Some(fields) = Fields::decode(&request) else { return Action::Continue };
        let (begun, request) = if fields.has(FETCH) {
            let request = self.unmask(&fields);
            (self.begin(&Fields::decode(&request).unwrap_or_default(), end_of_stream), request)
        } else {
            (self.begin(&fields, end_of_stream), request)
        };
        match begun {
            (_, Some((question, trusted))) => self.ask(Question { request, ..question }, trusted),
            (action, None) => action,
        }
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        match mem::replace(&mut self.state, State::Passing) {
            State::Telling(status) => tell(status),
            State::Filling { question, group } if self.is_fetch => {
                return self.receive_fetched(question, group, end_of_stream);
            }
            State::Filling { question, group } => return self.receive(question, group, end_of_stream),
            State::Writing(write) => return self.wrote(&write),
            State::Replying { replay, sent } => self.look_at_reply(&replay, &sent),
            // The gateway answered by itself while somebody was asked (a timeout, say), or this is our own reply.
            State::Asking { .. }
            | State::Fetching { .. }
            | State::Storing(_)
            | State::Replacing(_)
            | State::Passing => {}
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, len: usize, end_of_stream: bool) -> Action {
        match mem::replace(&mut self.state, State::Passing) {
            State::Storing(mut fill) => {
                if len > 0 {
                    match host::buffer(Buffer::ResponseBody, len) {
                        Some(chunk) => fill.body.extend_from_slice(&chunk),
                        None => return Action::Continue, // a chunk that can't be seen: not stored
                    }
                }
                if self.is_fetch {
                    // Who has asked for it takes it from the tiers.
                    host::set_buffer(Buffer::ResponseBody, b"");
                    self.state = State::Replacing(Vec::new());
                }
                if u64::try_from(fill.body.len()).is_ok_and(|len| len <= self.instance.policy().limits.body_bytes_max) {
                    if end_of_stream {
                        self.store(&fill);
                    } else {
                        self.state = State::Storing(fill);
                    }
                }
            }
            State::Replacing(body) => {
                // The whole in place of the first piece, nothing in place of the others.
                host::set_buffer(Buffer::ResponseBody, &body);
                self.state = State::Replacing(Vec::new());
            }
            other => self.state = other,
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        // A response with trailers isn't stored: they couldn't be replayed.
        self.state = State::Passing;
        Action::Continue
    }
}
