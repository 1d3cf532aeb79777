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
    EpochZeroWhenMissing,
    CreateUnchecked,
    StoreUnderTail,
    Unheard,
    ClockBack,
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
    filter("ticket_unchecked", 300, "an entry is served whatever was purged since its ticket"),
    filter("fill_ticket_late", 300, "a fill takes its position when it commits"),
    filter("l2_ticket_late", 300, "what comes from the group gets the position at its arrival"),
    filter("pending_ignored", 300, "the group is asked about tags whose purge is pending"),
    filter("ring_gap", 300, "a worker behind the ring goes on without a floor"),
    filter("vm_no_floor", 300, "a new VM begins at the current position without a floor"),
    filter("flush_same_position", 300, "a flush keeps era and position"),
    filter("gap_not_flushed", 300, "a feed that lost its continuity is applied as if it joined on"),
    filter("first_no_flush", 300, "the first cursor is set without a flush"),
    filter("cursor_from_ack", 300, "an own acknowledged position becomes the cursor"),
    filter("feed_loss_ignored", 300, "entries are trusted however long ago the feed was heard"),
    filter("no_known", 300, "acknowledged positions aren't remembered"),
    filter("no_token", 300, "lookups don't carry the newest known position"),
    filter("purge_after_release", 300, "a write's response is released before its purge"),
    filter("not_retried", 300, "a purge that wasn't acknowledged isn't sent again"),
    filter("unknown_outcome", 300, "a write whose outcome nobody saw purges nothing"),
    filter("key_uncompared", 300, "keys are told apart by a short hash only"),
    filter("partial_stored", 300, "a body that broke off is stored"),
    filter("cas_ignored", 300, "shared data is overwritten unread"),
    filter("head_blind", 300, "the head is written without comparing, from a copy"),
    filter("seq_not_healed", 300, "a change of nothing publishes only what was heard"),
    filter("cursor_apart", 300, "the cursor moves in a change before the records"),
    filter("heard_on_arrival", 300, "the feed counts as heard when its answer arrives"),
    filter("heard_partial", 300, "the feed counts as heard though the answer was cut"),
    filter("no_ack_record", 300, "a purge is recorded once, not again when the group acknowledges it"),
    filter("arrival_unchecked", 300, "what the group answers isn't held against purges that are pending by then"),
    filter("wall_clock", 300, "the feed's age is counted by the wall clock"),
    filter("era_zero", 300, "a log that was lost begins again under the same era"),
    filter("purged_validated", 300, "what was purged is validated, and stands in for errors"),
    filter("renewed_late", 300, "a renewal takes its position when the origin has answered"),
    filter("checksum_unread", 300, "bytes are taken for an entry whatever their checksum"),
    filter("version_unread", 300, "bytes of another format are read as if they were of this one"),
    filter("residence_forgotten", 300, "what comes from the group is as old as when it was stored there"),
    filter("seal_unverified", 300, "a seal is taken off unread"),
    filter("ban_ignored", 300, "what a pattern means is served though it was purged by it"),
    filter("way_uncounted", 300, "what is stored in the group begins to age there when it arrives"),
    filter("private_stored", 300, "`private` doesn't keep a response out"),
    store("create_unchecked", Store::CreateUnchecked, 300, "a missing epoch is made as old as the ticket, unproven"),
    store("no_probe", Store::NoProbe, 300, "a deposed master answers polls"),
    store("feed_gap_ignored", Store::FeedGapIgnored, 300, "the bridge says that a feed goes on when it doesn't"),
    store("known_ignored", Store::KnownIgnored, 300, "the bridge doesn't look for what the gateway has seen"),
    store("epoch_zero_when_missing", Store::EpochZeroWhenMissing, 300, "a missing epoch counts as never purged"),
    filter("unheard_ignored", 300, "a write says that it purged though gateways haven't heard of it"),
    store("unheard", Store::Unheard, 300, "the bridge doesn't wait until gateways have heard"),
    store("store_clock_back", Store::ClockBack, 300, "the store's clock is believed when it is set back"),
    store("store_under_tail", Store::StoreUnderTail, 300, "an entry is stored under the log's tail of that time"),
    filter("soft_past_limit", 300, "what was purged softly is stale since somebody looks, not since the purge"),
    filter("stale_past_limit", 300, "what is stale answers for ever while it is refreshed"),
    filter("error_past_limit", 300, "what is stale stands in for an error for ever"),
    filter("lock_ignored", 300, "everybody fetches"),
    filter("refresh_each", 300, "every hit on something stale refreshes it"),
    filter("waiter_forgotten", 300, "when a fetch ends, one of those who wait isn't told"),
    filter("pass_not_remembered", 300, "what isn't for sharing is fetched by one after the other"),
    filter("fills_unbounded", 300, "fetches aren't counted"),
    filter("negative_any_status", 300, "any status is stored for the rule's lifetime"),
    filter("lease_never_ends", 300, "a worker's lease counts however long ago it was renewed"),
    filter(
        "lease_not_inherited",
        300,
        "who fetches in another's place doesn't give back the lease that it had in the group",
    ),
    filter("deadline_ignored", 300, "calls to the bridge may take twenty times as long as they may"),
    filter("breaker_never_opens", 300, "a bridge that doesn't answer is asked by every request"),
    filter("sliding_past_limit", 300, "a use renews a lifetime by four"),
    filter("sliding_past_purges", 300, "what was used is served whatever was purged since"),
    filter("revalidate_never", 300, "what was stored too long ago isn't asked about"),
    filter("early_always", 300, "what is to be refreshed early is refreshed by every use"),
    filter("recache_as_writer", 300, "what a write has read again is asked for in the writer's name"),
    filter("recache_twice", 300, "what a write has read again is asked for twice"),
    filter("recache_early", 300, "what a write has read again is asked for before the write's response is released"),
    filter("recache_unbounded", 300, "what is read again, or warmed, is asked for all at once"),
    filter("warm_again", 300, "a gateway that is warm is warmed again"),
    filter("warm_not_all", 300, "the first half of what is to be warmed isn't"),
    filter("warm_uncounted", 300, "what is warmed isn't among the fetches that are counted"),
];

/// The plant of that name.
pub fn named(name: &str) -> Option<&'static Plant> {
    PLANTS.iter().find(|plant| plant.name == name)
}
