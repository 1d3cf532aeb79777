//! The bridge and its store as the gateways meet them: the real in-memory store, with what can go wrong around it, and
//! the mistakes that can be planted there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bridge_api::{
    Continuity, FEED, FeedReply, FeedRequest, LOOKUP, LookupReply, LookupRequest, MARKER, PURGE, Pattern, PurgeReply,
    PurgeRequest, RELEASE, STORE, StoreRequest, VERSION, WAIT, WaitReply, WaitRequest, decode, encode, is_soft,
};
use proxy_wasm_host_test::{Call, CallId, Kept, Reply, Response, Status, Thread, Upstream};
use routecache_bridge::clock::Steady;
use routecache_bridge::mem::Memory;
use routecache_core::entry::Entry;
use routecache_core::seal::unsealed;

use super::chance::Chance;
use super::history::Purge;
use super::plan::{Damage, Failure, Plan, USERS};
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
    /// Calls that are on their way here, and when they arrive.
    coming: Vec<(Duration, Call)>,
    held: Vec<Held>,
    /// Whether those polls have news, or may.
    stirred: bool,
    /// Purges whose answers wait until gateways have heard of them, from when, and whose.
    hearing: Vec<(CallId, PurgeRequest, PurgeReply, Duration, usize)>,
    /// Those who wait for the end of a lease, when that ends by itself, from when, and where.
    waiting: Vec<(CallId, WaitRequest, u64, Duration, usize)>,
    /// Answers, and deaths, for the world to carry out.
    deeds: Vec<Deed>,
    /// Gateways whose poller dies over its next records, after so many turns.
    doomed: HashMap<usize, u64>,
    /// A user whose epoch is evicted as soon as it is purged.
    evicted_next: Option<u64>,
    /// What becomes of the next entry that a lookup finds.
    damage: Option<Damage>,
    /// How far the store's clock is ahead, in milliseconds.
    ahead_ms: i64,
    /// What the bridge makes of it.
    clock: Steady,
    purges: Vec<Purge>,
    versions: Versions,
    chance: Chance,
    feed_records: usize,
    feed_way_ms: u64,
    bridge_way_ms: u64,
    log_records: usize,
    lives: u64,
    planted: Option<Planted>,
    /// What was stored lately, under which keys.
    seen: Vec<(String, Vec<u8>)>,
    /// Entries and epochs as a bridge with a planted mistake sees them.
    naive: Naive,
}

/// A poll that waits for news.
struct Held {
    call: CallId,
    request: FeedRequest,
    /// When it came; as in the bridge, the store's clock has no say in how long it is held.
    arrived: Duration,
    gateway: usize,
    thread: Thread,
}

/// What the world is to do for the group.
pub enum Deed {
    /// Answer a call.
    Answer(CallId, Reply),
    /// After a while, and so many turns of the gateway's threads, end a worker.
    End {
        /// The while.
        after: Duration,
        /// Whose worker.
        gateway: usize,
        /// Which.
        worker: usize,
        /// How many turns.
        turns: u64,
    },
}

/// A store that doesn't prove what it believes.
#[derive(Clone, Default)]
struct Naive {
    entries: HashMap<String, (StoreRequest, Vec<u8>, u64)>,
    epochs: HashMap<String, (u64, u64)>,
}

/// The tags of all that is a user's: one that the rules name, and one that only the response does.
pub fn tags_of(user: u64) -> [String; 2] {
    [format!("user:{user}"), format!("owner-{user}")]
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
            coming: Vec::new(),
            held: Vec::new(),
            stirred: false,
            hearing: Vec::new(),
            waiting: Vec::new(),
            deeds: Vec::new(),
            doomed: HashMap::new(),
            evicted_next: None,
            damage: None,
            ahead_ms: 0,
            clock: Steady::default(),
            purges: Vec::new(),
            versions,
            chance: Chance::new(plan.seed ^ 0x6272_6964_6765),
            feed_records: plan.feed_records,
            feed_way_ms: plan.feed_way_ms,
            bridge_way_ms: plan.bridge_way_ms,
            log_records: plan.log_records,
            lives: plan.seed,
            planted,
            seen: Vec::new(),
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

    /// The epochs of a user's tags are evicted.
    pub fn forget_epochs(&self, user: u64) {
        self.0.borrow_mut().forget_epochs(user);
    }

    /// An entry is evicted.
    pub fn forget_entry(&self, key: &str) {
        self.0.borrow_mut().memory.forget_entry(NAMESPACE, key);
    }

    /// A purge through the bridge's API.
    pub fn purge(&self, tags: Vec<String>, now: Duration) {
        self.0.borrow_mut().purge(
            &PurgeRequest { namespace: NAMESPACE.to_owned(), tags, ..PurgeRequest::default() },
            None,
            now,
        );
    }

    /// A purge of all that is a user's, by patterns.
    pub fn ban(&self, user: u64, now: Duration) {
        let patterns = [Pattern::Tag(format!("us*:{user}")), Pattern::Tag(format!("owner*{user}"))];
        self.0.borrow_mut().ban(user, &patterns, now);
    }

    /// A gateway's poller dies over the next records that it gets.
    pub fn doom(&self, gateway: usize, turns: u64) {
        self.0.borrow_mut().doomed.insert(gateway, turns);
    }

    /// A user's epoch is evicted as soon as it is purged.
    pub fn evict_next(&self, user: u64) {
        self.0.borrow_mut().evicted_next = Some(user);
    }

    /// The next entry that a lookup finds is damaged.
    pub fn damage(&self, damage: Damage) {
        self.0.borrow_mut().damage = Some(damage);
    }

    /// The store's clock jumps.
    pub fn jump(&self, seconds: i64) {
        self.0.borrow_mut().ahead_ms += seconds * 1000;
    }

    /// Takes in what arrives by now; says what is to be done for it.
    pub fn work(&self, now: Duration) -> Vec<Deed> {
        let mut state = self.0.borrow_mut();
        let (due, coming) = std::mem::take(&mut state.coming).into_iter().partition(|(at, _)| *at <= now);
        state.coming = coming;
        let due: Vec<(Duration, Call)> = due;
        for (_, call) in due {
            if let Some(reply) = state.arrive(&call, now) {
                state.deeds.push(Deed::Answer(call.id, reply));
            }
        }
        state.wake(now);
        std::mem::take(&mut state.deeds)
    }

    /// Bytes that the store holds.
    pub fn bytes(&self) -> usize {
        self.0.borrow().memory.bytes()
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

    fn store_ms(&mut self, now: Duration) -> u64 {
        // The store's clock: its zero doesn't matter, but however often it is set back, it is later.
        let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX / 4) + 1_000_000_000;
        let shown_ms = ms.saturating_add_signed(self.ahead_ms);
        if self.plants(Planted::ClockBack) { shown_ms } else { self.clock.go_on(shown_ms, now) }
    }

    fn break_polls(&mut self, which: impl Fn(usize) -> bool) -> Vec<CallId> {
        let (broken, held) = self.held.drain(..).partition(|held| which(held.gateway));
        self.held = held;
        let broken: Vec<Held> = broken;
        let (gone, left) = self.waiting.drain(..).partition(|(.., gateway)| which(*gateway));
        self.waiting = left;
        let gone: Vec<(CallId, WaitRequest, u64, Duration, usize)> = gone;
        let (unheard, left) = self.hearing.drain(..).partition(|(.., gateway)| which(*gateway));
        self.hearing = left;
        let unheard: Vec<(CallId, PurgeRequest, PurgeReply, Duration, usize)> = unheard;
        let broken = broken.into_iter().map(|held| held.call).chain(unheard.into_iter().map(|(call, ..)| call));
        broken.chain(gone.into_iter().map(|(call, ..)| call)).collect()
    }

    fn purge(&mut self, request: &PurgeRequest, gateway: Option<usize>, now: Duration) -> PurgeReply {
        let now_ms = self.store_ms(now);
        let reply = self.memory.purge(request, now_ms);
        self.stirred = true;
        self.purged_naively(&request.tags, &reply);
        for user in 0..USERS {
            if request.tags.iter().any(|tag| *tag == format!("user:{user}") || tag == "!all") {
                self.purged((user, is_soft(&request.tags)), gateway, now);
                if self.evicted_next == Some(user) {
                    self.evicted_next = None;
                    self.forget_epochs(user);
                }
            }
        }
        reply
    }

    fn ban(&mut self, user: u64, patterns: &[Pattern], now: Duration) {
        let request = PurgeRequest { namespace: NAMESPACE.to_owned(), ..PurgeRequest::default() };
        let now_ms = self.store_ms(now);
        let reply = self.memory.purge_with(&request, patterns, now_ms);
        self.stirred = true;
        self.purged_naively(&tags_of(user), &reply);
        self.purged((user, false), None, now);
    }

    /// A purge of a user is in the log.
    fn purged(&mut self, (user, soft): (u64, bool), gateway: Option<usize>, at: Duration) {
        let version = self.versions.borrow().get(&user).copied().unwrap_or(1);
        self.purges.push(Purge { at, user, version, gateway, soft, lost: None });
    }

    fn purged_naively(&mut self, tags: &[String], reply: &PurgeReply) {
        for tag in tags {
            self.naive.epochs.insert(tag.clone(), (reply.position.ms, reply.position.seq));
        }
    }

    /// Whether gateways may yet serve what was purged, where the purge waits for that.
    fn is_unheard(&mut self, request: &PurgeRequest, reply: &PurgeReply, now: Duration) -> bool {
        let now_ms = self.store_ms(now);
        let Some(hear) = request.hear.filter(|_| !self.plants(Planted::Unheard)) else { return false };
        self.memory.unheard(&request.namespace, reply.position, hear.gateway, now_ms) > 0
    }

    fn forget_epochs(&mut self, user: u64) {
        for tag in tags_of(user) {
            self.memory.forget_epoch(NAMESPACE, &tag);
            self.naive.epochs.remove(&tag);
        }
    }

    /// Answers the polls that have news, or were held long enough.
    fn wake(&mut self, now: Duration) {
        for (call, request, ends_ms, since, gateway) in std::mem::take(&mut self.waiting) {
            let now_ms = self.store_ms(now);
            let patient = now < since + Duration::from_millis(request.hold_ms);
            let remaining_ms = self.memory.look_at_lease(&request.namespace, &request.key, now_ms).remaining_ms;
            match over(&mut self.memory, &request, now_ms) {
                None if patient => self.waiting.push((call, request, now_ms + remaining_ms, since, gateway)),
                reply => {
                    let reply = match reply {
                        Some(WaitReply::Released) if (1..=now_ms).contains(&ends_ms) => WaitReply::Expired,
                        reply => reply.unwrap_or(WaitReply::Held { remaining_ms }),
                    };
                    self.deeds.push(Deed::Answer(call, marked(&reply, b"").into()));
                }
            }
        }
        for (call, request, reply, since, gateway) in std::mem::take(&mut self.hearing) {
            let patient = request.hear.is_some_and(|hear| now < since + Duration::from_millis(hear.hold_ms));
            match self.is_unheard(&request, &reply, now) {
                true if patient => self.hearing.push((call, request, reply, since, gateway)),
                unheard => {
                    let reply = PurgeReply { unheard, ..reply };
                    self.deeds.push(Deed::Answer(call, marked(&reply, b"").into()));
                }
            }
        }
        // As in the bridge: a poll is read again when a purge or a new era wakes it, and when its time is up.
        let (now_ms, stirred) = (self.store_ms(now), std::mem::take(&mut self.stirred));
        for held in std::mem::take(&mut self.held) {
            let held_ms = u64::try_from(now.saturating_sub(held.arrived).as_millis()).unwrap_or(u64::MAX);
            let waits = held_ms < held.request.hold_ms;
            if waits && !stirred {
                self.held.push(held);
                continue;
            }
            let call = held.call;
            match self.poll(&held.request, held.gateway, now_ms.saturating_sub(held_ms), now_ms) {
                Some(reply) => {
                    let reply = self.fed(&reply, held.gateway, held.thread);
                    self.deeds.push(Deed::Answer(call, reply));
                }
                None => self.held.push(held),
            }
        }
    }

    /// An answer to a poll, on its way.
    fn fed(&mut self, reply: &FeedReply, gateway: usize, thread: Thread) -> Reply {
        let after = Duration::from_millis(self.chance.below(self.feed_way_ms / 2 + 1));
        if !reply.records.is_empty()
            && let Thread::Worker(worker) = thread
            && let Some(turns) = self.doomed.remove(&gateway)
        {
            self.deeds.push(Deed::End { after, gateway, worker, turns });
        }
        Reply::from(marked(reply, b"")).after(after).background()
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
        self.stirred |= reply.continuity == Continuity::Lost;
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
                        &LookupReply::Hit { ticket: *ticket, tags: entry.tags.clone(), resident_ms, stale_ms: None },
                        payload,
                    );
                }
                marked(&reply, b"")
            }
            (LookupReply::Hit { .. }, _) => marked(&reply, &self.damaged(&request.key, payload.to_vec())),
            _ => marked(&reply, &payload),
        }
    }

    fn damaged(&mut self, key: &str, mut payload: Vec<u8>) -> Vec<u8> {
        let last = payload.len().saturating_sub(3);
        match self.damage.take() {
            None => {}
            Some(Damage::Truncated) => payload.truncate(payload.len() / 2),
            Some(Damage::Flipped) => payload[last] ^= 1,
            Some(Damage::OtherVersion) => {
                // Of a filter whose format means something else by the same bytes: `rce7`, `rcs2`.
                if let Some(theirs) = with_another_body(&payload) {
                    payload = theirs;
                }
                payload[3] ^= 3;
            }
            Some(Damage::Oversized) => payload.resize(payload.len() + (1 << 20), b'x'),
            Some(Damage::Foreign) => {
                // Another key's bytes, which are whole.
                let other = self.seen.iter().rfind(|(other, _)| other != key);
                payload = other.map(|(_, bytes)| bytes.clone()).unwrap_or_default();
            }
            Some(Damage::Forged) => {
                payload = with_another_body(&payload).unwrap_or(payload);
            }
        }
        payload
    }

    fn store(&mut self, mut request: StoreRequest, payload: &[u8], now_ms: u64) -> Response {
        if self.plants(Planted::StoreUnderTail) {
            let StoreRequest { namespace, .. } = &request;
            let (namespace, key) = (namespace.clone(), String::new());
            let nothing = LookupRequest { namespace, key, tags: vec![], ..LookupRequest::default() };
            if let (LookupReply::Miss { ticket, .. }, _) = self.memory.lookup(&nothing, now_ms) {
                request.ticket = ticket;
            }
        }
        let position = (request.ticket.at.ms, request.ticket.at.seq);
        for tag in &request.tags {
            self.naive.epochs.entry(tag.clone()).or_insert(position);
        }
        let reply = self.memory.store(&request, payload.to_vec().into(), now_ms);
        self.seen.push((request.key.clone(), payload.to_vec()));
        self.seen.drain(..self.seen.len().saturating_sub(8));
        self.naive.entries.insert(request.key.clone(), (request, payload.to_vec(), now_ms));
        marked(&reply, b"")
    }

    /// Handles a call that has come; none if the answer has to wait.
    fn arrive(&mut self, call: &Call, now: Duration) -> Option<Reply> {
        let way = Duration::from_millis(self.chance.below(self.bridge_way_ms / 2 + 1));
        let (now_ms, gateway) = (self.store_ms(now), call.gateway);
        let response = match call.path() {
            LOOKUP => {
                let (request, _) = decode(&call.body).expect("a lookup");
                self.lookup(&request, gateway, now_ms)
            }
            _ if self.deposed.contains_key(&gateway) && !(call.path() == FEED && self.plants(Planted::NoProbe)) => {
                return Some(failed(Failure::Unavailable)); // a deposed master takes no writes, and every poll writes
            }
            STORE => {
                let (request, payload) = decode(&call.body).expect("a store");
                self.store(request, payload, now_ms)
            }
            RELEASE => {
                let (request, _) = decode(&call.body).expect("a release");
                marked(&self.memory.release(&request, now_ms), b"")
            }
            WAIT => {
                let (request, _) = decode(&call.body).expect("a wait");
                self.waiting.push((call.id, request, 0, now, gateway));
                self.wake(now);
                return None;
            }
            PURGE => {
                let (request, _) = decode(&call.body).expect("a purge");
                let reply = self.purge(&request, Some(gateway), now);
                if self.is_unheard(&request, &reply, now) {
                    self.hearing.push((call.id, request, reply, now, gateway));
                    return None;
                }
                marked(&reply, b"")
            }
            FEED => {
                let (request, _): (FeedRequest, _) = decode(&call.body).expect("a poll");
                return match self.poll(&request, gateway, now_ms, now_ms) {
                    Some(reply) => Some(self.fed(&reply, gateway, call.thread)),
                    None => {
                        let (call, thread) = (call.id, call.thread);
                        self.held.push(Held { call, request, arrived: now, gateway, thread });
                        None
                    }
                };
            }
            other => panic!("the filter calls {other}"),
        };
        Some(Reply::from(response).after(way))
    }
}

impl Upstream for Group {
    fn call(&mut self, call: &Call, _: &mut Kept) -> Reply {
        let mut state = self.0.borrow_mut();
        let failure = state.cuts.get(&call.gateway).copied();
        match failure {
            Some(Failure::AnswerLost) => {
                if call.path() != FEED {
                    drop(state.arrive(call, call.at));
                }
                return Reply::hang();
            }
            Some(Failure::NoPurges) if call.path() != PURGE => {}
            Some(Failure::NoPolls) if call.path() != FEED => {}
            Some(failure) => return failed(failure),
            None => {}
        }
        let way_ms = if call.path() == FEED { state.feed_way_ms } else { state.bridge_way_ms };
        let way = Duration::from_millis(state.chance.below(way_ms / 2 + 1));
        if way.is_zero() {
            return state.arrive(call, call.at).unwrap_or_else(Reply::later);
        }
        state.coming.push((call.at + way, call.clone()));
        Reply::later()
    }
}

/// An entry's bytes, sealed or not, with a body that no origin has sent, and a checksum that is right.
fn with_another_body(payload: &[u8]) -> Option<Vec<u8>> {
    let (entry, _) = unsealed(payload);
    let seal = &payload[..payload.len() - entry.len()];
    let forged = Entry::decode(entry.to_vec()).ok()?.with_body(b"forged")?;
    Some([seal, forged.bytes()].concat())
}

/// What ends a wait for a lease, if anything does.
pub fn over(memory: &mut Memory, request: &WaitRequest, now_ms: u64) -> Option<WaitReply> {
    let look = memory.look_at_lease(&request.namespace, &request.key, now_ms);
    match look.holder {
        _ if look.pass => Some(WaitReply::Pass { remaining_ms: look.remaining_ms }),
        Some(holder) if Some(holder) != request.holder => None,
        _ => Some(WaitReply::Released),
    }
}

/// How long a wait is held while nothing ends it, and what it is told then.
pub fn patience(memory: &mut Memory, request: &WaitRequest, now_ms: u64) -> (Duration, WaitReply) {
    let remaining_ms = memory.look_at_lease(&request.namespace, &request.key, now_ms).remaining_ms;
    let (hold_ms, reply) = match remaining_ms.checked_sub(request.hold_ms) {
        Some(remaining_ms) if remaining_ms > 0 => (request.hold_ms, WaitReply::Held { remaining_ms }),
        _ => (remaining_ms, WaitReply::Expired),
    };
    (Duration::from_millis(hold_ms), reply)
}

fn failed(failure: Failure) -> Reply {
    match failure {
        Failure::Refused => Reply::refuse(Status::InternalFailure),
        Failure::NoConnection => Reply::connect_failure(),
        Failure::Hangs | Failure::AnswerLost | Failure::NoPolls => Reply::hang(),
        Failure::Resets => Reply::reset(),
        Failure::Stranger => Response::ok("{\"outcome\":\"hit\"}\nwelcome").into(),
        Failure::Garbage => Response::ok(b"\xff\0{]\n\n").header(MARKER, VERSION).into(),
        Failure::Unavailable | Failure::NoPurges => {
            Response::new(503).body("{\"error\":\"store-unavailable\"}").header(MARKER, VERSION).into()
        }
    }
}
