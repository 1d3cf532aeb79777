//! A fetch that goes straight to the cluster that its rule names ([`CacheRule::origin`]): an exchange that the root context
//! drives, and no stream of the host's carries. It looks, asks the group and waits for others as any fetch does; then it
//! calls the origin itself, as the client's request would have been forwarded, and what comes back is all there at once.
//!
//! [`CacheRule::origin`]: routecache_core::policy::CacheRule::origin

use std::rc::Rc;

use proxy_wasm::types::Action;
use routecache_core::fetch::{Edit, Kind, Manner, Outcome, edited};
use routecache_core::fields::Fields;
use routecache_core::flights;
use routecache_core::request::Body;

use super::fetched::Meant;
use super::tell::status_of;
use super::{Fill, Question, State, Stream};
use crate::bridge::GroupTicket;
use crate::fetch;
use crate::host::{self, Buffer};
use crate::root::Instance;

/// What such an exchange has in place of the host's stream.
pub struct Straight {
    cluster: String,
    /// The header of what answered it.
    answer: Option<Vec<u8>>,
}

impl Stream {
    /// Begins a fetch.
    pub fn straight(instance: Rc<Instance>, cluster: String, header: Vec<u8>, manner: Manner) -> Self {
        let id = instance.worker.borrow_mut().next_straight();
        let mut stream = Self::new(id, instance);
        stream.fetched_for = Some(manner);
        stream.straight = Some(Straight { cluster, answer: None });
        stream.begin(header, Body::None);
        stream
    }

    /// Its number, among those of streams.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether no stream of the host's carries it.
    pub fn is_straight(&self) -> bool {
        self.straight.is_some()
    }

    /// The header of its answer, once it is over; empty if nothing has come of it.
    pub fn over(&mut self) -> Option<Vec<u8>> {
        let straight = self.straight.as_mut()?;
        let answer = straight.answer.take();
        let goes_on = self.asked().is_some() || self.is_parked();
        (!goes_on).then(|| {
            self.withdraw();
            answer.unwrap_or_default()
        })
    }

    /// Answers the exchange; false if the host refused.
    pub(super) fn respond(&mut self, status: u16, details: &str, header: &[u8], body: &[u8]) -> bool {
        match &mut self.straight {
            Some(straight) => {
                straight.answer = Some(header.to_vec());
                true
            }
            None => host::send_response(status, details, header, body),
        }
    }

    /// Asks the origin.
    pub(super) fn go_straight(&mut self, question: Question, group: Option<GroupTicket>, edits: &[Edit]) -> Action {
        let header = edited(&Fields::decode(&question.request).unwrap_or_default(), edits);
        let missing = "to which a rule's `origin` leads, so what it caches isn't refreshed";
        let cluster = self.straight.as_ref().map(|straight| straight.cluster.as_str()).unwrap_or_default();
        let background = self.instance.policy().background.as_ref();
        let to = background.map(|background| (cluster, background.timeout_ms));
        if let Some(token) = to.and_then(|to| fetch::call(&self.instance, to, &header, None, missing)) {
            self.state = State::Fetched { question, group, token };
        }
        Action::Pause
    }

    /// Handles the origin's response, whose body has so many bytes; `None` if trailers came behind it, which couldn't be
    /// replayed.
    pub(super) fn received(
        &mut self,
        question: Question,
        group: Option<GroupTicket>,
        header: &[u8],
        body_len: Option<usize>,
    ) {
        let instance = Rc::clone(&self.instance);
        let Some(rule) = instance.engine.cache_rule(question.wanted.rule) else { return };
        let fields = Fields::decode(header).unwrap_or_default();
        let status = status_of(&fields);
        if status == 0 {
            return; // it broke off
        }
        let fits = |max: u64| body_len.and_then(|len| u64::try_from(len).ok()).is_some_and(|len| len <= max);
        let kind = match self.meant(&question, group, rule, &fields, status, true) {
            Meant::Done(kind) => kind,
            Meant::Kept(accepted) if !fits(accepted.body_bytes_max) => Kind::Uncacheable,
            Meant::Kept(accepted) => {
                let body = match body_len {
                    Some(1..) => host::buffer(Buffer::CallResponseBody, usize::MAX),
                    _ => Some(Vec::new()),
                };
                let Some(body) = body else { return };
                let outcome =
                    self.store(&Fill { body, ..Fill::new(question, group, accepted, status, header.to_vec()) });
                self.land(outcome);
                match outcome {
                    flights::Outcome::Stored => Kind::Stored,
                    flights::Outcome::Uncacheable => Kind::Uncacheable,
                    // It is torn, or a purge came meanwhile: as if nothing had come.
                    _ => return,
                }
            }
        };
        self.land(match kind {
            Kind::Stored => flights::Outcome::Stored,
            Kind::Uncacheable => flights::Outcome::Uncacheable,
            Kind::Failed => flights::Outcome::of_error(status),
        });
        // Rather than that the client has to ask again, unless it was we who had waited long enough.
        let whole = kind != Kind::Stored
            && !matches!(status, 304 | 504)
            && self.fetched_for == Some(Manner::Waits)
            && fits(instance.policy().limits.body_bytes_max);
        self.respond(200, "", &Outcome { kind, status, whole }.header(false), b"");
    }
}
