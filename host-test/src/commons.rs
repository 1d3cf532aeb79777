//! What VMs share with the world around them: clocks, chance, logs, processes, and the effects that they ask it for.
//!
//! All VMs of a simulated world have one of these, each thread of a server has its own. Either way it is used on one thread, so the
//! lock is never waited for; it is there because wasmtime's futures must be `Send`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::abi::{LogLevel, Status};
use crate::clock::Clock;
use crate::faults::{Fault, Injector, Site};
use crate::grpc::Kind;
use crate::hostcalls::built_in_foreign_functions;
use crate::laws::{Law, Violation};
use crate::random::Chance;
use crate::shared::{Registrant, SharedProcess};
use crate::trace::{Log, Thread, Trace};
use crate::vm::VmKey;
use crate::{Headers, RequestId};

/// A function that modules can call by name: arguments in, result out.
pub(crate) type ForeignFunction = Box<dyn FnMut(&[u8]) -> Result<Vec<u8>, Status> + Send>;

/// Where a VM runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) gateway: usize,
    pub(crate) thread: Thread,
}

/// A part of an HTTP message on its way.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Headers { headers: Headers, end: bool },
    Data { bytes: Vec<u8>, end: bool },
    Trailers(Headers),
}

/// A callout that a filter wants to make.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) vm: VmKey,
    pub(crate) place: Place,
    pub(crate) root: u32,
    pub(crate) token: u32,
    pub(crate) cluster: String,
    pub(crate) headers: Headers,
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
    pub(crate) timeout: Option<Duration>,
}

/// What a VM asks of the world around it.
#[derive(Debug)]
pub(crate) enum Effect {
    /// On to the origin.
    ToUpstream { request: RequestId, frame: Frame },
    /// On to the client.
    ToClient { request: RequestId, frame: Frame },
    /// The gateway answers by itself: the origin's answer isn't wanted any more.
    CancelUpstream { request: RequestId },
    /// The stream has ended and its context is deleted.
    StreamOver { request: RequestId, whole: bool, local_reply: bool, details: String },
    /// The VM waits for the answer, which goes to [`Commons::dispatched`].
    Dispatch(Dispatch),
    /// The root context wants to be called each `period`, or no more.
    Tick { vm: VmKey, root: u32, period: Option<Duration> },
    /// More for a gRPC stream: a message, or (`None`) only the end.
    GrpcSend { vm: VmKey, root: u32, token: u32, message: Option<Vec<u8>>, end: bool },
    /// A gRPC call or stream isn't wanted any more.
    GrpcCancel { vm: VmKey, root: u32, token: u32 },
    /// A queue holds something.
    QueueReady { registrant: Registrant, token: u32 },
    /// A root context is gone, and its callouts with it.
    RootOver { vm: VmKey, root: u32 },
}

/// A host function that a test has answer with a status of its choice.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) function: String,
    pub(crate) status: Status,
    pub(crate) left: u32,
}

/// A callback that a test wants to fail.
#[derive(Debug)]
pub(crate) struct Crash {
    pub(crate) place: Place,
    pub(crate) callback: String,
    pub(crate) how: Failing,
}

/// How a test wants a callback to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    /// It traps before it has begun.
    Trap,
    /// It has no fuel.
    NoFuel,
}

pub(crate) struct Commons {
    pub(crate) clock: Clock,
    /// How far the wall clocks of gateways are ahead of the world's, in nanoseconds, where they are not that.
    pub(crate) wall_ahead: BTreeMap<usize, i128>,
    pub(crate) chance: Chance,
    pub(crate) processes: Vec<SharedProcess>,
    pub(crate) logs: Vec<Log>,
    pub(crate) log_bytes: usize,
    pub(crate) trace: Trace,
    pub(crate) violations: Vec<Violation>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) dispatched: BTreeMap<VmKey, Result<(), Status>>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) faults: Option<Injector>,
    /// Contexts that were created and not deleted yet, and whether they are streams'.
    pub(crate) contexts: BTreeMap<(VmKey, u32), bool>,
    /// Callbacks that a test wants to fail.
    pub(crate) crashes: Vec<Crash>,
    /// What modules are told of the host's log level, where it isn't what the options say any more.
    pub(crate) log_level: Option<LogLevel>,
    /// The monotonic clock shows modules the first of these until the second.
    pub(crate) stall: Option<(Duration, Duration)>,
    pub(crate) foreign: BTreeMap<String, ForeignFunction>,
}

impl Commons {
    /// Nothing has happened yet, and no callback is remembered.
    pub(crate) fn new(clock: Clock, chance: Chance, processes: Vec<SharedProcess>) -> Self {
        Self {
            clock,
            wall_ahead: BTreeMap::new(),
            chance,
            processes,
            logs: Vec::new(),
            log_bytes: 0,
            trace: Trace::default(),
            violations: Vec::new(),
            effects: Vec::new(),
            dispatched: BTreeMap::new(),
            refusals: Vec::new(),
            faults: None,
            contexts: BTreeMap::new(),
            crashes: Vec::new(),
            log_level: None,
            stall: None,
            foreign: built_in_foreign_functions(),
        }
    }

    pub(crate) fn log(&mut self, place: Place, context: u32, level: LogLevel, message: impl Into<String>) {
        // A filter that does nothing but log doesn't take all of the machine's memory.
        const BYTES_MAX: usize = 256 << 20;
        let Place { gateway, thread } = place;
        if self.logs.is_empty() {
            self.log_bytes = 0;
        }
        if self.log_bytes > BYTES_MAX {
            return;
        }
        let mut log = Log { at: self.clock.now(), gateway, thread, context, level, message: message.into() };
        self.log_bytes += size_of::<Log>() + log.message.len();
        if self.log_bytes > BYTES_MAX {
            "the log is full; nothing is kept of what follows".clone_into(&mut log.message);
        }
        self.logs.push(log);
    }

    pub(crate) fn violation(&mut self, place: Place, law: Law, detail: impl Into<String>) {
        // A world that goes on for ever doesn't keep them for ever.
        const KEPT_MAX: usize = 10_000;
        if self.violations.len() >= KEPT_MAX {
            return;
        }
        let Place { gateway, thread } = place;
        self.violations.push(Violation { law, at: self.clock.now(), gateway, thread, detail: detail.into() });
    }

    /// How a test wants this callback to fail this time, if it does.
    pub(crate) fn crash(&mut self, place: Place, callback: &str) -> Option<Failing> {
        let wanted = self.crashes.iter().position(|crash| crash.place == place && crash.callback == callback)?;
        Some(self.crashes.swap_remove(wanted).how)
    }

    /// A gateway's wall clock.
    pub(crate) fn wall_of(&self, gateway: usize) -> Duration {
        let (wall, ahead) = (self.clock.wall(), self.wall_ahead.get(&gateway).copied().unwrap_or_default());
        let by = Duration::from_nanos(u64::try_from(ahead.unsigned_abs()).unwrap_or(u64::MAX));
        if ahead < 0 { wall.saturating_sub(by) } else { wall.saturating_add(by) }
    }

    /// The monotonic clock, as modules see it.
    pub(crate) fn monotonic(&self) -> Duration {
        // Machines run for a while before a gateway does; Go's runtime gives up where the time is 0.
        const UP_BEFORE: Duration = Duration::from_secs(1);
        let now = self.clock.now();
        let shown = self.stall.filter(|(from, until)| (*from..*until).contains(&now)).map_or(now, |(from, _)| from);
        UP_BEFORE + shown
    }

    /// What goes wrong at this place, this time.
    pub(crate) fn fault(&mut self, site: Site) -> Option<Fault> {
        self.faults.as_mut()?.pass(site)
    }

    /// The status that a test wants this host function to answer this time.
    pub(crate) fn refusal(&mut self, function: &str) -> Option<Status> {
        let refusal = self.refusals.iter_mut().find(|refusal| refusal.left > 0 && refusal.function == function)?;
        refusal.left -= 1;
        Some(refusal.status)
    }
}

/// The commons, in the hands of a VM or the world.
#[derive(Clone)]
pub(crate) struct SharedCommons(Arc<Mutex<Commons>>);

impl SharedCommons {
    pub(crate) fn new(commons: Commons) -> Self {
        Self(Arc::new(Mutex::new(commons)))
    }

    /// Never held across a host call's pause.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Commons> {
        // A test that panicked while holding it is about to end anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
