//! Laws that any filter must hold, checked without being asked.

use std::fmt;
use std::time::Duration;

use crate::{RequestId, Thread};

/// A broken law.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which law.
    pub law: Law,
    /// When, on the world's monotonic clock.
    pub at: Duration,
    /// In which gateway.
    pub gateway: usize,
    /// On which of its threads.
    pub thread: Thread,
    /// What happened, for people.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { law, at, gateway, thread, detail } = self;
        write!(formatter, "{law:?} at {at:?} in gateway {gateway}, {thread}: {detail}")
    }
}

/// What a filter must never do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Law {
    /// No callback traps, runs out of fuel or panics.
    NoTrap,
    /// No stream waits for something that will never come.
    NoStuckStream(RequestId),
    /// A stream is answered at most once by the filter.
    OneLocalReply,
    /// Only a paused stream is resumed: Envoy asserts this in debug builds and goes astray in others.
    ResumeOnlyPaused,
    /// A pointer given to the host lies in the memory of the module.
    PointersInMemory,
    /// Each context is deleted once, and none is left behind.
    ContextsDeletedOnce,
    /// No host function answers that it was asked something senseless: SDKs panic over that.
    ExpectedStatus,
    /// A callback costs no more fuel than [its budget](crate::WorldBuilder::fuel_budget).
    FuelWithinBudget,
    /// A VM's memory stays within [its budget](crate::WorldBuilder::memory_budget).
    MemoryWithinBudget,
    /// A body that the filter doesn't change leaves the gateway as long as it came.
    BodyConserved,
}
