//! `routecache-bridge`: the service as a process.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use routecache_bridge::access::Access;
use routecache_bridge::hooks::Hooks;
use routecache_bridge::settings::{Address, LogFormat, Settings, told};
use routecache_bridge::{InRedis, Listener, Replicas, Role, Service, StoreTls, StoreUrl, Tellers, Tls, follow_events};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// A lookup allocates some dozens of small things, which are freed on other threads: what glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps cached responses and the log of purges for a group of gateways.
///
/// Every setting is a flag, else a variable of the environment, else a line of the file, else the default. SIGHUP reads
/// the file, the tokens and the certificates again; SIGTERM ends what is under way and stops.
#[derive(Clone, Parser)]
#[command(name = "routecache-bridge", version, max_term_width = 110)]
struct Arguments {
    /// File of settings, in TOML: the flags' names with `_` for `-`
    #[arg(long, env = "ROUTECACHE_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,

    /// Say whether the settings can be used, and stop
    #[arg(long)]
    check_config: bool,

    /// Write the port here once the bridge listens
    #[arg(long, value_name = "PATH")]
    port_file: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = match settings(&arguments) {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    let log = start_log(&settings);
    match run(&arguments, settings, &log).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            tracing::error!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The flags and the environment, then the file.
fn settings(arguments: &Arguments) -> Result<Settings, String> {
    let file = arguments.config.as_deref().map(Settings::read).transpose().map_err(|error| error.to_string())?;
    let file = file.unwrap_or_default();
    let store = Settings::store_url(arguments.settings.store.as_deref(), file.store.as_deref());
    Ok(Settings { store: Some(store), ..arguments.settings.clone().or(file) })
}

type LogFilter = reload::Handle<EnvFilter, Registry>;

fn start_log(settings: &Settings) -> LogFilter {
    let (filter, handle) = reload::Layer::new(log_filter(settings));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(filter);
    match settings.log_format.unwrap_or_default() {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
    handle
}

fn log_filter(settings: &Settings) -> EnvFilter {
    let level = tracing::Level::INFO.into();
    EnvFilter::builder().with_default_directive(level).parse_lossy(settings.log.as_deref().unwrap_or_default())
}

async fn run(arguments: &Arguments, settings: Settings, log: &LogFilter) -> Result<(), String> {
    let said = |error: &dyn std::error::Error| told(error);
    let tokens = settings.tokens().map_err(|error| said(&error))?;
    let tls = settings.tls().map_err(|error| said(&error))?;
    settings.check_places(&tokens, tls.as_ref()).map_err(|error| said(&error))?;
    let hooks = settings.hooks().map_err(|error| said(&error))?;
    let store_tls = settings.store_tls().map_err(|error| said(&error))?;
    let store = |error: &dyn std::error::Error| format!("the store: {}", told(error));
    let url = StoreUrl::parse(settings.store.as_deref().unwrap_or("mem://")).map_err(|error| store(&error))?;
    settings.check_store(&url).map_err(|error| said(&error))?;
    let replicas = settings.store_replicas.as_deref().map(Replicas::parse).transpose();
    let replicas = replicas.map_err(|error| store(&error))?;
    let bridge = url.open_with(settings.store_timeout(), &store_tls, settings.packing(), replicas.as_ref());
    let bridge = bridge.map_err(|error| store(&error))?;
    if arguments.check_config {
        println!("the settings can be used: store {url}, {} tokens", tokens.len());
        return Ok(());
    }
    let access = Access::new(tokens);
    let bridge = bridge.with_limits(settings.limits()).with_access(access.clone()).with_hooks(hooks.clone());

    // Before the port is told: whoever reads it may send a signal at once.
    let listen_for = |kind, name: &str| signal(kind).map_err(|error| format!("{name}: {error}"));
    let mut terminated = listen_for(SignalKind::terminate(), "SIGTERM")?;
    let mut interrupted = listen_for(SignalKind::interrupt(), "SIGINT")?;
    let hung_up = listen_for(SignalKind::hangup(), "SIGHUP")?;
    let stop = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        tracing::info!("stopping");
    };

    let listeners = listeners(&settings, tls.as_ref()).await?;
    if let Some(path) = &arguments.port_file {
        write_port(path, &listeners)?;
    }
    for place in settings.places().iter().chain(&settings.admin_listen).chain(&settings.hooks_listen) {
        let address = listeners.iter().find_map(|listener| matching(listener, place));
        tracing::info!(store = %url, "listening on {}", address.unwrap_or_else(|| place.to_string()));
    }
    follow(&url, &settings, &store_tls, &bridge.service())?;
    publish(&url, &settings, &store_tls, &bridge.service())?;
    let service = bridge.service();
    let reloading = Reload { arguments: arguments.clone(), access, hooks, tls, log: log.clone() };
    let reloading = tokio::spawn(reloading.run(hung_up, bridge.service()));
    if !bridge.serve_at(listeners, stop).await {
        tracing::warn!("some calls were still under way and have been cut off");
    }
    reloading.abort();
    if !service.told_all(settings.limits().drain).await {
        tracing::warn!("some purges haven't been told to others");
    }
    Ok(())
}

/// Carries out what applications ask for in Redis.
fn follow(url: &StoreUrl, settings: &Settings, tls: &StoreTls, service: &Service) -> Result<(), String> {
    for source in settings.sources() {
        let StoreUrl::Redis(address) = url else { continue };
        let events = follow_events(address, tls, settings.store_timeout(), source.clone());
        let events = events.map_err(|error| format!("events: {}", told(&error)))?;
        let service = service.clone();
        tokio::spawn(async move { service.follow(source, events).await });
    }
    Ok(())
}

/// Tells others of purges in Redis.
fn publish(url: &StoreUrl, settings: &Settings, tls: &StoreTls, service: &Service) -> Result<(), String> {
    let mut tellers = Tellers::default();
    for place in settings.told_at() {
        let StoreUrl::Redis(address) = url else { continue };
        let teller = InRedis::new(address, tls, settings.store_timeout(), place);
        tellers.add(service, teller.map_err(|error| format!("telling of purges: {}", told(&error)))?);
    }
    service.publish(tellers);
    Ok(())
}

/// Everywhere at once; with an admin place of its own, the others serve gateways only.
async fn listeners(settings: &Settings, tls: Option<&Tls>) -> Result<Vec<Listener>, String> {
    let role = if settings.admin_listen.is_some() { Role::Gateways } else { Role::All };
    let places = settings.places().into_iter().map(|place| (place, role));
    let admin = settings.admin_listen.clone().map(|place| (place, Role::Admin));
    let mut listeners = Vec::new();
    let hooks = settings.hooks_listen.clone().map(|place| (place, Role::Hooks));
    for (place, role) in places.chain(admin).chain(hooks) {
        let failed = |error: io::Error| format!("{place}: {error}");
        listeners.push(match &place {
            Address::Tcp(address) => {
                Listener::tcp(TcpListener::bind(address).await.map_err(failed)?, role).with_tls(tls.cloned())
            }
            Address::Unix(path) => Listener::unix(path, role).map_err(failed)?,
        });
    }
    Ok(listeners)
}

/// The port of the first place that has one.
fn write_port(path: &Path, listeners: &[Listener]) -> Result<(), String> {
    let port = listeners.iter().find_map(|listener| listener.address()).map_or(0, |address| address.port());
    fs::write(path, format!("{port}\n")).map_err(|error| format!("{}: {error}", path.display()))
}

/// What became of a place whose port was free to choose.
fn matching(listener: &Listener, place: &Address) -> Option<String> {
    let (Some(at), Address::Tcp(asked)) = (listener.address(), place) else { return None };
    (at.ip() == asked.ip() && (asked.port() == 0 || asked.port() == at.port())).then(|| at.to_string())
}

/// What SIGHUP reads again. The flags and the environment are as they were.
struct Reload {
    arguments: Arguments,
    access: Access,
    hooks: Hooks,
    tls: Option<Tls>,
    log: LogFilter,
}

impl Reload {
    async fn run(self, mut hung_up: Signal, service: Service) {
        while hung_up.recv().await.is_some() {
            let outcome = self.reload();
            match &outcome {
                Ok(()) => tracing::info!("tokens, hooks, certificates and the log's filter have been read again"),
                Err(message) => tracing::error!("reading anew failed; what was read before goes on: {message}"),
            }
            service.report("settings", outcome.err());
        }
    }

    /// All of it, or the rest goes on as before.
    fn reload(&self) -> Result<(), String> {
        let settings = settings(&self.arguments)?;
        let tokens = settings.tokens().map_err(|error| error.to_string())?;
        settings.check_places(&tokens, self.tls.as_ref()).map_err(|error| error.to_string())?;
        let hooks = settings.hooks().map_err(|error| error.to_string())?;
        if let Some(tls) = &self.tls {
            tls.reload().map_err(|error| told(&error))?;
        }
        self.access.replace(tokens);
        self.hooks.replace(&hooks);
        self.log.reload(log_filter(&settings)).map_err(|error| error.to_string())
    }
}
