//! A real Redis, in the states that one can be in; and six of them as a cluster.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::sleep;

use crate::process::Process;
use crate::{Error, Port, Result, programs};

/// A running Redis server; dropping it ends it.
#[derive(Debug)]
pub struct Redis {
    port: Port,
    settings: Vec<String>,
    process: Process,
    /// Nothing is saved there that nobody asks for.
    folder: TempDir,
    /// Of the connections between the nodes of a cluster, where it is one.
    bus: Option<Port>,
}

impl Redis {
    /// Starts an empty one and waits until it answers.
    ///
    /// # Errors
    ///
    /// When there is none to start, or it ends at once.
    pub async fn start() -> Result<Self> {
        Self::start_with(vec![]).await
    }

    /// With more words on its command line.
    async fn start_with(settings: Vec<String>) -> Result<Self> {
        let port = Port::claim()?;
        let folder = TempDir::with_prefix("routecache-redis-").map_err(Error::io("make a temporary folder"))?;
        let mut process = launch(&port, &folder, &settings)?;
        process.ready(async || answers_ping(&port).await).await?;
        Ok(Self { port, settings, process, folder, bus: None })
    }

    /// The only node of a cluster, which serves all slots.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`], and when it doesn't become a cluster.
    pub async fn start_as_cluster() -> Result<Self> {
        let bus = Port::claim()?;
        let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus.number().to_string()];
        let redis = Self::start_with(settings.map(str::to_owned).into()).await?;
        redis.tell("CLUSTER ADDSLOTSRANGE 0 16383").await?;
        let start = Instant::now();
        while !redis.tell("CLUSTER INFO").await?.contains("cluster_state:ok") {
            if start.elapsed() > Duration::from_secs(30) {
                return Err(Error::Unexpected("a Redis doesn't become a cluster within 30 s".into()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { bus: Some(bus), ..redis })
    }

    /// Starts a replica of it, and waits until that is in step.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`], and when it never is.
    pub async fn replica(&self) -> Result<Self> {
        for setting in ["repl-diskless-sync yes", "repl-diskless-sync-delay 0"] {
            self.tell(&format!("CONFIG SET {setting}")).await?;
        }
        let master = self.port.number().to_string();
        let settings = ["--replicaof", "127.0.0.1", &master, "--repl-diskless-load", "swapdb"];
        let replica = Self::start_with(settings.map(str::to_owned).into()).await?;
        until("a replica of Redis isn't in step", async || {
            let replication = async |redis: &Self| redis.tell("INFO replication").await.unwrap_or_default();
            let (own, its) = (replication(self).await, replication(&replica).await);
            let offset =
                |info: &str| info.lines().find_map(|line| line.strip_prefix("master_repl_offset:").map(str::to_owned));
            its.contains("master_link_status:up") && offset(&own) == offset(&its)
        })
        .await?;
        Ok(replica)
    }

    /// Kills it, and has the replica answer in its place as it is.
    ///
    /// # Errors
    ///
    /// When the replica is gone too, or the port isn't free.
    pub async fn fail_over_to(&mut self, replica: &Self) -> Result<()> {
        self.process.kill().await;
        replica.tell("REPLICAOF NO ONE").await?;
        replica.tell(&format!("CONFIG SET port {}", self.port.number())).await.map(drop)
    }

    /// Its URL, for the bridge's `--store`.
    #[must_use]
    pub fn url(&self) -> String {
        let kind = if self.bus.is_some() { "redis+cluster" } else { "redis" };
        format!("{kind}://{}", self.port.address())
    }

    /// Kills it, with everything in it, and starts an empty one on the same port.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await;
        self.process = launch(&self.port, &self.folder, &self.settings)?;
        self.process.ready(async || answers_ping(&self.port).await).await
    }

    /// Saves what it holds, kills it, and starts it again: it answers `LOADING` for about so long.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`], and when it can't be filled.
    pub async fn reload_slowly(&mut self, time: Duration) -> Result<()> {
        const KEYS: u128 = 200;
        let filler = "redis.call('SET', 'filler' .. i, string.rep('x', 2048))";
        self.tell(&format!("EVAL \"for i = 1, {KEYS} do {filler} end return 1\" 0")).await?;
        // While it loads, it answers once for each KiB that it has read.
        self.tell("CONFIG SET rdbcompression no").await?;
        self.tell("SAVE").await?;
        self.kill().await;
        let each_us = (time.as_micros() / KEYS).to_string();
        let slow = ["--key-load-delay", &each_us, "--loading-process-events-interval-bytes", "1024"];
        let settings: Vec<String> = self.settings.iter().cloned().chain(slow.map(str::to_owned)).collect();
        self.process = launch(&self.port, &self.folder, &settings)?;
        let port = &self.port;
        self.process.ready(async || ping(port).await.is_ok_and(|said| said.starts_with(b"-LOAD"))).await
    }

    /// Ends it as a crash would, with everything in it.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Makes it hang: connections are still accepted by the system, and nothing answers.
    pub fn hold(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on after [`Redis::hold`].
    pub fn release(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Sends it an inline command, and answers the first line that it says: of a bulk string, its text. Empty for nothing.
    ///
    /// # Errors
    ///
    /// When it isn't there, or refuses.
    pub async fn tell(&self, command: &str) -> Result<String> {
        let doing = || Error::io(format!("tell Redis: {command}"));
        let mut stream = BufReader::new(TcpStream::connect(self.port.address()).await.map_err(doing())?);
        stream.write_all(format!("{command}\r\n").as_bytes()).await.map_err(doing())?;
        let mut line = String::new();
        stream.read_line(&mut line).await.map_err(doing())?;
        match line.trim_end().split_at_checked(1) {
            Some(("$", length)) => {
                let mut text = vec![0; length.parse().unwrap_or(0)];
                stream.read_exact(&mut text).await.map_err(doing())?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            Some(("-", refusal)) => Err(Error::Unexpected(format!("Redis refuses `{command}`: {refusal}"))),
            Some((_, answer)) => Ok(answer.to_owned()),
            None => Err(Error::Unexpected(format!("Redis says nothing to `{command}`"))),
        }
    }

    /// Bytes that it has allocated.
    ///
    /// # Errors
    ///
    /// When it isn't there, or doesn't say.
    pub async fn used_memory(&self) -> Result<usize> {
        let answer = self.tell("INFO memory").await?;
        let used = answer.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        used.ok_or_else(|| Error::Unexpected("Redis doesn't say what memory it uses".into()))
    }
}

/// Three masters, each with a replica; dropping it ends them.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    /// Of the connections between them.
    _buses: Vec<Port>,
}

impl RedisCluster {
    const MASTERS: usize = 3;

    /// Starts an empty one and waits until it is whole.
    ///
    /// # Errors
    ///
    /// When there is no Redis (7.0 or later) to start, or the nodes don't come together.
    pub async fn start() -> Result<Self> {
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..2 * Self::MASTERS {
            let bus = Port::claim()?;
            let bus_port = bus.number().to_string();
            let settings =
                ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"];
            let own = ["--cluster-port", &bus_port];
            let settings = settings.into_iter().chain(own).map(str::to_owned).collect();
            nodes.push(Redis::start_with(settings).await?);
            buses.push(bus);
        }
        let (first, bus) = (nodes[0].port.number(), buses[0].number());
        for (number, node) in nodes.iter().enumerate() {
            node.tell(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1)).await?;
            if number < Self::MASTERS {
                let slot = |part: usize| part * 16384 / Self::MASTERS;
                node.tell(&format!("CLUSTER ADDSLOTSRANGE {} {}", slot(number), slot(number + 1) - 1)).await?;
            }
            if number > 0 {
                node.tell(&format!("CLUSTER MEET 127.0.0.1 {first} {bus}")).await?;
            }
        }
        let cluster = Self { nodes, _buses: buses };
        cluster.until("meet", async |cluster| cluster.all_say("CLUSTER INFO", "cluster_known_nodes:6").await).await?;
        for (number, replica) in cluster.nodes.iter().enumerate().skip(Self::MASTERS) {
            let master = cluster.nodes[number - Self::MASTERS].tell("CLUSTER MYID").await?;
            cluster
                .until("know the masters", async |_| {
                    replica.tell("CLUSTER NODES").await.is_ok_and(|nodes| nodes.contains(&master))
                })
                .await?;
            replica.tell(&format!("CLUSTER REPLICATE {master}")).await?;
        }
        cluster.whole().await?;
        Ok(cluster)
    }

    /// Its URL, for the bridge's `--store`.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| node.port.address().to_string()).collect();
        format!("redis://{}", hosts.join(","))
    }

    /// Its nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Redis> {
        self.nodes.iter()
    }

    /// Kills the master of the key's slot, waits until its replica has taken over, and starts it again, as the replica of that.
    ///
    /// # Errors
    ///
    /// When nobody takes over, or the node doesn't come back.
    pub async fn fail_over(&mut self, key: &str) -> Result<()> {
        let slot: u16 = self.nodes[0].tell(&format!("CLUSTER KEYSLOT {key}")).await?.parse().unwrap_or_default();
        let mut master = None;
        for (number, node) in self.nodes.iter().enumerate() {
            if serves(&node.tell("CLUSTER NODES").await?, slot) {
                master = Some(number);
            }
        }
        let master = master.ok_or_else(|| Error::Unexpected(format!("no master has slot {slot}")))?;
        self.nodes[master].process.kill().await;
        self.until("fail over", async |cluster| {
            for (number, node) in cluster.nodes.iter().enumerate() {
                if number != master && node.tell("CLUSTER NODES").await.is_ok_and(|nodes| serves(&nodes, slot)) {
                    return true;
                }
            }
            false
        })
        .await?;
        self.nodes[master].restart().await?;
        self.whole().await
    }

    /// Waits until every slot has a master that everybody knows, and each of those a replica that is in step: one that never
    /// was isn't elected.
    async fn whole(&self) -> Result<()> {
        self.until("be whole", async |cluster| {
            let mut in_step = 0;
            for node in &cluster.nodes {
                in_step += usize::from(
                    node.tell("INFO replication").await.is_ok_and(|it| it.contains("master_link_status:up")),
                );
            }
            in_step == Self::MASTERS && cluster.all_say("CLUSTER INFO", "cluster_state:ok").await
        })
        .await
    }

    async fn all_say(&self, command: &str, text: &str) -> bool {
        for node in &self.nodes {
            if !node.tell(command).await.is_ok_and(|answer| answer.contains(text)) {
                return false;
            }
        }
        true
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) -> Result<()> {
        until(&format!("a Redis Cluster doesn't {what}"), async || holds(self).await).await
    }
}

async fn until(not: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !holds().await {
        if start.elapsed() > Duration::from_secs(60) {
            return Err(Error::Unexpected(not.to_owned()));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Whether the node that said this of itself and others is the master of that slot.
fn serves(nodes: &str, slot: u16) -> bool {
    let Some(own) = nodes.lines().find(|line| line.contains("myself,master")) else { return false };
    own.split(' ').skip(8).any(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        matches!((from.parse::<u16>(), to.parse::<u16>()), (Ok(from), Ok(to)) if (from..=to).contains(&slot))
    })
}

fn launch(port: &Port, folder: &TempDir, settings: &[String]) -> Result<Process> {
    let mut command = Command::new(programs::redis()?);
    command.args(["--bind", "127.0.0.1", "--port", &port.number().to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(folder.path()).args(settings);
    Process::start("redis-server", command)
}

async fn answers_ping(port: &Port) -> bool {
    ping(port).await.is_ok_and(|said| &said == b"+PONG")
}

/// The beginning of what it says.
async fn ping(port: &Port) -> std::io::Result<[u8; 5]> {
    let mut stream = TcpStream::connect(port.address()).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
