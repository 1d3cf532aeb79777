//! `purge`, `get`, `stat` and `warm` over TLS, with tokens and certificates of clients.

use std::path::PathBuf;
use std::process::{Command, Output};

use routecache_bridge::access::{Access, Tokens};
use routecache_bridge::{Bridge, Listener, MemStore, Role, Tls, TlsFiles};

const TOKEN: &str = "0123456789abcdef";

/// A certificate with its key, and the authority that signed it.
struct Signed {
    folder: tempfile::TempDir,
}

impl Signed {
    fn new() -> Self {
        Self::with_names(&["localhost", "127.0.0.1"])
    }

    fn with_names(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut about = rcgen::CertificateParams::new(vec![]).unwrap();
        about.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(about, rcgen::KeyPair::generate().unwrap()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let about =
            rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        let certificate = about.signed_by(&key, &authority).unwrap();
        for (name, text) in [("ca", authority.pem()), ("cert", certificate.pem()), ("key", key.serialize_pem())] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// A bridge on loopback that asks for a token; and for a certificate, if somebody signs those. Its port.
fn bridge(own: &Signed, clients: Option<&Signed>) -> (tokio::runtime::Runtime, u16) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let socket = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = socket.local_addr().unwrap().port();
    let client_ca = clients.map(|signed| signed.path("ca"));
    let tls = Tls::read(TlsFiles { certificate: own.path("cert"), key: own.path("key"), client_ca }).unwrap();
    let access = Access::new(Tokens::parse(&format!("{TOKEN} admin *")).unwrap());
    let bridge = Bridge::new(MemStore::new(1 << 20)).with_access(access);
    let listener = Listener::tcp(socket, Role::All).with_tls(Some(tls));
    runtime.spawn(bridge.serve_at(vec![listener], std::future::pending()));
    (runtime, port)
}

fn routecache(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_routecache"));
    command.args(arguments).env_remove("ROUTECACHE_BRIDGE").envs(variables.iter().copied()).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

#[test]
fn a_bridge_behind_tls_is_asked_with_a_token_of_the_environment() {
    let signed = Signed::new();
    let (_runtime, port) = bridge(&signed, None);
    let (ca, token) = (signed.text("ca"), ("ROUTECACHE_TOKEN", TOKEN));
    for url in [format!("https://localhost:{port}"), format!("https://127.0.0.1:{port}/")] {
        let asked = |words: &[&str]| routecache(&[words, &["--bridge", &url, "--ca", &ca]].concat(), &[token]);
        let purged = asked(&["purge", "-n", "n", "-t", "a"]);
        assert!(purged.status.success() && told(&purged).starts_with("purged at "), "{}", told(&purged));
        assert!(told(&asked(&["get", "-n", "n", "k"])).contains("nothing is held for this key"));
        assert!(told(&asked(&["stat"])).contains("\"purges\": "));
        let environment = [("ROUTECACHE_BRIDGE", &*url), ("ROUTECACHE_CA", &ca), token];
        assert!(routecache(&["stat"], &environment).status.success());
        let list = signed.path("list");
        std::fs::write(&list, "/healthz\n").unwrap();
        let warmed = routecache(&["warm", list.to_str().unwrap(), "--gateway", &url, "--ca", &ca], &[]);
        assert!(warmed.status.success() && told(&warmed).contains("200 /healthz"), "{}", told(&warmed));
        let refused = routecache(&["stat", "--bridge", &url, "--ca", &ca], &[]);
        assert!(!refused.status.success() && told(&refused).contains("refuses (401)"), "{}", told(&refused));
    }
}

#[test]
fn whoever_cannot_prove_its_name_is_not_believed() {
    let (signed, stranger) = (Signed::new(), Signed::new());
    let (_runtime, port) = bridge(&signed, None);
    let asked = |scheme: &str, port: u16, ca: &str| {
        let url = format!("{scheme}://127.0.0.1:{port}");
        let output = routecache(&["stat", "--bridge", &url, "--ca", ca], &[("ROUTECACHE_TOKEN", TOKEN)]);
        assert!(!output.status.success());
        told(&output)
    };
    let ca = signed.text("ca");
    assert!(asked("https", port, &stranger.text("ca")).contains("invalid peer certificate"));
    assert!(asked("http", port, &ca).contains("no answer"));
    assert!(asked("https", port, &signed.text("key")).contains("no certificate in PEM"));
    assert!(asked("https", port, "/nowhere").contains("/nowhere: "));
    let elsewhere = Signed::with_names(&["bridge.example"]);
    let (_runtime, port) = bridge(&elsewhere, None);
    assert!(asked("https", port, &elsewhere.text("ca")).contains("certificate not valid for name"));
}

#[test]
fn a_certificate_is_shown_to_whoever_asks_for_one() {
    let (signed, clients) = (Signed::new(), Signed::new());
    let (_runtime, port) = bridge(&signed, Some(&clients));
    let url = format!("https://localhost:{port}");
    let (ca, cert, key) = (signed.text("ca"), clients.text("cert"), clients.text("key"));
    let asked = |more: &[&str]| {
        routecache(&[&["stat", "--bridge", &url, "--ca", &ca][..], more].concat(), &[("ROUTECACHE_TOKEN", TOKEN)])
    };
    let known = asked(&["--cert", &cert, "--cert-key", &key]);
    assert!(known.status.success(), "{}", told(&known));
    let stranger = asked(&["--cert", &signed.text("cert"), "--cert-key", &signed.text("key")]);
    assert!(!stranger.status.success() && told(&stranger).contains("no answer"), "{}", told(&stranger));
    assert!(!asked(&[]).status.success());
    let half = asked(&["--cert", &cert]);
    assert!(!half.status.success() && told(&half).contains("--cert-key"), "{}", told(&half));
}
