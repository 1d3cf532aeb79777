//! Facts of a response's header, and what is told in it.

use routecache_core::cache_status::CacheStatus;
use routecache_core::entry::Entry;
use routecache_core::fetch::Outcome;
use routecache_core::fields::Fields;

use super::Question;
use super::look::ttl_s;
use crate::host::{self, Map};

/// Says in the response how its request was handled.
pub fn tell(status: CacheStatus) {
    host::add_header(Map::Response, "cache-status", &status.to_string());
}

pub(super) fn status_of(fields: &Fields<'_>) -> u16 {
    fields.only(":status").and_then(|status| std::str::from_utf8(status).ok()?.parse().ok()).unwrap_or_default()
}

/// Whether the response came from the origin, not from the gateway itself (a timeout, another filter). Hosts that can't
/// say so leave the status to decide.
pub(super) fn from_origin() -> bool {
    host::property(&["response", "code_details"]).is_none_or(|details| details.is_empty() || details == b"via_upstream")
}

/// Who asked the origin before an answer came from the store.
#[derive(Clone, Copy)]
pub(super) enum Asker {
    /// This gateway, and this status came back.
    Here(u16),
    /// Another gateway, if anybody.
    Elsewhere,
}

impl Asker {
    /// Who did for a fetch that ended so.
    pub(super) fn of(outcome: Outcome) -> Self {
        if outcome.status == 0 { Self::Elsewhere } else { Self::Here(outcome.status) }
    }
}

/// What `Cache-Status` says of an answer from the store for which the origin was asked.
pub(super) fn shown(
    question: &Question,
    asker: Asker,
    entry: &Entry,
    stored: bool,
    detail: Option<&'static str>,
) -> CacheStatus {
    let (status, collapsed) = match asker {
        Asker::Here(status) => (Some(status), false),
        Asker::Elsewhere => (None, true),
    };
    CacheStatus::Forwarded {
        why: question.why,
        // RFC 9211 §2.3: said where the client sees another one.
        status: status.filter(|status| *status != entry.status()),
        stored: stored && !collapsed,
        collapsed: collapsed.then_some(true),
        ttl_s: Some(ttl_s(entry, host::monotonic_ms())),
        detail: detail.or(question.detail),
    }
}
