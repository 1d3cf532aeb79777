//! Why a call is refused, and how that is told.

use bridge_api::Refusal;
use http::StatusCode;

use crate::StoreError;

/// A call that gets no answer but a [`Refusal`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request isn't one of ours, or breaks a rule that no size can mend.
    #[error("{0}")]
    Malformed(String),
    /// Something in the request is larger than the bridge takes.
    #[error("{0}")]
    TooLarge(String),
    /// No call has this path.
    #[error("there is no call `{0}`; see bridge/README.md for those there are")]
    NotFound(String),
    /// The path is right and the method isn't.
    #[error("calls are made with POST, health is asked with GET")]
    MethodNotAllowed,
    /// Too many calls at once.
    #[error("{0} calls are under way already; try again, or raise `--max-requests`")]
    Busy(usize),
    /// The body came too slowly.
    #[error("the body didn't arrive within {0} s")]
    Slow(u64),
    /// The store failed; nothing is known about what it did.
    #[error("the store gave no usable answer; treat a lookup as a miss and repeat a purge")]
    Store(#[from] StoreError),
}

impl Error {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Busy(_) | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the peer is told. Detail of the store stays in the log.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let error = match self {
            Self::Malformed(_) | Self::MethodNotAllowed | Self::Slow(_) => "malformed",
            Self::TooLarge(_) => "too-large",
            Self::NotFound(_) => "not-found",
            Self::Busy(_) => "busy",
            Self::Store(_) => "store-unavailable",
        };
        Refusal { error: error.to_owned(), message: self.to_string() }
    }
}
