//! Loopback ports for servers that must be told theirs before they start.

use std::fs::{self, File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process;

use rustix::process::getuid;

use crate::{Error, Result};

/// Below the ports that systems hand out by themselves (Linux: from 32768), so that no outgoing connection takes one
/// between our look and the server's start.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// A port that no other [`Port`] has, in this or any other process of this user, for as long as this value lives. A server can
/// leave it and come back.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: File, // locked; the system lets go of it however we end
}

impl Port {
    /// Claims a port on which nothing listens.
    ///
    /// # Errors
    ///
    /// When all are taken, or the temporary folder can't be written to.
    pub fn claim() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("routecache-ports-{}", getuid().as_raw()));
        fs::create_dir_all(&folder).map_err(Error::io(format!("make {}", folder.display())))?;
        // Processes that start together begin their search at different places.
        let offset = process::id().wrapping_mul(97) % u32::from(RANGE.end - RANGE.start);
        let offset = u16::try_from(offset).unwrap_or_default();
        for number in (RANGE.start + offset..RANGE.end).chain(RANGE.start..RANGE.start + offset) {
            let path = folder.join(number.to_string());
            let claim = File::options().create(true).append(true).open(&path);
            let claim = claim.map_err(Error::io(format!("open {}", path.display())))?;
            match claim.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(cause)) => return Err(Error::io(format!("lock {}", path.display()))(cause)),
            }
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _claim: claim });
            }
        }
        Err(Error::Unexpected(format!("no free port in {RANGE:?}")))
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn two_claims_never_share_a_port_and_a_dropped_one_is_free_again() {
        let (one, other) = (Port::claim().unwrap(), Port::claim().unwrap());
        assert_ne!(one.number(), other.number());
        let number = one.number();
        drop(one);
        assert_eq!(Port::claim().unwrap().number(), number);
    }
}
