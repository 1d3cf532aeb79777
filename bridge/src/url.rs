//! Where the data is: `mem://` or `redis://`.

use std::fmt;
use std::time::Duration;

use redis::RedisError;

use crate::{Bridge, MemStore, RedisStore};

/// Bytes of `mem://` without `bytes`.
const MEM_BYTES: usize = 256 << 20;

/// Fewer bytes would hold next to nothing.
const MEM_BYTES_MIN: usize = 1 << 20;

/// A store's address. Its text form shows no password.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// This process's memory.
    Mem {
        /// Budget in bytes.
        bytes: usize,
    },
    /// One Redis server.
    Redis {
        /// As the client takes it, password and all.
        url: String,
    },
}

/// An address that the bridge can't use, and how to mend it. Never quotes more of it than the scheme.
#[derive(Debug, thiserror::Error)]
pub enum UnusableUrl {
    /// Planned, and not built.
    #[error("`{0}` is not supported yet; use `redis://host:port` or `mem://`")]
    NotYet(String),
    /// No store is reached this way.
    #[error("`{0}` is no store; use `redis://host:port` or `mem://`")]
    UnknownScheme(String),
    /// `mem://` with something that it doesn't know.
    #[error("`mem://` takes `?bytes=` and a size of at least 1MiB, such as `mem://?bytes=256MiB`, and nothing else")]
    Mem,
    /// A Redis address that the client refuses.
    #[error("the address after `redis://` is unusable; write `redis://[user:password@]host[:port][/database]`")]
    Redis(#[source] RedisError),
}

impl StoreUrl {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// [`UnusableUrl`], without the address, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, UnusableUrl> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(UnusableUrl::UnknownScheme("an address without `://`".to_owned()));
        };
        match scheme {
            "mem" => mem_bytes(rest).map(|bytes| Self::Mem { bytes }).ok_or(UnusableUrl::Mem),
            "redis" if rest.contains(',') => Err(UnusableUrl::NotYet("redis:// with several hosts".to_owned())),
            "redis" => {
                // The client is what knows whether it can use it.
                redis::Client::open(text).map_err(UnusableUrl::Redis)?;
                Ok(Self::Redis { url: text.to_owned() })
            }
            "rediss" | "valkey" | "valkeys" | "unix" | "redis+unix" | "redis+cluster" | "rediss+cluster"
            | "redis+sentinel" | "rediss+sentinel" => Err(UnusableUrl::NotYet(format!("{scheme}://"))),
            _ => Err(UnusableUrl::UnknownScheme(format!("{}://", scheme.escape_debug()))),
        }
    }

    /// A bridge on this store; `within` is the longest that one call to it may take.
    ///
    /// # Errors
    ///
    /// [`UnusableUrl::Redis`] when the client refuses the address. Whether anything answers there shows later.
    pub fn open(&self, within: Duration) -> Result<Bridge, UnusableUrl> {
        match self {
            Self::Mem { bytes } => Ok(Bridge::new(MemStore::new(*bytes))),
            Self::Redis { url } => RedisStore::new(url, within).map(Bridge::new).map_err(UnusableUrl::Redis),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mem { bytes } => write!(f, "mem://?bytes={bytes}"),
            Self::Redis { url } => {
                let rest = url.split_once("://").map_or("", |(_, rest)| rest);
                // Up to the last `@` is user and password; parameters may hold secrets too.
                let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
                write!(f, "redis://{}", address.split('?').next().unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn mem_bytes(rest: &str) -> Option<usize> {
    let query = rest.strip_prefix('/').unwrap_or(rest);
    if query.is_empty() {
        return Some(MEM_BYTES);
    }
    let size = query.strip_prefix("?bytes=")?;
    let digits = size.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = size.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    let bytes = number.parse::<usize>().ok()?.checked_mul(1 << shift)?;
    (bytes >= MEM_BYTES_MIN).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        let sizes = [
            ("mem://", 256 << 20),
            ("mem:///", 256 << 20),
            ("mem://?bytes=1048576", 1 << 20),
            ("mem://?bytes=64MiB", 64 << 20),
            ("mem:///?bytes=2GiB", 2 << 30),
        ];
        for (text, bytes) in sizes {
            assert_eq!(StoreUrl::parse(text).unwrap(), StoreUrl::Mem { bytes }, "{text}");
        }
        for text in
            ["mem://?bytes=", "mem://?bytes=-1", "mem://?bytes=9", "mem://?size=1MiB", "mem://?bytes=1MB", "mem://x"]
        {
            assert!(matches!(StoreUrl::parse(text), Err(UnusableUrl::Mem)), "{text}");
        }
        assert!(StoreUrl::parse("mem://?bytes=99999999999999999999GiB").is_err());
    }

    #[test]
    fn what_is_not_built_yet_is_refused_by_name() {
        for text in ["rediss://h", "redis+cluster://h", "redis://a:1,b:2", "redis+sentinel://h", "unix:///s"] {
            let error = StoreUrl::parse(text).unwrap_err();
            assert!(error.to_string().contains("not supported yet"), "{text}: {error}");
        }
        for text in ["", "localhost:6379", "http://h", "memcached://h"] {
            assert!(matches!(StoreUrl::parse(text), Err(UnusableUrl::UnknownScheme(_))), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = StoreUrl::parse("redis://user:hush@127.0.0.1:7000/2?protocol=resp2").unwrap();
        assert_eq!(format!("{url} {url:?}"), "redis://127.0.0.1:7000/2 redis://127.0.0.1:7000/2");
        for text in
            ["redis://user:hush@:x/", "rediss://user:hush@h", "redis://user:hush@a,b", "hush", "redis://u:hush@h/db"]
        {
            let error = StoreUrl::parse(text).unwrap_err();
            let mut told = format!("{error} {error:?}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                told += &error.to_string();
                cause = error.source();
            }
            assert!(!told.contains("hush"), "{text}: {told}");
        }
    }
}
