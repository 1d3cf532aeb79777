//! Stacks for the module's functions, each used many times: a host call that hands bytes over runs the module's allocator on
//! a stack of its own, and mapping one takes longer than the call.

use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use wasmtime::{Error, StackCreator, StackMemory};

/// Bytes below a stack that nobody may touch; a multiple of every machine's pages.
const GUARD_BYTES: usize = 64 << 10;

/// How many stacks are kept while nobody uses them. They take memory only as far down as they were ever used.
const IDLE_MAX: usize = 64;

/// Lends stacks, and takes them back.
#[derive(Default)]
pub(crate) struct Stacks(Arc<Mutex<Vec<Mapping>>>);

// SAFETY: a stack is mapped for us alone, has a guard below it, and is lent to one user at a time.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, bytes: usize, zeroed: bool) -> Result<Box<dyn StackMemory>, Error> {
        let bytes = bytes.next_multiple_of(GUARD_BYTES);
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = idle.pop_if(|mapping| !zeroed && mapping.bytes == bytes + GUARD_BYTES);
        drop(idle);
        let mapping = used.map_or_else(|| Mapping::new(bytes), Ok)?;
        Ok(Box::new(Lent { mapping: Some(mapping), idle: Arc::clone(&self.0) }))
    }
}

/// A stack that somebody uses.
struct Lent {
    /// There until it goes back.
    mapping: Option<Mapping>,
    idle: Arc<Mutex<Vec<Mapping>>>,
}

impl Lent {
    fn ends(&self) -> Range<*mut u8> {
        self.mapping.as_ref().map_or(ptr::null_mut()..ptr::null_mut(), Mapping::ends)
    }
}

// SAFETY: `range` is the mapping without its guard, both aligned to pages, and neither moves while it is lent.
unsafe impl StackMemory for Lent {
    fn top(&self) -> *mut u8 {
        self.ends().end
    }

    fn range(&self) -> Range<usize> {
        self.guard_range().end.addr()..self.top().addr()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let bottom = self.ends().start;
        bottom..bottom.wrapping_byte_add(GUARD_BYTES)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.extend(self.mapping.take());
        }
    }
}

/// A guard and the stack above it.
struct Mapping {
    bottom: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: a shared mapping only tells where it is.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(stack_bytes: usize) -> Result<Self, Error> {
        let bytes = stack_bytes + GUARD_BYTES;
        // SAFETY: a new mapping, at a place that the system chooses, overlaps nothing.
        let bottom = unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        let bottom = NonNull::new(bottom.cast()).ok_or_else(|| Error::msg("a stack was mapped at address 0"))?;
        let mapping = Self { bottom, bytes };
        let stack = bottom.as_ptr().wrapping_byte_add(GUARD_BYTES);
        // SAFETY: all of it but the guard, in a mapping that nobody else knows yet.
        unsafe { mprotect(stack.cast(), stack_bytes, MprotectFlags::READ | MprotectFlags::WRITE) }?;
        Ok(mapping)
    }

    fn ends(&self) -> Range<*mut u8> {
        let bottom = self.bottom.as_ptr();
        bottom..bottom.wrapping_byte_add(self.bytes)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is ours, as long as it was mapped, and lent to nobody. Whether it worked matters to nobody any more.
        let _ = unsafe { munmap(self.bottom.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 2 << 20;

    #[test]
    fn a_stack_lies_above_its_guard_and_is_lent_again() {
        let stacks = Stacks::default();
        let first = stacks.new_stack(BYTES, false).unwrap();
        let (range, guard) = (first.range(), first.guard_range());
        assert_eq!((range.len(), range.end), (BYTES, first.top().addr()));
        assert_eq!((guard.end.addr(), guard.end.addr() - guard.start.addr()), (range.start, GUARD_BYTES));
        let second = stacks.new_stack(BYTES, false).unwrap();
        assert_ne!(second.range(), range, "nobody else gets it meanwhile");
        drop(first);
        assert_eq!(stacks.new_stack(BYTES, false).unwrap().range(), range);
    }

    #[test]
    fn one_that_must_be_empty_or_longer_is_a_new_one() {
        let stacks = Stacks::default();
        drop(stacks.new_stack(BYTES, false).unwrap());
        for (bytes, zeroed) in [(BYTES, true), (BYTES + 1, false)] {
            let other = stacks.new_stack(bytes, zeroed).unwrap();
            assert!(other.range().len() >= bytes);
            assert_eq!(stacks.0.lock().unwrap().len(), 1, "{bytes} {zeroed}: what is idle stays so");
            std::mem::forget(other);
        }
    }

    #[test]
    fn so_many_are_kept_and_no_more() {
        let stacks = Stacks::default();
        let lent: Vec<_> = (0..IDLE_MAX + 3).map(|_| stacks.new_stack(GUARD_BYTES, false).unwrap()).collect();
        drop(lent);
        assert_eq!(stacks.0.lock().unwrap().len(), IDLE_MAX);
    }
}
