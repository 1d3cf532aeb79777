//! The simulation: gateways, workers, bridge, store, origin and clients on one virtual clock, with every fault that a seed
//! draws; what they saw is held against the laws of consistency.
//!
//! In reading order: [`plan`] is what a seed draws, [`care`] what the rules say of load in it and [`behind`] what they have
//! gateways do by themselves, [`run`] carries it out with [`group`] as the bridge, [`history`] is what is left of it, [`laws`]
//! judges that, [`hunt`] goes through seeds and shrinks a run that broke a law. [`planted`] lists the mistakes that it is
//! shown to find.

pub mod behind;
pub mod care;
pub mod chance;
pub mod group;
pub mod history;
pub mod hunt;
pub mod laws;
pub mod plan;
pub mod planted;
pub mod run;
