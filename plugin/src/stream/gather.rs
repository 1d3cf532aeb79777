//! A body, gathered as it passes or while it is held.

use crate::host::{self, Buffer};

/// A body as far as it has come.
pub(super) struct Gathered {
    bytes: Vec<u8>,
    bytes_max: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Coming,
    Whole,
    /// Too long, or a piece couldn't be seen.
    Lost,
}

impl Gathered {
    /// Nothing yet, of a body that is of use up to this length.
    pub(super) fn up_to(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, state: State::Coming }
    }

    /// Adds the piece that is in the host's buffer, and is passed on.
    pub(super) fn passes(&mut self, buffer: Buffer, len: usize, end_of_stream: bool) {
        let before = std::mem::take(&mut self.bytes);
        let piece = seen(buffer, len, self.bytes_max.saturating_sub(before.len()));
        self.take(piece.map(|piece| if before.is_empty() { piece } else { [before, piece].concat() }), end_of_stream);
    }

    /// Looks at the host's buffer, which holds all that has come, as nothing of it has been passed on. A host that shows
    /// something else has no whole body to show.
    pub(super) fn is_held(&mut self, buffer: Buffer, len: usize, end_of_stream: bool) {
        let before = std::mem::take(&mut self.bytes);
        let all = seen(buffer, len, self.bytes_max).filter(|all| all.starts_with(&before));
        self.take(all, end_of_stream);
    }

    fn take(&mut self, bytes: Option<Vec<u8>>, end_of_stream: bool) {
        match bytes.filter(|_| self.state == State::Coming) {
            Some(bytes) => {
                self.bytes = bytes;
                if end_of_stream {
                    self.state = State::Whole;
                }
            }
            None => self.state = State::Lost,
        }
    }

    /// All of a body that has been here before.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), bytes_max: 0, state: State::Whole }
    }

    /// Whether it will never be whole.
    pub(super) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// All of it, if it has come.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (self.state == State::Whole).then_some(&*self.bytes)
    }
}

/// What a buffer holds, unless that is too much.
fn seen(buffer: Buffer, len: usize, bytes_max: usize) -> Option<Vec<u8>> {
    match len {
        0 => Some(Vec::new()),
        len if len <= bytes_max => host::buffer(buffer, len).filter(|bytes| bytes.len() == len),
        _ => None,
    }
}
