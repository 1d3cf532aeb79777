//! The gateway as a whole: how it is described, started and ended.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Builder as RuntimeBuilder;
use tokio::sync::mpsc::UnboundedReceiver;

use super::access::Access;
use super::cluster::UpstreamUrl;
use super::downstream::Numbers;
use super::inspection::Inspection;
use super::mail::{Directory, Mailbox, Message};
use super::worker::Worker;
use crate::abi::LogLevel;
use crate::dialect::FailurePolicy;
use crate::filter::Filter;
use crate::shared::SharedProcess;
use crate::trace::{Log, Thread};
use crate::vm::VmOptions;
use crate::{BuildError, FilterSource};

/// How much a server takes on, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// How long the upstream may take to begin its answer once it has the whole request; then clients get 504. `None`: for ever.
    /// Envoy's own timeout also counts the answer's body, this one doesn't: see `silence`.
    pub upstream: Option<Duration>,
    /// How long nothing may move in a request, in either direction, before it ends (Envoy's `stream_idle_timeout`).
    pub silence: Duration,
    /// How long requests under way may still take once the server is told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            upstream: Some(Duration::from_secs(15)),
            silence: Duration::from_secs(300),
            drain: Duration::from_secs(10),
        }
    }
}

/// Why a server doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The filter can't be loaded, or doesn't want its configuration.
    #[error(transparent)]
    Filter(#[from] BuildError),
    /// The filter can't be instantiated, or traps before it could be configured.
    #[error("the filter doesn't start; it said:\n{}", .logs.iter().map(|log| format!("{:?}: {}\n", log.level, log.message)).collect::<String>())]
    Start {
        /// What was logged meanwhile.
        logs: Vec<Log>,
    },
    /// The address can't be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system gives no thread, or nothing to wait for sockets with.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Why a filter wasn't started.
pub(super) enum NotStarted {
    /// It can't be.
    Unable(Vec<Log>),
    /// It doesn't want its configuration.
    Unwilling(Vec<Log>),
}

impl From<NotStarted> for ServeError {
    fn from(reason: NotStarted) -> Self {
        match reason {
            NotStarted::Unable(logs) => Self::Start { logs },
            NotStarted::Unwilling(logs) => BuildError::Refused { logs }.into(),
        }
    }
}

/// What all threads know.
pub(super) struct Setup {
    pub(super) filter: Filter,
    pub(super) configuration: Arc<[u8]>,
    pub(super) options: Arc<VmOptions>,
    pub(super) process: SharedProcess,
    pub(super) since: Instant,
    pub(super) address: SocketAddr,
    pub(super) upstream: Option<UpstreamUrl>,
    pub(super) clusters: BTreeMap<String, UpstreamUrl>,
    pub(super) limits: Limits,
    pub(super) on_log: Box<dyn Fn(&Log) + Send + Sync>,
    pub(super) on_access: Box<dyn Fn(&Access) + Send + Sync>,
}

/// Describes a [`Server`].
#[must_use]
pub struct ServerBuilder {
    filter: Option<FilterSource>,
    configuration: Vec<u8>,
    options: VmOptions,
    listen: SocketAddr,
    workers: usize,
    upstream: Option<UpstreamUrl>,
    clusters: BTreeMap<String, UpstreamUrl>,
    loopback: Option<String>,
    limits: Limits,
    on_log: Box<dyn Fn(&Log) + Send + Sync>,
    on_access: Box<dyn Fn(&Access) + Send + Sync>,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            filter: None,
            configuration: Vec::new(),
            options: VmOptions {
                failure_policy: FailurePolicy::Reload,
                server_name: "proxy-wasm-host-test",
                ..VmOptions::default()
            },
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            workers: 1,
            upstream: None,
            clusters: BTreeMap::new(),
            loopback: None,
            limits: Limits::default(),
            on_log: Box::new(|_| ()),
            on_access: Box::new(|_| ()),
        }
    }
}

impl ServerBuilder {
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

    /// The VM's configuration, as `proxy_on_vm_start` reads it.
    pub fn vm_configuration(mut self, configuration: impl AsRef<[u8]>) -> Self {
        self.options.vm_configuration = configuration.as_ref().to_vec();
        self
    }

    /// The plugin's name and root id.
    pub fn plugin(mut self, name: &str, root_id: &str) -> Self {
        name.clone_into(&mut self.options.plugin_name);
        root_id.clone_into(&mut self.options.root_id);
        self
    }

    /// An environment variable of the VMs; theirs is empty otherwise.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.options.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where clients connect; a free port of 127.0.0.1 if not said.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// How many threads serve requests, each with a VM of its own. There is one more, as in Envoy, whose VM ticks but sees no
    /// requests.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn workers(mut self, workers: usize) -> Self {
        assert!(workers > 0, "a gateway has at least one worker");
        self.workers = workers;
        self
    }

    /// Where requests go that the filter lets pass; without one they are answered with 503.
    pub fn upstream(mut self, upstream: UpstreamUrl) -> Self {
        self.upstream = Some(upstream);
        self
    }

    /// A cluster that callouts can go to.
    pub fn cluster(mut self, name: &str, upstream: UpstreamUrl) -> Self {
        self.clusters.insert(name.to_owned(), upstream);
        self
    }

    /// A cluster whose callouts come in again as requests of this server, unless another cluster has that name.
    pub fn loopback(mut self, name: &str) -> Self {
        self.loopback = Some(name.to_owned());
        self
    }

    /// What responses say in `server`; `proxy-wasm-host-test` if not said.
    pub fn server_name(mut self, name: &'static str) -> Self {
        self.options.server_name = name;
        self
    }

    /// How much it takes on, and how long it waits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What becomes of requests when a VM has failed; [`FailurePolicy::Reload`] if not said.
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.options.failure_policy = policy;
        self
    }

    /// How urgent a line of log must be to be told to [`on_log`](Self::on_log); filters may ask for it.
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.options.log_level = level;
        self
    }

    /// Is told of every line of log, on the thread that logs it.
    pub fn on_log(mut self, tell: impl Fn(&Log) + Send + Sync + 'static) -> Self {
        self.on_log = Box::new(tell);
        self
    }

    /// Is told of every request that has ended, on the thread that served it.
    pub fn on_access(mut self, tell: impl Fn(&Access) + Send + Sync + 'static) -> Self {
        self.on_access = Box::new(tell);
        self
    }

    /// Loads the filter, tries the configuration in a VM that is thrown away, configures the VMs of all threads, and then listens.
    ///
    /// # Errors
    ///
    /// [`ServeError`] says what went wrong; with the filter's own words if it refused its configuration.
    pub fn start(mut self) -> Result<Server, ServeError> {
        let address = self.listen;
        let unheard = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(self.listen).map_err(unheard)?;
        listener.set_nonblocking(true).map_err(unheard)?;
        let address = listener.local_addr().map_err(unheard)?;
        let workers = self.workers;
        if let Some(name) = self.loopback.take() {
            self.clusters.entry(name).or_insert_with(|| UpstreamUrl::of(address));
        }
        let setup = self.setup(address)?;
        let (numbers, directory) = (Numbers::default(), Directory::default());
        try_configuration(&setup, &numbers)??;
        let mut server = Server { address, threads: Vec::new() };
        let names = std::iter::once(Thread::Main).chain((0..workers).map(Thread::Worker));
        for thread in names {
            // An error ends the threads that are there already: the server is dropped.
            server.threads.push(Running::start(&setup, thread, &numbers, &directory)?);
        }
        let workers = server.threads.iter().skip(1).map(|thread| thread.mailbox.clone()).collect();
        if let Some(main) = server.threads.first() {
            main.mailbox.send(Message::Listen(listener, workers));
        }
        Ok(server)
    }
}

impl ServerBuilder {
    /// Loads the filter and configures it once, without serving anything.
    ///
    /// # Errors
    ///
    /// [`ServeError`] says why it doesn't load. That it refuses its configuration is no error here.
    pub fn inspect(self) -> Result<Inspection, ServeError> {
        let address = self.listen;
        let setup = self.setup(address)?;
        let refusal = match try_configuration(&setup, &Numbers::default())? {
            Ok(()) => None,
            Err(NotStarted::Unwilling(logs)) => Some(logs),
            Err(unable) => return Err(unable.into()),
        };
        Ok(Inspection::of(&setup.filter, &setup.configuration, refusal))
    }

    fn setup(self, address: SocketAddr) -> Result<Arc<Setup>, ServeError> {
        let filter = Filter::load(&self.filter.ok_or(BuildError::NoFilter)?.read()?)?;
        Ok(Arc::new(Setup {
            filter,
            configuration: self.configuration.into(),
            options: Arc::new(self.options),
            process: SharedProcess::default(),
            since: Instant::now(),
            address,
            upstream: self.upstream,
            clusters: self.clusters,
            limits: self.limits,
            on_log: self.on_log,
            on_access: self.on_access,
        }))
    }
}

/// Configures a VM on a thread of its own and throws it away (`WasmHandleBase::canary`).
fn try_configuration(setup: &Arc<Setup>, numbers: &Numbers) -> Result<Result<(), NotStarted>, ServeError> {
    let trial = || {
        let runtime = RuntimeBuilder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
        runtime.block_on(async {
            let (mailbox, _inbox) = Mailbox::new();
            let (setup, numbers) = (Arc::clone(setup), numbers.clone());
            let mut trial = Worker::new(setup, Thread::Main, numbers, mailbox, Directory::default());
            Ok(trial.start())
        })
    };
    // The caller's thread may have a runtime already.
    let outcome = std::thread::scope(|scope| scope.spawn(trial).join());
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A gateway that serves. Dropping it ends it at once.
pub struct Server {
    address: SocketAddr,
    /// The main thread first.
    threads: Vec<Running>,
}

impl Server {
    /// Begins to describe a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, and waits until the requests under way have ended, or the time for that is over. True: all ended.
    pub fn stop(mut self) -> bool {
        for thread in &self.threads {
            thread.mailbox.send(Message::Stop);
        }
        let ended: Vec<bool> = self.threads.iter_mut().map(|thread| thread.join()).collect();
        ended.iter().all(|ended| *ended)
    }
}

struct Running {
    mailbox: Mailbox,
    handle: Option<JoinHandle<bool>>,
}

impl Running {
    fn start(setup: &Arc<Setup>, thread: Thread, numbers: &Numbers, directory: &Directory) -> Result<Self, ServeError> {
        let (mailbox, inbox) = Mailbox::new();
        let (ready, started) = mpsc::channel();
        let (setup, numbers, directory) = (Arc::clone(setup), numbers.clone(), directory.clone());
        let own = mailbox.clone();
        let body = move || run(setup, thread, numbers, own, directory, inbox, &ready);
        let handle = std::thread::Builder::new().name(thread.to_string()).spawn(body).map_err(ServeError::Thread)?;
        let running = Self { mailbox, handle: Some(handle) };
        started.recv().unwrap_or_else(|_| Err(ServeError::Thread(io::Error::other("it ended"))))?;
        Ok(running)
    }

    fn join(&mut self) -> bool {
        self.handle.take().is_none_or(|handle| handle.join().unwrap_or(false))
    }
}

fn run(
    setup: Arc<Setup>,
    thread: Thread,
    numbers: Numbers,
    mailbox: Mailbox,
    directory: Directory,
    inbox: UnboundedReceiver<Message>,
    ready: &mpsc::Sender<Result<(), ServeError>>,
) -> bool {
    // Nobody waits for word where the start was given up.
    let tell = |outcome| _ = ready.send(outcome);
    let runtime = match RuntimeBuilder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(Err(ServeError::Thread(error)));
            return false;
        }
    };
    runtime.block_on(async {
        let mut worker = Worker::new(setup, thread, numbers, mailbox, directory);
        let started = worker.start();
        let willing = started.is_ok();
        tell(started.map_err(ServeError::from));
        if willing { worker.run(inbox).await } else { false }
    })
}
