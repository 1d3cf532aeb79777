//! The fields, map by map.

use super::{Field, Map, Shape};
use crate::vocabulary::{
    BACKGROUND, BRIDGE, CACHE, CONSISTENCY, EARLY, LIMITS, MATCH, NAMESPACE, PURGE, QUERY, ROOT as ROOT_WORDS, ROUTE,
    ROUTE_PURGE, TAG,
};

const NAME: Shape = Shape::Text("a name: letters, digits, `.`, `_` and `-`, at most 64", "^[A-Za-z0-9._-]{1,64}$");
const TEMPLATE: Shape = Shape::Text("a template", "^.{1,1024}$");
const TAG_TEMPLATE: Shape = Shape::Text("a template", "^[^!].{0,1023}$");
const FIELD_NAME: Shape = Shape::Text("the name of a header field", "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$");
const PARAMETER: Shape = Shape::Text("the name of a query parameter", "");
const METHOD: Shape = Shape::Text("a method, in capitals", "^[A-Z]+(-[A-Z]+)*$");
const STATUS: &str = "^([2-5]xx|[2-5][0-9][0-9])$";
const BUCKET: &str = "^[A-Za-z][A-Za-z0-9_-]{0,63}$";
const DIRECTIVES: Shape = Shape::Word(&["distrust", "honour"]);

/// The file itself.
pub(super) const ROOT: Map = Map {
    path: "",
    about: "A file of rules: YAML, or the same as JSON. Only `routes` must be there.",
    words: &ROOT_WORDS,
    one_of: &[],
    fields: &[
        Field::new("version", Shape::Exactly(1), "The version of the rules language.", "version: 1").default("1"),
        Field::new(
            "namespace",
            Shape::Map(&NAMESPACE_MAP),
            "Stands in front of every key and tag, so that several services, or several versions of one, share a store \
             without meeting.",
            "namespace: { prefix: shop, version: v3 }",
        ),
        Field::new(
            "ttl",
            Shape::Named("the name of a bucket, beginning with a letter", BUCKET, &Shape::Lifetime),
            "Lifetimes by name: *buckets*. `short` (30s), `default` (5m) and `long` (1h) are always there and can be given \
             other lifetimes here; any other name is a bucket of your own. `CACHE_TTL_SHORT`, `CACHE_TTL_DEFAULT` and \
             `CACHE_TTL_LONG` in the environment win over the file.",
            "ttl: { short: 10s, catalog: 6h }",
        ),
        Field::new(
            "bridge",
            Shape::Map(&BRIDGE_MAP),
            "Where the group's store is reached.",
            "bridge: { cluster: routecache-bridge, timeout: 50ms }",
        )
        .otherwise("this gateway stands alone: nothing is shared with others"),
        Field::new("limits", Shape::Map(&LIMITS_MAP), "Budgets.", "limits: { l1_bytes: 256MiB, body_bytes_max: 2MiB }"),
        Field::new(
            "consistency",
            Shape::Map(&CONSISTENCY_MAP),
            "How soon a purge on one gateway counts on the others.",
            "consistency: { window: 2s }",
        ),
        Field::new("purge", Shape::Map(&PURGE_MAP), "How writes wait for their purges.", "purge: { timeout: 500ms }"),
        Field::new(
            "background",
            Shape::Any(&[Shape::OnOff, Shape::Map(&BACKGROUND_MAP)]),
            "Whether, and how, the filter fetches by itself: to refresh what is stale or soon will be, and to ask about it \
             while a client waits. [refreshing.md](refreshing.md) tells what it needs of the gateway.",
            "background: { concurrency: 4 }",
        )
        .otherwise("`on`"),
        Field::new(
            "client_directives",
            DIRECTIVES,
            "Whether `Cache-Control` and `Pragma` of *requests* count, for every rule that doesn't say otherwise. With \
             `honour` any client can make any request reach the origin.",
            "client_directives: honour",
        )
        .default("distrust"),
        Field::new(
            "routes",
            Shape::List(&Shape::Map(&ROUTE_MAP), 1, usize::MAX),
            "The rules. A read is answered by the most specific cache rule that matches it (a host before none, then segment by \
             segment literal text before a capture before the rest); order only breaks ties. Of purge rules *all* that match a \
             write apply.",
            "routes: [{ name: menu, match: { path: /menu }, cache: {} }]",
        )
        .needed(),
    ],
};

const NAMESPACE_MAP: Map = Map {
    path: "namespace",
    about: "Two services with one namespace and one store would answer each other's requests.",
    words: &NAMESPACE,
    one_of: &[],
    fields: &[
        Field::new("prefix", NAME, "The service. `CACHE_PREFIX` in the environment wins.", "prefix: shop").default("svc"),
        Field::new(
            "version",
            NAME,
            "Another version is another cache: change it, and everything stored is out of reach. `CACHE_VERSION` in the \
             environment wins.",
            "version: v3",
        )
        .default("v1"),
    ],
};

const BRIDGE_MAP: Map = Map {
    path: "bridge",
    about: "With a bridge, gateways share what they fetched and hear of each other's purges.",
    words: &BRIDGE,
    one_of: &[],
    fields: &[
        Field::new(
            "cluster",
            Shape::Text("a name", "^[!-~]{1,256}$"),
            "The name that the gateway gives the cluster in which the bridge is.",
            "cluster: routecache-bridge",
        )
        .needed(),
        Field::new(
            "timeout",
            Shape::Duration("1ms", "10s"),
            "How long a read that this gateway can't answer waits for the group's store before it goes to the origin.",
            "timeout: 20ms",
        )
        .default("50ms"),
    ],
};

const BACKGROUND_MAP: Map = Map {
    path: "background",
    about: "Fetches take the way of any request: through the gateway's own listener, its filters and routes.",
    words: &BACKGROUND,
    one_of: &[],
    fields: &[
        Field::new(
            "cluster",
            Shape::Text("a name", "^[!-~]{1,256}$"),
            "The name of the cluster that leads to the gateway's own listener. Without such a cluster nothing is fetched.",
            "cluster: own-listener",
        )
        .default("routecache-self"),
        Field::new(
            "concurrency",
            Shape::Number("1", "1024"),
            "How many refreshes may be under way at a time in *each* worker; the others wait.",
            "concurrency: 4",
        )
        .default("16"),
        Field::new(
            "timeout",
            Shape::Duration("1ms", "5m"),
            "How long one may take. A client that waits for it gets what is stale, where that may be, or is forwarded.",
            "timeout: 5s",
        )
        .default("15s"),
    ],
};

const LIMITS_MAP: Map = Map {
    path: "limits",
    about: "A body must fit into a quarter of the gateway tier.",
    words: &LIMITS,
    one_of: &[],
    fields: &[
        Field::new(
            "l0_bytes",
            Shape::Size("64KiB", "512MiB"),
            "Memory of *each* worker for what it answers most (the worker tier).",
            "l0_bytes: 16MiB",
        )
        .default("8MiB"),
        Field::new(
            "l1_bytes",
            Shape::Size("1MiB", "16GiB"),
            "Memory that all workers of a gateway share (the gateway tier).",
            "l1_bytes: 256MiB",
        )
        .default("64MiB"),
        Field::new(
            "body_bytes_max",
            Shape::Size("1KiB", "16MiB"),
            "The longest response body that is stored.",
            "body_bytes_max: 2MiB",
        )
        .default("1MiB"),
    ],
};

const CONSISTENCY_MAP: Map = Map {
    path: "consistency",
    about: "A purge is heard by the gateway that made it before the write's response is released; this is about the others.",
    words: &CONSISTENCY,
    one_of: &[],
    fields: &[
        Field::new(
            "window",
            Shape::Duration("100ms", "60s"),
            "The longest that another gateway may still serve what was purged; typically it takes milliseconds. A gateway that \
             hasn't heard of the group for longer stops trusting what it holds.",
            "window: 2s",
        )
        .default("1s"),
    ],
};

const PURGE_MAP: Map = Map {
    path: "purge",
    about: "For the whole file; what a write purges is told below `routes[].purge`.",
    words: &PURGE,
    one_of: &[],
    fields: &[Field::new(
        "timeout",
        Shape::Duration("1ms", "10s"),
        "How long the response to a write waits for the group to acknowledge its purge. Then it is released with \
             `detail=purge-pending`, and the purge is sent again until it is acknowledged.",
        "timeout: 500ms",
    )
    .default("250ms")],
};

const ROUTE_MAP: Map = Map {
    path: "routes[]",
    about: "A rule either caches reads or purges after writes.",
    words: &ROUTE,
    one_of: &["cache", "purge"],
    fields: &[
        Field::new(
            "name",
            NAME,
            "Unique in the file. It is part of the keys, so renaming a rule empties it.",
            "name: order-list",
        )
        .needed(),
        Field::new(
            "match",
            Shape::Map(&MATCH_MAP),
            "Which requests the rule is for.",
            "match: { methods: [GET], host: api.example.com, path: \"/users/{user_id}\" }",
        )
        .needed(),
        Field::new(
            "cache",
            Shape::Map(&CACHE_MAP),
            "How their responses are stored and reused; `{}` takes every default.",
            "cache: { ttl: 5m, tags: [users] }",
        ),
        Field::new(
            "purge",
            Shape::Map(&ROUTE_PURGE_MAP),
            "What they purge when they succeed.",
            "purge: { tags: [users] }",
        ),
    ],
};

const MATCH_MAP: Map = Map {
    path: "routes[].match",
    about: "A request must fit every field that is given.",
    words: &MATCH,
    one_of: &[],
    fields: &[
        Field::new(
            "methods",
            Shape::List(&METHOD, 1, usize::MAX),
            "The methods. A cache rule answers `GET` and `HEAD`.",
            "methods: [GET]",
        )
        .otherwise("`[GET, HEAD]` in a cache rule, `[POST, PUT, PATCH, DELETE]` in a purge rule"),
        Field::new(
            "host",
            Shape::Text("a host name without port", "^[^:/ ]+$|^\\[[0-9A-Fa-f:.]+\\]$"),
            "The host, in any letter case.",
            "host: api.example.com",
        )
        .otherwise("every host"),
        Field::new(
            "path",
            Shape::Text("a path template", "^/[^?#\\s]*$"),
            "The path. `{name}` captures a segment, or the rest of one (`/files/{name}.json`); `{*name}` at the end captures the \
             rest of the path.",
            "path: \"/users/{user_id}/orders\"",
        )
        .needed(),
    ],
};

const CACHE_MAP: Map = Map {
    path: "routes[].cache",
    about: "[caching.md](caching.md) tells how the fields about HTTP caching work together.",
    words: &CACHE,
    one_of: &[],
    fields: &[
        Field::new(
            "key",
            Shape::Any(&[TEMPLATE, Shape::List(&TEMPLATE, 1, usize::MAX)]),
            "What names a response, beside namespace, rule, scheme, host and the selected query: a template, or a list of them, \
             which is joined with `:`. It must hold every capture of the path.",
            "key: \"user:{user_id}:orders:{query.page|default(1)}\"",
        )
        .otherwise("the path"),
        Field::new(
            "query",
            Shape::Map(&QUERY_MAP),
            "Which query parameters are part of the key. Their order never matters.",
            "query: { include: [page, size] }",
        )
        .otherwise("every parameter"),
        Field::new(
            "ttl",
            Shape::Ttl,
            "The freshness lifetime where the origin gives none: a bucket or a duration. It applies to the statuses 200, 203, 204, \
             300, 301 and 308. With `0s` nothing is stored unless the origin gives a lifetime.",
            "ttl: catalog",
        )
        .default("default"),
        Field::new(
            "ttl_by_status",
            Shape::Named("a status that can be stored, or a class such as `5xx`", STATUS, &Shape::Ttl),
            "Lifetimes for single statuses and for classes; a status counts before its class.",
            "ttl_by_status: { 404: short, 5xx: 0s }",
        )
        .otherwise("statuses that `ttl` doesn't apply to are stored only if the origin gives a lifetime"),
        Field::new(
            "origin_cache_control",
            Shape::Word(&["respect", "override", "ignore"]),
            "Whether the origin's own words decide (`respect`), the rule's lifetimes do and everything else of the origin's counts \
             (`override`), or nothing of the origin's counts but `private` and `no-store` (`ignore`).",
            "origin_cache_control: override",
        )
        .default("respect"),
        Field::new(
            "override",
            Shape::List(&Shape::Word(&["private", "no-store"]), 0, 2),
            "Prohibitions of the origin's that aren't heard. Spell them out only if you know that the response is for everybody.",
            "override: [no-store]",
        )
        .default("[]"),
        Field::new(
            "heuristics",
            Shape::OnOff,
            "Whether `Last-Modified` gives a lifetime where the origin gives no other: a tenth of the time since then, at most a \
             day (RFC 9111 §4.2.2). Only with `origin_cache_control: respect`.",
            "heuristics: on",
        )
        .default("off"),
        Field::new(
            "targeted",
            Shape::List(&FIELD_NAME, 0, 16),
            "Targeted fields (RFC 9213) that speak to this cache in place of `Cache-Control`; the first that is there counts. All \
             but `cdn-cache-control` are hidden from clients.",
            "targeted: [shop-cache-control, cdn-cache-control]",
        )
        .default("[cdn-cache-control]"),
        Field::new(
            "tags",
            Shape::List(&Shape::Any(&[TAG_TEMPLATE, Shape::Map(&TAG_MAP)]), 1, 32),
            "What purges can name: templates of captures, query parameters and host, and response fields whose words are tags. \
             Every entry also has tags for its URL, host, rule and everything.",
            "tags: [\"user:{user_id}\", orders, { header: surrogate-key }]",
        )
        .otherwise("the key's template is the tag"),
        Field::new(
            "vary",
            Shape::List(&FIELD_NAME, 0, 16),
            "Request fields that are part of the key whatever the response's `Vary` says.",
            "vary: [x-tenant]",
        )
        .default("[]"),
        Field::new(
            "normalize",
            Shape::List(&Shape::Word(&["accept-encoding", "accept-language"]), 0, 2),
            "Request fields of preferences that are brought into one order and letter case before they are compared, so that `en, \
             de` and `de,EN` share a response.",
            "normalize: [accept-language]",
        )
        .default("[]"),
        Field::new(
            "stale_if_error",
            Shape::Ttl,
            "How long after it went stale a response may stand in for a 500, 502, 503 or 504, where it doesn't say itself.",
            "stale_if_error: 10m",
        )
        .default("0s"),
        Field::new(
            "stale_while_revalidate",
            Shape::Ttl,
            "How long after it went stale a response may still answer, at once, while it is refreshed behind the client; where it \
             doesn't say itself.",
            "stale_while_revalidate: 30s",
        )
        .default("0s"),
        Field::new(
            "early",
            Shape::Any(&[Shape::Ttl, Shape::Map(&EARLY_MAP)]),
            "From so long before it goes stale on, a response is refreshed behind the first client that gets it.",
            "early: 60s",
        )
        .default("0s"),
        Field::new(
            "revalidate_after",
            Shape::Ttl,
            "So long after it was stored, or last asked about, a response is refreshed behind the first client that gets it, \
             however fresh it is.",
            "revalidate_after: 2m",
        )
        .otherwise("never while it is fresh"),
        Field::new(
            "client_directives",
            DIRECTIVES,
            "Whether `Cache-Control` and `Pragma` of requests count in this rule.",
            "client_directives: honour",
        )
        .otherwise("what the file says"),
        Field::new(
            "client_cache_control",
            Shape::Any(&[Shape::Word(&["keep", "no-cache"]), Shape::Ttl]),
            "What browsers are told, which no purge reaches: what the origin says (`keep`), to ask every time (`no-cache`), or to \
             keep it for so long.",
            "client_cache_control: no-cache",
        )
        .default("keep"),
        Field::new(
            "range_miss",
            Shape::Word(&["forward", "whole"]),
            "What becomes of a request for a part of something that isn't stored: it is forwarded, and the part isn't stored; or \
             the whole is asked for, stored, and shown.",
            "range_miss: whole",
        )
        .default("forward"),
        Field::new(
            "cookies",
            Shape::Word(&["respect", "ignore", "share"]),
            "What cookies mean: a request with `Cookie` bypasses the cache and a response with `Set-Cookie` isn't stored \
             (`respect`); `Cookie` doesn't matter (`ignore`); or neither matters where the origin gives a lifetime, so that one \
             client's `Set-Cookie` reaches all (`share`).",
            "cookies: ignore",
        )
        .default("respect"),
    ],
};

const EARLY_MAP: Map = Map {
    path: "routes[].cache.early",
    about: "When a response is refreshed before it goes stale.",
    words: &EARLY,
    one_of: &[],
    fields: &[
        Field::new("within", Shape::Ttl, "From so long before on.", "within: 60s").needed(),
        Field::new(
            "probabilistic",
            Shape::OnOff,
            "Whether chance decides which client's request triggers it: the likelier, the nearer the end and the longer the \
             origin takes (XFetch). So gateways that know nothing of each other seldom do it at the same time.",
            "probabilistic: on",
        )
        .default("off"),
    ],
};

const QUERY_MAP: Map = Map {
    path: "routes[].cache.query",
    about: "Another spelling that some origin may take for a selected parameter (`PAGE=2`, `p%61ge=2`, `page[]=2`) counts as well.",
    words: &QUERY,
    one_of: &[],
    fields: &[
        Field::new(
            "include",
            Shape::List(&PARAMETER, 0, 64),
            "The parameters that count; all others don't, so that `?utm_source=mail` shares the response. `[]`: none counts.",
            "include: [page, size]",
        )
        .otherwise("every parameter"),
    ],
};

const TAG_MAP: Map = Map {
    path: "routes[].cache.tags[]",
    about: "A tag that the response names.",
    words: &TAG,
    one_of: &[],
    fields: &[Field::new(
        "header",
        FIELD_NAME,
        "A response field whose words are tags, separated by spaces or commas. It is hidden from clients.",
        "header: surrogate-key",
    )
    .needed()],
};

const ROUTE_PURGE_MAP: Map = Map {
    path: "routes[].purge",
    about: "A write that succeeds (a final status below 400) purges these, and whatever answers its own URL, before its response \
            is released.",
    words: &ROUTE_PURGE,
    one_of: &[],
    fields: &[Field::new(
        "tags",
        Shape::List(&TAG_TEMPLATE, 1, 32),
        "The tags. One that can't be filled, because the request lacks a value, purges everything rather than nothing.",
        "tags: [\"user:{user_id}\", users]",
    )
    .needed()],
};
