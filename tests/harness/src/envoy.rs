//! A real Envoy.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

use crate::process::Process;
use crate::{Client, Connection, Error, Port, Request, Response, Result, programs};

/// What to start.
#[derive(Debug)]
pub struct EnvoyConfig {
    /// The complete configuration. Its first listener is on `listen`, its admin interface on `admin`.
    pub yaml: String,
    /// Where clients connect.
    pub listen: Port,
    /// Where the admin interface is.
    pub admin: Port,
    /// Worker threads; each has a VM of its own.
    pub concurrency: u32,
    /// Variables of its environment, for the VM configuration's `host_env_keys`.
    pub environment: Vec<(String, String)>,
    /// Whether [`Envoy::reload`] can be asked for. Then the listeners are in a file of their own that Envoy watches.
    pub reloads: bool,
}

impl EnvoyConfig {
    /// Two workers, on two new ports that `yaml` is told: `(listen, admin)`.
    ///
    /// # Errors
    ///
    /// When no ports are free.
    pub fn new(yaml: impl FnOnce(SocketAddr, SocketAddr) -> String) -> Result<Self> {
        let (listen, admin) = (Port::claim()?, Port::claim()?);
        let yaml = yaml(listen.address(), admin.address());
        Ok(Self { yaml, listen, admin, concurrency: 2, environment: Vec::new(), reloads: false })
    }
}

/// A running Envoy; dropping it ends it.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    config: EnvoyConfig,
    folder: TempDir,
}

impl Envoy {
    /// Starts it and waits until it takes requests.
    ///
    /// # Errors
    ///
    /// When there is no Envoy, or it refuses the configuration: [`Error::Ended`] holds what it says.
    pub async fn start(config: EnvoyConfig) -> Result<Self> {
        let folder = TempDir::with_prefix("routecache-envoy-").map_err(Error::io("make a temporary folder"))?;
        let file = if config.reloads {
            let (rest, listeners) = parted(&config.yaml)?;
            let watched = write(folder.path(), LISTENERS, &listeners)?;
            let source = format!("path_config_source: {{ path: {:?} }}", watched.display().to_string());
            write(folder.path(), BOOTSTRAP, &format!("{rest}\ndynamic_resources: {{ lds_config: {{ {source} }} }}\n"))?
        } else {
            write(folder.path(), BOOTSTRAP, &config.yaml)?
        };
        let mut command = Command::new(programs::envoy()?);
        command.arg("--config-path").arg(file).args(["--disable-hot-restart"]);
        command.args(["--service-node", "test", "--service-cluster", "test"]); // asked for where listeners are watched
        command.args(["--drain-strategy", "immediate"]); // who is served by old listeners is told to leave with the next answer
        // At `info` Envoy begins with a hundred lines of what it is able to do.
        command.args(["--log-level", "warning", "--component-log-level", "wasm:info"]);
        command.args(["--concurrency", &config.concurrency.to_string()]);
        command.envs(config.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start("envoy", command)?;
        let admin = Client::new(config.admin.address());
        let ready = async || matches!(admin.get("/ready").await, Ok(answer) if answer.status == 200);
        process.ready(ready).await?;
        Ok(Self { process, config, folder })
    }

    /// `envoy --mode validate`.
    ///
    /// # Errors
    ///
    /// What Envoy says against the configuration, or that there is no Envoy.
    pub async fn validate(yaml: &str) -> Result<()> {
        let folder = TempDir::with_prefix("routecache-envoy-").map_err(Error::io("make a temporary folder"))?;
        let file = write(folder.path(), BOOTSTRAP, yaml)?;
        let mut command = Command::new(programs::envoy()?);
        command.args(["--mode", "validate", "--config-path"]).arg(file).kill_on_drop(true);
        let Output { status, stdout, stderr } = command.output().await.map_err(Error::io("start envoy"))?;
        if status.success() {
            return Ok(());
        }
        let log = [stdout, stderr].concat();
        let log = String::from_utf8_lossy(&log).into_owned();
        Err(Error::Ended { name: "envoy --mode validate".into(), status: status.to_string(), log })
    }

    /// A client of the first listener.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.config.listen.address())
    }

    /// Sends a GET on a new connection: whichever worker the system picks answers.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<Response> {
        self.client().get(path).await
    }

    /// Sends a request on a new connection.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn send(&self, request: Request) -> Result<Response> {
        self.client().send(request).await
    }

    /// The address of the first listener.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.config.listen.address()
    }

    /// Opens a connection that is served by that worker, counted from 0. A connection stays with its worker.
    ///
    /// The system spreads connections over the workers as it likes, so this opens them until Envoy's statistics say
    /// that one fell to the worker. It is only exact while nobody else connects.
    ///
    /// # Errors
    ///
    /// When Envoy has no such worker or doesn't answer.
    pub async fn worker(&self, worker: u32) -> Result<Connection> {
        for _ in 0..200 {
            let before = self.accepted(worker).await?;
            let all_before = self.accepted_by_all().await?;
            let connection = self.client().connect().await?;
            let start = Instant::now();
            while self.accepted_by_all().await? == all_before && start.elapsed() < Duration::from_secs(5) {
                sleep(Duration::from_millis(1)).await;
            }
            if self.accepted(worker).await? > before {
                return Ok(connection);
            }
        }
        Err(Error::Unexpected(format!("200 connections, and none fell to worker {worker} of {}", self.address())))
    }

    /// The value of a counter or gauge, 0 if there is none of that name.
    ///
    /// # Errors
    ///
    /// When the admin interface doesn't answer.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        let all = self.admin("/stats").await?;
        let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok());
        Ok(value.unwrap_or(0))
    }

    /// The body of a GET to the admin interface.
    ///
    /// # Errors
    ///
    /// When it doesn't answer.
    pub async fn admin(&self, path: &str) -> Result<String> {
        let answer = Client::new(self.config.admin.address()).get(path).await?;
        Ok(answer.text())
    }

    /// CPU time that it has used so far, of all threads, in user and kernel together (Linux: `/proc/<pid>/stat`, whose
    /// unit is a hundredth of a second).
    ///
    /// # Errors
    ///
    /// When the system doesn't say.
    pub fn cpu_time(&self) -> Result<Duration> {
        self.process.cpu_time()
    }

    /// What it has said lately.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log().last()
    }

    /// Every line that it has said.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.process.log().lines()
    }

    /// Gives it the listeners of another configuration, without a restart, and waits until it has taken them.
    ///
    /// # Errors
    ///
    /// When it refuses them, or wasn't started with [`EnvoyConfig::reloads`].
    pub async fn reload(&self, yaml: &str) -> Result<()> {
        let (_, listeners) = parted(yaml)?;
        let (taken, refused) = ("listener_manager.listener_modified", "listener_manager.lds.update_rejected");
        let before = (self.stat(taken).await?, self.stat(refused).await?);
        let next = write(self.folder.path(), "next.yaml", &listeners)?;
        fs::rename(next, self.folder.path().join(LISTENERS)).map_err(Error::io("replace Envoy's listeners"))?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(30) {
            if self.stat(refused).await? > before.1 {
                return Err(Error::Unexpected(format!("Envoy refuses its new listeners:\n{}", self.log())));
            }
            if self.stat(taken).await? > before.0 && self.stat("listener_manager.total_listeners_warming").await? == 0 {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(Error::Unexpected(format!("Envoy hasn't taken its new listeners:\n{}", self.log())))
    }

    /// Ends it and waits until it is gone.
    pub async fn stop(mut self) {
        self.process.stop().await;
    }

    async fn accepted(&self, worker: u32) -> Result<u64> {
        self.stat(&format!("listener.{}.worker_{worker}.downstream_cx_total", self.stat_name())).await
    }

    async fn accepted_by_all(&self) -> Result<u64> {
        self.stat(&format!("listener.{}.downstream_cx_total", self.stat_name())).await
    }

    fn stat_name(&self) -> String {
        self.address().to_string().replace(':', "_")
    }
}

const BOOTSTRAP: &str = "envoy.yaml";
const LISTENERS: &str = "listeners.yaml";

fn write(folder: &Path, name: &str, yaml: &str) -> Result<PathBuf> {
    let file = folder.join(name);
    fs::write(&file, yaml).map_err(Error::io(format!("write {}", file.display())))?;
    Ok(file)
}

/// A configuration without its listeners, and those as what Envoy can watch.
fn parted(yaml: &str) -> Result<(String, String)> {
    let (before, rest) = yaml.split_once("\n  listeners:\n").ok_or_else(|| Error::Unexpected("no listeners".into()))?;
    let (listeners, after) =
        rest.split_once("\n  clusters:\n").ok_or_else(|| Error::Unexpected("no clusters".into()))?;
    let kind = "\n    - \"@type\": type.googleapis.com/envoy.config.listener.v3.Listener\n      ";
    let listeners = format!("\n{listeners}").replace("\n    - ", kind);
    Ok((format!("{before}\n  clusters:\n{after}"), format!("resources:{listeners}\n")))
}
