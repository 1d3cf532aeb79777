//! What this host promises, shown with small filters.

mod callouts;
mod documents;
mod faults;
mod filters;
mod gateways;
mod grpc;
mod loading;
mod odd_modules;
mod probe;
mod streams;

use proxy_wasm_host_test::World;

/// What the filter said since the world was built, oldest first.
fn said(world: &World) -> Vec<String> {
    world.logs().into_iter().map(|log| log.message).collect()
}
