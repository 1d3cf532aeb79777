//! Where hosts differ from each other.

/// What a host does in its own way. [`Dialect::ENVOY`] is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// How the `cas` of a write to shared data is compared.
    pub cas: Cas,
    /// Whether writing a null pointer deletes a key, rather than leaving an empty value.
    pub null_deletes: bool,
    /// Whether `proxy_on_queue_ready` is ever called.
    pub queue_ready: bool,
    /// Whether callouts may be made in response, log and done callbacks; where they may not, they trap.
    pub callouts_in_responses: bool,
}

/// How the `cas` of a write to shared data is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cas {
    /// proxy-wasm-cpp-host: 0 always writes, and an absent key takes any.
    Lenient,
    /// ngx_wasm_module: it must be the one of the last write, 0 for an absent key.
    Exact,
}

impl Dialect {
    /// Envoy and what is built on it.
    pub const ENVOY: Self =
        Self { cas: Cas::Lenient, null_deletes: false, queue_ready: true, callouts_in_responses: true };

    /// Kong's ngx_wasm_module (`ngx_wa_shm_kv_set_locked`, `ngx_proxy_wasm_hfuncs_dispatch_http_call`).
    pub const NGINX: Self =
        Self { cas: Cas::Exact, null_deletes: true, queue_ready: false, callouts_in_responses: false };

    /// Whether a callout may be made in this callback.
    pub(crate) fn allows_callout_in(self, callback: &str) -> bool {
        const REQUEST_SIDE: [&str; 4] =
            ["proxy_on_request_headers", "proxy_on_request_body", "proxy_on_tick", "proxy_on_http_call_response"];
        self.callouts_in_responses || REQUEST_SIDE.contains(&callback)
    }
}

/// What becomes of requests when a VM has failed (Envoy's `failure_policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// They end with 503.
    #[default]
    Closed,
    /// They pass as if the filter weren't there.
    Open,
    /// They end with 503 until a second has passed since the failure; the next one then gets a new VM.
    Reload,
}
