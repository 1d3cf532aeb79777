//! `purge`, `get`, `stat` and `warm`, against a bridge in this process.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

use routecache_bridge::{Bridge, MemStore};

/// A bridge on loopback until the test ends.
struct Running {
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Running {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(Bridge::new(MemStore::new(1 << 20)).serve(listener, std::future::pending()));
        Self { url, _runtime: runtime }
    }

    /// Stores bytes that no filter wrote.
    fn fill(&self, key: &str, tag: &str) {
        let asked = format!(r#"{{"namespace":"n","key":"{key}","tags":["{tag}"]}}"#);
        let missed = self.post("/v1/lookup", &asked);
        let ticket = missed.split(r#""ticket":"#).nth(1).unwrap().trim_end_matches('}');
        let head = format!(r#"{{"namespace":"n","key":"{key}","tags":["{tag}"],"ticket":{ticket}}},"keep_ms":60000}}"#);
        let head = head.replace("}},", "},");
        assert!(self.post("/v1/store", &format!("{head}\nbytes")).contains("stored"), "{head}");
    }

    fn post(&self, path: &str, body: &str) -> String {
        let mut stream = std::net::TcpStream::connect(self.url.trim_start_matches("http://")).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

fn routecache(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_routecache")).args(arguments).env_remove("ROUTECACHE_BRIDGE").output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn purge_counts_then_purges_and_get_shows_it() {
    let bridge = Running::start();
    bridge.fill("k", "dish:7");
    let purge = |more: &[&str]| said(&routecache(&[&["purge", "--bridge", &bridge.url, "-n", "n"], more].concat()));
    let get = || routecache(&["get", "--bridge", &bridge.url, "-n", "n", "k"]);
    assert_eq!(purge(&["--tag-pattern", "dish:*", "--dry-run"]), "would purge 1 of all 1 entries\n");
    let shown = said(&get());
    assert!(shown.contains("valid      yes") && shown.contains("tags       dish:7"), "{shown}");
    assert!(purge(&["-t", "dish:9", "--soft"]).starts_with("purged at "));
    assert!(said(&get()).contains("valid      yes"));
    assert!(purge(&["-t", "dish:7", "--soft"]).starts_with("purged at "));
    assert!(said(&get()).contains("valid      no"));
    assert!(purge(&["-t", "dish:7"]).starts_with("purged at "));
    assert!(said(&get()).contains("valid      no"));
    let none = routecache(&["get", "--bridge", &bridge.url, "-n", "n", "other"]);
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("nothing is held"));
    let nothing = routecache(&["purge", "--bridge", &bridge.url, "-n", "n"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("names nothing"));
    assert!(said(&routecache(&["stat", "--bridge", &bridge.url])).contains("\"purges\": 3"));
}

#[test]
fn who_is_no_bridge_or_does_not_answer_is_told_so() {
    let output = routecache(&["stat", "--bridge", "http://127.0.0.1:1"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no answer"));
}

#[test]
fn warm_asks_the_gateway_for_each_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        for _ in 0..6 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..count]).into_owned();
            let (status, told) = match request.split(' ').nth(1) {
                Some("/gone") => ("404 Not Found", "fwd=uri-miss; detail=status"),
                Some("/mine") => ("200 OK", "fwd=bypass; detail=cookie"),
                Some("/known") => ("200 OK", "hit; ttl=3; detail=worker"),
                _ => ("200 OK", "fwd=uri-miss; stored"),
            };
            write!(stream, "HTTP/1.1 {status}\r\ncache-status: routecache; {told}\r\ncontent-length: 0\r\n\r\n")
                .unwrap();
            heard.push(request);
        }
        heard.sort();
        heard
    });
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    std::fs::write(
        &list,
        "# mornings\n/menu\n\nhttps://shop.example/cart?x=1\n/gone\n/mine\n/known\n\
         /menu\n  accept-language: de\n  # only there\n\tcookie: a=secret\n/menu\n  Host: other\n",
    )
    .unwrap();
    let output = routecache(&["warm", list.to_str().unwrap(), "--gateway", &gateway, "--at-once", "1"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("200 /menu  routecache; fwd=uri-miss; stored")
            && told.contains("200 /menu accept-language: de cookie: …  routecache; fwd=uri-miss; stored")
            && told.ends_with("asked for 7: 3 stored, 1 hit, 1 not stored, 2 failed\n"),
        "{told}"
    );
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(refused.contains("/menu Host: other: can't be asked for with `Host: other`"), "{refused}");
    let heard = heard.join().unwrap();
    let with = |text: &str| heard.iter().filter(|heard| heard.contains(text)).count();
    assert_eq!((with("accept-language: de"), with("cookie: a=secret"), with("Host: other")), (1, 1, 0), "{heard:?}");
    assert!(heard[0].starts_with("GET /cart?x=1 HTTP/1.1") && heard[0].contains("host: shop.example"), "{heard:?}");
    assert!(heard[0].contains("x-forwarded-proto: https") && !heard[4].contains("x-forwarded-proto"), "{heard:?}");
}
