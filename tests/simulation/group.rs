//! The bridge and its store as the gateways meet them: the real in-memory store, with what can go wrong around it, and
//! the mistakes that can be planted there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bridge_api::{
    Continuity, FEED, FeedReply, FeedRequest, LOOKUP, LookupReply, LookupRequest, MARKER, PURGE, PurgeReply,
    PurgeRequest, STORE, StoreRequest, VERSION, decode, encode,
};
use proxy_wasm_host_test::{Call, CallId, Kept, Reply, Response, Status, Upstream};
use routecache_bridge::mem::Memory;

use super::chance::Chance;
use super::history::Purge;
use super::plan::{Failure, Plan, USERS};
use super::planted::Store as Planted;

/// Prefix and version of the rules.
pub const NAMESPACE: &str = "shop:v1";

/// Versions of the origin's users.
pub type Versions = Rc<RefCell<HashMap<u64, u64>>>;

/// A handle to the one bridge of a run.
#[derive(Clone)]
pub struct Group(Rc<RefCell<State>>);

struct State {
    memory: Memory,
    replica: (Memory, usize),
    /// What a deposed master knows, for those gateways that talk to it.
    deposed: HashMap<usize, Memory>,
    cuts: HashMap<usize, Failure>,
    held: Vec<(CallId, FeedRequest, u64, usize)>,
    purges: Vec<Purge>,
    versions: Versions,
    chance: Chance,
    feed_records: usize,
    feed_way_ms: u64,
    bridge_way_ms: u64,
    log_records: usize,
    lives: u64,
    planted: Option<Planted>,
    /// Entries and epochs as a bridge with a planted mistake sees them.
    naive: Naive,
}

/// A store that doesn't prove what it believes.
#[derive(Clone, Default)]
struct Naive {
    entries: HashMap<String, (StoreRequest, Vec<u8>, u64)>,
    epochs: HashMap<String, (u64, u64)>,
}

fn store_ms(now: Duration) -> u64 {
    // The store's clock: its zero doesn't matter, but an id is never 0.
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX / 2) + 1_000_000
}

fn marked<T: serde::Serialize>(head: &T, payload: &[u8]) -> Response {
    Response::ok(encode(head, payload)).header(MARKER, VERSION)
}

impl Group {
    /// A bridge with an empty store.
    pub fn new(plan: &Plan, versions: Versions, planted: Option<Planted>) -> Self {
        let memory = Memory::new(64 << 20, plan.seed).with_log_records_max(plan.log_records);
        Self(Rc::new(RefCell::new(State {
            replica: (memory.clone(), 0),
            memory,
            deposed: HashMap::new(),
            cuts: HashMap::new(),
            held: Vec::new(),
            purges: Vec::new(),
            versions,
            chance: Chance::new(plan.seed ^ 0x6272_6964_6765),
            feed_records: plan.feed_records,
            feed_way_ms: plan.feed_way_ms,
            bridge_way_ms: plan.bridge_way_ms,
            log_records: plan.log_records,
            lives: plan.seed,
            planted,
            naive: Naive::default(),
        })))
    }

    /// A gateway's calls fail from now on, or no longer. Returns its polls, which break.
    pub fn cut(&self, gateway: usize, failure: Option<Failure>) -> Vec<CallId> {
        let mut state = self.0.borrow_mut();
        match failure {
            Some(failure) => state.cuts.insert(gateway, failure),
            None => state.cuts.remove(&gateway),
        };
        state.break_polls(|of| of == gateway && failure.is_some())
    }

    /// A gateway talks to a deposed master from now on, or no longer.
    pub fn depose(&self, gateway: usize, deposed: bool) -> Vec<CallId> {
        let mut state = self.0.borrow_mut();
        match deposed {
            true => {
                let old = state.memory.clone();
                state.deposed.insert(gateway, old);
            }
            false => drop(state.deposed.remove(&gateway)),
        }
        state.break_polls(|of| of == gateway)
    }

    /// The replica takes over what there is to know.
    pub fn replicate(&self) {
        let mut state = self.0.borrow_mut();
        state.replica = (state.memory.clone(), state.purges.len());
    }

    /// The replica becomes the store.
    pub fn fail_over(&self, now: Duration) -> Vec<CallId> {
        let mut state = self.0.borrow_mut();
        let (replica, known) = (state.replica.0.clone(), state.replica.1);
        state.memory.fail_over_to(&replica);
        state.purges[known..].iter_mut().for_each(|purge| {
            purge.lost.get_or_insert(now);
        });
        state.break_polls(|_| true)
    }

    /// The bridge and its memory start again.
    pub fn restart(&self) -> Vec<CallId> {
        let mut state = self.0.borrow_mut();
        state.lives = state.lives.wrapping_add(0x1_0000_0001);
        state.memory = Memory::new(64 << 20, state.lives).with_log_records_max(state.log_records);
        state.naive = Naive::default();
        state.replica = (state.memory.clone(), state.purges.len());
        state.break_polls(|_| true)
    }

    /// The log is evicted.
    pub fn forget_log(&self) -> Vec<CallId> {
        let mut state = self.0.borrow_mut();
        state.memory.forget_log(NAMESPACE);
        state.break_polls(|_| true)
    }

    /// An epoch is evicted.
    pub fn forget_epoch(&self, tag: &str) {
        let mut state = self.0.borrow_mut();
        state.memory.forget_epoch(NAMESPACE, tag);
        state.naive.epochs.remove(tag);
    }

    /// An entry is evicted.
    pub fn forget_entry(&self, key: &str) {
        self.0.borrow_mut().memory.forget_entry(NAMESPACE, key);
    }

    /// A purge through the bridge's API. Returns the polls that are to be answered, and how.
    pub fn purge(&self, tags: Vec<String>, now: Duration) -> Vec<(CallId, Reply)> {
        let mut state = self.0.borrow_mut();
        state.purge(&PurgeRequest { namespace: NAMESPACE.to_owned(), tags }, None, now);
        state.wake(now)
    }

    /// All purges that were ever in the log.
    pub fn purges(&self) -> Vec<Purge> {
        self.0.borrow().purges.clone()
    }
}

impl State {
    fn plants(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    fn break_polls(&mut self, which: impl Fn(usize) -> bool) -> Vec<CallId> {
        let (broken, held) = self.held.drain(..).partition(|(_, _, _, gateway)| which(*gateway));
        self.held = held;
        let broken: Vec<(CallId, FeedRequest, u64, usize)> = broken;
        broken.into_iter().map(|(call, ..)| call).collect()
    }

    fn purge(&mut self, request: &PurgeRequest, gateway: Option<usize>, now: Duration) -> PurgeReply {
        let reply = self.memory.purge(request, store_ms(now));
        for tag in &request.tags {
            self.naive.epochs.insert(tag.clone(), (reply.position.ms, reply.position.seq));
        }
        for user in 0..USERS {
            if request.tags.iter().any(|tag| *tag == format!("user:{user}") || tag == "!all") {
                let version = self.versions.borrow().get(&user).copied().unwrap_or(1);
                self.purges.push(Purge { at: now, user, version, gateway, lost: None });
            }
        }
        reply
    }

    /// Answers the polls that have news.
    fn wake(&mut self, now: Duration) -> Vec<(CallId, Reply)> {
        let mut answers = Vec::new();
        for (call, request, arrived_ms, gateway) in std::mem::take(&mut self.held) {
            match self.poll(&request, gateway, arrived_ms, store_ms(now)) {
                Some(reply) => {
                    let way = Duration::from_millis(self.chance.below(self.feed_way_ms));
                    answers.push((call, Reply::from(marked(&reply, b"")).after(way).background()));
                }
                None => self.held.push((call, request, arrived_ms, gateway)),
            }
        }
        answers
    }

    fn poll(&mut self, request: &FeedRequest, gateway: usize, arrived_ms: u64, now_ms: u64) -> Option<FeedReply> {
        let no_probe = self.plants(Planted::NoProbe);
        let gap_ignored = self.plants(Planted::FeedGapIgnored);
        let (known, limit) = (request.known.filter(|_| !self.plants(Planted::KnownIgnored)), self.feed_records);
        let memory = match self.deposed.get_mut(&gateway) {
            Some(deposed) if no_probe => deposed,
            _ => &mut self.memory,
        };
        let mut reply = memory.poll(&FeedRequest { known, ..request.clone() }, arrived_ms, now_ms)?;
        if gap_ignored && request.cursor.is_some() {
            reply.continuity = Continuity::Joined;
        }
        // An answer may be cut anywhere, if it says so.
        if reply.records.len() > limit {
            reply.records.truncate(limit);
            reply.complete = false;
            reply.cursor = reply.records.last().map_or(reply.cursor, |record| record.position);
        }
        Some(reply)
    }

    fn lookup(&mut self, request: &LookupRequest, gateway: usize, now_ms: u64) -> Response {
        let known = request.known.filter(|_| !self.plants(Planted::KnownIgnored));
        let memory = match self.deposed.get_mut(&gateway) {
            Some(deposed) => deposed,
            None => &mut self.memory,
        };
        let (reply, payload) = memory.lookup(&LookupRequest { known, ..request.clone() }, now_ms);
        let epochs_matter_less = self.plants(Planted::EpochZeroWhenMissing) || self.plants(Planted::CreateUnchecked);
        match (&reply, self.naive.entries.get(&request.key)) {
            (LookupReply::Miss { ticket, .. }, Some((entry, payload, stored_ms)))
                if epochs_matter_less && entry.ticket.era == ticket.era =>
            {
                let position = (entry.ticket.at.ms, entry.ticket.at.seq);
                let zero = self.plants(Planted::EpochZeroWhenMissing).then_some((0, 0));
                let valid =
                    |tag: &String| self.naive.epochs.get(tag).copied().or(zero).is_some_and(|it| it <= position);
                if entry.tags.iter().all(valid) {
                    let resident_ms = now_ms.saturating_sub(*stored_ms);
                    return marked(
                        &LookupReply::Hit { ticket: *ticket, tags: entry.tags.clone(), resident_ms },
                        payload,
                    );
                }
                marked(&reply, b"")
            }
            _ => marked(&reply, &payload),
        }
    }

    fn store(&mut self, mut request: StoreRequest, payload: &[u8], now_ms: u64) -> Response {
        if self.plants(Planted::StoreUnderTail) {
            let StoreRequest { namespace, .. } = &request;
            let (namespace, key) = (namespace.clone(), String::new());
            let nothing = LookupRequest { namespace, key, tags: vec![], known: None, lease: None };
            if let (LookupReply::Miss { ticket, .. }, _) = self.memory.lookup(&nothing, now_ms) {
                request.ticket = ticket;
            }
        }
        let position = (request.ticket.at.ms, request.ticket.at.seq);
        for tag in &request.tags {
            self.naive.epochs.entry(tag.clone()).or_insert(position);
        }
        let reply = self.memory.store(&request, payload.to_vec().into(), now_ms);
        self.naive.entries.insert(request.key.clone(), (request, payload.to_vec(), now_ms));
        marked(&reply, b"")
    }

    fn answer(&mut self, call: &Call, kept: &mut Kept) -> Reply {
        let (now, now_ms, gateway) = (call.at, store_ms(call.at), call.gateway);
        match call.path() {
            LOOKUP => {
                let (request, _) = decode(&call.body).expect("a lookup");
                self.lookup(&request, gateway, now_ms).into()
            }
            _ if self.deposed.contains_key(&gateway) && !(call.path() == FEED && self.plants(Planted::NoProbe)) => {
                failed(Failure::Unavailable) // a deposed master takes no writes, and every poll writes
            }
            STORE => {
                let (request, payload) = decode(&call.body).expect("a store");
                self.store(request, payload, now_ms).into()
            }
            PURGE => {
                let (request, _) = decode(&call.body).expect("a purge");
                let reply = self.purge(&request, Some(gateway), now);
                self.wake(now).into_iter().for_each(|(call, reply)| kept.answer(call, reply));
                marked(&reply, b"").into()
            }
            FEED => {
                let (request, _): (FeedRequest, _) = decode(&call.body).expect("a poll");
                let Some(reply) = self.poll(&request, gateway, now_ms, now_ms) else {
                    let quiet = self.poll(&request, gateway, now_ms, now_ms + request.hold_ms);
                    let hold = Duration::from_millis(request.hold_ms);
                    self.held.push((call.id, request, now_ms, gateway));
                    return match quiet {
                        Some(quiet) => Reply::later_or(hold, marked(&quiet, b"")),
                        None => Reply::later(),
                    };
                };
                let way = Duration::from_millis(self.chance.below(self.feed_way_ms));
                Reply::from(marked(&reply, b"")).after(way).background()
            }
            other => panic!("the filter calls {other}"),
        }
    }
}

impl Upstream for Group {
    fn call(&mut self, call: &Call, kept: &mut Kept) -> Reply {
        let mut state = self.0.borrow_mut();
        let way_ms = state.bridge_way_ms;
        let way = Duration::from_millis(1 + state.chance.below(way_ms));
        match state.cuts.get(&call.gateway).copied() {
            Some(Failure::AnswerLost) => {
                if call.path() != FEED {
                    drop(state.answer(call, kept));
                }
                Reply::hang()
            }
            Some(failure) => failed(failure),
            None => {
                let reply = state.answer(call, kept);
                if call.path() == FEED { reply } else { reply.after(way) }
            }
        }
    }
}

fn failed(failure: Failure) -> Reply {
    match failure {
        Failure::Refused => Reply::refuse(Status::InternalFailure),
        Failure::NoConnection => Reply::connect_failure(),
        Failure::Hangs | Failure::AnswerLost => Reply::hang(),
        Failure::Resets => Reply::reset(),
        Failure::Stranger => Response::ok("{\"outcome\":\"hit\"}\nwelcome").into(),
        Failure::Garbage => Response::ok(b"\xff\0{]\n\n").header(MARKER, VERSION).into(),
        Failure::Unavailable => {
            Response::new(503).body("{\"error\":\"store-unavailable\"}").header(MARKER, VERSION).into()
        }
    }
}
