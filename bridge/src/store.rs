//! What a store does: each call is one step of the purge protocol, whole or not at all.

use std::pin::Pin;
use std::time::Duration;

use bridge_api::{
    Continuity, FeedRecord, FeedReply, FeedRequest, Holder, Listener, LookupReply, LookupRequest, Pattern, Position,
    PurgeReply, PurgeRequest, ReleaseReply, ReleaseRequest, StoreReply, StoreRequest,
};
use bytes::Bytes;

use crate::people::{Deleted, Held, KeyCall, KeyReply, Listing};

/// What a store's calls return: a boxed future, so that [`Store`] can be a trait object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Holds entries, epochs and the log of each group. Requests have passed the bounds of [`crate::limits`].
pub trait Store: Send + Sync + 'static {
    /// Judges the entry against the log and the epochs of all its tags; its bytes are there for a hit only. A lease is
    /// granted only while the entry is the one that was judged.
    fn lookup<'a>(&'a self, request: &'a LookupRequest) -> Answer<'a, (LookupReply, Bytes)>;

    /// Keeps an entry, creating the epochs that its tags lack. However that ends, the holder's lease ends with it.
    fn store<'a>(&'a self, request: &'a StoreRequest, payload: Bytes) -> Answer<'a, StoreReply>;

    /// Appends to the log, sets the epochs and remembers the patterns, as one unit.
    fn purge<'a>(&'a self, request: &'a PurgeRequest, patterns: &'a [Pattern]) -> Answer<'a, PurgeReply>;

    /// Ends a lease, and may remember that what came can't be stored.
    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Answer<'a, ReleaseReply>;

    /// How leases are now, for whoever waits for their end; one answer per key, in order. Nothing is decided by it.
    fn look_at_leases<'a>(&'a self, keys: &'a [KeyOf]) -> Answer<'a, Vec<LeaseLook>>;

    /// What is held for a key, valid or not.
    fn held<'a>(&'a self, of: &'a KeyOf) -> Answer<'a, Option<Held>>;

    /// Some of a namespace's entries, by a bounded scan.
    fn list<'a>(&'a self, namespace: &'a str) -> Answer<'a, Listing>;

    /// One call to a key of the applications' key space.
    fn key<'a>(&'a self, of: &'a KeyOf, call: &'a KeyCall) -> Answer<'a, KeyReply>;

    /// Deletes keys of that space by how they are written, by a bounded scan.
    fn delete_keys<'a>(&'a self, namespace: &'a str, glob: &'a str) -> Answer<'a, Deleted>;

    /// Reads the log after the request's cursor, now; `hold_ms` is somebody else's. Also writes, so that a store that
    /// lost its mastership fails instead.
    fn read_log<'a>(&'a self, request: &'a FeedRequest) -> Answer<'a, Reading>;

    /// How long a gateway may yet serve what the record at a position purged, in milliseconds; 0 once all have heard of it.
    /// The one that asks isn't waited for.
    fn unheard<'a>(&'a self, namespace: &'a str, purged: Position, asks: Option<Listener>) -> Answer<'a, u64>;

    /// The id of the log's last record, for whoever waits until it changes. Nothing is decided by it.
    fn tail<'a>(&'a self, namespace: &'a str) -> Answer<'a, Option<String>>;

    /// Whether other bridges write to the same store, so that changes must be looked for.
    fn shared(&self) -> bool;

    /// Whether the store answers, and can be written to.
    fn ready(&self) -> Answer<'_, ()>;

    /// What it says of itself, for metrics.
    fn figures(&self) -> Figures;
}

/// How a store does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Calls fail at once, since the connection broke a moment ago.
    pub breaker_open: bool,
    /// Round trips now.
    pub under_way: u64,
    /// Round trips since the start.
    pub round_trips: u64,
    /// Connections that were given up for new ones.
    pub reconnects: u64,
    /// Round trips that took too long.
    pub timeouts: u64,
    /// Round trips that failed otherwise.
    pub errors: u64,
    /// Bytes held in this process.
    pub bytes: u64,
    /// Bytes that were compressed before they were stored.
    pub packed_from_bytes: u64,
    /// What they became.
    pub packed_to_bytes: u64,
}

/// A cache key and its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyOf {
    /// Prefix and version.
    pub namespace: String,
    /// The whole cache key.
    pub key: String,
}

/// A key's lease, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseLook {
    /// Who holds it.
    pub holder: Option<Holder>,
    /// Whether nobody does since what came can't be stored.
    pub pass: bool,
    /// Milliseconds until either is over.
    pub remaining_ms: u64,
    /// Differs from one entry of the key to another; empty without one.
    pub entry: Vec<u8>,
}

/// The log after a cursor, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whether the log goes on from the cursor.
    pub continuity: Continuity,
    /// What came after it, oldest first.
    pub records: Vec<FeedRecord>,
    /// The next cursor.
    pub cursor: Position,
    /// False if there is more than one answer may hold.
    pub complete: bool,
    /// How old the first of the records is, in milliseconds by the store's clock.
    pub oldest_ms: Option<u64>,
}

impl Reading {
    /// The log goes on, and nothing has come: what a poll is held for.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.continuity == Continuity::Joined && self.records.is_empty()
    }

    /// The answer to a poll whose last reading this is; `held_ms` from its arrival to the start of this reading, never
    /// later: what was appended since then may be missing here.
    #[must_use]
    pub fn into_reply(self, held_ms: u64) -> FeedReply {
        let Self { continuity, records, cursor, complete, .. } = self;
        FeedReply { continuity, records, cursor, held_ms, complete }
    }
}

/// Why a store gave no answer. What it did is unknown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It took too long.
    #[error("no answer from Redis at {at} within {} ms", within.as_millis())]
    Timeout {
        /// Host and port.
        at: String,
        /// The command timeout.
        within: Duration,
    },
    /// It can't be reached, refuses, or speaks nonsense.
    #[error("Redis at {at} failed")]
    Redis {
        /// Host and port.
        at: String,
        /// What the client or the server said.
        source: redis::RedisError,
    },
}
