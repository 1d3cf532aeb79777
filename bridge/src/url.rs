//! Where the data is: `mem://` or a Redis.

use std::fmt;
use std::time::Duration;

use crate::redis::{Address, Packing, StoreTls, UnusableRedis};
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
    /// A Redis.
    Redis(Address),
}

/// Where entries' bytes may be read beside the store's master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// At those that the cluster or the sentinels name.
    Found,
    /// Here.
    At(StoreUrl),
}

impl Replicas {
    /// Reads `found` or an address.
    ///
    /// # Errors
    ///
    /// As [`StoreUrl::parse`].
    pub fn parse(text: &str) -> Result<Self, UnusableUrl> {
        if text == "found" { Ok(Self::Found) } else { StoreUrl::parse(text).map(Self::At) }
    }
}

/// An address that the bridge can't use, and how to mend it. Never quotes more of it than the scheme.
#[derive(Debug, thiserror::Error)]
pub enum UnusableUrl {
    /// No store is reached this way.
    #[error("`{0}` is no store; use `redis://host:port`, `rediss://`, several hosts between commas, or `mem://`")]
    UnknownScheme(String),
    /// `mem://` with something that it doesn't know.
    #[error("`mem://` takes `?bytes=` and a size of at least 1MiB, such as `mem://?bytes=256MiB`, and nothing else")]
    Mem,
    /// A Redis address that makes no sense.
    #[error(
        "the address after `{0}://` is unusable; write `redis://[user:password@]host[:port][,host…][/database]`, \
         `redis+unix:///path` or `redis+sentinel://[user:password@]host:port[,…]/service[/database]`"
    )]
    Malformed(String),
    /// There are no replicas.
    #[error(
        "`--store-replicas found` is for a cluster or sentinels, which name them; of one Redis write the replica's own \
         address, such as `redis://replica:6379`; `mem://` has none"
    )]
    Replicas,
    /// The client can't use it.
    #[error("Redis can't be reached this way")]
    Redis(#[from] UnusableRedis),
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
            "redis" | "rediss" | "valkey" | "valkeys" | "unix" | "redis+unix" | "valkey+unix" | "redis+cluster"
            | "rediss+cluster" | "valkey+cluster" | "valkeys+cluster" | "redis+sentinel" | "rediss+sentinel"
            | "valkey+sentinel" | "valkeys+sentinel" => {
                let address = Address::parse(scheme, rest);
                let address = address.ok_or_else(|| UnusableUrl::Malformed(scheme.to_owned()))?;
                address.check()?;
                Ok(Self::Redis(address))
            }
            _ => Err(UnusableUrl::UnknownScheme(format!("{}://", scheme.escape_debug()))),
        }
    }

    /// A bridge on this store; `within` is the longest that one call to it may take.
    ///
    /// # Errors
    ///
    /// [`UnusableUrl::Redis`] when the client refuses the address. Whether anything answers there shows later.
    pub fn open(&self, within: Duration) -> Result<Bridge, UnusableUrl> {
        self.open_with(within, &StoreTls::default(), Packing::default(), None)
    }

    /// The same, with what `rediss://` goes by, with how a Redis's payloads are compressed, and with the replicas from which they
    /// are read.
    ///
    /// # Errors
    ///
    /// [`UnusableUrl`] when the client refuses the address or a certificate, or there are no such replicas. Whether anything
    /// answers shows later.
    pub fn open_with(
        &self,
        within: Duration,
        tls: &StoreTls,
        packing: Packing,
        replicas: Option<&Replicas>,
    ) -> Result<Bridge, UnusableUrl> {
        let address = match self {
            Self::Mem { bytes } if replicas.is_none() => return Ok(Bridge::new(MemStore::new(*bytes))),
            Self::Mem { .. } => return Err(UnusableUrl::Replicas),
            Self::Redis(address) => address,
        };
        let store = RedisStore::new(address, tls, within)?.with_packing(packing);
        let of = match replicas {
            None => return Ok(Bridge::new(store)),
            Some(Replicas::Found) if address.names_replicas() => address,
            Some(Replicas::At(Self::Redis(replica))) => replica,
            Some(_) => return Err(UnusableUrl::Replicas),
        };
        Ok(Bridge::new(store.with_replicas(of, tls, within)?))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mem { bytes } => write!(f, "mem://?bytes={bytes}"),
            Self::Redis(address) => address.fmt(f),
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
    fn every_shape_of_redis_has_an_address() {
        let shapes = [
            ("redis://h", "redis://h"),
            ("rediss://h:1/2", "rediss://h:1/2"),
            ("valkey://h", "redis://h"),
            ("valkeys://h", "rediss://h"),
            ("unix:///run/redis.sock?db=1&pass=hush", "unix:///run/redis.sock"),
            ("redis+unix:///run/redis.sock", "unix:///run/redis.sock"),
            ("redis://a:1,b:2,[::1]:3", "redis+cluster://a:1,b:2,[::1]:3"),
            ("rediss+cluster://a", "rediss+cluster://a"),
            ("redis+sentinel://u:hush@a:1,b:2/main", "redis+sentinel://a:1,b:2/main/0"),
            ("rediss+sentinel://a/main/3?sentinel_password=hush", "rediss+sentinel://a/main/3"),
        ];
        for (text, shown) in shapes {
            assert_eq!(StoreUrl::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "localhost:6379", "http://h", "memcached://h", "redis+http://h"] {
            assert!(matches!(StoreUrl::parse(text), Err(UnusableUrl::UnknownScheme(_))), "{text}");
        }
        for text in [
            "redis://",
            "redis://a,,b",
            "redis://h:port",
            "redis://h/db",
            "redis+sentinel://a",
            "redis+sentinel://a/",
            "redis+sentinel://a/m/x",
            "redis+sentinel://a/m?x=1",
            "unix://relative",
        ] {
            assert!(StoreUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = StoreUrl::parse("redis://user:hush@127.0.0.1:7000/2?protocol=resp2").unwrap();
        assert_eq!(format!("{url} {url:?}"), "redis://127.0.0.1:7000/2 redis://127.0.0.1:7000/2");
        for text in ["redis://user:hush@:x/", "redis://user:hush@a,,b", "hush", "redis://u:hush@h/db", "unix://hush"] {
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
