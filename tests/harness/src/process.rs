//! A child process that can't outlive us, and what it says.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::{Error, Result};

/// Lines shown of what a program says.
const LOG_LINES: usize = 400;

/// Lines that are kept.
const LOG_LINES_KEPT: usize = 20_000;

/// How long a server may take to become ready, on a busy machine of two cores.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a server may take to end after SIGTERM before it is killed.
const END_WITHIN: Duration = Duration::from_secs(10);

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Log,
}

impl Process {
    /// Starts `command` and collects what it says on both outputs.
    pub(crate) fn start(name: impl Into<String>, command: Command) -> Result<Self> {
        Self::start_to_end_with(Signal::KILL, name, command)
    }

    /// The same for a program that isn't to be killed when we are gone, but told: one that has children of its own.
    pub(crate) fn start_to_end_with(last: Signal, name: impl Into<String>, mut command: Command) -> Result<Self> {
        let name = name.into();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        bind_to_us(&mut command, last);
        let mut child = command.spawn().map_err(Error::io(format!("start {name}")))?;
        let log = Log::default();
        log.collect(child.stdout.take());
        log.collect(child.stderr.take());
        Ok(Self { name, child, log })
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] or [`Error::NotReady`], with the program's last lines.
    pub(crate) async fn ready(&mut self, mut ready: impl AsyncFnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < READY_WITHIN {
            if let Ok(Some(status)) = self.child.try_wait() {
                sleep(Duration::from_millis(50)).await; // its last words may still be in the pipe
                return Err(Error::Ended { name: self.name.clone(), status: status.to_string(), log: self.log.last() });
            }
            if ready().await {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(Error::NotReady { name: self.name.clone(), after: READY_WITHIN, log: self.log.last() })
    }

    /// Sends a signal; a process that is gone already doesn't mind.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Sends a signal to it and all its children; it was started as the head of a group.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Asks it to end, and kills it if it doesn't; whether it ended by itself.
    pub(crate) async fn stop(&mut self) -> bool {
        self.signal(Signal::CONT); // one that is held can't hear
        self.signal(Signal::TERM);
        let ended = timeout(END_WITHIN, self.child.wait()).await.is_ok();
        if !ended {
            let _ = self.child.kill().await;
        }
        ended
    }

    /// Kills it, as a crash would, and waits until its port is free.
    pub(crate) async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// CPU time used so far, in user and kernel together.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let unknown = || Error::Unexpected(format!("the system doesn't say how much CPU time {} has used", self.name));
        let stat = format!("/proc/{}/stat", self.child.id().ok_or_else(unknown)?);
        let stat = std::fs::read_to_string(stat).map_err(|_| unknown())?;
        // Behind the name, which may hold spaces and brackets: state is field 3, utime 14, stime 15.
        let fields: Vec<&str> = stat.rsplit_once(')').ok_or_else(unknown)?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at - 3).and_then(|field| field.parse::<u64>().ok()).ok_or_else(unknown);
        Ok(Duration::from_millis((ticks(14)? + ticks(15)?) * 10))
    }

    /// What it has said.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("── {}, the last it said ──\n{}", self.name, self.log.last());
        }
    }
}

/// What a program has said, the last [`LOG_LINES_KEPT`] lines of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    /// The lines kept.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The last lines, to show.
    pub(crate) fn last(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(lines.len().saturating_sub(LOG_LINES)).map(|line| format!("    {line}\n")).collect()
    }

    fn collect(&self, output: Option<impl AsyncRead + Unpin + Send + 'static>) {
        let Some(output) = output else { return };
        let log = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = log.0.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == LOG_LINES_KEPT {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
    }
}

/// Ends the program with that signal when the thread that starts it ends: a test's, or a runtime's.
fn bind_to_us(command: &mut Command, last: Signal) {
    // On another system it is left to `kill_on_drop`, which a `kill -9` of ours would miss.
    #[cfg(target_os = "linux")]
    // SAFETY: runs between fork and exec, where only async-signal-safe calls are allowed; this is one system call.
    unsafe {
        use rustix::process::set_parent_process_death_signal;
        command.pre_exec(move || set_parent_process_death_signal(Some(last)).map_err(std::io::Error::from));
    }
}
