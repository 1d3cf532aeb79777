//! How Envoy puts it when an upstream fails (seen in Envoy 1.40, HTTP/1 upstream).

/// Why an upstream's answer doesn't come, or doesn't come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamFailure {
    /// No connection.
    Connect,
    /// The connection closed before the answer's headers.
    Reset,
    /// The connection closed after the answer's headers and before its end.
    Cut,
    /// Nothing, or not all, came in time.
    Timeout,
}

/// What Envoy says of it.
pub(crate) struct Words {
    /// Of the answer that takes the place of the missing one.
    pub(crate) status: u16,
    pub(crate) body: &'static str,
    /// `response.code_details`
    pub(crate) details: &'static str,
    /// `response.flags`
    pub(crate) flags: u64,
}

impl UpstreamFailure {
    pub(crate) fn words(self) -> Words {
        match self {
            Self::Connect => Words {
                status: 503,
                body: "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
                details: "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}",
                flags: 0x20,
            },
            Self::Reset => Words {
                status: 503,
                body: "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
                details: "upstream_reset_before_response_started{connection_termination}",
                flags: 0x40,
            },
            Self::Cut => Words {
                status: 502,
                body: "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
                details: "upstream_reset_after_response_started{protocol_error}",
                flags: 0x80_0000,
            },
            Self::Timeout => {
                Words { status: 504, body: "upstream request timeout", details: "response_timeout", flags: 0x4 }
            }
        }
    }
}
