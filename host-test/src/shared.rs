//! What all VMs of one gateway process share: data, queues and metrics.

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
