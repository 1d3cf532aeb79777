//! Two gateways, a bridge and an origin, one of which fails when it is told to.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm_host_test::{Call, Reply, Response, Status, World};
use serde_json::{Value, json};

use super::super::stage::{Bridge, Failure, ms, rules, settle, world};
use super::operation::{FILLS, Operation};

/// How long the origin takes.
pub const ORIGIN: Duration = ms(30);

/// The route's timeout.
pub const ROUTE_TIMEOUT: Duration = ms(400);

/// `background.timeout`.
pub const FETCH_TIMEOUT: Duration = ms(300);

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// The bridge, or its Redis.
    Bridge(Failure),
    /// Shared data of gateway 0.
    SharedData,
    /// The origin.
    Origin(OriginFails),
}

/// How the origin fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginFails {
    /// With this status.
    Status(u16),
    Resets,
    NoConnection,
    /// It says nothing within the route's timeout.
    Hangs,
}

impl OriginFails {
    /// It says so.
    pub const SAID: [Self; 4] = [Self::Status(500), Self::Status(502), Self::Status(503), Self::Status(504)];

    /// It breaks off, and the gateway says so.
    pub const UNSAID: [Self; 2] = [Self::Resets, Self::NoConnection];

    fn reply(self) -> Reply {
        match self {
            Self::Status(status) => Response::new(status).body("down").into(),
            Self::Resets => Reply::reset(),
            Self::NoConnection => Reply::connect_failure(),
            Self::Hangs => Reply::hang(),
        }
    }
}

impl Failing {
    /// As the page says it.
    pub fn words(self) -> String {
        match self {
            Self::Bridge(failure) => failure.words(),
            Self::SharedData => "every call refused".to_owned(),
            Self::Origin(OriginFails::Status(status)) => format!("`{status}`"),
            Self::Origin(OriginFails::Resets) => "a reset".to_owned(),
            Self::Origin(OriginFails::NoConnection) => "no connection".to_owned(),
            Self::Origin(OriginFails::Hangs) => "no answer within the route's timeout".to_owned(),
        }
    }
}

/// See the module.
pub struct Stage {
    pub world: World,
    bridge: Bridge,
    failing: Failing,
    /// Whether it fails now.
    fails: Rc<Cell<bool>>,
    /// What the origin says.
    version: Rc<Cell<u64>>,
}

impl Stage {
    /// All is well, and will be until [`Stage::begin`].
    pub fn set(failing: Failing, operation: Operation) -> Self {
        let mut rules = rules();
        rules["background"] = json!({ "timeout": "300ms" });
        let routes = rules["routes"].as_array_mut().expect("routes");
        for (path, cache) in [
            ("/menus/{id}", json!({ "ttl": "2s", "stale_while_revalidate": "1m" })),
            ("/news/{id}", json!({ "ttl": "2s" })),
            ("/shops/{id}", json!({ "ttl": "2s", "stale_if_error": "5s" })),
            ("/rare/{id}", json!({ "protect_origin": "on" })),
        ] {
            routes.push(json!({ "name": &path[1..5], "match": { "path": path }, "cache": cache }));
        }
        routes.push(json!({
            "name": "bank", "match": { "path": "/banks/{id}" }, "mode": "failover", "cache": { "ttl": "1m" }
        }));
        let cache =
            |name: &str, path: &str, cache: Value| json!({ "name": name, "match": { "path": path }, "cache": cache });
        match operation {
            Operation::Fills(_) => rules["limits"]["fills"] = json!(FILLS),
            Operation::CrowdProtected => {
                routes.push(cache("held", "/held/{id}", json!({ "protect_origin": "on", "lock_wait": "100ms" })));
            }
            Operation::ValidatedNoMore => {
                routes.push(cache("tagged", "/tagged/{id}", json!({ "ttl": "2s", "stale_if_error": "5s" })));
            }
            _ => {}
        }
        let (fails, version) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(1)));
        let (failing_now, says) = (Rc::clone(&fails), Rc::clone(&version));
        let origin = move |call: &Call| match failing {
            Failing::Origin(how) if failing_now.get() => how.reply(),
            _ => {
                let answer = Response::ok(format!("v{}", says.get())).after(ORIGIN);
                if call.path().starts_with("/tagged/") { answer.header("etag", "\"a\"") } else { answer }.into()
            }
        };
        let (builder, _, bridge) = world(&rules);
        let builder = builder.origin(origin).route_timeout(Some(ROUTE_TIMEOUT));
        let mut world = builder.gateways(2).workers(2).loopback("routecache-self").build().expect("a world");
        settle(&mut world);
        Self { world, bridge, failing, fails, version }
    }

    /// From now on it fails; and the origin has something newer to say.
    pub fn begin(&mut self) {
        self.version.set(2);
        self.fails.set(true);
        match self.failing {
            Failing::Bridge(failure) => self.bridge.fails(Some(failure)),
            Failing::SharedData => {
                let _ = SHARED_DATA.map(|call| self.world.refuse(call, Status::InternalFailure, u32::MAX));
            }
            Failing::Origin(_) => {}
        }
    }

    /// All is well again.
    pub fn end(&mut self) {
        self.fails.set(false);
        match self.failing {
            Failing::Bridge(_) => self.bridge.fails(None),
            Failing::SharedData => drop(SHARED_DATA.map(|call| self.world.refuse_no_more(call))),
            Failing::Origin(_) => {}
        }
    }

    /// How long a call to what fails takes; none if it takes as long as anybody waits.
    pub fn takes(&self) -> Option<Duration> {
        match self.failing {
            Failing::Bridge(failure) => failure.takes(),
            Failing::SharedData | Failing::Origin(_) => Some(ms(0)),
        }
    }

    /// How long the origin takes, where nobody waits longer than this.
    pub fn origin_takes(&self, timeout: Duration) -> Duration {
        match self.failing {
            Failing::Origin(OriginFails::Hangs) => timeout,
            Failing::Origin(_) => ms(0),
            Failing::Bridge(_) | Failing::SharedData => ORIGIN,
        }
    }

    /// How long a fetch of the filter's own takes. It asks the group twice, for a lease and for what may be there by now.
    pub fn fetch_takes(&self) -> Duration {
        self.origin_takes(FETCH_TIMEOUT).max(ms(2))
    }

    /// What fails, for messages.
    pub fn name(&self) -> String {
        format!("{:?}", self.failing)
    }
}

const SHARED_DATA: [&str; 2] = ["proxy_get_shared_data", "proxy_set_shared_data"];
