//! Who waits while a response is fetched, and how much is fetched at once.

use routecache_core::policy::{Limits, Lock, Reach};

use crate::mistake::What;
use crate::terms::{on_off, word};
use crate::tree::Kind;
use crate::walk::{Fields, Found, Range};

const REACH: &[(&str, Reach)] =
    &[("off", Reach::Off), ("worker", Reach::Worker), ("gateway", Reach::Gateway), ("group", Reach::Group)];

/// A client that waited for longer has gone by then.
const WAIT: Range = Range { low: (10, "`10ms`"), high: (60_000, "`60s`") };

const WAITERS: Range = Range { low: (1, "`1`"), high: (100_000, "`100000`") };

const FILLS: Range = Range { low: (1, "`1`"), high: (100_000, "`100000`") };

/// `lock`, `lock_wait` and `protect_origin` of a rule.
pub(crate) fn of_rule(fields: &Fields<'_>, grouped: bool, found: &mut Found) -> Lock {
    let default = Lock::default();
    if let Some(at) = fields.get("lock").filter(|at| !grouped && at.node.shown() == "group") {
        found.add(at, What::LockAlone);
    }
    Lock {
        reach: fields.get("lock").map_or(default.reach, |at| match at.node.kind {
            Kind::Bool(false) => Reach::Off,
            _ => word(at, REACH, found).unwrap_or(default.reach),
        }),
        wait_ms: fields.get("lock_wait").and_then(|at| at.duration_ms(&WAIT, found)).unwrap_or(default.wait_ms),
        protect_origin: fields.get("protect_origin").and_then(|at| on_off(at, found)).unwrap_or(false),
    }
}

/// `waiters` and `fills` of `limits`.
pub(crate) fn of_limits(fields: &Fields<'_>, found: &mut Found) -> (u32, Option<u32>) {
    let mut number = |name: &str, range: &Range| {
        fields.get(name).and_then(|at| at.number(range, found)).and_then(|number| u32::try_from(number).ok())
    };
    (number("waiters", &WAITERS).unwrap_or(Limits::default().waiters), number("fills", &FILLS))
}
