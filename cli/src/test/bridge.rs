//! A bridge for simulations: the real in-memory store behind the words of the bridge's HTTP, on the clock of a world.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bridge_api::{FEED, FeedRequest, LOOKUP, LookupRequest, MARKER, PURGE, PurgeRequest, STORE, StoreRequest, VERSION};
use bridge_api::{decode, encode};
use proxy_wasm_host_test::scenario::Condition;
use proxy_wasm_host_test::{Call, CallId, Kept, Reply, Response, Upstream};
use routecache_bridge::mem::Memory;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long an answer takes, there and back.
const ROUND_TRIP: Duration = Duration::from_millis(1);
const STORE_BYTES_MAX: usize = 64 << 20;

/// A bridge; a clone is another handle to it.
#[derive(Clone, Default)]
pub struct Bridge(Rc<RefCell<State>>);

struct State {
    condition: Condition,
    memory: Memory,
    /// The store's random numbers differ in each of its lives.
    lives: u64,
    polls: Vec<Poll>,
}

/// A poll that waits for news.
struct Poll {
    call: CallId,
    request: FeedRequest,
    arrived_ms: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { condition: Condition::Up, memory: Memory::new(STORE_BYTES_MAX, 1), lives: 1, polls: Vec::new() }
    }
}

impl Bridge {
    /// Becomes a new one, for a new world.
    pub fn reset(&self) {
        *self.0.borrow_mut() = State::default();
    }

    pub fn fares(&self, condition: Condition) {
        self.0.borrow_mut().condition = condition;
    }

    /// Starts again with nothing in its memory.
    pub fn restart(&self) {
        let mut state = self.0.borrow_mut();
        state.condition = Condition::Up;
        state.lives += 1;
        state.memory = Memory::new(STORE_BYTES_MAX, state.lives);
    }
}

impl Upstream for Bridge {
    fn call(&mut self, call: &Call, kept: &mut Kept) -> Reply {
        let mut state = self.0.borrow_mut();
        if let Some(reply) = state.condition.reply() {
            // The filter polls again and again.
            return reply.background();
        }
        // Where the store's clock begins doesn't matter, but an id is never 0.
        let now_ms = u64::try_from(call.at.as_millis()).unwrap_or(u64::MAX).saturating_add(1_000_000);
        state.answer(call, now_ms, kept).unwrap_or_else(|| Response::new(400).header(MARKER, VERSION).into())
    }
}

impl State {
    /// Nothing if the call makes no sense.
    fn answer(&mut self, call: &Call, now_ms: u64, kept: &mut Kept) -> Option<Reply> {
        let response = match call.path() {
            LOOKUP => {
                let (request, _) = heard::<LookupRequest>(call)?;
                let (reply, entry) = self.memory.lookup(&request, now_ms);
                said(&reply, &entry)
            }
            STORE => {
                let (request, entry) = heard::<StoreRequest>(call)?;
                said(&self.memory.store(&request, entry.to_vec().into(), now_ms), &[])
            }
            PURGE => {
                let reply = self.memory.purge(&heard::<PurgeRequest>(call)?.0, now_ms);
                self.tell_news(now_ms, kept);
                said(&reply, &[])
            }
            FEED => return self.feed(call, now_ms),
            _ => return None,
        };
        Some(Reply::from(response).after(ROUND_TRIP))
    }

    fn feed(&mut self, call: &Call, now_ms: u64) -> Option<Reply> {
        let (request, _) = heard::<FeedRequest>(call)?;
        if let Some(news) = self.memory.poll(&request, now_ms, now_ms) {
            return Some(Reply::from(said(&news, &[])).background());
        }
        let quiet = self.memory.poll(&request, now_ms, now_ms.saturating_add(request.hold_ms))?;
        let hold = Duration::from_millis(request.hold_ms);
        self.polls.push(Poll { call: call.id, request, arrived_ms: now_ms });
        Some(Reply::later_or(hold, said(&quiet, &[])))
    }

    /// Answers the polls that now have news.
    fn tell_news(&mut self, now_ms: u64, kept: &mut Kept) {
        let memory = &mut self.memory;
        self.polls.retain(|poll| {
            let news = memory.poll(&poll.request, poll.arrived_ms, now_ms);
            if let Some(news) = &news {
                kept.answer(poll.call, said(news, &[]));
            }
            news.is_none()
        });
    }
}

fn heard<T: DeserializeOwned>(call: &Call) -> Option<(T, &[u8])> {
    decode(&call.body).ok()
}

fn said<T: Serialize>(head: &T, payload: &[u8]) -> Response {
    Response::ok(encode(head, payload)).header(MARKER, VERSION)
}
