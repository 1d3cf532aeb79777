//! End-to-end tests, one program: what is slow to link is linked once.

mod differential;
mod documents;
mod envoy;
mod scenarios;
mod serve;
#[path = "simulation/tests.rs"]
mod simulation;
#[path = "soak/tests.rs"]
mod soak;
mod streaming;

/// The small filters that host-test's own tests are made of.
#[path = "../host-test/tests/host/probe.rs"]
mod probe;
