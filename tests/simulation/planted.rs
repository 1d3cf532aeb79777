//! Mistakes that are planted to show that the simulation finds them. Those in the filter are compiled into a wasm of their
//! own (feature `planted`) and chosen by the environment of its VMs; those in the store are made by the bridge of the
//! simulation.

/// A mistake of the bridge or its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the list of plants says what they are")]
pub enum Store {
    NoProbe,
    FeedGapIgnored,
    KnownIgnored,
    ReplicaReads,
    EpochZeroWhenMissing,
    CreateUnchecked,
    StoreUnderTail,
}

/// Where a mistake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the filter.
    Filter,
    /// In the bridge.
    Store(Store),
}

/// A planted mistake.
#[derive(Clone, Copy, Debug)]
pub struct Plant {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub place: Place,
    /// What is done wrong.
    pub what: &'static str,
    /// Within how many seeds it is found, from 1 on.
    pub seeds: u64,
}

const fn filter(name: &'static str, seeds: u64, what: &'static str) -> Plant {
    Plant { name, place: Place::Filter, what, seeds }
}

const fn store(name: &'static str, store: Store, seeds: u64, what: &'static str) -> Plant {
    Plant { name, place: Place::Store(store), what, seeds }
}

/// All of them.
pub const PLANTS: &[Plant] = &[
    filter("ticket_unchecked", 1000, "an entry is served whatever was purged since its ticket"),
    filter("fill_ticket_late", 1000, "a fill takes its position when it commits"),
    filter("l2_ticket_late", 1000, "what comes from the group gets the position at its arrival"),
    filter("no_ack_record", 1000, "a purge is recorded once, not again when the group acknowledges it"),
    filter("pending_ignored", 1000, "the group is asked about tags whose purge is pending"),
    filter("ring_gap", 1000, "a worker behind the ring goes on without a floor"),
    filter("vm_no_floor", 1000, "a new VM begins at the current position without a floor"),
    filter("flush_same_position", 1000, "a flush keeps era and position"),
    filter("gap_not_flushed", 1000, "a feed that lost its continuity is applied as if it joined on"),
    filter("first_no_flush", 1000, "the first cursor is set without a flush"),
    filter("cursor_apart", 1000, "the cursor moves in a change before the records"),
    filter("cursor_from_ack", 1000, "an own acknowledged position becomes the cursor"),
    filter("heard_on_arrival", 1000, "the feed counts as heard when its answer arrives"),
    filter("heard_partial", 1000, "the feed counts as heard though the answer was cut"),
    filter("feed_loss_ignored", 1000, "entries are trusted however long ago the feed was heard"),
    filter("no_known", 1000, "acknowledged positions aren't remembered"),
    filter("no_token", 1000, "lookups don't carry the newest known position"),
    filter("purge_after_release", 1000, "a write's response is released before its purge"),
    filter("not_retried", 1000, "a purge that wasn't acknowledged isn't sent again"),
    filter("unknown_outcome", 1000, "a write whose outcome nobody saw purges nothing"),
    filter("head_blind", 1000, "the head is written without comparing, from a copy"),
    filter("seq_not_healed", 1000, "a change of nothing publishes only what was heard"),
    filter("cas_ignored", 1000, "shared data is overwritten unread"),
    filter("key_uncompared", 1000, "keys are told apart by a short hash only"),
    filter("partial_stored", 1000, "a body that broke off is stored"),
    store("no_probe", Store::NoProbe, 1000, "a deposed master answers polls"),
    store("feed_gap_ignored", Store::FeedGapIgnored, 1000, "the bridge says that a feed goes on when it doesn't"),
    store("known_ignored", Store::KnownIgnored, 1000, "the bridge doesn't look for what the gateway has seen"),
    store("replica_reads", Store::ReplicaReads, 1000, "lookups are answered by a replica that lags"),
    store("epoch_zero_when_missing", Store::EpochZeroWhenMissing, 1000, "a missing epoch counts as never purged"),
    store("create_unchecked", Store::CreateUnchecked, 1000, "a missing epoch is made as old as the ticket, unproven"),
    store("store_under_tail", Store::StoreUnderTail, 1000, "an entry is stored under the log's tail of that time"),
];

/// The plant of that name.
pub fn named(name: &str) -> Option<&'static Plant> {
    PLANTS.iter().find(|plant| plant.name == name)
}
