//! The examples of bridge/README.md are run as they stand, against a bridge in memory and one on Redis.

use std::process::Command;

use redis::Commands;

use crate::support::{BridgeProcess, RedisServer};

const README: &str = include_str!("../../README.md");

/// Console blocks: lines after `$ ` are typed, the others are what comes back.
fn examples() -> Vec<(String, String)> {
    let blocks = README.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
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

/// And what they leave there is in its table, and goes by itself.
#[test]
fn its_examples_are_true_on_redis() {
    let server = RedisServer::start();
    run_all(&server.url());
    let mut connection = server.connect();
    let keys: Vec<String> = connection.keys("*").unwrap();
    assert!(keys.len() > 5, "{keys:?}");
    for key in keys {
        // `<namespace>` and its like stand for anything.
        let names = |row: &str| -> Option<String> {
            let name = row.strip_prefix("| `")?.split('`').next().filter(|name| name.starts_with("routecache:"))?;
            let parts = name.split('<').enumerate();
            Some(
                parts
                    .map(|(at, part)| if at == 0 { part } else { part.split_once('>').unwrap().1 })
                    .collect::<Vec<_>>()
                    .join("…"),
            )
        };
        assert!(README.lines().filter_map(names).any(|name| matches(&name, &key)), "{key} isn't in the table");
        let left_ms: i64 = connection.pttl(&key).unwrap();
        assert!(left_ms > 0, "{key} stays for ever");
    }
}

#[test]
fn its_table_has_every_code_of_a_refusal() {
    let source = include_str!("../../src/error.rs");
    let codes = source.split_once("fn code(").and_then(|(_, rest)| rest.split_once("\n    }")).expect("the codes").0;
    let codes: Vec<&str> = codes.split('"').skip(1).step_by(2).collect();
    assert!(codes.len() > 10, "{codes:?}");
    let cells: Vec<&str> = README.lines().filter(|line| line.starts_with("| `")).collect();
    for code in codes {
        assert!(cells.iter().any(|row| row.contains(&format!("`{code}`"))), "the table lacks `{code}`");
    }
}
