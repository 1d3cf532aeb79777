//! A write: what its body, its response and its response's body say of what it purges.

use std::mem;

use proxy_wasm::types::Action;
use routecache_core::cache_status::{CacheStatus, Forward};
#[cfg(feature = "planted")]
use routecache_core::fetch::{Edit, edited};
use routecache_core::fields::Fields;
use routecache_core::planted::planted;
use routecache_core::recache::{Done, READS_MAX, Read};
use routecache_core::request::{Body, Outcome, REQUEST_BODY_BYTES_MAX, Writing, write_purges};

use super::gather::Gathered;
use super::tell::{status_of, tell};
use super::{State, Stream};
use crate::fetch::{Errand, Fetch};
use crate::host::{self, Buffer, Map};
use crate::worker::Job;

/// A write that was forwarded.
pub(super) struct Write {
    pub(super) writing: Writing,
    /// Its own body, where that says what it purges.
    body: Gathered,
    /// Who wrote, where that is remembered by mistake.
    #[cfg(feature = "planted")]
    writer: Option<Vec<u8>>,
}

impl Write {
    pub(super) fn new(writing: Writing, fields: &Fields<'_>, body: Body<'_>) -> Self {
        let body = match body {
            // In another coding than the origin reads, it would name something else.
            _ if fields.has("content-encoding") => Gathered::up_to(0),
            Body::Coming => Gathered::up_to(REQUEST_BODY_BYTES_MAX),
            Body::None => Gathered::of(b""),
            Body::Whole(body) => Gathered::of(body),
        };
        Self {
            writing,
            body,
            #[cfg(feature = "planted")]
            writer: fields.first("x-writer").map(<[u8]>::to_vec).filter(|_| planted("recache_as_writer")),
        }
    }

    /// A piece of its body passes.
    pub(super) fn sees(&mut self, len: usize, end_of_stream: bool) {
        if self.writing.reads_request_body() && self.body.whole().is_none() {
            self.body.passes(Buffer::RequestBody, len, end_of_stream);
        }
    }

    fn outcome<'a>(&'a self, response: Option<(u16, &'a Fields<'a>)>) -> Outcome<'a> {
        Outcome { response, request_body: self.body.whole() }
    }
}

impl Stream {
    /// Handles the response to a write: purges in the gateway at once, and holds it until the group has acknowledged.
    pub(super) fn wrote(&mut self, write: Write, end_of_stream: bool) -> Action {
        let header = host::header_map(Map::Response).unwrap_or_default();
        let fields = Fields::decode(&header);
        // The status of a broken connection or a timeout is the gateway's own, and says nothing of what the origin did.
        let known = !outcome_unknown() || planted("unknown_outcome");
        let response = fields.as_ref().filter(|_| known).map(|fields| (status_of(fields), fields));
        let engine = &self.instance.engine;
        let mut tags = engine.purged_by(&write.writing, &write.outcome(response));
        let coded = fields.as_ref().is_some_and(|fields| fields.has("content-encoding"));
        let succeeded = response.is_some_and(|(status, _)| write_purges(status));
        if succeeded {
            let done = Done { request: write.body.whole(), response: None, tags: &tags };
            self.recaches = fetches(&write.writing, write.writing.recaches(&done));
            #[cfg(feature = "planted")]
            if let Some(writer) = &write.writer {
                self.recaches.iter_mut().for_each(|fetch| name(fetch, writer));
            }
            if planted("recache_early") {
                let mut worker = self.instance.worker.borrow_mut();
                mem::take(&mut self.recaches).into_iter().for_each(|fetch| worker.leave(Job::Fetch(fetch)));
            }
        }
        if succeeded && write.writing.reads_response_body() {
            if end_of_stream || coded {
                tags.extend(engine.purged_by_body(&write.writing, None));
            } else {
                let body = Gathered::up_to(REQUEST_BODY_BYTES_MAX);
                self.state = State::Answered { writing: write.writing.clone(), body };
            }
        }
        if planted("purge_after_release") {
            self.state = State::Writing(write);
            return Action::Continue;
        }
        if matches!(self.state, State::Answered { .. }) && self.instance.worker.borrow_mut().hold_for_body(self.id) {
            let done = if tags.is_empty() {
                None
            } else {
                self.instance.purge(&write.writing, tags, Some((self.id, true))).word()
            };
            self.instance.worker.borrow_mut().says(self.id, done);
            return Action::Pause;
        }
        if tags.is_empty() {
            if let Some(reason) = write.writing.bypass() {
                tell(CacheStatus::forwarded(Forward::Bypass, false, Some(reason.word())));
            } else if write.writing.meets_rules() {
                tell(CacheStatus::forwarded(Forward::Method, false, None));
            }
            return Action::Continue;
        }
        let Some(detail) = self.instance.purge(&write.writing, tags, Some((self.id, true))).word() else {
            if !matches!(self.state, State::Answered { .. }) {
                self.state = State::Held;
            }
            return Action::Pause;
        };
        tell(CacheStatus::forwarded(Forward::Method, false, Some(detail)));
        Action::Continue
    }

    /// The body of a write's response comes. It is held until what it names is purged; so is its header, where the host
    /// shows a body before that has gone out.
    pub(super) fn answered(&mut self, writing: Writing, mut body: Gathered, len: usize, end_of_stream: bool) -> Action {
        self.instance.worker.borrow_mut().answers.came(self.id);
        body.is_held(Buffer::ResponseBody, len, end_of_stream);
        if !end_of_stream && !body.is_lost() {
            self.state = State::Answered { writing, body };
            return Action::Pause;
        }
        let tags = self.instance.engine.purged_by_body(&writing, body.whole());
        let done = Done { request: None, response: body.whole(), tags: &tags };
        self.recaches.extend(fetches(&writing, writing.recaches_of_lists(&done)));
        self.recaches.truncate(READS_MAX);
        let done =
            if tags.is_empty() { None } else { self.instance.purge(&writing, tags, Some((self.id, false))).word() };
        let mut worker = self.instance.worker.borrow_mut();
        let held = if worker.answers.done(self.id) { worker.let_go(self.id, done) } else { None };
        drop(worker);
        if let Some(held) = held {
            tell(CacheStatus::forwarded(Forward::Method, false, held.detail));
        }
        self.hold()
    }

    /// Holds what comes of a response as long as purges are under way. Where a host shows bodies while their header is held,
    /// letting one pass would let the header go.
    pub(super) fn hold(&mut self) -> Action {
        if self.instance.worker.borrow().held.contains(self.id) {
            self.state = State::Held;
            return Action::Pause;
        }
        Action::Continue
    }

    /// A write whose outcome nobody saw may have happened, and what its response would have said can't be read any more.
    pub(super) fn lost(&mut self, state: State) {
        let engine = &self.instance.engine;
        let (writing, tags) = match state {
            State::Writing(write) if !planted("unknown_outcome") => {
                let tags = engine.purged_by(&write.writing, &write.outcome(None));
                (write.writing, tags)
            }
            State::Answered { writing, .. } => {
                let tags = engine.purged_by_body(&writing, None);
                (writing, tags)
            }
            _ => return,
        };
        if !tags.is_empty() {
            self.instance.purge(&writing, tags, None);
        }
    }
}

/// The fetches of what a write has read again.
fn fetches(writing: &Writing, reads: Vec<Read>) -> Vec<Fetch> {
    let fetch = |read: Read| Fetch { errand: Errand::Recache, header: read.header(), https: writing.is_https() };
    reads.into_iter().map(fetch).collect()
}

/// Has a fetch say who wrote: the mistake `recache_as_writer`.
#[cfg(feature = "planted")]
fn name(fetch: &mut Fetch, writer: &[u8]) {
    let named = String::from_utf8_lossy(writer).into_owned();
    fetch.header = edited(&Fields::decode(&fetch.header).unwrap_or_default(), &[Edit::Add("x-writer", named)]);
}

/// Whether the gateway answers for the origin, which may have done what it was asked all the same: the connection broke, or
/// it took too long (the router's words, Envoy's `response_code_details.h`). An answer of another filter is no such thing:
/// it kept the request from the origin.
fn outcome_unknown() -> bool {
    let details = host::property(&["response", "code_details"]).unwrap_or_default();
    details.starts_with(b"upstream_") || details.windows(7).any(|word| word == b"timeout")
}
