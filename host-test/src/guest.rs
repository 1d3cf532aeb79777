//! What a host function sees: the module that called it, its memory, and its VM's state.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use wasmtime::{Caller, Memory};

use crate::abi::Status;
use crate::commons::{Commons, Place};
use crate::faults::Site;
use crate::laws::Law;
use crate::trace::HostCall;
use crate::vm::VmState;

/// Why a host function didn't do what it was asked.
pub(crate) enum Fault {
    /// The module is told so.
    Status(Status),
    /// The module can't go on.
    Trap(wasmtime::Error),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The module in which a host function was called.
pub(crate) struct Guest<'call> {
    caller: Caller<'call, VmState>,
    name: &'static str,
    /// Whether a test had it refused.
    refused: bool,
}

impl<'call> Guest<'call> {
    /// Enters a host function. Other workers may run before it goes on.
    ///
    /// # Errors
    ///
    /// A trap, where the running callback wants more of the host than any that makes sense: host calls cost no fuel.
    pub(crate) async fn enter(caller: Caller<'call, VmState>, name: &'static str) -> wasmtime::Result<Self> {
        const CALLS_MAX: usize = 1_000_000;
        const BYTES_MAX: usize = 1 << 30;
        if caller.data().options.interleave {
            pause().await;
        }
        let state = caller.data();
        if state.host_calls.len() >= CALLS_MAX {
            return Err(wasmtime::Error::msg(format!(
                "{CALLS_MAX} host calls in one callback; is this an endless loop?"
            )));
        }
        if state.copied_bytes > BYTES_MAX {
            return Err(wasmtime::Error::msg(format!(
                "more than {BYTES_MAX} bytes between host and module in one callback"
            )));
        }
        Ok(Self { caller, name, refused: false })
    }

    /// The status that a test wants instead of the real one, if it does.
    pub(crate) fn refusal(&mut self) -> Option<Status> {
        let refusal = {
            let mut commons = self.commons();
            let unimplemented = commons.fault(Site::HostCall).map(|_| Status::Unimplemented);
            commons.refusal(self.name).or(unimplemented)
        };
        self.refused = refusal.is_some();
        refusal
    }

    /// Leaves a host function of the Proxy-Wasm ABI.
    pub(crate) fn leave(mut self, outcome: Result<(), Fault>) -> wasmtime::Result<u32> {
        let status = match outcome {
            Ok(()) => Status::Ok,
            Err(Fault::Status(status)) => status,
            Err(Fault::Trap(trap)) => return Err(trap),
        };
        if status == Status::InvalidMemoryAccess && !self.vm().bounds.denied {
            let detail = format!("{} was given a pointer outside the module's memory", self.name);
            self.commons().violation(self.place(), Law::PointersInMemory, detail);
        }
        if self.is_senseless(status) {
            let detail = format!("{} answered {status} in {}", self.name, self.vm().callback);
            self.commons().violation(self.place(), Law::ExpectedStatus, detail);
        }
        self.note(status as u32);
        Ok(status as u32)
    }

    /// Whether a filter that knows what it does wouldn't have asked.
    fn is_senseless(&self, status: Status) -> bool {
        // The same question makes sense one moment and none the next: clusters and streams come and go.
        const BY_CHANCE: [&str; 5] = [
            "proxy_http_call",
            "proxy_grpc_call",
            "proxy_grpc_stream",
            "proxy_set_effective_context",
            "proxy_call_foreign_function",
        ];
        let senseless = matches!(status, Status::BadArgument | Status::ParseFailure | Status::SerializationFailure);
        let expected = self.refused || self.vm().options.expected_statuses.contains(&status);
        senseless && !expected && !BY_CHANCE.contains(&self.name)
    }

    /// Records the call and what it answered.
    pub(crate) fn note(&mut self, answer: u32) {
        let call = HostCall { name: self.name, answer };
        self.state().host_calls.push(call);
    }

    pub(crate) fn vm(&self) -> &VmState {
        self.caller.data()
    }

    pub(crate) fn state(&mut self) -> &mut VmState {
        self.caller.data_mut()
    }

    pub(crate) fn place(&self) -> Place {
        self.vm().place
    }

    /// The wall clock of its gateway.
    pub(crate) fn wall(&self) -> std::time::Duration {
        self.commons().wall_of(self.place().gateway)
    }

    pub(crate) fn commons(&self) -> std::sync::MutexGuard<'_, Commons> {
        self.caller.data().commons.lock()
    }

    /// The module's memory and the VM's state side by side.
    fn memory(&mut self) -> Result<(&mut [u8], &mut VmState), Status> {
        let memory: Memory = self.vm().memory.ok_or(Status::InvalidMemoryAccess)?;
        Ok(memory.data_and_store_mut(&mut self.caller))
    }

    /// Bytes that the module points at.
    pub(crate) fn bytes(&mut self, pointer: u32, length: u32) -> Result<Vec<u8>, Status> {
        let range = range(pointer, length)?;
        let (memory, state) = self.memory()?;
        let bytes = memory.get(range).ok_or(Status::InvalidMemoryAccess)?;
        state.copied_bytes = state.copied_bytes.saturating_add(bytes.len());
        Ok(bytes.to_vec())
    }

    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Status> {
        let length = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        let (memory, state) = self.memory()?;
        state.copied_bytes = state.copied_bytes.saturating_add(bytes.len());
        memory.get_mut(range(pointer, length)?).ok_or(Status::InvalidMemoryAccess)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn write_u32(&mut self, pointer: u32, number: u32) -> Result<(), Status> {
        self.write(pointer, &number.to_le_bytes())
    }

    pub(crate) fn write_u64(&mut self, pointer: u32, number: u64) -> Result<(), Status> {
        self.write(pointer, &number.to_le_bytes())
    }

    /// Hands bytes over: in memory that the module's own allocator gives, or as a null pointer where there are none.
    pub(crate) async fn give(&mut self, bytes: &[u8], pointer_at: u32, length_at: u32) -> Result<(), Fault> {
        let length = u32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
        let pointer = if bytes.is_empty() { 0 } else { self.allocate(length).await? };
        if pointer != 0 {
            self.write(pointer, bytes)?;
        }
        self.write_u32(pointer_at, pointer)?;
        Ok(self.write_u32(length_at, length)?)
    }

    async fn allocate(&mut self, length: u32) -> Result<u32, Fault> {
        const DEPTH_MAX: usize = 8;
        let malloc = self.vm().malloc.clone().ok_or(Status::InternalFailure)?;
        if self.vm().allocating >= DEPTH_MAX {
            return Err(Fault::Trap(wasmtime::Error::msg(
                "the module's allocator asks the host for what needs the allocator",
            )));
        }
        self.state().allocating += 1;
        let pointer = malloc.call_async(&mut self.caller, length).await.map_err(Fault::Trap)?;
        self.state().allocating -= 1;
        if pointer == 0 {
            return Err(Fault::Status(Status::InvalidMemoryAccess));
        }
        Ok(pointer)
    }
}

fn range(pointer: u32, length: u32) -> Result<std::ops::Range<usize>, Status> {
    let start = usize::try_from(pointer).map_err(|_| Status::InvalidMemoryAccess)?;
    let length = usize::try_from(length).map_err(|_| Status::InvalidMemoryAccess)?;
    Ok(start..start.checked_add(length).ok_or(Status::InvalidMemoryAccess)?)
}

/// Gives way to the scheduler once.
pub(crate) fn pause() -> impl Future<Output = ()> + Send {
    struct Pause(bool);
    impl Future for Pause {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
        }
    }
    Pause(false)
}
