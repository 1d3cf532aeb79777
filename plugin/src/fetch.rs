//! Fetches of the filter's own, through the gateway's own listener or straight to the origin; see
//! [`routecache_core::fetch`].

use std::time::Duration;

use proxy_wasm::hostcalls::dispatch_http_call;
use proxy_wasm::types::Status;
use routecache_core::fetch::{Edit, FETCH, Kind, Manner, Mark, Outcome, edited};
use routecache_core::fields::Fields;
use routecache_core::request::{Arrived, Plan};

use crate::host::{self, Level, Map};
use crate::root::Instance;

/// How long after the host knew no such cluster it is asked again: clusters may come later than filters.
const MISSING_MS: u64 = 30_000;

/// How long what a client waits for may take where nothing may stand in for it: as long as the gateway's route says. Who waited
/// less would go there once more, and wait twice.
const PATIENCE_MS: u32 = 3_600_000;

/// What is to be fetched.
pub struct Fetch {
    /// What for.
    pub errand: Errand,
    /// The request's header, without the mark ([`routecache_core::fetch::header_of`]).
    pub header: Vec<u8>,
    /// Whether the client came by https.
    pub https: bool,
}

/// What something is fetched for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// To refresh the entry whose key has this hash, by one worker at a time.
    Refresh(u64),
    /// What a write asks for, which is newer than whatever is under way.
    Recache,
    /// What is listed to be warmed: its place in the list, and how often it was tried.
    Warm(usize, u8),
    /// A client that waits, in this stream, for what is stored to be asked about.
    Client(u32),
}

impl Errand {
    /// For whom that is.
    pub fn manner(self) -> Manner {
        match self {
            Self::Refresh(_) | Self::Recache => Manner::Behind,
            Self::Warm(..) => Manner::Reads,
            Self::Client(_) => Manner::Waits,
        }
    }
}

/// Sends a fetch through the gateway's own listener, for `background.timeout` or as long as it takes; returns the call's token, or
/// `None` if it can't be.
pub fn send(instance: &Instance, header: &[u8], https: bool, manner: Manner, patient: bool) -> Option<u32> {
    let background = instance.policy().background.as_ref()?;
    let mark = Mark { secret: instance.shared.secret()?, https, manner }.to_string();
    let missing = "that would lead back to this gateway, so nothing is refreshed behind clients; add one (`routecache render` \
                   shows it), or write `background: off`";
    let timeout_ms = if patient { PATIENCE_MS } else { background.timeout_ms };
    call(instance, (&background.cluster, timeout_ms), header, Some(&mark), missing)
}

/// Calls a cluster with a request, for so many milliseconds; returns the call's token, or `None` if it can't be.
pub fn call(
    instance: &Instance,
    (cluster, timeout_ms): (&str, u32),
    header: &[u8],
    mark: Option<&str>,
    missing: &str,
) -> Option<u32> {
    let timeout = Duration::from_millis(timeout_ms.into());
    let fields = Fields::decode(header)?;
    let mut lines = Vec::new();
    for (name, value) in fields.iter() {
        // The SDK takes text only; a request with other bytes goes its own way.
        lines.push((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?));
    }
    lines.extend(mark.map(|mark| (FETCH, mark)));
    match dispatch_http_call(cluster, lines, None, Vec::new(), timeout) {
        Ok(token) => Some(token),
        Err(Status::BadArgument) => {
            let again_ms = host::monotonic_ms().saturating_add(MISSING_MS);
            if instance.worker.borrow_mut().cant_reach(cluster, again_ms) {
                host::log(Level::Warn, &format!("routecache: there is no cluster `{cluster}` {missing}"));
            }
            None
        }
        Err(_) => None,
    }
}

/// The cluster to which the rule of a request has fetches go straight, and the header with which one begins: that which the
/// client's request has when it is forwarded.
pub fn straight(instance: &Instance, header: &[u8], https: bool) -> Option<(String, Vec<u8>)> {
    instance.policy().origins().next()?;
    let scheme = if https { "https" } else { "http" };
    let header = edited(&Fields::decode(header)?, &[Edit::Add("x-forwarded-proto", scheme.to_owned())]);
    let fields = Fields::decode(&header)?;
    let plan = instance.engine.plan(&Arrived::new(&fields, true, &host::property));
    let cluster = if let Plan::Read(reading) = &plan { reading.rule().origin.clone()? } else { return None };
    drop(plan);
    Some((cluster, header))
}

/// The header of the answer to the call whose callback this is; empty if it broke off.
pub fn answer(header_count: usize) -> Vec<u8> {
    let header = if header_count > 0 { host::header_map(Map::CallResponse) } else { None };
    header.unwrap_or_default()
}

/// The gateway's status for a fetch that took too long.
const TIMED_OUT: u16 = 504;

/// What the answer to a fetch says; else its status, 0 if it broke off.
pub fn outcome(answer: &[u8]) -> Result<Outcome, u16> {
    let fields = Fields::decode(answer).unwrap_or_default();
    Outcome::read(&fields).ok_or(()).or_else(|()| match status_of_call(&fields) {
        TIMED_OUT => Ok(Outcome { kind: Kind::Failed, status: TIMED_OUT, whole: false }),
        status => Err(status),
    })
}

/// The status of a call's answer; 0 if it broke off.
pub fn status_of_call(fields: &Fields<'_>) -> u16 {
    let status = fields.first(":status").and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    status.unwrap_or_default()
}
