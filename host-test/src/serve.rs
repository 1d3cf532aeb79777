//! The same gateway under a real clock and on real sockets: a reverse proxy around any filter.
//!
//! A [`Server`] has a thread for each worker, with a VM, a runtime and upstream connections of its own, and a main thread that takes
//! connections and gives them to the workers in turn. Workers share data, queues and metrics, and nothing else. What happens to a
//! request within the filter chain is the same code as in a [`World`](crate::World).
//!
//! Read from the outside in: `server` starts and ends threads, `worker` is what a thread does, `downstream` and `forward` are the two
//! sides of it, `pipe` is what lies between a filter and a socket.

mod access;
mod cluster;
pub mod command;
mod downstream;
mod exchange;
mod forward;
mod grpc;
mod inspection;
mod mail;
mod path;
mod pipe;
mod server;
mod wire;
mod worker;

pub use access::Access;
pub use cluster::{NotAnUpstream, UpstreamUrl};
pub use inspection::Inspection;
pub use server::{Limits, ServeError, Server, ServerBuilder};
