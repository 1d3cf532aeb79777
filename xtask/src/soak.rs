//! `soak`: real gateways, bridges and Redis under faults, with version checks.

use crate::step::{self, Failure};
use crate::{build, tools};

/// Builds what it needs and becomes the soak.
///
/// # Errors
///
/// When Envoy or Redis can't be had, or something doesn't build.
pub fn run(options: &[&str]) -> Result<(), Failure> {
    let (envoy, redis) = (tools::envoy()?, tools::redis()?);
    build::filter()?;
    step::run("bridge", &mut step::cargo(["build", "--package", "routecache-bridge"]))?;
    let arguments = ["run", "--quiet", "--package", "e2e", "--bin", "soak", "--"];
    let mut soak = step::cargo(arguments.into_iter().chain(options.iter().copied()));
    step::become_it("soak", soak.env("ROUTECACHE_ENVOY", envoy).env("ROUTECACHE_REDIS", redis))
}
