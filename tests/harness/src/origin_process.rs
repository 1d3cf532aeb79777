//! The JSON API as a process, for what can be done to processes.

use std::net::SocketAddr;

use rustix::process::Signal;
use tokio::process::Command;

use crate::process::Process;
use crate::{Client, Port, Result, programs};

/// An [`Origin`](crate::Origin) in a process of its own, which comes back on the same port; dropping it ends it.
#[derive(Debug)]
pub struct OriginProcess {
    public: Port,
    admin: Port,
    process: Process,
}

impl OriginProcess {
    /// Starts one with three users, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it hasn't been built.
    pub async fn start() -> Result<Self> {
        let (public, admin) = (Port::claim()?, Port::claim()?);
        let process = launch(&public, &admin).await?;
        Ok(Self { public, admin, process })
    }

    /// Where the API listens, or would.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.public.address()
    }

    /// How many such requests have come since it started; the path with its query.
    ///
    /// # Errors
    ///
    /// When it doesn't answer.
    pub async fn requests(&self, method: &str, path: &str) -> Result<u64> {
        let counts = Client::new(self.admin.address()).get("/admin/requests").await?.json();
        Ok(counts[format!("{method} {path}")].as_u64().unwrap_or(0))
    }

    /// Ends it as a crash would.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it again after [`OriginProcess::kill`], with nothing counted.
    ///
    /// # Errors
    ///
    /// As [`OriginProcess::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.process = launch(&self.public, &self.admin).await?;
        Ok(())
    }

    /// Makes it hang: connections are still accepted by the system, and nothing answers.
    pub fn hold(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on after [`OriginProcess::hold`].
    pub fn release(&self) {
        self.process.signal(Signal::CONT);
    }
}

async fn launch(public: &Port, admin: &Port) -> Result<Process> {
    let mut command = Command::new(programs::origin()?);
    command.args([public.address().to_string(), admin.address().to_string()]);
    let mut process = Process::start("routecache-origin", command)?;
    let client = Client::new(admin.address());
    process.ready(async || matches!(client.get("/admin/requests").await, Ok(answer) if answer.status == 200)).await?;
    Ok(process)
}
