//! Runs a plan in host-test, and writes down what happened.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm_host_test::{
    Answer, Call, CallId, Ending, FailurePolicy, Reply, Request, RequestId, Response, Status, World,
};
use serde_json::{Value, json};

use super::chance::Chance;
use super::group::{Group, NAMESPACE, Versions};
use super::history::{Death, History, Read, Resource, Write};
use super::plan::{Evicted, OriginFailure, Plan, What};
use super::planted::{Place, Plant};

/// How long everything works at the end before it must have healed: several retries and windows.
const HEALING: Duration = Duration::from_secs(6);

fn rules(plan: &Plan, longer: bool) -> Value {
    json!({
        "namespace": { "prefix": "shop", "version": "v1" },
        "bridge": { "cluster": "routecache-bridge", "timeout": "50ms" },
        "consistency": { "window": format!("{}ms", plan.window_ms) },
        // A small table: a simulated gateway lays it out call by call.
        "limits": { "l1_bytes": "1MiB", "body_bytes_max": "64KiB" },
        "routes": [
            { "name": "user", "match": { "path": "/users/{id}" }, "cache": { "key": "user:{id}", "ttl": "1h" } },
            {
                "name": "orders",
                "match": { "path": "/users/{id}/orders" },
                "cache": {
                    "key": "orders:{id}", "tags": ["user:{id}", "orders"], "ttl": if longer { "2h" } else { "1h" }
                }
            },
            { "name": "write", "match": { "path": "/users/{id}" }, "purge": { "tags": ["user:{id}"] } }
        ]
    })
}

/// What the origin did, by the client's request.
#[derive(Default)]
struct Origin {
    versions: Versions,
    writes: HashMap<RequestId, (u64, u64, Duration)>,
    failure: Option<OriginFailure>,
}

impl Origin {
    fn answer(&mut self, call: &Call, chance: &mut Chance, way_ms: u64) -> Reply {
        let mut way = || Duration::from_millis(chance.below(way_ms));
        let Some(resource) = Resource::of(call.path()) else { return Response::new(404).into() };
        if self.failure == Some(OriginFailure::Refuses) {
            return Response::new(503).body("later").into();
        }
        let version = {
            let mut versions = self.versions.borrow_mut();
            let version = versions.entry(resource.user).or_insert(1);
            if call.method() == "PUT" {
                *version += 1;
                if let Some(request) = call.request {
                    self.writes.insert(request, (resource.user, *version, call.at));
                }
            }
            *version
        };
        if self.failure == Some(OriginFailure::Resets) {
            return Reply::reset().after(way());
        }
        let body = resource.body(version);
        let (first, second) = body.split_at(body.len() / 2);
        let response = Response::new(200).header("content-type", "text/plain").after(way());
        if self.failure == Some(OriginFailure::Cuts) {
            return response.chunk(Duration::ZERO, first).then_reset(way()).into();
        }
        response.chunk(Duration::ZERO, first).chunk(way(), second).into()
    }
}

/// A run that goes on.
struct Running<'a> {
    plan: &'a Plan,
    world: World,
    group: Group,
    origin: Rc<RefCell<Origin>>,
    history: Rc<RefCell<History>>,
    reads: Vec<(RequestId, Resource)>,
    writes: Vec<RequestId>,
    left: Vec<RequestId>,
    /// Which of the faults that last is the latest of its kind, so that an older one's end doesn't end it.
    latest: Rc<RefCell<HashMap<String, u64>>>,
    faults: u64,
}

/// Runs a plan on this filter, with a mistake if one is planted.
///
/// # Panics
///
/// If there is no such filter, or it refuses its rules.
pub fn run(plan: &Plan, filter: &Path, plant: Option<&Plant>) -> History {
    let origin = Rc::new(RefCell::new(Origin::default()));
    let planted = plant.and_then(|plant| match plant.place {
        Place::Store(store) => Some(store),
        Place::Filter => None,
    });
    let group = Group::new(plan, Rc::clone(&origin.borrow().versions), planted);
    let (answers, mut chance, way_ms) = (Rc::clone(&origin), Chance::new(plan.seed ^ 0x6f72_6967), plan.origin_way_ms);
    let mut builder = World::builder()
        .filter(filter.to_path_buf())
        .configuration(rules(plan, false).to_string())
        .gateways(plan.gateways)
        .workers(plan.workers)
        .seed(plan.seed)
        .interleave(true)
        .failure_policy(FailurePolicy::Reload)
        .tolerate_violations()
        .origin(move |call| answers.borrow_mut().answer(call, &mut chance, way_ms))
        .cluster("routecache-bridge", group.clone());
    if let Some(Plant { place: Place::Filter, name, .. }) = plant {
        builder = builder.env("ROUTECACHE_PLANTED", name);
    }
    let world = builder.build().unwrap_or_else(|error| panic!("seed {}: {error}", plan.seed));
    let mut running = Running {
        plan,
        world,
        group,
        origin,
        history: Rc::default(),
        reads: Vec::new(),
        writes: Vec::new(),
        left: Vec::new(),
        latest: Rc::default(),
        faults: 0,
    };
    if !plan.cold {
        running.world.run_for(Duration::from_millis(plan.window_ms));
    }
    for step in &plan.steps {
        // What comes at the same instant meets: nothing of it is done before all of it is there.
        if step.after_us > 0 {
            running.world.run_for(Duration::from_micros(step.after_us));
        }
        running.act(step.what);
    }
    running.end()
}

impl Running<'_> {
    fn act(&mut self, what: What) {
        let now = self.world.now();
        if !matches!(
            what,
            What::Read { .. } | What::Write { .. } | What::Rest | What::Crash { .. } | What::Restart { .. }
        ) {
            self.note(format!("{what:?}"));
        }
        match what {
            What::Read { gateway, worker, user, orders } => self.read(gateway, worker, Resource { user, orders }),
            What::Write { gateway, worker, user } => {
                let path = Resource { user, orders: false }.path();
                self.writes.push(self.world.send(Request::put(&path).body("x").gateway(gateway).worker(worker)));
            }
            What::Leave { back } => {
                let mut ids: Vec<RequestId> = self.reads.iter().map(|(id, _)| *id).chain(self.writes.clone()).collect();
                ids.sort_unstable();
                let Some(id) = ids.iter().rev().nth(back).copied() else { return };
                if self.world.finished(id).is_none() {
                    self.left.push(id);
                    self.world.client_disconnects(id);
                }
            }
            What::WriteBehind { user, tags } => self.write_behind(user, tags),
            What::Evict(Evicted::Epoch(user)) => self.group.forget_epoch(&format!("user:{user}")),
            What::Evict(Evicted::Orders) => self.group.forget_epoch("orders"),
            What::Evict(Evicted::Entry(user)) => {
                self.group.forget_entry(&format!("{NAMESPACE} user http GET example.com user:{user} "));
            }
            What::Evict(Evicted::Log) => self.reset(self.group.forget_log()),
            What::Replicate => self.group.replicate(),
            What::FailOver => {
                // An outage longer than clocks differ.
                let broken = self.group.fail_over(now);
                self.reset(broken);
                self.world.run_for(Duration::from_millis(5));
            }
            What::RestartBridge => self.reset(self.group.restart()),
            What::Cut { gateway, failure, ms } => {
                self.reset(self.group.cut(gateway, Some(failure)));
                let group = self.group.clone();
                self.until(format!("cut {gateway}"), ms, move |world| reset(world, group.cut(gateway, None)));
            }
            What::Depose { gateway, ms } => {
                self.reset(self.group.depose(gateway, true));
                let group = self.group.clone();
                self.until(format!("depose {gateway}"), ms, move |world| reset(world, group.depose(gateway, false)));
            }
            What::Crash { gateway, worker, turns } => {
                let history = Rc::clone(&self.history);
                self.world.after_turns(gateway, turns, move |world| {
                    let at = world.now();
                    history.borrow_mut().deaths.push(Death { at, gateway, worker: Some(worker) });
                    world.restart_worker_of(gateway, worker);
                });
            }
            What::Restart { gateway } => {
                self.history.borrow_mut().deaths.push(Death { at: now, gateway, worker: None });
                self.world.restart_gateway(gateway);
            }
            What::Reconfigure { gateway, longer } => {
                let rules = rules(self.plan, longer).to_string();
                if let Err(error) = self.world.reconfigure_gateway(gateway, rules.as_bytes()) {
                    self.history.borrow_mut().violations.push(format!("good rules were refused: {error}"));
                }
            }
            What::Clock { seconds } => {
                let by = Duration::from_secs(seconds.unsigned_abs());
                let wall = self.world.wall();
                self.world.set_wall(if seconds < 0 { wall.saturating_sub(by) } else { wall + by });
            }
            What::Race { times } => self.world.refuse("proxy_set_shared_data", Status::CasMismatch, times),
            What::Origin { failure, ms } => {
                self.origin.borrow_mut().failure = Some(failure);
                let end = now + Duration::from_millis(ms + self.plan.origin_way_ms * 2);
                self.history.borrow_mut().origin_failed.push((now, end));
                let origin = Rc::clone(&self.origin);
                self.until("origin".to_owned(), ms, move |_| origin.borrow_mut().failure = None);
            }
            What::Rest => self.world.run_for(Duration::from_millis(self.plan.window_ms * 2)),
        }
    }

    fn read(&mut self, gateway: usize, worker: usize, resource: Resource) {
        let id = self.world.send(Request::get(&resource.path()).gateway(gateway).worker(worker));
        self.reads.push((id, resource));
    }

    fn write_behind(&mut self, user: u64, tags: usize) {
        let now = self.world.now();
        let version = {
            let versions = Rc::clone(&self.origin.borrow().versions);
            let mut versions = versions.borrow_mut();
            let version = versions.entry(user).or_insert(1);
            *version += 1;
            *version
        };
        self.history.borrow_mut().writes.push(Write {
            gateway: None,
            worker: 0,
            user,
            version,
            done: now,
            released: None,
            ended: Some(now),
            began: now,
            left: false,
        });
        let others = (1..tags).map(|number| format!("other:{number}"));
        let tags = std::iter::once(format!("user:{user}")).chain(others).collect();
        for (call, reply) in self.group.purge(tags, now) {
            self.world.complete(call, reply);
        }
    }

    /// Has a fault end after a while, unless another one of its kind has begun.
    fn until(&mut self, kind: String, ms: u64, end: impl FnOnce(&mut World) + 'static) {
        self.faults += 1;
        let number = self.faults;
        self.latest.borrow_mut().insert(kind.clone(), number);
        let latest = Rc::clone(&self.latest);
        self.world.after(Duration::from_millis(ms), move |world| {
            if latest.borrow().get(&kind) == Some(&number) {
                end(world);
            }
        });
    }

    fn reset(&mut self, calls: Vec<CallId>) {
        reset(&mut self.world, calls);
    }

    fn note(&self, what: String) {
        self.history.borrow_mut().notes.push((self.world.now(), what));
    }

    /// Lets everything work again, reads everything everywhere, and writes the history down.
    fn end(mut self) -> History {
        let quiet = self.world.now();
        for gateway in 0..self.plan.gateways {
            self.reset(self.group.cut(gateway, None));
            self.reset(self.group.depose(gateway, false));
        }
        self.latest.borrow_mut().clear();
        self.origin.borrow_mut().failure = None;
        self.world.run_for(HEALING);
        let healed = self.world.now();
        for _ in 0..2 {
            for gateway in 0..self.plan.gateways {
                for worker in 0..self.plan.workers {
                    for user in 0..super::plan::USERS {
                        self.read(gateway, worker, Resource { user, orders: false });
                        self.read(gateway, worker, Resource { user, orders: true });
                    }
                }
            }
            self.world.run_for(Duration::from_millis(self.plan.origin_way_ms * 2 + 150));
        }
        self.world.run_until_idle();
        let mut history = self.history.borrow().clone();
        history.window = Duration::from_millis(self.plan.window_ms);
        (history.quiet, history.healed) = (quiet, healed);
        history.purges = self.group.purges();
        let world = &mut self.world;
        let left = |id: &RequestId| self.left.contains(id);
        // Those that never ended are among the violations.
        let answered =
            |(id, resource): &(RequestId, Resource)| Some(read_of(world.finished(*id)?, *resource, left(id)));
        history.reads = self.reads.iter().filter_map(answered).collect();
        for id in &self.writes {
            let Some(answer) = world.finished(*id) else { continue };
            if let Some((user, version, done)) = self.origin.borrow().writes.get(id).copied() {
                history.writes.push(Write {
                    gateway: Some(answer.gateway),
                    worker: answer.worker,
                    user,
                    version,
                    done,
                    released: answer.headers_at.filter(|_| answer.status == 200),
                    ended: Some(answer.ended),
                    began: answer.started,
                    left: left(id),
                });
            }
        }
        history.writes.sort_by_key(|write| write.done);
        history.violations.extend(world.take_violations().iter().map(ToString::to_string));
        history
    }
}

fn reset(world: &mut World, calls: Vec<CallId>) {
    for call in calls {
        world.complete(call, Reply::reset());
    }
}

fn read_of(answer: &Answer, resource: Resource, left: bool) -> Read {
    Read {
        gateway: answer.gateway,
        worker: answer.worker,
        resource,
        began: answer.started,
        ended: answer.ended,
        status: answer.status,
        complete: answer.ending == Ending::Complete,
        left: left || answer.ending == Ending::ClientGone,
        body: answer.text(),
        told: answer.header("cache-status").unwrap_or_default().to_owned(),
    }
}
