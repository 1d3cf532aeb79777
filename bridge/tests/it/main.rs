//! The bridge from outside: its stores against the purge protocol, its HTTP, its process, its failures.

#[macro_use]
mod support;

mod access;
mod agreement;
mod bans;
mod between;
mod clocks;
mod cluster;
mod copies;
mod events;
mod failover;
mod faults;
mod feed;
mod flat;
mod hearing;
mod hooks;
mod http;
mod keys;
mod leases;
mod memory;
mod people;
mod process;
mod protocol;
mod published;
mod readme;
mod redis_only;
mod replicas;
mod scripted;
mod soft;
mod states;
mod stores;
mod tls;
mod versions;
