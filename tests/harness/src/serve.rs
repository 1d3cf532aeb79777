//! `routecache serve` as its users run it.

use std::ffi::OsStr;
use std::net::SocketAddr;

use rustix::process::Signal;
use tokio::process::Command;

use crate::process::Process;
use crate::{Client, Error, Port, Result, programs};

/// A gateway that the CLI is. It gives connections to its workers in turn.
#[derive(Debug)]
pub struct Serve {
    port: Port,
    process: Process,
}

impl Serve {
    /// Starts one with these arguments, besides `--listen` and `--wasm`, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it hasn't been built, or refuses to start.
    pub async fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Self> {
        let port = Port::claim()?;
        let mut command = Command::new(programs::gateway_cli()?);
        command.arg("serve").args(["--listen", &port.address().to_string(), "--wasm"]).arg(programs::filter()?);
        command.args(arguments);
        let mut process = Process::start("routecache serve", command)?;
        let log = process.log().clone();
        process.ready(async || log.last().contains("listening on http://")).await?;
        Ok(Self { port, process })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// What it has said lately.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log().last()
    }

    /// Asks it to stop, and doesn't wait.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits until it has ended after [`Serve::terminate`].
    ///
    /// # Errors
    ///
    /// When it has to be killed.
    pub async fn ended(mut self) -> Result<()> {
        if self.process.stop().await { Ok(()) } else { Err(Error::Unexpected("it doesn't end".to_owned())) }
    }
}
