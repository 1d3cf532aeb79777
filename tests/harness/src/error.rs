//! What can go wrong around a test, told so that the reader needn't look elsewhere.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

/// A harness call's outcome.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a server isn't there, or a request has no answer.
#[derive(thiserror::Error)]
pub enum Error {
    /// A program or file that something else has to provide.
    #[error("{what} isn't at {path}\n    {mend}")]
    Missing {
        /// What it is.
        what: &'static str,
        /// Where it was looked for.
        path: String,
        /// What to run.
        mend: &'static str,
    },
    /// The operating system refused.
    #[error("can't {doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// Its reason.
        source: io::Error,
    },
    /// A program ended that should have gone on.
    #[error("{name} ended ({status}); the last it said:\n{log}")]
    Ended {
        /// The program.
        name: String,
        /// Its exit status, in words.
        status: String,
        /// Its last lines.
        log: String,
    },
    /// A program didn't become ready.
    #[error("{name} wasn't ready after {after:?}; the last it said:\n{log}")]
    NotReady {
        /// The program.
        name: String,
        /// How long we waited.
        after: Duration,
        /// Its last lines.
        log: String,
    },
    /// A request got no answer within [`Client::TIMEOUT`](crate::Client::TIMEOUT).
    #[error("{request}: no answer within {after:?}")]
    NoAnswer {
        /// Method and path.
        request: String,
        /// How long we waited.
        after: Duration,
    },
    /// A connection or an exchange broke.
    #[error("{request}: the exchange broke")]
    Broken {
        /// Method and path, or the address.
        request: String,
        /// What hyper says.
        source: hyper::Error,
    },
    /// An answer that can't be read as what was asked for.
    #[error("{0}")]
    Unexpected(String),
}

/// What `unwrap` and a failing test print: the message as people read it, and its causes.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, "\n    because: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
