//! Servers that aren't ours, to measure ours next to.

use std::net::SocketAddr;

use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::Process;
use crate::{Client, Port, Result};

/// Any program that listens on a port it was told; dropping it ends it and its children.
#[derive(Debug)]
pub struct Server {
    port: Port,
    process: Process,
}

impl Server {
    /// Starts it and waits until something accepts connections on `port`.
    ///
    /// # Errors
    ///
    /// When it can't be started, ends, or doesn't listen: its last lines are in the error.
    pub async fn start(name: &str, mut command: Command, port: Port) -> Result<Self> {
        command.process_group(0);
        let mut process = Process::start_to_end_with(Signal::TERM, name, command)?;
        process.ready(async || TcpStream::connect(port.address()).await.is_ok()).await?;
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
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.signal_group(Signal::KILL);
    }
}
