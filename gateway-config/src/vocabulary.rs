//! The words of the rules language: which fields each map has, and which are known but not built yet.

/// The fields of one kind of map.
pub(crate) struct Words {
    /// Those that work.
    pub(crate) now: &'static [&'static str],
    /// Those that are refused with "not supported yet".
    pub(crate) later: &'static [&'static str],
    /// The maps below, with the fields under which they stand: a field is easily written a level too high.
    pub(crate) below: &'static [(&'static str, &'static Words)],
}

impl Words {
    /// Every field, built or not.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static str> {
        self.now.iter().chain(self.later).copied()
    }

    /// The field below which `name` is one.
    pub(crate) fn place_of(&self, name: &str) -> Option<&'static str> {
        self.below.iter().find(|(_, words)| words.all().any(|word| word == name)).map(|(field, _)| *field)
    }
}

/// The file itself.
pub(crate) const ROOT: Words = Words {
    now: &[
        "version",
        "namespace",
        "ttl",
        "bridge",
        "limits",
        "consistency",
        "purge",
        "background",
        "warm",
        "client_directives",
        "mode",
        "resources",
        "routes",
    ],
    later: &[],
    below: &[
        ("namespace", &NAMESPACE),
        ("bridge", &BRIDGE),
        ("limits", &LIMITS),
        ("consistency", &CONSISTENCY),
        ("purge", &PURGE),
        ("background", &BACKGROUND),
        ("warm", &WARM),
        ("an item of `routes`", &ROUTE),
        ("an item of `resources`", &RESOURCE),
    ],
};

/// `namespace`.
pub(crate) const NAMESPACE: Words = Words { now: &["prefix", "version"], later: &[], below: &[] };

/// `bridge`.
pub(crate) const BRIDGE: Words =
    Words { now: &["cluster", "timeout", "token_env", "seal"], later: &[], below: &[("seal", &SEAL)] };

/// `bridge.seal`.
pub(crate) const SEAL: Words = Words { now: &["env", "accept_unsealed"], later: &[], below: &[] };

/// `limits`.
pub(crate) const LIMITS: Words = Words {
    now: &["l0_bytes", "l1_bytes", "body_bytes_max", "waiters", "fills", "recache_concurrency", "recache_rate"],
    later: &[],
    below: &[],
};

/// `consistency`.
pub(crate) const CONSISTENCY: Words = Words { now: &["window", "on_feed_loss"], later: &[], below: &[] };

/// `purge` of the whole file.
pub(crate) const PURGE: Words = Words { now: &["timeout", "acknowledge"], later: &[], below: &[] };

/// `background`.
pub(crate) const BACKGROUND: Words = Words { now: &["cluster", "concurrency", "timeout"], later: &[], below: &[] };

/// `warm` that is a map.
pub(crate) const WARM: Words = Words { now: &["urls", "on_reload"], later: &[], below: &[] };

/// An item of `routes`.
pub(crate) const ROUTE: Words = Words {
    now: &["name", "match", "mode", "cache", "purge", "recache"],
    later: &[],
    below: &[("match", &MATCH), ("cache", &CACHE), ("purge", &ROUTE_PURGE), ("an item of `recache`", &RECACHE)],
};

/// An item of `recache`.
pub(crate) const RECACHE: Words = Words { now: &["route", "include", "rename", "set", "each"], later: &[], below: &[] };

/// A value of `each`.
pub(crate) const EACH: Words = Words { now: &["json", "request_json", "tag"], later: &[], below: &[] };

/// `match`.
pub(crate) const MATCH: Words =
    Words { now: &["methods", "host", "path", "header", "query", "cookie", "json"], later: &[], below: &[] };

/// `cache`.
pub(crate) const CACHE: Words = Words {
    now: &[
        "key",
        "query",
        "ttl",
        "ttl_by_status",
        "origin_cache_control",
        "override",
        "heuristics",
        "targeted",
        "tags",
        "vary",
        "normalize",
        "stale_if_error",
        "stale_while_revalidate",
        "early",
        "revalidate_after",
        "sliding",
        "client_directives",
        "client_cache_control",
        "range_miss",
        "no_vary_search",
        "cookies",
        "identity",
        "jitter",
        "when",
        "unless",
        "min_uses",
        "bypass",
        "body_bytes_max",
        "lock",
        "lock_wait",
        "protect_origin",
    ],
    later: &["origin"],
    below: &[
        ("query", &QUERY),
        ("identity", &IDENTITY),
        ("ttl", &TTL),
        ("when", &RESPONSE_TESTS),
        ("bypass", &REQUEST_TESTS),
        ("early", &EARLY),
    ],
};

/// `cache.early` that is a map.
pub(crate) const EARLY: Words = Words { now: &["within", "probabilistic"], later: &[], below: &[] };

/// `cache.query`.
pub(crate) const QUERY: Words = Words { now: &["include", "exclude", "strip"], later: &[], below: &[] };

/// `cache.identity`.
pub(crate) const IDENTITY: Words = Words { now: &["header", "cookie", "claim", "payload"], later: &[], below: &[] };

/// `cache.when` and `cache.unless`.
pub(crate) const RESPONSE_TESTS: Words =
    Words { now: &["status", "header", "json", "slower_than"], later: &[], below: &[] };

/// `cache.bypass`.
pub(crate) const REQUEST_TESTS: Words = Words { now: &["header", "query", "cookie", "json"], later: &[], below: &[] };

/// `purge` of a rule.
pub(crate) const ROUTE_PURGE: Words = Words { now: &["tags", "soft"], later: &[], below: &[] };

/// A tag that is a map.
pub(crate) const TAG: Words = Words { now: &["header", "json", "request_json", "as"], later: &[], below: &[] };

/// A `ttl` that is a map.
pub(crate) const TTL: Words = Words { now: &["header", "json", "default"], later: &[], below: &[] };

/// An item of `resources`.
pub(crate) const RESOURCE: Words = Words { now: &["id", "host", "ttl", "reads", "writes"], later: &[], below: &[] };

/// A write of a resource.
pub(crate) const RESOURCE_WRITE: Words = Words { now: &["path", "methods", "tags"], later: &[], below: &[] };
