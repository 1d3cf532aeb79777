//! Facts of a response's header, and what is told in it.

use routecache_core::cache_status::CacheStatus;
use routecache_core::fields::Fields;

use crate::host::{self, Map};

pub(super) fn tell(status: CacheStatus) {
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
