//! What docs/serve.md says is true.

use std::path::Path;
use std::process::Command;

use routecache_harness::{Origin, Request, Result, gateway_cli};

use super::stage::Gateway;

fn guide() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("docs/serve.md");
    std::fs::read_to_string(path).expect("the guide")
}

/// The fenced block that begins so.
fn block<'guide>(guide: &'guide str, begins: &str) -> &'guide str {
    let rest = guide.split_once(&format!("```{begins}\n")).expect("such a block").1;
    rest.split_once("```").expect("its end").0
}

#[tokio::test]
async fn its_rules_do_what_it_shows_and_the_log_has_the_fields_that_it_names() -> Result<()> {
    let (guide, origin) = (guide(), Origin::start().await?);
    let answer = routecache_harness::Answer::json(http::StatusCode::OK, &serde_json::json!({ "item": 7 }));
    origin.script("GET", "/items/7", answer);
    let mut gateway = Gateway::open(block(&guide, "yaml shop.yaml"), &origin, &[]).await?;
    let without_ttl =
        |field: &str| field.split("; ").filter(|part| !part.starts_with("ttl=")).collect::<Vec<_>>().join("; ");
    for line in block(&guide, "text").lines() {
        let shown = line.strip_prefix("cache-status: ").expect("a field");
        let answer = gateway.send(0, Request::get("/items/7")).await?;
        assert_eq!(without_ttl(&answer.header("cache-status")), without_ttl(shown));
    }
    let log = gateway.serve.log();
    let line = log.lines().find(|line| line.contains("/items/7")).expect("a line for the request");
    let line: serde_json::Value = serde_json::from_str(line.trim()).expect("JSON");
    for field in line.as_object().expect("an object").keys() {
        assert!(guide.contains(&format!("`{field}`")), "the guide lacks {field}");
    }
    Ok(())
}

#[test]
fn every_option_that_it_names_is_there_with_its_default() {
    let output = Command::new(gateway_cli().expect("the CLI")).args(["serve", "--help"]).output().expect("it runs");
    let help = String::from_utf8(output.stdout).expect("text");
    let guide = guide();
    let prose: String = guide.split("```").step_by(2).collect();
    let prose = prose.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut count = 0;
    for option in prose.split("`--").skip(1).filter_map(|rest| rest.split(['`', ' ']).next()) {
        assert!(help.contains(&format!("--{option}")), "there is no --{option}");
        count += 1;
    }
    assert!(count > 10, "the test sees the options");
    for (option, default) in [("timeout", "15"), ("idle-timeout", "300"), ("max-connections", "1024"), ("drain", "10")]
    {
        let described = help.split_once(&format!("--{option} <")).expect("the option").1;
        let (_, rest) = described.split_once("[default: ").expect("a default");
        assert_eq!(rest.split(']').next(), Some(default), "--{option}");
        assert!(prose.contains(&format!("`--{option}` ({default}")), "the guide says so of --{option}");
    }
}
