//! `routecache get`.

use std::io::Write as _;

use clap::Args;
use routecache_core::entry::Entry;
use routecache_core::seal::unsealed;
use serde_json::json;

use crate::asking::Bridge;
use crate::failure::Failure;

/// Shows what the group's store holds for a cache key
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    bridge: Bridge,

    /// Prefix and version, such as `shop:v1`
    #[arg(short, long)]
    namespace: String,

    /// The whole cache key, as `routecache explain` and the access log show it
    key: String,

    /// Write the response's body to standard output, and nothing else
    #[arg(long)]
    body: bool,
}

/// Asks the bridge, and shows the entry. Fails if there is none.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let asked = json!({ "namespace": arguments.namespace, "key": arguments.key, "body": true });
    let (shown, payload) = arguments.bridge.ask("POST", "/v1/entry", &asked.to_string())?;
    if shown["outcome"] != "held" {
        return Err(Failure::Refused("nothing is held for this key".to_owned()));
    }
    // What another version of the filter stored may not be readable here.
    let (entry, sealed) = unsealed(&payload);
    let entry = Entry::decode(entry.to_vec()).ok();
    if arguments.body {
        let Some(entry) = entry else {
            return Err(Failure::Refused("the stored bytes are of another version of the filter".to_owned()));
        };
        let written = std::io::stdout().write_all(entry.body());
        return written.map_err(|error| Failure::Unwritten("standard output".into(), error));
    }
    let seconds = |name: &str| shown[name].as_u64().unwrap_or_default() / 1000;
    let tags: Vec<&str> = shown["tags"].as_array().into_iter().flatten().filter_map(|tag| tag.as_str()).collect();
    println!("valid      {}", if shown["valid"] == true { "yes" } else { "no: purged, or of a lost history" });
    println!("stored     {} s ago, kept for {} s more", seconds("resident_ms"), seconds("remaining_ms"));
    println!("bytes      {}{}", shown["bytes"], if sealed { ", sealed" } else { "" });
    println!("tags       {}", tags.join(" "));
    if let Some(entry) = entry {
        println!("status     {}", entry.status());
        for (name, value) in entry.header().iter() {
            println!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        }
    }
    Ok(())
}
