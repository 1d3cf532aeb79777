//! The examples of bridge/README.md are run as they stand, against a bridge in memory and one on Redis.

use std::process::Command;

use crate::support::{BridgeProcess, RedisServer};

/// Console blocks: lines after `$ ` are typed, the others are what comes back.
fn examples() -> Vec<(String, String)> {
    let text = include_str!("../../README.md");
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let example = |block: &str| {
        let (mut typed, mut shown) = (String::new(), String::new());
        for line in block.lines() {
            match line.strip_prefix("$ ").or_else(|| line.strip_prefix("> ")) {
                Some(command) => typed += &format!("{command}\n"),
                None => shown += &format!("{line}\n"),
            }
        }
        (typed, shown)
    };
    blocks.map(example).collect()
}

/// `…` stands for anything within a line.
fn matches(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = if part.is_empty() { "" } else { after };
    }
    rest.is_empty()
}

fn run_all(store: &str) {
    let bridge = BridgeProcess::start(&["--store", store]);
    let examples = examples();
    assert!(examples.len() >= 5);
    let folder = tempfile::tempdir().unwrap();
    for (typed, shown) in examples {
        let typed = typed.replace("127.0.0.1:8390", &bridge.address.to_string());
        let output = Command::new("sh").args(["-euc", &typed]).current_dir(&folder).output().unwrap();
        let came = String::from_utf8_lossy(&output.stdout);
        let pairs: Vec<_> = shown.lines().zip(came.lines()).collect();
        assert!(
            shown.lines().count() == came.lines().count() && pairs.iter().all(|(shown, line)| matches(shown, line)),
            "typed:\n{typed}\nshould show:\n{shown}\nshowed:\n{came}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn its_examples_are_true_in_memory() {
    run_all("mem://");
}

#[test]
fn its_examples_are_true_on_redis() {
    run_all(&RedisServer::start().url());
}
