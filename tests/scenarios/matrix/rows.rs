//! The table itself: what may fail, and what comes of each operation meanwhile.

use super::super::stage::{Failure, ms};
use super::operation::{FILLS, Operation};
use super::row::Gets::{Current, Error, Refusal, Stored};
use super::row::Wait::{Asked, Fetch, Held, Lookup, MayWork, OneFetch, Origin, Purge, Retry, Tries, Turn, Works};
use super::row::{Gets, Heals, Row, Told, Wait};
use super::stage::{Failing, OriginFails};

/// Failures with which the same comes of everything.
pub struct Part {
    /// Its name in the page.
    pub name: &'static str,
    pub failures: fn() -> Vec<Failing>,
    pub rows: &'static [Row],
}

/// All parts, in the page's order.
pub const PARTS: [Part; 7] = [
    Part { name: "no-answer", failures: no_answer, rows: NO_ANSWER },
    Part { name: "read-only", failures: || redis("read-only"), rows: READ_ONLY },
    Part { name: "full", failures: || redis("full"), rows: FULL },
    Part { name: "shared-data", failures: || vec![Failing::SharedData], rows: SHARED_DATA },
    Part { name: "origin-errs", failures: || OriginFails::SAID.map(Failing::Origin).into(), rows: ORIGIN_ERRS },
    Part { name: "origin-gone", failures: || OriginFails::UNSAID.map(Failing::Origin).into(), rows: ORIGIN_GONE },
    Part { name: "origin-late", failures: || vec![Failing::Origin(OriginFails::Hangs)], rows: ORIGIN_LATE },
];

fn redis(state: &'static str) -> Vec<Failing> {
    vec![Failing::Bridge(Failure::Redis(state))]
}

/// Every failure of the bridge but those that have a part of their own.
fn no_answer() -> Vec<Failing> {
    let partly = [Failure::Redis("read-only"), Failure::Redis("full")];
    Failure::all().filter(|failure| !partly.contains(failure)).map(Failing::Bridge).collect()
}

const fn told(count: usize, gets: Gets, says: &'static str, waits: &'static [Wait]) -> Told {
    Told { count, gets, says, waits }
}

const MISS: &str = "fwd=uri-miss; stored";
const UNSHARED: &str = "fwd=bypass; detail=shared-data";
const REFUSED: &str = "the gateway's shared data refused a purge";
const UNRECORDED: &str = "the gateway's shared data refused to record an acknowledged purge";
const NOT_READ: &str = "the gateway's shared data refuses";
const UNHEARD: &str = "the feed of purges hasn't been heard";
const OPEN: &str = "the bridge doesn't answer";
const UNACKNOWLEDGED: &str = "the bridge hasn't acknowledged a purge";

const FEED: Heals = Heals { words: "with the next poll of the feed", within: ms(1000) };
const PROBE: Heals =
    Heals { words: "one request tries after 1 s, then 2, 4, 8: `the bridge answers again`", within: ms(1000) };
const RESENT: Heals = Heals { words: "sent again every second until it is acknowledged", within: ms(2000) };
const AT_ONCE: Heals = Heals { words: "at once", within: ms(0) };

/// Nothing comes from the bridge that could be used, or not in time.
const NO_ANSWER: &[Row] = &[
    Row {
        operation: Operation::Read,
        answers: &[told(2, Stored, "hit; detail=worker", &[])],
        origin: 0,
        logged: &[],
        counted: &[],
        heals: FEED,
    },
    Row {
        operation: Operation::ReadUnheard,
        answers: &[told(2, Current, "fwd=bypass; stored; detail=feed-lost", &[Origin])],
        origin: 2,
        logged: &[UNHEARD],
        counted: &["routecache_feed_lost"],
        heals: FEED,
    },
    Row {
        operation: Operation::Fill,
        answers: &[told(1, Current, MISS, &[Lookup, Origin]), told(1, Current, "hit; detail=gateway", &[])],
        origin: 1,
        logged: &[],
        counted: &["routecache_bridge_unanswered"],
        heals: FEED,
    },
    Row {
        operation: Operation::FillOpen,
        answers: &[told(1, Current, MISS, &[Origin]), told(1, Current, "hit; detail=gateway", &[])],
        origin: 6,
        logged: &[OPEN],
        counted: &["routecache_bridge_breaker_opened", "routecache_bridge_unanswered"],
        heals: PROBE,
    },
    Row {
        operation: Operation::ReadElsewhere,
        answers: &[told(1, Current, MISS, &[Lookup, Origin])],
        origin: 1,
        logged: &[],
        counted: &["routecache_bridge_unanswered"],
        heals: FEED,
    },
    Row {
        operation: Operation::FillStale,
        answers: &[
            told(1, Current, "fwd=stale; stored", &[Lookup, Origin]),
            told(1, Current, "hit; detail=gateway", &[]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_bridge_unanswered"],
        heals: FEED,
    },
    Row {
        operation: Operation::Write,
        answers: &[
            told(1, Current, "fwd=method; detail=purge-pending", &[Origin, Purge]),
            told(1, Current, MISS, &[Origin]),
            told(1, Current, "hit; detail=gateway", &[]),
        ],
        origin: 2,
        logged: &[UNACKNOWLEDGED],
        counted: &["routecache_bridge_unanswered", "routecache_purges_unacknowledged"],
        heals: RESENT,
    },
    Row {
        operation: Operation::WriteAbsent,
        answers: &[
            told(1, Current, "fwd=method; detail=purge-pending", &[Origin, Purge]),
            told(1, Current, MISS, &[Origin]),
            told(1, Current, "hit; detail=gateway", &[]),
        ],
        origin: 2,
        logged: &[UNACKNOWLEDGED],
        counted: &["routecache_bridge_unanswered", "routecache_purges_unacknowledged"],
        heals: RESENT,
    },
    Row {
        operation: Operation::WriteOpen,
        answers: &[
            told(1, Current, "fwd=method; detail=purge-pending", &[Origin]),
            told(1, Current, MISS, &[Origin]),
            told(1, Current, "hit; detail=gateway", &[]),
        ],
        origin: 7,
        logged: &[OPEN, UNACKNOWLEDGED],
        counted: &[
            "routecache_bridge_breaker_opened",
            "routecache_bridge_unanswered",
            "routecache_purges_unacknowledged",
        ],
        heals: RESENT,
    },
    Row {
        operation: Operation::Refresh,
        answers: &[told(1, Stored, "hit; detail=worker", &[]), told(1, Current, "hit; detail=worker", &[])],
        origin: 1,
        logged: &[],
        counted: &["routecache_bridge_unanswered", "routecache_fetches_stored"],
        heals: FEED,
    },
    Row {
        operation: Operation::RefreshElsewhere,
        answers: &[told(1, Current, MISS, &[Lookup, Origin])],
        origin: 1,
        logged: &[],
        counted: &["routecache_bridge_unanswered"],
        heals: FEED,
    },
    Row {
        operation: Operation::CrowdStale,
        answers: &[
            told(1, Current, "fwd=stale; stored", &[Lookup, Origin]),
            told(59, Current, "fwd=stale; collapsed", &[Lookup, Origin]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_bridge_unanswered", "routecache_collapsed", "routecache_waiters"],
        heals: FEED,
    },
    Row {
        operation: Operation::Crowd,
        answers: &[
            told(1, Current, MISS, &[Lookup, Origin]),
            told(59, Current, "fwd=uri-miss; collapsed", &[Lookup, Origin]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_bridge_unanswered", "routecache_collapsed", "routecache_waiters"],
        heals: FEED,
    },
    Row {
        operation: Operation::Fills(FILLS),
        answers: &[told(60, Current, MISS, &[Lookup, Turn(FILLS)])],
        origin: 60,
        logged: &[OPEN],
        counted: &["routecache_bridge_breaker_opened", "routecache_bridge_unanswered"],
        heals: PROBE,
    },
];

/// Redis takes no writes: polls of the feed are writes.
const READ_ONLY: &[Row] = &[
    Row {
        operation: Operation::Read,
        answers: &[told(2, Stored, "hit; detail=worker", &[])],
        origin: 0,
        logged: &[],
        counted: &[],
        heals: FEED,
    },
    Row {
        operation: Operation::ReadUnheard,
        answers: &[told(2, Current, "fwd=bypass; stored; detail=feed-lost", &[Origin])],
        origin: 2,
        logged: &[UNHEARD],
        counted: &["routecache_feed_lost"],
        heals: FEED,
    },
    Row {
        operation: Operation::Fill,
        answers: &[told(1, Current, MISS, &[Works, Origin]), told(1, Current, "hit; detail=gateway", &[])],
        origin: 1,
        logged: &[],
        counted: &[],
        heals: FEED,
    },
    Row {
        operation: Operation::ReadElsewhere,
        answers: &[told(1, Stored, "hit; detail=group", &[Works])],
        origin: 0,
        logged: &[],
        counted: &[],
        heals: FEED,
    },
    Row {
        operation: Operation::FillStale,
        answers: &[
            told(1, Current, "fwd=stale; stored", &[Works, Origin]),
            told(1, Current, "hit; detail=gateway", &[]),
        ],
        origin: 1,
        logged: &[],
        counted: &[],
        heals: FEED,
    },
    Row {
        operation: Operation::Write,
        answers: &[
            told(1, Current, "fwd=method; detail=purge-pending", &[Origin, Purge]),
            told(1, Current, MISS, &[Origin]),
            told(1, Current, "hit; detail=gateway", &[]),
        ],
        origin: 2,
        logged: &[UNACKNOWLEDGED],
        counted: &["routecache_bridge_unanswered", "routecache_purges_unacknowledged"],
        heals: RESENT,
    },
    Row {
        operation: Operation::WriteAbsent,
        answers: &[
            told(1, Current, "fwd=method; detail=purge-pending", &[Origin, Purge]),
            told(1, Current, MISS, &[Origin]),
            told(1, Current, "hit; detail=gateway", &[]),
        ],
        origin: 2,
        logged: &[UNACKNOWLEDGED],
        counted: &["routecache_bridge_unanswered", "routecache_purges_unacknowledged"],
        heals: RESENT,
    },
    Row {
        operation: Operation::Refresh,
        answers: &[told(1, Stored, "hit; detail=worker", &[]), told(1, Current, "hit; detail=worker", &[])],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_stored"],
        heals: FEED,
    },
    Row {
        operation: Operation::RefreshElsewhere,
        answers: &[told(1, Stored, "hit; detail=group", &[Works])],
        origin: 0,
        logged: &[],
        counted: &["routecache_fetches_stored"],
        heals: FEED,
    },
    Row {
        operation: Operation::CrowdStale,
        answers: &[
            told(1, Current, "fwd=stale; stored", &[Works, Origin]),
            told(59, Current, "fwd=stale; collapsed", &[Works, Origin]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_collapsed", "routecache_waiters"],
        heals: FEED,
    },
    Row {
        operation: Operation::Crowd,
        answers: &[
            told(1, Current, MISS, &[Works, Origin]),
            told(59, Current, "fwd=uri-miss; collapsed", &[Works, Origin]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_collapsed", "routecache_waiters"],
        heals: FEED,
    },
];

/// Redis takes purges, and keeps nothing new.
const FULL: &[Row] = &[
    Row {
        operation: Operation::Read,
        answers: &[told(2, Stored, "hit; detail=worker", &[])],
        origin: 0,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::ReadUnheard,
        answers: &[told(2, Stored, "hit; detail=worker", &[])],
        origin: 0,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Fill,
        answers: &[told(1, Current, MISS, &[Works, Origin]), told(1, Current, "hit; detail=gateway", &[])],
        origin: 1,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::ReadElsewhere,
        answers: &[told(1, Stored, "hit; detail=group", &[Works])],
        origin: 0,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::FillStale,
        answers: &[
            told(1, Current, "fwd=stale; stored", &[Works, Origin]),
            told(1, Current, "hit; detail=gateway", &[]),
        ],
        origin: 1,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Write,
        answers: &[
            told(1, Current, "fwd=method; detail=purged", &[Origin, Works]),
            told(1, Current, MISS, &[Works, Origin]),
            told(1, Current, "hit; detail=gateway", &[]),
        ],
        origin: 2,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::WriteAbsent,
        answers: &[
            told(1, Current, "fwd=method; detail=purged", &[Origin, Works]),
            told(1, Current, MISS, &[Works, Origin]),
            told(1, Current, "hit; detail=gateway", &[]),
        ],
        origin: 2,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Refresh,
        answers: &[told(1, Stored, "hit; detail=worker", &[]), told(1, Current, "hit; detail=worker", &[])],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_stored"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::RefreshElsewhere,
        answers: &[told(1, Stored, "hit; detail=group", &[Works])],
        origin: 0,
        logged: &[],
        counted: &["routecache_fetches_stored"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::CrowdStale,
        answers: &[
            told(1, Current, "fwd=stale; stored", &[Works, Origin]),
            told(59, Current, "fwd=stale; collapsed", &[Works, Origin]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_collapsed", "routecache_waiters"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Crowd,
        answers: &[
            told(1, Current, MISS, &[Works, Origin]),
            told(59, Current, "fwd=uri-miss; collapsed", &[Works, Origin]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_collapsed", "routecache_waiters"],
        heals: AT_ONCE,
    },
];

/// Nobody can tell what was purged.
const SHARED_DATA: &[Row] = &[
    Row {
        operation: Operation::Read,
        answers: &[told(2, Current, UNSHARED, &[Origin])],
        origin: 2,
        logged: &[NOT_READ],
        counted: &["routecache_shared_data_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Fill,
        answers: &[told(2, Current, UNSHARED, &[Origin])],
        origin: 2,
        logged: &[NOT_READ],
        counted: &["routecache_shared_data_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::ReadElsewhere,
        answers: &[told(1, Current, UNSHARED, &[Origin])],
        origin: 1,
        logged: &[NOT_READ],
        counted: &["routecache_shared_data_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::FillStale,
        answers: &[told(2, Current, UNSHARED, &[Origin])],
        origin: 2,
        logged: &[NOT_READ],
        counted: &["routecache_shared_data_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Write,
        answers: &[
            told(1, Current, "fwd=method; detail=purged", &[Origin, Works]),
            told(2, Current, UNSHARED, &[Origin]),
        ],
        origin: 3,
        logged: &[NOT_READ, REFUSED, UNRECORDED],
        counted: &["routecache_shared_data_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::WriteAbsent,
        answers: &[
            told(1, Current, "fwd=method; detail=purged", &[Origin, Works]),
            told(2, Current, UNSHARED, &[Origin]),
        ],
        origin: 3,
        logged: &[NOT_READ, REFUSED, UNRECORDED],
        counted: &["routecache_shared_data_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Refresh,
        answers: &[told(2, Current, UNSHARED, &[Origin])],
        origin: 2,
        logged: &[NOT_READ],
        counted: &["routecache_shared_data_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::RefreshElsewhere,
        answers: &[told(1, Current, UNSHARED, &[Origin])],
        origin: 1,
        logged: &[NOT_READ],
        counted: &["routecache_shared_data_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::CrowdStale,
        answers: &[told(60, Current, UNSHARED, &[Origin])],
        origin: 60,
        logged: &[NOT_READ],
        counted: &["routecache_shared_data_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Crowd,
        answers: &[told(60, Current, UNSHARED, &[Origin])],
        origin: 60,
        logged: &[NOT_READ],
        counted: &["routecache_shared_data_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::CrowdProtected,
        answers: &[
            told(2, Current, UNSHARED, &[Origin]),
            told(6, Current, "fwd=bypass; collapsed=?0; detail=shared-data", &[Held, Origin]),
            told(52, Refusal, "detail=protect-origin-lock-wait", &[Held]),
        ],
        origin: 8,
        logged: &[NOT_READ],
        counted: &[
            "routecache_refused",
            "routecache_shared_data_refused",
            "routecache_waited_in_vain",
            "routecache_waiters",
        ],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Fills(FILLS * 2),
        answers: &[told(60, Current, UNSHARED, &[Turn(FILLS * 2)])],
        origin: 60,
        logged: &[NOT_READ],
        counted: &["routecache_shared_data_refused"],
        heals: AT_ONCE,
    },
];

/// The origin says that it fails.
const ORIGIN_ERRS: &[Row] = &[
    Row {
        operation: Operation::Read,
        answers: &[told(2, Stored, "hit; detail=worker", &[])],
        origin: 0,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Refresh,
        answers: &[told(2, Stored, "hit; detail=worker", &[])],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::StandIn,
        answers: &[
            told(1, Stored, "fwd=stale; fwd-status=5xx; detail=stale-if-error", &[Works, Fetch]),
            told(1, Stored, "hit; detail=stale-if-error", &[MayWork]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::StandInNoMore,
        answers: &[told(1, Error, "fwd=stale; detail=status", &[Works, Origin])],
        origin: 1,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::ValidatedNoMore,
        answers: &[told(1, Error, "fwd=stale; detail=failed", &[Asked])],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::CrowdStandIn,
        answers: &[
            told(1, Stored, "fwd=stale; fwd-status=5xx; detail=stale-if-error", &[Works, Fetch]),
            told(59, Stored, "hit; detail=stale-if-error", &[OneFetch]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed", "routecache_waiters"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Failover,
        answers: &[told(1, Stored, "fwd=bypass; fwd-status=5xx; detail=failover", &[Works, Origin])],
        origin: 1,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Fill,
        answers: &[told(2, Error, "fwd=uri-miss; detail=status", &[Works, Origin])],
        origin: 2,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Crowd,
        answers: &[
            told(1, Error, "fwd=uri-miss; detail=status", &[Works, Origin]),
            told(59, Error, "fwd=uri-miss; collapsed=?0; detail=status", &[Retry]),
        ],
        origin: 60,
        logged: &[],
        counted: &["routecache_waiters"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Protected,
        answers: &[
            told(2, Error, "fwd=uri-miss; detail=status", &[Works, Origin]),
            told(8, Refusal, "detail=protect-origin-origin-fails", &[]),
        ],
        origin: 2,
        logged: &[],
        counted: &["routecache_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Write,
        answers: &[told(1, Error, "fwd=method", &[Origin]), told(2, Stored, "hit; detail=worker", &[])],
        origin: 1,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
];

/// The origin breaks off, and the gateway answers in its place: a write may have happened.
const ORIGIN_GONE: &[Row] = &[
    Row {
        operation: Operation::Read,
        answers: &[told(2, Stored, "hit; detail=worker", &[])],
        origin: 0,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Refresh,
        answers: &[told(2, Stored, "hit; detail=worker", &[])],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::StandIn,
        answers: &[
            told(1, Stored, "fwd=stale; fwd-status=5xx; detail=stale-if-error", &[Works, Fetch]),
            told(1, Stored, "hit; detail=stale-if-error", &[Works]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::StandInNoMore,
        answers: &[told(1, Error, "fwd=stale", &[Works, Origin])],
        origin: 1,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::ValidatedNoMore,
        answers: &[told(1, Error, "fwd=stale; detail=failed", &[Asked])],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::CrowdStandIn,
        answers: &[
            told(1, Stored, "fwd=stale; fwd-status=5xx; detail=stale-if-error", &[Works, Fetch]),
            told(59, Stored, "hit; detail=stale-if-error", &[OneFetch]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed", "routecache_waiters"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Failover,
        answers: &[told(1, Stored, "fwd=bypass; fwd-status=5xx; detail=failover", &[Works, Origin])],
        origin: 1,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Fill,
        answers: &[told(2, Error, "fwd=uri-miss", &[Works, Origin])],
        origin: 2,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Crowd,
        answers: &[
            told(1, Error, "fwd=uri-miss", &[Works, Origin]),
            told(59, Error, "fwd=uri-miss; collapsed=?0", &[Retry]),
        ],
        origin: 60,
        logged: &[],
        counted: &["routecache_waiters"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Protected,
        answers: &[
            told(2, Error, "fwd=uri-miss", &[Works, Origin]),
            told(8, Refusal, "detail=protect-origin-origin-fails", &[]),
        ],
        origin: 2,
        logged: &[],
        counted: &["routecache_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Write,
        answers: &[
            told(1, Error, "fwd=method; detail=purged", &[Origin, Works]),
            told(2, Error, "fwd=uri-miss", &[Works, Origin]),
        ],
        origin: 3,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
];

/// The same when the origin takes too long: nobody tries twice.
const ORIGIN_LATE: &[Row] = &[
    Row {
        operation: Operation::Read,
        answers: &[told(2, Stored, "hit; detail=worker", &[])],
        origin: 0,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Refresh,
        answers: &[told(2, Stored, "hit; detail=worker", &[])],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::StandIn,
        answers: &[
            told(1, Stored, "fwd=stale; fwd-status=5xx; detail=stale-if-error", &[Works, Fetch]),
            told(1, Stored, "hit; detail=stale-if-error", &[MayWork]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::StandInNoMore,
        answers: &[told(1, Error, "fwd=stale", &[Works, Origin])],
        origin: 1,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::ValidatedNoMore,
        answers: &[told(1, Error, "fwd=stale; detail=failed", &[Asked])],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::CrowdStandIn,
        answers: &[
            told(1, Stored, "fwd=stale; fwd-status=5xx; detail=stale-if-error", &[Works, Fetch]),
            told(59, Stored, "hit; detail=stale-if-error", &[OneFetch]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_fetches_failed", "routecache_waiters"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Failover,
        answers: &[told(1, Stored, "fwd=bypass; fwd-status=5xx; detail=failover", &[Works, Origin])],
        origin: 1,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Fill,
        answers: &[told(2, Error, "fwd=uri-miss", &[MayWork, Origin])],
        origin: 2,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Crowd,
        answers: &[
            told(1, Error, "fwd=uri-miss", &[Works, Origin]),
            told(59, Error, "fwd=uri-miss; collapsed=?0", &[Tries]),
        ],
        origin: 60,
        logged: &[],
        counted: &["routecache_waiters"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Protected,
        answers: &[
            told(1, Error, "fwd=uri-miss", &[Works, Origin]),
            told(9, Refusal, "detail=protect-origin-origin-fails", &[]),
        ],
        origin: 1,
        logged: &[],
        counted: &["routecache_refused"],
        heals: AT_ONCE,
    },
    Row {
        operation: Operation::Write,
        answers: &[
            told(1, Error, "fwd=method; detail=purged", &[Origin, Works]),
            told(2, Error, "fwd=uri-miss", &[MayWork, Origin]),
        ],
        origin: 3,
        logged: &[],
        counted: &[],
        heals: AT_ONCE,
    },
];
