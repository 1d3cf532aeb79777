//! What the bridge counts, for Prometheus.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::store::Figures;

/// Media type of the text that Prometheus reads.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    call: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Way {
    way: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FromSource {
    source: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ToPlace {
    to: &'static str,
    outcome: &'static str,
}

/// The figures of one bridge. Cloning is cheap and gives another handle to the same.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    seconds: Family<Call, Histogram, fn() -> Histogram>,
    calls: Family<Outcome, Counter>,
    bytes: Family<Way, Counter>,
    shared: Counter,
    purged_tags: Counter,
    feed_lag: Histogram,
    events: Family<FromSource, Counter>,
    published: Family<ToPlace, Counter>,
    /// Connections now.
    pub(crate) connections: Gauge<i64, AtomicI64>,
    /// Calls under way now, held polls among them.
    pub(crate) under_way: Gauge<i64, AtomicI64>,
    store: StoreGauges,
}

/// The store's figures, as of the last time they were asked for.
#[derive(Clone, Default)]
struct StoreGauges {
    up: Gauge,
    breaker_open: Gauge,
    under_way: Gauge,
    reconnects: Counter,
    timeouts: Counter,
    errors: Counter,
    round_trips: Counter,
    bytes: Gauge,
    packed_from: Counter,
    packed_to: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("routecache_bridge");
        // From 50 µs to 1.6 s; a held poll is longer, and its length is no latency.
        let seconds =
            Family::new_with_constructor((|| Histogram::new(exponential_buckets(50e-6, 2.0, 16))) as fn() -> Histogram);
        let calls = Family::default();
        let bytes = Family::default();
        let shared = Counter::default();
        let purged_tags = Counter::default();
        let feed_lag = Histogram::new(exponential_buckets(1e-3, 2.0, 15));
        let events = Family::default();
        let published = Family::default();
        let connections = Gauge::default();
        let under_way = Gauge::default();
        let store = StoreGauges::default();
        registry.register_with_unit(
            "call_duration",
            "How long calls take, but for held polls",
            Unit::Seconds,
            seconds.clone(),
        );
        registry.register("calls", "Calls by what came of them", Family::clone(&calls));
        registry.register_with_unit("payload", "Bytes of entries, in and out", Unit::Bytes, Family::clone(&bytes));
        registry.register(
            "shared_lookups",
            "Lookups that another's call to the store answered",
            Counter::clone(&shared),
        );
        registry.register("purged_tags", "Tags that were purged", Counter::clone(&purged_tags));
        registry.register_with_unit(
            "feed_lag",
            "How old a purge was when a gateway was told of it",
            Unit::Seconds,
            feed_lag.clone(),
        );
        registry.register("events", "Purges that came as events, by what became of them", Family::clone(&events));
        registry.register("published", "Purges told to others, by what became of that", Family::clone(&published));
        registry.register("connections", "Connections now", Gauge::clone(&connections));
        registry.register("calls_under_way", "Calls under way now, held polls among them", Gauge::clone(&under_way));
        registry.register("store_up", "Whether the store's last call succeeded", Gauge::clone(&store.up));
        registry.register(
            "store_breaker_open",
            "Whether calls fail at once until the pause ends",
            store.breaker_open.clone(),
        );
        registry.register("store_calls_under_way", "Round trips to the store under way", store.under_way.clone());
        registry.register("store_reconnects", "Connections that were given up for new ones", store.reconnects.clone());
        registry.register("store_timeouts", "Round trips that took too long", store.timeouts.clone());
        registry.register("store_errors", "Round trips that failed otherwise", store.errors.clone());
        registry.register("store_round_trips", "Round trips in all", store.round_trips.clone());
        registry.register_with_unit(
            "store_packed_from",
            "Bytes that were compressed before they were stored",
            Unit::Bytes,
            store.packed_from.clone(),
        );
        registry.register_with_unit("store_packed_to", "What they became", Unit::Bytes, store.packed_to.clone());
        registry.register("store_held_bytes", "Bytes held by mem://", store.bytes.clone());
        Self {
            registry: Arc::new(registry),
            seconds,
            calls,
            bytes,
            shared,
            purged_tags,
            feed_lag,
            events,
            published,
            connections,
            under_way,
            store,
        }
    }

    /// A call has ended; `took` is nothing for one that was held.
    pub(crate) fn ended(&self, call: &'static str, outcome: &'static str, took: Option<Duration>) {
        self.calls.get_or_create(&Outcome { call, outcome }).inc();
        if let Some(took) = took {
            self.seconds.get_or_create(&Call { call }).observe(took.as_secs_f64());
        }
    }

    /// Bytes of an entry came in.
    pub(crate) fn came(&self, bytes: usize) {
        self.bytes.get_or_create(&Way { way: "in" }).inc_by(bytes as u64);
    }

    /// Bytes of an entry went out.
    pub(crate) fn went(&self, bytes: usize) {
        self.bytes.get_or_create(&Way { way: "out" }).inc_by(bytes as u64);
    }

    /// Another's call answered a lookup.
    pub(crate) fn shared(&self) {
        self.shared.inc();
    }

    pub(crate) fn purged(&self, tags: usize) {
        self.purged_tags.inc_by(tags as u64);
    }

    pub(crate) fn fed(&self, lag: Duration) {
        self.feed_lag.observe(lag.as_secs_f64());
    }

    /// A purge came as an event.
    pub(crate) fn event(&self, source: &'static str, outcome: &'static str) {
        self.events.get_or_create(&FromSource { source, outcome }).inc();
    }

    /// A purge was told to others, or wasn't.
    pub(crate) fn published(&self, to: &'static str, outcome: &'static str) {
        self.published.get_or_create(&ToPlace { to, outcome }).inc();
    }

    /// How many calls of a kind ended in a way.
    pub(crate) fn count(&self, call: &'static str, outcome: &'static str) -> u64 {
        self.calls.get(&Outcome { call, outcome }).map_or(0, |counter| counter.get())
    }

    /// Everything as text, with what the store says of itself now.
    pub(crate) fn text(&self, figures: Figures, up: bool) -> String {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let store = &self.store;
        store.up.set(up.into());
        store.breaker_open.set(figures.breaker_open.into());
        store.under_way.set(whole(figures.under_way));
        store.reconnects.inner().store(figures.reconnects, Ordering::Relaxed);
        store.timeouts.inner().store(figures.timeouts, Ordering::Relaxed);
        store.errors.inner().store(figures.errors, Ordering::Relaxed);
        store.round_trips.inner().store(figures.round_trips, Ordering::Relaxed);
        store.packed_from.inner().store(figures.packed_from_bytes, Ordering::Relaxed);
        store.packed_to.inner().store(figures.packed_to_bytes, Ordering::Relaxed);
        store.bytes.set(whole(figures.bytes));
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = writeln!(text, "# the figures couldn't be written"); // to a String it always can
        }
        text
    }
}
