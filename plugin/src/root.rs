//! What goes on behind the streams: configuration, the feed of the group's log, and the calls that streams leave behind.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use bridge_api::{
    Continuity, FEED, FeedRecord, FeedReply, FeedRequest, Hearing, Holder, Listener, PURGE, Pattern, PurgeReply,
    PurgeRequest, RELEASE, ReleaseRequest, STORE, TAG_ALL, TAG_SOFT, is_soft,
};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use routecache_core::bans::Ban;
use routecache_core::cache_status::{CacheStatus, Forward};
use routecache_core::fetch::Kind;
use routecache_core::gateway_log::{Change, GatewayLog, GroupPosition, Head, Pending, Record};
use routecache_core::key::tag_hash;
use routecache_core::numbered::Numbered;
use routecache_core::planted::planted;
use routecache_core::policy::{Action, Policy};
use routecache_core::request::{Engine, Writing};
use routecache_core::seal::Seals;

use crate::bodies::REQUEST_WAIT_MS;
use crate::bridge::{self, Link};
use crate::collapse::Woken;
use crate::fetch::{self, Errand, Fetch};
use crate::host::{self, Buffer, Direction, Level};
use crate::metrics;
use crate::random;
use crate::seal::seals;
use crate::shared::Shared;
use crate::stream::{Handle, Stream, park, tell};
use crate::warm::Warming;
use crate::worker::{Job, Worker};

/// The bridge holds a poll of the feed for a quarter of the window, and a poll may take another quarter beyond that before
/// it counts as failed: so another VM can take over from one that died in the middle of a poll before the gateway stops
/// trusting what it holds. At least this, in milliseconds.
const FEED_QUARTER_MIN_MS: u64 = 50;

/// How long a store may take. Nobody waits for it.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long before a purge counts as unanswered the bridge is to answer it, heard everywhere or not, in milliseconds.
const HEARING_MARGIN_MS: u64 = 100;

/// How long after it was sent a purge that wasn't acknowledged is sent again.
const PURGE_RETRY_MS: u64 = 1000;

/// What counts purges without an answer, each time that they are sent.
const UNACKNOWLEDGED: &str = "routecache_purges_unacknowledged";

/// How often the root context looks after those who wait, and, where the host has no queues to tell of it, for work that
/// streams left; in milliseconds.
const TICK_MIN_MS: u64 = 10;
const TICK_MAX_MS: u64 = 250;

/// How many streams go on in one callback. In Envoy each goes on inside the call that let the one before it go on, so a thousand
/// overflow the stack (seen in 1.40: 390 do, 250 don't), which ends the VM.
pub const WAKES_MAX: usize = 32;

/// Fetches that wait for others to end; what is over is dropped, and comes again with the next client.
const FETCHES_WAITING_MAX: usize = 1024;

/// One configuration of the filter on one worker.
pub struct Instance {
    /// The rules.
    pub engine: Engine,
    /// Prefix and version.
    pub namespace: String,
    /// What all VMs of the gateway share.
    pub shared: Shared,
    /// What this VM holds.
    pub worker: Rc<RefCell<Worker>>,
    /// To the bridge, where the rules name one.
    link: Option<Link>,
    /// How entries are sealed in the group.
    pub seals: Seals,
}

impl Instance {
    fn new(engine: Engine) -> Result<Self, String> {
        let policy = engine.policy();
        let namespace = policy.namespace.to_string();
        let env = |name: &str| std::env::var(name).ok();
        let link = policy.bridge.as_ref().map(|bridge| Link::new(bridge, env)).transpose()?;
        let seal = policy.bridge.as_ref().and_then(|bridge| bridge.seal.as_ref());
        let seals = seal.map(|seal| seals(seal, env)).transpose()?.unwrap_or_default();
        let worker = Worker::of(&namespace, policy.limits.l0_bytes);
        Ok(Self { shared: Shared::new(policy), namespace, worker, link, seals, engine })
    }

    /// Calls the bridge, if there is one.
    fn call<T: serde::Serialize>(&self, path: &str, head: &T, payload: &[u8], timeout: Duration) -> Option<u32> {
        self.link.as_ref()?.call(path, head, payload, timeout)
    }

    /// The rules.
    pub fn policy(&self) -> &Policy {
        self.engine.policy()
    }

    /// A quarter of the consistency window, in milliseconds: the rhythm of the feed.
    fn quarter_ms(&self) -> u64 {
        (u64::from(self.policy().window_ms) / 4).max(FEED_QUARTER_MIN_MS)
    }

    /// This gateway, as the group knows it.
    fn listener(&self) -> Option<Listener> {
        let window_ms = self.policy().window_ms.into();
        self.shared.name().map(|name| Listener { name: Holder(name), window_ms })
    }

    /// How often the root context looks after what is due: what the feed and the shortest wait ask for.
    fn tick_ms(&self) -> u64 {
        let waits = self.policy().rules.iter().filter_map(|rule| match &rule.action {
            Action::Cache(cache) => Some(u64::from(cache.lock.wait_ms) / 8),
            Action::Purge(_) => None,
        });
        let wait_ms = waits.min().unwrap_or(TICK_MAX_MS).clamp(TICK_MIN_MS, TICK_MAX_MS);
        if self.policy().bridge.is_some() { wait_ms.min(self.quarter_ms()) } else { wait_ms }
    }

    /// Whether what this gateway holds may be served (C4). A gateway that stands alone hears of every purge itself.
    pub fn trusts(&self, head: &Head, now_ms: u64) -> bool {
        let now_ms = if planted("wall_clock") { host::wall_ms() } else { now_ms };
        let Policy { bridge, serves_unheard, window_ms, .. } = self.policy();
        planted("feed_loss_ignored") || bridge.is_none() || *serves_unheard || head.is_fresh(now_ms, *window_ms)
    }

    /// Asks the bridge for the request of the current stream, unless it doesn't answer lately; the call's token.
    pub fn ask_bridge<T: serde::Serialize>(&self, path: &str, request: &T, timeout_ms: u64) -> Option<u32> {
        self.link.as_ref()?;
        if !self.worker.borrow_mut().breaker.allows(host::monotonic_ms()) {
            return None;
        }
        let timeout_ms = if planted("deadline_ignored") { timeout_ms.saturating_mul(20) } else { timeout_ms };
        let token = self.call(path, request, &[], Duration::from_millis(timeout_ms));
        if token.is_none() {
            self.bridge_answered(false);
        }
        token
    }

    /// Whether the bridge has answered a call for which somebody waited: its breaker hears of it.
    pub fn bridge_answered(&self, answered: bool) {
        let mut worker = self.worker.borrow_mut();
        if answered && worker.breaker.answered() {
            host::log(Level::Info, "routecache: the bridge answers again");
        }
        if answered {
            return;
        }
        metrics::count("routecache_bridge_unanswered");
        if worker.breaker.failed(host::monotonic_ms()) {
            metrics::count("routecache_bridge_breaker_opened");
            host::log(Level::Warn, "routecache: the bridge doesn't answer; requests go on without it for a while");
        }
    }

    /// Whether the filter may fetch by itself: from `origin`, or else through the gateway's own listener.
    pub fn may_fetch(&self, origin: Option<&str>, now_ms: u64) -> bool {
        let background = self.policy().background.as_ref();
        background.is_some_and(|own| self.worker.borrow().reaches(origin.unwrap_or(&own.cluster), now_ms))
    }

    /// Whether it may read the list to warm, or some of it.
    pub fn may_warm(&self, now_ms: u64) -> bool {
        self.may_fetch(None, now_ms) || self.policy().origins().next().is_some()
    }

    /// Counts what became of a fetch; `None` if something else answered it.
    pub fn count_fetch(&self, kind: Option<Kind>) {
        metrics::count(match kind {
            Some(Kind::Stored) => "routecache_fetches_stored",
            Some(Kind::Uncacheable) => "routecache_fetches_uncacheable",
            Some(Kind::Failed) => "routecache_fetches_failed",
            None => "routecache_fetches_lost",
        });
    }

    /// Purges what a write names, as [`Instance::purge_tags`] does: softly, where its rules say so.
    pub fn purge(&self, writing: &Writing, tags: Vec<String>, held: Option<(u32, bool)>) -> Purged {
        let (mut soft, hard): (Vec<_>, Vec<_>) = tags.into_iter().partition(|tag| writing.softens(tag));
        if !soft.is_empty() {
            soft.push(TAG_SOFT.to_owned());
        }
        let purged = [hard, soft].into_iter().filter(|tags| !tags.is_empty()).map(|tags| self.purge_tags(tags, held));
        purged.max().unwrap_or(Purged::Here)
    }

    /// Purges tags in the gateway, at once, and leaves it to the root context to purge them in the group. The response of
    /// `stream` is to be held until that is done, with its header or without.
    fn purge_tags(&self, tags: Vec<String>, held: Option<(u32, bool)>) -> Purged {
        let operation = random();
        let grouped = self.policy().bridge.is_some();
        let pend = grouped.then(|| Pending { operation, tags: tags.clone(), sent_ms: host::monotonic_ms() });
        let change = Change { records: records(&tags, None), pend, ..Change::default() };
        let mut worker = self.worker.borrow_mut();
        let recorded = self.shared.change(&change, None);
        if recorded.is_err() {
            // Without shared data no worker serves anything (`Worker::follow`), so nothing stale either; the group still
            // hears of it.
            host::log(
                Level::Error,
                &format!("routecache: the gateway's shared data refused a purge of {}", tags.join(", ")),
            );
        }
        if !grouped {
            return if recorded.is_ok() { Purged::Here } else { Purged::Failed };
        }
        // A bridge that doesn't answer is told all the same; nobody waits for it.
        let held = held.filter(|_| !worker.breaker.is_open());
        let stream = held.as_ref().map(|(stream, _)| *stream);
        if let Some((stream, header)) = held {
            worker.hold_back(stream, header);
        }
        worker.leave(Job::Purge { operation, tags, stream, until_ms: None });
        if stream.is_some() { Purged::Held } else { Purged::Pending }
    }
}

/// What became of a purge in the gateway.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purged {
    /// Done; there is no group.
    Here,
    /// Done, and on its way to the group: hold the response.
    Held,
    /// Done, and on its way to the group, which doesn't answer lately.
    Pending,
    /// Shared data refused it, and there is no group.
    Failed,
}

impl Purged {
    /// What is said of it, once that is known.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Here => Some("purged"),
            Self::Held => None,
            Self::Pending => Some("purge-pending"),
            Self::Failed => Some("purge-failed"),
        }
    }
}

/// See the module.
pub struct Root {
    id: u32,
    instance: Option<Rc<Instance>>,
    calls: Numbered<u32, Call>,
    /// Fetches that go straight to the origin, by the numbers of their exchanges: what each is for.
    straight: Vec<(u32, Errand)>,
    /// What is to be fetched as soon as fewer fetches are under way.
    fetches: VecDeque<Fetch>,
    /// What writes ask for, likewise.
    recaches: VecDeque<Fetch>,
    /// What is read because it is listed, likewise.
    warming: Warming,
    /// The second in which reads of those kinds began last, and how many did.
    recached: (u64, u32),
    /// How many streams may still go on in this callback.
    wakes: usize,
    /// Tells this context from others that might poll the feed.
    name: u64,
    /// Since when the feed is missed, in milliseconds, and whether that was said.
    missed: Option<(u64, bool)>,
}

/// A call that is under way: to the bridge, or back to the gateway.
enum Call {
    Fetch(Errand),
    /// Nobody waits for its answer, but a lease may be given back then.
    Told(Option<ReleaseRequest>),
    /// A stream asked when it was woken, or one asked that only this context has.
    Asked(u32, Rc<RefCell<Stream>>),
    Purge {
        operation: u64,
        tags: Vec<String>,
        stream: Option<u32>,
        until_ms: u64,
    },
    Feed {
        started_ms: u64,
        cursor: Option<GroupPosition>,
        known: Option<GroupPosition>,
    },
}

impl Root {
    /// A root context without configuration.
    pub fn new(id: u32) -> Self {
        Self {
            id,
            instance: None,
            calls: Numbered::default(),
            straight: Vec::new(),
            fetches: VecDeque::new(),
            recaches: VecDeque::new(),
            warming: Warming::default(),
            recached: (0, 0),
            wakes: 0,
            name: random(),
            missed: None,
        }
    }

    fn configure(&mut self, configuration: &[u8]) -> Result<(), String> {
        let policy = routecache_config::load_json(configuration, &|name| std::env::var(name).ok())
            .map_err(|mistakes| mistakes.to_string())?;
        let instance = Instance::new(Engine::new(policy))?;
        instance.shared.lay_out();
        host::set_tick_period(Duration::from_millis(instance.tick_ms()));
        self.warming = Warming::new(&instance, configuration);
        instance.worker.borrow_mut().root = self.id;
        self.instance = Some(Rc::new(instance));
        Ok(())
    }

    /// Does what streams and other workers left.
    fn work(&mut self, instance: &Instance) {
        let mut later = Vec::new();
        let messages = instance.worker.borrow_mut().take_messages();
        for (stream, woken) in messages.iter().filter_map(|message| instance.hear(message)) {
            self.wake(instance, vec![stream], woken);
        }
        self.wake(instance, instance.turns(), Woken::Turn);
        // What is done may leave more to do.
        loop {
            let jobs = instance.worker.borrow_mut().take_jobs();
            if jobs.is_empty() {
                break;
            }
            for job in jobs {
                match job {
                    Job::Wake(..) if self.wakes == 0 && instance.worker.borrow_mut().queue().is_some() => {
                        later.push(job);
                    }
                    job => self.carry_out(instance, job),
                }
            }
        }
        later.into_iter().for_each(|job| instance.worker.borrow_mut().leave(job));
        self.start_fetches(instance);
    }

    fn carry_out(&mut self, instance: &Instance, job: Job) {
        // Those for the bridge may be of rules that had one.
        let alone = instance.link.is_none();
        match job {
            Job::Wake(streams, woken) => self.wake(instance, streams, woken),
            Job::Fetch(fetch) => self.line_up(instance, fetch),
            Job::Store { .. } | Job::Release(_) if alone => {}
            Job::Purge { stream, .. } if alone => self.release(instance, stream, Some("purge-pending")),
            Job::Store { request, payload, then } => {
                self.tell(instance, STORE, &request, &instance.closed(&request, payload), then);
            }
            Job::Release(request) => self.tell(instance, RELEASE, &request, &[], None),
            Job::Purge { operation, tags, stream, until_ms } => {
                self.send_purge(instance, operation, tags, stream, until_ms);
            }
        }
    }

    fn tell<T: serde::Serialize>(
        &mut self,
        instance: &Instance,
        path: &str,
        request: &T,
        payload: &[u8],
        then: Option<ReleaseRequest>,
    ) {
        if let Some(token) = instance.call(path, request, payload, STORE_TIMEOUT) {
            self.calls.insert(token, Call::Told(then));
        }
    }

    /// Lets parked streams go on, each as if a callback of its own had come; in the next callback those that are too many
    /// for one.
    fn wake(&mut self, instance: &Instance, mut streams: Vec<u32>, woken: Woken) {
        // Without queues the next callback is a tick, and far away.
        if streams.len() > self.wakes && instance.worker.borrow_mut().queue().is_some() {
            let later = streams.split_off(self.wakes);
            instance.worker.borrow_mut().wake(later, woken);
        }
        self.wakes = self.wakes.saturating_sub(streams.len());
        for id in streams {
            let parked = instance.worker.borrow_mut().parked.remove(id);
            match parked.filter(|stream| stream.borrow().is_straight() || host::become_context(id)) {
                Some(stream) => {
                    stream.borrow_mut().woken(woken);
                    self.follow(instance, id, stream, 0);
                }
                None if woken == Woken::Turn => instance.give_turn(),
                None => {}
            }
        }
    }

    /// Looks where a stream has got that was let go on, and gives this context its place back. `body_len` is that of the
    /// answer whose callback this is.
    fn follow(&mut self, instance: &Instance, id: u32, stream: Rc<RefCell<Stream>>, body_len: usize) {
        host::become_context(self.id);
        park(&stream);
        let over = stream.borrow_mut().over();
        let place = self.straight.iter().position(|(known, _)| *known == id);
        if let Some((answer, place)) = over.zip(place) {
            let (_, errand) = self.straight.swap_remove(place);
            return self.fetched(instance, errand, &answer, body_len);
        }
        let asked = stream.borrow().asked();
        if let Some(token) = asked {
            self.calls.insert(token, Call::Asked(id, stream));
        }
    }

    /// Has something fetched in its turn, or at once if a client waits for it.
    fn line_up(&mut self, instance: &Instance, fetch: Fetch) {
        let refreshes = match fetch.errand {
            Errand::Client(_) => return self.start(instance, &fetch),
            Errand::Refresh(_) => true,
            Errand::Recache | Errand::Warm(..) => false,
        };
        let line = if refreshes { &mut self.fetches } else { &mut self.recaches };
        // What waits to be read again needs to be read once.
        let waits = !refreshes && line.iter().any(|waiting| waiting.header == fetch.header);
        if line.len() >= FETCHES_WAITING_MAX {
            metrics::count("routecache_fetches_dropped");
        } else if !waits {
            line.push_back(fetch);
        }
    }

    /// Sends as many fetches as may be under way.
    fn start_fetches(&mut self, instance: &Instance) {
        let Some(background) = &instance.policy().background else { return };
        let limits = instance.policy().limits;
        while self.fetches_under_way(false) < background.concurrency {
            let Some(fetch) = self.fetches.pop_front() else { break };
            self.start_refresh(instance, &fetch, background.timeout_ms);
        }
        let now_ms = host::monotonic_ms();
        let second = now_ms / 1000;
        if self.recached.0 != second {
            self.recached = (second, 0);
        }
        while (self.fetches_under_way(true) < limits.recache_concurrency || planted("recache_unbounded"))
            && self.recached.1 < limits.recache_rate
        {
            let next = self.recaches.pop_front().or_else(|| self.warming.next(instance, now_ms));
            let Some(fetch) = next else { break };
            self.start(instance, &fetch);
            if planted("recache_twice") && fetch.errand == Errand::Recache {
                self.start(instance, &fetch);
            }
            self.recached.1 = self.recached.1.saturating_add(1);
        }
    }

    fn fetches_under_way(&self, recaches: bool) -> usize {
        let sent = |call| if let &Call::Fetch(errand) = call { Some(errand) } else { None };
        let errands = self.calls.values().filter_map(sent).chain(self.straight.iter().map(|(_, errand)| *errand));
        let counts = |errand: &Errand| match errand {
            Errand::Refresh(_) => !recaches,
            Errand::Recache | Errand::Warm(..) => recaches,
            Errand::Client(_) => false,
        };
        errands.filter(counts).count()
    }

    /// Refreshes an entry, unless another worker of the gateway is at it.
    fn start_refresh(&mut self, instance: &Instance, fetch: &Fetch, timeout_ms: u32) {
        let Errand::Refresh(key) = fetch.errand else { return };
        let now_ms = host::monotonic_ms();
        let until_ms = now_ms.saturating_add(timeout_ms.into());
        let taken = instance.shared.refreshing(key, |leases| leases.take(key, now_ms, until_ms));
        if taken == Some(Ok(())) {
            instance.worker.borrow_mut().attempts.wait(key, now_ms, until_ms);
            self.start(instance, fetch);
        }
    }

    /// Sends a fetch: straight to the origin, where its rule says so.
    fn start(&mut self, instance: &Instance, fetch: &Fetch) {
        let Fetch { errand, header, https } = fetch;
        let straight = fetch::straight(instance, header, *https).zip(self.instance.clone());
        if let Some(((cluster, header), instance)) = straight {
            let stream = Stream::straight(Rc::clone(&instance), cluster, header, errand.manner());
            let id = stream.id();
            self.straight.push((id, *errand));
            return self.follow(&instance, id, Rc::new(RefCell::new(stream)), 0);
        }
        match fetch::send(instance, header, *https, errand.manner(), false) {
            Some(token) => drop(self.calls.insert(token, Call::Fetch(*errand))),
            None => self.fetched(instance, *errand, &[], 0),
        }
    }

    /// Remembers what became of a fetch, by its answer's header and the length of its body.
    fn fetched(&mut self, instance: &Instance, errand: Errand, answer: &[u8], body_len: usize) {
        let outcome = fetch::outcome(answer);
        let kind = outcome.ok().map(|outcome| outcome.kind);
        match errand {
            Errand::Warm(place, tried) => return self.warming.heard(instance, place, tried, answer),
            Errand::Client(id) => {
                let parked = instance.worker.borrow_mut().parked.remove(id);
                if let Some(stream) = parked.filter(|_| host::become_context(id)) {
                    stream.borrow_mut().heard_back(outcome, body_len);
                    self.follow(instance, id, stream, 0);
                }
                return;
            }
            Errand::Refresh(key) => {
                self.refreshed(instance, key, matches!(kind, Some(Kind::Stored | Kind::Uncacheable)));
            }
            Errand::Recache if kind == Some(Kind::Stored) => metrics::count("routecache_recaches_stored"),
            Errand::Recache => {
                metrics::count("routecache_recaches_failed");
                let status = outcome.map_or_else(|status| status, |outcome| outcome.status);
                let word = kind.map_or("lost", Kind::word);
                host::log(
                    Level::Warn,
                    &format!("routecache: what a write asked to be read again is {word} ({status})"),
                );
            }
        }
        instance.count_fetch(kind);
    }

    fn refreshed(&self, instance: &Instance, key: u64, done: bool) {
        let now_ms = host::monotonic_ms();
        let attempts = &mut instance.worker.borrow_mut().attempts;
        if done {
            instance.shared.refreshing(key, |leases| leases.give_back(key));
            attempts.succeed(key);
        } else {
            instance.shared.refreshing(key, |leases| leases.fail(key, now_ms));
            attempts.fail(key, now_ms);
        }
    }

    /// Sends a purge to the group. The response of `stream` is held until that has answered, or until `until_ms`; without that, for as
    /// long as the rules say.
    fn send_purge(
        &mut self,
        instance: &Instance,
        operation: u64,
        tags: Vec<String>,
        stream: Option<u32>,
        until_ms: Option<u64>,
    ) {
        let (now_ms, mut timeout_ms) = (host::monotonic_ms(), u64::from(instance.policy().purge_timeout_ms));
        if let Some(until_ms) = until_ms {
            timeout_ms = timeout_ms.min(until_ms.saturating_sub(now_ms).max(1)); // to a host, 0 may be for ever
        }
        // The bridge's answer is to be here in time.
        let hold_ms = timeout_ms.saturating_sub((timeout_ms / 4).min(HEARING_MARGIN_MS));
        let hears = stream.is_some() && instance.policy().purge_heard;
        let hear = hears.then(|| Hearing { gateway: instance.listener(), hold_ms });
        let request = PurgeRequest { namespace: instance.namespace.clone(), tags, hear };
        let timeout = Duration::from_millis(timeout_ms);
        match instance.call(PURGE, &request, &[], timeout) {
            Some(token) => {
                let until_ms = now_ms.saturating_add(timeout_ms);
                self.calls.insert(token, Call::Purge { operation, tags: request.tags, stream, until_ms });
            }
            None => self.unacknowledged(instance, &request.tags, stream),
        }
    }

    /// A purge has had no answer: it stays pending, and is sent again.
    fn unacknowledged(&self, instance: &Instance, tags: &[String], stream: Option<u32>) {
        instance.bridge_answered(false);
        metrics::count(UNACKNOWLEDGED);
        if instance.worker.borrow_mut().may_tell(UNACKNOWLEDGED, host::monotonic_ms()) {
            let before = "routecache: the bridge hasn't acknowledged a purge of ";
            let behind = "; it is sent again until it is. For a minute others are only counted";
            host::log(Level::Warn, &[before, &tags.join(", "), behind].concat());
        }
        self.release(instance, stream, Some("purge-pending"));
    }

    /// Lets requests and responses go on whose body doesn't come while they wait for it.
    fn release_unread(&self, instance: &Instance, now_ms: u64) {
        let requests = instance.worker.borrow_mut().bodies.overdue(now_ms, REQUEST_WAIT_MS);
        if !requests.is_empty() {
            shows_no_body("a request waits, so none is answered by its body");
        }
        for stream in requests {
            if host::become_context(stream) {
                host::resume(Direction::Request);
                host::become_context(self.id);
            }
        }
        let wait_ms = instance.policy().purge_timeout_ms.into();
        let answers = instance.worker.borrow_mut().answers.overdue(now_ms, wait_ms);
        if !answers.is_empty() {
            shows_no_body("a response waits, so that of a write begins before what its body names is purged");
        }
        for stream in answers {
            self.release(instance, Some(stream), None);
        }
    }

    /// Lets the response to a write go to its client, if nothing else holds it.
    fn release(&self, instance: &Instance, stream: Option<u32>, detail: Option<&'static str>) {
        let Some(stream) = stream else { return };
        let Some(held) = instance.worker.borrow_mut().let_go(stream, detail) else { return };
        if host::become_context(stream) {
            if held.header {
                tell(CacheStatus::forwarded(Forward::Method, false, held.detail));
            }
            host::resume(Direction::Response);
            host::become_context(self.id);
        }
    }

    /// The group has a purge in its log. The tags are recorded once more: what was filled between the two records may have
    /// come from the group's older data.
    fn purge_acknowledged(&self, instance: &Instance, operation: u64, tags: &[String], reply: &PurgeReply) {
        let position = bridge::to_core(reply.position);
        let change = Change {
            records: if planted("no_ack_record") { Vec::new() } else { records(tags, Some(position)) },
            settle: Some(operation),
            known: Some(position),
            ..Change::default()
        };
        if instance.shared.change(&change, None).is_err() {
            host::log(Level::Error, "routecache: the gateway's shared data refused to record an acknowledged purge");
        }
    }

    /// Sends purges again that weren't acknowledged in time, whichever VM sent them first (C5).
    fn retry_purges(&mut self, instance: &Instance, now_ms: u64) {
        if planted("not_retried") || !instance.worker.borrow().purges.has_pending() {
            return;
        }
        let due = |pending: &Pending| pending.sent_ms.saturating_add(PURGE_RETRY_MS) <= now_ms;
        let log = instance.shared.log();
        let overdue: Vec<Pending> = log.into_iter().flat_map(|log| log.pending).filter(due).collect();
        if overdue.is_empty() {
            return;
        }
        let operations = overdue.iter().map(|pending| pending.operation).collect();
        if instance.shared.change(&Change { resent: Some((operations, now_ms)), ..Change::default() }, None).is_ok() {
            for Pending { operation, tags, .. } in overdue {
                self.send_purge(instance, operation, tags, None, None);
            }
        }
    }

    /// Asks for the group's log, if no other VM does, and waits there for news.
    fn poll(&mut self, instance: &Instance, hold_ms: u64) {
        let now_ms = host::monotonic_ms();
        let timeout_ms = hold_ms.saturating_add(instance.quarter_ms());
        let polling = self.calls.values().any(|call| matches!(call, Call::Feed { .. }));
        if polling || !instance.shared.lease(self.name, now_ms, now_ms.saturating_add(timeout_ms)) {
            return;
        }
        // The cursor says what this gateway's workers know: the head too is to be what the log says.
        let Ok(Some(GatewayLog { cursor, known, .. })) = instance.shared.change(&Change::default(), None) else {
            return;
        };
        let request = FeedRequest {
            namespace: instance.namespace.clone(),
            cursor: cursor.map(bridge::to_api),
            known: known.map(bridge::to_api),
            hold_ms,
            gateway: instance.listener(),
        };
        let now_ms = if planted("wall_clock") { host::wall_ms() } else { now_ms };
        if let Some(token) = instance.call(FEED, &request, &[], Duration::from_millis(timeout_ms)) {
            self.calls.insert(token, Call::Feed { started_ms: now_ms, cursor, known });
        }
    }

    /// Says when the feed is lost, and when it is back. A gateway that has never heard it has a window to find it.
    fn listen(&mut self, head: &Head, window_ms: u32, now_ms: u64) {
        if head.is_fresh(now_ms, window_ms) {
            if let Some((_, true)) = self.missed.take() {
                host::log(Level::Info, "routecache: the feed of purges is heard again");
            }
            return;
        }
        let (since_ms, said) = self.missed.get_or_insert((now_ms, false));
        if !*said && (head.heard_ms > 0 || now_ms.saturating_sub(*since_ms) > window_ms.into()) {
            *said = true;
            metrics::count("routecache_feed_lost");
            host::log(
                Level::Warn,
                "routecache: the feed of purges hasn't been heard for longer than `consistency.window`",
            );
        }
    }

    /// Applies what the feed brought, and asks for more.
    fn fed(
        &mut self,
        instance: &Instance,
        reply: &FeedReply,
        call: (u64, Option<GroupPosition>, Option<GroupPosition>),
    ) {
        let (started_ms, cursor, known) = call;
        let flush = reply.continuity != Continuity::Joined
            && !planted("gap_not_flushed")
            && !(planted("first_no_flush") && reply.continuity == Continuity::First);
        if flush {
            host::log(
                Level::Info,
                &format!(
                    "routecache: the feed of {} starts anew ({:?}); dropping all entries",
                    instance.namespace, reply.continuity
                ),
            );
        }
        let mut records = Vec::new();
        if !reply.records.is_empty() {
            // What a gateway would have heard of, had it not been cut off, is stale since then.
            let heard_ms = instance.shared.head().map_or(u64::MAX, |head| head.heard_ms);
            let by_ms = heard_ms.saturating_add(instance.policy().window_ms.into());
            reply.records.iter().for_each(|record| hear(&instance.shared, record, by_ms, &mut records));
        }
        let change = Change {
            records,
            flush,
            feed: Some((cursor, bridge::to_core(reply.cursor))),
            forget: known.filter(|_| flush),
            ..Change::default()
        };
        // Heard up to the bridge's last look at the log, which was no later than this; and only if nothing was left out.
        let heard_ms = (reply.complete || planted("heard_partial")).then(|| started_ms.saturating_add(reply.held_ms));
        let heard_ms = heard_ms.map(|ms| if planted("heard_on_arrival") { host::monotonic_ms() } else { ms });
        if planted("cursor_apart") {
            let ahead = Change { feed: change.feed, ..Change::default() };
            let _ = instance.shared.change(&ahead, None);
        }
        let change = Change { feed: change.feed.filter(|_| !planted("cursor_apart")), ..change };
        if instance.shared.change(&change, heard_ms).is_ok() {
            let hold_ms = if reply.complete { instance.quarter_ms() } else { 0 };
            self.poll(instance, hold_ms);
        }
    }
}

impl Context for Root {
    fn on_done(&mut self) -> bool {
        // New rules: the next context polls at once, instead of when this one's turn is over.
        if let Some(instance) = &self.instance {
            let straight = mem::take(&mut self.straight);
            let parked = |id| instance.worker.borrow_mut().parked.remove(id);
            let mut gone: Vec<_> = straight.iter().filter_map(|(id, _)| parked(*id)).collect();
            instance.shared.release_lease(self.name);
            let mut worker = instance.worker.borrow_mut();
            for (_, errand) in straight {
                if let Errand::Client(id) = errand {
                    worker.hand_over(Job::Wake(vec![id], Woken::Unheard));
                }
            }
            // This context's calls end with it. A purge among them may be that of a stream under the new rules, which is
            // held for its answer; so the next context sends it again.
            self.recaches.drain(..).for_each(|fetch| worker.hand_over(Job::Fetch(fetch)));
            for (_, call) in self.calls.take() {
                match call {
                    Call::Purge { operation, tags, stream, until_ms } => {
                        worker.hand_over(Job::Purge { operation, tags, stream, until_ms: Some(until_ms) });
                    }
                    Call::Asked(_, stream) if stream.borrow().is_straight() => gone.push(stream),
                    Call::Asked(id, stream) => {
                        worker.parked.insert(id, stream);
                        worker.hand_over(Job::Wake(vec![id], Woken::Unheard));
                    }
                    Call::Told(_) | Call::Fetch(_) | Call::Feed { .. } => {}
                }
            }
            worker.retire(self.id);
            drop(worker);
            for stream in gone {
                stream.borrow_mut().withdraw();
            }
        }
        true
    }

    fn on_http_call_response(&mut self, token: u32, header_count: usize, body_len: usize, trailer_count: usize) {
        let Some(call) = self.calls.remove(token) else { return };
        let Some(instance) = self.instance.clone() else { return };
        if let Call::Asked(id, stream) = call {
            let straight = stream.borrow().is_straight();
            if straight || host::become_context(id) {
                stream.borrow_mut().on_http_call_response(token, header_count, body_len, trailer_count);
                self.follow(&instance, id, stream, body_len);
            }
            return if straight {
                self.start_fetches(&instance)
            };
        }
        if let Call::Fetch(errand) = call {
            self.fetched(&instance, errand, &fetch::answer(header_count), body_len);
            return self.start_fetches(&instance);
        }
        if instance.link.is_none() {
            return;
        }
        let body = bridge::answer(header_count, body_len).unwrap_or_default();
        match call {
            Call::Told(Some(release)) => self.tell(&instance, RELEASE, &release, &[], None),
            Call::Told(None) | Call::Asked(..) | Call::Fetch(_) => {}
            Call::Purge { operation, tags, stream, .. } => match bridge::read::<PurgeReply>(&body) {
                Some((reply, _)) => {
                    instance.bridge_answered(true);
                    self.purge_acknowledged(&instance, operation, &tags, &reply);
                    let heard = !reply.unheard || planted("unheard_ignored");
                    self.release(&instance, stream, Some(if heard { "purged" } else { "purge-pending" }));
                }
                None => self.unacknowledged(&instance, &tags, stream),
            },
            Call::Feed { started_ms, cursor, known } => {
                // After a failure the next tick asks again.
                if let Some((reply, _)) = bridge::read::<FeedReply>(&body) {
                    self.fed(&instance, &reply, (started_ms, cursor, known));
                }
            }
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, len: usize) -> bool {
        let configuration = host::buffer(Buffer::PluginConfiguration, len).unwrap_or_default();
        match self.configure(&configuration) {
            Ok(()) => true,
            Err(mistakes) => {
                host::log(Level::Error, &format!("routecache: the rules can't be used\n{mistakes}"));
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(instance) = self.instance.clone() else { return };
        self.wakes = WAKES_MAX;
        let now_ms = host::monotonic_ms();
        self.release_unread(&instance, now_ms);
        instance.renew(now_ms);
        instance.worker.borrow_mut().give_back_again(now_ms);
        for (streams, woken) in instance.due(now_ms) {
            self.wake(&instance, streams, woken);
        }
        self.warming.go_on(&instance, now_ms);
        self.work(&instance);
        // Stay near the log, so that a worker without traffic doesn't fall behind its ring.
        let followed = instance.worker.borrow_mut().follow(&instance.shared);
        if instance.link.is_none() {
            return;
        }
        if let Some((head, _)) = followed {
            self.listen(&head, instance.policy().window_ms, now_ms);
        }
        self.retry_purges(&instance, now_ms);
        self.poll(&instance, 0);
    }

    fn on_queue_ready(&mut self, _: u32) {
        if let Some(instance) = self.instance.clone() {
            self.wakes = WAKES_MAX;
            self.work(&instance);
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        // Envoy makes no stream before `on_configure` has said yes.
        let instance = self.instance.clone()?;
        Some(Box::new(Handle::new(id, instance)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn shows_no_body(while_what: &str) {
    host::log(
        Level::Warn,
        &format!(
            "routecache: this gateway shows no body while {while_what}; Envoy needs `allow_on_headers_stop_iteration: true`"
        ),
    );
}

/// Adds what a record of the group's log is in the gateway's. One with patterns names the tag of everything once more than was
/// asked for; here it is what the patterns mean instead, if all workers can be told. What it softens is stale since `by_ms` at the
/// latest.
fn hear(shared: &Shared, record: &FeedRecord, by_ms: u64, into: &mut Vec<Record>) {
    let position = bridge::to_core(record.position);
    let mut ban = Ban::default();
    for pattern in &record.patterns {
        match pattern {
            Pattern::Key(text) => ban.add(false, text),
            Pattern::Tag(text) => ban.add(true, text),
        }
    }
    let mut tags = record.tags.clone();
    let everything = tags.iter().rposition(|tag| tag == TAG_ALL).filter(|_| !record.patterns.is_empty());
    everything.map(|at| tags.remove(at));
    let softened = |record: Record| Record { soft: record.soft.map(|at_ms| at_ms.min(by_ms)), ..record };
    into.extend(records(&tags, Some(position)).into_iter().map(softened));
    match everything {
        Some(_) if shared.ban(&ban) => into.extend(Record::banning(ban.name(), position)),
        // Here, and not in the group: what that has may be older.
        Some(_) => into.push(Record { tag: Some(tag_hash(TAG_ALL)), group: None, soft: None }),
        None => {}
    }
}

fn records(tags: &[String], group: Option<GroupPosition>) -> Vec<Record> {
    let soft = is_soft(tags).then(host::monotonic_ms);
    let tags = tags.iter().filter(|tag| *tag != TAG_SOFT);
    tags.map(|tag| Record { tag: Some(tag_hash(tag)), group, soft }).collect()
}
