//! What one worker holds: the worker tier, its view of the log, and the work that streams leave to the root context.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use routecache_core::bans::Bans;
use routecache_core::breaker::Breaker;
use routecache_core::entry::Ticket;
use routecache_core::eviction::S3Fifo;
use routecache_core::flights::Flights;
use routecache_core::gateway_log::Head;
use routecache_core::numbered::Numbered;
use routecache_core::purge_table::PurgeTable;
use routecache_core::refresh::Attempts;
use routecache_core::reply::Replay;
use routecache_core::uses::Uses;

use crate::bodies::Bodies;
use crate::collapse::Woken;
use crate::fetch::Fetch;
use crate::host;
use crate::random;
use crate::shared::Shared;
use crate::stream::Stream;

/// Bytes of entries that wait to be sent to the bridge; beyond, they aren't: the group may miss an entry.
const JOB_BYTES_MAX: usize = 4 << 20;

/// Leases that are given back twice; more of them end by themselves.
const UNSURE_MAX: usize = 1024;

/// How often the same is told at most, in milliseconds.
const TOLD_EVERY_MS: u64 = 60_000;

/// A message that says no more than that there is something to do.
pub const BELL: &[u8] = &[0];

/// Work for the root context. A stream may be gone when the answer comes, and some hosts forbid calls from its callbacks.
pub enum Job {
    /// Send an entry to the group.
    Store {
        /// What the bridge is told.
        request: bridge_api::StoreRequest,
        /// The entry, unsealed.
        payload: Vec<u8>,
        /// A lease that is given back when it is there.
        then: Option<bridge_api::ReleaseRequest>,
    },
    /// Send a purge to the group. It is pending in the gateway's log already.
    Purge {
        /// Its name in the log.
        operation: u64,
        /// Its tags.
        tags: Vec<String>,
        /// The stream whose response is held until the group has acknowledged.
        stream: Option<u32>,
        /// Until when, in milliseconds, if it was sent before.
        until_ms: Option<u64>,
    },
    /// Fetch something behind the clients.
    Fetch(Fetch),
    /// Give back a lease of the group.
    Release(bridge_api::ReleaseRequest),
    /// Wake parked streams.
    Wake(Vec<u32>, Woken),
}

/// A response that is held until purges are done.
#[derive(Default)]
pub struct Held {
    /// For how many, and for the body that may name others.
    reasons: u32,
    /// Whether its header is held too, so that something can be said in it.
    pub header: bool,
    /// What is to be said of its purges: the worst.
    pub detail: Option<&'static str>,
}

/// See the module. Outlives the root context that made it: a gateway that reloads its configuration keeps the VM.
pub struct Worker {
    /// The worker tier.
    pub entries: S3Fifo<Rc<Replay>>,
    /// What is known of the gateway's log.
    pub purges: PurgeTable,
    /// Streams whose response is held for purges.
    pub held: Numbered<u32, Held>,
    /// What was fetched behind the clients lately.
    pub attempts: Attempts,
    /// The name of this VM among those of the gateway.
    pub name: u64,
    /// The root context that was configured last.
    pub root: u32,
    /// What is fetched, and who waits for it.
    pub flights: Flights,
    /// Flights that other workers know of: when their leases were renewed last.
    pub leases: Numbered<u64, u64>,
    /// Fetches under way, where they are counted.
    pub running: u32,
    /// Streams that wait for their turn to fetch, and until when.
    pub turns: VecDeque<(u32, u64)>,
    /// Streams that wait to be woken.
    pub parked: Numbered<u32, Rc<RefCell<Stream>>>,
    /// Whether the bridge is asked.
    pub breaker: Breaker,
    /// What isn't told again until then, in milliseconds of the monotonic clock.
    told: Vec<(&'static str, u64)>,
    /// Clusters of fetches that the gateway doesn't know, and until when that is taken to be so, likewise.
    unreachable: Vec<(String, u64)>,
    /// How many fetches have gone straight to the origin.
    straight: u32,
    /// Streams that wait for the body of their request.
    pub bodies: Bodies,
    /// Streams whose response's header waits for its body.
    pub answers: Bodies,
    /// How often keys are asked for that aren't here.
    pub uses: Option<Uses>,
    /// Leases that are given back once more, and when, in milliseconds.
    unsure: VecDeque<(u64, bridge_api::ReleaseRequest)>,
    jobs: VecDeque<Job>,
    job_bytes: usize,
    /// The name of this VM's queue, by which streams wake the root context.
    queue_name: String,
    queue: Option<u32>,
}

thread_local! {
    /// The workers of this VM, by namespace. A VM has one thread.
    static WORKERS: RefCell<Vec<(String, Rc<RefCell<Worker>>)>> = const { RefCell::new(Vec::new()) };
}

impl Worker {
    /// This VM's worker for a namespace. Its tier starts empty when its budget changes.
    pub fn of(namespace: &str, l0_bytes: u64) -> Rc<RefCell<Self>> {
        WORKERS.with_borrow_mut(|workers| {
            if let Some((_, worker)) = workers.iter().find(|(known, _)| known == namespace) {
                let mut held = worker.borrow_mut();
                if held.entries.bytes_max() != l0_bytes {
                    held.entries = S3Fifo::new(l0_bytes);
                }
                held.forget_queue();
                return Rc::clone(worker);
            }
            let worker = Rc::new(RefCell::new(Self {
                entries: S3Fifo::new(l0_bytes),
                purges: PurgeTable::new(bridge_api::looks_like),
                held: Numbered::default(),
                attempts: Attempts::default(),
                name: random(),
                root: 0,
                flights: Flights::default(),
                leases: Numbered::default(),
                running: 0,
                turns: VecDeque::new(),
                parked: Numbered::default(),
                breaker: Breaker::default(),
                told: Vec::new(),
                unreachable: Vec::new(),
                straight: 0,
                bodies: Bodies::default(),
                answers: Bodies::default(),
                uses: None,
                unsure: VecDeque::new(),
                jobs: VecDeque::new(),
                job_bytes: 0,
                queue_name: format!("routecache/1/{namespace}/{:x}", random()),
                queue: None,
            }));
            workers.push((namespace.to_owned(), Rc::clone(&worker)));
            worker
        })
    }

    /// Brings this worker up to date with the gateway's log; one small read where nothing happened. `None` when shared
    /// data can't be had: then nothing may be served or stored.
    pub fn follow(&mut self, shared: &Shared) -> Option<(Head, Ticket)> {
        let head = match shared.head() {
            Some(head) => head,
            None => {
                shared.change(&Default::default(), None).ok()?;
                shared.head()?
            }
        };
        if !self.purges.is_at(&head) {
            let log = match shared.log() {
                Some(log) => log,
                None => shared.change(&Default::default(), None).ok()??,
            };
            let bans = if log.has_bans() { shared.bans() } else { Bans::default() };
            self.purges.follow(&log, &bans);
        }
        self.purges.ticket().map(|ticket| (head, ticket))
    }

    /// Whether the gateway is taken to know a cluster.
    pub fn reaches(&self, cluster: &str, now_ms: u64) -> bool {
        !self.unreachable.iter().any(|(known, until_ms)| known == cluster && *until_ms > now_ms)
    }

    /// The gateway doesn't know a cluster, until it is tried again; whether that is news.
    pub fn cant_reach(&mut self, cluster: &str, until_ms: u64) -> bool {
        match self.unreachable.iter_mut().find(|(known, _)| known == cluster) {
            Some((_, known_ms)) => {
                *known_ms = until_ms;
                false
            }
            None => {
                self.unreachable.push((cluster.to_owned(), until_ms));
                true
            }
        }
    }

    /// A number for an exchange that no stream of the host's carries. Those of streams are given from the other end.
    pub fn next_straight(&mut self) -> u32 {
        self.straight = self.straight.wrapping_add(1) & (u32::MAX >> 1);
        u32::MAX.wrapping_sub(self.straight)
    }

    /// Whether something may be told that goes on and on: once a minute.
    pub fn may_tell(&mut self, what: &'static str, now_ms: u64) -> bool {
        let may = self.told.iter().all(|(told, until_ms)| *told != what || *until_ms <= now_ms);
        if may {
            self.told.retain(|(told, _)| *told != what);
            self.told.push((what, now_ms.saturating_add(TOLD_EVERY_MS)));
        }
        may
    }

    /// Puts a response, or what tells its variants, into the worker tier.
    pub fn hold(&mut self, hash: u64, replay: Rc<Replay>) {
        let footprint = replay.footprint();
        self.entries.insert(hash, replay, footprint);
    }

    /// Holds a stream's response for one reason more; with its header, unless that has gone.
    pub fn hold_back(&mut self, stream: u32, header: bool) {
        let mut held = self.held.remove(stream).unwrap_or(Held { header, ..Held::default() });
        held.reasons = held.reasons.saturating_add(1);
        self.held.insert(stream, held);
    }

    /// Holds a stream's response until its body has come; false if the host shows none before its header has gone.
    pub fn hold_for_body(&mut self, stream: u32) -> bool {
        let waits = self.answers.wait(stream, host::monotonic_ms);
        if waits {
            self.hold_back(stream, true);
        }
        waits
    }

    /// Notes what is to be said in a response that is held, unless something worse is.
    pub fn says(&mut self, stream: u32, detail: Option<&'static str>) {
        if let Some(held) = self.held.get_mut(stream).filter(|held| matches!(held.detail, None | Some("purged"))) {
            held.detail = detail.or(held.detail);
        }
    }

    /// A reason is gone, and this is to be said; the response, if it was the last.
    pub fn let_go(&mut self, stream: u32, detail: Option<&'static str>) -> Option<Held> {
        self.says(stream, detail);
        let held = self.held.get_mut(stream)?;
        held.reasons = held.reasons.saturating_sub(1);
        if held.reasons == 0 { self.held.remove(stream) } else { None }
    }

    /// Leaves work to the root context, and wakes it.
    pub fn leave(&mut self, job: Job) {
        if let Job::Store { payload, then, .. } = &job {
            let bytes = self.job_bytes.saturating_add(payload.len());
            if bytes > JOB_BYTES_MAX {
                return then.iter().for_each(|release| self.leave(Job::Release(release.clone())));
            }
            self.job_bytes = bytes;
        }
        self.jobs.push_back(job);
        let queue = self.queue();
        // Where the host has no queues, the next tick finds the work.
        if self.jobs.len() == 1 {
            queue.map(|queue| host::ring(queue, BELL));
        }
    }

    /// Has a lease of the group given back; once more at `again_ms`, in milliseconds.
    pub fn give_back(&mut self, release: bridge_api::ReleaseRequest, again_ms: Option<u64>) {
        if let Some(again_ms) = again_ms.filter(|_| self.unsure.len() < UNSURE_MAX) {
            self.unsure.push_back((again_ms, release.clone()));
        }
        self.leave(Job::Release(release));
    }

    /// Has the leases given back once more whose time has come.
    pub fn give_back_again(&mut self, now_ms: u64) {
        while let Some((_, release)) = self.unsure.pop_front_if(|(at_ms, _)| *at_ms <= now_ms) {
            self.leave(Job::Release(release));
        }
    }

    /// Has the root context wake streams.
    pub fn wake(&mut self, streams: Vec<u32>, woken: Woken) {
        if !streams.is_empty() {
            self.leave(Job::Wake(streams, woken));
        }
    }

    /// The queue whose messages wake the root context; none where the host has no queues.
    pub fn queue(&mut self) -> Option<u32> {
        if self.queue.is_none() {
            self.queue = host::register_queue(&self.queue_name);
        }
        self.queue
    }

    /// Leaves work to the root context that stays when one goes, and wakes none yet ([`Worker::retire`]).
    pub fn hand_over(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// A root context goes: wakes the one that was configured last, if there is work for it. Where that is the one that goes, the next
    /// tick of another finds the work.
    pub fn retire(&mut self, root: u32) {
        self.forget_queue();
        if self.root != root && !self.jobs.is_empty() && host::become_context(self.root) {
            // The queue's messages come to whoever registers it.
            self.queue().map(|queue| host::ring(queue, BELL));
            host::become_context(root);
        }
    }

    /// Has the queue registered again when it is needed next, so that its messages come to the root context that is there
    /// then.
    pub fn forget_queue(&mut self) {
        self.queue = None;
    }

    /// Takes the messages of other workers.
    pub fn take_messages(&mut self) -> Vec<Vec<u8>> {
        // New rules have a new root context, which isn't told before it asks to be.
        let queue = if self.parked.is_empty() { self.queue } else { self.queue() };
        let Some(queue) = queue else { return Vec::new() };
        std::iter::from_fn(|| host::answer_ring(queue)).collect()
    }

    /// Takes the work.
    pub fn take_jobs(&mut self) -> VecDeque<Job> {
        self.job_bytes = 0;
        std::mem::take(&mut self.jobs)
    }
}
