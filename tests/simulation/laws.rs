//! The laws, as pure functions of a [`History`]. They share no code with what they judge.

mod behind;
mod load;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::history::{Ask, Contact, Death, History, Kind, PART_BYTES, Purge, Read, Resource, Write};

/// What a run may break. The numbers are those of facts/invariants.md and of the contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// C2, C5, I2: after a write's response, or its end where nobody has seen one, its gateway serves nothing older.
    OwnWrites,
    /// C1, C3, C4, I1, I3, I6, I8: a window after a purge is in the group's log, no gateway serves what is older than it.
    GroupWrites,
    /// C3 with `purge.acknowledge: group`: after a write's response that says `purged`, no gateway serves anything older.
    HeardWrites,
    /// I4, I5: a worker that has shown a version whose write was purged shows nothing older from the cache.
    NeverBack,
    /// C5: once nothing fails, every write has been purged everywhere.
    NothingLost,
    /// C5, I24: a write that says `purged` is in the group's log.
    Acknowledged,
    /// C7, I9, I12: an answer is what was asked for.
    RightAnswer,
    /// C8, I10, I11: what the origin made for one client is shown to no other.
    Private,
    /// C9, I13, I15, I29: a complete answer is a whole body of the origin, or the part that was asked for, whatever else lies in the
    /// store: damaged bytes, forged ones, and those of filters that write another format.
    WholeAnswer,
    /// I14: only a complete answer to a GET is stored, or one that says that it still holds.
    OnlyWhole,
    /// I15: `Age` is there on a hit, and no less than the time since the origin answered.
    Age,
    /// I7: neither a tier, nor a clock, nor a validation that failed makes a response live longer than it may.
    Lifetime,
    /// I7: what was purged softly is told to be stale, and for its window; what is stale by age, too.
    SoftWindow,
    /// C10, I16, I18: as far as the lock reaches, one request for a key is under way at the origin, and one behind clients.
    SingleFlight,
    /// I17: who waits for an answer that turns out to be for one client goes on at once, and nobody waits for the next one.
    Unshared,
    /// I18: a gateway has so many fetches under way as its rules say.
    Fills,
    /// I11: what a gateway asks by itself says nothing of who wrote.
    Nobody,
    /// What a write has read again is asked for once each time, and after the write's response.
    Again,
    /// I18: of what writes have read again, and what is warmed, so much is under way, and begins in a second, as the rules say.
    Paced,
    /// What is due is asked about behind whoever uses it: what was stored too long ago, what is stale, or soon will be.
    Due,
    /// I16: what was asked about isn't asked about again before it is due.
    Once,
    /// What is listed is read after a start, and once.
    Warmed,
    /// I19: an error is stored if the rules say so, and for the time that they say.
    Negative,
    /// C10, C11, I16, I20, I22, I23: nobody waits for longer than a call may take, but for a fetch that is under way, or one
    /// whose worker has died and whose lease hasn't ended.
    Waiting,
    /// I20: a bridge that doesn't answer is asked a few times, and then hardly ever.
    Breaker,
    /// I28: `Cache-Status` says `hit` where the origin wasn't asked, and only there.
    Told,
    /// C11, I20: nothing but the origin, or the death of its own VM, makes a request fail.
    FailOpen,
    /// C13, I25, I26: what has a bound stays within.
    Bounded,
    /// C12, I21, I22, I27: no trap, no stuck stream, one reply, no callback without end.
    AnyFilter,
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
        write!(f, "{:?} at {:.3} ms: {}", self.law, ms(self.at), self.how)
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Everything in this history that breaks a law, in order of time.
pub fn breaches(history: &History) -> Vec<Breach> {
    let mut breaches: Vec<Breach> = history.reads.iter().flat_map(|read| judge(history, read)).collect();
    let any_filter = |how: &String| Breach { law: Law::AnyFilter, at: Duration::ZERO, how: how.clone() };
    breaches.extend(history.violations.iter().map(any_filter));
    breaches.extend(goes_back(history));
    breaches.extend(load::breaches(history));
    breaches.extend(behind::breaches(history));
    breaches.extend(history.writes.iter().filter_map(|write| unrecorded(history, write)));
    for bound in history.bounds.iter().filter(|bound| bound.is > bound.at_most) {
        let how = format!("{} is {}, more than {}", bound.what, bound.is, bound.at_most);
        breaches.push(Breach { law: Law::Bounded, at: history.healed, how });
    }
    breaches.sort_by_key(|breach| breach.at);
    breaches
}

fn judge(history: &History, read: &Read) -> Vec<Breach> {
    let breach = |law, how: String| Breach { law, at: read.began, how };
    let who = format!("{}.{} answered {}", read.gateway, read.worker, read.resource.path());
    let served = answers(history, read) && read.complete;
    let mut found = Vec::new();
    if served && read.status != 304 && read.ask != Ask::Head {
        found.extend(wrong_answer(read).map(|(law, how)| breach(law, format!("{who} {how}"))));
    }
    if !(served || read.left || excused(history, read) || load::spares_the_origin(history, read)) {
        found.push(breach(Law::FailOpen, format!("{who} with status {}, complete: {}", read.status, read.complete)));
    }
    if served {
        let facts = [private(history, read), not_whole(history, read), too_old(history, read), mistold(history, read)];
        found.extend(facts.into_iter().flatten().map(|(law, how)| breach(law, format!("{who} {how} ({})", read.told))));
    }
    let shown = read.version().filter(|_| served || read.body.starts_with(&format!("{} ", read.resource.path())));
    let Some(shown) = shown.filter(|_| answers(history, read)) else { return found };
    let told = &read.told;
    if let Some(write) = history.writes.iter().find(|write| binds_its_gateway(history, write, read, shown)) {
        let Write { version, .. } = write;
        found.push(breach(Law::OwnWrites, format!("{who} with v{shown} after the release of v{version} ({told})")));
    }
    if let Some(write) = history.writes.iter().find(|write| binds_all_gateways(history, write, read, shown)) {
        let how = format!("{who} with v{shown} after all have heard of v{} ({told})", write.version);
        found.push(breach(Law::HeardWrites, how));
    }
    if let Some(purge) = history.purges.iter().find(|purge| binds_the_group(history, purge, read, shown)) {
        let how = format!(
            "{who} with v{shown} a window after v{} was purged at {:.3} ms ({told})",
            purge.version,
            ms(purge.at)
        );
        found.push(breach(Law::GroupWrites, how));
    }
    if let Some(write) = history.writes.iter().find(|write| binds_in_the_end(history, write, read, shown)) {
        found.push(breach(Law::NothingLost, format!("{who} with v{shown} for ever after v{} ({told})", write.version)));
    }
    found
}

/// Whether an answer is one of the origin's, of which it has the status.
fn answers(history: &History, read: &Read) -> bool {
    let said = || read.origin.first().and_then(|number| history.contacts.get(*number));
    matches!(read.status, 200 | 206 | 304)
        || matches!(read.status, 404 | 410) && said().is_some_and(|contact| contact.status == read.status)
}

/// What is wrong with a complete body.
fn wrong_answer(read: &Read) -> Option<(Law, String)> {
    let (version, resource) = match (read.version(), read.body.split(' ').next().and_then(Resource::of)) {
        (Some(version), Some(resource)) => (version, resource),
        _ => return Some((Law::WholeAnswer, format!("with {:?}", read.body))),
    };
    if resource != read.resource {
        return Some((Law::RightAnswer, format!("with {}", resource.path())));
    }
    let whole = resource.body(version);
    let right = match read.status {
        206 => read.ask == Ask::Part && whole.as_bytes().get(..PART_BYTES) == Some(read.body.as_bytes()),
        _ => read.body == whole,
    };
    (!right).then(|| (Law::WholeAnswer, format!("with a part of v{version}")))
}

/// The origin's answer that a read was given, if it names one that was made for another request.
fn stored<'h>(history: &'h History, read: &Read) -> Option<&'h Contact> {
    let contact = history.contacts.get(*read.origin.first()?)?;
    (contact.request != read.request).then_some(contact)
}

fn private(history: &History, read: &Read) -> Option<(Law, String)> {
    let contact = stored(history, read)?;
    contact.private.then(|| (Law::Private, format!("with what was made for request {}", contact.request)))
}

fn not_whole(history: &History, read: &Read) -> Option<(Law, String)> {
    if read.origin.len() > 1 {
        return Some((Law::OnlyWhole, "with header lines of two of the origin's answers".to_owned()));
    }
    let Contact { status, is_get, whole, .. } = stored(history, read)?;
    let kept = matches!(status, 200 | 304 | 400..); // which errors may be, another law says
    let right = kept && *whole && (*is_get || *status == 304);
    (!right).then(|| (Law::OnlyWhole, format!("with a stored {status}, GET: {is_get}, whole: {whole}")))
}

fn too_old(history: &History, read: &Read) -> Option<(Law, String)> {
    let contact = stored(history, read)?;
    let resident = read.began.saturating_sub(contact.at);
    let stands_in = read.told.contains("stale-if-error");
    let extra = if stands_in { history.care.if_error } else { history.care.while_revalidate };
    let lifetime = if contact.status == 404 { history.care.missing.unwrap_or_default() } else { history.lifetime };
    let renewed = behind::renewed(history, read, contact);
    if (read.is_hit() || stands_in) && resident > renewed + lifetime + extra + history.transit {
        return Some((Law::Lifetime, format!("with what the origin sent {:.3} ms before", ms(resident))));
    }
    let age = read.age.as_ref().and_then(|age| age.parse::<u64>().ok());
    let counted = age.map(|age| Duration::from_secs(age + 1) + history.transit);
    let right = counted.map_or(!read.is_hit(), |counted| counted >= resident);
    (!right).then(|| (Law::Age, format!("with `Age: {:?}` after {:.3} ms", read.age, ms(resident))))
}

fn mistold(history: &History, read: &Read) -> Option<(Law, String)> {
    let asked = history.contacts.iter().any(|contact| contact.request == read.request);
    let from_the_store = read.is_hit() || read.told.contains("; collapsed;");
    // A client that waits for a fetch of the gateway's own is told of it as of a request of its own.
    let behind = |contact: &Contact| {
        contact.is_background()
            && (contact.gateway, contact.resource) == (read.gateway, read.resource)
            && contact.at <= read.ended
            && read.began <= contact.ended
    };
    let asked = asked || !from_the_store && history.contacts.iter().any(behind);
    (asked == from_the_store).then(|| (Law::Told, format!("and the origin was asked: {asked}")))
}

/// A gateway, a worker of it, and what it is asked for.
type Place = (usize, usize, Resource);

/// Reads of one worker, one after the other: what is served from the cache is no older than what was seen before, where
/// the purge of the newer is acknowledged and the older wasn't still on its way. What passes the cache by for its credentials is
/// somebody's own, and says nothing of what others are shown.
fn goes_back(history: &History) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut shown: HashMap<Place, Vec<(u64, &Read)>> = HashMap::new();
    let mut ordered: Vec<&Read> = history.reads.iter().filter(|read| read.complete).collect();
    ordered.sort_by_key(|read| read.began);
    for read in ordered {
        let Some(version) = read.version() else { continue };
        let seen = shown.entry((read.gateway, read.worker, read.resource)).or_default();
        if read.is_hit() {
            let sent = stored(history, read).map(|contact| contact.at + history.transit);
            let before = seen.iter().find(|(newer, before)| {
                let purged = history.purges.iter().any(|purge| {
                    let covers = purge.user == read.resource.user && purge.version >= *newer && purge.at < before.began;
                    covers && purge.lost.is_none() && !purge.soft
                });
                version < *newer
                    && before.ended < read.began
                    && purged
                    && sent.is_some_and(|sent| sent < before.began)
                    && !has_forgotten(history, read.gateway, before.began, read.ended)
            });
            if let Some((newer, _)) = before {
                let how = format!(
                    "{}.{} shows v{version} of {} after v{newer} ({})",
                    read.gateway,
                    read.worker,
                    read.resource.path(),
                    read.told
                );
                breaches.push(Breach { law: Law::NeverBack, at: read.began, how });
            }
        }
        if !read.told.contains("detail=credentials") {
            seen.push((version, read));
        }
    }
    breaches
}

/// I24: what isn't in the log mustn't be called purged.
fn unrecorded(history: &History, write: &Write) -> Option<Breach> {
    let (released, gateway) = (write.released?, write.gateway?);
    let claims = write.told.contains("detail=purged") && history.grouped;
    let covers = |purge: &Purge| {
        purge.gateway == Some(gateway)
            && purge.user == write.user
            && purge.version >= write.version
            && purge.at <= released
    };
    (claims && !history.purges.iter().any(covers)).then(|| Breach {
        law: Law::Acknowledged,
        at: released,
        how: format!("gateway {gateway} calls v{} of user {} purged", write.version, write.user),
    })
}

/// A request fails with its VM, and with the origin.
fn excused(history: &History, read: &Read) -> bool {
    let overlaps = |from: Duration, to: Duration| from <= read.ended && read.began <= to;
    let died = |death: &Death| {
        death.gateway == read.gateway
            && death.worker.is_none_or(|worker| worker == read.worker)
            && overlaps(death.at, death.at)
    };
    history.deaths.iter().any(died) || history.origin_failed.iter().any(|(from, to)| overlaps(*from, *to))
}

/// Whether a gateway's process died, or lost its shared data: what it had then not told the group is gone (a limit that
/// the protocol states).
fn has_forgotten(history: &History, gateway: usize, from: Duration, to: Duration) -> bool {
    let within = |at: Duration| from <= at && at <= to;
    history.deaths.iter().any(|death| death.gateway == gateway && death.worker.is_none() && within(death.at))
        || history.forgot.iter().any(|(at, whose)| *whose == gateway && within(*at))
}

/// Whether a write purges what is read for good: what its own URL answers, and otherwise unless the rules say softly.
fn is_hard(history: &History, read: &Read) -> bool {
    !history.care.softly || read.resource.kind == Kind::User
}

/// C2.
fn binds_its_gateway(history: &History, write: &Write, read: &Read, shown: u64) -> bool {
    is_hard(history, read)
        && write.gateway == Some(read.gateway)
        && write.user == read.resource.user
        && shown < write.version
        && known_by(history, write)
            .is_some_and(|known| known < read.began && !has_forgotten(history, read.gateway, write.done, read.ended))
}

/// When a write's gateway knows of it: when it releases the response, or else, having seen that the exchange is over.
fn known_by(history: &History, write: &Write) -> Option<Duration> {
    let unseen = || write.ended.filter(|ended| write.done < *ended && !dies_in(history, write));
    write.released.or_else(|| Some(unseen()? + history.slack))
}

/// Whether the VM that was to purge what a write changed died over it.
fn dies_in(history: &History, write: &Write) -> bool {
    let dies = |death: &Death| {
        let in_flight = write.began <= death.at && write.ended.is_none_or(|ended| death.at <= ended);
        Some(death.gateway) == write.gateway && death.worker == Some(write.worker) && in_flight
    };
    history.deaths.iter().any(dies)
}

/// C3 without its window. Who polls is known to the store by its own clock, and to no replica that hasn't been told.
fn binds_all_gateways(history: &History, write: &Write, read: &Read, shown: u64) -> bool {
    let Some(released) = write.released.filter(|_| history.heard && write.told.contains("detail=purged")) else {
        return false;
    };
    let lapsed = |at: &Duration| *at <= read.ended && released <= *at + history.window * 2;
    is_hard(history, read)
        && write.user == read.resource.user
        && shown < write.version
        && released < read.began
        && !history.store_lapses.iter().any(lapsed)
        && !has_forgotten(history, read.gateway, write.done, read.ended)
}

/// C3. What a failover loses may be served until it is noticed (likewise).
fn binds_the_group(history: &History, purge: &Purge, read: &Read, shown: u64) -> bool {
    !purge.soft
        && purge.user == read.resource.user
        && shown < purge.version
        && purge.at + history.window < read.began
        && purge.lost.is_none_or(|lost| read.ended < lost)
}

/// C5. Excused: what died with its gateway, or with the VM that was to purge it; and what a failover lost, unless the
/// gateway that knows of it lives on to notice.
fn binds_in_the_end(history: &History, write: &Write, read: &Read, shown: u64) -> bool {
    if write.user != read.resource.user || shown >= write.version || read.began < history.healed {
        return false;
    }
    let covers = |purge: &&Purge| purge.user == write.user && purge.version >= write.version;
    if history.purges.iter().filter(covers).any(|purge| purge.lost.is_none()) {
        return true;
    }
    let Some(gateway) = write.gateway else { return false }; // only the API knew of it, and the store has forgotten
    !has_forgotten(history, gateway, write.began, Duration::MAX) && !dies_in(history, write)
}
