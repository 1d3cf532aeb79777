//! `demo`: the cache at work, on this machine, from nothing.

use std::process::Command;

use crate::step::{self, Failure};
use crate::{build, tools};

/// Builds everything and becomes the tour.
///
/// # Errors
///
/// When Envoy can't be had or something doesn't build. What the tour finds is its own exit status.
pub fn run(serve: bool) -> Result<(), Failure> {
    let envoy = tools::envoy()?; // first: where none can be had, nobody should wait for a build to learn it
    let filter = build::filter()?;
    build::programs(&filter, &["routecache-harness"])?;
    let mut tour = Command::new(step::target().join("release/routecache-demo"));
    tour.current_dir(step::workspace()).env("ROUTECACHE_ENVOY", envoy).args(serve.then_some("--serve"));
    step::become_it("tour", &mut tour)
}
