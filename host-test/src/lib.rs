//! A host for any Proxy-Wasm filter, for tests.
//!
//! A [`World`] holds gateways that behave as Envoy does, each with a main thread and workers that run the filter in
//! [wasmtime], and around them scripted clients, an origin, and clusters for callouts. All of it runs on a virtual clock that
//! jumps from event to event: nothing sleeps, and one seed repeats a run, down to the order in which workers go on between two host
//! calls.
//!
//! ```
//! use std::time::Duration;
//! use proxy_wasm_host_test::{Request, Response, World};
//!
//! // A filter that adds a header to every response.
//! let filter = br#"(module
//!     (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
//!     (memory (export "memory") 1)
//!     (data (i32.const 16) "x-seen" "yes")
//!     (func (export "proxy_abi_version_0_2_1"))
//!     (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
//!     (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
//!         (drop (call $add (i32.const 2) (i32.const 16) (i32.const 6) (i32.const 22) (i32.const 3)))
//!         (i32.const 0)))"#;
//!
//! let mut world = World::builder()
//!     .filter(filter.as_slice())
//!     .origin(|call| Response::ok(format!("you asked for {}", call.path())).after(Duration::from_millis(30)))
//!     .build()?;
//! let answer = world.fetch(Request::get("/menu").header("accept", "text/plain"));
//! assert_eq!((answer.status, answer.text().as_str()), (200, "you asked for /menu"));
//! assert_eq!(answer.header("x-seen"), Some("yes"));
//! assert_eq!(world.now(), Duration::from_millis(30));
//! # Ok::<(), proxy_wasm_host_test::BuildError>(())
//! ```
//!
//! TCP streams are left out: filters for them load, and never hear of one.

mod abi;
mod chain;
mod clock;
mod commons;
mod date;
mod dialect;
mod failure;
mod faults;
mod filter;
mod grpc;
mod guest;
mod headers;
mod hostcalls;
mod job;
mod laws;
mod memory;
mod message;
mod random;
mod request;
#[cfg(feature = "scenario")]
pub mod scenario;
#[cfg(feature = "serve")]
pub mod serve;
mod shared;
mod simulation;
#[cfg(unix)]
mod stacks;
mod stream;
mod trace;
mod trap;
mod upstream;
mod vm;
mod wasi;
mod world;

/// The functions that modules can import, as `module.name`, in the order of the ABI. Any other import links too, and answers
/// [`Status::Unimplemented`] (see [`World::unoffered_imports`]).
pub fn offered_functions() -> Vec<String> {
    let env = hostcalls::offered().chain(["abort"]).map(|name| format!("env.{name}"));
    env.chain(wasi::offered().map(|name| format!("wasi_snapshot_preview1.{name}"))).collect()
}

/// The functions of a module that a [`World`] calls if they are there, in the order of its life.
pub fn called_functions() -> &'static [&'static str] {
    vm::CALLED
}

pub use abi::{AbiVersion, Direction, LogLevel, Status};
pub use dialect::{Cas, Dialect, FailurePolicy};
pub use faults::{Fault, Faults, Injected, Site};
pub use headers::Headers;
pub use laws::{Law, Violation};
pub use request::{Answer, Ending, Request, RequestId};
pub use shared::{Metric, SharedData};
pub use simulation::{Dice, Failure, Replay, Simulation};
pub use trace::{Callback, Cost, HostCall, Log, Thread};
pub use upstream::{Call, CallId, CallKind, Kept, Reply, Response, Upstream};
pub use world::{BuildError, Clients, FilterSource, World, WorldBuilder};

/// The guide's examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/test-your-own-filter.md")]
struct Guide;
