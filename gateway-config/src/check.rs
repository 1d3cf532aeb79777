//! From the tree to a [`Policy`]: the file as a whole. Rules are checked in [`crate::rule`].

use routecache_core::policy::{Background, Bridge, ClientDirectives, Limits, Mode, Namespace, Policy, Seal};

use crate::Environment;
use crate::lock;
use crate::mistake::{Mistake, Wanted, What};
use crate::resources;
use crate::rule::{self, Defaults};
use crate::terms;
use crate::tree::{Kind, Node, shorten};
use crate::ttl::Buckets;
use crate::vocabulary::{BACKGROUND, BRIDGE, CONSISTENCY, LIMITS, NAMESPACE, PURGE, ROOT, SEAL};
use crate::walk::{At, Fields, Found, Range};

/// A lookup at the bridge is short: it delays the request that waits for it. 0 would mean "for ever" to a host.
const BRIDGE_TIMEOUT: Range = Range { low: (1, "`1ms`"), high: (10_000, "`10s`") };
const BRIDGE_TIMEOUT_DEFAULT_MS: u32 = 50;

/// Below a tenth of a second the feed would be polled without pause; beyond a minute nobody would call it consistent.
const WINDOW: Range = Range { low: (100, "`100ms`"), high: (60_000, "`60s`") };
const WINDOW_DEFAULT_MS: u32 = 1000;

/// How long the response to a write may wait for the group.
const PURGE_TIMEOUT: Range = Range { low: (1, "`1ms`"), high: (10_000, "`10s`") };
const PURGE_TIMEOUT_DEFAULT_MS: u32 = 250;

/// Fetches behind the clients: the cluster that `routecache render` writes, and how much of them the origin can take.
const BACKGROUND_CLUSTER: &str = "routecache-self";
const BACKGROUND_CONCURRENCY: Range = Range { low: (1, "`1`"), high: (1024, "`1024`") };
const BACKGROUND_CONCURRENCY_DEFAULT: usize = 16;
const BACKGROUND_TIMEOUT: Range = Range { low: (1, "`1ms`"), high: (300_000, "`5m`") };
const BACKGROUND_TIMEOUT_DEFAULT_MS: u32 = 15_000;

/// What writes may ask of the origin.
const RECACHE_CONCURRENCY: Range = Range { low: (1, "`1`"), high: (256, "`256`") };
const RECACHE_RATE: Range = Range { low: (1, "`1`"), high: (10_000, "`10000`") };

/// The worker tier lives in a VM's memory, of which hosts give at most 1 GiB.
const L0_BYTES: Range = Range { low: (64 << 10, "`64KiB`"), high: (512 << 20, "`512MiB`") };

/// The gateway tier lives in the gateway's own memory.
const L1_BYTES: Range = Range { low: (1 << 20, "`1MiB`"), high: (16 << 30, "`16GiB`") };

/// A host passes at most 32 MiB from the bridge to the filter, in one piece.
const BODY_BYTES: Range = Range { low: (1 << 10, "`1KiB`"), high: (16 << 20, "`16MiB`") };

/// Checks everything; a policy comes out only when nothing is wrong.
pub(crate) fn policy(root: &Node, env: Environment<'_>) -> Result<Policy, Vec<Mistake>> {
    let mut found = Found::default();
    let root = &*resources::expanded(root, &mut found);
    let policy = At::root(root).fields(&ROOT, &mut found).map(|fields| whole(&fields, env, &mut found));
    match policy {
        Some(policy) if found.mistakes.is_empty() => Ok(policy),
        _ => Err(found.mistakes),
    }
}

fn whole(fields: &Fields<'_>, env: Environment<'_>, found: &mut Found) -> Policy {
    if let Some(version) = fields.get("version") {
        check_version(version, found);
    }
    let buckets = Buckets::read(fields.get("ttl"), env, found);
    let client_directives =
        terms::client_directives(fields.get("client_directives"), found).unwrap_or(ClientDirectives::Distrust);
    let limits = fields.get("limits").and_then(|at| limits(at, found)).unwrap_or_default();
    let mode = fields.get("mode").and_then(|at| rule::mode(at, found)).unwrap_or(Mode::On);
    let grouped = fields.get("bridge").is_some();
    let background = background(fields.get("background"), found);
    let fetches = background.is_some();
    let defaults = Defaults { buckets: &buckets, client_directives, limits: &limits, mode, grouped, fetches };
    let (window_ms, serves_unheard) = consistency(fields.get("consistency"), found);
    let (purge_timeout_ms, purge_heard) = purge(fields.get("purge"), window_ms, found);
    let namespace = namespace(fields.get("namespace"), env, found);
    let bridge = fields.get("bridge").and_then(|at| bridge(at, found));
    let rules = rule::all(fields, &defaults, found);
    Policy {
        namespace,
        bridge,
        background,
        warm: crate::warm::read(fields, &rules, found),
        limits,
        window_ms,
        serves_unheard,
        purge_timeout_ms,
        purge_heard,
        rules,
    }
}

/// The window, and whether what is held is served when the feed hasn't been heard for longer.
fn consistency(at: Option<&At<'_>>, found: &mut Found) -> (u32, bool) {
    let Some(fields) = at.and_then(|at| at.fields(&CONSISTENCY, found)) else { return (WINDOW_DEFAULT_MS, false) };
    let window_ms = fields.get("window").and_then(|at| at.duration_ms(&WINDOW, found));
    let serves = fields.get("on_feed_loss").and_then(|at| terms::on_feed_loss(at, found));
    (window_ms.unwrap_or(WINDOW_DEFAULT_MS), serves.unwrap_or(false))
}

/// How long a write's response waits, and whether for every gateway: by default so long that a gateway which is gone trusts
/// nothing any longer.
fn purge(at: Option<&At<'_>>, window_ms: u32, found: &mut Found) -> (u32, bool) {
    let Some(fields) = at.and_then(|at| at.fields(&PURGE, found)) else { return (PURGE_TIMEOUT_DEFAULT_MS, false) };
    let timeout_ms = fields.get("timeout").and_then(|at| at.duration_ms(&PURGE_TIMEOUT, found));
    let heard = fields.get("acknowledge").and_then(|at| terms::acknowledge(at, found)).unwrap_or(false);
    let default_ms = if heard { PURGE_TIMEOUT_DEFAULT_MS.saturating_add(window_ms) } else { PURGE_TIMEOUT_DEFAULT_MS };
    (timeout_ms.unwrap_or(default_ms), heard)
}

fn check_version(at: &At<'_>, found: &mut Found) {
    match &at.node.kind {
        Kind::Integer(1) => {}
        Kind::Integer(_) | Kind::Float(_) => found.add(at, What::UnknownVersion(at.said())),
        _ => at.wanted(Wanted::Version, found),
    }
}

/// The environment wins, so that one file serves every stage of a deployment.
fn namespace(at: Option<&At<'_>>, env: Environment<'_>, found: &mut Found) -> Namespace {
    let fields = at.and_then(|at| at.fields(&NAMESPACE, found));
    let mut word = |field: &str, variable: &str, default: &str| {
        let at = fields.as_ref().and_then(|fields| fields.get(field));
        let written = at.and_then(|at| {
            let text = at.text(found)?;
            word_or_mistake(text, at.said()).map_err(|what| found.add(at, what)).ok()
        });
        let given = env(variable).and_then(|text| {
            let said = format!("{variable}={}", shorten(&text));
            word_or_mistake(&text, said).map_err(|what| found.add_environment(what)).ok()
        });
        given.or(written).unwrap_or_else(|| default.to_owned())
    };
    Namespace { prefix: word("prefix", "CACHE_PREFIX", "svc"), version: word("version", "CACHE_VERSION", "v1") }
}

/// A short name that can stand between separators in keys, headers and metrics.
pub(crate) fn word_or_mistake(text: &str, said: String) -> Result<String, What> {
    const CHARS_MAX: usize = 64;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > CHARS_MAX || !text.bytes().all(fits) {
        return Err(What::BadWord { said, chars_max: CHARS_MAX });
    }
    Ok(text.to_owned())
}

fn bridge(at: &At<'_>, found: &mut Found) -> Option<Bridge> {
    let fields = at.fields(&BRIDGE, found)?;
    let timeout = fields.get("timeout").and_then(|at| at.duration_ms(&BRIDGE_TIMEOUT, found));
    let name = cluster(fields.need("cluster", "cluster: routecache-bridge", found)?, found)?;
    let token_env = fields.get("token_env").and_then(|at| variable(at, found));
    let seal = fields.get("seal").and_then(|at| seal(at, found));
    Some(Bridge { cluster: name, timeout_ms: timeout.unwrap_or(BRIDGE_TIMEOUT_DEFAULT_MS), token_env, seal })
}

/// How entries are sealed in the group.
fn seal(at: &At<'_>, found: &mut Found) -> Option<Seal> {
    let fields = at.fields(&SEAL, found)?;
    let list = fields.need("env", "env: [ROUTECACHE_SEAL]", found)?;
    let items = list.items(found)?;
    if items.is_empty() {
        found.add(list, What::EmptyList("env"));
    }
    let mut env: Vec<String> = Vec::new();
    for item in &items {
        let Some(name) = variable(item, found) else { continue };
        if env.contains(&name) {
            found.add(item, What::Twice(name.clone()));
        }
        env.push(name);
    }
    let accept_unsealed = fields.get("accept_unsealed").and_then(|at| terms::on_off(at, found)).unwrap_or(false);
    Some(Seal { env, accept_unsealed })
}

/// The name of a variable of the environment.
fn variable(at: &At<'_>, found: &mut Found) -> Option<String> {
    const BYTES_MAX: usize = 128;
    let name = at.text(found)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty()
        || name.len() > BYTES_MAX
        || name.as_bytes().first().is_some_and(u8::is_ascii_digit)
        || !name.bytes().all(fits)
    {
        found.add(at, What::BadVariable);
        return None;
    }
    Some(name.to_owned())
}

/// The name of a cluster.
pub(crate) fn cluster(at: &At<'_>, found: &mut Found) -> Option<String> {
    /// Envoy's own limit is far higher; longer than this is a slip.
    const BYTES_MAX: usize = 256;
    let name = at.text(found)?;
    if name.is_empty() || name.len() > BYTES_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        found.add(at, What::BadCluster { said: at.said() });
        return None;
    }
    Some(name.to_owned())
}

/// `background: off`, or how to do it.
fn background(at: Option<&At<'_>>, found: &mut Found) -> Option<Background> {
    let default = Background {
        cluster: BACKGROUND_CLUSTER.to_owned(),
        concurrency: BACKGROUND_CONCURRENCY_DEFAULT,
        timeout_ms: BACKGROUND_TIMEOUT_DEFAULT_MS,
    };
    let Some(at) = at else { return Some(default) };
    if !matches!(at.node.kind, Kind::Map(_)) {
        return terms::on_off(at, found)?.then_some(default);
    }
    let fields = at.fields(&BACKGROUND, found)?;
    let concurrency = fields.get("concurrency").and_then(|at| at.number(&BACKGROUND_CONCURRENCY, found));
    Some(Background {
        cluster: fields.get("cluster").and_then(|at| cluster(at, found)).unwrap_or(default.cluster),
        concurrency: concurrency.and_then(|number| usize::try_from(number).ok()).unwrap_or(default.concurrency),
        timeout_ms: fields
            .get("timeout")
            .and_then(|at| at.duration_ms(&BACKGROUND_TIMEOUT, found))
            .unwrap_or(default.timeout_ms),
    })
}

fn limits(at: &At<'_>, found: &mut Found) -> Option<Limits> {
    let fields = at.fields(&LIMITS, found)?;
    let default = Limits::default();
    let mistakes_before = found.mistakes.len();
    let mut size = |name: &str, range: &Range, default: u64| {
        fields.get(name).and_then(|at| at.size_bytes(range, found)).unwrap_or(default)
    };
    let (l0_bytes, l1_bytes) =
        (size("l0_bytes", &L0_BYTES, default.l0_bytes), size("l1_bytes", &L1_BYTES, default.l1_bytes));
    let body_bytes_max = size("body_bytes_max", &BODY_BYTES, default.body_bytes_max);
    let (waiters, fills) = lock::of_limits(&fields, found);
    let limits = Limits {
        l0_bytes,
        l1_bytes,
        body_bytes_max,
        waiters,
        fills,
        recache_concurrency: fields
            .get("recache_concurrency")
            .and_then(|at| usize::try_from(at.number(&RECACHE_CONCURRENCY, found)?).ok())
            .unwrap_or(default.recache_concurrency),
        recache_rate: fields
            .get("recache_rate")
            .and_then(|at| u32::try_from(at.number(&RECACHE_RATE, found)?).ok())
            .unwrap_or(default.recache_rate),
    };
    if found.mistakes.len() == mistakes_before && limits.body_bytes_max > limits.l1_bytes / 4 {
        // Either may be a default; whichever was written is shown.
        let written = fields.get("body_bytes_max").or(fields.get("l1_bytes")).unwrap_or(&fields.at);
        found.add(written, What::BodyTooLarge { body: limits.body_bytes_max, l1: limits.l1_bytes });
    }
    Some(limits)
}

/// The longest body that one rule stores.
pub(crate) fn body_bytes(at: &At<'_>, limits: &Limits, found: &mut Found) -> Option<u64> {
    let body = at.size_bytes(&BODY_BYTES, found)?;
    if body > limits.l1_bytes / 4 {
        found.add(at, What::BodyTooLarge { body, l1: limits.l1_bytes });
    }
    Some(body)
}
