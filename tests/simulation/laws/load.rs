//! The laws of load: who waits for what and how long, what the origin is asked at once, and how long what is stale answers.
//!
//! They allow what the contracts allow, and no more: where a fault excuses something, it does for the time that the
//! contracts name.

use std::collections::HashMap;
use std::time::Duration;

use super::{Breach, Law, ms};
use crate::simulation::care::Reach;
use crate::simulation::history::{Ask, Contact, Death, History, Purge, Read, Trouble, While, Write};

pub(super) const fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How long a gateway's lease, or a line of its permits, counts that isn't renewed, and how late that is noticed.
pub(super) const LEASE: Duration = millis(3000 + 250);

/// How long the group's lease of a refresh counts.
pub(super) const REFRESH: Duration = Duration::from_secs(15);

/// How long it is remembered that answers aren't for sharing.
const PASS: Duration = Duration::from_secs(60);

/// How long it is remembered that a fetch failed.
const FAILED_PASS: Duration = millis(1000);

/// Calls in a row without an answer after which the bridge isn't asked, and how long at least until the next try.
const BREAKER_CALLS: usize = 5;
const BREAKER_OPEN: Duration = millis(1000);

/// How long at most until a bridge that answers again is asked again.
const BREAKER_OPEN_MAX: Duration = millis(8000 + 1000);

/// How late it is noticed that time is over.
const TICK: Duration = millis(250);

/// Every breach of these laws.
pub(super) fn breaches(history: &History) -> Vec<Breach> {
    let view = View::of(history);
    let reads = history.reads.iter().flat_map(|read| {
        [soft_window(history, read), negative(history, read), view.waits(read), view.is_held_up(read)]
    });
    let contacts = history.contacts.iter().flat_map(|contact| [view.single_flight(contact), view.fills(contact)]);
    let writes = history.writes.iter().map(|write| view.held(write));
    let cuts = history.troubles.iter().flat_map(|cut| view.breaker(cut));
    reads.chain(contacts).chain(writes).flatten().chain(cuts).collect()
}

/// A refusal where the rules want the origin spared.
pub(super) fn spares_the_origin(history: &History, read: &Read) -> bool {
    history.care.protects && read.status == 503 && read.told.contains("detail=protect-origin")
}

fn breach(law: Law, at: Duration, how: String) -> Option<Breach> {
    Some(Breach { law, at, how })
}

fn who(read: &Read) -> String {
    format!("{}.{} answered {}", read.gateway, read.worker, read.resource.path())
}

/// I7.
fn soft_window(history: &History, read: &Read) -> Option<Breach> {
    let shown = read.version().filter(|_| read.complete && matches!(read.status, 200 | 206 | 304))?;
    let covers = |purge: &&Purge| {
        purge.soft && purge.user == read.resource.user && shown < purge.version && purge.lost.is_none()
    };
    let purge = history.purges.iter().find(covers)?;
    let known = purge.at + history.window;
    let stands_in = read.told.contains("stale-if-error");
    let window = if stands_in { history.care.if_error } else { history.care.while_revalidate };
    // What is on its way from the origin isn't told to be stale.
    let right = read.began <= known || (read.is_hit() || stands_in) && read.began <= known + window + history.transit;
    let fresh = read.told.contains("; ttl=") && !read.told.contains("; ttl=-") && !read.told.contains("; ttl=0");
    if right && !(fresh && read.began > known) {
        return None;
    }
    let after = ms(read.began.saturating_sub(purge.at));
    let how = format!("{} with v{shown} {after:.3} ms after a soft purge of it ({})", who(read), read.told);
    breach(Law::SoftWindow, read.began, how)
}

/// I19. How long is judged as the lifetime of all that is stored.
fn negative(history: &History, read: &Read) -> Option<Breach> {
    let allowed = read.status < 400 || read.status == 404 && history.care.missing.is_some();
    if allowed || !read.is_hit() {
        return None;
    }
    breach(Law::Negative, read.began, format!("{} with a stored {} ({})", who(read), read.status, read.told))
}

/// A history, and what is looked up in it.
pub(super) struct View<'h> {
    history: &'h History,
    reads: HashMap<usize, &'h Read>,
    contacts: HashMap<usize, &'h Contact>,
}

impl<'h> View<'h> {
    pub(super) fn of(history: &'h History) -> Self {
        let reads = history.reads.iter().map(|read| (read.request, read)).collect();
        let contacts = history.contacts.iter().map(|contact| (contact.request, contact)).collect();
        Self { history, reads, contacts }
    }

    /// The request of a client for all of it, which may wait, and be waited for.
    pub(super) fn plain(&self, contact: &Contact) -> Option<&'h Read> {
        let plain = |read: &&Read| read.ask == Ask::Whole || read.ask == Ask::IfChanged && read.had.is_none();
        self.reads.get(&contact.request).copied().filter(plain)
    }

    /// Whether what a place asks for is collapsed with what another does.
    pub(super) fn is_together(&self, one: (usize, usize), other: (usize, usize)) -> bool {
        match self.history.care.lock {
            Reach::Off => false,
            Reach::Worker => one == other,
            Reach::Gateway => one.0 == other.0,
            Reach::Group => self.history.grouped || one.0 == other.0,
        }
    }

    fn in_group(&self) -> bool {
        self.history.grouped && self.history.care.lock == Reach::Group
    }

    /// The troubles that a gateway may have felt between two times.
    pub(super) fn troubled(
        &self,
        gateway: usize,
        from: Duration,
        to: Duration,
        what: impl Fn(Trouble) -> bool,
    ) -> bool {
        let felt = |it: &While| it.gateway.is_none_or(|whose| whose == gateway) && it.from <= to && from <= it.to;
        self.history.troubles.iter().any(|it| what(it.trouble) && felt(it))
    }

    pub(super) fn died(&self, gateway: usize, worker: Option<usize>, from: Duration, to: Duration) -> bool {
        let hits = |death: &Death| death.worker.is_none() || worker.is_none() || death.worker == worker;
        let within = |death: &Death| death.gateway == gateway && from <= death.at && death.at <= to;
        self.history.deaths.iter().any(|death| hits(death) && within(death))
    }

    /// When nobody waited any more for an answer of the origin.
    pub(super) fn ended(&self, contact: &Contact) -> Duration {
        let left = self.reads.get(&contact.request).filter(|read| read.left).map(|read| read.ended);
        let mine = |death: &&Death| {
            let worker = death.worker.is_none_or(|worker| contact.is_background() || worker == contact.worker);
            death.gateway == contact.gateway && worker && contact.at <= death.at
        };
        let died = self.history.deaths.iter().filter(mine).map(|death| death.at).min();
        contact.ended.min(left.unwrap_or(Duration::MAX)).min(died.unwrap_or(Duration::MAX))
    }

    /// Whether those who wait for a fetch get nothing of it, because the origin failed or a purge came meanwhile.
    pub(super) fn is_vain(&self, contact: &Contact) -> bool {
        let (from, to) = (contact.at.saturating_sub(self.call()), contact.ended + self.history.window);
        let purged = |at: Duration, user: u64| user == contact.resource.user && from <= at && at <= to;
        // A gateway records a purge when it hears of it; its own write's a second time, when that is acknowledged.
        let heard = |purge: &Purge| match purge.gateway == Some(contact.gateway) {
            true => purge.at + self.call(),
            false => purge.at + self.history.window,
        };
        let overtakes = |purge: &Purge| purge.user == contact.resource.user && from <= heard(purge) && purge.at <= to;
        let written =
            |write: &Write| [Some(write.done), write.released].into_iter().flatten().any(|at| purged(at, write.user));
        matches!(contact.status, 0 | 500..)
            || !contact.whole
            || self.history.purges.iter().any(overtakes)
            || self.history.writes.iter().any(written)
            // Or all that was stored has been dropped.
            || self.troubled(contact.gateway, contact.at.saturating_sub(self.history.window * 2), to, |_| true)
    }

    /// Whether answers were known not to be for sharing.
    fn is_passed(&self, contact: &Contact) -> bool {
        let unshared = |other: &Contact| {
            let stored =
                matches!(other.status, 200 | 304) || other.status == 404 && self.history.care.missing.is_some();
            other.private || !stored && matches!(other.status, 1..500)
        };
        self.history.contacts.iter().any(|other| {
            let alone = |read: &&Read| matches!(read.ask, Ask::Authorised | Ask::Part | Ask::Head);
            let asks = self.reads.get(&other.request).copied().filter(alone).is_none();
            let known = other.answered <= contact.at && contact.at <= other.answered + PASS;
            asks && other.resource == contact.resource && known && unshared(other)
        })
    }

    /// Whether the origin had just failed twice, or for as long as a failure is remembered.
    fn is_down(&self, contact: &Contact) -> bool {
        let long = |other: &&Contact| {
            let took = other.ended.saturating_sub(other.at) + self.call() * 3 + self.history.slack;
            matches!(other.status, 0 | 500..) && took >= FAILED_PASS
        };
        let lately = |other: &&Contact| {
            other.resource == contact.resource
                && other.ended <= contact.at
                && contact.at <= other.ended + FAILED_PASS * 2 + TICK
                && self.is_vain(other)
        };
        let failed = || self.history.contacts.iter().filter(lately);
        failed().count() >= 2 || failed().any(|other| long(&other))
    }

    /// What a call to the bridge may take.
    pub(super) fn call(&self) -> Duration {
        if self.history.grouped { self.history.care.bridge_timeout } else { Duration::ZERO }
    }

    /// What a call to the bridge may take while a read waits for it, or for another that does: all of its time only where something is
    /// wrong there.
    fn call_for(&self, read: &Read) -> Duration {
        let bridge = |trouble| matches!(trouble, Trouble::Bridge | Trouble::NoBridge);
        match self.troubled(read.gateway, read.began.saturating_sub(self.call() * 2), read.ended, bridge) {
            true => self.call(),
            false => self.call().min(self.history.bridge_way),
        }
    }

    /// C10, I16, I18: while one asks for a key, others don't.
    fn single_flight(&self, contact: &Contact) -> Option<Breach> {
        let Contact { gateway, worker, resource, at, .. } = *contact;
        let read = self.plain(contact);
        let fault = |trouble| matches!(trouble, Trouble::Shared);
        // What a write has read again is newer than whatever is under way.
        let judged = (contact.is_background() && !contact.own || read.is_some()) && contact.is_get;
        if !judged || self.history.care.lock == Reach::Off || self.is_passed(contact) || self.is_down(contact) {
            return None;
        }
        if read.is_some_and(|read| self.goes_alone(read)) || self.troubled(gateway, at.saturating_sub(LEASE), at, fault)
        {
            return None;
        }
        let before = self.history.contacts.iter().take_while(|other| !std::ptr::eq(*other, contact));
        let meets = |other: &&Contact| {
            let asks = other.is_get && (other.is_background() && !other.own || self.plain(other).is_some());
            let late = self.plain(other).is_some_and(|read| self.goes_alone(read));
            asks && !late && other.resource == resource && self.ended(other) > at
        };
        // What the group has, if only stale, it gives no lease for; a gateway without a way back to itself asks in the
        // client's own request.
        let plainly = !self.history.care.background && read.is_some_and(|read| read.told.contains("fwd=stale"));
        let together = |other: &&Contact| {
            let near = self.is_together((other.gateway, other.worker), (gateway, worker));
            near && (other.gateway == gateway || !plainly)
                && (other.gateway == gateway || !self.is_apart(other, contact))
        };
        let met: Vec<&Contact> = before.filter(meets).filter(together).collect();
        let behind = met.iter().filter(|other| other.is_background()).count();
        let own = met.len() - behind;
        // A client that waits and a refresh have different leases; of a worker's lock, background fetches know nothing.
        let allowed = match (contact.is_background(), self.history.care.lock) {
            (_, Reach::Worker) => !contact.is_background() && own == 0 || contact.is_background(),
            (true, _) => met.len() <= 1,
            (false, _) => own == 0,
        };
        if allowed {
            return None;
        }
        let path = resource.path();
        let how = format!("{gateway}.{worker} asks for {path} while {own} requests and {behind} refreshes do");
        breach(Law::SingleFlight, at, how)
    }

    /// Whether a request says that it waited in vain, or that it doesn't trust what others have; or would have said so, if its client
    /// had heard anything before it, or the gateway, went away.
    pub(super) fn goes_alone(&self, read: &Read) -> bool {
        read.told.is_empty() && self.is_new(read)
            || ["lock-wait", "crowded", "fills", "feed-lost", "shared-data"].iter().any(|why| read.told.contains(why))
    }

    /// Whether a read's gateway has begun a moment ago, and may not have heard the feed.
    fn is_new(&self, read: &Read) -> bool {
        let began = |death: &Death| death.gateway == read.gateway && death.worker.is_none() && death.at <= read.began;
        let began = self.history.deaths.iter().filter(|death| began(death)).map(|death| death.at).max();
        self.history.grouped && read.began <= began.unwrap_or_default() + TICK + self.history.window
    }

    /// Whether two gateways can't know of each other: one is cut off, or a purge of it is pending.
    fn is_apart(&self, one: &Contact, other: &Contact) -> bool {
        let from = one.at.saturating_sub(BREAKER_OPEN_MAX);
        let cut = |trouble| matches!(trouble, Trouble::Bridge | Trouble::NoBridge);
        let pending = |write: &Write| {
            let until = match write.released {
                Some(released) if write.told.contains("detail=purged") => released,
                _ => write.done + BREAKER_OPEN_MAX,
            };
            write.user == one.resource.user && write.gateway.is_some() && write.done <= other.at && one.at <= until
        };
        [one.gateway, other.gateway].into_iter().any(|gateway| self.troubled(gateway, from, other.at, cut))
            || self.history.writes.iter().any(pending)
    }

    /// I18: how many fetches a gateway has under way together.
    fn fills(&self, contact: &Contact) -> Option<Breach> {
        let Contact { gateway, at, .. } = *contact;
        let max = self.history.care.fills?;
        let counted = |other: &Contact| other.is_get && self.plain(other).is_some_and(|read| !self.goes_alone(read));
        let fault = |trouble| matches!(trouble, Trouble::Shared);
        if !counted(contact) || self.troubled(gateway, at.saturating_sub(LEASE), at, fault) {
            return None;
        }
        let before = self.history.contacts.iter().take_while(|other| !std::ptr::eq(*other, contact));
        let meets = |other: &&Contact| other.gateway == gateway && counted(other) && self.ended(other) > at;
        let met = before.filter(meets).count();
        if met < max {
            return None;
        }
        breach(
            Law::Fills,
            at,
            format!("gateway {gateway} asks the origin while {met} of its {max} fetches are under way"),
        )
    }

    /// I17.
    fn is_held_up(&self, read: &Read) -> Option<Breach> {
        let contact = self.contacts.get(&read.request).filter(|contact| self.plain(contact).is_some())?;
        let place = (read.gateway, read.worker);
        let lost = |trouble| matches!(trouble, Trouble::Shared | Trouble::Bridge | Trouble::NoBridge);
        if self.history.care.fills.is_some() || self.troubled(read.gateway, Duration::ZERO, contact.at, lost) {
            return None;
        }
        let same = |other: &&Contact| {
            other.resource == read.resource
                && self.plain(other).is_some()
                && other.request != read.request
                && self.is_together((other.gateway, other.worker), place)
                && other.answered < contact.at
                && other.answered + PASS > contact.at
        };
        let others: Vec<&Contact> = self.history.contacts.iter().filter(same).collect();
        let last = others.iter().map(|other| other.answered).max()?;
        // Since the last one that was for sharing, or may have been, and for as long as nobody's VM has died.
        let shared = others.iter().filter(|other| !other.private).map(|other| other.ended).max().unwrap_or_default();
        let death = self.history.deaths.iter().map(|death| death.at).filter(|at| *at < contact.at).max();
        let since = shared.max(death.unwrap_or_default());
        let known =
            others.iter().filter(|other| other.private && other.at > since && self.ended(other) >= other.answered);
        let known = known.map(|other| other.answered).min().filter(|known| *known <= last)?;
        let soon = self.call() * 3 + self.history.slack;
        // What is stale may be asked about behind a client, which comes to the origin itself where that brings nothing.
        let about_it = self.history.contacts.iter().filter(|other| {
            let behind =
                other.is_background() && (other.gateway, other.worker) == place && other.resource == read.resource;
            behind && read.began <= other.at && other.at <= read.began.max(known) + soon
        });
        let asked = about_it.map(|other| other.ended).max().unwrap_or_default();
        let might = read.began.max(known).max(asked) + soon;
        if contact.at <= might {
            return None;
        }
        let late = ms(contact.at.saturating_sub(might));
        let how = format!("{} {late:.3} ms late: it was known that it isn't for sharing ({})", who(read), read.told);
        breach(Law::Unshared, read.began, how)
    }

    /// While what a read may wait for: from, to.
    fn reasons(&self, read: &Read) -> Vec<(Duration, Duration)> {
        let care = &self.history.care;
        let place = (read.gateway, read.worker);
        let fetches = self.history.contacts.iter().filter(|contact| {
            let own = contact.request == read.request;
            let behind = contact.is_background() && contact.gateway == read.gateway;
            let collapsed = behind || self.is_together((contact.gateway, contact.worker), place);
            // Whoever fetches may wait for its turn there.
            let queued = care.fills.is_some() && (contact.gateway == read.gateway || self.in_group());
            own || contact.resource == read.resource && collapsed || queued
        });
        // Without queues, a gateway stores it with its next tick, and another gateway's worker that hears of it tells the others
        // there, which look with theirs.
        let told = |contact: &Contact| if contact.gateway == read.gateway { Duration::ZERO } else { self.history.tick };
        let mut reasons: Vec<_> = fetches.map(|contact| (contact.at, contact.ended + told(contact))).collect();
        let leases = care.lock >= Reach::Gateway || care.fills.is_some();
        for death in self.history.deaths.iter().filter(|death| leases && death.gateway == read.gateway) {
            reasons.push((death.at, death.at + LEASE));
        }
        let waits = |it: &&While| match it.trouble {
            Trouble::Shared => it.gateway.is_none_or(|gateway| gateway == read.gateway),
            Trouble::Bridge | Trouble::NoBridge => self.in_group(),
        };
        for it in self.history.troubles.iter().filter(waits) {
            let lease = match it.trouble {
                Trouble::Shared => LEASE,
                _ if care.background => REFRESH,
                _ => care.lock_wait,
            };
            reasons.push((it.from, it.to + lease));
        }
        if self.in_group() {
            // Whoever leaves while it asks gives back a lease that it may not have yet, and once more when it must have it.
            let asking = |other: &&Read| other.left && !self.contacts.contains_key(&other.request);
            let left = self.history.reads.iter().filter(asking).filter(|other| other.resource == read.resource);
            reasons.extend(left.map(|other| (other.ended, other.ended + care.bridge_timeout + TICK)));
            // Somebody refreshed what they want; each waits for that as long as for others.
            let lease = if care.background { care.lock_wait.max(REFRESH) } else { care.lock_wait };
            reasons.extend(self.history.deaths.iter().map(|death| (death.at, death.at + lease + TICK)));
        }
        reasons.sort_unstable();
        reasons
    }

    /// C10, C11, I16, I20, I22, I23.
    fn waits(&self, read: &Read) -> Option<Breach> {
        if read.left || self.died(read.gateway, Some(read.worker), read.began, read.ended) {
            return None;
        }
        // Look, ask the group, be told of another's end; and the same once more for a fetch of the gateway's own.
        let calls = if self.history.care.background { 6 } else { 3 };
        let budget = self.call_for(read) * calls + self.history.slack;
        let mut idle_since = read.began;
        for (from, to) in self.reasons(read).into_iter().filter(|(from, to)| *to >= read.began && *from <= read.ended) {
            if from > idle_since + budget {
                break;
            }
            idle_since = idle_since.max(to);
        }
        if read.ended > idle_since + budget {
            let idle = ms(read.ended.saturating_sub(idle_since));
            let how = format!("{} {idle:.3} ms after there was nothing left to wait for ({})", who(read), read.told);
            return breach(Law::Waiting, read.began, how);
        }
        let asked = self.contacts.get(&read.request).map_or(read.ended, |contact| contact.at);
        let behind = |contact: &Contact| contact.is_background() && contact.resource == read.resource;
        let waited = asked.saturating_sub(read.began);
        let limit = self.history.care.lock_wait + budget + TICK;
        if waited > limit && !self.history.contacts.iter().any(behind) {
            return breach(
                Law::Waiting,
                read.began,
                format!("{} having waited {:.3} ms ({})", who(read), ms(waited), read.told),
            );
        }
        None
    }

    /// I20, for writes.
    fn held(&self, write: &Write) -> Option<Breach> {
        let released = write.released.filter(|_| !write.left)?;
        let answered = self.history.contacts.iter().filter(|contact| !contact.is_get);
        let answered = answered.filter(|contact| contact.gateway == write.gateway.unwrap_or(usize::MAX));
        let answered = answered.filter(|contact| contact.at == write.done && contact.resource.user == write.user);
        // What says what to read again is read to its end.
        let reads = self.history.care.behind.reads_responses();
        let answered = answered.map(|contact| if reads { contact.ended } else { contact.answered }).max()?;
        let timeout = self.history.care.purge_timeout;
        let late = released.saturating_sub(answered + timeout + self.history.slack);
        if late.is_zero() || self.died(write.gateway?, Some(write.worker), write.began, released) {
            return None;
        }
        let how = format!("a write is released {:.3} ms later than it may be ({})", ms(late), write.told);
        breach(Law::Waiting, write.began, how)
    }

    /// I20: each worker's breaker opens, and stays open but for a try now and then.
    fn breaker(&self, cut: &While) -> Vec<Breach> {
        let Some(gateway) = cut.gateway.filter(|_| cut.trouble == Trouble::NoBridge) else { return Vec::new() };
        let mut delayed: HashMap<usize, Vec<(Duration, Duration)>> = HashMap::new();
        let within = |read: &&Read| read.gateway == gateway && cut.from <= read.began && read.began <= cut.to;
        for read in self.history.reads.iter().filter(within) {
            let Some(contact) = self.contacts.get(&read.request) else { continue };
            let waited = contact.at.saturating_sub(read.began);
            // What collapses waits for others, too.
            if read.ask == Ask::Authorised && waited >= self.call() / 2 && contact.at <= cut.to {
                delayed.entry(read.worker).or_default().push((contact.at, read.began));
            }
        }
        let mut found = Vec::new();
        for (worker, mut waited) in delayed {
            if self.died(gateway, Some(worker), cut.from, cut.to) {
                continue;
            }
            waited.sort_unstable();
            let Some((open, _)) = waited.get(BREAKER_CALLS - 1).copied() else { continue };
            let tries = waited.iter().filter(|(_, began)| *began > open).count();
            let may =
                1 + usize::try_from((cut.to.saturating_sub(open)).as_millis() / BREAKER_OPEN.as_millis()).unwrap_or(0);
            if tries > may {
                let how = format!("{tries} requests of {gateway}.{worker} waited for a bridge that doesn't answer");
                found.extend(breach(Law::Breaker, open, how));
            }
        }
        found
    }
}
