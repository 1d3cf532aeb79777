//! Every decision of the cache, and nothing else: this crate is handed facts and `now`, and returns a value. It never
//! reads a clock, calls a host, logs, or keeps a global; `routecache-filter` does what is decided here.
//!
//! In reading order: what the rules say ([`policy`], [`template`]), what a request meets and is to be done with it
//! ([`request`], [`matching`]), what names a response ([`key`]), whether it may be stored and for how long ([`storing`],
//! [`cache_control`]), what a stored one is ([`entry`], [`fields`]), where it is kept ([`gateway_tier`], [`eviction`]),
//! what a purge is ([`gateway_log`], [`purge_table`]), and what a response says of all that ([`cache_status`]).
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)] // a panic in the VM ends every stream of its worker (C12)
#![forbid(unsafe_code)]

pub mod cache_control;
pub mod cache_status;
pub mod entry;
pub mod eviction;
pub mod fields;
pub mod gateway_log;
pub mod gateway_tier;
pub mod key;
pub mod matching;
pub mod policy;
pub mod purge_table;
pub mod request;
pub mod storing;
pub mod template;
mod wire;
