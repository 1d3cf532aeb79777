//! A real Redis, with nothing on disk.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::Process;
use crate::{Error, Port, Result, programs};

/// A running Redis server; dropping it ends it.
#[derive(Debug)]
pub struct Redis {
    port: Port,
    process: Process,
}

impl Redis {
    /// Starts an empty one and waits until it answers.
    ///
    /// # Errors
    ///
    /// When there is none to start, or it ends at once.
    pub async fn start() -> Result<Self> {
        let port = Port::claim()?;
        let process = launch(&port).await?;
        Ok(Self { port, process })
    }

    /// Its URL, for the bridge's `--store`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// Kills it, with everything in it, and starts an empty one on the same port.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill().await;
        self.process = launch(&self.port).await?;
        Ok(())
    }

    /// Sends it an inline command, and waits until it has answered.
    ///
    /// # Errors
    ///
    /// When it isn't there.
    pub async fn tell(&self, command: &str) -> Result<()> {
        let doing = || Error::io(format!("tell Redis: {command}"));
        let mut stream = TcpStream::connect(self.port.address()).await.map_err(doing())?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await.map_err(doing())?;
        stream.read_u8().await.map(drop).map_err(doing())
    }

    /// Bytes that it has allocated.
    ///
    /// # Errors
    ///
    /// When it isn't there, or doesn't say.
    pub async fn used_memory(&self) -> Result<usize> {
        let doing = || Error::io("ask Redis for its memory");
        let mut stream = TcpStream::connect(self.port.address()).await.map_err(doing())?;
        stream.write_all(b"INFO memory\r\nQUIT\r\n").await.map_err(doing())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(doing())?;
        let used = answer.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        used.ok_or_else(|| Error::Unexpected("Redis doesn't say what memory it uses".into()))
    }
}

async fn launch(port: &Port) -> Result<Process> {
    let mut command = Command::new(programs::redis()?);
    command.args(["--bind", "127.0.0.1", "--port", &port.number().to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--dir", "/"]); // nothing is saved, so the folder doesn't matter
    let mut process = Process::start("redis-server", command)?;
    process.ready(async || answers_ping(port).await.is_ok_and(|it| it)).await?;
    Ok(process)
}

async fn answers_ping(port: &Port) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(port.address()).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"+PONG\r\n")
}
