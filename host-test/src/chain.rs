//! The filter chain around one filter, as Envoy drives it (`FilterManager` and the Wasm filter's `Context`).
//!
//! Each function here is one turn of a worker's event loop: it calls into the module, obeys what it returned, then does what was put
//! off until the callback had returned, and at last lets ended streams go.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::abi::Direction;
use crate::commons::{Effect, Frame};
use crate::date::http_date;
use crate::dialect::FailurePolicy;
use crate::failure::UpstreamFailure;
use crate::grpc::{Kind, Part};
use crate::laws::Law;
use crate::stream::{Attributes, Half, Iteration, LocalReply, LocalResponse, Stream};
use crate::vm::{CallResponse, Called, Deferred, Root, Vm};
use crate::{Headers, RequestId};

/// What a callback about a part of a message came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Continue,
    Pause,
    /// Pause, and body that was shown is lost.
    Drop,
}

/// The client has gone.
const FLAG_DOWNSTREAM_TERMINATION: u64 = 0x4000;

// What reaches a VM from outside.
impl Vm {
    /// Starts a root context for a configuration. False: the filter doesn't want it.
    pub(crate) async fn start(&mut self, configuration: Arc<[u8]>) -> bool {
        let root = self.new_context();
        let retired = std::mem::replace(&mut self.root, root);
        let length = u32::try_from(configuration.len()).unwrap_or(u32::MAX);
        let state = Root {
            configuration,
            configuring: true,
            tick: None,
            call: None,
            grpc: BTreeMap::new(),
            grpc_part: None,
            status: None,
            retired: false,
            closing: false,
        };
        self.state().roots.insert(root, state);
        self.call("proxy_on_context_create", &[root, 0]).await;
        self.configuring(root, false);
        let vm_length = u32::try_from(self.state().options.vm_configuration.len()).unwrap_or(u32::MAX);
        let mut willing = self.call("proxy_on_vm_start", &[root, vm_length]).await;
        self.deferred().await;
        if !refuses(willing) {
            self.configuring(root, true);
            willing = self.call("proxy_on_configure", &[root, length]).await;
            self.configuring(root, false);
            self.deferred().await;
        }
        let accepted = !refuses(willing) && !self.failed;
        if let Some(old) = self.state().roots.get_mut(&retired) {
            old.retired = true;
        }
        // Whatever the old one makes of its end.
        self.let_go().await;
        accepted
    }

    fn configuring(&mut self, root: u32, now: bool) {
        if let Some(root) = self.state().roots.get_mut(&root) {
            root.configuring = now;
        }
    }

    fn wall(&mut self) -> std::time::Duration {
        let state = self.state();
        state.commons.lock().wall_of(state.place.gateway)
    }

    /// A request's headers have come in.
    pub(crate) async fn begin(&mut self, request: RequestId, headers: Headers, end: bool, attributes: Attributes) {
        let (context, root) = (self.new_context(), self.root);
        let wall = u64::try_from(self.wall().as_nanos()).unwrap_or(u64::MAX);
        let stream = Stream { attributes, ..Stream::new(request, root, &headers, wall) };
        self.state().streams.insert(context, stream);
        self.call("proxy_on_context_create", &[context, root]).await;
        self.deferred().await;
        self.headers(context, Direction::Request, headers, end).await;
        self.let_go().await;
    }

    /// More of a message has come in.
    pub(crate) async fn frame(&mut self, request: RequestId, direction: Direction, frame: Frame) {
        let Some(context) = self.context_of(request) else { return };
        match frame {
            Frame::Headers { headers, end } => {
                if let Some(stream) = self.stream(context) {
                    "via_upstream".clone_into(&mut stream.details);
                }
                self.headers(context, direction, headers, end).await;
            }
            Frame::Data { bytes, end } => self.data(context, direction, bytes, end).await,
            Frame::Trailers(trailers) => self.trailers(context, direction, trailers).await,
        }
        self.let_go().await;
    }

    /// The client has gone away.
    pub(crate) async fn client_gone(&mut self, request: RequestId) {
        let Some(context) = self.context_of(request) else { return };
        if let Some(stream) = self.stream(context) {
            stream.flags |= FLAG_DOWNSTREAM_TERMINATION;
            "downstream_remote_disconnect".clone_into(&mut stream.details);
        }
        self.end(context, false);
        self.let_go().await;
    }

    /// The origin can't answer, or broke off.
    pub(crate) async fn upstream_failed(&mut self, request: RequestId, failure: UpstreamFailure) {
        let Some(context) = self.context_of(request) else { return };
        let words = failure.words();
        let Some(stream) = self.stream(context) else { return };
        stream.flags |= words.flags;
        if stream.response_sent {
            words.details.clone_into(&mut stream.details);
            self.end(context, false);
        } else {
            self.reply(context, LocalResponse::of_host(words.status.into(), words.details, words.body)).await;
        }
        self.let_go().await;
    }

    /// A callout has been answered, or (`None`) was reset.
    pub(crate) async fn call_done(&mut self, root: u32, token: u32, response: Option<CallResponse>) {
        let Some(context) = self.state().roots.get_mut(&root) else { return };
        let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let sizes = response.as_ref().map_or([0; 3], |response| {
            [size(response.headers.len()), size(response.body.len()), size(response.trailers.len())]
        });
        const BROKEN_CONNECTION: u32 = 11;
        context.status = response.is_none().then(|| (BROKEN_CONNECTION, "reset".to_owned()));
        context.call = response;
        self.call("proxy_on_http_call_response", &[root, token, sizes[0], sizes[1], sizes[2]]).await;
        self.deferred().await;
        if let Some(context) = self.state().roots.get_mut(&root) {
            context.call = None;
            context.status = None;
        }
        self.let_go().await;
    }

    /// A gRPC call or stream has brought something.
    pub(crate) async fn grpc(&mut self, root: u32, token: u32, part: Part) {
        let Some(context) = self.state().roots.get_mut(&root) else { return };
        let Some(handle) = context.grpc.get_mut(&token) else { return };
        let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let (name, argument) = match &part {
            Part::InitialMetadata(headers) => ("proxy_on_grpc_receive_initial_metadata", size(headers.len())),
            Part::Message(message) => ("proxy_on_grpc_receive", size(message.len())),
            Part::TrailingMetadata(headers) => ("proxy_on_grpc_receive_trailing_metadata", size(headers.len())),
            Part::Close { status, message } => {
                context.status = Some((*status, message.clone()));
                handle.remote_closed = true;
                ("proxy_on_grpc_close", *status)
            }
        };
        let over = Kind::of(token) == Kind::Call || (handle.remote_closed && handle.local_closed);
        context.grpc_part = Some(part);
        self.call(name, &[root, token, argument]).await;
        self.deferred().await;
        if let Some(context) = self.state().roots.get_mut(&root) {
            context.grpc_part = None;
            context.status = None;
            if over {
                context.grpc.remove(&token);
            }
        }
        self.let_go().await;
    }

    /// A root context's timer has run out; it is set again afterwards.
    pub(crate) async fn tick(&mut self, root: u32) {
        if !self.state().roots.contains_key(&root) {
            return;
        }
        self.call("proxy_on_tick", &[root]).await;
        self.deferred().await;
        if let Some(period) = self.state().roots.get(&root).and_then(|root| root.tick) {
            let vm = self.state().key;
            self.effect(Effect::Tick { vm, root, period: Some(period) });
        }
        self.let_go().await;
    }

    /// A shared queue that this root context registered holds something.
    pub(crate) async fn queue_ready(&mut self, root: u32, token: u32) {
        if self.state().roots.contains_key(&root) {
            self.call("proxy_on_queue_ready", &[root, token]).await;
            self.deferred().await;
        }
        self.let_go().await;
    }

    /// The gateway answers on its own account.
    #[cfg(feature = "serve")]
    pub(crate) async fn answer(&mut self, request: RequestId, response: LocalResponse) {
        let Some(context) = self.context_of(request) else { return };
        self.reply(context, response).await;
        self.let_go().await;
    }

    /// The gateway ends, and its root contexts with it.
    pub(crate) async fn stop(&mut self) {
        self.state().stopping = true;
        for root in self.state().roots.values_mut() {
            root.retired = true;
        }
        self.let_go().await;
    }

    /// Bytes of body that a stream holds back while it shows its filter none: whoever sends them should wait.
    #[cfg(feature = "serve")]
    pub(crate) fn withheld_bytes(&mut self, request: RequestId, direction: Direction) -> usize {
        let half = self.context_of(request).and_then(|context| self.half(context, direction));
        let half = half.filter(|half| half.iteration == Iteration::StoppedAll);
        half.and_then(|half| half.buffer.as_ref()).map_or(0, Vec::len)
    }

    fn context_of(&mut self, request: RequestId) -> Option<u32> {
        let streams = &self.state().streams;
        streams.iter().find(|(_, stream)| stream.request == request && !stream.ended).map(|(context, _)| *context)
    }
}

/// What Envoy answers when a paused body grows past the limit (`requestDataTooLarge`, `responseDataTooLarge`).
fn too_large_for(direction: Direction) -> LocalResponse {
    match direction {
        Direction::Request => LocalResponse::of_host(413, "request_payload_too_large", "Payload Too Large"),
        Direction::Response => LocalResponse::of_host(500, "response_payload_too_large", "Internal Server Error"),
    }
}

fn refuses(called: Called) -> bool {
    matches!(called, Called::Failed | Called::Returned { value: 0, .. })
}

// Parts of a message on their way through the filter.
impl Vm {
    fn half(&mut self, context: u32, direction: Direction) -> Option<&mut Half> {
        let stream = self.stream(context).filter(|stream| !stream.ended)?;
        Some(stream.half_mut(direction))
    }

    async fn headers(&mut self, context: u32, direction: Direction, headers: Headers, end: bool) {
        let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
        let Some(half) = self.half(context, direction).filter(|half| !half.over) else { return };
        half.headers = Some(headers);
        half.headers_visible = true;
        half.end_seen = end;
        let name = match direction {
            Direction::Request => "proxy_on_request_headers",
            Direction::Response => "proxy_on_response_headers",
        };
        if direction == Direction::Response
            && let Some(stream) = self.stream(context)
        {
            stream.response_started = true;
        }
        let called = self.call(name, &[context, count, u32::from(end)]).await;
        let action = self.action(context, called, false);
        let may_stop_alone = self.state().options.body_callbacks_while_headers_paused;
        if let Some(half) = self.half(context, direction) {
            match action {
                Action::Continue => {
                    half.headers_visible = false;
                    self.pass_headers(context, direction);
                }
                Action::Pause if may_stop_alone => half.iteration = Iteration::Stopped,
                Action::Pause | Action::Drop => half.iteration = Iteration::StoppedAll,
            }
        }
        self.deferred().await;
    }

    async fn data(&mut self, context: u32, direction: Direction, bytes: Vec<u8>, end: bool) {
        let Some(half) = self.half(context, direction).filter(|half| !half.over) else { return };
        half.body_bytes += bytes.len() as u64;
        half.end_seen |= end;
        if half.iteration == Iteration::StoppedAll {
            half.hold_back(bytes);
        } else {
            self.show_data(context, direction, bytes, end).await;
        }
    }

    async fn trailers(&mut self, context: u32, direction: Direction, trailers: Headers) {
        let Some(half) = self.half(context, direction).filter(|half| !half.over) else { return };
        half.end_seen = true;
        half.trailers = Some(trailers);
        if half.iteration != Iteration::StoppedAll {
            self.show_trailers(context, direction).await;
        }
    }

    async fn show_data(&mut self, context: u32, direction: Direction, bytes: Vec<u8>, end: bool) {
        let Some(half) = self.half(context, direction) else { return };
        if half.buffering {
            half.hold_back(bytes);
        } else {
            half.chunk = bytes;
        }
        half.in_body = true;
        let size = half.body().map_or(0, |body| u32::try_from(body.len()).unwrap_or(u32::MAX));
        let name = match direction {
            Direction::Request => "proxy_on_request_body",
            Direction::Response => "proxy_on_response_body",
        };
        let called = self.call(name, &[context, size, u32::from(end)]).await;
        let action = self.action(context, called, true);
        let buffer_max = self.state().options.buffer_max;
        let mut too_large = false;
        if let Some(half) = self.half(context, direction) {
            half.in_body = false;
            let chunk = std::mem::take(&mut half.chunk);
            let merged = std::mem::take(&mut half.buffering);
            match action {
                Action::Continue if half.iteration == Iteration::Stopped => {
                    if !merged {
                        half.hold_back(chunk);
                    }
                    self.go_on(context, direction).await;
                }
                Action::Continue => {
                    // The callback may have made trailers; they are not for this filter.
                    let trailers_made = end && half.trailers.is_some();
                    self.pass_data(context, direction, chunk, end && !trailers_made);
                    if trailers_made {
                        self.pass_trailers(context, direction);
                    }
                }
                Action::Pause => {
                    half.buffering = true;
                    half.iteration = Iteration::Stopped;
                    if !merged {
                        half.hold_back(chunk);
                    }
                    too_large = half.buffer.as_ref().is_some_and(|buffer| buffer.len() > buffer_max);
                }
                Action::Drop => {
                    half.iteration = Iteration::Stopped;
                    if half.end_seen && half.trailers.is_none() {
                        // So that the end passes, once resumed.
                        half.hold_back(Vec::new());
                    }
                }
            }
        }
        if too_large {
            self.state().deferred.push_back(Deferred::Reply(context, too_large_for(direction)));
        }
        self.deferred().await;
    }

    async fn show_trailers(&mut self, context: u32, direction: Direction) {
        let Some(half) = self.half(context, direction) else { return };
        half.trailers_visible = true;
        let count = half.trailers.as_ref().map_or(0, |trailers| u32::try_from(trailers.len()).unwrap_or(u32::MAX));
        let name = match direction {
            Direction::Request => "proxy_on_request_trailers",
            Direction::Response => "proxy_on_response_trailers",
        };
        let called = self.call(name, &[context, count]).await;
        let action = self.action(context, called, true);
        if let Some(half) = self.half(context, direction) {
            match action {
                Action::Continue => {
                    half.trailers_visible = false;
                    if half.iteration == Iteration::Stopped {
                        self.go_on(context, direction).await;
                    } else {
                        self.pass_trailers(context, direction);
                    }
                }
                Action::Pause | Action::Drop => half.iteration = Iteration::Stopped,
            }
        }
        self.deferred().await;
    }

    /// What the filter manager does with what a callback returned.
    fn action(&mut self, context: u32, called: Called, is_data: bool) -> Action {
        // A reset goes before anything that the callback was shown (seen in Envoy 1.40).
        let resets = |deferred: &Deferred| matches!(deferred, Deferred::Reset(stream) if *stream == context);
        if self.state().deferred.iter().any(resets) {
            self.end(context, false);
        }
        match called {
            Called::Absent | Called::Returned { value: 0, stop: false } => Action::Continue,
            Called::Returned { stop: true, .. } if is_data => Action::Drop,
            Called::Returned { .. } => Action::Pause,
            Called::Failed => {
                if self.state().options.failure_policy == FailurePolicy::Open {
                    return Action::Continue;
                }
                match self.stream(context) {
                    Some(stream) if !stream.failed => {
                        stream.failed = true;
                        let reply = LocalResponse::of_host(503, "wasm_fail_stream", "");
                        self.state().deferred.push_back(Deferred::Reply(context, reply));
                        Action::Drop
                    }
                    // It is the 503 itself that passes.
                    _ => Action::Continue,
                }
            }
        }
    }

    /// Lets what is held back go on (`commonContinue`).
    ///
    /// After a pause in the headers callback, the filter's own body callback is still to be shown the body; after any other, it was.
    fn go_on(&mut self, context: u32, direction: Direction) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let Some(half) = self.half(context, direction).filter(|half| !half.over) else { return };
            let show = std::mem::take(&mut half.iteration) == Iteration::StoppedAll;
            half.buffering = false;
            if direction == Direction::Request {
                half.headers_visible = false;
                half.trailers_visible = false;
            }
            let had_trailers = half.trailers.is_some();
            if !half.headers_passed {
                self.pass_headers(context, direction);
            }
            let Some(half) = self.half(context, direction).filter(|half| !half.over) else { return };
            let end = half.end_seen && !had_trailers;
            if let Some(buffer) = half.buffer.take() {
                if show {
                    self.show_data(context, direction, buffer, end).await;
                } else {
                    self.pass_data(context, direction, buffer, end);
                }
            }
            if had_trailers {
                if show {
                    self.show_trailers(context, direction).await;
                } else {
                    self.pass_trailers(context, direction);
                }
            }
        })
    }

    fn pass_headers(&mut self, context: u32, direction: Direction) {
        let Some(half) = self.half(context, direction).filter(|half| !half.over) else { return };
        half.headers_passed = true;
        let end = half.end_seen && half.buffer.is_none() && half.trailers.is_none();
        half.over = end;
        if direction == Direction::Response {
            self.finish_response_headers(context);
        }
        let headers = self.half(context, direction).and_then(|half| half.headers.clone()).unwrap_or_default();
        if direction == Direction::Response
            && let Some(stream) = self.stream(context)
        {
            stream.response_sent = true;
        }
        self.pass(context, direction, Frame::Headers { headers, end }, end);
    }

    /// What Envoy's connection manager adds on the way out; the access log sees it.
    fn finish_response_headers(&mut self, context: u32) {
        let date = http_date(self.wall());
        let server = self.state().options.server_name;
        let Some(headers) = self.half(context, Direction::Response).and_then(|half| half.headers.as_mut()) else {
            return;
        };
        if !headers.has("date") {
            headers.add("date", date);
        }
        headers.set("server", server);
    }

    fn pass_data(&mut self, context: u32, direction: Direction, bytes: Vec<u8>, end: bool) {
        let Some(half) = self.half(context, direction).filter(|half| !half.over) else { return };
        half.over = end;
        half.passed_bytes += bytes.len() as u64;
        self.pass(context, direction, Frame::Data { bytes, end }, end);
    }

    fn pass_trailers(&mut self, context: u32, direction: Direction) {
        let Some(half) = self.half(context, direction).filter(|half| !half.over) else { return };
        half.over = true;
        let trailers = half.trailers.clone().unwrap_or_default();
        self.pass(context, direction, Frame::Trailers(trailers), true);
    }

    fn pass(&mut self, context: u32, direction: Direction, frame: Frame, last: bool) {
        let Some(request) = self.stream(context).map(|stream| stream.request) else { return };
        if last {
            self.check_conserved(context, direction);
        }
        match direction {
            Direction::Request => self.effect(Effect::ToUpstream { request, frame }),
            Direction::Response => {
                self.effect(Effect::ToClient { request, frame });
                if last {
                    self.end(context, true);
                }
            }
        }
    }

    fn check_conserved(&mut self, context: u32, direction: Direction) {
        let Some(half) = self.half(context, direction) else { return };
        let (came, passed) = (half.body_bytes, half.passed_bytes);
        if half.changed || came == passed {
            return;
        }
        let place = self.state().place;
        let detail = format!("context {context}: {came} bytes of the {direction:?} body came, {passed} passed");
        self.state().commons.lock().violation(place, Law::BodyConserved, detail);
    }
}

// What callbacks asked for, done once they have returned.
impl Vm {
    fn deferred(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            // What the callbacks below ask for is done before the next of these.
            for deferred in std::mem::take(&mut self.state().deferred) {
                match deferred {
                    Deferred::Resume(context, direction) => self.resume(context, direction).await,
                    Deferred::Reset(context) => self.end(context, false),
                    Deferred::Reply(context, reply) => self.reply(context, reply).await,
                    Deferred::RootDone(root) => self.root_done(root).await,
                }
            }
        })
    }

    async fn resume(&mut self, context: u32, direction: Direction) {
        let Some(half) = self.half(context, direction).filter(|half| !half.over) else { return };
        if half.iteration == Iteration::Going {
            let place = self.state().place;
            let detail = format!("context {context} was resumed ({direction:?}) while it wasn't paused");
            self.state().commons.lock().violation(place, Law::ResumeOnlyPaused, detail);
            return;
        }
        self.go_on(context, direction).await;
    }

    /// Answers in place of the origin (`DownstreamFilterManager::sendLocalReply`).
    async fn reply(&mut self, context: u32, reply: LocalResponse) {
        let Some(stream) = self.stream(context).filter(|stream| !stream.ended) else { return };
        let request = stream.request;
        stream.local_reply = LocalReply::Sent;
        reply.details.clone_into(&mut stream.details);
        // Whatever else the client sends is dropped.
        stream.requesting.over = true;
        let content_type = stream.requesting.headers.as_ref().and_then(|headers| headers.get("content-type"));
        let is_grpc = content_type.is_some_and(|kind| kind.starts_with("application/grpc"));
        let (headers, body) = reply.encode(is_grpc, stream.is_head);
        let (started, sent) = (stream.response_started, stream.response_sent);
        self.effect(Effect::CancelUpstream { request });
        if !started {
            // Through all encoder filters, this one too.
            self.headers(context, Direction::Response, headers, body.is_none()).await;
            if let Some(body) = body {
                self.data(context, Direction::Response, body, true).await;
            }
        } else if !sent {
            // Straight to the client: filters have seen another response begin.
            if let Some(stream) = self.stream(context) {
                stream.responding.headers = Some(headers);
                stream.responding.end_seen = true;
                stream.responding.buffer = body.clone();
                stream.responding.trailers = None;
                stream.responding.iteration = Iteration::Going;
                stream.responding.changed = true;
            }
            self.pass_headers(context, Direction::Response);
            if let Some(body) = body {
                self.pass_data(context, Direction::Response, body, true);
            }
        } else {
            self.end(context, false);
        }
    }

    /// Ends a stream; its last callbacks follow when the callback that runs now has returned.
    fn end(&mut self, context: u32, whole: bool) {
        let Some(stream) = self.stream(context).filter(|stream| !stream.ended) else { return };
        stream.ended = true;
        stream.whole = whole;
        self.ending.push_back(context);
    }

    /// Lets streams go that have ended, and root contexts that were replaced and serve no stream any more.
    async fn let_go(&mut self) {
        while let Some(context) = self.ending.pop_front() {
            if let Some(stream) = self.stream(context) {
                stream.logging = true;
            }
            self.call("proxy_on_log", &[context]).await;
            self.deferred().await;
            if let Some(stream) = self.stream(context) {
                stream.logging = false;
            }
            self.call("proxy_on_done", &[context]).await;
            self.deferred().await;
            self.call("proxy_on_delete", &[context]).await;
            self.deferred().await;
            if let Some(stream) = self.state().streams.remove(&context) {
                let local_reply = stream.local_reply == LocalReply::Sent;
                let Stream { request, whole, details, .. } = stream;
                self.effect(Effect::StreamOver { request, whole, local_reply, details });
            }
        }
        let state = self.state();
        let unused = |root: &u32| !state.streams.values().any(|stream| stream.root == *root);
        let retired = state.roots.iter().filter(|(_, root)| root.retired && !root.closing).map(|(id, _)| *id);
        for root in retired.filter(unused).collect::<Vec<_>>() {
            if let Some(root) = self.state().roots.get_mut(&root) {
                root.closing = true;
            }
            let called = self.call("proxy_on_done", &[root]).await;
            self.deferred().await;
            if !matches!(called, Called::Returned { value: 0, .. }) {
                self.root_done(root).await;
            }
        }
    }

    /// Deletes a root context that is done.
    async fn root_done(&mut self, root: u32) {
        if self.state().roots.get(&root).is_none_or(|root| !root.closing) {
            return;
        }
        self.call("proxy_on_delete", &[root]).await;
        self.state().roots.remove(&root);
        let vm = self.state().key;
        self.effect(Effect::RootOver { vm, root });
    }
}
