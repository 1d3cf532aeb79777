//! The shipped filter in host-test: gateways, workers, bridge and origin on one virtual clock.

mod bans;
mod bridge_lost;
mod caching;
mod clocks;
mod collapsed;
mod costs;
mod degradation;
mod gateway_tier;
mod hits;
mod language;
mod matrix;
mod misses;
mod no_vary_search;
mod passing;
mod privacy;
mod purges;
mod races;
mod reconfiguration;
mod refreshing;
mod sealing;
mod soft;
mod stage;
mod straight;
mod table;
mod table_rows;
mod warming;
