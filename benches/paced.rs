//! How long requests take when they come at a steady pace, not as fast as they are answered.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Connections, each with a thread that sleeps until its next request is due.
const CONNECTIONS: u32 = 8;

/// What is sent again and again, and whether what has come is a whole answer to it.
pub struct Asked {
    pub request: Vec<u8>,
    pub is_whole: fn(&[u8]) -> bool,
}

/// The median and the 99th percentile of the time from sending a request to the last byte of its answer.
///
/// # Errors
///
/// A connection fails or ends.
pub fn latencies(
    at: SocketAddr,
    asked: &Asked,
    per_second: f64,
    span: Duration,
) -> Result<(Duration, Duration), Box<dyn Error>> {
    let interval = Duration::from_secs_f64(f64::from(CONNECTIONS) / per_second);
    let began = Instant::now();
    let mut all: Vec<Duration> = thread::scope(|scope| {
        let each: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let first = began + interval * number / CONNECTIONS;
                scope.spawn(move || one(at, asked, first, interval, span).map_err(|error| error.to_string()))
            })
            .collect();
        each.into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
            .collect::<Result<Vec<_>, _>>()
    })?
    .concat();
    all.sort_unstable();
    let (Some(median), Some(p99)) = (all.get(all.len() / 2), all.get(all.len() * 99 / 100)) else {
        return Err("nothing was asked".into());
    };
    Ok((*median, *p99))
}

fn one(
    at: SocketAddr,
    asked: &Asked,
    first: Instant,
    interval: Duration,
    span: Duration,
) -> std::io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    let (mut took, mut due, mut answer) = (Vec::new(), first, vec![0; 1 << 16]);
    while due < first + span {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        stream.write_all(&asked.request)?;
        let mut length = 0;
        while !(asked.is_whole)(&answer[..length]) {
            match stream.read(&mut answer[length..])? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                more => length += more,
            }
        }
        took.push(sent.elapsed());
        due = (due + interval).max(Instant::now()); // one that is late doesn't make the next ones hurry
    }
    Ok(took)
}
