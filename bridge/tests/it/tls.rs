//! TLS on the bridge's side: what curl sees.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Authority, BridgeProcess, signal, within};

/// What the certificates of a test are made of.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }
}

fn curl(bridge: &BridgeProcess, ca: &Path, more: &[&str]) -> Output {
    let url = format!("https://localhost:{}/readyz", bridge.address.port());
    let resolve = format!("localhost:{}:127.0.0.1", bridge.address.port());
    let mut curl = Command::new("curl");
    curl.args(["-s", "-m", "5", "-w", "%{http_version}", "--resolve", &resolve, "--cacert"]).arg(ca);
    curl.args(more).arg(url).output().unwrap()
}

fn says(output: &Output, text: &str) -> bool {
    String::from_utf8_lossy(&output.stdout) == text
}

#[test]
fn it_speaks_http_1_and_2_over_tls_and_nothing_in_the_clear() {
    let (authority, files) = (Authority::new(), Files::new());
    let (certificate, key) = authority.sign(&["localhost"]);
    let ca = PathBuf::from(files.write("ca.pem", &authority.pem()));
    let (cert_path, key_path) = (files.write("cert.pem", &certificate), files.write("key.pem", &key));
    let bridge = BridgeProcess::start(&["--tls-cert", &cert_path, "--tls-key", &key_path]);
    assert!(says(&curl(&bridge, &ca, &["--http2"]), "ready\n2"));
    assert!(says(&curl(&bridge, &ca, &["--http1.1"]), "ready\n1.1"));
    let stranger = PathBuf::from(files.write("other.pem", &Authority::new().pem()));
    assert!(!curl(&bridge, &stranger, &[]).status.success());
    let clear = Command::new("curl").args(["-s", "-m", "5", &format!("http://{}/readyz", bridge.address)]).output();
    assert!(!clear.unwrap().status.success());
    // A certificate that runs out is replaced without a restart; one that can't be used isn't.
    let renewed = Authority::new();
    let (certificate, key) = renewed.sign(&["localhost"]);
    let renewed = PathBuf::from(files.write("renewed.pem", &renewed.pem()));
    files.write("cert.pem", "garbage");
    signal(&bridge.child, "-HUP");
    within(Duration::from_secs(5), || bridge.log().contains("reading anew failed"));
    assert!(curl(&bridge, &ca, &[]).status.success());
    files.write("cert.pem", &certificate);
    files.write("key.pem", &key);
    signal(&bridge.child, "-HUP");
    within(Duration::from_secs(5), || curl(&bridge, &renewed, &[]).status.success());
}

#[test]
fn who_must_show_a_certificate_is_refused_without_and_may_come_from_anywhere_with_one() {
    let (authority, files) = (Authority::new(), Files::new());
    let (certificate, key) = authority.sign(&["localhost"]);
    let ca_path = files.write("ca.pem", &authority.pem());
    let ca = PathBuf::from(&ca_path);
    let (cert_path, key_path) = (files.write("cert.pem", &certificate), files.write("key.pem", &key));
    let arguments = ["--tls-cert", &cert_path, "--tls-key", &key_path, "--tls-client-ca", &ca_path];
    let bridge = BridgeProcess::start(&arguments);
    assert!(!curl(&bridge, &ca, &[]).status.success());
    let (mine, my_key) = authority.sign(&["gateway"]);
    let (mine, my_key) = (files.write("mine.pem", &mine), files.write("mine.key", &my_key));
    assert!(says(&curl(&bridge, &ca, &["--cert", &mine, "--key", &my_key, "--http1.1"]), "ready\n1.1"));
    let (theirs, their_key) = Authority::new().sign(&["gateway"]);
    let (theirs, their_key) = (files.write("theirs.pem", &theirs), files.write("theirs.key", &their_key));
    assert!(!curl(&bridge, &ca, &["--cert", &theirs, "--key", &their_key]).status.success());
    // Beyond this machine a token isn't needed then.
    let open = [&arguments[..], &["--check-config", "--listen", "0.0.0.0:0"]].concat();
    assert!(Command::new(env!("CARGO_BIN_EXE_routecache-bridge")).args(open).output().unwrap().status.success());
}
