//! End-to-end tests, one program: what is slow to link is linked once.

mod documents;
mod envoy;
mod scenarios;
