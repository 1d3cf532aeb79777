//! The fields, map by map.

use super::{Field, Map, Shape};
use crate::vocabulary::{
    BACKGROUND, BRIDGE, CACHE, CONSISTENCY, EACH, EARLY, IDENTITY, LIMITS, MATCH, NAMESPACE, ORIGIN, PURGE, QUERY,
    RECACHE, REQUEST_TESTS, RESOURCE, RESOURCE_WRITE, RESPONSE_TESTS, ROOT as ROOT_WORDS, ROUTE, ROUTE_PURGE, SEAL,
    TAG, TTL, WARM, WARM_URL,
};

const NAME: Shape = Shape::Text("a name: letters, digits, `.`, `_` and `-`, at most 64", "^[A-Za-z0-9._-]{1,64}$");
const TEMPLATE: Shape = Shape::Text("a template", "^.{1,1024}$");
const TAG_TEMPLATE: Shape = Shape::Text("a template", "^[^!].{0,1023}$");
const FIELD_NAME: Shape = Shape::Text("the name of a header field", "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$");
const VALUE: Shape = Shape::Text("a value", "");
const WHOLE: Shape = Shape::Number("0", "9007199254740992");
const PARAMETER: Shape = Shape::Text("the name of a query parameter, in which `*` stands for anything", "");
const POINTER: Shape = Shape::Text("a JSON pointer, in which `*` stands for every member", "^/");
const ITEM_TEMPLATE: Shape = Shape::Text("a template with `{}`, where each value goes", "\\{\\}");
/// What a value is compared with.
const TEST: Shape = Shape::Any(&[TESTED, Shape::List(&TESTED, 1, 64), Shape::OnOff]);
const TESTED: Shape =
    Shape::Any(&[Shape::Text("a text in which `*` stands for anything", ""), Shape::Number("0", "9007199254740992")]);
const STATUSES: Shape = Shape::Any(&[STATUS_SHAPE, Shape::List(&STATUS_SHAPE, 1, usize::MAX)]);
const STATUS_SHAPE: Shape =
    Shape::Any(&[Shape::Number("200", "599"), Shape::Text("a class of statuses such as `5xx`", STATUS)]);
const HEADER_TESTS: Shape = Shape::Named("the name of a header field", "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$", &TEST);
const QUERY_TESTS: Shape = Shape::Named("the name of a query parameter", "", &TEST);
const COOKIE_TESTS: Shape = Shape::Named("the name of a cookie", "", &TEST);
const JSON_TESTS: Shape = Shape::Named("a JSON pointer", "^/", &TEST);
const MODE: Shape = Shape::OnOff;
const METHOD: Shape = Shape::Text("a method, in capitals", "^[A-Z]+(-[A-Z]+)*$");
const URL: Shape = Shape::Text("a URL with a path, as clients ask for it", "^https?://[^/?#@]+/[^#\\s]*$");
const URLS: Shape = Shape::List(&Shape::Any(&[URL, Shape::Map(&WARM_URL_MAP)]), 0, 1024);
const STATUS: &str = "^([2-5]xx|[2-5][0-9][0-9])$";
const BUCKET: &str = "^[A-Za-z][A-Za-z0-9_-]{0,63}$";
const DIRECTIVES: Shape = Shape::Word(&["distrust", "honour"]);

/// The file itself.
pub(super) const ROOT: Map = Map {
    path: "",
    about: "A file of rules: YAML, or the same as JSON. Only `routes` or `resources` must be there.",
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
            "warm",
            Shape::Any(&[URLS, Shape::Map(&WARM_MAP)]),
            "What is read once per gateway behind its start, so that the first clients find it.",
            "warm: [\"https://shop.example/menus/1\"]",
        )
        .default("[]"),
        Field::new(
            "client_directives",
            DIRECTIVES,
            "Whether `Cache-Control` and `Pragma` of *requests* count, for every rule that doesn't say otherwise. With \
             `honour` any client can make any request reach the origin.",
            "client_directives: honour",
        )
        .default("distrust"),
        Field::new(
            "mode",
            MODE,
            "`off`: nothing is answered from the cache or stored, by any rule. Purges go on, so that nothing is out of date when \
             it is `on` again.",
            "mode: off",
        )
        .default("on"),
        Field::new(
            "resources",
            Shape::Named("the name of a resource", "^[A-Za-z0-9._-]{1,64}$", &Shape::Map(&RESOURCE_MAP)),
            "A short way to write the rules of something that is read and written under one id. `routecache explain --expand` \
             shows them as plain rules.",
            "resources: { user: { id: user_id, reads: { profile: { path: \"/users/{user_id}/profile\" } }, writes: [{ path: \"/users/{user_id}\" }] } }",
        ),
        Field::new(
            "routes",
            Shape::List(&Shape::Map(&ROUTE_MAP), 1, usize::MAX),
            "The rules. A read is answered by the most specific cache rule that matches it (a host before none, then segment by \
             segment literal text before a capture before the rest); order only breaks ties. Of purge rules *all* that match a \
             write apply.",
            "routes: [{ name: menu, match: { path: /menu }, cache: {} }]",
        )
        .otherwise("`resources` must be there"),
    ],
};

const RESOURCE_MAP: Map = Map {
    path: "resources.*",
    about: "Each read is a cache rule `<resource>-<read>` with the key `<resource>:{id}:<read>` and the tag `<resource>:{id}`; a \
            read whose path doesn't capture the id is a list, with the tag `<resource>`. Each write purges both.",
    words: &RESOURCE,
    one_of: &[],
    fields: &[
        Field::new(
            "id",
            Shape::Text("the name of a capture", "^[A-Za-z_][A-Za-z0-9_]*$"),
            "The capture that tells one from another.",
            "id: user_id",
        )
        .needed(),
        Field::new(
            "host",
            Shape::Text("a host name without port, or `*.` and what it ends in", ""),
            "The host of every rule.",
            "host: api.example.com",
        )
        .otherwise("every host"),
        Field::new("ttl", Shape::Ttl, "The `ttl` of every read that doesn't say.", "ttl: long").otherwise("`default`"),
        Field::new(
            "reads",
            Shape::Named("the name of a read", "^[A-Za-z0-9._-]{1,64}$", &Shape::Fields),
            "Reads by name: `path`, `methods`, `suffix` (in place of the name in the key), and any field of `cache`; its `tags` are \
             added to the resource's.",
            "reads: { profile: { path: \"/users/{user_id}/profile\", ttl: short } }",
        ),
        Field::new(
            "writes",
            Shape::List(&Shape::Map(&RESOURCE_WRITE_MAP), 0, usize::MAX),
            "What changes them.",
            "writes: [{ methods: [PUT, DELETE], path: \"/users/{user_id}\" }]",
        ),
    ],
};

const RESOURCE_WRITE_MAP: Map = Map {
    path: "resources.*.writes[]",
    about: "A write purges the one that its path names, and the lists.",
    words: &RESOURCE_WRITE,
    one_of: &[],
    fields: &[
        Field::new("path", Shape::Text("a path template", "^/"), "The path.", "path: \"/users/{user_id}/avatar\"")
            .needed(),
        Field::new("methods", Shape::List(&METHOD, 1, usize::MAX), "The methods.", "methods: [PUT]")
            .otherwise("`[POST, PUT, PATCH, DELETE]`"),
        Field::new(
            "tags",
            Shape::List(&TAG_TEMPLATE, 0, usize::MAX),
            "What it purges beside the resource's own tags.",
            "tags: [ranking]",
        ),
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
        Field::new(
            "token_env",
            Shape::Text("a variable's name", "^[A-Za-z_][A-Za-z0-9_]{0,127}$"),
            "The variable of the VM's environment that holds the token which the bridge wants. Rules whose variable isn't set are \
             refused by the filter.",
            "token_env: ROUTECACHE_TOKEN",
        )
        .otherwise("no token"),
        Field::new(
            "seal",
            Shape::Map(&SEAL_MAP),
            "Entries are sealed in the group's store, so that whoever can write there can't make a gateway serve what no gateway has \
             stored (docs/sealing.md).",
            "seal: { env: [ROUTECACHE_SEAL] }",
        )
        .otherwise("nothing is sealed, and seals aren't read"),
    ],
};

const SEAL_MAP: Map = Map {
    path: "bridge.seal",
    about: "Secrets come from the VM's environment, 32 bytes or more in hexadecimal each (`openssl rand -hex 32`). Rules whose \
            variables aren't set so are refused by the filter.",
    words: &SEAL,
    one_of: &[],
    fields: &[
        Field::new(
            "env",
            Shape::List(&Shape::Text("a variable's name", "^[A-Za-z_][A-Za-z0-9_]{0,127}$"), 1, usize::MAX),
            "The variables that hold the secrets. The first seals, any opens: a new secret comes in as the last, and becomes the \
             first once every gateway has it.",
            "env: [ROUTECACHE_SEAL, ROUTECACHE_SEAL_BEFORE]",
        )
        .needed(),
        Field::new(
            "accept_unsealed",
            Shape::OnOff,
            "Whether an entry without a seal is taken too, while not every gateway seals yet. Otherwise it is a miss.",
            "accept_unsealed: on",
        )
        .default("off"),
    ],
};

const WARM_MAP: Map = Map {
    path: "warm",
    about: "One worker of the gateway reads the list, through the gateway's own listener (`background`), as soon as it hears \
            its bridge. What the group has stored isn't asked of the origin. At most `limits.recache_concurrency` reads are under way, and \
            `limits.recache_rate` begin in a second.",
    words: &WARM,
    one_of: &[],
    fields: &[
        Field::new("urls", URLS, "The list.", "urls: [\"https://shop.example/menus/1\"]").needed(),
        Field::new("on_reload", Shape::OnOff, "Whether each change of the rules has it read again.", "on_reload: on")
            .default("off"),
    ],
};

const WARM_URL_MAP: Map = Map {
    path: "warm.urls[]",
    about: "A read with fields of its own, for one of several responses that `Vary` tells apart.",
    words: &WARM_URL,
    one_of: &[],
    fields: &[
        Field::new("url", URL, "The URL.", "url: https://shop.example/menus/1").needed(),
        Field::new(
            "headers",
            Shape::Named(
                "the name of a header field",
                "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$",
                &Shape::Any(&[Shape::Text("a value", "^[!-~]([ -~]{0,1022}[!-~])?$"), WHOLE]),
            ),
            "Fields of the request, at most 16. None that belongs to the message or its way (`host`, `connection`, `range`, `if-*`, \
             `cache-control`, `x-forwarded-*`, …), and none that says who asks (`cookie`, `authorization`, `x-api-key`, …), unless \
             the rule that answers has an `identity` made of it.",
            "headers: { accept-language: de }",
        )
        .default("{}"),
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
        Field::new(
            "recache_concurrency",
            Shape::Number("1", "256"),
            "How many reads that `recache` asks for, or `warm` lists, may be under way at a time in each worker; the others wait.",
            "recache_concurrency: 8",
        )
        .default("4"),
        Field::new(
            "recache_rate",
            Shape::Number("1", "10000"),
            "How many of them may begin in a second in each worker.",
            "recache_rate: 10",
        )
        .default("50"),
        Field::new(
            "waiters",
            Shape::Number("1", "100000"),
            "How many requests of *each* worker may wait for what others fetch, or for their turn to fetch. One more goes to the \
             origin at once.",
            "waiters: 1000",
        )
        .default("4096"),
        Field::new(
            "fills",
            Shape::Number("1", "100000"),
            "How many fetches all workers of a gateway may have under way together, of responses that may be stored. The others \
             wait for their turn, at most `lock_wait`. Refreshes have a limit of their own, `background.concurrency`.",
            "fills: 100",
        )
        .otherwise("as many as are asked for"),
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
        Field::new(
            "on_feed_loss",
            Shape::Word(&["bypass", "serve"]),
            "What becomes of what a gateway holds when it hasn't heard of the group for longer than the window. `serve`: it goes on \
             answering, and purges made elsewhere meanwhile aren't seen until the feed is back, at the longest until the \
             response's lifetime ends.",
            "on_feed_loss: serve",
        )
        .default("bypass"),
    ],
};

const PURGE_MAP: Map = Map {
    path: "purge",
    about: "For the whole file; what a write purges is told below `routes[].purge`.",
    words: &PURGE,
    one_of: &[],
    fields: &[
        Field::new(
            "timeout",
            Shape::Duration("1ms", "10s"),
            "How long the response to a write waits for the group to acknowledge its purge. Then it is released with \
             `detail=purge-pending`, and the purge is sent again until it is acknowledged. With `acknowledge: group` it is as long \
             as `consistency.window` longer where nothing is said.",
            "timeout: 500ms",
        )
        .default("250ms"),
        Field::new(
            "acknowledge",
            Shape::Word(&["bridge", "group"]),
            "`group`: the response to a write waits until every gateway of the group has heard of its purge, so that whoever reads \
             after it sees it, wherever they read. A gateway that is gone is waited for until it has heard nothing for its \
             window: then it trusts nothing that it holds. If `timeout` is over before, the response says \
             `detail=purge-pending`; the purge stands all the same.",
            "acknowledge: group",
        )
        .default("bridge"),
    ],
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
            "mode",
            Shape::Any(&[Shape::Word(&["failover"]), MODE]),
            "`off`: a purge rule doesn't purge; what a cache rule would answer goes to the origin, and less specific rules don't \
             answer it either. `failover`: a cache rule answers only when the origin fails (5xx, a broken connection, a timeout), \
             with what is fresh or within `stale_if_error`.",
            "mode: failover",
        )
        .default("on"),
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
        Field::new(
            "recache",
            Shape::List(&Shape::Map(&RECACHE_MAP), 0, 64),
            "What is read again behind the writer's response, so that the next reader finds it. Only beside `purge`. The reads go \
             through the gateway's own listener (`background`) and carry nothing of who wrote: no cookie, no credential.",
            "recache: [{ route: order-list, include: [user_id] }]",
        )
        .default("[]"),
    ],
};

const RECACHE_MAP: Map = Map {
    path: "routes[].recache[]",
    about: "A read of another rule. Names are captures of a path, or query parameters as `query.page`. Where the write lacks a \
            value, that read is left out.",
    words: &RECACHE,
    one_of: &[],
    fields: &[
        Field::new("route", NAME, "The name of the cache rule.", "route: menu").needed(),
        Field::new(
            "include",
            Shape::List(&Shape::Text("a capture or `query.…`", ""), 0, usize::MAX),
            "Values of the write that have the same name in the other rule.",
            "include: [query.page]",
        )
        .otherwise("none"),
        Field::new(
            "rename",
            Shape::Named(
                "a capture of this path, or `query.…`",
                "",
                &Shape::Text("a capture of the other path, or `query.…`", ""),
            ),
            "The same for values that have another name there.",
            "rename: { query.size: query.page_size }",
        )
        .default("{}"),
        Field::new(
            "set",
            Shape::Named(
                "a capture of the other path, or `query.…`",
                "",
                &Shape::Any(&[VALUE, WHOLE, Shape::List(&Shape::Any(&[VALUE, WHOLE]), 1, 64)]),
            ),
            "Values of its own. Of several values each makes a read.",
            "set: { query.page: [\"1\", \"2\"] }",
        )
        .default("{}"),
        Field::new(
            "each",
            Shape::Named("a capture of the other path, or `query.…`; one", "", &Shape::Map(&EACH_MAP)),
            "Values that the write names: each makes a read.",
            "each: { query.page: { json: \"/pages/*\" } }",
        )
        .otherwise("none"),
    ],
};

const EACH_MAP: Map = Map {
    path: "routes[].recache[].each.*",
    about: "Where the values are. Of a body that can't be read (compressed, longer than 64 KiB, no JSON), or of more than 128 values, \
            none is taken.",
    words: &EACH,
    one_of: &["json", "request_json", "tag"],
    fields: &[
        Field::new(
            "json",
            POINTER,
            "In the body of the write's response, which is held until it is whole. In Envoy its header is too, with \
             `allow_on_headers_stop_iteration: true` at the filter.",
            "json: \"/items/*/id\"",
        )
        .otherwise("none"),
        Field::new("request_json", POINTER, "In the body of the write.", "request_json: \"/ids/*\"").otherwise("none"),
        Field::new(
            "tag",
            Shape::Text("a tag with `{}` where the value is", "^[^{}]*\\{\\}[^{}]*$"),
            "Among the tags that the write purges.",
            "tag: \"user:{}\"",
        )
        .otherwise("none"),
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
            "The methods. A cache rule answers `GET` and `HEAD`, or `POST` if its key holds `{body}`: then the body of each request \
             is read before it is answered, which in Envoy needs `allow_on_headers_stop_iteration: true` at the filter.",
            "methods: [GET]",
        )
        .otherwise("`[GET, HEAD]` in a cache rule, `[POST, PUT, PATCH, DELETE]` in a purge rule"),
        Field::new(
            "host",
            Shape::Text("a host name without port, or `*.` and what it ends in", "^[^:/ ]+$|^\\[[0-9A-Fa-f:.]+\\]$"),
            "The host, in any letter case; `*.example.com` is every host below.",
            "host: \"*.example.com\"",
        )
        .otherwise("every host"),
        Field::new(
            "path",
            Shape::Text("a path template", "^/([^?#\\s]|\\{[^/]*:re\\(.*\\)\\})*$"),
            "The path. `{name}` captures a segment, or the rest of one (`/files/{name}.json`); `{*name}` at the end captures the \
             rest of the path. Behind a colon stands what the value must be: `{id:int}`, `hex`, `uuid`, `slug`, or a pattern as in \
             `{lang:re([a-z]{2})}`; another value doesn't match.",
            "path: \"/users/{user_id}/orders\"",
        )
        .needed(),
        Field::new(
            "header",
            HEADER_TESTS,
            "Request fields: a text (`*` stands for anything), a list of which one must fit, `on` for there, `off` for not there. \
             More conditions are more specific.",
            "header: { x-tenant: acme, x-debug: off }",
        ),
        Field::new("query", QUERY_TESTS, "Query parameters, likewise.", "query: { format: [json, \"json-*\"] }"),
        Field::new("cookie", COOKIE_TESTS, "Cookies, likewise.", "cookie: { beta: on }"),
        Field::new(
            "json",
            JSON_TESTS,
            "Values in the body, likewise, of a cache rule for `POST`. A body that isn't JSON doesn't match.",
            "json: { /query: \"query*\" }",
        ),
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
            Shape::Any(&[Shape::Ttl, Shape::Map(&TTL_MAP)]),
            "The freshness lifetime where the origin gives none: a bucket, a duration, or a place in the response. It applies to the statuses 200, 203, 204, \
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
            "What purges can name: templates, and values in the response. A response in which those can't be read isn't stored. \
             Every entry also has tags for its URL, host, rule and everything.",
            "tags: [\"user:{user_id}\", { header: surrogate-key }, { json: \"/items/*/id\", as: \"order:{}\" }]",
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
            "sliding",
            Shape::OnOff,
            "Whether a hit renews a lifetime that the rule gave (the origin's isn't stretched). What is used stays, until it is \
             purged; `revalidate_after` bounds that.",
            "sliding: on",
        )
        .default("off"),
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
            "no_vary_search",
            Shape::Word(&["ignore", "respect"]),
            "What `No-Vary-Search` of a response counts for: nothing; or the response answers requests whose queries differ only \
             in parameters that it says don't matter. A write to one of its URLs then purges what is stored for that path, \
             whatever the query.",
            "no_vary_search: respect",
        )
        .default("ignore"),
        Field::new(
            "cookies",
            Shape::Word(&["respect", "ignore", "share"]),
            "What cookies mean: a request with `Cookie` bypasses the cache and a response with `Set-Cookie` isn't stored \
             (`respect`); `Cookie` doesn't matter (`ignore`); or neither matters where the origin gives a lifetime, so that one \
             client's `Set-Cookie` reaches all (`share`).",
            "cookies: ignore",
        )
        .default("respect"),
        Field::new(
            "lock",
            Shape::Word(&["off", "worker", "gateway", "group"]),
            "How far it reaches that a request waits for the same one that is being fetched already, instead of fetching it too: \
             not at all, or within a worker, a gateway, or the group. \
             [collapsed-requests.md](collapsed-requests.md) tells how.",
            "lock: gateway",
        )
        .otherwise("`group` with a bridge, `gateway` without"),
        Field::new(
            "lock_wait",
            Shape::Duration("10ms", "60s"),
            "How long a request waits for another one's fetch, or for its turn to fetch, at most. Then it goes to the origin by itself.",
            "lock_wait: 2s",
        )
        .default("5s"),
        Field::new(
            "protect_origin",
            Shape::OnOff,
            "Whether a request that has waited in vain, or comes just after the origin failed, gets a 503 with `Retry-After` \
             instead of going to the origin.",
            "protect_origin: on",
        )
        .default("off"),
        Field::new(
            "origin",
            Shape::Map(&ORIGIN_MAP),
            "Has what the filter fetches by itself (refreshes, revalidations, `recache`, `warm`) go straight to a cluster, past \
             filters and route.",
            "origin: { cluster: orders, rewrites: none }",
        )
        .otherwise("it goes through the gateway's own listener (`background`)"),
        Field::new(
            "identity",
            Shape::Map(&IDENTITY_MAP),
            "Whose response it is: part of the key, as a digest. Requests that say who they are that way may then be answered from \
             the cache, each client its own; those that don't bypass it.",
            "identity: { header: authorization }",
        )
        .otherwise("responses are for everybody, and requests with credentials bypass the cache"),
        Field::new(
            "jitter",
            Shape::Text("a share from `0%` to `90%`", "^([0-9]|[1-8][0-9]|90)%$"),
            "How much of a lifetime may be cut off by chance, so that what was stored together doesn't go stale together.",
            "jitter: 10%",
        )
        .default("0%"),
        Field::new(
            "when",
            Shape::Map(&WHEN_MAP),
            "What a response must be to be stored: all of it.",
            "when: { status: [200, 404], slower_than: 20ms, header: { x-cacheable: \"yes\" } }",
        ),
        Field::new(
            "unless",
            Shape::Map(&WHEN_MAP),
            "What a response must not be: any of it keeps it out.",
            "unless: { json: { /errors: on, \"/errors/*/message\": on } }",
        ),
        Field::new(
            "min_uses",
            Shape::Number("1", "100"),
            "How often a worker must have been asked for something lately before it is stored.",
            "min_uses: 2",
        )
        .default("1"),
        Field::new(
            "bypass",
            Shape::Map(&BYPASS_MAP),
            "Requests that the cache neither answers nor stores: any of it.",
            "bypass: { header: { x-debug: on }, query: { preview: on } }",
        ),
        Field::new(
            "body_bytes_max",
            Shape::Size("1KiB", "16MiB"),
            "The longest body that this rule stores.",
            "body_bytes_max: 256KiB",
        )
        .otherwise("what `limits` says"),
    ],
};

const IDENTITY_MAP: Map = Map {
    path: "routes[].cache.identity",
    about: "Exactly one of `header`, `cookie` and `claim`.",
    words: &IDENTITY,
    one_of: &["header", "cookie", "claim"],
    fields: &[
        Field::new("header", FIELD_NAME, "Whoever sends this value of a field.", "header: authorization"),
        Field::new(
            "cookie",
            Shape::Text("the name of a cookie", ""),
            "Whoever sends this value of a cookie.",
            "cookie: session",
        ),
        Field::new(
            "claim",
            Shape::Text("the name of a claim", ""),
            "Whoever the token is about that Envoy's `jwt_authn` has verified in front of this filter. A token that nobody has \
             verified is nobody's. The claim must be a text.",
            "claim: sub",
        ),
        Field::new(
            "payload",
            Shape::Text("a name", ""),
            "Where `jwt_authn` keeps the claims: its `payload_in_metadata`. Only with `claim`.",
            "payload: verified",
        )
        .otherwise("`jwt_payload`"),
    ],
};

const TTL_MAP: Map = Map {
    path: "routes[].cache.ttl",
    about: "A whole number of seconds in the response; one that is there and isn't a number keeps the response out. Exactly one of \
            `header` and `json`.",
    words: &TTL,
    one_of: &["header", "json"],
    fields: &[
        Field::new("header", FIELD_NAME, "A response field.", "header: x-ttl"),
        Field::new("json", POINTER, "A value in the response's body.", "json: /meta/ttl"),
        Field::new("default", Shape::Ttl, "Where the response doesn't say.", "default: short")
            .otherwise("the bucket `default`"),
    ],
};

const WHEN_MAP: Map = Map {
    path: "routes[].cache.when",
    about: "Of `when` all must hold, of `unless` none may.",
    words: &RESPONSE_TESTS,
    one_of: &[],
    fields: &[
        Field::new("status", STATUSES, "A status, or a list of which one must fit.", "status: [200, 4xx]"),
        Field::new(
            "header",
            HEADER_TESTS,
            "Response fields: a text (`*` stands for anything), a list of which one must fit, `on` for there, `off` for not there.",
            "header: { x-cacheable: \"yes\" }",
        ),
        Field::new(
            "json",
            JSON_TESTS,
            "Values in the response's body, likewise. A body that isn't JSON isn't stored.",
            "json: { /state: done }",
        ),
        Field::new(
            "slower_than",
            Shape::Duration("1ms", "1h"),
            "The origin took longer than this.",
            "slower_than: 20ms",
        ),
    ],
};

const BYPASS_MAP: Map = Map {
    path: "routes[].cache.bypass",
    about: "Conditions as in `match`. A body that can't be read counts as fitting.",
    words: &REQUEST_TESTS,
    one_of: &[],
    fields: &[
        Field::new("header", HEADER_TESTS, "Request fields.", "header: { x-debug: on }"),
        Field::new("query", QUERY_TESTS, "Query parameters.", "query: { preview: \"1\" }"),
        Field::new("cookie", COOKIE_TESTS, "Cookies.", "cookie: { editor: on }"),
        Field::new("json", JSON_TESTS, "Values in the body, in a rule for `POST`.", "json: { /query: \"*mutation*\" }"),
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

const ORIGIN_MAP: Map = Map {
    path: "routes[].cache.origin",
    about: "The cluster gets what the client sent as this filter saw it, so what stands between the filter and the cluster must leave \
            it alone, and the response too. Neither key, tags nor identity may be made of what the gateway alone knows: claims, \
            metadata, `client.address`.",
    words: &ORIGIN,
    one_of: &[],
    fields: &[
        Field::new(
            "cluster",
            Shape::Text("a name", "^[!-~]{1,256}$"),
            "The name of the cluster to which the rule's route leads.",
            "cluster: orders",
        )
        .needed(),
        Field::new(
            "rewrites",
            Shape::Word(&["none"]),
            "That the route, and whatever else stands behind the filter, rewrites neither path nor host nor headers. It has to \
             be said: otherwise another resource's answer would be stored.",
            "rewrites: none",
        )
        .needed(),
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
        Field::new(
            "exclude",
            Shape::List(&PARAMETER, 0, 64),
            "The parameters that don't count, as they are spelled here; all others do. In place of `include`.",
            "exclude: [\"utm_*\", gclid]",
        ),
        Field::new(
            "strip",
            Shape::OnOff,
            "Whether the request is forwarded without the parameters that don't count, so that they can't change what is stored.",
            "strip: on",
        )
        .default("off"),
    ],
};

const TAG_MAP: Map = Map {
    path: "routes[].cache.tags[]",
    about: "Tags of which each is made of a value that is found. Exactly one of `header`, `json` and `request_json`.",
    words: &TAG,
    one_of: &["header", "json", "request_json"],
    fields: &[
        Field::new(
            "header",
            FIELD_NAME,
            "The words of a response field, separated by spaces or commas. Without `as` they are the tags, and the field is hidden \
             from clients.",
            "header: surrogate-key",
        ),
        Field::new("json", POINTER, "Values in the response's body.", "json: \"/items/*/id\""),
        Field::new(
            "request_json",
            POINTER,
            "Values in the request's body: of a write, or of a read by `POST`.",
            "request_json: /variables/id",
        ),
        Field::new("as", ITEM_TEMPLATE, "What is made of each value.", "as: \"order:{}\"")
            .otherwise("the value itself"),
    ],
};

const ROUTE_PURGE_MAP: Map = Map {
    path: "routes[].purge",
    about: "A write that succeeds (a final status below 400) purges these, and whatever answers its own URL, before its response \
            is released.",
    words: &ROUTE_PURGE,
    one_of: &[],
    fields: &[
        Field::new(
            "tags",
            Shape::List(&Shape::Any(&[TAG_TEMPLATE, Shape::Map(&TAG_MAP)]), 1, 32),
            "The tags. Where one can't be told, because the request lacks a value or a body can't be read, whatever could carry \
             it is purged: all entries of the rules that make such tags, or everything where none here does.",
            "tags: [\"user:{user_id}\", users, { request_json: /coupon, as: \"coupon:{}\" }]",
        )
        .needed(),
        Field::new(
            "soft",
            Shape::OnOff,
            "What carries the tags is stale from then on, instead of gone: it is asked about, and served while that goes on or fails, \
             as long as its rule's `stale_while_revalidate` and `stale_if_error` say, counted from the first such purge. Clients may get \
             what was before the write for that long. What answers the write's own URL is gone all the same, as HTTP wants it, and \
             so is everything if the write meets another rule that isn't soft.",
            "soft: true",
        )
        .default("off"),
    ],
};
