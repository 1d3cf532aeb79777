//! The shipped filter in `routecache serve`: no Envoy, real sockets.

mod stage;
mod tiers;
mod transport;
