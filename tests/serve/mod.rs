//! The shipped filter in `routecache serve`: no Envoy, real sockets.

mod guide;
mod stage;
mod tiers;
mod transport;
