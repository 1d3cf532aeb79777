//! A message on its way from the filter to a socket, and how much of it may pile up.
//!
//! Whoever reads the other socket asks for [room](Pipe::room) before each piece. There is none while the last piece hasn't been shown
//! to the filter, and while more than [`BYTES_MAX`] wait: in the filter chain, because the filter has paused, or here, because the
//! peer is slow.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame};
use tokio::sync::Notify;

/// As many as Envoy's `per_connection_buffer_limit_bytes`.
const BYTES_MAX: usize = 1 << 20;

/// A body of any kind that goes out.
pub(super) type Outgoing = UnsyncBoxBody<Bytes, BrokenOff>;

/// The message ends before its end.
#[derive(Debug)]
pub(super) struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the exchange was broken off")
    }
}

impl std::error::Error for BrokenOff {}

/// What the halves share.
struct State {
    frames: VecDeque<Frame<Bytes>>,
    queued_bytes: usize,
    withheld_bytes: usize,
    /// A piece is on its way to the filter.
    posted: bool,
    end: End,
    /// Nobody takes anything any more.
    deserted: bool,
    moved: Instant,
    reader: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Whole,
    Broken,
}

/// One direction of an exchange, from the filter on. A clone is another handle to it.
#[derive(Clone)]
pub(super) struct Pipe(Arc<(Mutex<State>, Notify)>);

impl Pipe {
    pub(super) fn new() -> Self {
        let state = State {
            frames: VecDeque::new(),
            queued_bytes: 0,
            withheld_bytes: 0,
            posted: false,
            end: End::NotYet,
            deserted: false,
            moved: Instant::now(),
            reader: None,
        };
        Self(Arc::new((Mutex::new(state), Notify::new())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one step, so a thread that panicked has left none half done.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let reader = {
            let mut state = self.state();
            state.moved = Instant::now();
            change(&mut state);
            state.reader.take()
        };
        self.0.1.notify_waiters();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// When something last went in or out.
    pub(super) fn moved(&self) -> Instant {
        self.state().moved
    }

    async fn wait<T>(&self, holds: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let changed = self.0.1.notified();
            if let Some(found) = holds(&self.state()) {
                return found;
            }
            changed.await;
        }
    }

    /// Waits until another piece may be posted to the filter. False: nothing more is wanted.
    pub(super) async fn room(&self) -> bool {
        self.wait(|state| {
            if state.deserted || state.end != End::NotYet {
                return Some(false);
            }
            (!state.posted && state.queued_bytes + state.withheld_bytes < BYTES_MAX).then_some(true)
        })
        .await
    }

    /// Waits until all of it has gone out, or nobody takes it any more.
    pub(super) async fn over(&self) {
        self.wait(|state| (state.deserted || (state.end != End::NotYet && state.frames.is_empty())).then_some(()))
            .await;
    }

    /// A piece is on its way to the filter.
    pub(super) fn posted(&self) {
        self.change(|state| state.posted = true);
    }

    /// The filter has been shown what was posted; so many bytes are withheld in the chain now.
    pub(super) fn settled(&self, withheld_bytes: usize) {
        self.change(|state| {
            state.posted = false;
            state.withheld_bytes = withheld_bytes;
        });
    }

    pub(super) fn push(&self, frame: Frame<Bytes>) {
        self.change(|state| {
            if state.end == End::NotYet && !state.deserted {
                state.queued_bytes += frame.data_ref().map_or(0, Bytes::len);
                state.frames.push_back(frame);
            }
        });
    }

    pub(super) fn end(&self) {
        self.change(|state| {
            if state.end == End::NotYet {
                state.end = End::Whole;
            }
        });
    }

    /// Cuts off what hasn't ended.
    pub(super) fn break_off(&self) {
        self.change(|state| {
            if state.end == End::NotYet {
                state.end = End::Broken;
            }
        });
    }

    /// The end for a socket. `farewell` is called if it is dropped before it has taken everything.
    pub(super) fn body(&self, farewell: impl FnOnce() + Send + 'static) -> PipeBody {
        PipeBody { pipe: self.clone(), farewell: Some(Box::new(farewell)) }
    }
}

/// The end of a [`Pipe`] that a socket takes from.
pub(super) struct PipeBody {
    pipe: Pipe,
    farewell: Option<Box<dyn FnOnce() + Send>>,
}

impl Body for PipeBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut state = self.pipe.state();
        let Some(frame) = state.frames.pop_front() else {
            return match state.end {
                End::Whole => Poll::Ready(None),
                End::Broken => Poll::Ready(Some(Err(BrokenOff))),
                End::NotYet => {
                    state.reader = Some(context.waker().clone());
                    Poll::Pending
                }
            };
        };
        state.queued_bytes -= frame.data_ref().map_or(0, Bytes::len);
        state.moved = Instant::now();
        drop(state);
        self.pipe.0.1.notify_waiters();
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.pipe.state();
        state.end == End::Whole && state.frames.is_empty()
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        let whole = self.is_end_stream();
        self.pipe.change(|state| {
            state.deserted = true;
            state.frames.clear();
            state.queued_bytes = 0;
        });
        if let Some(farewell) = self.farewell.take().filter(|_| !whole) {
            farewell();
        }
    }
}
