//! What is done with a request, once enough of it is there.

use std::rc::Rc;

use proxy_wasm::types::Action;
use routecache_core::cache_status::{CacheStatus, Forward};
use routecache_core::fields::Fields;
use routecache_core::request::{Arrived, Body, Plan, REQUEST_BODY_BYTES_MAX};

use super::gather::Gathered;
use super::write::Write;
use super::{Question, State, Stream};
use crate::host::{self, Buffer};

impl Stream {
    /// Does what the rules say to a request whose header is there, and its body where the key holds it.
    pub(super) fn begin(&mut self, request: Vec<u8>, body: Body<'_>) -> Action {
        let Some(fields) = Fields::decode(&request) else { return Action::Continue };
        let instance = Rc::clone(&self.instance);
        let asked = match instance.engine.plan(&Arrived { fields: &fields, body, property: &host::property }) {
            Plan::Read(mut reading) => {
                if self.is_fetch() {
                    reading.wanted.is_fetched();
                }
                let now_ms = host::monotonic_ms();
                match self.look(&reading.wanted, reading.terms(), &fields, now_ms) {
                    Ok(()) => return Action::Pause,
                    Err(nothing) => {
                        // A fetch without a ticket could store nothing.
                        let worthwhile = !self.is_fetch() || nothing.ticket.is_some();
                        self.question(&reading, nothing, &fields, now_ms).filter(|_| worthwhile)
                    }
                }
            }
            _ if self.is_fetch() => None,
            Plan::ReadBody if instance.worker.borrow_mut().bodies.wait(self.id, host::monotonic_ms) => {
                self.state = State::Reading { request, body: Gathered::up_to(REQUEST_BODY_BYTES_MAX) };
                return Action::Pause;
            }
            Plan::ReadBody => {
                self.give_up(&request);
                None
            }
            plan => {
                self.pass(plan, &fields, body);
                None
            }
        };
        match asked {
            Some(question) => self.gather(Question { request, ..question }),
            None if self.is_fetch() || self.is_straight() => self.decline(),
            None => Action::Continue,
        }
    }

    /// Lets a request go to the origin of which nothing is stored.
    fn pass(&mut self, plan: Plan<'_>, fields: &Fields<'_>, body: Body<'_>) {
        match plan {
            Plan::Bypass(reason) => {
                self.state = State::Telling(CacheStatus::forwarded(Forward::Bypass, false, Some(reason.word())));
            }
            Plan::Write(write) => self.state = State::Writing(Write::new(*write, fields, body)),
            Plan::Ignore | Plan::Read(_) | Plan::ReadBody => {}
        }
    }

    /// Goes on with a request whose body was waited for, as if it couldn't be read.
    pub(super) fn give_up(&mut self, request: &[u8]) {
        self.instance.worker.borrow_mut().bodies.done(self.id);
        let Some(fields) = Fields::decode(request) else { return };
        let instance = Rc::clone(&self.instance);
        let plan = instance.engine.plan_unread(&Arrived::new(&fields, false, &host::property));
        self.pass(plan, &fields, Body::Coming);
    }

    /// Handles a piece of a body that is waited for.
    pub(super) fn read_on(&mut self, request: Vec<u8>, mut body: Gathered, len: usize, end_of_stream: bool) -> Action {
        let waited = self.instance.worker.borrow_mut().bodies.came(self.id);
        body.is_held(Buffer::RequestBody, len, end_of_stream);
        if !waited || body.is_lost() {
            self.give_up(&request);
            return Action::Continue;
        }
        match body.whole() {
            Some(whole) => {
                self.instance.worker.borrow_mut().bodies.done(self.id);
                self.begin(request, Body::Whole(whole))
            }
            None => {
                self.state = State::Reading { request, body };
                Action::Pause
            }
        }
    }
}
