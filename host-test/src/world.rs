//! A world: gateways with their workers, clients, origin and clusters, on one virtual clock.

mod builder;
mod events;
mod exchange;
mod lanes;
mod loopback;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use builder::{BuildError, FilterSource, WorldBuilder};

use crate::abi::{LogLevel, Status};
use crate::commons::{Crash, Failing, Place, SharedCommons};
use crate::faults::Injected;
use crate::filter::Filter;
use crate::job::Job;
use crate::laws::{Law, Violation};
use crate::random::Random;
use crate::request::{Answer, Request, RequestId};
use crate::shared::{Metric, SharedData, SharedProcess};
use crate::trace::{Callback, Cost, Log, Thread};
use crate::upstream::{Call, CallId, Reply, Response, Upstream};
use crate::vm::{VmKey, VmOptions};
use events::{Event, Events};
use exchange::Exchange;
use lanes::Lane;
use upstreams::OpenCall;

/// Gateways under test and everything around them, on a clock that jumps from event to event.
///
/// One seed decides whatever is left to chance: the order in which workers go on between host calls, and the numbers that modules
/// draw. The same seed gives the same run.
///
/// A world that is dropped panics if a [law](Law) was broken, unless its builder was told to
/// [tolerate](WorldBuilder::tolerate_violations) that.
pub struct World {
    commons: SharedCommons,
    filter: Filter,
    options: Arc<VmOptions>,
    configurations: Vec<Arc<[u8]>>,
    /// What [`Fault::Reload`](crate::Fault::Reload) chooses from.
    alternatives: Vec<Arc<[u8]>>,
    lanes: Vec<Lane>,
    events: Events,
    random: Random,
    seed: u64,
    exchanges: BTreeMap<RequestId, Exchange>,
    /// Those that haven't ended.
    under_way: BTreeSet<RequestId>,
    origin: Box<dyn Upstream>,
    clusters: BTreeMap<String, Box<dyn Upstream>>,
    /// The cluster that leads back to the gateway itself.
    loopback: Option<String>,
    /// Requests that callouts to it have become.
    loops: BTreeMap<RequestId, CallId>,
    calls: BTreeMap<CallId, OpenCall>,
    origin_requests: Vec<Call>,
    callouts: Vec<Call>,
    /// The answer to the callout before, for [`Fault::Swap`](crate::Fault::Swap).
    last_answer: Option<Response>,
    /// A callout whose answer the next one overtakes.
    overtaken: Option<(CallId, Reply)>,
    /// Timers that a fault has made late.
    late: BTreeSet<u64>,
    /// The timer that counts, of those that were set for a root context.
    timers: BTreeMap<(VmKey, u32), u64>,
    numbers: u64,
    /// Steps since the test last asked for something.
    steps: u64,
    /// What the test wants done after some turns of a gateway's threads.
    scripts: Vec<lanes::Script>,
    workers: usize,
    route_timeout: Option<Duration>,
    patience: Duration,
    tolerant: bool,
    /// Whether its gateways have ended.
    over: bool,
}

impl World {
    /// Begins to describe a world.
    pub fn builder() -> WorldBuilder {
        WorldBuilder::default()
    }

    fn process(&self, gateway: usize) -> SharedProcess {
        self.commons.lock().processes[gateway].clone()
    }

    /// A number that no call of this gave before.
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// The clock.
impl World {
    /// The monotonic clock: time since the world began.
    pub fn now(&self) -> Duration {
        self.commons.lock().clock.now()
    }

    /// The wall clock: time since 1970.
    pub fn wall(&self) -> Duration {
        self.commons.lock().clock.wall()
    }

    /// The wall clock of a gateway.
    pub fn wall_of(&self, gateway: usize) -> Duration {
        self.commons.lock().wall_of(gateway)
    }

    /// Sets the wall clock of a gateway alone, as those of machines differ. The world's clock, by which origins and clusters
    /// go, moves it from then on.
    pub fn set_wall_of(&mut self, gateway: usize, since_1970: Duration) {
        let nanos = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
        let mut commons = self.commons.lock();
        let ahead = nanos(since_1970) - nanos(commons.clock.wall());
        commons.wall_ahead.insert(gateway, ahead);
    }

    /// Sets the wall clock, forwards or backwards; the monotonic one stays.
    pub fn set_wall(&mut self, since_1970: Duration) {
        self.commons.lock().clock.set_wall(since_1970);
    }

    /// Lets the monotonic clock show modules the same time for this long; then it shows the time that it is.
    pub fn stall_clock(&mut self, time: Duration) {
        let mut commons = self.commons.lock();
        let now = commons.clock.now();
        commons.stall = Some((now, now + time));
    }

    fn advance_clock(&mut self, to: Duration) {
        self.commons.lock().clock.advance(to);
    }

    /// Does something at a time of the monotonic clock; at once if that has passed.
    pub fn at(&mut self, time: Duration, what: impl FnOnce(&mut World) + 'static) {
        self.schedule(time, false, Event::Script(Box::new(what)));
    }

    /// Does something after a while.
    pub fn after(&mut self, delay: Duration, what: impl FnOnce(&mut World) + 'static) {
        self.at(self.now() + delay, what);
    }

    /// Does something after so many turns of a gateway's threads: between two host calls of one of them, perhaps.
    pub fn after_turns(&mut self, gateway: usize, turns: u64, what: impl FnOnce(&mut World) + 'static) {
        self.scripts.push(lanes::Script { gateway, turns, what: Box::new(what) });
    }

    /// Has a worker let others go first for so many turns of its gateway's threads, as a machine with too few cores does: between
    /// two host calls, perhaps. Where nobody else can go on, it does.
    pub fn rest_worker_of(&mut self, gateway: usize, worker: usize, turns: u64) {
        self.rest(Place { gateway, thread: Thread::Worker(worker) }, turns);
    }

    fn schedule(&mut self, at: Duration, background: bool, event: Event) {
        let number = self.number();
        self.events.push(at.max(self.now()), number, background, event);
    }
}

/// Running.
impl World {
    /// Runs everything that happens within a time, ticks and long polls too.
    pub fn run_for(&mut self, time: Duration) {
        self.steps = 0;
        let end = self.now() + time;
        loop {
            while self.work() {}
            match self.events.next_at() {
                Some(at) if at <= end => self.advance_clock(at),
                _ => break,
            }
        }
        self.advance_clock(end);
    }

    /// The same as [`run_for`](Self::run_for), for tests that think of the clock.
    pub fn advance(&mut self, time: Duration) {
        self.run_for(time);
    }

    /// Runs until no request is under way and nothing is due but what is always due: ticks, calls that are kept for later, and replies
    /// that were marked as [background](Reply::background).
    ///
    /// A request that nothing but ticks could still bring on is waited for as long as the world's
    /// [patience](WorldBuilder::patience), then it counts as stuck. One that waits for the script (a kept call, a client that never
    /// ends its request) isn't waited for.
    ///
    /// # Panics
    ///
    /// If that never comes to pass.
    pub fn run_until_idle(&mut self) {
        self.run_while(|_| true);
    }

    /// Runs like [`run_until_idle`](Self::run_until_idle), but stops as soon as the condition holds. Tells whether it does.
    pub fn run_until(&mut self, mut holds: impl FnMut(&World) -> bool) -> bool {
        self.run_while(|world| !holds(world));
        holds(self)
    }

    fn run_while(&mut self, mut wanted: impl FnMut(&World) -> bool) {
        self.steps = 0;
        let mut waited = Duration::ZERO;
        let mut finished = self.finished_count();
        while wanted(self) {
            if self.work() {
                continue;
            }
            if finished != self.finished_count() {
                finished = self.finished_count();
                waited = Duration::ZERO;
            }
            let next = self.events.next_at();
            if !self.events.any_in_foreground() {
                let waiting: Vec<RequestId> = self.waiting_requests();
                if waiting.is_empty() {
                    break;
                }
                let pause = next.map(|next| next.saturating_sub(self.now()));
                match pause {
                    Some(pause) if waited + pause <= self.patience => waited += pause,
                    _ => {
                        self.report_stuck(&waiting);
                        break;
                    }
                }
            }
            let Some(next) = next else { break };
            self.advance_clock(next);
        }
    }

    fn finished_count(&self) -> usize {
        self.exchanges.len() - self.under_way.len()
    }

    /// Requests under way that don't wait for the script.
    fn waiting_requests(&self) -> Vec<RequestId> {
        let waits = |id: &&RequestId| self.exchanges.get(*id).is_some_and(|exchange| !self.waits_for_script(exchange));
        self.under_way.iter().filter(waits).copied().collect()
    }

    fn report_stuck(&mut self, requests: &[RequestId]) {
        for id in requests {
            let Some(exchange) = self.exchanges.get_mut(id) else { continue };
            if std::mem::replace(&mut exchange.reported_stuck, true) {
                continue;
            }
            let (place, vm, request) = (exchange.place, exchange.vm, exchange.words());
            // A VM that failed brings nothing on, and that it failed was told.
            if self.has_failed(vm) {
                continue;
            }
            // A callout that the script keeps may be what it waits for.
            if self.calls.values().any(|call| call.kept && call.is_callout_of(vm)) {
                continue;
            }
            let detail = format!("{request} is paused and nothing that is due resumes it");
            self.commons.lock().violation(place, Law::NoStuckStream(*id), detail);
        }
    }
}

/// Clients.
impl World {
    /// Sends a request now; the clock doesn't move.
    ///
    /// # Panics
    ///
    /// If there is no such gateway or worker.
    pub fn send(&mut self, request: Request) -> RequestId {
        let Request { gateway, worker, .. } = request;
        assert!(
            gateway < self.configurations.len() && worker < self.workers,
            "no worker {worker} in gateway {gateway}"
        );
        self.begin_exchange(request)
    }

    /// Sends a request now, and runs until it is answered.
    ///
    /// # Panics
    ///
    /// If it never is.
    pub fn fetch(&mut self, request: Request) -> Answer {
        let id = self.send(request);
        self.run_until(|world| world.finished(id).is_some());
        self.answer(id).clone()
    }

    /// Fetches a path on worker 0 of gateway 0.
    ///
    /// # Panics
    ///
    /// If no answer ever comes.
    pub fn get(&mut self, path: &str) -> Answer {
        self.fetch(Request::get(path))
    }

    /// Several clients, spread over the workers of gateway 0.
    pub fn clients(&mut self, count: usize) -> Clients<'_> {
        Clients { world: self, count }
    }

    /// The client goes away now.
    pub fn client_disconnects(&mut self, id: RequestId) {
        self.leave(id);
    }

    /// The answer to a request, if it has ended.
    pub fn finished(&self, id: RequestId) -> Option<&Answer> {
        self.exchanges.get(&id)?.answer.as_ref()
    }

    /// The answer to a request that has ended.
    ///
    /// # Panics
    ///
    /// If it hasn't.
    pub fn answer(&self, id: RequestId) -> &Answer {
        self.finished(id).unwrap_or_else(|| {
            let words = self.exchanges.get(&id).map(Exchange::words).unwrap_or_default();
            panic!("{words} has no answer at {:?}; {}", self.now(), self.end_of_log())
        })
    }

    /// All answers so far, in the order in which the requests were sent.
    pub fn answers(&self) -> impl Iterator<Item = (RequestId, &Answer)> {
        self.exchanges.iter().filter_map(|(id, exchange)| Some((*id, exchange.answer.as_ref()?)))
    }
}

/// Several clients that do the same.
pub struct Clients<'world> {
    world: &'world mut World,
    count: usize,
}

impl Clients<'_> {
    /// Each asks for a path, all at once.
    pub fn get(self, path: &str) -> Vec<RequestId> {
        self.send(&Request::get(path))
    }

    /// Each sends this request, all at once, one worker after the other.
    pub fn send(self, request: &Request) -> Vec<RequestId> {
        let workers = self.world.workers;
        (0..self.count).map(|client| self.world.send(request.clone().worker(client % workers))).collect()
    }
}

/// Upstreams.
impl World {
    /// The requests that the gateways forwarded, in order of arrival at the origin.
    pub fn origin_requests(&self) -> &[Call] {
        &self.origin_requests
    }

    /// The callouts that were made, refused ones too, in order.
    pub fn callouts(&self) -> &[Call] {
        &self.callouts
    }

    /// Answers a call that was kept with [`Reply::later`]. Nothing happens if it was answered before, timed out or was called off.
    pub fn complete(&mut self, call: CallId, reply: impl Into<Reply>) {
        self.complete_call(call, reply.into());
    }

    /// Calls that are open, answered or not: their answer hasn't come yet.
    pub fn open_calls(&self) -> Vec<CallId> {
        self.calls.keys().copied().collect()
    }
}

/// The life of gateways and workers.
impl World {
    /// Gives all gateways a new plugin configuration, as Envoy does: tried in a VM of its own first, then a new root context in each VM.
    /// Requests under way keep the old one.
    ///
    /// # Errors
    ///
    /// [`BuildError::Refused`] if the filter doesn't want it; the old configuration stays.
    pub fn reconfigure(&mut self, configuration: impl AsRef<[u8]>) -> Result<(), BuildError> {
        for gateway in 0..self.configurations.len() {
            self.reconfigure_gateway(gateway, configuration.as_ref())?;
        }
        Ok(())
    }

    /// [`reconfigure`](Self::reconfigure) for one gateway.
    ///
    /// # Errors
    ///
    /// [`BuildError::Refused`] if the filter doesn't want it; the old configuration stays.
    pub fn reconfigure_gateway(&mut self, gateway: usize, configuration: &[u8]) -> Result<(), BuildError> {
        let configuration: Arc<[u8]> = configuration.into();
        self.try_configuration(gateway, &configuration)?;
        self.configurations[gateway] = Arc::clone(&configuration);
        self.configure_all(gateway, &configuration)
    }

    /// A worker of gateway 0 loses its VM and gets a new one. Its requests break off, its callouts are called off.
    pub fn restart_worker(&mut self, worker: usize) {
        self.restart_worker_of(0, worker);
    }

    /// [`restart_worker`](Self::restart_worker) in any gateway.
    pub fn restart_worker_of(&mut self, gateway: usize, worker: usize) {
        self.restart(Place { gateway, thread: Thread::Worker(worker) });
    }

    /// A gateway process dies and is started again: shared data, queues and metrics are lost, its requests break off.
    pub fn restart_gateway(&mut self, gateway: usize) {
        *self.process(gateway).lock() = Default::default();
        let threads = (0..self.workers).map(Thread::Worker);
        for thread in std::iter::once(Thread::Main).chain(threads) {
            self.restart(Place { gateway, thread });
        }
    }

    /// Lets a worker's VM trap the next time that it would run this callback, such as `proxy_on_response_body`. No law counts that as
    /// broken.
    pub fn crash(&mut self, gateway: usize, worker: usize, callback: &str) {
        self.let_fail(Place { gateway, thread: Thread::Worker(worker) }, callback, Failing::Trap);
    }

    /// Gives a worker's VM no fuel the next time that it runs this callback. No law counts that as broken.
    pub fn exhaust_fuel(&mut self, gateway: usize, worker: usize, callback: &str) {
        self.let_fail(Place { gateway, thread: Thread::Worker(worker) }, callback, Failing::NoFuel);
    }

    fn let_fail(&mut self, place: Place, callback: &str, how: Failing) {
        self.commons.lock().crashes.push(Crash { place, callback: callback.to_owned(), how });
    }

    /// Gives a gateway the configuration again that it has, or the one that is meant to be next.
    fn reload_configuration(&mut self, gateway: usize) {
        let has = Arc::clone(&self.configurations[gateway]);
        let other = self.alternatives.iter().find(|one| **one != has).cloned();
        let configuration = other.unwrap_or(has);
        // A filter that refuses it has said why in its log.
        let _ = self.reconfigure_gateway(gateway, &configuration);
    }

    /// Tells modules another log level from now on, as an operator does who changes it while the gateways run.
    pub fn set_log_level(&mut self, level: LogLevel) {
        self.commons.lock().log_level = Some(level);
    }

    /// Lets the next `times` calls of a host function, such as `proxy_set_shared_data`, answer this instead of doing anything.
    pub fn refuse(&mut self, function: &str, status: Status, times: u32) {
        let refusal = crate::commons::Refusal { function: function.to_owned(), status, left: times };
        self.commons.lock().refusals.push(refusal);
    }

    /// Lets a host function do again what it does, whatever [`World::refuse`] said.
    pub fn refuse_no_more(&mut self, function: &str) {
        self.commons.lock().refusals.retain(|refusal| refusal.function != function);
    }
}

/// What can be seen inside.
impl World {
    /// The faults that were injected so far.
    pub fn injected_faults(&self) -> Vec<Injected> {
        self.commons.lock().faults.as_ref().map(|faults| faults.injected.clone()).unwrap_or_default()
    }

    /// The seed of this run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Everything that was logged.
    pub fn logs(&self) -> Vec<Log> {
        self.commons.lock().logs.clone()
    }

    /// The log as text, a line each.
    pub fn log_text(&self) -> String {
        self.commons.lock().logs.iter().map(|log| format!("{log}\n")).collect()
    }

    /// As much of the log as a failed test wants to show.
    fn end_of_log(&self) -> String {
        const LINES: usize = 100;
        let commons = self.commons.lock();
        let skipped = commons.logs.len().saturating_sub(LINES);
        let lines: String = commons.logs[skipped..].iter().map(|log| format!("{log}\n")).collect();
        format!("log, {skipped} lines skipped:\n{lines}")
    }

    /// Whether a line of log of at least this level contains a text.
    pub fn logged(&self, level: LogLevel, text: &str) -> bool {
        self.commons.lock().logs.iter().any(|log| log.level >= level && log.message.contains(text))
    }

    /// What gateway 0's VMs share.
    pub fn shared_data(&self) -> SharedData {
        self.shared_data_of(0)
    }

    /// What a gateway's VMs share.
    pub fn shared_data_of(&self, gateway: usize) -> SharedData {
        self.process(gateway).lock().data.clone()
    }

    /// Overwrites a shared value, or adds one, behind the filters' backs.
    pub fn plant_shared_data(&mut self, gateway: usize, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.process(gateway).lock().data.plant(&self.options.vm_id, key.as_ref(), value.as_ref());
    }

    /// Takes shared values away behind the filters' backs, as a host that evicts them.
    pub fn forget_shared_data(&mut self, gateway: usize, which: impl FnMut(&[u8]) -> bool) {
        self.process(gateway).lock().data.forget(which);
    }

    /// A counter's count or a gauge's level in gateway 0; 0 if there is none of that name.
    pub fn metric(&self, name: &str) -> u64 {
        self.process(0).lock().metrics.value(name)
    }

    /// Gateway 0's metrics by name.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.metrics_of(0)
    }

    /// A gateway's metrics by name.
    pub fn metrics_of(&self, gateway: usize) -> BTreeMap<String, Metric> {
        let process = self.process(gateway);
        let process = process.lock();
        process.metrics.iter().map(|(name, metric)| (name.to_owned(), metric.clone())).collect()
    }

    /// The latest callbacks, oldest first, with their host calls; see [`WorldBuilder::keep_callbacks`].
    pub fn trace(&self) -> Vec<Callback> {
        self.commons.lock().trace.callbacks.iter().cloned().collect()
    }

    /// What all calls of each callback cost, by its name.
    pub fn costs(&self) -> BTreeMap<&'static str, Cost> {
        self.commons.lock().trace.costs.clone()
    }

    /// How often each host function answered what: a [`Status`] as a number, or a WASI error.
    pub fn host_calls(&self) -> BTreeMap<(&'static str, u32), u64> {
        self.commons.lock().trace.answers.clone()
    }

    /// How many bytes the memory of a worker's VM has grown to; 0 while a callback runs.
    pub fn memory_bytes(&self, gateway: usize, worker: usize) -> usize {
        self.memory_at(Place { gateway, thread: Thread::Worker(worker) })
    }

    /// Imports of the module that this host doesn't offer, as `module.name`; they answer `Unimplemented`.
    pub fn unoffered_imports(&self) -> &[String] {
        &self.filter.unoffered
    }

    /// The laws that were broken so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.commons.lock().violations.clone()
    }

    /// Takes the violations, so that the world's end doesn't panic over them.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.commons.lock().violations)
    }

    /// Every stream has left its VM.
    fn check_contexts(&mut self) {
        let mut commons = self.commons.lock();
        let left = commons.contexts.values().filter(|is_stream| **is_stream).count();
        if left > 0 {
            let place = Place { gateway: 0, thread: Thread::Main };
            commons.violation(
                place,
                Law::ContextsDeletedOnce,
                format!("{left} streams are over and were never deleted"),
            );
            commons.contexts.clear();
        }
    }

    /// Ends the gateways as an operator does: requests under way break off, then each root context is told that it is done, and deleted
    /// unless it says "not yet". The clock stands still, and nothing else happens in this world afterwards. A trap of a root context in
    /// its last callbacks is logged and breaks no law: nobody is served any more.
    pub fn shut_down(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        for request in self.under_way.iter().copied().collect::<Vec<_>>() {
            let vm = self.exchanges.get(&request).map(|exchange| exchange.vm);
            vm.into_iter().for_each(|vm| self.post(vm, Job::ClientGone(request)));
            self.break_off(request);
        }
        self.stop_lanes();
        self.check_contexts();
    }

    /// Ends the world: its gateways are [shut down](Self::shut_down).
    ///
    /// # Panics
    ///
    /// If a law was broken, unless that is tolerated.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("world with seed {} at {:?}; {}", self.seed, self.now(), self.end_of_log());
            return;
        }
        self.shut_down();
        let violations = self.violations();
        if self.tolerant || violations.is_empty() {
            return;
        }
        let list: String = violations.iter().map(|violation| format!("  {violation}\n")).collect();
        panic!("laws were broken (seed {}):\n{list}{}", self.seed, self.end_of_log());
    }
}
