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
    /// No webhook has this name.
    #[error("no webhook has this name; they are in the bridge's settings, `[hooks.NAME]`")]
    NoHook,
    /// The path is right and the method isn't.
    #[error("calls are made with POST, health is asked with GET")]
    MethodNotAllowed,
    /// Without a token, or with one that isn't ours.
    #[error("this bridge answers only to its tokens; send `authorization: Bearer <secret>`")]
    Unauthorized,
    /// The token doesn't allow it.
    #[error("this token doesn't allow {0}")]
    Forbidden(String),
    /// A delivery to a webhook that isn't known to come from its sender.
    #[error("{0}")]
    Doubtful(&'static str),
    /// One address asks more often than it may.
    #[error("calls come more often than `--max-rate` allows; try again in a second")]
    TooOften,
    /// The key holds nothing.
    #[error("the key holds nothing")]
    Absent,
    /// The key holds something already.
    #[error("the key holds something already")]
    Present,
    /// The key holds something else than a number.
    #[error("the key holds no number, or the sum would be more than 64 bits hold")]
    NoNumber,
    /// A soft purge of what can only be purged for good.
    #[error("a soft purge names patterns, or keys that the store doesn't hold: leave out `soft`, or name tags")]
    NotSoft,
    /// The store has no room.
    #[error("the store has no room for it")]
    Full,
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
            Self::NotFound(_) | Self::NoHook => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::Doubtful(_) => StatusCode::FORBIDDEN,
            Self::Absent => StatusCode::NOT_FOUND,
            Self::Present | Self::NoNumber | Self::NotSoft => StatusCode::CONFLICT,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
            Self::TooOften => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy(_) | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The same in a word.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::MethodNotAllowed | Self::Slow(_) => "malformed",
            Self::TooLarge(_) => "too-large",
            Self::NotFound(_) | Self::NoHook => "not-found",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden(_) | Self::Doubtful(_) => "forbidden",
            Self::Absent => "absent",
            Self::Present => "present",
            Self::NoNumber => "no-number",
            Self::NotSoft => "not-soft",
            Self::Full => "full",
            Self::TooOften => "too-often",
            Self::Busy(_) => "busy",
            Self::Store(_) => "store-unavailable",
        }
    }

    /// What the peer is told. Detail of the store stays in the log.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal { error: self.code().to_owned(), message: self.to_string() }
    }
}
