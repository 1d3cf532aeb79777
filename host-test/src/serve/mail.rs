//! How threads, connections and upstreams talk to the thread that runs a VM.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::exchange::Arrival;
use crate::job::Job;
use crate::request::RequestId;
use crate::vm::VmKey;

/// Something for a thread to do.
pub(super) enum Message {
    /// For a VM; nothing if another has taken its place.
    To(VmKey, Job),
    /// About a request; nothing if it has ended.
    Of(RequestId, Job),
    /// A client has connected.
    Connection(TcpStream, SocketAddr, OwnedSemaphorePermit),
    /// A request has come in.
    Arrived(Box<Arrival>),
    /// Connections are to be taken, and given to these threads in turn.
    Listen(TcpListener, Vec<Mailbox>),
    /// No more connections or requests; those under way may end.
    Stop,
}

/// The way to a thread.
#[derive(Clone)]
pub(super) struct Mailbox(mpsc::UnboundedSender<Message>);

impl Mailbox {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// A thread that has ended hears nothing.
    pub(super) fn send(&self, message: Message) {
        let _ = self.0.send(message);
    }
}

/// Which thread runs which VM.
#[derive(Clone, Default)]
pub(super) struct Directory(Arc<Mutex<HashMap<VmKey, Mailbox>>>);

impl Directory {
    pub(super) fn enter(&self, vm: VmKey, mailbox: Mailbox) {
        self.entries().insert(vm, mailbox);
    }

    pub(super) fn leave(&self, vm: VmKey) {
        self.entries().remove(&vm);
    }

    /// Posts to a VM on any thread; nothing if it is gone.
    pub(super) fn post(&self, vm: VmKey, job: Job) {
        let mailbox = self.entries().get(&vm).cloned();
        if let Some(mailbox) = mailbox {
            mailbox.send(Message::To(vm, job));
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<VmKey, Mailbox>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what a thread has begun that it is to come to an end.
pub(super) struct Draining(watch::Sender<bool>);

impl Default for Draining {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Draining {
    pub(super) fn begin(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn watch(&self) -> Drain {
        Drain(self.0.subscribe())
    }
}

/// Hears that everything is to come to an end.
pub(super) struct Drain(watch::Receiver<bool>);

impl Drain {
    /// Waits for that.
    pub(super) async fn begun(&mut self) {
        // A sender that is gone has ended.
        let _ = self.0.wait_for(|draining| *draining).await;
    }
}
