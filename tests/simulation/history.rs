//! What happened in a run, as the clients, the origin and the group's store saw it. The laws are held against this alone.

use std::fmt;
use std::time::Duration;

use super::care::Care;

/// What a resource is of its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The user, whose key is the tag.
    User,
    /// The user's orders, whose tags the rule names.
    Orders,
    /// The user's basket, whose tag only the response names.
    Basket,
}

/// Something that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Whose version it has.
    pub user: u64,
    /// Which one of the user's.
    pub kind: Kind,
}

impl Resource {
    /// Where it is.
    pub fn path(self) -> String {
        let rest = match self.kind {
            Kind::User => "",
            Kind::Orders => "/orders",
            Kind::Basket => "/basket",
        };
        format!("/users/{}{rest}", self.user)
    }

    /// The resource of a path.
    pub fn of(path: &str) -> Option<Self> {
        let (user, rest) = path.strip_prefix("/users/").map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
        let kind = match rest {
            "" => Kind::User,
            "orders" => Kind::Orders,
            "basket" => Kind::Basket,
            _ => return None,
        };
        Some(Self { user: user.parse().ok()?, kind })
    }

    /// The one body that this version of it has; its length gives the version away too.
    pub fn body(self, version: u64) -> String {
        let padding = usize::try_from(20 + version % 7 * 40).unwrap_or_default();
        format!("{} v{version} {}.", self.path(), "x".repeat(padding))
    }
}

/// Bytes that a request for a part asks for, from the first on: those that tell the version.
pub const PART_BYTES: usize = 24;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// All of it.
    Whole,
    /// Its header.
    Head,
    /// Its first bytes.
    Part,
    /// All of it, unless it is what this worker's clients had last.
    IfChanged,
    /// All of it, saying who it is.
    Authorised,
}

/// A request that reached the origin.
#[derive(Clone, Debug)]
pub struct Contact {
    /// Which of the client's requests it is.
    pub request: usize,
    /// By which gateway.
    pub gateway: usize,
    /// By which worker of it.
    pub worker: usize,
    /// For what.
    pub resource: Resource,
    /// When.
    pub at: Duration,
    /// When the header of the answer left.
    pub answered: Duration,
    /// When the answer had ended, or broken off.
    pub ended: Duration,
    /// The status of the answer; 0 for none.
    pub status: u16,
    /// Whether it was a GET.
    pub is_get: bool,
    /// Whether all of the answer was sent.
    pub whole: bool,
    /// Whether the answer is for this client alone.
    pub private: bool,
    /// Whether the gateway asks in its own name: for what a write has read again, or what is warmed.
    pub own: bool,
    /// Whether the request says who asks.
    pub named: bool,
}

/// The request of a [`Contact`] that no client made: a gateway fetches for itself.
pub const BACKGROUND: usize = usize::MAX;

impl Contact {
    /// Whether a gateway asks for itself.
    pub fn is_background(&self) -> bool {
        self.request == BACKGROUND
    }
}

/// A read, once it has ended.
#[derive(Clone, Debug)]
pub struct Read {
    /// Which of the clients' requests it is.
    pub request: usize,
    /// Where it was asked.
    pub gateway: usize,
    /// On which worker.
    pub worker: usize,
    /// For what.
    pub resource: Resource,
    /// In which way.
    pub ask: Ask,
    /// When it began.
    pub began: Duration,
    /// When it ended.
    pub ended: Duration,
    /// Of the answer; 0 if there was none.
    pub status: u16,
    /// Whether all of the answer came.
    pub complete: bool,
    /// The client went away.
    pub left: bool,
    /// What came.
    pub body: String,
    /// The version that a `304` speaks of: that of the client's `If-None-Match`.
    pub had: Option<u64>,
    /// `Cache-Status`.
    pub told: String,
    /// `Age`, if there is one.
    pub age: Option<String>,
    /// Which of the origin's answers this is (its place among [`History::contacts`]); all lines that say so.
    pub origin: Vec<usize>,
}

impl Read {
    /// The version that the client was told of.
    pub fn version(&self) -> Option<u64> {
        match (self.status, self.ask) {
            (304, _) => self.had,
            (_, Ask::Head) => None,
            _ => self.body.split_once(" v")?.1.split(' ').next()?.parse().ok(),
        }
    }

    /// Whether the cache says that it answered without asking the origin.
    pub fn is_hit(&self) -> bool {
        self.told.contains("; hit")
    }
}

/// A write that reached the origin.
#[derive(Clone, Debug)]
pub struct Write {
    /// Through which gateway; none if it went by them all.
    pub gateway: Option<usize>,
    /// Through which worker of it.
    pub worker: usize,
    /// What was written.
    pub user: u64,
    /// What its version became.
    pub version: u64,
    /// When the origin did it.
    pub done: Duration,
    /// When the client had the header of a successful answer.
    pub released: Option<Duration>,
    /// When the exchange ended.
    pub ended: Option<Duration>,
    /// When it began.
    pub began: Duration,
    /// The client went away.
    pub left: bool,
    /// `Cache-Status`.
    pub told: String,
}

/// A purge that the group's store has in its log.
#[derive(Clone, Debug)]
pub struct Purge {
    /// When.
    pub at: Duration,
    /// What it purges.
    pub user: u64,
    /// The newest version that the origin had then: what was read before it is older or the same.
    pub version: u64,
    /// Who sent it; none for the bridge's own API.
    pub gateway: Option<usize>,
    /// Whether what it purges is only stale since.
    pub soft: bool,
    /// A failover lost it.
    pub lost: Option<Duration>,
}

/// The end of a VM, or of a whole gateway.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// When.
    pub at: Duration,
    /// Of which gateway.
    pub gateway: usize,
    /// Of which worker; none for the whole process.
    pub worker: Option<usize>,
}

/// What a fault keeps from working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No call of a gateway to the bridge has an answer that says anything.
    NoBridge,
    /// Something about the bridge, its store, or the way to it.
    Bridge,
    /// A gateway's shared data.
    Shared,
}

/// A while in which something doesn't work.
#[derive(Clone, Copy, Debug)]
pub struct While {
    /// What.
    pub trouble: Trouble,
    /// Whose; none for all gateways.
    pub gateway: Option<usize>,
    /// From when.
    pub from: Duration,
    /// To when.
    pub to: Duration,
}

/// Something that grew, and what it may grow to.
#[derive(Clone, Debug)]
pub struct Bound {
    /// What.
    pub what: String,
    /// How large it is in the end.
    pub is: usize,
    /// How large it may be.
    pub at_most: usize,
}

/// Everything that a run left behind.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The consistency window.
    pub window: Duration,
    /// From when on nothing fails any more, and from when on everything must have healed.
    pub quiet: Duration,
    /// See there.
    pub healed: Duration,
    /// Whether there is a group.
    pub grouped: bool,
    /// Whether writes wait until every gateway has heard of their purges.
    pub heard: bool,
    /// When the store forgot who polls, or misjudged how long ago they did: failovers, and jumps ahead of its clock.
    pub store_lapses: Vec<Duration>,
    /// Freshness lifetime of what is stored.
    pub lifetime: Duration,
    /// The same where rules were never changed to a longer one.
    pub lifetime_least: Duration,
    /// What turns of threads may take: where the host has no queues, their work waits for a tick.
    pub slack: Duration,
    /// How long that tick takes to come; nothing where there are queues.
    pub tick: Duration,
    /// What a call to the bridge takes while nothing fails.
    pub bridge_way: Duration,
    /// Workers of each gateway.
    pub workers: usize,
    /// What the rules say of load.
    pub care: Care,
    /// What didn't work, and when.
    pub troubles: Vec<While>,
    /// How long an answer may be on its way without anybody counting.
    pub transit: Duration,
    /// In the order in which they reached the origin.
    pub contacts: Vec<Contact>,
    /// What has a bound.
    pub bounds: Vec<Bound>,
    /// When a gateway's shared data were lost, and whose.
    pub forgot: Vec<(Duration, usize)>,
    /// In the order in which they began.
    pub reads: Vec<Read>,
    /// In the order in which the origin did them.
    pub writes: Vec<Write>,
    /// In the order of the log.
    pub purges: Vec<Purge>,
    /// In order.
    pub deaths: Vec<Death>,
    /// When the origin failed: from, to.
    pub origin_failed: Vec<(Duration, Duration)>,
    /// What host-test found: broken laws of any filter.
    pub violations: Vec<String>,
    /// Other things worth telling.
    pub notes: Vec<(Duration, String)>,
}

impl fmt::Display for History {
    /// One line for each thing that happened, in order of time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<(Duration, String)> = self.notes.clone();
        for read in &self.reads {
            let Read { gateway, worker, resource, ask, began, status, .. } = read;
            let version = read.version().map_or_else(|| "nothing".to_owned(), |version| format!("v{version}"));
            let ended = read.ended.saturating_sub(*began).as_secs_f64() * 1000.0;
            let told = &read.told;
            let line = format!(
                "{gateway}.{worker} reads {} ({ask:?}) → {status} {version} after {ended:.1} ms  {told}",
                resource.path()
            );
            lines.push((*began, line));
        }
        for write in &self.writes {
            let Write { worker, user, version, .. } = write;
            let by = write.gateway.map_or("behind the gateways".to_owned(), |gateway| format!("{gateway}.{worker}"));
            lines.push((write.done, format!("origin: user {user} is v{version}, written {by}")));
            if let Some(released) = write.released {
                lines.push((released, format!("{by} releases the write of user {user} v{version}")));
            }
        }
        for Purge { at, user, version, gateway, soft, lost } in &self.purges {
            let by = gateway.map_or("the API".to_owned(), |gateway| format!("gateway {gateway}"));
            let (softly, lost) = (if *soft { "soft " } else { "" }, if lost.is_some() { ", to be lost" } else { "" });
            lines.push((*at, format!("store: {softly}purge of user {user} up to v{version} by {by}{lost}")));
        }
        for contact in &self.contacts {
            let Contact { gateway, worker, resource, at, answered, ended, status, private, .. } = contact;
            let took = |to: &Duration| to.saturating_sub(*at).as_secs_f64() * 1000.0;
            let (behind, private) =
                (if contact.is_background() { " behind" } else { "" }, if *private { ", private" } else { "" });
            let path = resource.path();
            let line = format!("{gateway}.{worker} asks the origin for {path}{behind} → {status}{private}");
            lines
                .push((*at, format!("{line}, header after {:.1} ms, end after {:.1} ms", took(answered), took(ended))));
        }
        for Death { at, gateway, worker } in &self.deaths {
            let who = worker.map_or(format!("gateway {gateway}"), |worker| format!("worker {gateway}.{worker}"));
            lines.push((*at, format!("{who} dies")));
        }
        for (at, gateway) in &self.forgot {
            lines.push((*at, format!("gateway {gateway} loses its shared data")));
        }
        lines.push((self.quiet, "-- nothing fails from here on".to_owned()));
        lines.push((self.healed, "-- everything must have healed".to_owned()));
        lines.sort_by_key(|(at, _)| *at);
        lines.iter().try_for_each(|(at, line)| writeln!(f, "{:10.3} ms  {line}", at.as_secs_f64() * 1000.0))
    }
}
