//! One request and its response.

mod ask;
mod fill;
mod forward;
mod look;
mod tell;
mod validate;
mod write;

use std::mem;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use routecache_core::cache_status::{CacheStatus, Forward};
use routecache_core::entry::{Freshness, Ticket};
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
}

/// What this exchange waits for.
enum State {
    /// Nothing: no rule speaks of it, it is answered, or all that could be done is done.
    Passing,
    /// The response header, to say in it how the request was handled.
    Telling(CacheStatus),
    /// The bridge's answer about a key; the request is paused.
    Asking { question: Question, key: CacheKey, token: u32 },
    /// Our own reply on its way out, to be looked at ([`Replay::look`]); with its header as it was sent.
    Replying { replay: Rc<Replay>, sent: Vec<u8> },
    /// The response header, to decide whether to store.
    Filling { question: Question, group: Option<bridge_api::Ticket> },
    /// The rest of a response that is to be stored.
    Storing(Fill),
    /// The body of an error, in whose place a stored one goes.
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
    ticket: Ticket,
    status: u16,
    freshness: Freshness,
    tags: Vec<String>,
    received_ms: u64,
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Stream {
    /// A new exchange.
    pub fn new(id: u32, instance: Rc<Instance>) -> Self {
        Self { id, instance, state: State::Passing }
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, token: u32, header_count: usize, body_len: usize, _: usize) {
        match mem::replace(&mut self.state, State::Passing) {
            State::Asking { question, key, token: asked } if asked == token => {
                self.heard(question, &key, header_count, body_len);
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
        let instance = Rc::clone(&self.instance);
        let asked = match instance.engine.plan(&fields, end_of_stream) {
            Plan::Ignore => None,
            Plan::Bypass(reason) => {
                self.state = State::Telling(CacheStatus::forwarded(Forward::Bypass, false, Some(reason.word())));
                None
            }
            Plan::Write(write) => {
                self.state = State::Writing(write);
                None
            }
            Plan::Read(reading) => {
                let now_ms = host::monotonic_ms();
                match self.look(&reading.wanted, reading.terms(), &fields, now_ms) {
                    Ok(()) => return Action::Pause,
                    Err(nothing) => self.question(&reading, nothing, now_ms),
                }
            }
        };
        match asked {
            Some((question, trusted)) => self.ask(Question { request, ..question }, trusted),
            None => Action::Continue,
        }
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        match mem::replace(&mut self.state, State::Passing) {
            State::Telling(status) => tell(status),
            State::Filling { question, group } => return self.receive(question, group, end_of_stream),
            State::Writing(write) => return self.wrote(&write),
            State::Replying { replay, sent } => self.look_at_reply(&replay, &sent),
            // The gateway answered by itself while the bridge was asked (a timeout, say), or this is our own reply.
            State::Asking { .. } | State::Storing(_) | State::Replacing(_) | State::Passing => {}
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
