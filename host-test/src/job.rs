//! What a thread of a gateway can be given to do with its VM.

use std::sync::Arc;

use crate::Headers;
use crate::abi::Direction;
use crate::commons::Frame;
use crate::failure::UpstreamFailure;
use crate::grpc::Part;
use crate::request::RequestId;
use crate::stream::Attributes;
#[cfg(feature = "serve")]
use crate::stream::LocalResponse;
use crate::vm::{CallResponse, Vm};

/// One turn of a thread's event loop.
pub(crate) enum Job {
    Start(Arc<[u8]>),
    Begin {
        request: RequestId,
        headers: Headers,
        end: bool,
        attributes: Attributes,
    },
    Frame {
        request: RequestId,
        direction: Direction,
        frame: Frame,
    },
    ClientGone(RequestId),
    UpstreamFailed(RequestId, UpstreamFailure),
    CallDone {
        root: u32,
        token: u32,
        response: Option<CallResponse>,
    },
    Grpc {
        root: u32,
        token: u32,
        part: Part,
    },
    Tick(u32),
    QueueReady {
        root: u32,
        token: u32,
    },
    /// The gateway answers on its own account.
    #[cfg(feature = "serve")]
    Answer(RequestId, LocalResponse),
    /// The gateway itself ends: root contexts are told so.
    Stop,
}

impl Job {
    /// Does it. For [`Job::Start`], tells whether the filter wants the configuration.
    pub(crate) async fn run(self, vm: &mut Vm) -> Option<bool> {
        match self {
            Self::Start(configuration) => return Some(vm.start(configuration).await),
            Self::Begin { request, headers, end, attributes } => vm.begin(request, headers, end, attributes).await,
            Self::Frame { request, direction, frame } => vm.frame(request, direction, frame).await,
            Self::ClientGone(request) => vm.client_gone(request).await,
            Self::UpstreamFailed(request, failure) => vm.upstream_failed(request, failure).await,
            Self::CallDone { root, token, response } => vm.call_done(root, token, response).await,
            Self::Grpc { root, token, part } => vm.grpc(root, token, part).await,
            Self::Tick(root) => vm.tick(root).await,
            Self::QueueReady { root, token } => vm.queue_ready(root, token).await,
            #[cfg(feature = "serve")]
            Self::Answer(request, response) => vm.answer(request, response).await,
            Self::Stop => vm.stop().await,
        }
        None
    }
}
