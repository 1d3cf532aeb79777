//! Which methods a rule may have.

use crate::mistake::What;
use crate::suggest::nearest;
use crate::tree::shorten;
use crate::walk::{At, Found};

/// What a cache rule answers where it doesn't say. Beside these, a POST whose body the key holds may be a read.
const CACHED: &[&str] = &["GET", "HEAD"];

/// What a purge rule means when it doesn't say.
const WRITES: &[&str] = &["POST", "PUT", "PATCH", "DELETE"];

/// The safe methods of the IANA registry (RFC 9110 §16.1): they ask for no change, so no purge can follow from them.
const SAFE: &[&str] = &["GET", "HEAD", "OPTIONS", "PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH", "TRACE"];

/// The others, without `CONNECT`, which has no path. A method that isn't registered is rather a slip, and a purge that
/// never matches means stale data.
const UNSAFE: &[&str] = &[
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "DELETE",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPPATCH",
    "PUT",
    "REBIND",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// The methods of a cache rule.
pub(crate) fn of_cache(at: Option<&At<'_>>, found: &mut Found) -> Vec<String> {
    read(at, CACHED, found, &|method| match method {
        "GET" | "HEAD" | "POST" => None,
        _ => Some(What::CacheMethod(method.to_owned())),
    })
}

/// The methods of a purge rule.
pub(crate) fn of_purge(at: Option<&At<'_>>, found: &mut Found) -> Vec<String> {
    read(at, WRITES, found, &|method| SAFE.contains(&method).then(|| What::SafeMethod(method.to_owned())))
}

fn read(
    at: Option<&At<'_>>,
    default: &[&str],
    found: &mut Found,
    refuse: &dyn Fn(&str) -> Option<What>,
) -> Vec<String> {
    let Some(at) = at else {
        return default.iter().copied().map(str::to_owned).collect();
    };
    let items = at.items(found).unwrap_or_default();
    if items.is_empty() && matches!(at.node.kind, crate::tree::Kind::List(_)) {
        found.add(at, What::EmptyList("methods"));
    }
    let known: Vec<&str> = SAFE.iter().chain(UNSAFE).copied().collect();
    let mut methods: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let Some(method) = item.text(found) else { continue };
        let wrong = if !known.contains(&method) {
            let similar = nearest(&method.to_ascii_uppercase(), known.iter().copied());
            Some(What::BadMethod { method: shorten(method), similar })
        } else if methods.iter().any(|earlier| earlier == method) {
            Some(What::Twice(method.to_owned()))
        } else {
            refuse(method)
        };
        match wrong {
            Some(what) => found.add(&item, what),
            None => methods.push(method.to_owned()),
        }
    }
    methods
}
