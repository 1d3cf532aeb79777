//! What a server promises, on real sockets and with small filters.

mod command;
mod failures;
#[path = "../host/probe.rs"]
mod probe;
mod protocols;
mod stage;
mod streams;
mod threads;
