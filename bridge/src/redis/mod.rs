//! The store in Redis. The log and the epochs of a namespace share one cluster slot and change in scripts only; entries
//! may be anywhere, and are judged by the log whenever they are read.
//!
//! | key | holds | lives |
//! |---|---|---|
//! | `routecache:{<namespace>}:log` | stream of purges: `unique`, `era`, any number of `tag` | a week from the last use |
//! | `routecache:{<namespace>}:epoch:<tag>` | id of the tag's last purge | a week from the last store or purge |
//! | `routecache:{<namespace>}:bans` | stream of patterns that were purged, under the ids of the log | a week from the last |
//! | `routecache:{<namespace>}:gateways` | hash of those that poll: what each has applied, and until when it trusts that | a week from the last poll |
//! | `routecache:{<namespace>}:probe` | the group's clock: see `clock.lua`; written by each poll | a week |
//! | `routecache:<namespace>:entry:<hash of key>` | an entry | its `keep_ms`, a week at most |
//! | `routecache:<namespace>:key:{<hash>}:<key>` | a value of an application: see `keys.rs` | as it was asked for, a week at most |
//! | `routecache:lease:{<name of an entry>}` | who fetches it, or `pass` | as it was asked for, an hour at most |
//!
//! Lookups write nothing, though they use epochs: an entry lives at most a week from its store, and so do its epochs.

mod address;
mod connection;
pub(crate) mod decoders;
mod entry;
mod events;
mod keys;
mod packing;
mod published;
mod script;
mod target;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bridge_api::{
    Continuity, Era, FeedRecord, FeedRequest, Holder, Lease, LeaseRequest, Listener, LookupReply, LookupRequest,
    Pattern, Position, PurgeReply, PurgeRequest, ReleaseReply, ReleaseRequest, StoreReply, StoreRequest, TAG_ALL,
    TAG_SOFT, Ticket,
};
use bytes::Bytes;
use redis::{ErrorKind, Pipeline, RedisError, cmd};

pub use self::address::Address;
use self::connection::{Connection, refused_with};
use self::entry::{Head, Unreadable};
pub use self::events::{Event, Source, follow};
use self::packing::Packed;
pub use self::packing::{Algorithm, Packing};
pub use self::published::{InRedis, Place};
use self::target::Role;
pub use self::target::{StoreTls, UnusableRedis};
use crate::clock::Steady;
use crate::limits::{
    FEED_BYTES_MAX, FEED_RECORDS_MAX, KEEP_MS_MAX, LEASE_MS_MAX, LISTED_MAX, LISTENERS_MAX, LOG_RECORDS_MAX,
    PASS_MS_MAX, PROOF_RECORDS_MAX, WINDOW_MS_MAX,
};
use crate::people::{Deleted, Held, KeyCall, KeyReply, Listing};
use crate::random::Random;
use crate::store::Figures;
use crate::{Answer, KeyOf, LeaseLook, Reading, Store, StoreError};

/// Entries, epochs, leases and logs in Redis: one server, a cluster, or the master that sentinels name.
pub struct RedisStore {
    connection: Connection,
    /// Where entries' bytes are read, and nothing that decides; and how long connecting there may take.
    replicas: Option<(Arc<Connection>, Duration)>,
    random: Random,
    log_records_max: usize,
    packing: Packing,
    packed: packing::Tally,
    clocks: Clocks,
}

/// The clocks of groups, as far as they have been heard.
struct Clocks {
    began: Instant,
    of: Mutex<HashMap<String, Steady>>,
}

impl Clocks {
    /// More groups than one bridge serves; of one that is forgotten, the store's word alone counts.
    const MAX: usize = 1024;

    fn new() -> Self {
        Self { began: Instant::now(), of: Mutex::default() }
    }

    fn with<T>(&self, namespace: &str, with: impl FnOnce(&mut Steady, Duration) -> T) -> T {
        let mut clocks = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.began.elapsed();
        if let Some(clock) = clocks.get_mut(namespace) {
            return with(clock, own);
        }
        if clocks.len() >= Self::MAX {
            clocks.clear();
        }
        with(clocks.entry(namespace.to_owned()).or_default(), own)
    }
}

impl fmt::Debug for RedisStore {
    /// Host and port; never the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("at", &self.connection.at()).finish_non_exhaustive()
    }
}

/// The log as one script saw it: its last record, and the epochs asked for.
struct Seen {
    ticket: Ticket,
    /// Id of the newest pattern.
    ban: Option<Id>,
    /// In the order of the tags that they were asked for.
    epochs: Vec<Option<Epoch>>,
}

/// When a tag was purged last, for good and, if that was after it, softly.
#[derive(Clone, Copy)]
struct Epoch {
    hard: Id,
    soft: Option<Id>,
}

impl Epoch {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(',') {
            Some((hard, soft)) => Some(Self { hard: parse_id(hard)?, soft: Some(parse_id(soft)?) }),
            None => Some(Self { hard: parse_id(text)?, soft: None }),
        }
    }
}

impl Seen {
    /// Whether nothing purged these tags after the id, and nobody has forgotten when they were purged.
    fn admit(&self, stored_at: Id) -> bool {
        self.epochs.iter().all(|epoch| epoch.is_some_and(|epoch| epoch.hard <= stored_at))
    }

    /// Whether one of them was purged softly after the id.
    fn soften(&self, stored_at: Id) -> bool {
        self.epochs.iter().flatten().any(|epoch| epoch.soft.is_some_and(|soft| soft > stored_at))
    }
}

/// What a lookup found.
enum Verdict {
    Hit {
        ticket: Ticket,
        tags: Vec<String>,
        resident_ms: u64,
        stale_ms: Option<u64>,
        payload: Bytes,
    },
    /// With the [`entry::mark`] of what was judged, and the lease where that was nothing.
    Miss {
        ticket: Ticket,
        judged: Bytes,
        lease: Option<Lease>,
    },
    Behind {
        lease: Option<Lease>,
    },
}

type Id = (u64, u64);

/// How often a lookup is repeated because the entry changed before its lease was granted, and a store because it said a time
/// that was still to come.
const ROUNDS: usize = 3;

/// What stands in place of a holder when what came can't be stored.
const PASS: &str = "pass";

const KEY_PATTERN: &str = "key-pattern";
const TAG_PATTERN: &str = "tag-pattern";

/// Asks `get.lua` for [`entry::mark`] alone.
const MARK: &str = "mark";

const NO_ARGUMENTS: &[&str] = &[];

/// What `lookup.lua` answers; nothing if the log is behind.
type RawSeen = Option<Bytes>;

/// What `get.lua` answers: the entry, how long it still has (ms), and the lease if it was asked for and there is no entry.
type RawEntry = (Option<Bytes>, i64, Option<RawLease>);

/// What `lease.lua` grants: state, and how long it lasts (ms).
type RawLease = (String, u64);

/// What `feed.lua` answers: continuity, cursor (id, unique), complete, records, and the time (ms).
type RawReading = (String, String, String, bool, Vec<RawRecord>, u64);

/// Id, unique, tags, and patterns as `log.lua` has them.
type RawRecord = (String, String, Vec<String>, Vec<String>);

impl RedisStore {
    /// A store that connects at its first call, and gives none of them longer than `within`. Made within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`UnusableRedis`], which doesn't repeat the address.
    pub fn new(address: &Address, tls: &StoreTls, within: Duration) -> Result<Self, UnusableRedis> {
        let connection = Connection::new(address, tls, within)?;
        Ok(Self {
            connection,
            replicas: None,
            random: Random::from_system(),
            log_records_max: LOG_RECORDS_MAX,
            packing: Packing::default(),
            packed: packing::Tally::default(),
            clocks: Clocks::new(),
        })
    }

    /// Reads entries' bytes from replicas: those that a cluster or sentinels name, or a server of its own. One that doesn't
    /// answer in a fifth of the time that a call has is done without.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_replicas(mut self, address: &Address, tls: &StoreTls, within: Duration) -> Result<Self, UnusableRedis> {
        self.replicas = Some((Arc::new(Connection::to(Role::Replica, address, tls, within / 5)?), within));
        Ok(self)
    }

    /// Keeps fewer records per log than [`LOG_RECORDS_MAX`].
    #[must_use]
    pub fn with_log_records_max(mut self, records: usize) -> Self {
        self.log_records_max = records.max(1);
        self
    }

    /// Compresses payloads like this.
    #[must_use]
    pub fn with_packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// What every script in the log's slot is called with first: see `log.lua`.
    fn prelude(&self) -> Vec<String> {
        vec![format!("{:x}", self.random.next()), self.random.era().to_string(), self.log_records_max.to_string()]
    }

    fn look(&self, namespace: &str, tags: &[String], known: Option<Position>) -> redis::Cmd {
        let mut arguments = self.prelude();
        arguments.extend(id_and_unique(known));
        script::LOOKUP.call(&log_and_epochs(namespace, tags), arguments)
    }

    async fn get(&self, request: &LookupRequest) -> Result<(LookupReply, Bytes), StoreError> {
        let miss = |ticket, lease| Ok((LookupReply::Miss { ticket, lease }, Bytes::new()));
        let name = entry::name(&request.namespace, &request.key);
        let mut rounds = ROUNDS;
        loop {
            match self.judge(request, &name).await? {
                Verdict::Hit { ticket, tags, resident_ms, stale_ms, payload } => {
                    return Ok((LookupReply::Hit { ticket, tags, resident_ms, stale_ms }, payload));
                }
                Verdict::Behind { lease } => {
                    if let (Some(Lease::Granted), Some(asked)) = (lease, request.lease) {
                        self.end_lease(&name, asked.holder, None).await?;
                    }
                    return Ok((LookupReply::Behind, Bytes::new()));
                }
                Verdict::Miss { ticket, judged, lease } => {
                    let Some(asked) = request.lease.filter(|_| lease.is_none()) else { return miss(ticket, lease) };
                    if let Some(lease) = self.grant(&name, asked, &judged).await? {
                        return miss(ticket, Some(lease));
                    }
                    rounds -= 1;
                    if rounds == 0 {
                        return miss(ticket, Some(Lease::Granted)); // others come and go: one more fetch
                    }
                }
            }
        }
    }

    async fn judge(&self, request: &LookupRequest, name: &str) -> Result<Verdict, StoreError> {
        let LookupRequest { namespace, key, tags, known, soft, .. } = request;
        let (seen, (value, left_ms, lease)) = self.fetch(request, name).await?;

        let lease = lease.map(|raw| self.lease(raw)).transpose()?;
        let Some(seen) = self.seen(namespace, tags.len(), seen)? else { return Ok(Verdict::Behind { lease }) };
        let ticket = seen.ticket;
        let miss = |judged| Ok(Verdict::Miss { ticket, judged, lease });
        let Some(value) = value else { return miss(Bytes::new()) };
        let judged = entry::mark(&value);
        let (head, payload) = match entry::read(&value) {
            Ok(read) => read,
            Err(Unreadable::Newer) => return miss(judged),
            Err(Unreadable::Broken) => {
                self.drop_entry(name).await?;
                return miss(Bytes::new());
            }
        };
        let Ok(left_ms) = u64::try_from(left_ms) else { return miss(judged) };
        let Some(resident_ms) = resident_ms(&head, left_ms, ticket.seen_ms) else { return miss(judged) };
        if head.key != *key || head.ticket.era != ticket.era {
            return miss(judged);
        }
        // All epochs that were asked for count: those of the entry, and those of the request that it may have been stored
        // without.
        let stored_at = id(head.ticket.at);
        if !seen.admit(stored_at) {
            return miss(judged);
        }
        let mut softly = seen.soften(stored_at);
        let unseen = beyond(&head.tags, tags);
        if !unseen.is_empty() {
            let mut again = Pipeline::new();
            again.add_command(self.look(namespace, &unseen, *known));
            let (later,) = self.connection.ask(&again).await?;
            let Some(later) = self.seen(namespace, unseen.len(), later)? else { return Ok(Verdict::Behind { lease }) };
            if later.ticket.era != ticket.era || !later.admit(stored_at) {
                return miss(judged);
            }
            softly |= later.soften(stored_at);
        }
        if seen.ban.is_some_and(|newest| newest > stored_at) && self.is_banned(namespace, &head, seen.ban).await? {
            return miss(judged);
        }
        let Some(payload) = self.packing.unpack(head.packed, payload).await else {
            self.drop_entry(name).await?;
            return miss(Bytes::new());
        };
        let stale_ms = match softly {
            false => None,
            true if !soft => return miss(judged),
            true => match self.softened_ms(namespace, &head, tags).await? {
                None => return miss(judged),
                since => since,
            },
        };
        Ok(Verdict::Hit { ticket, tags: head.tags, resident_ms, stale_ms, payload })
    }

    /// How long ago the first soft purge of an entry was made, unless the log can't tell.
    async fn softened_ms(&self, namespace: &str, head: &Head, tags: &[String]) -> Result<Option<u64>, StoreError> {
        let mut arguments = self.prelude();
        arguments.extend(id_and_unique(Some(head.ticket.at)));
        arguments.push(PROOF_RECORDS_MAX.to_string());
        arguments.extend(head.tags.iter().chain(tags).cloned());
        let mut softened = Pipeline::new();
        softened.add_command(script::SOFTENED.call(&[log_key(namespace), clock_key(namespace)], arguments));
        let (since_ms,) = self.connection.ask(&softened).await?;
        Ok(since_ms)
    }

    async fn fetch(&self, request: &LookupRequest, name: &str) -> Result<(RawSeen, RawEntry), StoreError> {
        let LookupRequest { namespace, tags, known, lease, .. } = request;
        let mut both = Pipeline::with_capacity(3);
        both.add_command(self.look(namespace, tags, *known));
        let replica = self.replicas.as_ref().filter(|(replica, patience)| replica.is_there(*patience));
        let Some((replica, _)) = replica else {
            if lease.is_none() && self.connection.keeps_order() {
                // Two commands, between which another entry may come. Read in this order, it seems older than it is, or expired.
                both.add_command(script::command("PTTL", name));
                both.add_command(script::command("GET", name));
                let (seen, left_ms, value) = self.connection.ask(&both).await?;
                return Ok((seen, (value, left_ms, None)));
            }
            both.add_command(script::GET.call(&entry_and_lease(name), &lease_arguments(*lease)));
            return self.connection.ask(&both).await;
        };
        let [holder, ttl_ms] = lease_arguments(*lease);
        both.add_command(script::GET.call(&entry_and_lease(name), &[&*holder, &*ttl_ms, MARK]));
        let mut get = Pipeline::with_capacity(1);
        get.add_command(script::command("GET", name));
        let (asked, copy) = tokio::join!(self.connection.ask(&both), replica.ask::<(Option<Bytes>,)>(&get));
        let (seen, (mark, left_ms, lease)): (RawSeen, RawEntry) = asked?;
        match (mark, copy) {
            (None, _) => Ok((seen, (None, left_ms, lease))),
            (Some(mark), Ok((Some(copy),))) if entry::mark(&copy) == mark => Ok((seen, (Some(copy), left_ms, lease))),
            _ => {
                // The replica lags, or is gone.
                let mut get = Pipeline::new();
                get.add_command(script::GET.call(&entry_and_lease(name), &lease_arguments(None)));
                let ((value, left_ms, _),): (RawEntry,) = self.connection.ask(&get).await?;
                Ok((seen, (value, left_ms, lease)))
            }
        }
    }

    /// Whether a pattern since the entry's ticket means it, or some pattern is lost.
    async fn is_banned(&self, namespace: &str, head: &Head, newest: Option<Id>) -> Result<bool, StoreError> {
        let newest = newest.map_or_else(String::new, |(ms, seq)| format!("{ms}-{seq}"));
        let mut bans = Pipeline::new();
        bans.add_command(script::BANS.call(&[bans_key(namespace)], &[id_text(head.ticket.at), newest]));
        let (raw,): (Option<Vec<String>>,) = self.connection.ask(&bans).await?;
        let Some(raw) = raw else { return Ok(true) };
        let tags = || head.tags.iter().map(String::as_str);
        Ok(patterns(&raw).is_none_or(|patterns| patterns.iter().any(|pattern| pattern.means(&head.key, tags()))))
    }

    /// Nothing if the entry isn't the one that was judged any longer.
    async fn grant(&self, name: &str, asked: LeaseRequest, judged: &Bytes) -> Result<Option<Lease>, StoreError> {
        let [holder, ttl_ms] = lease_arguments(Some(asked));
        let mut grant = Pipeline::new();
        grant.add_command(script::GRANT.call(&entry_and_lease(name), (holder, ttl_ms, &judged[..])));
        let (raw,): (Option<RawLease>,) = self.connection.ask(&grant).await?;
        raw.map(|raw| self.lease(raw)).transpose()
    }

    /// False if it is another's.
    async fn end_lease(&self, name: &str, holder: Holder, pass_ms: Option<u64>) -> Result<bool, StoreError> {
        let pass_ms = pass_ms.map_or_else(String::new, |pass_ms| pass_ms.min(PASS_MS_MAX).to_string());
        let mut release = Pipeline::new();
        release.add_command(script::RELEASE.call(&entry_and_lease(name), &[holder.to_string(), pass_ms]));
        let (released,) = self.connection.ask(&release).await?;
        Ok(released)
    }

    async fn look_at(&self, keys: &[KeyOf]) -> Result<Vec<LeaseLook>, StoreError> {
        let mut looks = Pipeline::new();
        for KeyOf { namespace, key } in keys {
            looks.add_command(script::LOOK.call(&entry_and_lease(&entry::name(namespace, key)), NO_ARGUMENTS));
        }
        let raw: Vec<(Option<String>, u64, Vec<u8>)> = self.connection.ask(&looks).await?;
        let look = |(held, remaining_ms, entry): (Option<String>, u64, Vec<u8>)| LeaseLook {
            pass: held.as_deref() == Some(PASS),
            holder: held.and_then(|held| held.parse().ok()),
            remaining_ms,
            entry,
        };
        Ok(raw.into_iter().map(look).collect())
    }

    fn lease(&self, (state, remaining_ms): RawLease) -> Result<Lease, StoreError> {
        match &*state {
            "granted" => Ok(Lease::Granted),
            "held" => Ok(Lease::Held { remaining_ms }),
            PASS => Ok(Lease::Pass { remaining_ms }),
            _ => Err(self.nonsense("a lease that the script doesn't give")),
        }
    }

    async fn held(&self, of: &KeyOf) -> Result<Option<Held>, StoreError> {
        let name = entry::name(&of.namespace, &of.key);
        let mut get = Pipeline::new();
        get.add_command(script::GET.call(&entry_and_lease(&name), &lease_arguments(None)));
        let ((value, left_ms, _),): (RawEntry,) = self.connection.ask(&get).await?;
        let remaining_ms = u64::try_from(left_ms).unwrap_or(0);
        let entry = value.as_ref().and_then(|value| entry::read(value).ok());
        let Some((head, payload)) = entry.filter(|(head, _)| head.key == of.key) else { return Ok(None) };
        let payload = self.packing.unpack(head.packed, payload).await;
        let Head { ticket, keep_ms, tags, key, .. } = head;
        let resident_ms = keep_ms.saturating_sub(remaining_ms);
        Ok(payload.map(|payload| Held { key, tags, ticket, resident_ms, remaining_ms, payload }))
    }

    /// Reads the beginning of entries only: that is where their tags are.
    async fn entries(&self, namespace: &str) -> Result<Listing, StoreError> {
        let (names, complete) = self.scan(&format!("routecache:{namespace}:entry:"), LISTED_MAX).await?;
        let mut entries = Vec::new();
        for some in names.chunks(256) {
            let mut heads = Pipeline::new();
            for name in some {
                heads.add_command(cmd("GETRANGE")).arg(name).arg(0).arg(entry::HEAD_BYTES);
            }
            let beginnings: Vec<Bytes> = self.connection.ask(&heads).await?;
            entries.extend(beginnings.iter().filter_map(entry::head).map(|head| (head.key, head.tags)));
        }
        Ok(Listing { entries, complete })
    }

    /// Removes what doesn't decode, or the log doesn't vouch for. If something better has come meanwhile, that goes too: a miss.
    async fn drop_entry(&self, name: &str) -> Result<(), StoreError> {
        tracing::warn!(name, "an entry doesn't decode; removing it");
        let mut unlink = Pipeline::new();
        unlink.add_command(cmd("UNLINK")).arg(name);
        self.connection.ask::<(i64,)>(&unlink).await.map(|_| ())
    }

    async fn put(&self, request: &StoreRequest, payload: Bytes) -> Result<StoreReply, StoreError> {
        match self.connection.is_cluster() {
            true => self.put_in_parallel(request, payload).await,
            false => self.put_in_one(request, payload).await,
        }
    }

    /// A store where one server has both the log and the entry: one round trip.
    async fn put_in_one(&self, request: &StoreRequest, payload: Bytes) -> Result<StoreReply, StoreError> {
        let StoreRequest { namespace, key, tags, ticket, holder, .. } = request;
        let mut keys = log_and_epochs(namespace, tags);
        let entry = entry_and_lease(&entry::name(namespace, key));
        keys.splice(2..2, entry);
        let (packed, payload) = self.packing.pack(payload, &self.packed).await;
        let least_ms = || self.clocks.with(namespace, |clock, own| clock.least_ms(own));
        let mut since_ms = self.since_ms(request);
        for _ in 0..ROUNDS {
            let (value, keep_ms) = written(request, since_ms, packed, payload.clone());
            let mut arguments = self.of_ticket(ticket);
            arguments.extend([holder.map_or_else(String::new, |holder| holder.to_string())]);
            arguments.extend([since_ms, least_ms(), keep_ms].map(|ms| ms.to_string()));
            let mut store = Pipeline::with_capacity(1);
            store.add_command(script::STORE.call(&keys, (arguments, value, tags)));
            let ((came, now_ms),): ((String, u64),) = self.connection.ask(&store).await?;
            self.clocks.with(namespace, |clock, own| clock.hear(now_ms, own));
            match &*came {
                "stored" => return Ok(StoreReply::Stored),
                "newer" => return Ok(StoreReply::Newer),
                "void" => return Ok(StoreReply::Void),
                "later" => since_ms = now_ms, // nobody stores what is younger than now
                _ => break,
            }
        }
        Err(self.nonsense("an outcome that the script doesn't give"))
    }

    /// The same where they may be on two, which are told at once. An entry without epochs is a miss, so it doesn't matter which comes
    /// first. What the log doesn't vouch for is taken back; until then, lookups judge it as they do what was stored before.
    async fn put_in_parallel(&self, request: &StoreRequest, payload: Bytes) -> Result<StoreReply, StoreError> {
        let StoreRequest { namespace, key, tags, ticket, holder, .. } = request;
        let name = entry::name(namespace, key);
        let holder = holder.map_or_else(String::new, |holder| holder.to_string());
        let (at, era) = (id_text(ticket.at), ticket.era.to_string());
        let (packed, payload) = self.packing.pack(payload, &self.packed).await;
        let mut since_ms = self.since_ms(request);
        for _ in 0..ROUNDS {
            let (value, keep_ms) = written(request, since_ms, packed, payload.clone());
            let mut both = Pipeline::with_capacity(2);
            both.add_command(script::SETTLED.call(&log_and_epochs(namespace, tags), (self.of_ticket(ticket), tags)));
            both.add_command(script::STORED.call(&entry_and_lease(&name), (value, keep_ms, &at, &era, &holder)));
            let ((servable, now_ms), stored): ((bool, u64), bool) = self.connection.ask(&both).await?;
            let now_ms = self.clocks.with(namespace, |clock, own| clock.hear(now_ms, own));
            match (servable, stored) {
                (false, stored) => {
                    if stored {
                        self.drop_entry(&name).await?;
                    }
                    return Ok(StoreReply::Void);
                }
                (true, false) => return Ok(StoreReply::Newer),
                (true, true) if since_ms <= now_ms => return Ok(StoreReply::Stored),
                (true, true) => since_ms = now_ms, // nobody stores what is younger than now; such an entry is a miss
            }
        }
        Err(self.nonsense("a clock that goes back again and again"))
    }

    /// Since when an entry says that it lies there, by the group's clock. Filters of before say no time, nor may the bridge know one: then
    /// a time that is still to come.
    fn since_ms(&self, request: &StoreRequest) -> u64 {
        let least_ms = || self.clocks.with(&request.namespace, |clock, own| clock.least_ms(own));
        request.ticket.seen_ms.unwrap_or_else(|| Some(least_ms()).filter(|ms| *ms > 0).unwrap_or(u64::MAX))
    }

    /// What the scripts that settle a store are called with first.
    fn of_ticket(&self, ticket: &Ticket) -> Vec<String> {
        let mut arguments = self.prelude();
        arguments.extend(id_and_unique(Some(ticket.at)));
        arguments.extend([ticket.era.to_string(), PROOF_RECORDS_MAX.to_string()]);
        arguments
    }

    async fn append(&self, request: &PurgeRequest, patterns: &[Pattern]) -> Result<PurgeReply, StoreError> {
        let PurgeRequest { namespace, tags, .. } = request;
        let unique = self.random.next();
        let mut arguments = self.prelude();
        arguments.extend([format!("{unique:x}"), (2 * patterns.len()).to_string()]);
        for pattern in patterns {
            let (name, text) = match pattern {
                Pattern::Key(text) => (KEY_PATTERN, text),
                Pattern::Tag(text) => (TAG_PATTERN, text),
            };
            arguments.extend([name.to_owned(), text.clone()]);
        }
        arguments.extend_from_slice(tags);
        if !patterns.is_empty() {
            arguments.push(TAG_ALL.to_owned());
        }
        let named: Vec<String> = tags.iter().filter(|tag| *tag != TAG_SOFT).cloned().collect();
        let mut keys = log_and_epochs(namespace, &named);
        keys.insert(2, bans_key(namespace));
        let mut purge = Pipeline::new();
        purge.add_command(script::PURGE.call(&keys, arguments));
        let ((id, era),): ((String, String),) = self.connection.ask(&purge).await?;
        let position = self.position(&id, &format!("{unique:x}"))?;
        Ok(PurgeReply { position, era: self.era(&era)?, unheard: false })
    }

    async fn read(&self, request: &FeedRequest) -> Result<Reading, StoreError> {
        let mut arguments = self.prelude();
        arguments.extend(id_and_unique(request.cursor));
        arguments.extend(id_and_unique(request.known));
        arguments.extend([FEED_RECORDS_MAX.to_string(), FEED_BYTES_MAX.to_string()]);
        arguments.extend(name_and_window(request.gateway));
        arguments.push(LISTENERS_MAX.to_string());
        let least_ms = self.clocks.with(&request.namespace, |clock, own| clock.least_ms(own));
        arguments.push(least_ms.to_string());
        let keys = [log_key(&request.namespace), clock_key(&request.namespace), listeners_key(&request.namespace)];
        let mut feed = Pipeline::new();
        feed.add_command(script::FEED.call(&keys, arguments));
        let (raw,): (RawReading,) = self.connection.ask(&feed).await?;
        self.clocks.with(&request.namespace, |clock, own| clock.hear(raw.5, own));
        self.reading(raw)
    }

    fn reading(&self, raw: RawReading) -> Result<Reading, StoreError> {
        let (continuity, id, unique, complete, records, now_ms) = raw;
        let continuity = match &*continuity {
            "joined" => Continuity::Joined,
            "first" => Continuity::First,
            "trimmed" => Continuity::Trimmed,
            "lost" => Continuity::Lost,
            "new-era" => Continuity::NewEra,
            _ => return Err(self.nonsense("a continuity that the script doesn't give")),
        };
        let record = |(id, unique, tags, raw): RawRecord| {
            let patterns = patterns(&raw).ok_or_else(|| self.nonsense("a pattern that isn't ours"))?;
            Ok(FeedRecord { position: self.position(&id, &unique)?, tags, patterns })
        };
        let records = records.into_iter().map(record).collect::<Result<Vec<_>, StoreError>>()?;
        let oldest_ms = records.first().map(|oldest| now_ms.saturating_sub(oldest.position.ms));
        Ok(Reading { continuity, records, cursor: self.position(&id, &unique)?, complete, oldest_ms })
    }

    fn seen(&self, namespace: &str, tags: usize, raw: RawSeen) -> Result<Option<Seen>, StoreError> {
        let Some(raw) = raw else { return Ok(None) };
        let text = std::str::from_utf8(&raw).map_err(|_| self.nonsense("a log that isn't text"))?;
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let ticket = Ticket { at: self.position(word(), word())?, era: self.era(word())?, seen_ms: None };
        let ban = parse_id(word());
        let now_ms = word().parse().map_err(|_| self.nonsense("a time that isn't a number"))?;
        let seen_ms = Some(self.clocks.with(namespace, |clock, own| clock.hear(now_ms, own)));
        let ticket = Ticket { seen_ms, ..ticket };
        // An epoch that isn't an id is as good as none.
        let epochs: Vec<_> = words.map(Epoch::parse).collect();
        if epochs.len() != tags {
            return Err(self.nonsense("another number of epochs than was asked for"));
        }
        Ok(Some(Seen { ticket, ban, epochs }))
    }

    fn position(&self, id: &str, unique: &str) -> Result<Position, StoreError> {
        let parsed = parse_id(id).zip(u64::from_str_radix(unique, 16).ok());
        let ((ms, seq), unique) = parsed.ok_or_else(|| self.nonsense("a log record that isn't ours"))?;
        Ok(Position { ms, seq, unique })
    }

    fn era(&self, text: &str) -> Result<Era, StoreError> {
        text.parse().map_err(|_| self.nonsense("a log record without era"))
    }

    fn nonsense(&self, what: &'static str) -> StoreError {
        let source = (ErrorKind::UnexpectedReturnType, what).into();
        StoreError::Redis { at: self.connection.at().to_owned(), source }
    }
}

impl Store for RedisStore {
    fn lookup<'a>(&'a self, request: &'a LookupRequest) -> Answer<'a, (LookupReply, Bytes)> {
        Box::pin(self.get(request))
    }

    fn store<'a>(&'a self, request: &'a StoreRequest, payload: Bytes) -> Answer<'a, StoreReply> {
        Box::pin(async move {
            match self.put(request, payload).await {
                Err(StoreError::Redis { source, .. }) if is_full(&source) => Ok(StoreReply::Full),
                outcome => outcome,
            }
        })
    }

    fn purge<'a>(&'a self, request: &'a PurgeRequest, patterns: &'a [Pattern]) -> Answer<'a, PurgeReply> {
        Box::pin(self.append(request, patterns))
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> Answer<'a, ReleaseReply> {
        Box::pin(async move {
            let ReleaseRequest { namespace, key, holder, pass_ms } = request;
            let released = self.end_lease(&entry::name(namespace, key), *holder, *pass_ms).await?;
            Ok(if released { ReleaseReply::Released } else { ReleaseReply::HeldByAnother })
        })
    }

    fn look_at_leases<'a>(&'a self, keys: &'a [KeyOf]) -> Answer<'a, Vec<LeaseLook>> {
        Box::pin(self.look_at(keys))
    }

    fn held<'a>(&'a self, of: &'a KeyOf) -> Answer<'a, Option<Held>> {
        Box::pin(self.held(of))
    }

    fn list<'a>(&'a self, namespace: &'a str) -> Answer<'a, Listing> {
        Box::pin(self.entries(namespace))
    }

    fn key<'a>(&'a self, of: &'a KeyOf, call: &'a KeyCall) -> Answer<'a, KeyReply> {
        Box::pin(self.call_key(of, call))
    }

    fn delete_keys<'a>(&'a self, namespace: &'a str, glob: &'a str) -> Answer<'a, Deleted> {
        Box::pin(self.delete_by(namespace, glob))
    }

    fn read_log<'a>(&'a self, request: &'a FeedRequest) -> Answer<'a, Reading> {
        Box::pin(self.read(request))
    }

    fn unheard<'a>(&'a self, namespace: &'a str, purged: Position, asks: Option<Listener>) -> Answer<'a, u64> {
        Box::pin(async move {
            let [name, window_ms] = name_and_window(asks);
            let arguments = [id_text(purged), name, window_ms];
            let mut unheard = Pipeline::new();
            unheard.add_command(script::UNHEARD.call(&[listeners_key(namespace), clock_key(namespace)], &arguments));
            let (left_ms,) = self.connection.ask(&unheard).await?;
            Ok(left_ms)
        })
    }

    fn tail<'a>(&'a self, namespace: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            let mut tail = Pipeline::new();
            tail.add_command(script::TAIL.call(&[log_key(namespace)], NO_ARGUMENTS));
            let (tail,) = self.connection.ask(&tail).await?;
            Ok(tail)
        })
    }

    fn shared(&self) -> bool {
        true
    }

    fn ready(&self) -> Answer<'_, ()> {
        Box::pin(self.connection.ping())
    }

    fn figures(&self) -> Figures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (before, after) = (count(&self.packed.before), count(&self.packed.after));
        Figures { packed_from_bytes: before, packed_to_bytes: after, ..self.connection.figures() }
    }
}

/// The braces make the cluster slot depend on the namespace alone.
fn log_key(namespace: &str) -> String {
    format!("routecache:{{{namespace}}}:log")
}

/// It was a probe before, and older bridges still write it as one.
fn clock_key(namespace: &str) -> String {
    format!("routecache:{{{namespace}}}:probe")
}

fn log_and_epochs(namespace: &str, tags: &[String]) -> Vec<String> {
    let epochs = tags.iter().map(|tag| format!("routecache:{{{namespace}}}:epoch:{tag}"));
    [log_key(namespace), clock_key(namespace)].into_iter().chain(epochs).collect()
}

/// How long an entry lies there: by the group's clock, and by its server's, whichever says longer. None if that is too long,
/// or it comes from a time that the clock hasn't reached: then it has been set back, and nobody knows by how much.
fn resident_ms(head: &Head, left_ms: u64, now_ms: Option<u64>) -> Option<u64> {
    let by_server_ms = head.keep_ms.saturating_sub(left_ms);
    let by_group_ms = match head.since_ms.zip(now_ms) {
        Some((since_ms, now_ms)) => now_ms.checked_sub(since_ms)?,
        None => 0,
    };
    Some(by_server_ms.max(by_group_ms)).filter(|resident_ms| *resident_ms < head.keep_ms)
}

fn listeners_key(namespace: &str) -> String {
    format!("routecache:{{{namespace}}}:gateways")
}

/// Of nobody in particular: no name, and the longest window.
fn name_and_window(gateway: Option<Listener>) -> [String; 2] {
    let name = gateway.map_or_else(String::new, |gateway| gateway.name.to_string());
    [name, gateway.map_or(WINDOW_MS_MAX, |gateway| gateway.window_ms.min(WINDOW_MS_MAX)).to_string()]
}

fn bans_key(namespace: &str) -> String {
    format!("routecache:{{{namespace}}}:bans")
}

/// What `log.lua` calls patterns.
fn patterns(raw: &[String]) -> Option<Vec<Pattern>> {
    let pattern = |pair: &[String]| match pair {
        [name, text] if name == KEY_PATTERN => Some(Pattern::Key(text.clone())),
        [name, text] if name == TAG_PATTERN => Some(Pattern::Tag(text.clone())),
        _ => None,
    };
    raw.chunks(2).map(pattern).collect()
}

fn entry_and_lease(name: &str) -> [String; 2] {
    [name.to_owned(), entry::lease(name)]
}

fn lease_arguments(asked: Option<LeaseRequest>) -> [String; 2] {
    let told = |asked: LeaseRequest| [asked.holder.to_string(), asked.ttl_ms.min(LEASE_MS_MAX).to_string()];
    asked.map_or_else(Default::default, told)
}

/// What is stored, as it lies there since then, and for how long.
fn written(request: &StoreRequest, since_ms: u64, packed: Option<Packed>, payload: Bytes) -> (entry::Value, u64) {
    let StoreRequest { key, tags, ticket, keep_ms, .. } = request;
    let (ticket, keep_ms) = (Ticket { seen_ms: None, ..*ticket }, (*keep_ms).min(KEEP_MS_MAX));
    let (tags, key, since_ms) = (tags.clone(), key.clone(), Some(since_ms));
    (entry::write(&Head { ticket, since_ms, keep_ms, tags, key, packed }, payload), keep_ms)
}

/// Those of the tags that aren't among the others.
fn beyond(tags: &[String], others: &[String]) -> Vec<String> {
    if tags == others {
        return Vec::new(); // as it nearly always is
    }
    let others: HashSet<&String> = others.iter().collect();
    tags.iter().filter(|tag| !others.contains(tag)).cloned().collect()
}

fn id(position: Position) -> Id {
    (position.ms, position.seq)
}

fn id_text(position: Position) -> String {
    format!("{}-{}", position.ms, position.seq)
}

fn parse_id(text: &str) -> Option<Id> {
    let (ms, seq) = text.split_once('-')?;
    Some((ms.parse().ok()?, seq.parse().ok()?))
}

fn id_and_unique(position: Option<Position>) -> [String; 2] {
    position.map_or_else(Default::default, |position| [id_text(position), format!("{:x}", position.unique)])
}

/// `maxmemory` is reached and nothing may be evicted.
fn is_full(error: &RedisError) -> bool {
    refused_with("OOM", error)
}
