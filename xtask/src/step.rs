//! One step: says what it runs, runs it, says how long it took.

use std::env;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

/// What went wrong, and how to mend it.
#[derive(Debug)]
pub struct Failure {
    what: String,
    mend: String,
}

impl Failure {
    pub fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xtask: {}", self.what)?;
        self.mend.lines().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// Announces `command`, runs it with its output shown, and says how long it took.
///
/// # Errors
///
/// When it can't be started or fails; its own lines then say why.
pub fn run(name: &str, command: &mut Command) -> Result<(), Failure> {
    let shown = announce(name, command);
    let start = Instant::now();
    let status = bound_to_us(command).status().map_err(|cause| not_started(command, &cause))?;
    if !status.success() {
        return Err(Failure::new(format!("{name}: {}", ended(status)), format!("to run it alone: {shown}")));
    }
    eprintln!("✓ {name} ({:.1} s)", start.elapsed().as_secs_f64());
    Ok(())
}

/// Announces `command` and becomes it: its last line is our last line, its exit status ours, and no third process has
/// to pass signals on.
///
/// # Errors
///
/// When it can't be started.
pub fn become_it(name: &str, command: &mut Command) -> Result<(), Failure> {
    announce(name, command);
    let cause = command.exec();
    Err(not_started(command, &cause))
}

/// Announces `command` and starts it; it ends with us at the latest.
///
/// # Errors
///
/// When it can't be started.
pub fn start(name: &str, command: &mut Command) -> Result<Child, Failure> {
    announce(name, command);
    bound_to_us(command).spawn().map_err(|cause| not_started(command, &cause))
}

/// Runs `command` without showing what it prints; whether it succeeded.
pub fn succeeds(command: &mut Command) -> bool {
    output(command).is_some()
}

/// What `command` prints, if it succeeds.
pub fn output(command: &mut Command) -> Option<String> {
    let output = bound_to_us(command).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `cargo` in the workspace: the one that runs us, so that `cargo +toolchain xtask` means what it says.
pub fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).args(arguments);
    command
}

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Cargo's target folder, wherever it was told to be: the one that we run from. Cargo marks it with a tag.
pub fn target() -> PathBuf {
    let marked = |folder: &&Path| folder.join("CACHEDIR.TAG").exists();
    let ours = env::current_exe().ok().and_then(|exe| exe.ancestors().find(marked).map(Path::to_owned));
    ours.unwrap_or_else(|| workspace().join("target"))
}

fn announce(name: &str, command: &Command) -> String {
    let shown = shown(command);
    eprintln!("\n▶ {name}: {shown}");
    shown
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
    let mut words: Vec<String> = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
        }
    }
    let program = Path::new(command.get_program());
    // The path of the toolchain's cargo says nothing to a reader.
    let program = if program.file_stem().is_some_and(|stem| stem == "cargo") { Path::new("cargo") } else { program };
    words.push(program.display().to_string());
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Ties the life of `command` to ours: Ctrl-C reaches it through the terminal, and when anything else ends us, Linux
/// ends it (other systems leave it to end by itself).
fn bound_to_us(command: &mut Command) -> &mut Command {
    #[cfg(target_os = "linux")]
    // SAFETY: runs between fork and exec, where only async-signal-safe calls are allowed; this is one system call.
    unsafe {
        use rustix::process::{Signal, set_parent_process_death_signal};
        command.pre_exec(|| set_parent_process_death_signal(Some(Signal::TERM)).map_err(io::Error::from));
    }
    command
}

fn ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("failed with exit code {code}"),
        None => format!("ended by {status}"),
    }
}

fn not_started(command: &Command, cause: &io::Error) -> Failure {
    let program = command.get_program().to_string_lossy();
    Failure::new(format!("`{program}` didn't start: {cause}"), format!("is {program} installed and on the PATH?"))
}
