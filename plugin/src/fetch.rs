//! Fetches of the filter's own, through the gateway's own listener; see [`routecache_core::fetch`].

use std::time::Duration;

use proxy_wasm::hostcalls::dispatch_http_call;
use proxy_wasm::types::Status;
use routecache_core::fetch::{FETCH, Manner, Mark, Outcome};
use routecache_core::fields::Fields;

use crate::host::{self, Level, Map};
use crate::root::Instance;

/// How long after the host knew no such cluster it is asked again: clusters may come later than filters.
const MISSING_MS: u64 = 30_000;

/// What is to be fetched.
pub struct Fetch {
    /// The hash of the key of an entry that is to be refreshed, by one worker at a time; none for what a write asks for, which
    /// is newer than whatever is under way.
    pub key: Option<u64>,
    /// The request's header, without the mark ([`routecache_core::fetch::header_of`]).
    pub header: Vec<u8>,
    /// Whether the client came by https.
    pub https: bool,
}

/// Sends a fetch; returns the call's token, or `None` if it can't be.
pub fn send(instance: &Instance, header: &[u8], https: bool, manner: Manner) -> Option<u32> {
    let background = instance.policy().background.as_ref()?;
    let mark = Mark { secret: instance.shared.secret()?, https, manner }.to_string();
    let fields = Fields::decode(header)?;
    let mut lines = Vec::new();
    for (name, value) in fields.iter() {
        // The SDK takes text only; a request with other bytes goes its own way.
        lines.push((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?));
    }
    lines.push((FETCH, &mark));
    let timeout = Duration::from_millis(background.timeout_ms.into());
    match dispatch_http_call(&background.cluster, lines, None, Vec::new(), timeout) {
        Ok(token) => Some(token),
        Err(Status::BadArgument) => {
            instance.worker.borrow_mut().is_unreachable(host::monotonic_ms().saturating_add(MISSING_MS), || {
                let text = format!(
                    "routecache: there is no cluster `{}` that would lead back to this gateway, so nothing is refreshed \
                     behind clients; add one (`routecache render` shows it), or write `background: off`",
                    background.cluster
                );
                host::log(Level::Warn, &text);
            });
            None
        }
        Err(_) => None,
    }
}

/// What the answer says to the fetch whose callback this is; else its status, 0 if it broke off.
pub fn outcome(header_count: usize) -> Result<Outcome, u16> {
    let header = if header_count > 0 { host::header_map(Map::CallResponse) } else { None };
    let fields = header.as_deref().and_then(Fields::decode).unwrap_or_default();
    Outcome::read(&fields).ok_or_else(|| status_of_call(&fields))
}

/// The status of a call's answer; 0 if it broke off.
pub fn status_of_call(fields: &Fields<'_>) -> u16 {
    let status = fields.first(":status").and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    status.unwrap_or_default()
}
