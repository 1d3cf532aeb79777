//! What the cache costs. Each bench answers a question; `cargo xtask bench` lists them.
//!
//! Timings are ratios within one run: machines differ, and so does one machine from hour to hour.
