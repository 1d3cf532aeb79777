//! The product's surroundings, for tests and for the demo: Envoy, Redis and the bridge as child processes, a JSON API
//! as their origin, and a client that decides which of Envoy's workers it talks to.
//!
//! Everything listens on loopback. A value that stands for a process ends it when it is dropped, when the test panics,
//! and (on Linux) when this process dies in whatever way. Nothing here knows what a cache is.

mod bridge;
mod client;
mod envoy;
mod error;
mod load;
mod origin;
mod origin_process;
mod ports;
mod process;
mod programs;
mod redis;
mod serve;
mod server;

pub use bridge::Bridge;
pub use client::{API_HOST, Arriving, CacheStatus, Client, Connection, Request, Response};
pub use envoy::{Envoy, EnvoyConfig};
pub use error::{Error, Result};
pub use load::{Load, Seen};
pub use origin::{Answer, Gate, Heard, Origin, READ_TIME};
pub use origin_process::OriginProcess;
pub use ports::Port;
pub use programs::{filter, gateway_cli, target};
pub use redis::{Redis, RedisCluster};
pub use serve::Serve;
pub use server::Server;
