//! `routecache serve`.

mod bridge;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use proxy_wasm_host_test::serve::command::{self, Options};
use proxy_wasm_host_test::serve::{ServeError, ServerBuilder};
use routecache_config::{VARIABLES, variables};
use routecache_core::policy::Policy;

use crate::failure::Failure;
use crate::filter::FILTER;
use crate::rules::{Environment, load, write};
use bridge::BridgeUrl;

/// Serves HTTP: a reverse proxy with rules, or with any other Proxy-Wasm filter, and nothing else to install
///
/// With rules it runs the filter that this command carries inside, as Envoy would: threads with a VM each, a tier that they share, and
/// the group's bridge. It takes HTTP/1.1, and HTTP/2 without TLS. docs/serve.md is the guide.
///
/// Prints `listening on http://…` once it is ready, then a line of JSON for each request. Exits with 0 after Ctrl-C or SIGTERM, 1 if the
/// rules have mistakes, 2 if it can't start.
#[derive(Args)]
pub struct Arguments {
    /// The rules, YAML or JSON; `-` is standard input
    #[arg(value_name = "RULES", required_unless_present = "filter")]
    rules: Option<PathBuf>,
    /// Where the bridge's data is, where the rules name a bridge: mem:// and redis://… start one in this process, http://… uses one
    /// that runs [default: mem://]
    #[arg(long, value_name = "URL")]
    bridge: Option<BridgeUrl>,
    /// The filter for the rules, in place of the one inside
    #[arg(long, value_name = "FILE", requires = "rules")]
    wasm: Option<PathBuf>,
    /// Any other Proxy-Wasm filter, in place of rules
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rules", "bridge"])]
    filter: Option<PathBuf>,
    /// A file with that filter's configuration
    #[arg(long, value_name = "FILE", requires = "filter")]
    config: Option<PathBuf>,
    /// Only load and configure the filter, and tell what it wants of its host
    ///
    /// Exits with 0 if it loads, even if it refuses its configuration.
    #[arg(long)]
    check_load: bool,
    #[command(flatten)]
    options: Options,
}

/// Serves until it is told to stop.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (name, builder, bridge) = match (&arguments.rules, &arguments.filter) {
        (Some(rules), _) => with_rules(arguments, rules)?,
        (None, Some(filter)) => (filter.clone(), with_filter(arguments, filter)?, None),
        (None, None) => return Ok(()), // the parser wants one of them
    };
    let failed = |error: ServeError| Failure::Serve(name.clone(), told(&error));
    if arguments.check_load {
        let inspection = builder.inspect().map_err(failed)?;
        return write("-".as_ref(), format!("{}: {inspection}\n", name.display()).as_bytes());
    }
    let served = command::run(builder).map_err(failed);
    // The bridge outlives the requests that use it.
    drop(bridge);
    served
}

fn with_filter(arguments: &Arguments, filter: &Path) -> Result<ServerBuilder, Failure> {
    let configuration = match &arguments.config {
        Some(path) => fs::read(path).map_err(|error| Failure::Unread(path.clone(), error))?,
        None => Vec::new(),
    };
    Ok(arguments.options.builder().server_name("routecache").filter(filter).configuration(configuration))
}

type WithRules = (PathBuf, ServerBuilder, Option<bridge::Embedded>);

fn with_rules(arguments: &Arguments, rules: &Path) -> Result<WithRules, Failure> {
    let mut options = arguments.options.clone();
    // Behind our own environment, so that what is given wins: as in the gateway configuration that `render` writes.
    let inherited = VARIABLES.into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    options.variables = inherited.chain(options.variables).collect();
    let environment = Environment { variables: options.variables.clone() };
    // Given twice, the last one counts; the filter takes the first that it finds.
    options.variables.reverse();
    let loaded = load(rules, &environment)?;
    let secrets = variables(&loaded.json).into_iter().filter(|name| !VARIABLES.contains(name));
    options.variables.extend(secrets.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))));
    let builder = options
        .builder()
        .server_name("routecache")
        .plugin("routecache", "routecache")
        .configuration(loaded.json.to_string());
    let builder = match &loaded.policy.background {
        Some(background) => builder.loopback(&background.cluster),
        None => builder,
    };
    let builder = with_origins(builder, &options, &loaded.policy);
    let builder = match (&arguments.wasm, FILTER) {
        (Some(path), _) => builder.filter(path.as_path()),
        (None, Some(inside)) => builder.filter(inside),
        (None, None) => return Err(Failure::NoFilter),
    };
    let Some(named) = &loaded.policy.bridge else {
        return match arguments.bridge {
            Some(_) => Err(Failure::NoBridge(rules.to_owned())),
            None => Ok((rules.to_owned(), builder, None)),
        };
    };
    if arguments.bridge.is_none() && options.clusters.iter().any(|(name, _)| *name == named.cluster) {
        return Ok((rules.to_owned(), builder, None));
    }
    let url = arguments.bridge.clone().unwrap_or_default();
    let (upstream, embedded) = url.open().map_err(|error| Failure::Serve(rules.to_owned(), error))?;
    Ok((rules.to_owned(), builder.cluster(&named.cluster, upstream), embedded))
}

/// The clusters to which rules have fetches go straight: the upstream, where `--cluster` doesn't say another.
fn with_origins(builder: ServerBuilder, options: &Options, policy: &Policy) -> ServerBuilder {
    let Some(upstream) = &options.upstream else { return builder };
    let named = |cluster: &str| options.clusters.iter().any(|(name, _)| name == cluster);
    let origins = policy.origins().filter(|cluster| !named(cluster));
    origins.fold(builder, |builder, cluster| builder.cluster(cluster, upstream.clone()))
}

fn told(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
