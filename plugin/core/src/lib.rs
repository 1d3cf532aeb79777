//! Every decision of the cache, and nothing else: this crate is handed facts and `now`, and returns a value. It never
//! reads a clock, calls a host, logs, or keeps a global; `routecache-filter` does what is decided here.
//!
//! In reading order: what the rules say ([`policy`], [`template`], [`path`], [`pattern`], [`condition`]), and where what they
//! name is found ([`json`], [`property`], [`digest`]); what a request meets and is to be done with it
//! ([`request`], [`matching`]), and whether what is stored answers it ([`reuse`]); what names a response ([`key`], [`no_vary_search`]); then HTTP caching by the chapters of RFC 9111: storing
//! (§3: [`storing`], [`cache_control`], [`targeted`]), freshness (§4.2: [`freshness`]), selecting fields (§4.1: [`vary`]),
//! validation (§4.3: [`validation`]), invalidation (§4.4: [`invalidation`]), and the answers made from a stored response
//! ([`reply`], [`ranges`]), and how often they are asked for ([`uses`]); what the filter fetches by itself ([`fetch`],
//! [`refresh`], [`recache`], [`warm`]); who fetches, who waits for it and who is asked ([`flights`], [`leases`], [`permits`],
//! [`breaker`]); what a stored one is ([`entry`], [`fields`]) and where it is kept ([`gateway_tier`], [`eviction`], [`seal`]); what a
//! purge is ([`gateway_log`], [`bans`], [`purge_table`]); what a response says of all that ([`cache_status`]); and what is written
//! in little code, since a gateway compiles all of it: [`order`], [`numbered`].
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

pub mod bans;
pub mod breaker;
pub mod cache_control;
pub mod cache_status;
pub mod condition;
pub mod digest;
pub mod entry;
pub mod eviction;
pub mod fetch;
pub mod fields;
mod fingerprint;
pub mod flights;
pub mod freshness;
pub mod gateway_log;
pub mod gateway_tier;
mod hmac;
pub mod http_date;
pub mod invalidation;
pub mod json;
pub mod key;
pub mod leases;
pub mod matching;
pub mod no_vary_search;
pub mod numbered;
pub mod order;
pub mod path;
pub mod pattern;
pub mod permits;
pub mod planted;
pub mod policy;
pub mod property;
pub mod purge_table;
pub mod ranges;
pub mod recache;
pub mod refresh;
pub mod reply;
pub mod request;
pub mod reuse;
pub mod seal;
pub mod storing;
mod structured;
pub mod targeted;
pub mod template;
pub mod uses;
pub mod validation;
pub mod vary;
pub mod warm;
mod wire;
