//! What a response says of how it was handled: `Cache-Status` (RFC 9211).

use std::fmt;

/// The name by which this cache goes in `Cache-Status`.
pub const CACHE_NAME: &str = "routecache";

/// Where a stored response was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// In this worker's memory.
    Worker,
    /// In the gateway's shared data.
    Gateway,
    /// In the group's store, through the bridge.
    Group,
}

impl Tier {
    /// `worker`, `gateway` or `group`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Gateway => "gateway",
            Self::Group => "group",
        }
    }
}

/// Why a request went to the origin (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The cache was told, or chose, not to handle it.
    Bypass,
    /// Its method.
    Method,
    /// Nothing is stored for its key.
    UriMiss,
    /// Something is stored, but for other selecting fields (`Vary`).
    VaryMiss,
    /// What is stored is stale.
    Stale,
}

impl Forward {
    fn word(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
        }
    }
}

/// One member of `Cache-Status`; its `Display` is the field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// Answered from a stored response.
    Hit {
        /// Remaining freshness in seconds.
        ttl_s: i64,
        /// Where it was.
        tier: Tier,
    },
    /// Sent on to the origin.
    Forwarded {
        /// Why.
        why: Forward,
        /// Whether the answer is being stored.
        stored: bool,
        /// More for people.
        detail: Option<&'static str>,
    },
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit { ttl_s, tier } => write!(f, "{CACHE_NAME}; hit; ttl={ttl_s}; detail={}", tier.word()),
            Self::Forwarded { why, stored, detail } => {
                write!(f, "{CACHE_NAME}; fwd={}", why.word())?;
                if *stored {
                    f.write_str("; stored")?;
                }
                detail.map_or(Ok(()), |detail| write!(f, "; detail={detail}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_like_this() {
        let hit = CacheStatus::Hit { ttl_s: 287, tier: Tier::Worker };
        assert_eq!(hit.to_string(), "routecache; hit; ttl=287; detail=worker");
        let miss = CacheStatus::Forwarded { why: Forward::UriMiss, stored: true, detail: None };
        assert_eq!(miss.to_string(), "routecache; fwd=uri-miss; stored");
        let write = CacheStatus::Forwarded { why: Forward::Method, stored: false, detail: Some("purged") };
        assert_eq!(write.to_string(), "routecache; fwd=method; detail=purged");
    }
}
