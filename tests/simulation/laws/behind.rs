//! The laws of what gateways do by themselves: what uses renew, what is asked about in time and once, what a write has read
//! again, and what is warmed.

use std::time::Duration;

use super::load::{LEASE, REFRESH, View, millis};
use super::{Breach, Law, ms, stored};
use crate::simulation::care::Reach;
use crate::simulation::history::{Ask, Contact, History, Read, Resource, Trouble, Write};

/// How long a worker leaves alone what another one may be at, and how late it is noticed that time is over.
const ELSEWHERE: Duration = millis(100 + 250);

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(1 << 20);

/// How long what a write has read again waits for its turn.
const TURN: Duration = millis(3000);

/// How long after a start all of a short list has been read.
const STARTED: Duration = millis(4000);

/// Every breach of these laws.
pub(super) fn breaches(history: &History) -> Vec<Breach> {
    let view = View::of(history);
    let contacts = history.contacts.iter().filter(|contact| contact.is_background());
    let asked = contacts.flat_map(|contact| {
        let own = [again(history, contact), paced(&view, history, contact), warmed_once(&view, history, contact)];
        let own = own.into_iter().flatten().filter(|_| contact.own);
        own.chain(nobody(contact)).chain(once(&view, history, contact))
    });
    let counted = history.contacts.iter().filter_map(|contact| fills(&view, history, contact));
    let reads = history.reads.iter().filter_map(|read| due(&view, history, read));
    asked.chain(counted).chain(reads).chain(unwarmed(&view, history)).collect()
}

/// By how much uses have moved the end of what this read was given: each moves it to a lifetime after itself, if it came
/// before the end.
pub(super) fn renewed(history: &History, read: &Read, contact: &Contact) -> Duration {
    if !history.care.behind.sliding {
        return Duration::ZERO;
    }
    // Reading what is to be warmed is a use that no client sees, where it is done once more.
    let warmed = !history.care.behind.warm.is_empty();
    let died = history.deaths.iter().any(|death| death.gateway == read.gateway && death.at <= read.began);
    if warmed && (died || history.origin_failed.iter().any(|(from, _)| *from <= read.began)) {
        return FOR_EVER;
    }
    let same = |other: &&Read| {
        let answered = other.origin.first().is_none_or(|number| read.origin.first() == Some(number));
        (other.gateway, other.resource) == (read.gateway, read.resource) && answered && other.began < read.began
    };
    let mut uses: Vec<Duration> = history.reads.iter().filter(same).map(|other| other.ended.min(read.began)).collect();
    uses.sort_unstable();
    let first = contact.at + history.lifetime + history.transit;
    let move_on = |end: Duration, at: Duration| if at <= end { end.max(at + history.lifetime) } else { end };
    uses.into_iter().fold(first, move_on).saturating_sub(first)
}

fn breach(law: Law, contact: &Contact, how: &str) -> Option<Breach> {
    let Contact { gateway, worker, resource, at, .. } = contact;
    Some(Breach { law, at: *at, how: format!("{gateway}.{worker} asks the origin for {} {how}", resource.path()) })
}

fn nobody(contact: &Contact) -> Option<Breach> {
    if contact.named { breach(Law::Nobody, contact, "in somebody's name") } else { None }
}

/// Fetches of a gateway in its own name, for the same.
fn alike<'h>(history: &'h History, contact: &'h Contact) -> impl Iterator<Item = &'h Contact> {
    let same = |other: &&Contact| other.own && (other.gateway, other.resource) == (contact.gateway, contact.resource);
    history.contacts.iter().filter(same)
}

/// As many as there were reasons: responses of writes that have it read again. What has waited for its turn for so long is
/// what another reason stood for, too.
fn again(history: &History, contact: &Contact) -> Option<Breach> {
    let behind = &history.care.behind;
    if !behind.warm.is_empty() {
        return None;
    }
    let waits = if history.care.fills.is_some() { TURN + history.care.lock_wait } else { TURN };
    let (from, since) = (contact.at.saturating_sub(ELSEWHERE), contact.at.saturating_sub(ELSEWHERE + waits));
    let asked = alike(history, contact).filter(|other| from <= other.at && other.at <= contact.at).count();
    let over = |write: &&Write| {
        let at = write.released.or(write.ended).filter(|_| write.gateway == Some(contact.gateway));
        at.is_some_and(|at| since <= at && at <= contact.at)
    };
    let asks = |write: &Write| behind.reads(write.user).into_iter().filter(|read| *read == contact.resource).count();
    let reasons: usize = history.writes.iter().filter(over).map(asks).sum();
    if asked <= reasons {
        return None;
    }
    breach(Law::Again, contact, &format!("the {asked}th time for {reasons} responses of writes"))
}

/// Each worker has so many under way, and begins so many in a second.
fn paced(view: &View<'_>, history: &History, contact: &Contact) -> Option<Breach> {
    let (gateway, at, behind) = (contact.gateway, contact.at, &history.care.behind);
    let second = at.saturating_sub(millis(1000));
    if view.troubled(gateway, second, at, |_| true) || view.died(gateway, None, second, at) {
        return None;
    }
    let before = history.contacts.iter().take_while(|other| !std::ptr::eq(*other, contact));
    let own: Vec<&Contact> = before.filter(|other| other.own && other.gateway == gateway).collect();
    // What isn't for sharing is left where that shows.
    let kept = |other: &Contact| matches!(other.status, 200 | 304) && !other.private;
    let ended = |other: &Contact| if kept(other) { view.ended(other) } else { other.answered.min(view.ended(other)) };
    let under_way = 1 + own.iter().filter(|other| ended(other) > at).count();
    let begun = 1 + own.iter().filter(|other| other.at > second).count();
    // Two of the seconds that are counted may meet in one.
    let rate = behind.rate.map_or(usize::MAX, |rate| rate * 2 * history.workers);
    if under_way <= behind.concurrency.unwrap_or(4) * history.workers && begun <= rate {
        return None;
    }
    breach(Law::Paced, contact, &format!("with {under_way} such reads under way, {begun} begun in a second"))
}

/// What was read once stays, or is fetched by whoever wants it.
fn warmed_once(view: &View<'_>, history: &History, contact: &Contact) -> Option<Breach> {
    if history.care.behind.warm.is_empty() {
        return None;
    }
    let done = |other: &&Contact| {
        view.ended(other) == other.ended
            && other.ended < contact.at
            && other.whole
            && other.status == 200
            && !view.is_vain(other)
            && !other.private
            && !view.troubled(contact.gateway, other.at, contact.at, |_| true)
            && !view.died(contact.gateway, None, other.at, contact.at)
    };
    let first = alike(history, contact).find(done)?;
    breach(Law::Warmed, contact, &format!("to warm it, as it did at {:.3} ms", ms(first.at)))
}

/// What is warmed is fetched in its turn, as what clients want is.
fn fills(view: &View<'_>, history: &History, contact: &Contact) -> Option<Breach> {
    let max = history.care.fills.filter(|_| !history.care.behind.warm.is_empty())?;
    let Contact { gateway, at, .. } = *contact;
    let client = |other: &Contact| view.plain(other).is_some_and(|read| !view.goes_alone(read));
    let counts = |other: &Contact| other.gateway == gateway && other.is_get && (other.own || client(other));
    if !counts(contact) || view.troubled(gateway, at.saturating_sub(LEASE), at, |it| it == Trouble::Shared) {
        return None;
    }
    let before = history.contacts.iter().take_while(|other| !std::ptr::eq(*other, contact));
    let met = before.filter(|other| counts(other) && view.ended(other) > at).count();
    if met < max {
        return None;
    }
    breach(Law::Fills, contact, &format!("while {met} of {max} fetches are under way, of clients or to warm"))
}

/// Where nothing goes wrong, all of the list is asked for soon.
fn unwarmed(view: &View<'_>, history: &History) -> Vec<Breach> {
    let gateways = history.reads.iter().map(|read| read.gateway).max().map_or(0, |last| last + 1);
    let places = (0..gateways).flat_map(|gateway| history.care.behind.warm.iter().map(move |it| (gateway, *it)));
    let wrong = |gateway| {
        view.troubled(gateway, Duration::ZERO, STARTED, |_| true) || view.died(gateway, None, Duration::ZERO, STARTED)
    };
    let failed = history.origin_failed.iter().any(|(from, _)| *from <= STARTED);
    let asked = |gateway: usize, resource: Resource| {
        let near = |contact: &Contact| history.grouped || contact.gateway == gateway;
        history.contacts.iter().any(|it| near(it) && it.is_get && it.resource == resource && it.at <= STARTED)
    };
    let left = places.filter(|(gateway, resource)| !failed && !wrong(*gateway) && !asked(*gateway, *resource));
    let told = left.map(|(gateway, resource)| Breach {
        law: Law::Warmed,
        at: STARTED,
        how: format!("gateway {gateway} hasn't asked for {}, which is listed", resource.path()),
    });
    told.collect()
}

/// How long after it was stored something is due to be asked about, where it stays fresh for so long.
fn due_after(history: &History, lifetime: Duration) -> Duration {
    let early = lifetime.saturating_sub(history.care.early);
    history.care.behind.revalidate_after.map_or(early, |after| after.min(early))
}

/// Somebody uses what is due, and nobody asks about it.
fn due(view: &View<'_>, history: &History, read: &Read) -> Option<Breach> {
    let care = &history.care;
    let behind = &care.behind;
    if !care.background || !read.is_hit() || read.ask != Ask::Whole || read.left || !read.complete {
        return None;
    }
    let contact = stored(history, read).filter(|contact| contact.gateway == read.gateway && contact.status != 404)?;
    // Where uses renew what is stored, and where chance decides, only its age tells.
    let by_age = behind.revalidate_after.filter(|_| behind.sliding || behind.by_chance);
    let after = if behind.sliding || behind.by_chance { by_age? } else { due_after(history, history.lifetime) };
    let until = read.ended + ELSEWHERE + view.call() * 3 + history.slack;
    if read.began < contact.ended + after + history.slack || until >= history.healed {
        return None;
    }
    let from = read.began.saturating_sub(REFRESH);
    let failed = |(began, _): &(Duration, Duration)| *began <= until;
    let unshared = |other: &Contact| {
        let asks = other.is_background() || view.plain(other).is_some();
        asks && other.resource == read.resource && other.at <= until && (other.private || other.status >= 400)
    };
    let excused = view.troubled(read.gateway, from, until, |_| true)
        || view.died(read.gateway, None, from, until)
        || history.origin_failed.iter().any(failed)
        || history.contacts.iter().any(unshared);
    let asks = |other: &Contact| {
        // What another gateway has asked about since, and isn't due itself, is taken from the group.
        let taken = history.grouped && read.began <= other.ended + after + history.slack;
        let near = other.gateway == read.gateway || taken;
        near && other.is_get && other.resource == read.resource && other.at >= contact.ended && other.at <= until
    };
    if excused || history.contacts.iter().any(asks) {
        return None;
    }
    let age = ms(read.began.saturating_sub(contact.ended));
    let Read { gateway, worker, .. } = read;
    let how = format!(
        "{gateway}.{worker} answered {} {age:.3} ms after it came, and nobody asks about it ({})",
        read.resource.path(),
        read.told
    );
    Some(Breach { law: Law::Due, at: read.began, how })
}

/// A refresh of what was just refreshed. Clients who wait are fetched for once in each worker, or each, where the lock reaches no farther.
fn once(view: &View<'_>, history: &History, contact: &Contact) -> Option<Breach> {
    let Contact { gateway, resource, at, own, .. } = *contact;
    if own || !contact.is_get || history.care.lock < Reach::Gateway {
        return None;
    }
    let same = |other: &&Contact| {
        other.is_background() && !other.own && (other.gateway, other.resource) == (gateway, resource) && other.at < at
    };
    let before = history.contacts.iter().filter(same).max_by_key(|other| other.at)?;
    let stored = before.whole && matches!(before.status, 200 | 304) && !before.private && !view.is_vain(before);
    let (from, noticed) = (before.at.saturating_sub(history.window), before.ended + ELSEWHERE + view.call() * 3);
    let purged = history.purges.iter().map(|purge| (purge.user, purge.at)).chain(
        history
            .writes
            .iter()
            .flat_map(|write| [Some(write.done), write.ended].map(|at| (write.user, at)))
            .filter_map(|(user, at)| Some((user, at?))),
    );
    let overtaken = purged.filter(|(user, _)| *user == resource.user).any(|(_, purged)| from <= purged && purged <= at);
    let excused = overtaken
        || view.troubled(gateway, from, at, |_| true)
        || view.died(gateway, None, from, at)
        || history.origin_failed.iter().any(|(began, ended)| *began <= at && from <= *ended);
    if !stored
        || excused
        || at <= noticed + history.slack
        || at + history.slack >= before.answered + due_after(history, history.lifetime_least)
    {
        return None;
    }
    breach(Law::Once, contact, &format!("again, having done so at {:.3} ms", ms(before.at)))
}
