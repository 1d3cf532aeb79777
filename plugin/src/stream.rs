//! One request and its response.

use std::mem;
use std::rc::Rc;
use std::time::Duration;

use bridge_api::{LOOKUP, LookupReply, LookupRequest, StoreRequest};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use routecache_core::cache_status::{CacheStatus, Forward, Tier};
use routecache_core::entry::{Entry, Parts, Ticket, VaryKey};
use routecache_core::fields::Fields;
use routecache_core::key::tag_hash;
use routecache_core::policy::DeltaSeconds;
use routecache_core::request::{Name, Plan, Reading, Reuse, write_purges};
use routecache_core::storing::{self, Freshness, keeps_field};

use crate::bridge;
use crate::host::{self, Buffer, Direction, Map};
use crate::root::{Instance, Purged};
use crate::worker::Job;

/// See the module.
pub struct Stream {
    id: u32,
    instance: Rc<Instance>,
    state: State,
}

/// What this exchange waits for.
enum State {
    /// Nothing: no rule speaks of it, it is answered, or all that could be done is done.
    Passing,
    /// The response header, to say in it how the request was handled.
    Telling(CacheStatus),
    /// The bridge's answer; the request is paused.
    Asking { question: Question, token: u32 },
    /// The response header, to decide whether to store.
    Filling { question: Question, group: Option<bridge_api::Ticket> },
    /// The rest of a response that is to be stored.
    Storing(Fill),
    /// The response header of a write.
    Writing(Vec<String>),
}

/// A request that no entry of this gateway answered.
struct Question {
    name: Name,
    stores: bool,
    ttl: DeltaSeconds,
    /// Taken before anything was looked up; none when shared data couldn't be had, and then nothing is stored.
    ticket: Option<Ticket>,
    tags: Vec<String>,
    /// Its header as the host gave it: `Vary` may ask for any of it.
    request: Vec<u8>,
    why: Forward,
    detail: Option<&'static str>,
    asked_ms: u64,
    asked_wall_ms: u64,
}

/// A response on its way into the tiers.
struct Fill {
    question: Question,
    group: Option<bridge_api::Ticket>,
    ticket: Ticket,
    status: u16,
    freshness: Freshness,
    received_ms: u64,
    header: Vec<u8>,
    body: Vec<u8>,
}

/// The tiers of this gateway had no answer to a request.
#[derive(Clone, Copy)]
struct Nothing {
    ticket: Option<Ticket>,
    /// Whether the group may be asked.
    trusted: bool,
    why: Forward,
    detail: Option<&'static str>,
}

impl Stream {
    /// A new exchange.
    pub fn new(id: u32, instance: Rc<Instance>) -> Self {
        Self { id, instance, state: State::Passing }
    }

    /// Answers a read from this gateway's tiers, or finds out what to do instead. One shared-data read, one clock read and
    /// the reply are all that a worker-tier hit asks of the host.
    fn look(&self, name: &Name, fields: &Fields<'_>, now_ms: u64) -> Result<(), Nothing> {
        let instance = &*self.instance;
        let mut worker = instance.worker.borrow_mut();
        let Some((head, ticket)) = worker.follow(&instance.shared) else {
            return Err(Nothing { ticket: None, trusted: false, why: Forward::Bypass, detail: Some("shared-data") });
        };
        if !instance.trusts(&head, now_ms) {
            return Err(Nothing {
                ticket: Some(ticket),
                trusted: false,
                why: Forward::Bypass,
                detail: Some("feed-lost"),
            });
        }
        let mut why = Forward::UriMiss;
        let hash = name.key.hash();
        if let Some(entry) = worker.entries.get(hash).map(Rc::clone) {
            match name.reuse(&entry, fields, now_ms) {
                Reuse::Fresh if worker.purges.admits(&entry) => {
                    if reply(&entry, Tier::Worker, now_ms) {
                        return Ok(());
                    }
                }
                Reuse::Fresh => drop(worker.entries.remove(hash)),
                Reuse::No(reason) => why = reason,
            }
        }
        if let Some(entry) = instance.shared.entry(hash) {
            match name.reuse(&entry, fields, now_ms) {
                Reuse::Fresh if worker.purges.admits(&entry) => {
                    let entry = Rc::new(entry);
                    worker.entries.insert(hash, Rc::clone(&entry), entry.footprint());
                    if reply(&entry, Tier::Gateway, now_ms) {
                        return Ok(());
                    }
                }
                Reuse::Fresh => {}
                Reuse::No(reason) => why = reason,
            }
        }
        Err(Nothing { ticket: Some(ticket), trusted: true, why, detail: None })
    }

    /// What a read becomes that wasn't answered here. The request's header bytes are added by the caller, who lends them
    /// to `reading`.
    fn question(&mut self, reading: &Reading<'_, '_>, nothing: Nothing, now_ms: u64) -> Option<(Question, bool)> {
        let Nothing { ticket, trusted, why, detail } = nothing;
        match reading.tags() {
            Ok(tags) => {
                let question = Question {
                    name: reading.name.clone(),
                    stores: reading.stores,
                    ttl: reading.ttl(),
                    ticket,
                    tags,
                    request: Vec::new(),
                    why,
                    detail,
                    asked_ms: now_ms,
                    asked_wall_ms: host::wall_ms(),
                };
                Some((question, trusted))
            }
            Err(reason) => {
                self.state = State::Telling(forwarded(Forward::Bypass, Some(reason.word())));
                None
            }
        }
    }

    /// Asks the group, if it may be asked; else the origin.
    fn ask(&mut self, question: Question, trusted: bool) -> Action {
        match trusted.then(|| self.lookup(&question)).flatten() {
            Some(token) => {
                self.state = State::Asking { question, token };
                Action::Pause
            }
            None => {
                self.state = State::Filling { question, group: None };
                Action::Continue
            }
        }
    }

    fn lookup(&self, question: &Question) -> Option<u32> {
        let bridge = self.instance.policy().bridge.as_ref()?;
        let worker = self.instance.worker.borrow();
        let hashes: Vec<u64> = question.tags.iter().map(|tag| tag_hash(tag)).collect();
        (!worker.purges.is_pending(&hashes)).then_some(())?;
        let request = LookupRequest {
            namespace: self.instance.namespace.clone(),
            key: question.name.key.as_str().to_owned(),
            tags: question.tags.clone(),
            known: worker.purges.known().map(bridge::to_api),
        };
        bridge::call(&bridge.cluster, LOOKUP, &request, &[], Duration::from_millis(bridge.timeout_ms.into()))
    }

    /// Judges what the group holds, once more now that it is here: a purge may have come meanwhile, and the tags that only
    /// the response names are known only now. Answers the request, or says why not.
    fn judge(&self, question: &Question, tags: &[String], resident_ms: u64, payload: &[u8]) -> Result<(), Forward> {
        let instance = &*self.instance;
        let now_ms = host::monotonic_ms();
        let mut worker = instance.worker.borrow_mut();
        worker.follow(&instance.shared).ok_or(Forward::Bypass)?;
        let mut hashes: Vec<u64> = question.tags.iter().chain(tags).map(|tag| tag_hash(tag)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let older_ms = resident_ms.saturating_add(now_ms.saturating_sub(question.asked_ms));
        let entry = question
            .ticket
            .and_then(|ticket| Entry::decode(payload.to_vec()).ok()?.adopted(ticket, older_ms, now_ms, &hashes))
            .ok_or(Forward::UriMiss)?;
        let request = Fields::decode(&question.request).unwrap_or_default();
        if let Reuse::No(why) = question.name.reuse(&entry, &request, now_ms) {
            return Err(why);
        }
        if !worker.purges.admits(&entry) || worker.purges.is_pending(&hashes) {
            return Err(Forward::UriMiss);
        }
        let hash = question.name.key.hash();
        instance.shared.keep(hash, &entry, now_ms);
        let entry = Rc::new(entry);
        worker.entries.insert(hash, Rc::clone(&entry), entry.footprint());
        if reply(&entry, Tier::Group, now_ms) { Ok(()) } else { Err(Forward::UriMiss) }
    }

    /// Decides whether the origin's response is stored, and says so to the client.
    fn receive(&mut self, question: Question, group: Option<bridge_api::Ticket>, end_of_stream: bool) {
        let told = |stored, detail| CacheStatus::Forwarded { why: question.why, stored, detail };
        let header = host::header_map(Map::Response).unwrap_or_default();
        let fields = Fields::decode(&header).unwrap_or_default();
        let judged = question.ticket.filter(|_| question.stores && from_origin()).map(|ticket| {
            let response = storing::Response {
                status: status_of(&fields),
                fields: &fields,
                requested_ms: question.asked_wall_ms,
                received_ms: host::wall_ms(),
            };
            let limit = self.instance.policy().limits.body_bytes_max;
            storing::storable(&response, question.ttl, limit).map(|freshness| (ticket, response.status, freshness))
        });
        match judged {
            Some(Ok((ticket, status, freshness))) => {
                tell(told(true, question.detail));
                let body = Vec::new();
                let received_ms = host::monotonic_ms();
                let fill = Fill { question, group, ticket, status, freshness, received_ms, header, body };
                if end_of_stream {
                    self.store(&fill);
                } else {
                    self.state = State::Storing(fill);
                }
            }
            Some(Err(reason)) => tell(told(false, question.detail.or(Some(reason.word())))),
            None => tell(told(false, question.detail)),
        }
    }

    /// Puts a complete response into the tiers. Its ticket is that of its lookup, so that a purge that came since then
    /// has voided it already.
    fn store(&self, fill: &Fill) {
        let instance = &*self.instance;
        let question = &fill.question;
        let fields = Fields::decode(&fill.header).unwrap_or_default();
        let request = Fields::decode(&question.request).unwrap_or_default();
        let length = u64::try_from(fill.body.len()).unwrap_or(u64::MAX);
        if storing::content_length(&fields).is_ok_and(|declared| declared.is_some_and(|declared| declared != length)) {
            return;
        }
        let tags: Vec<u64> = question.tags.iter().map(|tag| tag_hash(tag)).collect();
        let entry = Entry::new(&Parts {
            ticket: fill.ticket,
            received_ms: fill.received_ms,
            age_ms: fill.freshness.age_ms,
            lifetime_ms: fill.freshness.lifetime_ms,
            fingerprint: question.name.fingerprint,
            status: fill.status,
            key: question.name.key.as_str(),
            tags: &tags,
            vary: &VaryKey::of(&fields, &request),
            header: &fields.iter().filter(|(name, _)| keeps_field(name, &fields)).collect::<Vec<_>>(),
            body: &fill.body,
        });
        let Some(entry) = entry else { return };
        let now_ms = host::monotonic_ms();
        let mut worker = instance.worker.borrow_mut();
        if worker.follow(&instance.shared).is_none() || !worker.purges.admits(&entry) {
            return;
        }
        let hash = question.name.key.hash();
        instance.shared.keep(hash, &entry, now_ms);
        if let Some((ticket, payload)) = fill.group.zip(entry.for_group(now_ms)) {
            worker.leave(Job::Store {
                request: StoreRequest {
                    namespace: instance.namespace.clone(),
                    key: question.name.key.as_str().to_owned(),
                    tags: question.tags.clone(),
                    ticket,
                    keep_ms: entry.fresh_ms(now_ms),
                },
                payload: payload.bytes().to_vec(),
            });
        }
        let entry = Rc::new(entry);
        let footprint = entry.footprint();
        worker.entries.insert(hash, entry, footprint);
    }

    /// Handles the response to a write: purges in the gateway at once, and holds it until the group has acknowledged.
    fn wrote(&mut self, tags: Vec<String>) -> Action {
        let header = host::header_map(Map::Response).unwrap_or_default();
        let detail = match Fields::decode(&header) {
            Some(fields) if !write_purges(status_of(&fields)) => None,
            _ => match self.instance.purge(tags, Some(self.id)) {
                Purged::Held => return Action::Pause,
                Purged::Here => Some("purged"),
                Purged::Failed => Some("purge-failed"),
            },
        };
        tell(forwarded(Forward::Method, detail));
        Action::Continue
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, token: u32, header_count: usize, body_len: usize, _: usize) {
        let mut question = match mem::replace(&mut self.state, State::Passing) {
            State::Asking { question, token: asked } if asked == token => question,
            other => {
                self.state = other;
                return;
            }
        };
        let body = bridge::answer(header_count, body_len).unwrap_or_default();
        let group = match bridge::read::<LookupReply>(&body) {
            Some((LookupReply::Hit { ticket, tags, resident_ms }, payload)) => {
                match self.judge(&question, &tags, resident_ms, payload) {
                    Ok(()) => return,
                    Err(why) => question.why = why,
                }
                Some(ticket)
            }
            Some((LookupReply::Miss { ticket }, _)) => Some(ticket),
            Some((LookupReply::Behind, _)) | None => None,
        };
        self.state = State::Filling { question, group };
        host::resume(Direction::Request);
    }

    fn on_done(&mut self) -> bool {
        self.instance.worker.borrow_mut().held.remove(&self.id);
        // A write whose outcome nobody saw may have happened.
        if let State::Writing(tags) = mem::replace(&mut self.state, State::Passing) {
            self.instance.purge(tags, None);
        }
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let Some(request) = host::header_map(Map::Request) else { return Action::Continue };
        let Some(fields) = Fields::decode(&request) else { return Action::Continue };
        let instance = Rc::clone(&self.instance);
        let asked = match instance.engine.plan(&fields, end_of_stream) {
            Plan::Ignore => None,
            Plan::Bypass(reason) => {
                self.state = State::Telling(forwarded(Forward::Bypass, Some(reason.word())));
                None
            }
            Plan::Write { tags } => {
                self.state = State::Writing(tags);
                None
            }
            Plan::Read(reading) => {
                let now_ms = host::monotonic_ms();
                match self.look(&reading.name, &fields, now_ms) {
                    Ok(()) => return Action::Pause,
                    Err(nothing) => self.question(&reading, nothing, now_ms),
                }
            }
        };
        match asked {
            Some((question, trusted)) => self.ask(Question { request, ..question }, trusted),
            None => Action::Continue,
        }
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        match mem::replace(&mut self.state, State::Passing) {
            State::Telling(status) => tell(status),
            State::Filling { question, group } => self.receive(question, group, end_of_stream),
            State::Writing(tags) => return self.wrote(tags),
            // The gateway answered by itself while the bridge was asked (a timeout, say), or this is our own reply.
            State::Asking { .. } | State::Storing(_) | State::Passing => {}
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, len: usize, end_of_stream: bool) -> Action {
        let State::Storing(mut fill) = mem::replace(&mut self.state, State::Passing) else { return Action::Continue };
        if len > 0 {
            match host::buffer(Buffer::ResponseBody, len) {
                Some(chunk) => fill.body.extend_from_slice(&chunk),
                None => return Action::Continue, // a chunk that can't be seen: not stored
            }
        }
        if u64::try_from(fill.body.len()).is_ok_and(|len| len <= self.instance.policy().limits.body_bytes_max) {
            if end_of_stream {
                self.store(&fill);
            } else {
                self.state = State::Storing(fill);
            }
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        // A response with trailers isn't stored: they couldn't be replayed.
        self.state = State::Passing;
        Action::Continue
    }
}

/// Answers the current stream from an entry. False if the host refused.
fn reply(entry: &Entry, tier: Tier, now_ms: u64) -> bool {
    let ttl_s = i64::try_from(entry.fresh_ms(now_ms) / 1000).unwrap_or(i64::MAX);
    let mut header = Vec::new();
    entry.reply_header(now_ms, &CacheStatus::Hit { ttl_s, tier }, &mut header);
    let details = match tier {
        Tier::Worker => "routecache_hit_worker",
        Tier::Gateway => "routecache_hit_gateway",
        Tier::Group => "routecache_hit_group",
    };
    host::send_response(entry.status(), details, &header, entry.body())
}

fn tell(status: CacheStatus) {
    host::add_header(Map::Response, "cache-status", &status.to_string());
}

fn forwarded(why: Forward, detail: Option<&'static str>) -> CacheStatus {
    CacheStatus::Forwarded { why, stored: false, detail }
}

fn status_of(fields: &Fields<'_>) -> u16 {
    fields.only(":status").and_then(|status| std::str::from_utf8(status).ok()?.parse().ok()).unwrap_or_default()
}

/// Whether the response came from the origin, not from the gateway itself (a timeout, another filter). Hosts that can't
/// say so leave the status to decide.
fn from_origin() -> bool {
    host::property(&["response", "code_details"]).is_none_or(|details| details.is_empty() || details == b"via_upstream")
}
