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
    /// What is stored is fresh, but the request asks for more (`no-cache`, `max-age`, `min-fresh`).
    Request,
}

impl Forward {
    fn word(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
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
        /// Where it was, or why it answers.
        detail: &'static str,
    },
    /// Sent on to the origin.
    Forwarded {
        /// Why.
        why: Forward,
        /// The status that came back, where another is shown (§2.3).
        status: Option<u16>,
        /// Whether the answer is being stored.
        stored: bool,
        /// Whether it was answered by a request that was under way already; false: it waited for one in vain (§2.6).
        collapsed: Option<bool>,
        /// Remaining freshness in seconds of what is shown, where that was stored: negative when it is stale.
        ttl_s: Option<i64>,
        /// More for people.
        detail: Option<&'static str>,
    },
}

impl CacheStatus {
    /// Sent on, and the answer is shown as it came.
    #[must_use]
    pub fn forwarded(why: Forward, stored: bool, detail: Option<&'static str>) -> Self {
        Self::Forwarded { why, status: None, stored, collapsed: None, ttl_s: None, detail }
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit { ttl_s, detail } => write!(f, "{CACHE_NAME}; hit; ttl={ttl_s}; detail={detail}"),
            Self::Forwarded { why, status, stored, collapsed, ttl_s, detail } => {
                write!(f, "{CACHE_NAME}; fwd={}", why.word())?;
                if let Some(status) = status {
                    write!(f, "; fwd-status={status}")?;
                }
                if *stored {
                    f.write_str("; stored")?;
                }
                if let Some(collapsed) = collapsed {
                    f.write_str(if *collapsed { "; collapsed" } else { "; collapsed=?0" })?;
                }
                if let Some(ttl_s) = ttl_s {
                    write!(f, "; ttl={ttl_s}")?;
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
        let hit = CacheStatus::Hit { ttl_s: 287, detail: Tier::Worker.word() };
        assert_eq!(hit.to_string(), "routecache; hit; ttl=287; detail=worker");
        let miss = CacheStatus::forwarded(Forward::UriMiss, true, None);
        assert_eq!(miss.to_string(), "routecache; fwd=uri-miss; stored");
        let write = CacheStatus::forwarded(Forward::Method, false, Some("purged"));
        assert_eq!(write.to_string(), "routecache; fwd=method; detail=purged");
        let stale = CacheStatus::Forwarded {
            why: Forward::Stale,
            status: Some(503),
            stored: false,
            collapsed: None,
            ttl_s: Some(-30),
            detail: Some("stale-if-error"),
        };
        assert_eq!(stale.to_string(), "routecache; fwd=stale; fwd-status=503; ttl=-30; detail=stale-if-error");
        let shared = CacheStatus::Forwarded {
            why: Forward::UriMiss,
            status: None,
            stored: false,
            collapsed: Some(true),
            ttl_s: Some(60),
            detail: None,
        };
        assert_eq!(shared.to_string(), "routecache; fwd=uri-miss; collapsed; ttl=60");
    }
}
