//! `routecache purge`.

use clap::Args;
use serde_json::{Value, json};

use crate::asking::Bridge;
use crate::failure::Failure;

/// Purges by whatever is known, on every gateway of the group
///
/// Everything that is named is purged in one step. Once this has answered, nothing that it names and that began before is
/// served by the group's store; the other gateways follow within the consistency window.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    bridge: Bridge,

    /// Prefix and version, such as `shop:v1`
    #[arg(short, long)]
    namespace: String,

    /// A tag
    #[arg(short, long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// A cache key, and whatever shares its URL
    #[arg(short, long = "key", value_name = "KEY")]
    keys: Vec<String>,

    /// A URL, `https://host/path?query`
    #[arg(short, long = "url", value_name = "URL")]
    urls: Vec<String>,

    /// All of a host
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,

    /// All that a rule stored
    #[arg(long = "rule", value_name = "NAME")]
    rules: Vec<String>,

    /// Keys that look like this; `*` is any characters
    #[arg(long = "key-pattern", value_name = "GLOB")]
    key_patterns: Vec<String>,

    /// Whatever has a tag that looks like this
    #[arg(long = "tag-pattern", value_name = "GLOB")]
    tag_patterns: Vec<String>,

    /// All there is in the namespace
    #[arg(long)]
    everything: bool,

    /// Make it stale, to be asked about, instead of void
    #[arg(long, conflicts_with_all = ["key_patterns", "tag_patterns"])]
    soft: bool,

    /// Only count what is held and would be purged
    #[arg(long)]
    dry_run: bool,
}

/// Asks the bridge, and says what came of it.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let patterns =
        |name: &str, globs: &[String]| -> Vec<Value> { globs.iter().map(|glob| json!({ name: glob })).collect() };
    let patterns = [patterns("key", &arguments.key_patterns), patterns("tag", &arguments.tag_patterns)].concat();
    let mut order = json!({
        "namespace": arguments.namespace,
        "tags": arguments.tags,
        "keys": arguments.keys,
        "urls": arguments.urls,
        "hosts": arguments.hosts,
        "rules": arguments.rules,
        "patterns": patterns,
        "everything": arguments.everything,
        "dry_run": arguments.dry_run,
    });
    if arguments.soft {
        order["soft"] = json!(true); // a bridge of an older version refuses it
    }
    let (said, _) = arguments.bridge.ask("POST", bridge_api::PURGE, &order.to_string())?;
    if arguments.dry_run {
        let all = if said["complete"] == true { "all" } else { "the first" };
        println!("would purge {} of {all} {} entries", said["matching"], said["scanned"]);
    } else {
        println!("purged at {}", said["position"].as_str().unwrap_or("?"));
    }
    Ok(())
}
