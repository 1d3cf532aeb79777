//! What Envoy says to rules: to right ones nothing, to wrong ones what, where, and how to mend it.

use std::process::Command;
use std::time::Duration;

use routecache_config::render::{self, EnvoyOptions};
use routecache_harness::{Bridge, Envoy, EnvoyConfig, Error, Origin, Redis, Request, Result, filter, gateway_cli};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::stage::{Gateway, options, rules};

#[tokio::test]
async fn envoy_accepts_the_rules() -> Result<()> {
    Envoy::validate(&with_rules(&rules())?).await
}

#[tokio::test]
async fn envoy_refuses_wrong_rules_and_shows_what_where_and_how_to_mend_it() -> Result<()> {
    for (pointer, value, told) in [
        ("/routes/0/cache/ttl", json!("5 min"), ["user", "ttl", "5 min", "5m"]),
        ("/routes/0/cache/key", json!("user:{id}"), ["user", "key", "{id}", "user_id"]),
        ("/routes/0/cache/origin", json!({ "cluster": "o" }), ["user", "origin", "rewrites", "rewrites: none"]),
        ("/routes/0/mode", json!("shadow"), ["user", "mode", "not supported yet", ""]),
        ("/routes/2/purge/tagz", json!([]), ["user-write", "tagz", "tags", ""]),
    ] {
        let mut wrong = rules();
        *at(&mut wrong, pointer) = value;
        let Err(Error::Ended { log, .. }) = Envoy::validate(&with_rules(&wrong)?).await else {
            panic!("envoy --mode validate accepts {pointer}");
        };
        for word in told {
            assert!(log.contains(word), "{pointer}: `{word}` isn't in:\n{log}");
        }
        let wasm = filter()?.display().to_string();
        let started = Envoy::start(EnvoyConfig::new(|listen, admin| {
            render::envoy(&wrong, &EnvoyOptions { listen, admin: Some(admin), wasm, ..EnvoyOptions::default() })
        })?);
        let Err(Error::Ended { log, .. }) = started.await else { panic!("envoy starts with {pointer}") };
        for word in told {
            assert!(log.contains(word), "{pointer}: `{word}` isn't in:\n{log}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn envoy_accepts_what_the_cli_renders_from_every_example() -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../gateway-config/examples");
    let mut examples = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // `*.test.yaml` are tests of rules, for `routecache test`.
        let is_test = path.to_string_lossy().ends_with(".test.yaml");
        if is_test || path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let mut render = Command::new(gateway_cli()?);
        render.arg("render").arg(&path).args(["--target", "envoy", "--wasm"]).arg(filter()?);
        let rendered = render.output().unwrap();
        assert!(rendered.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&rendered.stderr));
        let yaml = String::from_utf8_lossy(&rendered.stdout);
        assert!(yaml.contains("envoy.extensions.filters.http.wasm.v3.Wasm"), "{}:\n{yaml}", path.display());
        Envoy::validate(&yaml).await?;
        examples += 1;
    }
    assert!(examples > 0, "no example in {folder}");
    Ok(())
}

/// Nothing is bound or connected to: this is for `--mode validate`.
fn with_rules(rules: &Value) -> Result<String> {
    let wasm = filter()?.display().to_string();
    Ok(render::envoy(rules, &EnvoyOptions { wasm, ..EnvoyOptions::default() }))
}

/// The place that a JSON pointer names, made where it isn't there.
fn at<'a>(document: &'a mut Value, pointer: &str) -> &'a mut Value {
    pointer.split('/').skip(1).fold(document, |value, step| match step.parse::<usize>() {
        Ok(index) => &mut value[index],
        Err(_) => &mut value[step],
    })
}

/// What `bridge.token_env` is for: a bridge that is open to the network, two gateways with the token, and one with a wrong one.
#[tokio::test]
async fn a_bridge_with_tokens_serves_the_gateways_that_have_one() -> Result<()> {
    let redis = Redis::start().await?;
    let bridge =
        Bridge::start_with(redis.url(), &[("ROUTECACHE_TOKENS", "right-token-0123456789 filter shop:v1")]).await?;
    let origin = Origin::start().await?;
    let mut rules = rules();
    rules["bridge"]["token_env"] = json!("GATEWAY_TOKEN");
    let open = async |token: &str| {
        let environment = vec![("GATEWAY_TOKEN".to_owned(), token.to_owned())];
        Gateway::open(&rules, EnvoyOptions { bridge: Some(bridge.address().into()), environment, ..options(&origin)? })
            .await
    };
    let (mut one, mut two) = (open("right-token-0123456789").await?, open("right-token-0123456789").await?);
    for gateway in [&one, &two] {
        gateway.settled(&Request::get("/users/999")).await?;
    }
    one.get(0, "/users/1").await?;
    sleep(Duration::from_millis(300)).await; // the bridge is written behind the client's back
    assert_eq!(two.get(0, "/users/1").await?.cache_status().detail.as_deref(), Some("group"));
    let mut stranger = open("wrong-token-0123456789").await?;
    let answer = stranger.get(0, "/users/1").await?;
    assert_eq!((answer.status.as_u16(), answer.cache_status().detail.as_deref()), (200, Some("feed-lost")));
    Ok(())
}
