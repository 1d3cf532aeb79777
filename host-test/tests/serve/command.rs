//! The program `proxy-wasm-host-test`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use crate::probe::{on, probe};
use crate::stage::{Origin, Peer};

/// A module in a file of its own.
fn file(name: &str, module: &[u8]) -> std::path::PathBuf {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, module).unwrap();
    path
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_proxy-wasm-host-test"))
}

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap())
}

/// A program that is killed if the test ends before it does.
struct Running(Child, BufReader<ChildStdout>);

impl Running {
    /// Starts it, and waits until it listens.
    fn start(command: &mut Command) -> (Self, SocketAddr) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").map(str::parse);
        (Self(child, out), address.unwrap_or_else(|| panic!("{line}")).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_listens_serves_writes_a_log_and_drains() {
    let filter = file("passing.wat", &probe(&on("request_headers", "(call $say \"hello\") (i32.const 0)")));
    let origin = Origin::echo();
    let (mut running, address) = Running::start(program().arg(filter).args([
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "2",
        "--upstream",
        &origin.url().to_string(),
    ]));
    let mut client = Peer::connect(address);
    assert_eq!(client.get("/menu").body, "/menu");
    let mut line = String::new();
    running.1.read_line(&mut line).unwrap();
    let access: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((access["path"].as_str(), access["status"].as_u64()), (Some("/menu"), Some(200)), "{line}");
    assert_eq!(access["upstream"].as_str(), Some(origin.url().to_string().as_str()));
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    let rest: Vec<String> = running.1.by_ref().lines().map(Result::unwrap).collect();
    assert_eq!(rest, ["stopping: requests under way may end", "stopped"]);
    assert!(client.is_closed());
}

#[test]
fn check_load_tells_what_a_filter_wants_and_whether_it_loads() {
    let probe = probe(&on("configure", "(call $say \"no configuration\") (local.get $size)"));
    let coffee = "(module (import \"env\" \"proxy_make_coffee\" (func $coffee (result i32)))";
    let filter = file("strange.wat", String::from_utf8(probe).unwrap().replacen("(module", coffee, 1).as_bytes());
    let output = program().arg(&filter).arg("--check-load").output().unwrap();
    let (code, text) = said(&output);
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "it loads",
        "ABI: 0.2.1",
        "  env.proxy_http_call",
        "not offered: 1 (they answer Unimplemented)",
        "  env.proxy_make_coffee",
        "configuration: it refuses an empty configuration",
        "  Info: no configuration",
    ] {
        assert!(text.lines().any(|there| there.ends_with(line)), "`{line}` in\n{text}");
    }
    let config = file("strange.json", b"{}");
    let (code, text) = said(&program().arg(filter).arg("--config").arg(config).arg("--check-load").output().unwrap());
    assert!(code == Some(0) && text.contains("it accepts its configuration of 2 bytes"), "{text}");
}

#[test]
fn what_cannot_be_loaded_or_served_ends_with_2_and_says_why() {
    let trapping = probe("(func (export \"_start\") (unreachable))");
    for (name, module, word) in [
        ("text.wat", b"hello".to_vec(), "compile"),
        ("no-abi.wat", b"(module)".to_vec(), "proxy_abi_version"),
        ("trapping.wat", trapping, "unreachable"),
    ] {
        let (code, text) = said(&program().arg(file(name, &module)).arg("--check-load").output().unwrap());
        assert!(code == Some(2) && text.contains(word), "{code:?} {text}");
    }
    let refusing = file("refusing.wat", &probe(&on("configure", "(call $say \"not like this\") (i32.const 0)")));
    let (code, text) = said(&program().arg(refusing).args(["--listen", "127.0.0.1:0"]).output().unwrap());
    assert!(code == Some(2) && text.contains("not like this"), "{code:?} {text}");
}
