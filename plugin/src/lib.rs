//! The filter: carries out, in a Proxy-Wasm host, what `routecache-core` decides.
//!
//! In reading order: [`stream`] is one request and its response, [`lookup`] how the tiers are searched for it, [`keep`] how
//! a response gets into them, [`fetch`] what the filter asks for by itself, [`collapse`] how several requests share a fetch;
//! [`root`] is what goes on behind them (configuration, the feed, purges and stores on their way to the bridge); both stand
//! on [`worker`] (one VM's memory), [`bodies`] (requests whose body is waited for), [`shared`] (what
//! all VMs of the gateway share), [`bridge`] (the group, which gets its entries sealed: [`seal`]) and [`host`] (the ABI).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects
)] // a panic ends every stream of the worker (C12)
#![deny(unsafe_code)] // but for `host`
#![expect(missing_docs, reason = "the macro of the SDK exports a function without any")]

mod bodies;
mod bridge;
mod collapse;
mod fetch;
mod host;
mod keep;
mod lookup;
mod metrics;
mod root;
mod seal;
mod shared;
mod stream;
mod warm;
mod worker;

use std::hash::{BuildHasher, RandomState};

proxy_wasm::main! {{
    #[cfg(feature = "planted")]
    if let Ok(name) = std::env::var("ROUTECACHE_PLANTED") {
        routecache_core::planted::plant(name);
    }
    proxy_wasm::set_root_context(|id| Box::new(root::Root::new(id)));
}}

/// A random number; the standard library seeds its hash maps from the host's `random_get`, and no hash map needs more.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}
