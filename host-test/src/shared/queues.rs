//! Shared queues as proxy-wasm-cpp-host keeps them (`src/shared_queue.cc`).

use std::collections::{BTreeMap, VecDeque};

use crate::abi::Status;
use crate::vm::VmKey;

/// Who hears that a queue holds something: the root context that registered it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registrant {
    pub(crate) vm: VmKey,
    pub(crate) root: u32,
}

#[derive(Debug)]
struct Queue {
    registrant: Registrant,
    items: VecDeque<Vec<u8>>,
}

/// Queues by VM id and name; a token names one.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    tokens: BTreeMap<(String, Vec<u8>), u32>,
    queues: BTreeMap<u32, Queue>,
}

impl Queues {
    /// Makes a queue, or takes over who hears of one that is there. What it holds stays.
    pub(crate) fn register(&mut self, vm_id: &str, name: &[u8], registrant: Registrant) -> u32 {
        // Tokens count from 1: 0 is none.
        let next = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX - 1) + 1;
        let token = *self.tokens.entry((vm_id.to_owned(), name.to_vec())).or_insert(next);
        let queue = self.queues.entry(token).or_insert_with(|| Queue { registrant, items: VecDeque::new() });
        queue.registrant = registrant;
        token
    }

    pub(crate) fn resolve(&self, vm_id: &str, name: &[u8]) -> Result<u32, Status> {
        self.tokens.get(&(vm_id.to_owned(), name.to_vec())).copied().ok_or(Status::NotFound)
    }

    /// Appends, without any limit, and tells who is to hear of it.
    pub(crate) fn enqueue(&mut self, token: u32, item: Vec<u8>) -> Result<Registrant, Status> {
        let queue = self.queues.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.push_back(item);
        Ok(queue.registrant)
    }

    pub(crate) fn dequeue(&mut self, token: u32) -> Result<Vec<u8>, Status> {
        self.queues.get_mut(&token).ok_or(Status::NotFound)?.items.pop_front().ok_or(Status::Empty)
    }
}
