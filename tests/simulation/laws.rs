//! The laws, as pure functions of a [`History`]. They share no code with what they judge.

use std::fmt;
use std::time::Duration;

use super::history::{History, Purge, Read, Resource, Write};

/// What a run may break. The numbers are those of facts/invariants.md and of the contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// C2, I2: after a write's response, its gateway serves nothing older.
    OwnWrites,
    /// C1, C3, C4, I1, I3, I8: a window after a purge is in the group's log, no gateway serves what is older than it.
    GroupWrites,
    /// C5, I24: once nothing fails, every write has been purged everywhere.
    NothingLost,
    /// C7, I9, I12: an answer is what was asked for.
    RightAnswer,
    /// C9, I13, I15: a complete answer is a whole body of the origin.
    WholeAnswer,
    /// C11, I20: nothing but the origin, or the death of its own VM, makes a request fail.
    FailOpen,
    /// C12, I21, I22: no trap, no stuck stream, one reply.
    AnyFilter,
}

impl Law {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OwnWrites,
        Self::GroupWrites,
        Self::NothingLost,
        Self::RightAnswer,
        Self::WholeAnswer,
        Self::FailOpen,
        Self::AnyFilter,
    ];
}

/// A law that a run broke.
#[derive(Clone, Debug)]
pub struct Breach {
    /// Which.
    pub law: Law,
    /// When.
    pub at: Duration,
    /// How.
    pub how: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:.3} ms: {}", self.law, self.at.as_secs_f64() * 1000.0, self.how)
    }
}

/// Everything in this history that breaks a law, in order of time.
pub fn breaches(history: &History) -> Vec<Breach> {
    let mut breaches: Vec<Breach> = history.reads.iter().flat_map(|read| judge(history, read)).collect();
    let any_filter = |how: &String| Breach { law: Law::AnyFilter, at: Duration::ZERO, how: how.clone() };
    breaches.extend(history.violations.iter().map(any_filter));
    breaches.sort_by_key(|breach| breach.at);
    breaches
}

fn judge(history: &History, read: &Read) -> Vec<Breach> {
    let breach = |law, how: String| Breach { law, at: read.began, how };
    let who = format!("{}.{} answered {}", read.gateway, read.worker, read.resource.path());
    let served_whole = read.status == 200 && read.complete;
    let mut found = Vec::new();
    if served_whole {
        match (read.version(), read.body.split(' ').next().and_then(Resource::of)) {
            (Some(version), Some(resource)) => {
                if resource != read.resource {
                    found.push(breach(Law::RightAnswer, format!("{who} with {}", resource.path())));
                } else if read.body != resource.body(version) {
                    found.push(breach(Law::WholeAnswer, format!("{who} with a part of v{version}")));
                }
            }
            _ => found.push(breach(Law::WholeAnswer, format!("{who} with {:?}", read.body))),
        }
    }
    if !(served_whole || read.left || excused(history, read)) {
        found.push(breach(Law::FailOpen, format!("{who} with status {}, complete: {}", read.status, read.complete)));
    }
    let served = (read.status == 200).then(|| read.version()).flatten();
    let Some(served) = served.filter(|_| read.body.starts_with(&format!("{} ", read.resource.path()))) else {
        return found;
    };
    let told = &read.told;
    if let Some(write) = history.writes.iter().find(|write| binds_its_gateway(history, write, read, served)) {
        let Write { version, .. } = write;
        found.push(breach(Law::OwnWrites, format!("{who} with v{served} after the release of v{version} ({told})")));
    }
    if let Some(purge) = history.purges.iter().find(|purge| binds_the_group(history, purge, read, served)) {
        let (version, at) = (purge.version, purge.at.as_secs_f64() * 1000.0);
        let how = format!("{who} with v{served} a window after v{version} was purged at {at:.3} ms ({told})");
        found.push(breach(Law::GroupWrites, how));
    }
    if let Some(write) = history.writes.iter().find(|write| binds_in_the_end(history, write, read, served)) {
        found
            .push(breach(Law::NothingLost, format!("{who} with v{served} for ever after v{} ({told})", write.version)));
    }
    found
}

/// A request fails with its VM, and with the origin.
fn excused(history: &History, read: &Read) -> bool {
    let overlaps = |from: Duration, to: Duration| from <= read.ended && read.began <= to;
    let died = |death: &super::history::Death| {
        death.gateway == read.gateway
            && death.worker.is_none_or(|worker| worker == read.worker)
            && overlaps(death.at, death.at)
    };
    history.deaths.iter().any(died) || history.origin_failed.iter().any(|(from, to)| overlaps(*from, *to))
}

/// C2. A gateway's process may die; what it had then not told the group is lost (a limit that the protocol states).
fn binds_its_gateway(history: &History, write: &Write, read: &Read, served: u64) -> bool {
    let since = |from: Duration| {
        let gone = |death: &&super::history::Death| death.gateway == read.gateway && death.worker.is_none();
        !history.deaths.iter().filter(gone).any(|death| from <= death.at && death.at <= read.ended)
    };
    write.gateway == Some(read.gateway)
        && write.user == read.resource.user
        && served < write.version
        && write.released.is_some_and(|released| released < read.began && since(released))
}

/// C3. What a failover loses may be served until it is noticed (likewise).
fn binds_the_group(history: &History, purge: &Purge, read: &Read, served: u64) -> bool {
    purge.user == read.resource.user
        && served < purge.version
        && purge.at + history.window < read.began
        && purge.lost.is_none_or(|lost| read.ended < lost)
}

/// C5. Excused: what died with its gateway, or with the VM that was to purge it; and what a failover lost, unless the
/// gateway that knows of it lives on to notice.
fn binds_in_the_end(history: &History, write: &Write, read: &Read, served: u64) -> bool {
    if write.user != read.resource.user || served >= write.version || read.began < history.healed {
        return false;
    }
    let covers = |purge: &&Purge| purge.user == write.user && purge.version >= write.version;
    if history.purges.iter().filter(covers).any(|purge| purge.lost.is_none()) {
        return true;
    }
    let Some(gateway) = write.gateway else { return false }; // only the API knew of it, and the store has forgotten
    let dies = |death: &super::history::Death| {
        let process = death.worker.is_none() && death.at >= write.began;
        let in_flight = write.began <= death.at && write.ended.is_none_or(|ended| death.at <= ended);
        death.gateway == gateway && (process || death.worker == Some(write.worker) && in_flight)
    };
    !history.deaths.iter().any(dies)
}
