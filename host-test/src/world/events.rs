//! What is due, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::World;
use crate::commons::Frame;
use crate::failure::UpstreamFailure;
use crate::grpc;
use crate::request::RequestId;
use crate::upstream::{CallId, Reply, Response};
use crate::vm::{CallResponse, VmKey};

/// Something that happens at a time.
pub(super) enum Event {
    /// A test does something.
    Script(Box<dyn FnOnce(&mut World)>),
    /// A client sends more.
    Client { request: RequestId, frame: Frame },
    /// Part of the origin's answer arrives.
    Upstream { call: CallId, part: Part },
    /// A callout's answer is there, or (`None`) it was reset.
    Callout { call: CallId, response: Option<Response> },
    /// Something arrives on a gRPC call or stream; the last thing, or not.
    Grpc { call: CallId, part: grpc::Part, last: bool },
    /// The gateway gives up waiting.
    CallTimeout(CallId),
    /// A kept call is answered, if it still is open.
    Complete { call: CallId, reply: Reply },
    /// An answer that waited for the next callout's comes without it.
    Overtake,
    /// A callout's answer is told a second time.
    Again { vm: VmKey, root: u32, token: u32, response: CallResponse },
    /// A root context's timer runs out.
    Timer { vm: VmKey, root: u32, number: u64 },
}

impl Event {
    /// The call that it is about, without which it has no point.
    fn call(&self) -> Option<CallId> {
        match self {
            Self::Upstream { call, .. }
            | Self::Callout { call, .. }
            | Self::Complete { call, .. }
            | Self::Grpc { call, .. }
            | Self::CallTimeout(call) => Some(*call),
            Self::Script(_) | Self::Client { .. } | Self::Overtake | Self::Again { .. } | Self::Timer { .. } => None,
        }
    }
}

/// Part of an origin's answer.
pub(super) enum Part {
    Frame(Frame),
    Failure(UpstreamFailure),
}

/// Events in order of time, then of the moment when they were planned.
#[derive(Default)]
pub(super) struct Events {
    due: BTreeMap<(Duration, u64), (bool, Event)>,
    in_foreground: usize,
    /// Where events of a call are, or were.
    of_calls: BTreeMap<CallId, Vec<(Duration, u64)>>,
}

impl Events {
    /// `number` decides among events of the same time: the lower comes first.
    pub(super) fn push(&mut self, at: Duration, number: u64, background: bool, event: Event) {
        self.in_foreground += usize::from(!background);
        if let Some(call) = event.call() {
            self.of_calls.entry(call).or_default().push((at, number));
        }
        self.due.insert((at, number), (background, event));
    }

    pub(super) fn pop_due(&mut self, now: Duration) -> Option<Event> {
        let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
        let (background, event) = entry.remove();
        self.in_foreground -= usize::from(!background);
        Some(event)
    }

    pub(super) fn next_at(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether something is due that isn't always.
    pub(super) fn any_in_foreground(&self) -> bool {
        self.in_foreground > 0
    }

    /// Drops what was planned for a call.
    pub(super) fn drop_call(&mut self, call: CallId) {
        for place in self.of_calls.remove(&call).unwrap_or_default() {
            if let Some((background, _)) = self.due.remove(&place) {
                self.in_foreground -= usize::from(!background);
            }
        }
    }

    /// Drops events that have become pointless.
    pub(super) fn retain(&mut self, mut wanted: impl FnMut(&Event) -> bool) {
        self.due.retain(|_, (_, event)| wanted(event));
        self.in_foreground = self.due.values().filter(|(background, _)| !background).count();
    }
}
