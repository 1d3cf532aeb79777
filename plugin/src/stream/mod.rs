//! One request and its response.

mod ask;
mod collapse;
mod fetched;
mod fill;
mod forward;
mod gather;
mod handle;
mod look;
mod read;
mod revalidate;
mod straight;
mod tell;
mod validate;
mod write;

use std::mem;
use std::rc::Rc;

use bridge_api::ReleaseRequest;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use routecache_core::cache_status::{CacheStatus, Forward};
use routecache_core::entry::{Freshness, Ticket};
use routecache_core::fetch::{FETCH, Manner};
use routecache_core::fields::Fields;
use routecache_core::flights::Outcome;
use routecache_core::key::CacheKey;
use routecache_core::planted::planted;
use routecache_core::policy::Lock;
use routecache_core::reply::Replay;
use routecache_core::request::{Body, Writing};
use routecache_core::reuse::Wanted;
use routecache_core::template::Around;

use self::collapse::Part;
use self::gather::Gathered;
pub use self::handle::{Handle, park};
use self::straight::Straight;
pub use self::tell::tell;
use self::write::Write;
use crate::bridge::{self, GroupTicket};
use crate::fetch::{self, Fetch};
use crate::host::{self, Buffer, Map};
use crate::lookup::Candidate;
use crate::root::Instance;
use crate::worker::Job;

/// See the module.
pub struct Stream {
    id: u32,
    instance: Rc<Instance>,
    state: State,
    /// For whom it is, if it is a fetch of the filter's own.
    fetched_for: Option<Manner>,
    /// Where it goes, if it is one that no stream of the host's carries.
    straight: Option<Straight>,
    /// What is to be read again when its response is out.
    recaches: Vec<Fetch>,
    /// The fetch that this exchange takes part in, with others or alone.
    flight: Option<Flight>,
    /// Whether its own fetch is one of those that are counted.
    counted: bool,
}

/// A fetch, as one of those sees it who take part.
struct Flight {
    /// [`Nothing::flight`](look::Nothing::flight).
    key: u64,
    lock: Lock,
    part: Part,
    /// When this exchange stops waiting, in milliseconds.
    until_ms: u64,
    /// When its own fetch began, in milliseconds.
    began_ms: u64,
    /// Whether it fetches for the others.
    holds: bool,
    /// What gives back the lease that it has in the group, as far as it knows: an answer that says so may have been lost. The holder is
    /// this fetch, since a worker may have several.
    leased: Option<ReleaseRequest>,
    /// Why it would have been forwarded, if it has waited.
    waited: Option<Forward>,
    /// When the fetch began whose end has woken it.
    landed_ms: Option<u64>,
    /// How often it was woken and found nothing.
    rounds: u8,
}

/// What this exchange waits for.
enum State {
    /// Nothing: no rule speaks of it, it is answered, or all that could be done is done.
    Passing,
    /// The response header, to say in it how the request was handled.
    Telling(CacheStatus),
    /// The bridge's answer about a key; the request is paused.
    Asking { question: Question, key: CacheKey, token: u32 },
    /// The end of another gateway's fetch, of which the bridge will tell; the request is paused.
    AskingLater { question: Question, token: u32 },
    /// To be woken ([`Stream::woken`]) when another request's fetch ends; the request is paused.
    Waiting(Question),
    /// To be woken when fewer fetches are under way; the request is paused.
    Queueing { question: Question, group: Option<GroupTicket> },
    /// The answer to a fetch about what is stored; the request is paused. Without a token, the root context fetches, and
    /// wakes it.
    Fetching { question: Question, group: Option<GroupTicket>, token: Option<u32> },
    /// The origin's response to a fetch that goes straight there.
    Fetched { question: Question, group: Option<GroupTicket>, token: u32 },
    /// Our own reply on its way out, to be looked at ([`Replay::look`]); with its header as it was sent.
    Replying { replay: Rc<Replay>, sent: Vec<u8> },
    /// The response header, to decide whether to store.
    Filling { question: Question, group: Option<GroupTicket> },
    /// The rest of a response that is to be stored.
    Storing(Fill),
    /// The body of a response, in whose place another one goes.
    Replacing(Vec<u8>),
    /// The body of a read whose key holds it; the request is paused. With its header.
    Reading { request: Vec<u8>, body: Gathered },
    /// The response header of a write.
    Writing(Write),
    /// The end of a purge, for which a write's response is held.
    Held,
    /// The body of a write's response, which says what it purges.
    Answered { writing: Writing, body: Gathered },
}

impl State {
    /// Whether the request goes on when something has been heard.
    fn is_paused(&self) -> bool {
        matches!(
            self,
            Self::Asking { .. }
                | Self::AskingLater { .. }
                | Self::Waiting(_)
                | Self::Queueing { .. }
                | Self::Fetching { .. }
        )
    }
}

/// A request that no entry of this gateway answered.
struct Question {
    wanted: Wanted,
    /// Keys that the group is still to be asked about, the last one first.
    elsewhere: Vec<CacheKey>,
    /// Taken before anything was looked up; none when shared data couldn't be had, and then nothing is stored.
    ticket: Option<Ticket>,
    /// Those that the request alone decides.
    tags: Vec<String>,
    /// Those that the response decides too, but for what it says.
    around: Vec<Around>,
    /// The target to forward, where it isn't the client's.
    target: Option<String>,
    /// How often this worker was asked for it lately.
    uses: u8,
    /// Whose groups a response may name.
    origin: (&'static str, String),
    /// Its header as the host gave it: `Vary` may ask for any of it.
    request: Vec<u8>,
    candidate: Option<Candidate>,
    why: Forward,
    detail: Option<&'static str>,
    /// Whether the group may be asked.
    trusted: bool,
    /// How it takes part in a fetch.
    part: Part,
    asked_ms: u64,
    asked_wall_ms: u64,
}

/// A response on its way into the tiers.
struct Fill {
    question: Question,
    group: Option<GroupTicket>,
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
    body_bytes_max: u64,
    /// When its header arrived, by the wall clock.
    received_wall_ms: u64,
}

impl Fill {
    /// The response whose header has just come.
    fn new(question: Question, group: Option<GroupTicket>, accepted: Accepted, status: u16, header: Vec<u8>) -> Self {
        Self { question, group, accepted, status, received_ms: host::monotonic_ms(), header, body: Vec::new() }
    }
}

impl Stream {
    /// A new exchange.
    pub fn new(id: u32, instance: Rc<Instance>) -> Self {
        Self {
            id,
            instance,
            state: State::Passing,
            fetched_for: None,
            straight: None,
            recaches: Vec::new(),
            flight: None,
            counted: false,
        }
    }

    /// Whether it is a fetch of the filter's own, to be answered with a word.
    fn is_fetch(&self) -> bool {
        matches!(self.fetched_for, Some(Manner::Behind | Manner::Waits))
    }

    /// Whether it waits to be woken.
    pub fn is_parked(&self) -> bool {
        matches!(self.state, State::Waiting(_) | State::Queueing { .. } | State::Fetching { token: None, .. })
    }

    /// The call whose answer it waits for.
    pub fn asked(&self) -> Option<u32> {
        match self.state {
            State::Asking { token, .. } | State::AskingLater { token, .. } | State::Fetched { token, .. } => {
                Some(token)
            }
            State::Fetching { token, .. } => token,
            _ => None,
        }
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, token: u32, header_count: usize, body_len: usize, trailer_count: usize) {
        match mem::replace(&mut self.state, State::Passing) {
            State::Asking { question, key, token: asked } if asked == token => {
                let body = bridge::answer(header_count, body_len);
                self.heard(question, &key, body);
            }
            State::AskingLater { question, token: asked } if asked == token => {
                let body = bridge::answer(header_count, body_len);
                self.heard_later(question, body);
            }
            State::Fetching { question, group, token: Some(asked) } if asked == token => {
                self.fetched(question, group, fetch::outcome(&fetch::answer(header_count)), body_len);
            }
            State::Fetched { question, group, token: asked } if asked == token => {
                let body_len = (trailer_count == 0).then_some(body_len);
                self.received(question, group, &fetch::answer(header_count), body_len);
            }
            other => self.state = other,
        }
    }

    fn on_done(&mut self) -> bool {
        {
            let mut worker = self.instance.worker.borrow_mut();
            worker.held.remove(self.id);
            worker.answers.done(self.id);
        }
        for fetch in mem::take(&mut self.recaches) {
            self.instance.worker.borrow_mut().leave(Job::Fetch(fetch));
        }
        let waited = self.instance.worker.borrow_mut().bodies.done(self.id);
        if let (State::Reading { request, .. }, false) = (&mut self.state, waited) {
            // It went on its way, and nothing has been heard of it since.
            let request = mem::take(request);
            self.give_up(&request);
        }
        self.withdraw();
        // A write whose outcome nobody saw may have happened.
        let state = mem::replace(&mut self.state, State::Passing);
        if let (State::Storing(fill), true) = (&state, planted("partial_stored")) {
            self.store(fill);
        }
        self.lost(state);
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let Some(request) = host::header_map(Map::Request) else { return Action::Continue };
        let Some(fields) = Fields::decode(&request) else { return Action::Continue };
        let request = if fields.has(FETCH) { self.unmask(&fields) } else { request };
        self.begin(request, if end_of_stream { Body::None } else { Body::Coming })
    }

    fn on_http_request_body(&mut self, len: usize, end_of_stream: bool) -> Action {
        match mem::replace(&mut self.state, State::Passing) {
            State::Reading { request, body } => return self.read_on(request, body, len, end_of_stream),
            State::Writing(mut write) => {
                write.sees(len, end_of_stream);
                self.state = State::Writing(write);
            }
            waiting if waiting.is_paused() => {
                self.state = waiting;
                return Action::Pause;
            }
            other => self.state = other,
        }
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        match mem::replace(&mut self.state, State::Passing) {
            // What the trailers say is in no key.
            State::Reading { request, .. } => self.give_up(&request),
            waiting if waiting.is_paused() => {
                self.state = waiting;
                return Action::Pause;
            }
            other => self.state = other,
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let unread = if let State::Reading { request, .. } = &mut self.state { Some(mem::take(request)) } else { None };
        if let Some(request) = unread {
            self.give_up(&request);
        }
        match mem::replace(&mut self.state, State::Passing) {
            State::Telling(status) => tell(status),
            State::Filling { question, group } if self.is_fetch() => {
                return self.receive_fetched(question, group, end_of_stream);
            }
            State::Filling { question, group } => return self.receive(question, group, end_of_stream),
            State::Writing(write) => return self.wrote(write, end_of_stream),
            State::Replying { replay, sent } => self.look_at_reply(&replay, &sent),
            // The gateway answered by itself while somebody was asked (a timeout, say), or this is our own reply.
            State::Asking { .. }
            | State::Fetching { .. }
            | State::Fetched { .. }
            | State::Storing(_)
            | State::Replacing(_)
            | State::Reading { .. }
            | State::Answered { .. }
            | State::Held
            | State::Passing => {}
            State::AskingLater { .. } | State::Waiting(_) | State::Queueing { .. } => self.withdraw(),
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, len: usize, end_of_stream: bool) -> Action {
        match mem::replace(&mut self.state, State::Passing) {
            State::Storing(mut fill) => {
                if len > 0 {
                    match host::buffer(Buffer::ResponseBody, len) {
                        Some(chunk) => fill.body.extend_from_slice(&chunk),
                        None => {
                            self.land(Outcome::Uncacheable); // a chunk that can't be seen: not stored
                            return Action::Continue;
                        }
                    }
                }
                if self.is_fetch() {
                    // Who has asked for it takes it from the tiers.
                    host::set_buffer(Buffer::ResponseBody, b"");
                    self.state = State::Replacing(Vec::new());
                }
                if u64::try_from(fill.body.len()).is_ok_and(|len| len <= fill.accepted.body_bytes_max) {
                    self.fill(fill, end_of_stream);
                } else {
                    self.land(Outcome::Uncacheable);
                }
            }
            State::Replacing(body) => {
                // The whole in place of the first piece, nothing in place of the others.
                host::set_buffer(Buffer::ResponseBody, &body);
                self.state = State::Replacing(Vec::new());
            }
            State::Answered { writing, body } => return self.answered(writing, body, len, end_of_stream),
            State::Held => return self.hold(),
            other => self.state = other,
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        // A response with trailers isn't stored: they couldn't be replayed.
        match mem::replace(&mut self.state, State::Passing) {
            State::Answered { writing, body } => return self.answered(writing, body, usize::MAX, true),
            State::Held => return self.hold(),
            State::Storing(_) => self.land(Outcome::Uncacheable),
            _ => {}
        }
        Action::Continue
    }
}
