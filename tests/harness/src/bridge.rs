//! The bridge as its users run it.

use std::net::SocketAddr;

use rustix::process::Signal;
use tokio::process::Command;

use crate::process::Process;
use crate::{Client, Port, Result, programs};

/// A bridge that can be stopped, killed and held, and comes back on the same port; dropping it ends it.
#[derive(Debug)]
pub struct Bridge {
    port: Port,
    store: String,
    variables: Vec<(String, String)>,
    process: Option<Process>,
}

impl Bridge {
    /// Starts one in front of `store`, `mem://` or `redis://…`, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it hasn't been built, or refuses the store.
    pub async fn start(store: impl Into<String>) -> Result<Self> {
        Self::start_with(store, &[]).await
    }

    /// The same with these settings, as variables of its environment.
    ///
    /// # Errors
    ///
    /// As [`Bridge::start`], and when it refuses them.
    pub async fn start_with(store: impl Into<String>, variables: &[(&str, &str)]) -> Result<Self> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut bridge = Self { port: Port::claim()?, store: store.into(), variables, process: None };
        bridge.restart().await?;
        Ok(bridge)
    }

    /// Where it listens, or would.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Starts it again after [`Bridge::stop`] or [`Bridge::kill`].
    ///
    /// # Errors
    ///
    /// As [`Bridge::start`].
    pub async fn restart(&mut self) -> Result<()> {
        let mut command = Command::new(programs::bridge()?);
        command.args(["--listen", &self.address().to_string(), "--store", &self.store]);
        command.envs(self.variables.iter().cloned());
        let mut process = Process::start("routecache-bridge", command)?;
        let client = Client::new(self.address());
        process.ready(async || matches!(client.get("/readyz").await, Ok(answer) if answer.status == 200)).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it as a deployment would, with SIGTERM; whether it went by itself.
    pub async fn stop(&mut self) -> bool {
        match self.process.take() {
            Some(mut process) => process.stop().await,
            None => true,
        }
    }

    /// Ends it as a crash would.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Makes it hang: connections are still accepted by the system, and nothing answers.
    pub fn hold(&self) {
        self.process.iter().for_each(|process| process.signal(Signal::STOP));
    }

    /// Lets it go on after [`Bridge::hold`].
    pub fn release(&self) {
        self.process.iter().for_each(|process| process.signal(Signal::CONT));
    }

    /// What it has said lately.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(|process| process.log().last()).unwrap_or_default()
    }
}
