//! What all VMs of one gateway process share: data, queues and metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod data;
mod metrics;
mod queues;

pub use data::SharedData;
pub use metrics::{Metric, Metrics};
pub(crate) use queues::{Queues, Registrant};

/// The state of one gateway process that outlives any of its VMs.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) data: SharedData,
    pub(crate) queues: Queues,
    pub(crate) metrics: Metrics,
}

/// A gateway process, in the hands of one of its threads. As in Envoy, one lock guards all of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedProcess(Arc<Mutex<Process>>);

impl SharedProcess {
    /// Never held across a host call's pause.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Process> {
        // Each change is one step, so a thread that panicked has left none half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
