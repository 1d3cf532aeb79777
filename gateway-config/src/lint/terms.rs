//! Lifetimes, and what is shared with whom.

use super::{Lint, RuleAt, Subject, Warning, child, entries, items, text, warning};
use crate::suggest::nearest;
use crate::tree::{Kind, shorten};
use crate::ttl::Buckets;
use crate::walk::{At, Found};

/// How long the bridge keeps anything, epochs of tags too, in seconds: a week.
pub const KEPT_SECONDS_MAX: u32 = 7 * 24 * 3600;

/// An error that is remembered for longer outlives most of their causes, in seconds.
const ERROR_SECONDS_MAX: u32 = 60;

/// See its `about`.
pub(super) const AUTHORIZATION_WITHOUT_IDENTITY: Lint = Lint {
    name: "authorization-without-identity",
    about: "A rule tells clients apart by a credential, and has no `identity`.",
    why: "A request with a credential bypasses the cache unless `identity` says how it is part of the key, or the origin says that \
          the response is for everybody. So `vary: [authorization]` alone caches nothing that it was meant for.",
    example: r#"
routes:
  - { name: me, match: { path: /me }, cache: { vary: [authorization] } }
"#,
    mended: r#"
routes:
  - { name: me, match: { path: /me }, cache: { identity: { header: authorization }, tags: [me] } }
  - { name: me-write, match: { path: /me }, purge: { tags: [me] } }
"#,
};

/// See its `about`.
pub(super) const IDENTITY_WITHOUT_TAGS: Lint = Lint {
    name: "identity-without-tags",
    about: "A rule with `identity` and without `tags`.",
    why: "The key's template is then the tag, and it doesn't hold the identity: a write of one client purges what all clients \
          have stored, and nothing purges one client's alone.",
    example: r#"
routes:
  - { name: orders, match: { path: "/users/{id}/orders" }, cache: { identity: { header: authorization } } }
"#,
    mended: r#"
routes:
  - { name: orders, match: { path: "/users/{id}/orders" }, cache: { identity: { header: authorization }, tags: ["user:{id}"] } }
  - { name: write, match: { path: "/users/{id}/orders" }, purge: { tags: ["user:{id}"] } }
"#,
};

/// See its `about`.
pub(super) const PERSONAL_PATH_SHARED: Lint = Lint {
    name: "personal-path-shared",
    about: "A path that looks personal, in a rule that ignores who asks.",
    why: "`cookies: ignore`, `cookies: share` and `override: [private]` say that a response is for everybody. A path such as `/me` or \
          `/cart` seldom is.",
    example: r#"
routes:
  - { name: cart, match: { path: /cart }, cache: { cookies: ignore } }
"#,
    mended: r#"
routes:
  - { name: cart, match: { path: /cart }, cache: { cookies: respect } }
"#,
};

/// See its `about`.
pub(super) const PRIVATE_OVERRIDDEN: Lint = Lint {
    name: "private-overridden",
    about: "A rule that doesn't hear the origin's `private`, and has no `identity`.",
    why: "The origin calls the response one client's own, and every client gets it.",
    example: r#"
routes:
  - { name: menu, match: { path: /menu }, cache: { override: [private] } }
"#,
    mended: r#"
routes:
  - { name: menu, match: { path: /menu }, cache: { override: [no-store] } }
"#,
};

/// See its `about`.
pub(super) const TTL_BEYOND_EPOCH: Lint = Lint {
    name: "ttl-beyond-epoch",
    about: "A lifetime that is longer than the group's store keeps anything.",
    why: "The bridge keeps entries, and the epochs that say when a tag was last purged, for a week at most. What lives longer is a \
          miss after that, on every gateway that doesn't hold it itself.",
    example: r#"
bridge: { cluster: store }
routes:
  - { name: logo, match: { path: /logo }, cache: { ttl: 30d } }
"#,
    mended: r#"
bridge: { cluster: store }
routes:
  - { name: logo, match: { path: /logo }, cache: { ttl: 7d } }
"#,
};

/// See its `about`.
pub(super) const LONG_LIVED_ERROR: Lint = Lint {
    name: "long-lived-error",
    about: "A server error that is kept for more than a minute.",
    why: "The origin has recovered long before its error has expired, and only a purge brings that to light.",
    example: r#"
routes:
  - { name: menu, match: { path: /menu }, cache: { ttl_by_status: { 5xx: 10m } } }
"#,
    mended: r#"
routes:
  - { name: menu, match: { path: /menu }, cache: { ttl_by_status: { 5xx: 10s } } }
"#,
};

/// See its `about`.
pub(super) const NOTHING_STORED: Lint = Lint {
    name: "nothing-stored",
    about: "A rule that stores nothing: no lifetime, and the origin isn't asked for one.",
    why: "With `origin_cache_control: override` or `ignore` the rule's lifetimes decide, and they are all `0s`.",
    example: r#"
routes:
  - { name: menu, match: { path: /menu }, cache: { ttl: 0s, origin_cache_control: ignore } }
"#,
    mended: r#"
routes:
  - { name: menu, match: { path: /menu }, cache: { ttl: 0s, origin_cache_control: respect } }
"#,
};

/// See its `about`.
pub(super) const MISSPELT_BUCKET: Lint = Lint {
    name: "misspelt-bucket",
    about: "A bucket whose name is nearly that of a standard one.",
    why: "`defualt: 1m` makes a new bucket, and `default` stays what it was.",
    example: r#"
ttl: { defualt: 1m }
routes:
  - { name: menu, match: { path: /menu }, cache: { ttl: defualt } }
"#,
    mended: r#"
ttl: { default: 1m }
routes:
  - { name: menu, match: { path: /menu }, cache: { ttl: default } }
"#,
};

/// See its `about`.
pub(super) const UNUSED_BUCKET: Lint = Lint {
    name: "unused-bucket",
    about: "A bucket of your own that no rule names.",
    why: "It was written for something, and changing it changes nothing.",
    example: r#"
ttl: { catalog: 6h }
routes:
  - { name: menu, match: { path: /menu }, cache: { ttl: 6h } }
"#,
    mended: r#"
ttl: { catalog: 6h }
routes:
  - { name: menu, match: { path: /menu }, cache: { ttl: catalog } }
"#,
};

const STANDARD: [&str; 3] = ["short", "default", "long"];

/// Segments that stand for whoever asks.
const PERSONAL: [&str; 12] =
    ["me", "self", "account", "accounts", "my", "cart", "basket", "checkout", "session", "whoami", "inbox", "wallet"];

/// Request fields that say who a client is.
const CREDENTIALS: [&str; 5] = ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token"];

pub(super) fn look(subject: &Subject<'_>, found: &mut Vec<Warning>) {
    let root = At::root(subject.root);
    let buckets = Buckets::read(child(&root, "ttl").as_ref(), subject.env, &mut Found::default());
    let grouped = subject.policy.bridge.is_some();
    for rule in subject.rules.iter().filter(|rule| rule.caches()) {
        who(rule, found);
        lifetimes(rule, &buckets, grouped, found);
    }
    buckets_of_the_file(subject, &root, found);
}

/// Whom a rule's responses are for.
fn who(rule: &RuleAt<'_>, found: &mut Vec<Warning>) {
    let identified = rule.get("cache.identity").is_some();
    let cookies = rule.word("cache.cookies").unwrap_or("respect");
    if identified {
        if rule.get("cache.tags").is_none()
            && let Some(at) = rule.get("cache.identity")
        {
            let message = "its entries are one client's each, and share the tag that the key makes".to_owned();
            found.push(rule.warn(&IDENTITY_WITHOUT_TAGS, &at, message, "write `tags`"));
        }
        return;
    }
    let varies = rule.get("cache.vary").map(|at| items(&at)).unwrap_or_default();
    let conditions = rule.get("match.header").map(|at| entries(&at)).unwrap_or_default();
    let named = varies.iter().filter_map(|at| Some((at, text(at)?))).chain(conditions.iter().map(|at| (at, at.name)));
    for (at, name) in named {
        let name = name.to_ascii_lowercase();
        if CREDENTIALS.contains(&&*name) && !(name == "cookie" && cookies != "respect") {
            let message = format!("it tells clients apart by `{name}`, and requests with that field bypass the cache");
            let mend = format!("say `identity: {{ header: {name} }}`, which makes it part of the key");
            found.push(rule.warn(&AUTHORIZATION_WITHOUT_IDENTITY, at, message, mend));
        }
    }
    let private = rule.get("cache.override").map(|at| items(&at)).unwrap_or_default();
    let private = private.into_iter().find(|at| text(at) == Some("private"));
    if let Some(at) = &private {
        let message = "what the origin calls one client's own is shared with all".to_owned();
        found.push(rule.warn(&PRIVATE_OVERRIDDEN, at, message, "leave `private` out, or say who asks with `identity`"));
    }
    let path = rule.word("match.path").unwrap_or_default();
    let shared = rule.get("cache.cookies").filter(|_| cookies != "respect").or(private);
    let personal = path.split('/').find(|segment| PERSONAL.contains(&&*segment.to_ascii_lowercase()));
    if let (Some(at), Some(segment)) = (shared, personal) {
        let message = format!("`{segment}` in its path looks personal, and its responses are shared with all");
        found.push(rule.warn(&PERSONAL_PATH_SHARED, &at, message, "say who asks with `identity`, or leave it out"));
    }
}

fn lifetimes(rule: &RuleAt<'_>, buckets: &Buckets, grouped: bool, found: &mut Vec<Warning>) {
    let seconds = |at: &At<'_>| match at.node.kind {
        // The response gives it.
        Kind::Map(_) => None,
        _ => Some(buckets.ttl(Some(at), &mut Found::default()).as_secs()),
    };
    let by_status = rule.get("cache.ttl_by_status").map(|at| entries(&at)).unwrap_or_default();
    let ttl = rule.get("cache.ttl");
    for at in ttl.iter().chain(&by_status) {
        if grouped && seconds(at).is_some_and(|seconds| seconds > KEPT_SECONDS_MAX) {
            let message = format!("`{}` is longer than the week for which the group's store keeps anything", at.said());
            found.push(rule.warn(&TTL_BEYOND_EPOCH, at, message, "use at most `7d`"));
        }
    }
    for at in by_status.iter().filter(|at| at.name.starts_with('5')) {
        if seconds(at).is_some_and(|seconds| seconds > ERROR_SECONDS_MAX) {
            let message = format!("`{}` keeps an error for longer than a minute", at.said());
            found.push(rule.warn(
                &LONG_LIVED_ERROR,
                at,
                message,
                "use a few seconds, or leave it out: errors aren't stored then",
            ));
        }
    }
    let unheard = matches!(rule.word("cache.origin_cache_control"), Some("override" | "ignore"));
    let none = |at: &At<'_>| seconds(at) == Some(0);
    if let Some(at) = ttl.filter(|at| unheard && none(at) && by_status.iter().all(none)) {
        let message = "it stores nothing: its lifetimes are zero, and the origin isn't asked".to_owned();
        found.push(rule.warn(
            &NOTHING_STORED,
            &at,
            message,
            "give it a `ttl`, or write `origin_cache_control: respect`",
        ));
    }
}

fn buckets_of_the_file(subject: &Subject<'_>, root: &At<'_>, found: &mut Vec<Warning>) {
    let mut words = Vec::new();
    for rule in &subject.rules {
        all_words(&rule.at, &mut words);
    }
    if let Some(resources) = child(root, "resources") {
        all_words(&resources, &mut words);
    }
    for at in child(root, "ttl").map(|at| entries(&at)).unwrap_or_default() {
        if STANDARD.contains(&at.name) {
            continue;
        }
        if let Some(near) = nearest(&at.name.to_ascii_lowercase(), STANDARD) {
            let message = format!("`{}` is a bucket of its own, beside `{near}`", shorten(at.name));
            found.push(warning_of_name(&MISSPELT_BUCKET, &at, message, format!("did you mean `{near}`?")));
        } else if !words.contains(&at.name) {
            let message = format!("no rule names the bucket `{}`", shorten(at.name));
            found.push(warning_of_name(&UNUSED_BUCKET, &at, message, "name it in a rule's `ttl`, or leave it out"));
        }
    }
}

/// A warning about the name of a field.
fn warning_of_name(lint: &'static Lint, at: &At<'_>, message: String, mend: impl Into<String>) -> Warning {
    Warning { span: at.name_span(), ..warning(lint, at, message, mend) }
}

/// Every text below a node.
fn all_words<'a>(at: &At<'a>, words: &mut Vec<&'a str>) {
    words.extend(text(at));
    entries(at).iter().chain(&items(at)).for_each(|at| all_words(at, words));
}
