//! The gateway's part that all VMs share: the log of purges, and the gateway tier. Each change is a compare-and-swap that
//! is tried again when another VM was faster; what to change is decided in the core.

use routecache_core::bans::{Ban, Bans};
use routecache_core::entry::Entry;
use routecache_core::gateway_log::{Applied, Change, GatewayLog, Head};
use routecache_core::gateway_tier::{self, Admission, Index, Layout, Slot};
use routecache_core::key::hash_of;
use routecache_core::leases::{self, Claim, End, Leases};
use routecache_core::permits::Permits;
use routecache_core::planted::planted;
use routecache_core::policy::Policy;
use routecache_core::refresh;
use routecache_core::warm;

use crate::host::{self, Swap};
use crate::random;

/// How often a swap is tried before a cache gives up storing. A purge tries [`PURGE_TRIES`] times.
const STORE_TRIES: u32 = 8;
const PURGE_TRIES: u32 = 1000;

/// Keys that hold who refreshes what ([`Leases`]).
const REFRESH_TABLES: u64 = 16;

/// Keys of one namespace in shared data. Filters with one namespace share them, whatever else they differ in.
pub struct Shared {
    prefix: String,
    log: String,
    head: String,
    bans: String,
    lease: String,
    secret: String,
    name: String,
    permits: String,
    warm: String,
    layout: Layout,
}

/// Changes a value by compare-and-swap; `None` when the host refuses, or other workers were always faster.
fn swap<V: Clone + PartialEq, T>(
    key: &str,
    decode: fn(&[u8]) -> V,
    encode: fn(&V) -> Vec<u8>,
    change: impl Fn(&mut V) -> T,
) -> Option<T> {
    for _ in 0..PURGE_TRIES {
        let found = host::shared_get(key);
        let before = decode(&found.value);
        let mut value = before.clone();
        let outcome = change(&mut value);
        if value == before {
            return Some(outcome);
        }
        match host::shared_set(key, &encode(&value), found.version) {
            Swap::Done => return Some(outcome),
            Swap::Raced => {}
            Swap::Refused => return None,
        }
    }
    None
}

/// What an entry becomes beside the one that is kept already.
pub type Merge<'a> = dyn Fn(&Entry) -> Option<Entry> + 'a;

/// Shared data refused, or couldn't be swapped in [`PURGE_TRIES`] tries.
pub struct Refused;

impl Shared {
    /// The shared part for a policy. The `1` in the keys is the version of what stands under them.
    pub fn new(policy: &Policy) -> Self {
        let prefix = format!("routecache/1/{}/", policy.namespace);
        let key = |name| format!("{prefix}{name}");
        let layout = Layout::new(policy.limits.l1_bytes, policy.limits.body_bytes_max);
        let (log, head, bans, lease) = (key("log"), key("head"), key("bans"), key("lease"));
        let (secret, name, permits, warm) = (key("secret"), key("name"), key("permits"), key("warm"));
        Self { log, head, bans, lease, secret, name, permits, warm, layout, prefix }
    }

    /// Makes every key that this table will ever have, so that their number doesn't grow with what is asked for. Whoever
    /// comes first does it; the last key tells the others that it was done.
    pub fn lay_out(&self) {
        let last = self.slot_key(self.layout.segments.saturating_sub(1), self.layout.slots.saturating_sub(1));
        if host::shared_get(&last).exists() {
            return;
        }
        let _ = self.change(&Change::default(), None);
        host::shared_insert(&self.bans);
        host::shared_insert(&self.lease);
        host::shared_insert(&self.secret);
        host::shared_insert(&self.name);
        host::shared_insert(&self.permits);
        host::shared_insert(&self.warm);
        (0..leases::BUCKETS).for_each(|bucket| host::shared_insert(&self.bucket_key(bucket)));
        (0..REFRESH_TABLES).for_each(|table| host::shared_insert(&self.refresh_key(table)));
        for segment in 0..self.layout.segments {
            host::shared_insert(&self.index_key(segment));
            for slot in 0..self.layout.slots {
                host::shared_insert(&self.slot_key(segment, slot));
            }
        }
    }

    /// The head; an unreadable one is absent.
    pub fn head(&self) -> Option<Head> {
        Head::decode(&host::shared_get(&self.head).value)
    }

    /// The log; an unreadable one is absent.
    pub fn log(&self) -> Option<GatewayLog> {
        GatewayLog::decode(&host::shared_get(&self.log).value)
    }

    /// What was purged by pattern lately.
    pub fn bans(&self) -> Bans {
        Bans::decode(&host::shared_get(&self.bans).value)
    }

    /// Notes what is purged by pattern, before the log tells of it by name; if not, the log has to say that everything is.
    pub fn ban(&self, ban: &Ban) -> bool {
        swap(&self.bans, Bans::decode, Bans::encode, |bans| bans.add(ban)).unwrap_or(false)
    }

    /// Changes the log, making it if there is none, and publishes the head. Returns the log as it was swapped in, or
    /// `None` when the feed had been applied by another VM.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the change isn't there.
    pub fn change(&self, change: &Change, heard_ms: Option<u64>) -> Result<Option<GatewayLog>, Refused> {
        for _ in 0..PURGE_TRIES {
            let found = host::shared_get(&self.log);
            let held = GatewayLog::decode(&found.value);
            let log = held.clone().unwrap_or_else(|| GatewayLog::new(if planted("era_zero") { 0 } else { random() }));
            let next = match log.apply(change, random()) {
                Applied::Superseded => return Ok(None),
                Applied::Unchanged if held.is_some() => {
                    let seen = if planted("seq_not_healed") { self.head() } else { None };
                    let seen = seen.map(|head| GatewayLog { era: head.era, seq: head.seq, ..log.clone() });
                    self.publish(heard_ms, seen.as_ref())?;
                    return Ok(Some(log));
                }
                Applied::Unchanged => log,
                Applied::Changed(next) => next,
            };
            let version = if planted("cas_ignored") { 0 } else { found.version };
            match host::shared_set(&self.log, &next.encode(), version) {
                Swap::Done => {
                    self.publish(heard_ms, planted("head_blind").then_some(&next))?;
                    return Ok(Some(next));
                }
                Swap::Raced => {}
                Swap::Refused => return Err(Refused),
            }
        }
        Err(Refused)
    }

    /// Makes the head say what the log says now, which may be more than what this VM last wrote to it.
    fn publish(&self, heard_ms: Option<u64>, planted_log: Option<&GatewayLog>) -> Result<(), Refused> {
        for _ in 0..PURGE_TRIES {
            let found = host::shared_get(&self.head);
            let Some(log) = planted_log.cloned().or_else(|| self.log()) else { return Err(Refused) };
            let Some(next) = Head::publish(Head::decode(&found.value), &log, heard_ms) else { return Ok(()) };
            let version = if planted("head_blind") { 0 } else { found.version };
            match host::shared_set(&self.head, &next.encode(), version) {
                Swap::Done => return Ok(()),
                Swap::Raced => {}
                Swap::Refused => return Err(Refused),
            }
        }
        Err(Refused)
    }

    /// Becomes the one VM that polls the feed until `until_ms` (monotonic), unless another one is. Two at once would only
    /// be a waste.
    pub fn lease(&self, owner: u64, now_ms: u64, until_ms: u64) -> bool {
        let found = host::shared_get(&self.lease);
        let held = found.value.first_chunk::<16>().map(|held| u128::from_le_bytes(*held));
        let of = |owner: u64, until_ms: u64| u128::from(owner) << 64 | u128::from(until_ms);
        if held.is_some_and(|held| held >> 64 != u128::from(owner) && held & u128::from(u64::MAX) > u128::from(now_ms))
        {
            return false;
        }
        host::shared_set(&self.lease, &of(owner, until_ms).to_le_bytes(), found.version) == Swap::Done
    }

    /// Lets another VM poll the feed.
    pub fn release_lease(&self, owner: u64) {
        self.lease(owner, 0, 0);
    }

    /// What marks the fetches of this gateway.
    pub fn secret(&self) -> Option<u128> {
        Self::drawn(&self.secret)
    }

    /// What the group knows this gateway by, as long as its process lives.
    pub fn name(&self) -> Option<u64> {
        Self::drawn(&self.name).and_then(|name| u64::try_from(name >> 64).ok())
    }

    /// A random number that all VMs share; made by whoever needs it first.
    fn drawn(key: &str) -> Option<u128> {
        for _ in 0..STORE_TRIES {
            let found = host::shared_get(key);
            if let Some(secret) = found.value.first_chunk::<16>() {
                return Some(u128::from_le_bytes(*secret));
            }
            let secret = u128::from(random()) << 64 | u128::from(random());
            match host::shared_set(key, &secret.to_le_bytes(), found.version) {
                Swap::Done => return Some(secret),
                Swap::Raced => {}
                Swap::Refused => return None,
            }
        }
        None
    }

    /// Changes who refreshes what; `None` if that can't be told, and then nobody does.
    pub fn refreshing<T>(&self, key: u64, change: impl Fn(&mut refresh::Leases) -> T) -> Option<T> {
        let place = self.refresh_key(key.checked_rem(REFRESH_TABLES).unwrap_or_default());
        swap(&place, refresh::Leases::decode, refresh::Leases::encode, change)
    }

    /// A worker wants to fetch a key; see [`Leases::claim`]. Where shared data refuses, each worker fetches for itself.
    pub fn claim(&self, key: u64, owner: u64, queue: Option<u32>, now_ms: u64) -> Claim {
        self.swap_leases(key, |leases| leases.claim(key, owner, queue, now_ms)).unwrap_or(Claim::Full)
    }

    /// A fetch is over; see [`Leases::end`].
    pub fn end_lease(&self, key: u64, end: End) -> Vec<u32> {
        self.swap_leases(key, |leases| leases.end(key, end)).unwrap_or_default()
    }

    /// A fetch has failed; see [`Leases::fail`].
    pub fn fails_again(&self, key: u64, now_ms: u64) -> bool {
        self.swap_leases(key, |leases| leases.fail(key, now_ms)).unwrap_or(false)
    }

    /// A fetch goes on; whether this worker still holds its lease.
    pub fn renew_lease(&self, key: u64, owner: u64, now_ms: u64) -> bool {
        self.swap_leases(key, |leases| leases.renew(key, owner, now_ms)).unwrap_or(false)
    }

    fn swap_leases<T>(&self, key: u64, change: impl Fn(&mut Leases) -> T) -> Option<T> {
        swap(&self.bucket_key(leases::bucket(key)), Leases::decode, Leases::encode, change)
    }

    /// Changes how many fetches the workers have under way; `None` where shared data refuses.
    pub fn swap_permits<T>(&self, change: impl Fn(&mut Permits) -> T) -> Option<T> {
        swap(&self.permits, Permits::decode, Permits::encode, change)
    }

    /// Changes who warms the gateway; `None` where shared data refuses.
    pub fn warming<T>(&self, change: impl Fn(&mut warm::Claim) -> T) -> Option<T> {
        swap(&self.warm, warm::Claim::decode, warm::Claim::encode, change)
    }

    fn bucket_key(&self, bucket: u16) -> String {
        format!("{}flights/{bucket}", self.prefix)
    }

    /// The entry that the gateway tier holds for a key's hash, if there is one that decodes.
    pub fn entry(&self, hash: u64) -> Option<Entry> {
        let segment = self.layout.segment(hash);
        let key = self.index_key(segment);
        let mut index = host::shared_get(&key);
        let slot = Index::find(self.layout, &index.value, hash)?;
        let content = host::shared_get(&self.slot_key(segment, slot.number)).value;
        let entry = gateway_tier::entry_in(&slot, &content)?;
        if Index::touch(self.layout, &mut index.value, hash) {
            host::shared_set(&key, &index.value, index.version); // a use that is lost to a race is no loss
        }
        Some(entry)
    }

    /// Keeps an entry. A cache may forget, so that a race lost too often, or a host that refuses, is no error.
    pub fn keep(&self, hash: u64, entry: &Entry, now_ms: u64) {
        self.keep_with(hash, entry, now_ms, None);
    }

    /// The same of an entry that is made of the one that is kept for this key, if there is one: none is lost that two workers
    /// keep at once. Returns it.
    pub fn keep_with(&self, hash: u64, entry: &Entry, now_ms: u64, merge: Option<&Merge<'_>>) -> Option<Entry> {
        let segment = self.layout.segment(hash);
        let key = self.index_key(segment);
        for tried in 1..=STORE_TRIES {
            let found = host::shared_get(&key);
            let mut merged = None;
            if let Some((merge, slot)) = merge.zip(Index::find(self.layout, &found.value, hash)) {
                let content = host::shared_get(&self.slot_key(segment, slot.number)).value;
                match gateway_tier::entry_in(&slot, &content) {
                    Some(held) => merged = merge(&held),
                    // It is being written.
                    None if tried < STORE_TRIES => continue,
                    None => {}
                }
            }
            let entry = merged.as_ref().unwrap_or(entry);
            let bytes = u64::try_from(entry.bytes().len()).unwrap_or(u64::MAX);
            let mut index = Index::decode(self.layout, &found.value, now_ms);
            let Admission::Place { slot, emptied } = index.admit(hash, entry.ticket(), bytes) else { return merged };
            match host::shared_set(&key, &index.encode(), found.version) {
                Swap::Done => {
                    emptied.iter().for_each(|slot| self.write(segment, slot, None));
                    self.write(segment, &slot, Some(entry));
                    return merged;
                }
                Swap::Raced => {}
                Swap::Refused => return merged,
            }
        }
        None
    }

    /// Puts an entry of the same size in the place of one that the tier holds, if it still does; else what it holds instead.
    pub fn exchange(&self, old: &Entry, new: &Entry) -> Option<Entry> {
        let hash = hash_of(old.key());
        let segment = self.layout.segment(hash);
        let slot = Index::find(self.layout, &host::shared_get(&self.index_key(segment)).value, hash)?;
        let key = self.slot_key(segment, slot.number);
        let found = host::shared_get(&key);
        let held = gateway_tier::entry_in(&slot, &found.value)?;
        if held.received_ms() != old.received_ms() || held.bytes().len() != new.bytes().len() {
            return Some(held);
        }
        host::shared_set(&key, &gateway_tier::slot_bytes(&slot, Some(new)), found.version); // a lost race is no loss
        None
    }

    fn write(&self, segment: u16, slot: &Slot, entry: Option<&Entry>) {
        let key = self.slot_key(segment, slot.number);
        for _ in 0..STORE_TRIES {
            let found = host::shared_get(&key);
            if !gateway_tier::may_overwrite(slot, &found.value)
                || host::shared_set(&key, &gateway_tier::slot_bytes(slot, entry), found.version) != Swap::Raced
            {
                return;
            }
        }
    }

    fn refresh_key(&self, table: u64) -> String {
        format!("{}refresh/{table}", self.prefix)
    }

    fn index_key(&self, segment: u16) -> String {
        format!("{}{segment}", self.prefix)
    }

    fn slot_key(&self, segment: u16, slot: u16) -> String {
        format!("{}{segment}/{slot}", self.prefix)
    }
}
