//! `openapi`: what the bridge does, held against the document that it serves.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::step::{self, Failure};
use crate::tools;

/// The tool, as a package on PyPI. `ROUTECACHE_SCHEMATHESIS` names another.
const TOOL: &str = "schemathesis==4.32.5";

/// How long the bridge may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Starts a bridge in memory, and lets schemathesis ask it for whatever its document allows and forbids.
///
/// # Errors
///
/// When the tool can't be had, the bridge doesn't start, or an answer isn't as the document says.
pub fn run() -> Result<(), Failure> {
    let tool = schemathesis()?;
    step::run("the bridge", &mut step::cargo(["build", "--package", "routecache-bridge"]))?;
    let port_file = step::target().join("schemathesis/port");
    let _ = fs::remove_file(&port_file); // of the last run, if there was one
    // Another's tool left no folder here; if it can't be made, the bridge says so.
    let _ = fs::create_dir_all(step::target().join("schemathesis"));
    let mut command = Command::new(step::target().join("debug/routecache-bridge"));
    command.args(["--store", "mem://", "--listen", "127.0.0.1:0", "--log", "error", "--port-file"]).arg(&port_file);
    let _bridge = Running(step::start("the bridge", &mut command)?);
    let began = Instant::now();
    let port = loop {
        match fs::read_to_string(&port_file).ok().and_then(|text| text.strip_suffix('\n').map(str::to_owned)) {
            Some(port) => break port,
            None if began.elapsed() > READY_WITHIN => {
                return Err(Failure::new("the bridge doesn't listen", "its log above says why"));
            }
            None => sleep(Duration::from_millis(20)),
        }
    };
    let mut run = Command::new(tool);
    run.current_dir(step::workspace().join("bridge/tests/schemathesis")).env("PYTHONDONTWRITEBYTECODE", "1");
    run.args(["--config-file", "schemathesis.toml", "run", &format!("http://127.0.0.1:{port}/v1/openapi.json")]);
    step::run("schemathesis", &mut run)
}

fn schemathesis() -> Result<PathBuf, Failure> {
    if let Some(named) = env::var_os("ROUTECACHE_SCHEMATHESIS") {
        return Ok(named.into());
    }
    let home = step::target().join("schemathesis");
    let tool = home.join("bin/schemathesis");
    if step::succeeds(Command::new(&tool).arg("--version")) {
        return Ok(tool);
    }
    tools::python_environment(&home)?;
    let mut pip = Command::new(home.join("bin/python"));
    pip.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet", TOOL]);
    step::run("schemathesis (PyPI, once)", &mut pip).map(|()| tool).map_err(|_| {
        Failure::new(
            format!("no schemathesis: PyPI's {TOOL} can't be installed (the lines above say why)"),
            "get it another way, and name it: ROUTECACHE_SCHEMATHESIS=/path/to/schemathesis cargo xtask openapi",
        )
    })
}

/// Ended with the run.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
