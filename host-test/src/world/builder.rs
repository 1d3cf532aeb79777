//! How a world is described.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::World;
use super::events::Events;
use crate::abi::{LogLevel, Status};
use crate::clock::Clock;
use crate::commons::{Commons, ForeignFunction, SharedCommons};
use crate::dialect::{Dialect, FailurePolicy};
use crate::faults::{Faults, Injector};
use crate::filter::Filter;
use crate::hostcalls::built_in_foreign_functions;
use crate::random::{Chance, Random};
use crate::shared::SharedProcess;
use crate::trace::{Log, Trace};
use crate::upstream::{Call, Closure, Reply, Response, Upstream};
use crate::vm::VmOptions;

/// Where a module comes from: a path, or the bytes themselves (binary or WAT text).
#[derive(Clone, Debug)]
pub enum FilterSource {
    /// A file.
    File(PathBuf),
    /// Bytes, binary or WAT text.
    Bytes(Vec<u8>),
}

impl From<&str> for FilterSource {
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}

impl From<&Path> for FilterSource {
    fn from(path: &Path) -> Self {
        Self::File(path.into())
    }
}

impl From<PathBuf> for FilterSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&[u8]> for FilterSource {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for FilterSource {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl FilterSource {
    /// The bytes.
    pub(crate) fn read(self) -> Result<Vec<u8>, BuildError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::File(path) => std::fs::read(&path).map_err(|source| BuildError::Read { path, source }),
        }
    }
}

/// Why there is no such world.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The module's file can't be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No module was given.
    #[error("no filter: call `WorldBuilder::filter` with a path or bytes")]
    NoFilter,
    /// The bytes aren't a module that wasmtime can compile.
    #[error("cannot compile the module: {0:#}")]
    Compile(wasmtime::Error),
    /// The module doesn't say which version of the ABI it speaks.
    #[error("the module exports none of proxy_abi_version_0_1_0, _0_2_0, _0_2_1: it isn't a Proxy-Wasm filter")]
    NoAbi,
    /// The module speaks a version of the ABI that isn't known here; it exports this marker.
    #[error("the module exports {0}: that version of the ABI isn't known here; 0.1.0, 0.2.0 and 0.2.1 are")]
    OtherAbi(String),
    /// The module's memory has 64-bit addresses, for which the ABI has no pointers.
    #[error("the module has a 64-bit memory; the pointers of the ABI have 32 bits")]
    Memory64,
    /// The module wants something that isn't a function, or a function of another type.
    #[error("cannot link the module: {0:#}")]
    Link(wasmtime::Error),
    /// The filter doesn't start, or doesn't want its configuration.
    #[error("the filter refused its configuration; it said:\n{}", text(.logs))]
    Refused {
        /// What was logged meanwhile.
        logs: Vec<Log>,
    },
}

fn text(logs: &[Log]) -> String {
    logs.iter().map(|log| format!("{:?}: {}\n", log.level, log.message)).collect()
}

/// Describes a [`World`].
#[must_use]
pub struct WorldBuilder {
    filter: Option<FilterSource>,
    configuration: Vec<u8>,
    next_configuration: Option<Vec<u8>>,
    options: VmOptions,
    interleave: Option<bool>,
    workers: usize,
    gateways: usize,
    seed: u64,
    wall: Duration,
    origin: Box<dyn Upstream>,
    clusters: BTreeMap<String, Box<dyn Upstream>>,
    loopback: Option<String>,
    foreign: BTreeMap<String, ForeignFunction>,
    route_timeout: Option<Duration>,
    patience: Duration,
    kept_callbacks: usize,
    tolerant: bool,
    faults: Option<Faults>,
    quiet: bool,
}

impl Default for WorldBuilder {
    fn default() -> Self {
        Self {
            filter: None,
            configuration: Vec::new(),
            next_configuration: None,
            options: VmOptions::default(),
            interleave: None,
            workers: 1,
            gateways: 1,
            seed: 0,
            // 2026-01-01T00:00:00Z
            wall: Duration::from_secs(1_767_225_600),
            origin: Box::new(Closure(|_: &Call| Response::ok(""))),
            clusters: BTreeMap::new(),
            loopback: None,
            foreign: BTreeMap::new(),
            route_timeout: Some(Duration::from_secs(15)),
            patience: Duration::from_secs(60),
            kept_callbacks: 10_000,
            tolerant: false,
            faults: None,
            quiet: false,
        }
    }
}

impl WorldBuilder {
    /// The module: a path, or its bytes.
    pub fn filter(mut self, filter: impl Into<FilterSource>) -> Self {
        self.filter = Some(filter.into());
        self
    }

    /// The plugin's configuration, as `proxy_on_configure` reads it.
    pub fn configuration(mut self, configuration: impl AsRef<[u8]>) -> Self {
        self.configuration = configuration.as_ref().to_vec();
        self
    }

    /// Another configuration, which [`Fault::Reload`](crate::Fault::Reload) gives a gateway, and next time the first one again.
    pub fn next_configuration(mut self, configuration: impl AsRef<[u8]>) -> Self {
        self.next_configuration = Some(configuration.as_ref().to_vec());
        self
    }

    /// The VM's configuration, as `proxy_on_vm_start` reads it.
    pub fn vm_configuration(mut self, configuration: impl AsRef<[u8]>) -> Self {
        self.options.vm_configuration = configuration.as_ref().to_vec();
        self
    }

    /// The VM's id: shared data and queues belong to it.
    pub fn vm_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.options.vm_id);
        self
    }

    /// The plugin's root id.
    pub fn root_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.options.root_id);
        self
    }

    /// The plugin's name.
    pub fn plugin_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.options.plugin_name);
        self
    }

    /// An environment variable of the VMs.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.options.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A property that every stream has, its path's parts joined by dots: `xds.route_name`.
    pub fn property(mut self, path: &str, value: impl AsRef<[u8]>) -> Self {
        self.options.properties.insert(path.replace('.', "\0").into_bytes(), value.as_ref().to_vec());
        self
    }

    /// What `proxy_get_log_level` answers; everything that is logged is kept all the same.
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.options.log_level = level;
        self
    }

    /// How many workers each gateway has, besides its main thread.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn workers(mut self, workers: usize) -> Self {
        assert!(workers > 0, "a gateway has at least one worker");
        self.workers = workers;
        self
    }

    /// How many gateway processes there are, each with shared data of its own.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn gateways(mut self, gateways: usize) -> Self {
        assert!(gateways > 0, "a world has at least one gateway");
        self.gateways = gateways;
        self
    }

    /// What decides whatever is left to chance.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether threads take turns at every host call rather than at every event. By default they do where a world has more than one
    /// worker.
    pub fn interleave(mut self, interleave: bool) -> Self {
        self.interleave = Some(interleave);
        self
    }

    /// The wall clock at the beginning, since 1970.
    pub fn wall(mut self, since_1970: Duration) -> Self {
        self.wall = since_1970;
        self
    }

    /// The origin, as a closure that answers each request.
    pub fn origin<R: Into<Reply>>(self, origin: impl FnMut(&Call) -> R + 'static) -> Self {
        self.origin_upstream(Closure(origin))
    }

    /// The origin, as an [`Upstream`].
    pub fn origin_upstream(mut self, origin: impl Upstream + 'static) -> Self {
        self.origin = Box::new(origin);
        self
    }

    /// A cluster that callouts can go to, as a closure that answers each of them.
    pub fn callout<R: Into<Reply>>(self, cluster: &str, answer: impl FnMut(&Call) -> R + 'static) -> Self {
        self.cluster(cluster, Closure(answer))
    }

    /// A cluster that callouts can go to, as an [`Upstream`].
    pub fn cluster(mut self, name: &str, cluster: impl Upstream + 'static) -> Self {
        self.clusters.insert(name.to_owned(), Box::new(cluster));
        self
    }

    /// A cluster that leads back to the gateway's own listener: a callout to it comes in as a client's request, on a worker that chance
    /// picks.
    pub fn loopback(mut self, cluster: &str) -> Self {
        self.loopback = Some(cluster.to_owned());
        self
    }

    /// A foreign function, besides `compress`, `uncompress` and `clear_route_cache`: arguments in, result or status out.
    pub fn foreign_function(
        mut self,
        name: &str,
        function: impl FnMut(&[u8]) -> Result<Vec<u8>, Status> + Send + 'static,
    ) -> Self {
        self.foreign.insert(name.to_owned(), Box::new(function));
        self
    }

    /// Behaves as another host does, where hosts differ.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.options.dialect = dialect;
        self
    }

    /// How long the gateway waits for the origin; `None` for ever. Envoy's default is 15 seconds.
    pub fn route_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.route_timeout = timeout;
        self
    }

    /// How much fuel one callback may use up before it traps.
    pub fn fuel_per_callback(mut self, fuel_max: u64) -> Self {
        self.options.fuel_max = fuel_max;
        self
    }

    /// How many bytes the memory of a VM may grow to; past that `memory.grow` fails. Envoy's limit is 1 GiB.
    pub fn memory_limit(mut self, bytes_max: usize) -> Self {
        self.options.memory_max = bytes_max;
        self
    }

    /// How many bytes a paused body may hold before the gateway gives up on it. Envoy's default is 1 MiB.
    pub fn buffer_limit(mut self, bytes_max: usize) -> Self {
        self.options.buffer_max = bytes_max;
        self
    }

    /// What becomes of requests when a VM has failed.
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.options.failure_policy = policy;
        self
    }

    /// Envoy's `allow_on_headers_stop_iteration`: body callbacks come while a headers callback has paused.
    pub fn body_callbacks_while_headers_paused(mut self, allow: bool) -> Self {
        self.options.body_callbacks_while_headers_paused = allow;
        self
    }

    /// How long a request may wait with nothing due but ticks before it counts as stuck.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many callbacks [`World::trace`] remembers.
    pub fn keep_callbacks(mut self, count: usize) -> Self {
        self.kept_callbacks = count;
        self
    }

    /// What goes wrong once the gateways have started. The mix of a seed is printed on standard error, where test runners show it with a failure.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Keeps the mix to itself: whoever asks for this tells what was injected.
    #[cfg(feature = "scenario")]
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// What one callback should cost at most, in fuel: more breaks a [law](crate::Law). By default a thousand million.
    pub fn fuel_budget(mut self, fuel: u64) -> Self {
        self.options.fuel_budget = fuel;
        self
    }

    /// What a VM's memory should grow to at most, in bytes: more breaks a [law](crate::Law). By default 256 MiB.
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.options.memory_budget = bytes;
        self
    }

    /// Lets host functions answer a status that would break a [law](crate::Law), because the filter is meant to be told so.
    pub fn expect_status(mut self, status: Status) -> Self {
        self.options.expected_statuses.push(status);
        self
    }

    /// Writes a core dump into this folder whenever a callback traps (the format of `wasm-tools` and other debuggers); the log names
    /// the file.
    pub fn core_dumps(mut self, folder: impl Into<PathBuf>) -> Self {
        self.options.core_dumps = Some(folder.into());
        self
    }

    /// Lets the world end in silence though laws were broken.
    pub fn tolerate_violations(mut self) -> Self {
        self.tolerant = true;
        self
    }

    /// Starts the gateways: loads the filter, and configures a VM for each thread as Envoy does.
    ///
    /// # Errors
    ///
    /// [`BuildError`] says what went wrong; with the filter's own words if it refused its configuration.
    pub fn build(self) -> Result<World, BuildError> {
        if let Some(faults) = self.faults.as_ref().filter(|_| !self.quiet) {
            eprintln!("faults of seed {}: {faults}", self.seed);
        }
        let filter = Filter::load(&self.filter.ok_or(BuildError::NoFilter)?.read()?)?;
        let mut foreign = built_in_foreign_functions();
        foreign.extend(self.foreign);
        let interleave = self.interleave.unwrap_or(self.workers > 1);
        let mut random = Random::new(self.seed);
        let clock = Clock::Virtual { now: Duration::ZERO, wall: self.wall };
        // Apart from the scheduler's, so that one doesn't shift the other.
        let chance = Chance::Seeded(Random::new(random.next()));
        let processes = (0..self.gateways).map(|_| SharedProcess::default()).collect();
        let trace = Trace { kept_max: self.kept_callbacks, ..Trace::default() };
        let commons = SharedCommons::new(Commons { trace, foreign, ..Commons::new(clock, chance, processes) });
        let mut world = World {
            commons,
            filter,
            options: Arc::new(VmOptions { interleave, ..self.options }),
            alternatives: [Some(self.configuration.clone()), self.next_configuration]
                .into_iter()
                .flatten()
                .map(Into::into)
                .collect(),
            configurations: vec![self.configuration.into(); self.gateways],
            lanes: Vec::new(),
            events: Events::default(),
            random,
            seed: self.seed,
            exchanges: BTreeMap::new(),
            under_way: BTreeSet::new(),
            origin: self.origin,
            clusters: self.clusters,
            loopback: self.loopback,
            loops: BTreeMap::new(),
            calls: BTreeMap::new(),
            origin_requests: Vec::new(),
            callouts: Vec::new(),
            timers: BTreeMap::new(),
            last_answer: None,
            overtaken: None,
            late: BTreeSet::new(),
            numbers: 0,
            steps: 0,
            scripts: Vec::new(),
            workers: self.workers,
            route_timeout: self.route_timeout,
            patience: self.patience,
            tolerant: self.tolerant,
            over: false,
        };
        for gateway in 0..self.gateways {
            if let Err(error) = world.start_gateway(gateway) {
                // The error says it all.
                (world.tolerant, world.over) = (true, true);
                return Err(error);
            }
        }
        if let Some(faults) = self.faults {
            for gateway in 0..self.gateways {
                world.process(gateway).lock().data.remember();
            }
            world.commons.lock().faults = Some(Injector::new(faults));
        }
        Ok(world)
    }
}
