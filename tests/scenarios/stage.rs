//! What the scenarios stand on: rules, an origin with versions, and a bridge whose store is the real one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bridge_api::{
    FEED, FeedReply, FeedRequest, LOOKUP, LookupRequest, MARKER, PURGE, Pattern, PurgeReply, PurgeRequest, RELEASE,
    STORE, StoreRequest, TAG_SOFT, Ticket, VERSION, WAIT, WaitRequest, decode, encode,
};
use e2e::simulation::group::{over, patience};
use proxy_wasm_host_test::{Answer, Call, CallId, Kept, Reply, Request, Response, Upstream, World, WorldBuilder};
use routecache_bridge::mem::Memory;
use serde_json::{Value, json};

/// A duration in milliseconds.
pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Rules for users and their orders: a write to a user purges what carries the user's tag.
pub fn rules() -> Value {
    json!({
        "namespace": { "prefix": "shop", "version": "v1" },
        "bridge": { "cluster": "routecache-bridge", "timeout": "50ms" },
        // A small table: a simulated gateway lays it out call by call.
        "limits": { "l1_bytes": "1MiB", "body_bytes_max": "64KiB" },
        "routes": [
            { "name": "user", "match": { "path": "/users/{id}" }, "cache": { "key": "user:{id}", "ttl": "5m" } },
            {
                "name": "orders",
                "match": { "path": "/users/{id}/orders" },
                "cache": { "key": "orders:{id}", "tags": ["user:{id}", "orders"], "ttl": "5m" }
            },
            { "name": "write", "match": { "path": "/users/{id}" }, "purge": { "tags": ["user:{id}"] } }
        ]
    })
}

/// The same for a gateway that stands alone.
pub fn rules_alone() -> Value {
    let mut rules = rules();
    rules.as_object_mut().expect("an object").remove("bridge");
    rules
}

/// An origin whose resources have versions: a write to a path counts up its version and that of what lies below it.
#[derive(Clone, Default)]
pub struct Versions(Rc<RefCell<HashMap<String, u64>>>);

impl Versions {
    /// The version that a read of this path gets now.
    pub fn of(&self, path: &str) -> u64 {
        let user = path.split('/').take(3).collect::<Vec<_>>().join("/");
        self.0.borrow().get(&user).copied().unwrap_or(1)
    }

    /// Somebody writes behind the gateways.
    pub fn write(&self, path: &str) {
        let version = self.of(path) + 1;
        self.0.borrow_mut().insert(path.to_owned(), version);
    }

    /// Answers as the origin does, at once.
    pub fn answer(&self, call: &Call) -> Response {
        if call.method() != "GET" && call.method() != "HEAD" {
            self.write(call.path());
        }
        let body = if call.method() == "HEAD" { String::new() } else { format!("v{}", self.of(call.path())) };
        Response::ok(body).header("content-type", "text/plain")
    }
}

/// A gateway's world with the shipped filter, an origin, and a bridge that is up.
pub fn world(rules: &Value) -> (WorldBuilder, Versions, Bridge) {
    let (versions, bridge) = (Versions::default(), Bridge::default());
    let origin = versions.clone();
    let filter = routecache_harness::filter().expect("the filter: run `cargo xtask build`");
    let builder = World::builder()
        .filter(filter)
        .configuration(rules.to_string())
        .origin(move |call| origin.answer(call).after(ms(30)))
        .cluster("routecache-bridge", bridge.clone());
    (builder, versions, bridge)
}

/// Long enough for the feed to be heard after a start.
pub fn settle(world: &mut World) {
    world.run_for(ms(600));
}

/// Gets a path on one worker.
pub fn get(world: &mut World, worker: usize, path: &str) -> Answer {
    world.fetch(Request::get(path).worker(worker))
}

/// The answer's `Cache-Status`, without the name of the cache and the hit's ttl.
pub fn status(answer: &Answer) -> String {
    let status = answer.header("cache-status").unwrap_or("none");
    let parts = status.split("; ").filter(|part| *part != "routecache" && !part.starts_with("ttl="));
    parts.collect::<Vec<_>>().join("; ")
}

/// How the bridge fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Envoy knows no healthy host.
    Refused,
    /// Nobody listens: Envoy makes a 503.
    NoConnection,
    /// It accepts and says nothing: Envoy makes a 504 after the timeout.
    Hangs,
    /// It breaks the connection.
    Resets,
    /// Something else answers 200.
    Stranger,
    /// It answers with its mark and nonsense.
    Garbage,
    /// It can't reach its store.
    Unavailable,
    /// It does what it is asked, later than anybody waits.
    Slow,
    /// Its Redis is in this state, one of [`REDIS_STATES`].
    Redis(&'static str),
}

/// What a bridge answers in each state of its Redis, as the bridge's own tests saw it.
const REDIS_STATES: &str = include_str!("../../bridge/tests/redis_states.txt");

/// How long a bridge waits for its Redis.
const STORE_TIMEOUT: Duration = ms(250);

impl Failure {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::NoConnection,
        Self::Hangs,
        Self::Resets,
        Self::Stranger,
        Self::Garbage,
        Self::Unavailable,
        Self::Slow,
    ];

    /// Those, and each state of a bridge's Redis.
    pub fn all() -> impl Iterator<Item = Self> {
        let states =
            REDIS_STATES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(':').next());
        Self::ALL.into_iter().chain(states.map(Self::Redis))
    }

    /// As docs/degradation.md says it.
    pub fn words(self) -> String {
        let words = match self {
            Self::Refused => "no healthy host",
            Self::NoConnection => "no connection",
            Self::Hangs => "silence (half-open, `SIGSTOP`)",
            Self::Resets => "a reset",
            Self::Stranger => "a stranger's answer",
            Self::Garbage => "garbage",
            Self::Unavailable => "`503` (or any status but 200)",
            Self::Slow => "an answer that is too late",
            Self::Redis(state) => return format!("Redis {state}"),
        };
        words.to_owned()
    }

    /// How long it takes until the answer to a call is there, such as it is; none if there never is one.
    pub fn takes(self) -> Option<Duration> {
        match self {
            Self::Hangs => None,
            Self::Slow => Some(ms(1500)),
            Self::Redis("silent") => Some(STORE_TIMEOUT),
            _ => Some(ms(0)),
        }
    }

    /// What a call comes to; none if it is done as ever.
    fn reply(self, call: &Call) -> Option<Reply> {
        Some(match self {
            Self::Refused => Reply::refuse(proxy_wasm_host_test::Status::InternalFailure),
            Self::NoConnection => Reply::connect_failure(),
            Self::Hangs => Reply::hang(),
            Self::Resets => Reply::reset(),
            Self::Stranger => Response::ok("{\"outcome\":\"hit\"}\nwelcome").into(),
            Self::Garbage => Response::ok(b"\xff\0{]\n\n").header(MARKER, VERSION).into(),
            Self::Unavailable => {
                Response::new(503).body("{\"error\":\"store-unavailable\"}").header(MARKER, VERSION).into()
            }
            // Later than `bridge.timeout`, `purge.timeout` and a poll; that it does it matters to nobody here.
            Self::Slow => Response::ok("").header(MARKER, VERSION).after(ms(1500)).into(),
            Self::Redis(state) => {
                let (status, word) = answer_in(state, call.path())?;
                let body = if status == 200 { json!({ "outcome": word }) } else { json!({ "error": word }) };
                let answer = Response::new(status).body(body.to_string()).header(MARKER, VERSION);
                answer.after(self.takes().unwrap_or_default()).into()
            }
        })
    }
}

/// Status and word of the answer to a call in a state of Redis; none if it works, as waits for the end of a lease do, of which the
/// bridge itself keeps the books.
fn answer_in(state: &str, path: &str) -> Option<(u16, &'static str)> {
    let call = path.trim_start_matches("/v1/");
    let line = REDIS_STATES.lines().find_map(|line| line.strip_prefix(state)?.strip_prefix(": "));
    let mut answers = line.expect("a state that is listed").split(", ").filter_map(|answer| answer.split_once(' '));
    let (_, answer) = answers.find(|(name, _)| *name == call)?;
    let (status, word) = answer.split_once(' ')?;
    Some((status.parse().expect("a status"), word))
}

/// What a gateway stored.
type Stored = (StoreRequest, Vec<u8>);

/// A bridge on the real in-memory store; a clone is another handle to it.
#[derive(Clone)]
pub struct Bridge {
    memory: Rc<RefCell<Memory>>,
    failure: Rc<Cell<Option<Failure>>>,
    /// Polls that wait for news.
    held: Rc<RefCell<Vec<(CallId, FeedRequest, u64)>>>,
    /// Purges whose answers wait until gateways have heard of them.
    hearing: Rc<RefCell<Vec<(CallId, PurgeRequest, PurgeReply)>>>,
    /// Those who wait for the end of a lease.
    waiting: Rc<RefCell<Vec<(CallId, WaitRequest)>>>,
    /// What a gateway stored last.
    stored: Rc<RefCell<Option<Stored>>>,
    restarts: Rc<Cell<u64>>,
    /// How long a store is on its way, in milliseconds. Nobody is told.
    store_way_ms: Rc<Cell<u64>>,
    /// Calls of which kind are on their way for now.
    delayed: Rc<Cell<Option<&'static str>>>,
    /// Those calls.
    coming: Rc<RefCell<Vec<Call>>>,
}

impl Default for Bridge {
    fn default() -> Self {
        Self {
            memory: Rc::new(RefCell::new(Memory::new(64 << 20, 1))),
            failure: Rc::default(),
            held: Rc::default(),
            hearing: Rc::default(),
            waiting: Rc::default(),
            stored: Rc::default(),
            restarts: Rc::new(Cell::new(1)),
            store_way_ms: Rc::default(),
            delayed: Rc::default(),
            coming: Rc::default(),
        }
    }
}

impl Bridge {
    /// Fails from now on, or works again.
    pub fn fails(&self, failure: Option<Failure>) {
        self.failure.set(failure);
    }

    /// From now on, stores arrive so much later.
    pub fn takes_in_stores_after(&self, way: Duration) {
        self.store_way_ms.set(u64::try_from(way.as_millis()).expect("not that long"));
    }

    /// From now on, lookups or releases are on their way until [`Bridge::arrive`], and others overtake them. Nobody is answered.
    pub fn delays(&self, path: Option<&'static str>) {
        self.delayed.set(path);
    }

    /// What was delayed arrives; how much it was.
    pub fn arrive(&self, world: &World) -> usize {
        let (mut memory, now_ms) = (self.memory.borrow_mut(), now_ms(world.now()));
        let coming = self.coming.take();
        for call in &coming {
            match call.path() {
                LOOKUP => drop(memory.lookup(&decode(&call.body).expect("a lookup").0, now_ms)),
                RELEASE => drop(memory.release(&decode(&call.body).expect("a release").0, now_ms)),
                other => panic!("{other} isn't delayed"),
            }
        }
        coming.len()
    }

    /// Starts again with nothing in its memory.
    pub fn restart(&self) {
        self.restarts.set(self.restarts.get() + 1);
        *self.memory.borrow_mut() = Memory::new(64 << 20, self.restarts.get());
    }

    /// Purges everything, as an operator does.
    pub fn purge_everything(&self, world: &World) {
        self.purge(world, &["!all"]);
    }

    /// A purge through the bridge's API.
    pub fn purge(&self, world: &World, tags: &[&str]) {
        let tags = tags.iter().map(ToString::to_string).collect();
        let request = PurgeRequest { namespace: "shop:v1".to_owned(), tags, ..PurgeRequest::default() };
        self.memory.borrow_mut().purge(&request, now_ms(world.now()));
    }

    /// What a gateway stored last, as the store got it.
    pub fn last_stored(&self) -> Stored {
        self.stored.borrow().clone().expect("something is stored")
    }

    /// Writes into the store, past all gateways, and says that it is new.
    pub fn put(&self, world: &World, request: &StoreRequest, payload: &[u8]) {
        let request = StoreRequest { ticket: Ticket { seen_ms: None, ..request.ticket }, ..request.clone() };
        self.memory.borrow_mut().store(&request, payload.to_vec().into(), now_ms(world.now()));
    }

    /// What the store has for the key of a store.
    pub fn holds(&self, world: &World, stored: &StoreRequest) -> Vec<u8> {
        let (namespace, key, tags) = (stored.namespace.clone(), stored.key.clone(), stored.tags.clone());
        let request = LookupRequest { namespace, key, tags, ..LookupRequest::default() };
        self.memory.borrow_mut().lookup(&request, now_ms(world.now())).1.to_vec()
    }

    /// A purge by patterns, and by tags beside them.
    pub fn ban(&self, world: &World, tags: &[&str], patterns: &[Pattern]) {
        let tags = tags.iter().map(ToString::to_string).collect();
        let request = PurgeRequest { namespace: "shop:v1".to_owned(), tags, ..PurgeRequest::default() };
        self.memory.borrow_mut().purge_with(&request, patterns, now_ms(world.now()));
    }

    /// The same, softly.
    pub fn purge_softly(&self, world: &World, tag: &str) {
        self.purge(world, &[tag, TAG_SOFT]);
    }

    /// Answers what waits for it, as far as it has come.
    fn wake(&self, now_ms: u64, kept: &mut Kept) {
        let mut memory = self.memory.borrow_mut();
        self.held.borrow_mut().retain(|(call, request, arrived_ms)| match memory.poll(request, *arrived_ms, now_ms) {
            Some(reply) => {
                kept.answer(*call, marked(&reply, b""));
                false
            }
            None => true,
        });
        self.hearing.borrow_mut().retain(|(call, request, reply)| {
            let left_ms = left_ms(&mut memory, request, reply, now_ms);
            if left_ms == 0 {
                kept.answer(*call, marked(reply, b""));
            }
            left_ms > 0
        });
        self.waiting.borrow_mut().retain(|(call, request)| match over(&mut memory, request, now_ms) {
            Some(reply) => {
                kept.answer(*call, marked(&reply, b""));
                false
            }
            None => true,
        });
    }
}

impl Upstream for Bridge {
    fn call(&mut self, call: &Call, kept: &mut Kept) -> Reply {
        if let Some(reply) = self.failure.get().and_then(|failure| failure.reply(call)) {
            return reply;
        }
        if self.delayed.get() == Some(call.path()) {
            self.coming.borrow_mut().push(call.clone());
            return Reply::hang();
        }
        let now_ms = now_ms(call.at);
        let mut memory = self.memory.borrow_mut();
        let reply = match call.path() {
            LOOKUP => {
                let (request, _) = decode(&call.body).expect("a lookup");
                let (reply, payload) = memory.lookup(&request, now_ms);
                marked(&reply, &payload)
            }
            STORE => {
                let (request, payload): (StoreRequest, _) = decode(&call.body).expect("a store");
                let reply = memory.store(&request, payload.to_vec().into(), now_ms + self.store_way_ms.get());
                drop(memory);
                if !payload.is_empty() {
                    *self.stored.borrow_mut() = Some((request, payload.to_vec()));
                }
                self.wake(now_ms, kept);
                marked(&reply, b"")
            }
            RELEASE => {
                let (request, _) = decode(&call.body).expect("a release");
                let reply = memory.release(&request, now_ms);
                drop(memory);
                self.wake(now_ms, kept);
                marked(&reply, b"")
            }
            WAIT => {
                let (request, _): (WaitRequest, _) = decode(&call.body).expect("a wait");
                if let Some(reply) = over(&mut memory, &request, now_ms) {
                    return Reply::from(marked(&reply, b"")).after(ms(1));
                }
                let (hold, reply) = patience(&mut memory, &request, now_ms);
                self.waiting.borrow_mut().push((call.id, request));
                return Reply::later_or(hold, marked(&reply, b""));
            }
            PURGE => {
                let (request, _): (PurgeRequest, _) = decode(&call.body).expect("a purge");
                let reply = memory.purge(&request, now_ms);
                let left_ms = left_ms(&mut memory, &request, &reply, now_ms);
                drop(memory);
                self.wake(now_ms, kept);
                if left_ms > 0 {
                    let hold_ms = request.hear.map_or(0, |hear| hear.hold_ms);
                    self.hearing.borrow_mut().push((call.id, request, reply));
                    let late = PurgeReply { unheard: left_ms > hold_ms, ..reply };
                    return Reply::later_or(ms(left_ms.min(hold_ms)), marked(&late, b""));
                }
                marked(&reply, b"")
            }
            FEED => {
                let (request, _): (FeedRequest, _) = decode(&call.body).expect("a poll");
                let reply = memory.poll(&request, now_ms, now_ms);
                drop(memory);
                self.wake(now_ms, kept);
                let mut memory = self.memory.borrow_mut();
                let Some(reply) = reply else {
                    let quiet = memory.poll(&request, now_ms, now_ms + request.hold_ms).expect("the hold is over");
                    let hold = ms(request.hold_ms);
                    self.held.borrow_mut().push((call.id, request, now_ms));
                    return Reply::later_or(hold, marked(&quiet, b""));
                };
                return Reply::from(marked::<FeedReply>(&reply, b"")).background();
            }
            other => panic!("the filter calls {other}"),
        };
        Reply::from(reply).after(ms(1))
    }
}

/// How long gateways may yet serve what was purged, where the purge waits for that.
fn left_ms(memory: &mut Memory, request: &PurgeRequest, reply: &PurgeReply, now_ms: u64) -> u64 {
    request.hear.map_or(0, |hear| memory.unheard(&request.namespace, reply.position, hear.gateway, now_ms))
}

/// The store's clock: its zero doesn't matter, but an id is never 0.
fn now_ms(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).expect("a clock that began lately") + 1_000_000
}

fn marked<T: serde::Serialize>(head: &T, payload: &[u8]) -> Response {
    Response::ok(encode(head, payload)).header(MARKER, VERSION)
}
