//! The program: arguments, environment, signals, log.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::{BridgeProcess, RedisServer, signal, within};

fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let Output { status, stderr, stdout } = Command::new(env!("CARGO_BIN_EXE_routecache-bridge"))
        .args(arguments)
        .env_remove("CACHE_URL")
        .env_remove("REDIS_URL")
        .env_remove("ROUTECACHE_TOKENS")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(!status.success());
    assert!(stdout.is_empty());
    String::from_utf8(stderr).unwrap()
}

/// One answer, read to the end of its connection.
pub fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_tells_where_it_listens_and_ends_well_on_either_signal() {
    for name in ["-TERM", "-INT"] {
        let mut bridge = BridgeProcess::start(&["--store", "mem://"]);
        assert!(ask(bridge.address, "GET", "/readyz", "").contains("200 OK"));
        assert!(bridge.log().contains(&format!("listening on {}", bridge.address)), "{}", bridge.log());
        let first = ask(bridge.address, "POST", "/v1/feed", r#"{"namespace":"n","hold_ms":0}"#);
        let cursor = first.split("\"cursor\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let address = bridge.address;
        let held = std::thread::spawn(move || {
            ask(address, "POST", "/v1/feed", &format!(r#"{{"namespace":"n","hold_ms":30000,"cursor":"{cursor}"}}"#))
        });
        std::thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        signal(&bridge.child, name);
        let answer = held.join().unwrap();
        assert!(answer.contains("200 OK") && answer.contains(r#""continuity":"joined","records":[]"#), "{answer}");
        assert!(bridge.child.wait().unwrap().success());
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}

#[test]
fn it_serves_strangers_only_with_a_token() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let told = refused(&["--listen", address], &[]);
        assert!(told.contains("whoever reaches it") && told.contains("--tokens-file"), "{told}");
        let told = refused(&["--admin-listen", address, "--listen", "127.0.0.1:0"], &[]);
        assert!(told.contains("whoever reaches it"), "{told}");
    }
}

#[test]
fn settings_come_from_flags_else_the_environment_else_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bridge.toml");
    std::fs::write(&file, "store = 'file://'\nstore_timeout_ms = 0\n").unwrap();
    let file = file.to_str().unwrap();
    assert!(refused(&["--config", file], &[]).contains("file://"));
    assert!(refused(&[], &[("ROUTECACHE_CONFIG", file)]).contains("file://"));
    assert!(refused(&["--config", file], &[("CACHE_URL", "cache-url://")]).contains("cache-url://"));
    assert!(refused(&["--config", file, "--store", "flag://"], &[("CACHE_URL", "cache-url://")]).contains("flag://"));
    let refused_by_flag = refused(&["--max-requests", "0"], &[("ROUTECACHE_MAX_REQUESTS", "5")]);
    assert!(refused_by_flag.contains("at least 1"), "{refused_by_flag}");
    assert!(refused(&[], &[("ROUTECACHE_MAX_REQUESTS", "none")]).contains("at least 1"));
    assert!(refused(&["--config", "/nowhere.toml"], &[]).contains("/nowhere.toml: No such file"));
}

#[test]
fn settings_can_be_checked_without_starting() {
    let check = |arguments: &[&str], tokens: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_routecache-bridge"));
        command.args(arguments).arg("--check-config").env_remove("CACHE_URL").env_remove("REDIS_URL");
        let output = command.env("ROUTECACHE_TOKENS", tokens).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (fine, told) = check(&["--listen", "0.0.0.0:1"], "hushhushhushhush filter shop:v1");
    assert!(fine && told == "the settings can be used: store mem://?bytes=268435456, 1 tokens\n", "{told}");
    let (fine, told) = check(&[], "hushhushhushhush fitler shop:v1");
    assert!(
        !fine && told.contains("ROUTECACHE_TOKENS: line 1: `fitler` is no scope") && !told.contains("hush"),
        "{told}"
    );
    for channel in ["--events-channel", "--events-stream", "--publish-channel", "--publish-stream"] {
        let (fine, told) = check(&[channel, "purges"], "");
        assert!(!fine && told.contains("the store is `mem://`"), "{told}");
    }
    let (fine, told) = check(&["--tls-cert", "/nowhere.pem"], "");
    assert!(!fine && told.contains("both `--tls-cert` and `--tls-key`"), "{told}");
}

#[test]
fn what_it_can_not_use_it_refuses_and_says_how_to_mend_it() {
    for url in ["redis://a,,b", "redis+sentinel://h", "unix://h"] {
        assert!(refused(&["--store", url], &[]).contains("is unusable; write"), "{url}");
    }
    assert!(refused(&["--store", "rediss://h", "--store-ca", "/nowhere"], &[]).contains("a certificate for Redis"));
    assert!(refused(&["--store", "rediss://h", "--store-cert", "/a"], &[]).contains("both `--store-cert`"));
    assert!(refused(&["--store", "mem://?bytes=1"], &[]).contains("mem://?bytes=256MiB"));
    assert!(refused(&["--store-timeout-ms", "0"], &[]).contains("1..=60000"));
    for flag in ["--max-connections", "--max-requests", "--max-body-bytes"] {
        assert!(refused(&[flag, "0"], &[]).contains("at least 1"), "{flag}");
    }
}

#[test]
fn the_store_comes_from_the_flag_else_cache_url_else_redis_url() {
    let told = |arguments: &[&str], variables: &[(&str, &str)]| refused(arguments, variables);
    let (cache, redis) = (("CACHE_URL", "cache-url://"), ("REDIS_URL", "redis-url://"));
    assert!(told(&["--store", "flag://"], &[cache, redis]).contains("flag://"));
    assert!(told(&[], &[cache, redis]).contains("cache-url://"));
    assert!(told(&[], &[("CACHE_URL", ""), redis]).contains("redis-url://"));
}

#[test]
fn a_password_is_never_logged() {
    for url in ["rediss://user:hush@", "redis://user:hush@h:port", "redis://user:hush@a,,b", "hush@"] {
        for told in [refused(&["--store", url], &[]), refused(&[], &[("CACHE_URL", url)])] {
            assert!(!told.contains("hush"), "{told}");
        }
    }
    let server = RedisServer::start();
    let url = format!("redis://user:hush@127.0.0.1:{}", server.port);
    let bridge = BridgeProcess::start(&["--store", &url, "--log-format", "json"]);
    assert!(ask(bridge.address, "GET", "/readyz", "").contains("503"), "the server knows no such user");
    let log = bridge.log();
    assert!(log.contains("WARN") && !log.contains("hush"), "{log}");
    let help = Command::new(env!("CARGO_BIN_EXE_routecache-bridge"))
        .arg("--help")
        .envs([("CACHE_URL", &url), ("REDIS_URL", &url)])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("--tokens-file") && !help.contains("hush"), "{help}");
}

#[test]
fn the_log_is_json_when_asked() {
    let bridge = BridgeProcess::start(&["--log-format", "json"]);
    within(Duration::from_secs(5), || bridge.log().lines().count() >= 1);
    for line in bridge.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["message"], format!("listening on {}", bridge.address));
        assert_eq!(line["level"], "INFO");
    }
}
