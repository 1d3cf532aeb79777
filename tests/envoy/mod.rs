//! The shipped filter in a real Envoy, with a real bridge and a real Redis.
//!
//! Each test has servers of its own, which end with it.

mod bridge_lost;
mod configuration;
mod crowds;
mod failover;
mod faults;
mod hits;
mod language;
mod misses;
mod outages;
mod privacy;
mod purges;
mod replay;
mod rolling;
mod sealing;
mod sharing;
mod stage;
mod straight;
mod table_rows;
mod upgrades;
