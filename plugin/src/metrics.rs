//! Counters of the gateway. A host gives each a number when it is first defined in a VM.

use std::cell::RefCell;

use crate::host;

thread_local! {
    /// Names and numbers. A VM has one thread.
    static COUNTERS: RefCell<Vec<(&'static str, u32)>> = const { RefCell::new(Vec::new()) };
}

/// Counts one more; nothing where the host has no metrics.
pub fn count(name: &'static str) {
    COUNTERS.with_borrow_mut(|counters| {
        let known = counters.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let number = known.or_else(|| {
            let number = host::define_counter(name)?;
            counters.push((name, number));
            Some(number)
        });
        if let Some(number) = number {
            host::count(number);
        }
    });
}
