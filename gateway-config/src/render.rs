//! Gateway configuration around the rules. Each target is a module; what they share is how YAML is written.

mod emit;
mod envoy;
mod kubernetes;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

#[cfg(feature = "files")]
pub(crate) use emit::text;
pub use envoy::{EnvoyOptions, envoy};
pub use kubernetes::{Plugin, PluginOptions, Unsayable, plugin};

/// Where a service listens: an IP address or a DNS name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

/// Not `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddress;

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write host and port, such as `127.0.0.1:8080` or `orders.internal:8080`")
    }
}

impl std::error::Error for NoAddress {}

impl Address {
    /// Whether it is an IP address, so that nothing has to be resolved.
    fn is_ip(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }
}

impl FromStr for Address {
    type Err = NoAddress;

    /// Reads `host:port`, an IPv6 address in brackets.
    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let (host, port) = text.rsplit_once(':').ok_or(NoAddress)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(NoAddress)?;
        let host = crate::host::normalised(host).map_err(|_| NoAddress)?;
        Ok(Self { host, port })
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}
