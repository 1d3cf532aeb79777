//! HTTP/1.1 byte by byte, so that a peer can break off wherever a case wants it.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;

/// A request or a response as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line.
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Whether it ended as it said that it would.
    pub whole: bool,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str())
    }

    /// The status of a response, 0 where there is none.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

/// Reads one message. `to_head`: it answers HEAD, so it has no body. `enough` bytes of body are all that is wanted.
pub async fn read(from: &mut BufReader<OwnedReadHalf>, is_response: bool, to_head: bool, enough: usize) -> Message {
    let mut message = Message::default();
    // What came before an error stays.
    let _ = read_into(&mut message, from, is_response, to_head, enough).await;
    message
}

async fn read_into(
    message: &mut Message,
    from: &mut BufReader<OwnedReadHalf>,
    is_response: bool,
    to_head: bool,
    enough: usize,
) -> io::Result<()> {
    message.start = line(from).await?;
    read_fields(&mut message.headers, from).await?;
    let without_body = to_head || (is_response && matches!(message.status(), 204 | 304));
    if without_body {
        message.whole = true;
    } else if message.header("transfer-encoding") == Some("chunked") {
        loop {
            let size = line(from).await?;
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            if size == 0 {
                break;
            }
            take(&mut message.body, from, size, enough).await?;
            line(from).await?;
        }
        read_fields(&mut message.trailers, from).await?;
        message.whole = true;
    } else if let Some(length) = message.header("content-length").and_then(|length| length.parse().ok()) {
        take(&mut message.body, from, length, enough).await?;
        message.whole = true;
    } else if is_response {
        take(&mut message.body, from, usize::MAX, enough).await?;
    } else {
        message.whole = true;
    }
    Ok(())
}

async fn take(body: &mut Vec<u8>, from: &mut BufReader<OwnedReadHalf>, count: usize, enough: usize) -> io::Result<()> {
    for _ in 0..count {
        body.push(from.read_u8().await?);
        if body.len() >= enough {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    Ok(())
}

async fn read_fields(fields: &mut Vec<(String, String)>, from: &mut BufReader<OwnedReadHalf>) -> io::Result<()> {
    loop {
        let line = line(from).await?;
        let Some((name, value)) = line.split_once(':') else { return Ok(()) };
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

async fn line(from: &mut BufReader<OwnedReadHalf>) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// The start line and the fields of a message, and the blank line.
pub fn head(start: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{start}\r\n{fields}\r\n").into_bytes()
}

/// A piece of a chunked body.
pub fn chunk(bytes: &str) -> Vec<u8> {
    format!("{:x}\r\n{bytes}\r\n", bytes.len()).into_bytes()
}

/// The end of a chunked body.
pub fn last_chunk(trailers: &[(&str, &str)]) -> Vec<u8> {
    head("0", trailers)
}
