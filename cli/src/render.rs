//! `routecache render`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use routecache_config::render::{Address, EnvoyOptions, Plugin, PluginOptions, envoy, plugin};

use crate::failure::Failure;
use crate::rules::{Environment, load, write};

/// Writes a gateway's configuration around rules, after checking them
///
/// For Istio, Envoy Gateway and Higress it is the resource that puts the filter into the gateway, with what it can't say in comments.
/// For Envoy it is a complete bootstrap: a listener with the filter in front of the router, the origin's cluster, and the
/// bridge's where the rules name one. Take it as it is, or as the pattern for your own.
#[derive(Args)]
pub struct Arguments {
    /// The rules, YAML or JSON; `-` is standard input
    #[arg(value_name = "FILE")]
    rules: PathBuf,
    /// The gateway: envoy, istio, envoy-gateway or higress
    #[arg(long, value_name = "TARGET", value_parser = target)]
    target: Target,
    /// Where clients connect
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10000")]
    listen: SocketAddr,
    /// Where the origin listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    upstream: Address,
    /// Where the bridge listens, if the rules name one [default: 127.0.0.1:8390]
    #[arg(long, value_name = "HOST:PORT")]
    bridge: Option<Address>,
    /// Envoy's own interface for statistics and debugging, which can also end it: keep it to loopback
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// Leave that interface out
    #[arg(long, conflicts_with = "admin")]
    no_admin: bool,
    /// Leave out the line that is logged for each request
    #[arg(long)]
    no_access_log: bool,
    /// The filter's file, as the gateway will find it; where Kubernetes configures the gateway, a URL: oci://… or https://…
    #[arg(long, value_name = "FILE", default_value = "routecache.wasm")]
    wasm: String,
    #[command(flatten)]
    environment: Environment,
    /// Where to write; standard output if not given
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    output: PathBuf,
}

/// The gateways whose configuration we can write.
#[derive(Clone, Copy)]
enum Target {
    Envoy,
    Kubernetes(Plugin),
}

/// Why there is nothing to render for it.
const KONG: &str = "Kong shows a filter its own name in place of the client's `Host`, and decoded paths: one host's clients would get \
                    the other's responses. docs/gateways.md tells more";

fn target(text: &str) -> Result<Target, String> {
    match text {
        "envoy" => Ok(Target::Envoy),
        "istio" => Ok(Target::Kubernetes(Plugin::Istio)),
        "envoy-gateway" => Ok(Target::Kubernetes(Plugin::EnvoyGateway)),
        "higress" => Ok(Target::Kubernetes(Plugin::Higress)),
        "kong" => Err(KONG.to_owned()),
        _ => Err("the targets are `envoy`, `istio`, `envoy-gateway` and `higress`".to_owned()),
    }
}

/// Checks, renders, writes.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let loaded = load(&arguments.rules, &arguments.environment)?;
    if arguments.bridge.is_some() && loaded.policy.bridge.is_none() {
        return Err(Failure::NoBridge(arguments.rules));
    }
    if let Target::Kubernetes(target) = arguments.target {
        let environment: BTreeMap<_, _> = arguments.environment.variables.into_iter().collect();
        let options = PluginOptions {
            wasm: arguments.wasm,
            bridge: arguments.bridge,
            environment: environment.into_iter().collect(),
        };
        let resource = plugin(&loaded.json, target, &options)
            .map_err(|unsayable| Failure::Unusable("render".to_owned(), unsayable.to_string()))?;
        return write(&arguments.output, resource.as_bytes());
    }
    let defaults = EnvoyOptions::default();
    // Given twice, the last one counts.
    let environment: BTreeMap<_, _> = arguments.environment.variables.into_iter().collect();
    let options = EnvoyOptions {
        listen: arguments.listen,
        upstream: arguments.upstream,
        bridge: arguments.bridge.or(defaults.bridge),
        admin: Some(arguments.admin).filter(|_| !arguments.no_admin),
        wasm: arguments.wasm,
        environment: environment.into_iter().collect(),
        access_log: !arguments.no_access_log,
        ..EnvoyOptions::default()
    };
    write(&arguments.output, envoy(&loaded.json, &options).as_bytes())?;
    if !Path::new(&options.wasm).exists() {
        // The gateway may run elsewhere, so this is no failure.
        eprintln!("note: there is no {} here; `routecache filter` writes it", options.wasm);
    }
    Ok(())
}
