//! The store in memory: the whole protocol as plain calls on [`Memory`], and [`MemStore`] around it for the bridge.

mod listeners;
mod log;
mod memory;
mod people;
mod shelf;
mod store;

pub use memory::Memory;
pub use store::MemStore;
