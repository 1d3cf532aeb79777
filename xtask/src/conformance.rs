//! `conformance`: the public suite of HTTP cache tests against Envoy with the shipped filter.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::step::{self, Failure};
use crate::{build, tools};

/// The suite, as a package on npm. `ROUTECACHE_CACHE_TESTS` names the folder of another version.
const SUITE: &str = "http-cache-tests@0.4.5";

/// What a user writes to have a plain HTTP cache.
const RULES: &str = "gateway-config/examples/http-cache.yaml";

/// How long a server may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Runs the whole suite and prints its score, or one test and what went over the wire.
///
/// # Errors
///
/// When something is missing, doesn't build or doesn't start. Tests that fail are no error: docs/conformance.md explains
/// each.
pub fn run(test: Option<&str>) -> Result<(), Failure> {
    let envoy = tools::envoy()?;
    let suite = suite()?;
    let filter = build::filter()?;
    step::run("the CLI, to render", &mut step::cargo(["build", "--package", "routecache"]))?;

    let [gateway, origin, admin] = [free_address()?, free_address()?, free_address()?];
    let scripts = step::workspace().join("tests/conformance");
    let mut command = node(&scripts.join("origin.mjs"));
    command.arg(&suite).arg(origin.port().to_string());
    let _origin = Server::start("the suite's origin", command, origin)?;

    let configuration = step::target().join("conformance/envoy.yaml");
    let mut render = Command::new(step::target().join("debug/routecache"));
    render.arg("render").arg(step::workspace().join(RULES)).args(["--target", "envoy", "--no-access-log"]);
    render.args(["--listen", &gateway.to_string(), "--upstream", &origin.to_string(), "--admin", &admin.to_string()]);
    render.arg("--wasm").arg(&filter).arg("--output").arg(&configuration);
    step::run("configuration", &mut render)?;

    let mut command = Command::new(envoy);
    command.arg("--config-path").arg(&configuration).args(["--disable-hot-restart", "--concurrency", "2"]);
    command.args(["--log-level", "error"]);
    let _gateway = Server::start("envoy", command, gateway)?;

    let mut run = node(&scripts.join("run.mjs"));
    run.arg(&suite).arg(format!("http://{gateway}")).args(test);
    step::run("conformance", &mut run)
}

/// The suite's folder; installed below `target` when it isn't there.
fn suite() -> Result<PathBuf, Failure> {
    if let Some(named) = env::var_os("ROUTECACHE_CACHE_TESTS").map(PathBuf::from) {
        return Ok(named);
    }
    if !step::succeeds(Command::new("node").arg("--version")) {
        return Err(Failure::new(
            "the suite runs in Node.js, and there is no `node`",
            "install Node.js 18 or newer with npm (on Debian: apt-get install nodejs npm), then run this command again",
        ));
    }
    let home = step::target().join("conformance");
    let suite = home.join("node_modules/http-cache-tests");
    let installed = fs::read_to_string(suite.join("package.json")).unwrap_or_default();
    if installed.contains(&format!("\"version\": \"{}\"", SUITE.rsplit('@').next().unwrap_or_default())) {
        return Ok(suite);
    }
    fs::create_dir_all(&home)
        .map_err(|cause| Failure::new(format!("can't make {}: {cause}", home.display()), "is the disk full?"))?;
    let mut npm = Command::new("npm");
    npm.current_dir(&home).args(["install", "--no-audit", "--no-fund", "--ignore-scripts", SUITE]);
    step::run("the suite (npm, once)", &mut npm).map(|()| suite)
}

fn node(script: &Path) -> Command {
    let mut node = Command::new("node");
    node.arg("--no-warnings").arg(script);
    node
}

/// An address on loopback where nothing listens now.
fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map_err(|cause| Failure::new(format!("no free port on loopback: {cause}"), "end other servers"))
}

/// A program that listens; dropping it ends it.
struct Server(Child);

impl Server {
    fn start(name: &str, mut command: Command, address: SocketAddr) -> Result<Self, Failure> {
        command.stdin(Stdio::null());
        let mut server = Self(step::start(name, &mut command)?);
        let start = Instant::now();
        while start.elapsed() < READY_WITHIN && server.0.try_wait().is_ok_and(|status| status.is_none()) {
            if TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            sleep(Duration::from_millis(20));
        }
        Err(Failure::new(format!("{name} doesn't listen on {address}"), "the lines above may say why"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
