//! What stands on the stage: an API, a bridge, and two gateways with two workers each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use routecache_harness::{
    API_HOST, Bridge, Client, Connection, Envoy, EnvoyConfig, Error, Origin, Port, Result, filter, gateway_cli, target,
};

/// The rules that both gateways follow, from the workspace's root.
const RULES: &str = "gateway-config/examples/users-and-orders.yaml";

pub(crate) struct Stage {
    pub(crate) origin: Origin,
    pub(crate) bridge: Bridge,
    pub(crate) a: Gateway,
    pub(crate) b: Gateway,
}

/// An Envoy, and a connection to each of its workers.
pub(crate) struct Gateway {
    pub(crate) name: &'static str,
    pub(crate) envoy: Envoy,
    pub(crate) workers: [Connection; 2],
}

impl Stage {
    /// Starts everything and says what it starts.
    pub(crate) async fn set() -> Result<Self> {
        let origin = Origin::start().await?;
        println!("origin     http://{}   a JSON API; every read takes 30 ms", origin.address());
        let bridge = Bridge::start("mem://").await?;
        println!("bridge     http://{}   routecache-bridge --store mem://", bridge.address());
        let a = Gateway::open("A", &origin, &bridge).await?;
        let b = Gateway::open("B", &origin, &bridge).await?;
        Ok(Self { origin, bridge, a, b })
    }

    /// Ends everything, the gateways first, and waits for it.
    pub(crate) async fn clear(mut self) {
        self.a.envoy.stop().await;
        self.b.envoy.stop().await;
        self.bridge.stop().await;
    }

    /// What everybody said lately, for a line that isn't as it should be.
    pub(crate) fn print_logs(&self) {
        for (name, log) in
            [("gateway A", self.a.envoy.log()), ("gateway B", self.b.envoy.log()), ("bridge", self.bridge.log())]
        {
            eprintln!("── {name}, the last it said ──\n{log}");
        }
    }

    /// Lines to try while it all goes on running.
    pub(crate) fn print_invitation(&self) {
        let (a, b) = (self.a.envoy.address(), self.b.envoy.address());
        let (admin, bridge) = (self.origin.admin(), self.bridge.address());
        println!(
            "\n\
             It goes on running. In another terminal (the host is part of a cache key, so both gateways get the same):\n\n\
             A=http://{a} B=http://{b} H='Host: {API_HOST}'\n\
             curl -iH \"$H\" $A/users/1                   # twice: forwarded, then a hit\n\
             curl -iH \"$H\" $B/users/1                   # the other gateway\n\
             curl -iH \"$H\" \"$A/users/1/orders?page=1&size=2\"\n\
             curl -iH \"$H\" -X PUT -d '{{\"name\":\"Ada\"}}' $A/users/1\n\
             curl -X POST 'http://{admin}/admin/fail-next-write?status=500'\n\
             curl http://{admin}/admin/requests          # what the origin has heard\n\
             curl http://{bridge}/readyz\n\n\
             The gateways' configurations are in target/demo; the rules in {RULES}.\n\
             Ctrl-C ends everything."
        );
    }
}

impl Gateway {
    /// Renders the configuration as a user would, and starts an Envoy with it.
    async fn open(name: &'static str, origin: &Origin, bridge: &Bridge) -> Result<Self> {
        let (listen, admin) = (Port::claim()?, Port::claim()?);
        let mut render = Command::new(gateway_cli()?);
        render.args(["render", RULES, "--target", "envoy", "--wasm"]).arg(filter()?);
        for (option, address) in [
            ("--listen", listen.address()),
            ("--admin", admin.address()),
            ("--upstream", origin.address()),
            ("--bridge", bridge.address()),
        ] {
            render.arg(option).arg(address.to_string());
        }
        let yaml = printed(&mut render)?;
        let file = keep(&target()?, name, &yaml)?;
        let config = EnvoyConfig { yaml, listen, admin, concurrency: 2, environment: Vec::new(), reloads: false };
        let envoy = Envoy::start(config).await?;
        println!("gateway {name}  http://{}   envoy --concurrency 2 -c {}", envoy.address(), file.display());
        let workers = [envoy.worker(0).await?, envoy.worker(1).await?];
        Ok(Self { name, envoy, workers })
    }

    /// A client that lets the system choose the worker.
    pub(crate) fn client(&self) -> Client {
        self.envoy.client()
    }
}

/// Keeps a gateway's configuration for whoever wants to read it.
fn keep(target: &Path, gateway: &str, yaml: &str) -> Result<PathBuf> {
    let folder = target.join("demo");
    let file = folder.join(format!("gateway-{}.yaml", gateway.to_lowercase()));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&file, yaml))
        .map_err(|source| Error::Io { doing: format!("write {}", file.display()), source })?;
    let here = std::env::current_dir().unwrap_or_default();
    Ok(file.strip_prefix(here).unwrap_or(&file).to_owned())
}

/// What a program prints, if it succeeds.
fn printed(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|source| Error::Io { doing: format!("start {command:?}"), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let (status, log) = (output.status.to_string(), String::from_utf8_lossy(&output.stderr).into_owned());
    Err(Error::Ended { name: format!("{command:?}"), status, log })
}
