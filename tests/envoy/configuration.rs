//! What Envoy says to rules: to right ones nothing, to wrong ones what, where, and how to mend it.

use std::process::Command;

use routecache_config::render::{self, EnvoyOptions};
use routecache_harness::{Envoy, EnvoyConfig, Error, Result, filter, gateway_cli};
use serde_json::{Value, json};

use super::stage::rules;

#[tokio::test]
async fn envoy_accepts_the_rules() -> Result<()> {
    Envoy::validate(&with_rules(&rules())?).await
}

#[tokio::test]
async fn envoy_refuses_wrong_rules_and_shows_what_where_and_how_to_mend_it() -> Result<()> {
    for (pointer, value, told) in [
        ("/routes/0/cache/ttl", json!("5 min"), ["user", "ttl", "5 min", "5m"]),
        ("/routes/0/cache/key", json!("user:{id}"), ["user", "key", "{id}", "user_id"]),
        ("/routes/2/purge/soft", json!(true), ["user-write", "soft", "not supported yet", ""]),
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
