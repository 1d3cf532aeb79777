//! A thread of the gateway: one VM, and everything that goes through it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use super::access::Access;
use super::cluster::Cluster;
use super::downstream::{Connection, Numbers};
use super::exchange::{Arrival, Exchange, put};
use super::forward::{self, Forward};
use super::grpc::{GrpcCall, framed};
use super::mail::{Directory, Drain, Draining, Mailbox, Message};
use super::pipe::Pipe;
use super::server::{NotStarted, Setup};
use crate::abi::{Direction, LogLevel, Status};
use crate::clock::Clock;
use crate::commons::{Commons, Dispatch, Effect, Frame, Place, SharedCommons};
use crate::dialect::FailurePolicy;
use crate::grpc::{Kind, Part};
use crate::job::Job;
use crate::laws::Law;
use crate::random::Chance;
use crate::request::RequestId;
use crate::stream::LocalResponse;
use crate::trace::{Log, Thread};
use crate::vm::{Vm, VmKey};

/// How long a VM that has failed stays so before a request gets a new one, where the policy is [`FailurePolicy::Reload`].
const BACKOFF: Duration = Duration::from_secs(1);

/// How often requests are looked at that may have gone silent.
const ROUND: Duration = Duration::from_secs(1);

/// A callout that is under way; dropping it calls it off.
struct Callout {
    task: AbortHandle,
    /// The way for more messages of a gRPC stream.
    messages: Pipe,
}

impl Drop for Callout {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A thread and its VM.
pub(super) struct Worker {
    setup: Arc<Setup>,
    thread: Thread,
    numbers: Numbers,
    mailbox: Mailbox,
    directory: Directory,
    commons: SharedCommons,
    key: VmKey,
    vm: Option<Box<Vm>>,
    failed_at: Option<Instant>,
    origin: Option<Arc<Cluster>>,
    clusters: BTreeMap<String, Arc<Cluster>>,
    exchanges: HashMap<RequestId, Exchange>,
    /// Messages of which the filter chain withholds some.
    withheld: BTreeSet<(RequestId, Direction)>,
    timers: HashMap<u32, AbortHandle>,
    callouts: HashMap<(u32, u32), Callout>,
    connections: JoinSet<()>,
    drain: Draining,
}

impl Worker {
    /// A thread whose VM is still to be started. To be made within the thread's runtime.
    pub(super) fn new(
        setup: Arc<Setup>,
        thread: Thread,
        numbers: Numbers,
        mailbox: Mailbox,
        directory: Directory,
    ) -> Self {
        let clock = Clock::Real { since: setup.since };
        let commons = SharedCommons::new(Commons::new(clock, Chance::System, vec![setup.process.clone()]));
        let cluster = |url: &super::UpstreamUrl| Arc::new(Cluster::new(url.clone()));
        Self {
            thread,
            commons,
            key: VmKey(0),
            vm: None,
            failed_at: None,
            origin: setup.upstream.as_ref().map(cluster),
            clusters: setup.clusters.iter().map(|(name, url)| (name.clone(), cluster(url))).collect(),
            exchanges: HashMap::new(),
            withheld: BTreeSet::new(),
            timers: HashMap::new(),
            callouts: HashMap::new(),
            connections: JoinSet::new(),
            drain: Draining::default(),
            setup,
            numbers,
            mailbox,
            directory,
        }
    }

    /// Makes a VM and configures it.
    ///
    /// # Errors
    ///
    /// What was logged, where the filter can't be started or doesn't want its configuration.
    pub(super) fn start(&mut self) -> Result<(), NotStarted> {
        self.key = VmKey(self.numbers.next());
        self.directory.enter(self.key, self.mailbox.clone());
        self.failed_at = Some(Instant::now());
        let place = Place { gateway: 0, thread: self.thread };
        let (filter, options) = (self.setup.filter.clone(), Arc::clone(&self.setup.options));
        let vm = Vm::new(filter, self.key, place, options, self.commons.clone());
        match self.drive(vm) {
            Ok(vm) if !vm.failed => self.vm = Some(Box::new(vm)),
            Ok(_) => return Err(NotStarted::Unable(self.commons.lock().logs.clone())),
            Err(error) => {
                let words = format!("the module can't be instantiated: {error:#}");
                self.commons.lock().log(place, 0, LogLevel::Critical, words);
                return Err(NotStarted::Unable(self.commons.lock().logs.clone()));
            }
        }
        if self.turn(Job::Start(Arc::clone(&self.setup.configuration))) != Some(true) {
            return Err(NotStarted::Unwilling(self.commons.lock().logs.clone()));
        }
        self.failed_at = None;
        Ok(())
    }

    /// Runs until told to stop, then until all has ended or the time for that is over. True: nothing was cut off.
    pub(super) async fn run(mut self, mut inbox: UnboundedReceiver<Message>) -> bool {
        self.tell();
        let mut round = interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deadline = None;
        loop {
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(Message::Stop) if deadline.is_none() => {
                        self.drain.begin();
                        deadline = Some(tokio::time::Instant::now() + self.setup.limits.drain);
                    }
                    Some(message) => self.happen(message),
                    None => break,
                },
                Some(_) = self.connections.join_next(), if !self.connections.is_empty() => {}
                _ = round.tick() => self.end_the_silent(),
                () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => break,
            }
            self.tell();
            if deadline.is_some() && self.connections.is_empty() && self.exchanges.is_empty() {
                break;
            }
        }
        let clean = self.connections.is_empty() && self.exchanges.is_empty();
        self.connections.abort_all();
        self.break_off_all();
        self.turn(Job::Stop);
        self.directory.leave(self.key);
        self.tell();
        clean
    }

    fn happen(&mut self, message: Message) {
        match message {
            Message::To(vm, job) if vm == self.key => {
                match &job {
                    Job::CallDone { root, token, .. } => drop(self.callouts.remove(&(*root, *token))),
                    Job::Grpc { root, token, part }
                        if Kind::of(*token) == Kind::Call || matches!(part, Part::Close { .. }) =>
                    {
                        drop(self.callouts.remove(&(*root, *token)));
                    }
                    _ => {}
                }
                self.turn(job);
            }
            Message::Of(request, job) if self.exchanges.contains_key(&request) => self.turn_of(request, job),
            Message::To(..) | Message::Of(..) | Message::Stop => {}
            Message::Connection(stream, peer, place) => {
                let (mailbox, numbers) = (self.mailbox.clone(), self.numbers.clone());
                let connection =
                    Connection { number: self.numbers.next(), peer, local: self.setup.address, numbers, mailbox };
                let drain = self.drain.watch();
                self.connections.spawn(async move {
                    // Only a socket that is gone already can't be taken over.
                    if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                        connection.serve(stream, drain).await;
                    }
                    drop(place);
                });
            }
            Message::Arrived(arrival) => self.begin(*arrival),
            Message::Listen(listener, workers) => {
                let (drain, places) = (self.drain.watch(), self.setup.limits.connections);
                self.connections.spawn(accept(listener, workers, places, drain));
            }
        }
    }
}

// Turns of the VM.
impl Worker {
    /// Does a job, and what the filter asked for meanwhile. For [`Job::Start`], tells whether it wants the configuration.
    fn turn(&mut self, job: Job) -> Option<bool> {
        let mut vm = self.vm.take()?;
        let answer = self.drive(job.run(&mut vm));
        if vm.failed {
            self.failed_at.get_or_insert_with(Instant::now);
        }
        self.vm = Some(vm);
        self.settle();
        answer
    }

    /// Does a job that is about a request.
    fn turn_of(&mut self, request: RequestId, job: Job) {
        let direction = match &job {
            Job::Frame { direction: Direction::Request, frame, .. } => {
                let length = if let Frame::Data { bytes, .. } = frame { bytes.len() as u64 } else { 0 };
                let end = matches!(frame, Frame::Data { end: true, .. } | Frame::Trailers(_));
                if let Some(exchange) = self.exchanges.get_mut(&request) {
                    exchange.access.bytes_received += length;
                    exchange.request_ended |= end;
                }
                Some(Direction::Request)
            }
            Job::Frame { direction, .. } => Some(*direction),
            _ => None,
        };
        if let Some(direction) = direction {
            self.withheld.insert((request, direction));
        }
        self.turn(job);
    }

    /// Runs what a VM does to its end. It only ever pauses for something that it asked of us.
    fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let outcome = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            self.obey();
            if let Poll::Ready(outcome) = outcome {
                return outcome;
            }
        }
    }

    /// Lets senders go on whose messages aren't withheld any more.
    fn settle(&mut self) {
        let Some(vm) = &mut self.vm else { return };
        let exchanges = &self.exchanges;
        self.withheld.retain(|(request, direction)| {
            let Some(exchange) = exchanges.get(request) else { return false };
            let bytes = vm.withheld_bytes(*request, *direction);
            match direction {
                Direction::Request => exchange.to_upstream.settled(bytes),
                Direction::Response => exchange.to_client.settled(bytes),
            }
            bytes > 0
        });
    }

    /// Hands on what was logged.
    fn tell(&mut self) {
        let (logs, violations) = {
            let mut commons = self.commons.lock();
            (std::mem::take(&mut commons.logs), std::mem::take(&mut commons.violations))
        };
        for log in logs.iter().filter(|log| log.level >= self.setup.options.log_level) {
            (self.setup.on_log)(log);
        }
        // A trap is in the log already.
        for violation in violations.iter().filter(|violation| violation.law != Law::NoTrap) {
            let message = format!("{:?}: {}", violation.law, violation.detail);
            let level = LogLevel::Debug;
            if level >= self.setup.options.log_level {
                let (at, thread) = (violation.at, violation.thread);
                (self.setup.on_log)(&Log { at, gateway: 0, thread, context: 0, level, message });
            }
        }
    }

    /// Does what the VM asked for.
    fn obey(&mut self) {
        loop {
            let effects = std::mem::take(&mut self.commons.lock().effects);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::ToUpstream { request, frame } => self.upstream_gets(request, frame),
                    Effect::ToClient { request, frame } => {
                        let sent = self.exchanges.get_mut(&request).is_none_or(|exchange| exchange.client_gets(frame));
                        if !sent {
                            self.break_off(request);
                        }
                    }
                    Effect::CancelUpstream { request } => {
                        if let Some(exchange) = self.exchanges.get_mut(&request) {
                            exchange.cancel_upstream();
                        }
                    }
                    Effect::StreamOver { request, details, .. } => self.over(request, details),
                    Effect::Dispatch(dispatch) => {
                        let vm = dispatch.vm;
                        let answer = self.dispatch(dispatch);
                        self.commons.lock().dispatched.insert(vm, answer);
                    }
                    Effect::Tick { vm, root, period } => {
                        if let Some(timer) = self.timers.remove(&root) {
                            timer.abort();
                        }
                        if let Some(period) = period {
                            let tick = Message::To(vm, Job::Tick(root));
                            let timer = tokio::spawn(forward::later(period, self.mailbox.clone(), tick));
                            self.timers.insert(root, timer.abort_handle());
                        }
                    }
                    Effect::QueueReady { registrant, token } => {
                        self.directory.post(registrant.vm, Job::QueueReady { root: registrant.root, token });
                    }
                    Effect::GrpcSend { root, token, message, end, .. } => {
                        if let Some(callout) = self.callouts.get(&(root, token)) {
                            send(&callout.messages, message.as_deref(), end);
                        }
                    }
                    Effect::GrpcCancel { root, token, .. } => drop(self.callouts.remove(&(root, token))),
                    Effect::RootOver { root, .. } => self.callouts.retain(|(of, _), _| *of != root),
                }
            }
        }
    }
}

// Requests.
impl Worker {
    fn begin(&mut self, arrival: Arrival) {
        self.reload();
        let Arrival { id, headers, end, attributes, protocol, head, to_client, to_upstream } = arrival;
        let word = |name: &str| headers.bytes(name).map(|word| String::from_utf8_lossy(word).into_owned());
        let access = Access {
            time: self.commons.lock().clock.wall(),
            thread: self.thread,
            protocol,
            method: word(":method").unwrap_or_default(),
            authority: word(":authority").unwrap_or_default(),
            path: word(":path").unwrap_or_default(),
            status: 0,
            details: String::new(),
            duration: Duration::ZERO,
            bytes_received: 0,
            bytes_sent: 0,
            upstream: None,
            cache_status: None,
        };
        let began = Instant::now();
        let exchange =
            Exchange { head: Some(head), to_client, to_upstream, forward: None, request_ended: end, began, access };
        self.exchanges.insert(id, exchange);
        if self.vm.is_none() {
            // No VM could be made.
            self.over(id, "wasm_fail_stream".to_owned());
            return;
        }
        self.turn(Job::Begin { request: id, headers, end, attributes });
    }

    fn upstream_gets(&mut self, request: RequestId, frame: Frame) {
        let Some(exchange) = self.exchanges.get_mut(&request) else { return };
        let Frame::Headers { headers, end } = frame else { return put(&exchange.to_upstream, frame) };
        let Some(cluster) = &self.origin else {
            let reply = LocalResponse::of_host(503, "no_healthy_upstream", "no healthy upstream");
            return self.mailbox.send(Message::Of(request, Job::Answer(request, reply)));
        };
        if end {
            exchange.to_upstream.end();
        }
        exchange.access.upstream = Some(cluster.url.to_string());
        let forward = Forward {
            id: request,
            cluster: Arc::clone(cluster),
            mailbox: self.mailbox.clone(),
            to_client: exchange.to_client.clone(),
            to_upstream: exchange.to_upstream.clone(),
            timeout: self.setup.limits.upstream,
        };
        exchange.forward = Some(tokio::spawn(forward.run(headers)).abort_handle());
    }

    /// A request has ended, one way or another.
    fn over(&mut self, request: RequestId, details: String) {
        let Some(mut exchange) = self.exchanges.remove(&request) else { return };
        exchange.close();
        exchange.access.details = details;
        exchange.access.duration = exchange.began.elapsed();
        (self.setup.on_access)(&exchange.access);
    }

    fn break_off(&mut self, request: RequestId) {
        self.over(request, "broken_off".to_owned());
    }

    fn break_off_all(&mut self) {
        for request in self.exchanges.keys().copied().collect::<Vec<_>>() {
            self.break_off(request);
        }
        for (_, task) in self.timers.drain() {
            task.abort();
        }
        self.callouts.clear();
    }

    /// Ends requests in which nothing has moved for too long (`stream_idle_timeout`).
    fn end_the_silent(&mut self) {
        let silence = self.setup.limits.silence;
        let silent = self.exchanges.iter().filter(|(_, exchange)| exchange.silent_since().elapsed() > silence);
        let silent: Vec<(RequestId, bool)> = silent.map(|(id, exchange)| (*id, exchange.request_ended)).collect();
        for (request, request_ended) in silent {
            let status = if request_ended { 504 } else { 408 };
            self.turn(Job::Answer(request, LocalResponse::of_host(status, "stream_idle_timeout", "stream timeout")));
        }
    }

    /// Gives a failed VM's thread a new one, where the policy and the time allow it.
    fn reload(&mut self) {
        let due = self.failed_at.is_some_and(|failed_at| failed_at.elapsed() >= BACKOFF);
        if !due || self.setup.options.failure_policy != FailurePolicy::Reload {
            return;
        }
        self.directory.leave(self.key);
        self.break_off_all();
        self.vm = None;
        // What it says is in the log.
        let _ = self.start();
    }
}

// Callouts.
impl Worker {
    fn dispatch(&mut self, dispatch: Dispatch) -> Result<(), Status> {
        let Dispatch { vm, root, token, kind, cluster, headers, body, timeout: within, .. } = dispatch;
        let cluster = Arc::clone(self.clusters.get(&cluster).ok_or(Status::BadArgument)?);
        let (mailbox, messages) = (self.mailbox.clone(), Pipe::new());
        let task = if kind == Kind::Http {
            tokio::spawn(async move {
                let response = forward::call(cluster, headers, body, within).await;
                mailbox.send(Message::To(vm, Job::CallDone { root, token, response }));
            })
        } else {
            if kind == Kind::Call {
                send(&messages, Some(&body), true);
            }
            let call = GrpcCall { cluster, mailbox, vm, root, token, kind, messages: messages.clone(), within };
            tokio::spawn(call.run(headers))
        };
        self.callouts.insert((root, token), Callout { task: task.abort_handle(), messages });
        Ok(())
    }
}

/// Sends a message, or (`None`) only the end.
fn send(messages: &Pipe, message: Option<&[u8]>, end: bool) {
    if let Some(message) = message {
        messages.push(hyper::body::Frame::data(framed(message)));
    }
    if end {
        messages.end();
    }
}

/// Takes connections, as many as there are places for, and gives them to the workers in turn.
async fn accept(listener: TcpListener, workers: Vec<Mailbox>, places: usize, mut drain: Drain) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let places = Arc::new(Semaphore::new(places));
    let next = async || {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        listener.accept().await.map(|(stream, peer)| (stream, peer, place)).ok()
    };
    for worker in workers.iter().cycle() {
        let (stream, peer, place) = loop {
            tokio::select! {
                accepted = next() => match accepted {
                    Some(accepted) => break accepted,
                    // The peer has gone, or descriptors have run out: in both cases later ones may do better.
                    None => sleep(Duration::from_millis(20)).await,
                },
                () = drain.begun() => return,
            }
        };
        if let Ok(stream) = stream.into_std() {
            worker.send(Message::Connection(stream, peer as SocketAddr, place));
        }
    }
}
