//! Threads of gateways, each with a VM that does one thing at a time, and the scheduler that lets them take turns.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{BuildError, Event, World};
use crate::abi::LogLevel;
use crate::commons::{Effect, Place};
use crate::dialect::FailurePolicy;
use crate::faults::{Fault, Site};
use crate::job::Job;
use crate::request::RequestId;
use crate::trace::Thread;
use crate::vm::{Vm, VmKey};

/// What became of the last [`Job::Start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    NotYet,
    Willing,
    Refused,
}

type Turn = Pin<Box<dyn Future<Output = Result<(Box<Vm>, Option<bool>), wasmtime::Error>>>>;

enum Seat {
    /// No VM yet, or none could be made.
    Empty,
    Idle(Box<Vm>),
    /// In the middle of a turn, perhaps of a host call.
    Busy(Turn),
}

/// A thread of a gateway.
pub(super) struct Lane {
    pub(super) place: Place,
    pub(super) vm: VmKey,
    seat: Seat,
    inbox: VecDeque<(u64, Job)>,
    started: Started,
    failed_at: Option<Duration>,
    /// Tries a configuration, and is thrown away.
    trial: bool,
    /// Turns of its gateway that it lets go by; see [`World::rest_worker_of`].
    rests: u64,
}

impl Lane {
    /// How often a root context's timer runs out; `None` in the middle of a turn.
    fn period(&self, root: u32) -> Option<Duration> {
        match &self.seat {
            Seat::Idle(vm) => vm.store.data().roots.get(&root)?.tick,
            Seat::Empty | Seat::Busy(_) => None,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.seat, Seat::Busy(_)) || !self.inbox.is_empty()
    }
}

/// Something to do after some turns of a gateway's threads; see [`World::after_turns`].
pub(super) struct Script {
    pub(super) gateway: usize,
    pub(super) turns: u64,
    pub(super) what: Box<dyn FnOnce(&mut World)>,
}

/// More steps than this are taken for a filter that goes round in circles, such as one that repeats a failed callout at once.
const STEPS_MAX: u64 = 20_000_000;

// Taking turns.
impl World {
    /// Does one step of what can be done now. False: nothing can before the clock moves.
    pub(super) fn work(&mut self) -> bool {
        self.steps += 1;
        assert!(
            self.steps < STEPS_MAX,
            "{STEPS_MAX} steps, now at {:?}, and no end; {}",
            self.now(),
            self.end_of_log()
        );
        while let Some(event) = self.events.pop_due(self.now()) {
            self.happen(event);
        }
        let Some(lane) = self.choose() else { return false };
        let gateway = self.lanes[lane].place.gateway;
        self.take_turn(lane);
        self.obey();
        self.count_turn(gateway);
        true
    }

    /// Does what was to be done after this turn.
    fn count_turn(&mut self, gateway: usize) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.place.gateway == gateway) {
            lane.rests = lane.rests.saturating_sub(1);
        }
        for script in self.scripts.iter_mut().filter(|script| script.gateway == gateway) {
            script.turns = script.turns.saturating_sub(1);
        }
        while let Some(due) = self.scripts.iter().position(|script| script.gateway == gateway && script.turns == 0) {
            let script = self.scripts.remove(due);
            (script.what)(self);
        }
    }

    /// Has a thread let others go first.
    pub(super) fn rest(&mut self, place: Place, turns: u64) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.place == place) {
            lane.rests = turns;
        }
    }

    /// The thread that goes on: with interleaving any that has something to do; without, a turn is ended before the next one
    /// begins, first come first served. Those that rest go on where nobody else can.
    fn choose(&mut self) -> Option<usize> {
        let mut ready: Vec<usize> = (0..self.lanes.len()).filter(|lane| self.lanes[*lane].is_ready()).collect();
        if ready.iter().any(|lane| self.lanes[*lane].rests == 0) {
            ready.retain(|lane| self.lanes[*lane].rests == 0);
        }
        if self.options.interleave {
            let choice = if ready.len() > 1 { self.random.below(ready.len()) } else { 0 };
            return ready.get(choice).copied();
        }
        let first = |lane: &&usize| match &self.lanes[**lane] {
            Lane { seat: Seat::Busy(_), .. } => 0,
            lane => lane.inbox.front().map_or(u64::MAX, |(number, _)| *number),
        };
        ready.iter().min_by_key(first).copied()
    }

    fn take_turn(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        let turn = match std::mem::replace(&mut lane.seat, Seat::Empty) {
            Seat::Busy(turn) => turn,
            Seat::Idle(vm) => match lane.inbox.pop_front() {
                Some((_, job)) => Box::pin(run(vm, job)),
                None => return lane.seat = Seat::Idle(vm),
            },
            Seat::Empty => match lane.inbox.pop_front() {
                Some((_, Job::Start(configuration))) => self.first_turn(index, configuration),
                // Without a VM nothing can be done.
                Some((_, Job::Begin { request, .. })) => return self.break_off(request),
                _ => return,
            },
        };
        self.go_on(index, turn);
    }

    fn first_turn(&self, index: usize, configuration: Arc<[u8]>) -> Turn {
        let lane = &self.lanes[index];
        let (filter, options, commons) = (self.filter.clone(), Arc::clone(&self.options), self.commons.clone());
        let (key, place) = (lane.vm, lane.place);
        Box::pin(async move {
            let vm = Vm::new(filter, key, place, options, commons).await?;
            run(Box::new(vm), Job::Start(configuration)).await
        })
    }

    fn go_on(&mut self, index: usize, mut turn: Turn) {
        let outcome = turn.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let now = self.now();
        let lane = &mut self.lanes[index];
        match outcome {
            Poll::Pending => lane.seat = Seat::Busy(turn),
            Poll::Ready(Ok((vm, started))) => {
                if vm.failed {
                    lane.failed_at.get_or_insert(now);
                }
                lane.seat = Seat::Idle(vm);
                match started {
                    Some(true) => lane.started = Started::Willing,
                    Some(false) => lane.started = Started::Refused,
                    None => {}
                }
            }
            Poll::Ready(Err(error)) => {
                lane.started = Started::Refused;
                let (place, words) = (lane.place, format!("the module can't be instantiated: {error:#}"));
                self.commons.lock().log(place, 0, LogLevel::Critical, words);
            }
        }
    }

    /// Does what VMs asked for.
    fn obey(&mut self) {
        loop {
            let effects = std::mem::take(&mut self.commons.lock().effects);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::ToUpstream { request, frame } => self.upstream_gets(request, frame),
                    Effect::ToClient { request, frame } => self.client_gets(request, frame),
                    Effect::CancelUpstream { request } => self.cancel_upstream(request),
                    Effect::StreamOver { request, whole, local_reply, details } => {
                        self.stream_over(request, whole, local_reply, details);
                    }
                    Effect::Dispatch(dispatch) => self.dispatch(dispatch),
                    Effect::GrpcSend { vm, root, token, message, end } => {
                        self.grpc_sends((vm, root, token), message.as_deref(), end);
                    }
                    Effect::GrpcCancel { vm, root, token } => self.grpc_cancelled((vm, root, token)),
                    Effect::Tick { vm, root, period } => {
                        let number = self.number();
                        self.timers.insert((vm, root), number);
                        if let Some(period) = period {
                            self.schedule(self.now() + period, true, Event::Timer { vm, root, number });
                        }
                    }
                    Effect::QueueReady { registrant, token } => {
                        self.post(registrant.vm, Job::QueueReady { root: registrant.root, token });
                    }
                    Effect::RootOver { vm, root } => self.call_off(vm, Some(root)),
                }
            }
        }
    }

    fn tick(&mut self, vm: VmKey, root: u32, number: u64) {
        // One that was late already has had its fault.
        let late = self.late.remove(&number);
        let fault = if late { None } else { self.commons.lock().fault(Site::Tick) };
        match fault {
            Some(Fault::Late(ms)) => {
                self.late.insert(number);
                self.schedule(self.now() + Duration::from_millis(ms.into()), true, Event::Timer { vm, root, number });
            }
            Some(Fault::Skip) => {
                let lane = self.lanes.iter().find(|lane| lane.vm == vm);
                let period = lane.and_then(|lane| lane.period(root)).unwrap_or(Duration::from_millis(100));
                self.schedule(self.now() + period, true, Event::Timer { vm, root, number });
            }
            Some(Fault::Double) => (0..2).for_each(|_| self.post(vm, Job::Tick(root))),
            Some(Fault::Burst(times)) => (0..times).for_each(|_| self.post(vm, Job::Tick(root))),
            _ => self.post(vm, Job::Tick(root)),
        }
    }

    /// Puts a job into the inbox of a VM's thread; nothing if the VM is gone.
    pub(super) fn post(&mut self, vm: VmKey, job: Job) {
        let number = self.number();
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.vm == vm) {
            lane.inbox.push_back((number, job));
        }
    }

    /// What the memory of a place's VM has grown to.
    pub(super) fn memory_at(&self, place: Place) -> usize {
        self.lanes.iter().find(|lane| lane.place == place && !lane.trial).map_or(0, |lane| match &lane.seat {
            Seat::Idle(vm) => vm.memory_bytes(),
            Seat::Empty | Seat::Busy(_) => 0,
        })
    }

    /// Whether a VM has failed, so that nothing in it runs any more.
    pub(super) fn has_failed(&self, vm: VmKey) -> bool {
        self.lanes.iter().any(|lane| lane.vm == vm && lane.failed_at.is_some())
    }

    /// The VM that serves a place.
    pub(super) fn vm_at(&self, place: Place) -> VmKey {
        let lane = self.lanes.iter().find(|lane| lane.place == place && !lane.trial);
        lane.expect("every place of a built world has a thread").vm
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Script(what) => what(self),
            Event::Client { request, frame } => self.client_sends(request, frame),
            Event::Upstream { call, part } => self.upstream_sends(call, part),
            Event::Callout { call, response } => self.callout_done(call, response),
            Event::Grpc { call, part, last } => self.grpc_arrives(call, part, last),
            Event::CallTimeout(call) => self.call_times_out(call),
            Event::Complete { call, reply } => self.complete_call(call, reply),
            Event::Overtake => self.overtake(Duration::ZERO),
            Event::Again { vm, root, token, response } => {
                self.post(vm, Job::CallDone { root, token, response: Some(response) });
            }
            Event::Timer { vm, root, number } => {
                if self.timers.get(&(vm, root)) == Some(&number) {
                    self.tick(vm, root, number);
                }
            }
        }
    }
}

async fn run(mut vm: Box<Vm>, job: Job) -> Result<(Box<Vm>, Option<bool>), wasmtime::Error> {
    let started = job.run(&mut vm).await;
    Ok((vm, started))
}

// Starting, configuring and restarting.
impl World {
    /// Makes a gateway's threads and configures them.
    pub(super) fn start_gateway(&mut self, gateway: usize) -> Result<(), BuildError> {
        let configuration = Arc::clone(&self.configurations[gateway]);
        self.try_configuration(gateway, &configuration)?;
        let threads = (0..self.workers).map(Thread::Worker);
        for thread in std::iter::once(Thread::Main).chain(threads) {
            self.add_lane(Place { gateway, thread }, false);
        }
        self.configure_all(gateway, &configuration)
    }

    fn add_lane(&mut self, place: Place, trial: bool) -> VmKey {
        let vm = VmKey(self.number());
        self.lanes.push(Lane {
            place,
            vm,
            seat: Seat::Empty,
            inbox: VecDeque::new(),
            started: Started::NotYet,
            failed_at: None,
            trial,
            rests: 0,
        });
        vm
    }

    /// Configures a VM on the main thread that is thrown away afterwards (`WasmHandleBase::canary`).
    pub(super) fn try_configuration(&mut self, gateway: usize, configuration: &Arc<[u8]>) -> Result<(), BuildError> {
        let vm = self.add_lane(Place { gateway, thread: Thread::Main }, true);
        let outcome = self.configure(&[vm], configuration);
        self.lanes.retain(|lane| lane.vm != vm);
        self.forget_vm(vm);
        outcome
    }

    /// Configures all of a gateway's VMs.
    pub(super) fn configure_all(&mut self, gateway: usize, configuration: &Arc<[u8]>) -> Result<(), BuildError> {
        let lanes = self.lanes.iter().filter(|lane| lane.place.gateway == gateway);
        let vms: Vec<VmKey> = lanes.map(|lane| lane.vm).collect();
        self.configure(&vms, configuration)
    }

    /// Runs, without moving the clock, until these VMs have taken or refused a configuration.
    fn configure(&mut self, vms: &[VmKey], configuration: &Arc<[u8]>) -> Result<(), BuildError> {
        let logged = self.commons.lock().logs.len();
        for vm in vms {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.vm == *vm) {
                lane.started = Started::NotYet;
            }
            self.post(*vm, Job::Start(Arc::clone(configuration)));
        }
        let of = |world: &Self, started: Started| {
            world.lanes.iter().any(|lane| vms.contains(&lane.vm) && lane.started == started)
        };
        while of(self, Started::NotYet) && self.work() {}
        if of(self, Started::Refused) || of(self, Started::NotYet) {
            return Err(BuildError::Refused { logs: self.commons.lock().logs[logged..].to_vec() });
        }
        Ok(())
    }

    /// Lets each thread do what it has begun and what it was told, and then end its VM.
    pub(super) fn stop_lanes(&mut self) {
        /// A filter may go round in circles to its end.
        const TURNS_MAX: usize = 1_000_000;
        for vm in self.lanes.iter().map(|lane| lane.vm).collect::<Vec<_>>() {
            self.post(vm, Job::Stop);
        }
        for _ in 0..TURNS_MAX {
            let Some(lane) = self.choose() else { return };
            self.take_turn(lane);
            self.obey();
        }
    }

    /// Gives a failed VM's place a new one, where the policy and the time allow it.
    pub(super) fn reload(&mut self, place: Place) {
        const BACKOFF: Duration = Duration::from_secs(1);
        let failed_at =
            self.lanes.iter().find(|lane| lane.place == place && !lane.trial).and_then(|lane| lane.failed_at);
        let due = failed_at.is_some_and(|failed_at| failed_at + BACKOFF <= self.now());
        if due && self.options.failure_policy == FailurePolicy::Reload {
            self.restart(place);
        }
    }

    /// Replaces a thread's VM by a new one.
    pub(super) fn restart(&mut self, place: Place) {
        let (old, new) = (self.vm_at(place), VmKey(self.number()));
        let configuration = Arc::clone(&self.configurations[place.gateway]);
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.vm == old) {
            let (seat, inbox, started) = (Seat::Empty, VecDeque::new(), Started::NotYet);
            *lane = Lane { place, vm: new, seat, inbox, started, failed_at: None, trial: false, rests: 0 };
        }
        self.forget_vm(old);
        let served = |id: &&RequestId| self.exchanges.get(*id).is_some_and(|exchange| exchange.vm == old);
        for request in self.under_way.iter().filter(served).copied().collect::<Vec<_>>() {
            self.break_off(request);
        }
        self.post(new, Job::Start(configuration));
    }

    /// Calls off what a VM waits for.
    fn forget_vm(&mut self, vm: VmKey) {
        self.call_off(vm, None);
        self.commons.lock().contexts.retain(|(of, _), _| *of != vm);
        self.timers.retain(|(of, _), _| *of != vm);
        self.events.retain(|event| !matches!(event, Event::Timer { vm: of, .. } if *of == vm));
    }
}
