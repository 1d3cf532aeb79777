//! What a filter did: every callback with its host calls and what it cost.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::abi::{LogLevel, Status};

/// A thread of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thread {
    /// The main thread: its VM is configured and ticks, but sees no requests.
    Main,
    /// A worker, counted from 0.
    Worker(usize),
}

impl fmt::Display for Thread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main => formatter.write_str("main thread"),
            Self::Worker(number) => write!(formatter, "worker {number}"),
        }
    }
}

/// A line of log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// When, on the world's monotonic clock.
    pub at: Duration,
    /// In which gateway.
    pub gateway: usize,
    /// On which of its threads.
    pub thread: Thread,
    /// The context that was being served; 0 for the VM itself and for what the host says.
    pub context: u32,
    /// How urgent.
    pub level: LogLevel,
    /// What was said; bytes that aren't UTF-8 are replaced.
    pub message: String,
}

impl fmt::Display for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, gateway, thread, context, level, message } = self;
        write!(formatter, "{at:>12?} g{gateway} {thread} #{context} {level:?}: {message}")
    }
}

/// One call from the host into the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// When it began, on the world's monotonic clock.
    pub at: Duration,
    /// In which gateway.
    pub gateway: usize,
    /// On which of its threads.
    pub thread: Thread,
    /// The exported function.
    pub name: &'static str,
    /// Its arguments, the context first.
    pub arguments: Vec<u32>,
    /// What it returned; `None` if it returns nothing or trapped.
    pub returned: Option<u32>,
    /// The host functions that it called, in order.
    pub host_calls: Vec<HostCall>,
    /// What it cost in wasmtime fuel, about one unit per instruction; the same on every machine.
    pub fuel: u64,
}

/// One call from the module to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCall {
    /// The imported function.
    pub name: &'static str,
    /// What it answered; a WASI function's error number is told as it is.
    pub answer: u32,
}

impl HostCall {
    /// Whether the answer is this status.
    pub fn answered(&self, status: Status) -> bool {
        self.answer == status as u32
    }
}

/// What all calls of one callback cost together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How often it was called.
    pub calls: u64,
    /// Fuel of all calls.
    pub fuel: u64,
    /// Fuel of the dearest call.
    pub fuel_max: u64,
    /// Host calls of all calls.
    pub host_calls: u64,
    /// Host calls of the call that made most.
    pub host_calls_max: u64,
}

/// The latest callbacks, and the costs of all.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) callbacks: VecDeque<Callback>,
    pub(crate) costs: BTreeMap<&'static str, Cost>,
    /// How often each host function answered what.
    pub(crate) answers: BTreeMap<(&'static str, u32), u64>,
    pub(crate) kept_max: usize,
    /// Host calls of the callbacks that are kept.
    pub(crate) kept_calls: usize,
}

/// Host calls that are kept at most, of all callbacks together.
const CALLS_MAX: usize = 10_000_000;

impl Trace {
    pub(crate) fn record(&mut self, callback: Callback) {
        let cost = self.costs.entry(callback.name).or_default();
        let host_calls = callback.host_calls.len() as u64;
        cost.calls += 1;
        cost.fuel += callback.fuel;
        cost.fuel_max = cost.fuel_max.max(callback.fuel);
        cost.host_calls += host_calls;
        cost.host_calls_max = cost.host_calls_max.max(host_calls);
        for call in &callback.host_calls {
            *self.answers.entry((call.name, call.answer)).or_default() += 1;
        }
        if self.kept_max == 0 {
            return;
        }
        self.kept_calls += callback.host_calls.len();
        self.callbacks.push_back(callback);
        while self.callbacks.len() > self.kept_max || (self.kept_calls > CALLS_MAX && self.callbacks.len() > 1) {
            let gone = self.callbacks.pop_front();
            self.kept_calls -= gone.map_or(0, |callback| callback.host_calls.len());
        }
    }
}
