//! Calls to the bridge: how they are sent, and what counts as its answer.

use std::time::Duration;

use bridge_api::{CONTENT_TYPE, MARKER, Position, Ticket, VERSION};
use proxy_wasm::hostcalls::dispatch_http_call;
use routecache_core::fields::Fields;
use routecache_core::gateway_log::GroupPosition;
use routecache_core::planted::planted;
use routecache_core::policy::Bridge;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::{self, Buffer, Map};

/// How to reach the bridge.
pub struct Link {
    cluster: String,
    /// The value of `authorization`, where the bridge wants one.
    authorization: Option<String>,
}

impl Link {
    /// The way that the rules say; `env` looks up a variable of the VM's environment.
    ///
    /// # Errors
    ///
    /// The token that they name isn't there, or can't be one.
    pub fn new(bridge: &Bridge, env: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let authorization = match &bridge.token_env {
            Some(name) => {
                let token =
                    env(name).filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
                let Some(token) = token else {
                    return Err(format!(
                        "`bridge.token_env` names `{name}`, and the VM's environment has no token there: set it for the gateway \
                         and hand it on (Envoy: `vm_config.environment_variables.host_env_keys`)"
                    ));
                };
                Some(format!("Bearer {token}"))
            }
            None => None,
        };
        Ok(Self { cluster: bridge.cluster.clone(), authorization })
    }

    /// Sends a call; returns its token, or `None` if the host refused it on the spot (no such cluster, nothing healthy).
    pub fn call<T: Serialize>(&self, path: &str, head: &T, payload: &[u8], timeout: Duration) -> Option<u32> {
        let mut header = vec![
            (":method", "POST"),
            (":path", path),
            (":authority", "routecache-bridge"),
            (":scheme", "http"),
            ("content-type", CONTENT_TYPE),
        ];
        header.extend(self.authorization.as_deref().map(|value| ("authorization", value)));
        dispatch_http_call(&self.cluster, header, Some(&bridge_api::encode(head, payload)), Vec::new(), timeout).ok()
    }
}

/// The ticket that the group gave, and when it was heard.
#[derive(Clone, Copy)]
pub struct GroupTicket {
    ticket: Ticket,
    heard_ms: u64,
}

impl GroupTicket {
    /// The ticket of an answer that has just come.
    pub fn heard(ticket: Ticket) -> Self {
        Self { ticket, heard_ms: host::monotonic_ms() }
    }

    /// As it goes back with what is as old as it says at `now_ms` of the monotonic clock.
    pub fn at(self, now_ms: u64) -> Ticket {
        let later = |seen_ms: u64| seen_ms.saturating_add(now_ms.saturating_sub(self.heard_ms));
        let seen_ms = self.ticket.seen_ms.filter(|_| !planted("way_uncounted"));
        Ticket { seen_ms: seen_ms.map(later), ..self.ticket }
    }
}

/// The body of the bridge's answer to the call whose callback this is.
///
/// `None` for everything that isn't a 200 with the bridge's mark: a host makes answers of its own that look real when a
/// call fails (Envoy: 503, 504).
pub fn answer(header_count: usize, body_len: usize) -> Option<Vec<u8>> {
    (header_count > 0).then_some(())?;
    let header = host::header_map(Map::CallResponse)?;
    let header = Fields::decode(&header)?;
    let marked = header.only(MARKER) == Some(VERSION.as_bytes());
    (marked && header.first(":status") == Some(b"200")).then_some(())?;
    host::buffer(Buffer::CallResponseBody, body_len)
}

/// Reads an answer; `None` if it isn't what was asked for.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Option<(T, &[u8])> {
    bridge_api::decode(body).ok()
}

/// A position as the core has it.
pub fn to_core(position: Position) -> GroupPosition {
    GroupPosition { ms: position.ms, seq: position.seq, unique: position.unique }
}

/// A position as the bridge has it.
pub fn to_api(position: GroupPosition) -> Position {
    Position { ms: position.ms, seq: position.seq, unique: position.unique }
}
