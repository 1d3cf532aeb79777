//! The words of the rules language: which fields each map has.

/// The fields of one kind of map.
pub(crate) struct Words {
    /// Its own.
    pub(crate) own: &'static [&'static str],
    /// The maps below, with the fields under which they stand: a field is easily written a level too high.
    pub(crate) below: &'static [(&'static str, &'static Words)],
}

impl Words {
    /// The field below which `name` is one.
    pub(crate) fn place_of(&self, name: &str) -> Option<&'static str> {
        self.below.iter().find(|(_, words)| words.own.contains(&name)).map(|(field, _)| *field)
    }
}

/// The file itself.
pub(crate) const ROOT: Words = Words {
    own: &[
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
pub(crate) const NAMESPACE: Words = Words { own: &["prefix", "version"], below: &[] };

/// `bridge`.
pub(crate) const BRIDGE: Words = Words { own: &["cluster", "timeout", "token_env", "seal"], below: &[("seal", &SEAL)] };

/// `bridge.seal`.
pub(crate) const SEAL: Words = Words { own: &["env", "accept_unsealed"], below: &[] };

/// `limits`.
pub(crate) const LIMITS: Words = Words {
    own: &["l0_bytes", "l1_bytes", "body_bytes_max", "waiters", "fills", "recache_concurrency", "recache_rate"],
    below: &[],
};

/// `consistency`.
pub(crate) const CONSISTENCY: Words = Words { own: &["window", "on_feed_loss"], below: &[] };

/// `purge` of the whole file.
pub(crate) const PURGE: Words = Words { own: &["timeout", "acknowledge"], below: &[] };

/// `background`.
pub(crate) const BACKGROUND: Words = Words { own: &["cluster", "concurrency", "timeout"], below: &[] };

/// `warm` that is a map.
pub(crate) const WARM: Words = Words { own: &["urls", "on_reload"], below: &[("an item of `urls`", &WARM_URL)] };

/// One of its URLs that is a map.
pub(crate) const WARM_URL: Words = Words { own: &["url", "headers"], below: &[] };

/// An item of `routes`.
pub(crate) const ROUTE: Words = Words {
    own: &["name", "match", "mode", "cache", "purge", "recache"],
    below: &[("match", &MATCH), ("cache", &CACHE), ("purge", &ROUTE_PURGE), ("an item of `recache`", &RECACHE)],
};

/// An item of `recache`.
pub(crate) const RECACHE: Words = Words { own: &["route", "include", "rename", "set", "each"], below: &[] };

/// A value of `each`.
pub(crate) const EACH: Words = Words { own: &["json", "request_json", "tag"], below: &[] };

/// `match`.
pub(crate) const MATCH: Words =
    Words { own: &["methods", "host", "path", "header", "query", "cookie", "json"], below: &[] };

/// `cache`.
pub(crate) const CACHE: Words = Words {
    own: &[
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
        "origin",
    ],
    below: &[
        ("query", &QUERY),
        ("identity", &IDENTITY),
        ("ttl", &TTL),
        ("when", &RESPONSE_TESTS),
        ("bypass", &REQUEST_TESTS),
        ("early", &EARLY),
        ("origin", &ORIGIN),
    ],
};

/// `cache.origin`.
pub(crate) const ORIGIN: Words = Words { own: &["cluster", "rewrites"], below: &[] };

/// `cache.early` that is a map.
pub(crate) const EARLY: Words = Words { own: &["within", "probabilistic"], below: &[] };

/// `cache.query`.
pub(crate) const QUERY: Words = Words { own: &["include", "exclude", "strip"], below: &[] };

/// `cache.identity`.
pub(crate) const IDENTITY: Words = Words { own: &["header", "cookie", "claim", "payload"], below: &[] };

/// `cache.when` and `cache.unless`.
pub(crate) const RESPONSE_TESTS: Words = Words { own: &["status", "header", "json", "slower_than"], below: &[] };

/// `cache.bypass`.
pub(crate) const REQUEST_TESTS: Words = Words { own: &["header", "query", "cookie", "json"], below: &[] };

/// `purge` of a rule.
pub(crate) const ROUTE_PURGE: Words = Words { own: &["tags", "soft"], below: &[] };

/// A tag that is a map.
pub(crate) const TAG: Words = Words { own: &["header", "json", "request_json", "as"], below: &[] };

/// A `ttl` that is a map.
pub(crate) const TTL: Words = Words { own: &["header", "json", "default"], below: &[] };

/// An item of `resources`.
pub(crate) const RESOURCE: Words = Words { own: &["id", "host", "ttl", "reads", "writes"], below: &[] };

/// A write of a resource.
pub(crate) const RESOURCE_WRITE: Words = Words { own: &["path", "methods", "tags"], below: &[] };
