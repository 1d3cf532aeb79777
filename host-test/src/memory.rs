//! How much a module may take of the machine: its memories and tables, all of them together.

use wasmtime::ResourceLimiter;

use crate::commons::SharedCommons;
use crate::faults::Site;

/// Elements of all tables of a module.
const ELEMENTS_MAX: usize = 1 << 20;

/// Keeps a VM within its bounds. Past them `memory.grow` and `table.grow` fail, and a module that begins beyond them doesn't start.
pub(crate) struct Bounds {
    bytes_max: usize,
    bytes: usize,
    elements: usize,
    commons: SharedCommons,
    /// Whether the callback that runs was refused memory because a test wants it so: what it does then is nobody's fault.
    pub(crate) denied: bool,
}

impl Bounds {
    pub(crate) fn new(bytes_max: usize, commons: SharedCommons) -> Self {
        Self { bytes_max, bytes: 0, elements: 0, commons, denied: false }
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // A memory that is only being made isn't asked for by any callback.
        if current > 0 && self.commons.lock().fault(Site::Memory).is_some() {
            self.denied = true;
            return Ok(false);
        }
        let all = self.bytes.saturating_add(desired.saturating_sub(current));
        let fits = all <= self.bytes_max;
        if fits {
            self.bytes = all;
        }
        Ok(fits)
    }

    fn memories(&self) -> usize {
        16
    }

    fn tables(&self) -> usize {
        64
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let all = self.elements.saturating_add(desired.saturating_sub(current));
        let fits = all <= ELEMENTS_MAX;
        if fits {
            self.elements = all;
        }
        Ok(fits)
    }
}
