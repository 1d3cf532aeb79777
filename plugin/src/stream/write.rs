//! The response of a write.

use proxy_wasm::types::Action;
use routecache_core::cache_status::{CacheStatus, Forward};
use routecache_core::fields::Fields;
use routecache_core::planted::planted;
use routecache_core::request::Writing;

use super::tell::{status_of, tell};
use super::{State, Stream};
use crate::host::{self, Map};
use crate::root::Purged;

impl Stream {
    /// Handles the response to a write: purges in the gateway at once, and holds it until the group has acknowledged.
    pub(super) fn wrote(&mut self, write: &Writing) -> Action {
        let header = host::header_map(Map::Response).unwrap_or_default();
        let fields = Fields::decode(&header);
        // The status of a broken connection or a timeout is the gateway's own, and says nothing of what the origin did.
        let known = !outcome_unknown() || planted("unknown_outcome");
        let response = fields.as_ref().filter(|_| known).map(|fields| (status_of(fields), fields));
        let tags = self.instance.engine.purged_by(write, response);
        if planted("purge_after_release") {
            self.state = State::Writing(write.clone());
            return Action::Continue;
        }
        if tags.is_empty() {
            if write.meets_rules() {
                tell(CacheStatus::forwarded(Forward::Method, false, None));
            }
            return Action::Continue;
        }
        let detail = match self.instance.purge(tags, Some(self.id)) {
            Purged::Held => return Action::Pause,
            Purged::Here => "purged",
            Purged::Failed => "purge-failed",
        };
        tell(CacheStatus::forwarded(Forward::Method, false, Some(detail)));
        Action::Continue
    }
}

/// Whether the gateway answers for the origin, which may have done what it was asked all the same: the connection broke, or
/// it took too long (the router's words, Envoy's `response_code_details.h`). An answer of another filter is no such thing:
/// it kept the request from the origin.
fn outcome_unknown() -> bool {
    let details = host::property(&["response", "code_details"]).unwrap_or_default();
    details.starts_with(b"upstream_") || details.windows(7).any(|word| word == b"timeout")
}
