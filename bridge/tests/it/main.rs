//! The bridge from outside: its stores against the purge protocol, its HTTP, its process, its failures.

mod agreement;
mod faults;
mod feed;
mod http;
mod process;
mod protocol;
mod readme;
mod redis_only;
mod support;
