//! Runs a plan in host-test, and writes down what happened.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bridge_api::TAG_SOFT;
use proxy_wasm_host_test::{
    Answer, Call, CallId, Dialect, Ending, FailurePolicy, Reply, Request, RequestId, Response, Status, Thread, World,
};
use serde_json::{Value, json};

use super::care::Care;
use super::chance::Chance;
use super::group::{Deed, Group, NAMESPACE, Versions, tags_of};
use super::history::{
    Ask, BACKGROUND, Bound, Contact, Death, History, Kind, PART_BYTES, Read, Resource, Trouble, While, Write,
};
use super::plan::{Evicted, Failure, OriginFailure, Part, Plan, Says, Step, What};
use super::planted::{Place, Plant};

/// How long everything works at the end before it must have healed: several retries and windows.
const HEALING: Duration = Duration::from_secs(6);

/// How long the last of those who wait may take, and into how many looks that is divided.
const ENDING: Duration = Duration::from_millis(200);
const ENDING_TURNS: u32 = 100;

/// How long the origin takes over the end of its answer to a write.
const LINGERING: Duration = Duration::from_millis(20);

/// Who writes, where something is read again behind writes.
const WRITER: [(&str, &str); 3] =
    [("authorization", "Bearer writer"), ("cookie", "session=writer"), ("x-writer", "writer")];

/// The cluster that leads a gateway back to itself.
const SELF: &str = "routecache-self";

/// Bytes of the gateway tier.
const L1_BYTES: usize = 1 << 20;

/// What a callback may cost. The dearest is the one that reads the rules.
const FUEL_PER_CALLBACK: u64 = 60_000_000;

/// What a VM may grow to.
const VM_BYTES: usize = 8 << 20;

fn rules(plan: &Plan, longer: bool) -> Value {
    let ttl = |ms: u64| format!("{ms}ms");
    let lifetime = ttl(plan.lifetime_ms);
    let mut rules = json!({
        "namespace": { "prefix": "shop", "version": "v1" },
        "consistency": { "window": format!("{}ms", plan.window_ms) },
        // A small table: a simulated gateway lays it out call by call.
        "limits": { "l0_bytes": "256KiB", "l1_bytes": L1_BYTES, "body_bytes_max": "64KiB" },
        "routes": [
            { "name": "user", "match": { "path": "/users/{id}" }, "cache": { "key": "user:{id}", "ttl": lifetime } },
            {
                "name": "orders",
                "match": { "path": "/users/{id}/orders" },
                "cache": {
                    "key": "orders:{id}", "tags": ["user:{id}", "orders"],
                    "ttl": if longer { ttl(plan.lifetime_ms + 1000) } else { ttl(plan.lifetime_ms) }
                }
            },
            {
                "name": "basket",
                "match": { "path": "/users/{id}/basket" },
                "cache": { "key": "basket:{id}", "tags": [{ "header": "surrogate-key" }], "ttl": lifetime }
            },
            {
                "name": "write", "match": { "path": "/users/{id}" },
                "purge": { "tags": ["user:{id}", "owner-{id}"] }
            }
        ]
    });
    plan.care.say(&mut rules);
    if plan.grouped {
        rules["bridge"] = json!({ "cluster": "routecache-bridge", "timeout": "50ms" });
        if plan.sealed {
            rules["bridge"]["seal"] = json!({ "env": ["SEAL"] });
        }
        if plan.heard {
            rules["purge"] = json!({ "acknowledge": "group" });
            if plan.care.purge_timeout < Care::default().purge_timeout {
                rules["purge"]["timeout"] = json!(format!("{}ms", plan.care.purge_timeout.as_millis()));
            }
        }
    }
    rules
}

/// What the origin did.
struct Origin {
    versions: Versions,
    /// By the client's request.
    writes: HashMap<RequestId, (u64, u64, Duration)>,
    failure: Option<OriginFailure>,
    says: Option<Says>,
    /// Whether the answers to writes end a while after they began.
    lingers: bool,
    /// What they say.
    done: String,
    /// Whether it matters what they say, so that they are held to their ends.
    tells: bool,
    contacts: Vec<(RequestId, Contact)>,
    chance: Chance,
    way_ms: u64,
    ahead_s: i64,
}

impl Origin {
    fn new(plan: &Plan) -> Self {
        Self {
            versions: Versions::default(),
            writes: HashMap::new(),
            failure: None,
            says: None,
            lingers: plan.care.is_said,
            tells: plan.care.behind.reads_responses(),
            done: plan.care.behind.body().unwrap_or_else(|| "done".to_owned()),
            contacts: Vec::new(),
            chance: Chance::new(plan.seed ^ 0x6f72_6967),
            way_ms: plan.origin_way_ms,
            ahead_s: plan.origin_ahead_s,
        }
    }

    fn way(&mut self) -> Duration {
        Duration::from_millis(self.chance.below(self.way_ms))
    }

    fn answer(&mut self, call: &Call) -> Reply {
        let Some(resource) = Resource::of(call.path()) else { return Response::new(404).into() };
        let Some(request) = call.request else { return Response::new(404).into() };
        let Thread::Worker(worker) = call.thread else { return Response::new(404).into() };
        let mut contact = Contact {
            request: 0,
            gateway: call.gateway,
            worker,
            resource,
            at: call.at,
            answered: call.at,
            ended: call.at,
            status: 0,
            is_get: call.method() == "GET",
            whole: false,
            private: false,
            own: call.header("user-agent") == Some("routecache"),
            named: WRITER.iter().any(|(name, _)| call.header(name).is_some()),
        };
        if self.failure == Some(OriginFailure::Refuses) {
            self.contacts.push((request, Contact { status: 503, ..contact }));
            return Response::new(503).body("later").into();
        }
        let version = {
            let mut versions = self.versions.borrow_mut();
            let version = versions.entry(resource.user).or_insert(1);
            if call.method() == "PUT" {
                *version += 1;
                self.writes.insert(request, (resource.user, *version, call.at));
            }
            *version
        };
        if self.failure == Some(OriginFailure::Resets) {
            let after = self.way();
            contact.ended += after;
            self.contacts.push((request, contact));
            return Reply::reset().after(after);
        }
        let (number, after) = (self.contacts.len(), self.way());
        (contact.answered, contact.ended) = (call.at + after, call.at + after);
        let body = resource.body(version);
        let tag = format!("\"v{version}\"");
        let mut response = Response::new(200)
            .header("content-type", "text/plain")
            .header("date", self.date(call.wall))
            .header("surrogate-key", format!("owner-{}", resource.user))
            .header("x-origin", number.to_string());
        (contact.status, contact.whole) = (200, true);
        let gone = match self.says {
            Some(Says::Missing) => Some(404),
            Some(Says::Gone) => Some(410),
            Some(Says::Private) | None => None,
        };
        if gone.is_none() || call.method() == "PUT" {
            response = response.header("etag", &tag);
        }
        if call.method() == "PUT" {
            let begun = response.after(after);
            if !self.lingers {
                self.contacts.push((request, contact));
                return begun.body(&self.done).into();
            }
            let (first, second) = self.done.split_at(self.done.len() / 2);
            if self.tells {
                contact.ended += LINGERING;
            }
            self.contacts.push((request, contact));
            return begun.chunk(Duration::ZERO, first).chunk(LINGERING, second).into();
        }
        if call.header("authorization").is_some() {
            contact.private = true;
        } else if self.chance.percent(6) {
            contact.private = true;
            response = match self.chance.below(4) {
                0 => response.header("cache-control", "private"),
                1 => response.header("cache-control", "max-age=60").header("cache-control", "no-store"),
                2 => response.header("set-cookie", "session=1"),
                _ => response.header("vary", "*"),
            };
        }
        if self.says == Some(Says::Private) && !contact.private {
            contact.private = true;
            response = response.header("cache-control", "private");
        }
        let reply = if let Some(status) = gone {
            contact.status = status;
            response.status(status).after(after).body(if contact.is_get { &body } else { "" }).into()
        } else if call.header("if-none-match") == Some(&tag) {
            contact.status = 304;
            response.status(304).after(after).into()
        } else if !contact.is_get {
            response.header("content-length", body.len().to_string()).after(after).into()
        } else if call.header("range").is_some() {
            contact.status = 206;
            let range = format!("bytes 0-{}/{}", PART_BYTES - 1, body.len());
            response.status(206).header("content-range", range).after(after).body(&body[..PART_BYTES]).into()
        } else {
            let (first, second) = body.split_at(body.len() / 2);
            let (begun, more) = (response.after(after).chunk(Duration::ZERO, first), self.way());
            contact.ended += more;
            match self.failure {
                Some(OriginFailure::Cuts) => {
                    contact.whole = false;
                    begun.then_reset(more).into()
                }
                _ => begun.chunk(more, second).into(),
            }
        };
        self.contacts.push((request, contact));
        reply
    }

    /// `Date`, by the origin's own clock.
    fn date(&self, wall: Duration) -> String {
        let by = Duration::from_secs(self.ahead_s.unsigned_abs());
        let at = if self.ahead_s < 0 { wall.saturating_sub(by) } else { wall + by };
        httpdate::fmt_http_date(std::time::UNIX_EPOCH + at)
    }
}

/// A run that goes on.
struct Running<'a> {
    plan: &'a Plan,
    world: World,
    group: Group,
    origin: Rc<RefCell<Origin>>,
    history: Rc<RefCell<History>>,
    /// Nothing arrives at the group any more.
    over: Rc<Cell<bool>>,
    /// How many keys each gateway's shared data had at first.
    keys: Vec<usize>,
    reads: Vec<Asked>,
    writes: Vec<RequestId>,
    left: Vec<RequestId>,
    /// Which of the faults that last is the latest of its kind, so that an older one's end doesn't end it.
    latest: Rc<RefCell<HashMap<String, u64>>>,
    faults: u64,
}

/// A read that was sent.
struct Asked {
    id: RequestId,
    resource: Resource,
    ask: Ask,
    had: Option<u64>,
}

/// Runs a plan on this filter, with a mistake if one is planted.
///
/// # Panics
///
/// If there is no such filter, or it refuses its rules.
pub fn run(plan: &Plan, filter: &Path, plant: Option<&Plant>) -> History {
    let origin = Rc::new(RefCell::new(Origin::new(plan)));
    let planted = plant.and_then(|plant| match plant.place {
        Place::Store(store) => Some(store),
        Place::Filter => None,
    });
    let history = Rc::new(RefCell::new(History::default()));
    let group = Group::new(plan, Rc::clone(&origin.borrow().versions), planted);
    let answers = Rc::clone(&origin);
    let mut builder = World::builder()
        .filter(filter.to_path_buf())
        .configuration(rules(plan, false).to_string())
        .env("SEAL", &"5e".repeat(32))
        .gateways(plan.gateways)
        .workers(plan.workers)
        .seed(plan.seed)
        .interleave(true)
        .failure_policy(FailurePolicy::Reload)
        .tolerate_violations()
        .dialect(if plan.exact { Dialect::NGINX } else { Dialect::ENVOY })
        .fuel_budget(FUEL_PER_CALLBACK)
        .memory_budget(VM_BYTES)
        .origin(move |call| answers.borrow_mut().answer(call))
        .cluster("routecache-bridge", group.clone());
    if plan.care.background {
        builder = builder.loopback(SELF);
    }
    if plan.care.behind.reads_responses() {
        builder = builder.body_callbacks_while_headers_paused(true);
    }
    if let Some(Plant { place: Place::Filter, name, .. }) = plant {
        builder = builder.env("ROUTECACHE_PLANTED", name);
    }
    let mut world = builder.build().unwrap_or_else(|error| panic!("seed {}: {error}", plan.seed));
    for (gateway, ahead_s) in plan.gateways_ahead_s.iter().enumerate() {
        let (wall, by) = (world.wall(), Duration::from_secs(ahead_s.unsigned_abs()));
        world.set_wall_of(gateway, if *ahead_s < 0 { wall - by } else { wall + by });
    }
    let over = Rc::new(Cell::new(false));
    if plan.grouped {
        pump(&mut world, group.clone(), Rc::clone(&over), Rc::clone(&history));
    }
    let keys = (0..plan.gateways).map(|gateway| world.shared_data_of(gateway).len()).collect();
    let mut running = Running {
        plan,
        world,
        group,
        origin,
        history,
        over,
        keys,
        reads: Vec::new(),
        writes: Vec::new(),
        left: Vec::new(),
        latest: Rc::default(),
        faults: 0,
    };
    if !plan.cold {
        running.world.run_for(Duration::from_millis(plan.window_ms));
    }
    for step in &plan.steps {
        // What comes at the same instant meets: nothing of it is done before all of it is there.
        if step.after_us > 0 {
            running.world.run_for(Duration::from_micros(step.after_us));
        }
        running.act(step.what);
    }
    running.end()
}

/// Has the group take in what comes, every millisecond.
fn pump(world: &mut World, group: Group, over: Rc<Cell<bool>>, history: Rc<RefCell<History>>) {
    world.after(Duration::from_millis(1), move |world| {
        for deed in group.work(world.now()) {
            match deed {
                Deed::Answer(call, reply) => world.complete(call, reply),
                Deed::End { after, gateway, worker, turns } => {
                    let history = Rc::clone(&history);
                    world.after(after, move |world| end_worker(world, history, gateway, worker, turns));
                }
            }
        }
        if !over.get() {
            pump(world, group, over, history);
        }
    });
}

/// Ends a worker's VM after so many turns of its gateway's threads.
fn end_worker(world: &mut World, history: Rc<RefCell<History>>, gateway: usize, worker: usize, turns: u64) {
    world.after_turns(gateway, turns, move |world| {
        let at = world.now();
        history.borrow_mut().deaths.push(Death { at, gateway, worker: Some(worker) });
        world.restart_worker_of(gateway, worker);
    });
}

impl Running<'_> {
    fn act(&mut self, what: What) {
        let now = self.world.now();
        if !matches!(
            what,
            What::Read { .. }
                | What::Write { .. }
                | What::Nothing
                | What::Rest
                | What::Wait
                | What::Crash { .. }
                | What::Restart { .. }
                | What::Forget { .. }
        ) {
            self.note(format!("{what:?}"));
        }
        if let Some(trouble) = trouble(what, now) {
            self.history.borrow_mut().troubles.push(trouble);
        }
        match what {
            What::Read { gateway, worker, user, of, ask } => {
                self.read(gateway, worker, Resource { user, kind: of }, ask);
            }
            What::Write { gateway, worker, user } => {
                let path = Resource { user, kind: Kind::User }.path();
                let behind = &self.plan.care.behind;
                let body = behind.body().unwrap_or_else(|| "x".to_owned());
                let write = Request::put(&path).body(&body).gateway(gateway).worker(worker);
                let says = if behind.again.is_empty() { &[][..] } else { &WRITER };
                let write = says.iter().fold(write, |write, (name, value)| write.header(*name, *value));
                self.writes.push(self.world.send(write));
            }
            What::Leave { back } => {
                let mut ids: Vec<RequestId> =
                    self.reads.iter().map(|asked| asked.id).chain(self.writes.clone()).collect();
                ids.sort_unstable();
                let Some(id) = ids.iter().rev().nth(back).copied() else { return };
                if self.world.finished(id).is_none() {
                    self.left.push(id);
                    self.world.client_disconnects(id);
                }
            }
            What::WriteBehind { user, tags } => self.write_and_purge_behind(user, tags, false),
            What::Ban { user } => {
                self.write_behind(user);
                self.group.ban(user, now);
            }
            What::Soften { user } => self.write_and_purge_behind(user, 1, true),
            What::Everything => self.group.purge(vec!["!all".to_owned()], now),
            What::Says { says, ms } => {
                self.origin.borrow_mut().says = Some(says);
                let origin = Rc::clone(&self.origin);
                self.until("says".to_owned(), ms, move |_| origin.borrow_mut().says = None);
            }
            What::Burst { user, others } => {
                (0..others).for_each(|other| self.group.purge(vec![format!("other:{other}")], now));
                self.write_and_purge_behind(user, 1, false);
            }
            What::EvictNext { user } => self.group.evict_next(user),
            What::Damage(damage) => self.group.damage(damage),
            What::StoreClock { seconds } => {
                if seconds > 0 {
                    self.history.borrow_mut().store_lapses.push(now);
                }
                self.group.jump(seconds);
            }
            What::CrashPoller { gateway, turns } => self.group.doom(gateway, turns),
            What::Forget { gateway, part } => {
                self.history.borrow_mut().forgot.push((now, gateway));
                self.world.forget_shared_data(gateway, |key| match part {
                    Part::Log => key.ends_with(b"/log"),
                    Part::Head => key.ends_with(b"/head"),
                    Part::LogAndHead => key.ends_with(b"/log") || key.ends_with(b"/head"),
                    Part::All => true,
                });
            }
            What::Wait => self.world.run_for(Duration::from_millis(self.plan.window_ms.saturating_sub(20))),
            What::Evict(Evicted::Epoch(user)) => self.group.forget_epochs(user),
            What::Evict(Evicted::Orders) => self.group.forget_epoch("orders"),
            What::Evict(Evicted::Entry(user)) => {
                self.group.forget_entry(&format!("{NAMESPACE} user http GET example.com user:{user} "));
            }
            What::Evict(Evicted::Log) => self.reset(self.group.forget_log()),
            What::Replicate => self.group.replicate(),
            What::FailOver => {
                // An outage longer than clocks differ.
                self.history.borrow_mut().store_lapses.push(now);
                let broken = self.group.fail_over(now);
                self.reset(broken);
                self.world.run_for(Duration::from_millis(5));
            }
            What::RestartBridge => self.reset(self.group.restart()),
            What::Cut { gateway, failure, ms } => {
                self.reset(self.group.cut(gateway, Some(failure)));
                let group = self.group.clone();
                self.until(format!("cut {gateway}"), ms, move |world| reset(world, group.cut(gateway, None)));
            }
            What::Depose { gateway, ms } => {
                self.reset(self.group.depose(gateway, true));
                let group = self.group.clone();
                self.until(format!("depose {gateway}"), ms, move |world| reset(world, group.depose(gateway, false)));
            }
            What::Crash { gateway, worker, turns } => {
                end_worker(&mut self.world, Rc::clone(&self.history), gateway, worker, turns);
            }
            What::Restart { gateway } => {
                self.history.borrow_mut().deaths.push(Death { at: now, gateway, worker: None });
                self.world.restart_gateway(gateway);
            }
            What::Reconfigure { gateway, longer } => {
                let rules = rules(self.plan, longer).to_string();
                if let Err(error) = self.world.reconfigure_gateway(gateway, rules.as_bytes()) {
                    self.history.borrow_mut().violations.push(format!("good rules were refused: {error}"));
                }
            }
            What::Clock { seconds } => {
                let by = Duration::from_secs(seconds.unsigned_abs());
                let wall = self.world.wall();
                self.world.set_wall(if seconds < 0 { wall.saturating_sub(by) } else { wall + by });
            }
            What::Race { times } => self.world.refuse("proxy_set_shared_data", Status::CasMismatch, times),
            What::Origin { failure, ms } => {
                self.origin.borrow_mut().failure = Some(failure);
                let end = now + Duration::from_millis(ms + self.plan.origin_way_ms * 2);
                self.history.borrow_mut().origin_failed.push((now, end));
                let origin = Rc::clone(&self.origin);
                self.until("origin".to_owned(), ms, move |_| origin.borrow_mut().failure = None);
            }
            What::Nothing => {}
            What::Yield { gateway, worker, after, turns } => {
                self.world.after_turns(gateway, after, move |world| world.rest_worker_of(gateway, worker, turns));
            }
            What::Rest => self.world.run_for(Duration::from_millis(self.plan.window_ms * 2)),
        }
    }

    fn read(&mut self, gateway: usize, worker: usize, resource: Resource, ask: Ask) {
        let path = resource.path();
        let request = match ask {
            Ask::Head => Request::head(&path),
            _ => Request::get(&path),
        };
        let had = (ask == Ask::IfChanged).then(|| self.last_seen(resource)).flatten();
        let request = match (ask, had) {
            (Ask::Part, _) => request.header("range", format!("bytes=0-{}", PART_BYTES - 1)),
            (Ask::Authorised, _) => request.header("authorization", "Bearer me"),
            (_, Some(version)) => request.header("if-none-match", format!("\"v{version}\"")),
            _ => request,
        };
        let id = self.world.send(request.gateway(gateway).worker(worker));
        self.reads.push(Asked { id, resource, ask, had });
    }

    /// The version of the last body of this that any client got.
    fn last_seen(&self, resource: Resource) -> Option<u64> {
        let same = self.reads.iter().rev().filter(|asked| asked.resource == resource && asked.ask == Ask::Whole);
        same.filter_map(|asked| self.world.finished(asked.id)).find_map(|answer| {
            let tag = answer.header("etag")?;
            tag.trim_matches('"').strip_prefix('v')?.parse().ok()
        })
    }

    fn write_and_purge_behind(&mut self, user: u64, tags: usize, softly: bool) {
        self.write_behind(user);
        let others = (1..tags).map(|number| format!("other:{number}"));
        let soft = softly.then(|| TAG_SOFT.to_owned());
        self.group.purge(tags_of(user).into_iter().chain(others).chain(soft).collect(), self.world.now());
    }

    fn write_behind(&mut self, user: u64) {
        let now = self.world.now();
        let version = {
            let versions = Rc::clone(&self.origin.borrow().versions);
            let mut versions = versions.borrow_mut();
            let version = versions.entry(user).or_insert(1);
            *version += 1;
            *version
        };
        self.history.borrow_mut().writes.push(Write {
            gateway: None,
            worker: 0,
            user,
            version,
            done: now,
            released: None,
            ended: Some(now),
            began: now,
            left: false,
            told: String::new(),
        });
    }

    /// Has a fault end after a while, unless another one of its kind has begun.
    fn until(&mut self, kind: String, ms: u64, end: impl FnOnce(&mut World) + 'static) {
        self.faults += 1;
        let number = self.faults;
        self.latest.borrow_mut().insert(kind.clone(), number);
        let latest = Rc::clone(&self.latest);
        self.world.after(Duration::from_millis(ms), move |world| {
            if latest.borrow().get(&kind) == Some(&number) {
                end(world);
            }
        });
    }

    /// What the run left in memory, and what it may.
    fn bounds(&self) -> Vec<Bound> {
        let mut bounds = Vec::new();
        for (gateway, keys) in self.keys.iter().enumerate() {
            let data = self.world.shared_data_of(gateway);
            let bound = |what: &str, is, at_most| Bound { what: format!("gateway {gateway}: {what}"), is, at_most };
            bounds.push(bound("keys in shared data", data.len(), *keys));
            bounds.push(bound("bytes in shared data", data.byte_size(), L1_BYTES + (256 << 10)));
        }
        bounds.push(Bound { what: "bytes in the store".to_owned(), is: self.group.bytes(), at_most: 64 << 20 });
        bounds
    }

    fn reset(&mut self, calls: Vec<CallId>) {
        reset(&mut self.world, calls);
    }

    fn note(&self, what: String) {
        self.history.borrow_mut().notes.push((self.world.now(), what));
    }

    /// Lets everything work again, reads everything everywhere, and writes the history down.
    fn end(mut self) -> History {
        let quiet = self.world.now();
        for gateway in 0..self.plan.gateways {
            self.reset(self.group.cut(gateway, None));
            self.reset(self.group.depose(gateway, false));
        }
        // That breaks polls.
        self.history.borrow_mut().troubles.push(While {
            trouble: Trouble::Bridge,
            gateway: None,
            from: quiet,
            to: quiet,
        });
        self.latest.borrow_mut().clear();
        {
            let mut origin = self.origin.borrow_mut();
            (origin.failure, origin.says) = (None, None);
        }
        self.world.run_for(HEALING);
        let healed = self.world.now();
        for _ in 0..2 {
            for gateway in 0..self.plan.gateways {
                for worker in 0..self.plan.workers {
                    for user in 0..super::plan::USERS {
                        for kind in [Kind::User, Kind::Orders, Kind::Basket] {
                            self.read(gateway, worker, Resource { user, kind }, Ask::Whole);
                        }
                    }
                }
            }
            self.world.run_for(Duration::from_millis(self.plan.origin_way_ms * 2 + 250));
        }
        // Whoever waits yet does so for a group that works.
        let asked: Vec<_> = self.reads.iter().map(|asked| asked.id).chain(self.writes.iter().copied()).collect();
        let waits = |world: &World| asked.iter().any(|id| !self.left.contains(id) && world.finished(*id).is_none());
        for _ in 0..ENDING_TURNS {
            if waits(&self.world) {
                self.world.run_for(ENDING);
            }
        }
        self.over.set(true);
        self.world.run_until_idle();
        let mut history = self.history.borrow().clone();
        history.window = Duration::from_millis(self.plan.window_ms);
        (history.quiet, history.healed) = (quiet, healed);
        history.purges = self.group.purges();
        (history.grouped, history.heard) = (self.plan.grouped, self.plan.heard);
        let longer = |step: &Step| matches!(step.what, What::Reconfigure { longer: true, .. });
        let more_ms = if self.plan.steps.iter().any(longer) { 1000 } else { 0 };
        history.lifetime = Duration::from_millis(self.plan.lifetime_ms + more_ms);
        history.lifetime_least = Duration::from_millis(self.plan.lifetime_ms);
        history.care = self.plan.care.clone();
        history.tick = Duration::from_millis(if self.plan.exact { 250 } else { 0 });
        history.slack = history.tick + Duration::from_millis(20);
        // There and back, and it is taken in every millisecond.
        history.bridge_way = Duration::from_millis(self.plan.bridge_way_ms + 3);
        history.workers = self.plan.workers;
        if Duration::from_millis(self.plan.bridge_way_ms) >= history.care.bridge_timeout {
            // Its answers may come too late at any time.
            let (from, to) = (Duration::ZERO, Duration::from_secs(1 << 20));
            history.troubles.push(While { trouble: Trouble::Bridge, gateway: None, from, to });
        }
        history.transit = Duration::from_millis(self.plan.origin_way_ms * 2 + 5);
        history.bounds = self.bounds();
        let world = &mut self.world;
        let numbers: HashMap<RequestId, usize> =
            self.reads.iter().map(|asked| asked.id).chain(self.writes.clone()).zip(0..).collect();
        let contacts = std::mem::take(&mut self.origin.borrow_mut().contacts);
        let numbered = |(id, contact): (RequestId, Contact)| Contact {
            request: numbers.get(&id).copied().unwrap_or(BACKGROUND),
            ..contact
        };
        history.contacts = contacts.into_iter().map(numbered).collect();
        let left = |id: &RequestId| self.left.contains(id);
        // Those that never ended are among the violations.
        let answered =
            |(number, asked): (usize, &Asked)| Some(read_of(world.finished(asked.id)?, number, asked, left(&asked.id)));
        history.reads = self.reads.iter().enumerate().filter_map(answered).collect();
        for id in &self.writes {
            let Some(answer) = world.finished(*id) else { continue };
            if let Some((user, version, done)) = self.origin.borrow().writes.get(id).copied() {
                history.writes.push(Write {
                    gateway: Some(answer.gateway),
                    worker: answer.worker,
                    user,
                    version,
                    done,
                    released: answer.headers_at.filter(|_| answer.status == 200),
                    ended: Some(answer.ended),
                    began: answer.started,
                    left: left(id),
                    told: answer.header("cache-status").unwrap_or_default().to_owned(),
                });
            }
        }
        history.writes.sort_by_key(|write| write.done);
        history.violations.extend(world.take_violations().iter().map(ToString::to_string));
        history
    }
}

/// What a step keeps from working, and how long.
fn trouble(what: What, from: Duration) -> Option<While> {
    let lasting = |trouble, gateway, ms| Some(While { trouble, gateway, from, to: from + Duration::from_millis(ms) });
    match what {
        What::Cut { gateway, failure: Failure::AnswerLost | Failure::NoPurges, ms } | What::Depose { gateway, ms } => {
            lasting(Trouble::Bridge, Some(gateway), ms)
        }
        What::Cut { gateway, ms, .. } => lasting(Trouble::NoBridge, Some(gateway), ms),
        What::Evict(_) | What::StoreClock { .. } | What::FailOver | What::RestartBridge => {
            lasting(Trouble::Bridge, None, 0)
        }
        What::Forget { gateway, .. } | What::Reconfigure { gateway, .. } => lasting(Trouble::Shared, Some(gateway), 0),
        What::Race { .. } => lasting(Trouble::Shared, None, 0),
        _ => None,
    }
}

fn reset(world: &mut World, calls: Vec<CallId>) {
    for call in calls {
        world.complete(call, Reply::reset());
    }
}

fn read_of(answer: &Answer, request: usize, asked: &Asked, left: bool) -> Read {
    let numbers = answer.headers.all("x-origin");
    Read {
        request,
        gateway: answer.gateway,
        worker: answer.worker,
        resource: asked.resource,
        ask: asked.ask,
        had: asked.had,
        began: answer.started,
        ended: answer.ended,
        status: answer.status,
        complete: answer.ending == Ending::Complete,
        left: left || answer.ending == Ending::ClientGone,
        body: answer.text(),
        told: answer.header("cache-status").unwrap_or_default().to_owned(),
        age: answer.header("age").map(str::to_owned),
        origin: numbers.iter().filter_map(|number| number.parse().ok()).collect(),
    }
}
