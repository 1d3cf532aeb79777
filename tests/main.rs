//! End-to-end tests, one program: what is slow to link is linked once.

mod envoy;
mod scenarios;
