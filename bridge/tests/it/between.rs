//! Stands between the bridge and a real Redis, reads what passes, and meddles with calls of scripts as it is told.

use std::io::{BufRead, BufReader, Error, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of each call of a script.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It passes.
    None,
    /// It is answered with this, and Redis never hears of it.
    Say(Vec<u8>),
    /// The same for the next one only.
    Once(Vec<u8>),
    /// This goes before its answer.
    Push(Vec<u8>),
    /// The connection ends, and Redis never hears of it.
    Close,
    /// It is done, and the connection ends after so many bytes of its answer.
    Cut(usize),
    /// The same for the next one only, with nothing of its answer.
    CutOnce,
    /// Redis never hears of it, and the connection stays silent.
    Hang,
    /// It is done, and after so many bytes of its answer the connection stays silent.
    Stall(usize),
}

/// See the module.
pub struct Between {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    redis: AtomicU16,
    fault: Mutex<Fault>,
    meddled: AtomicUsize,
}

impl Between {
    pub fn to(redis: u16) -> Self {
        let between = Self::nowhere();
        between.lead_to(redis);
        between
    }

    /// Until told where to.
    pub fn nowhere() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared =
            Arc::new(Shared { redis: AtomicU16::new(0), fault: Mutex::new(Fault::None), meddled: AtomicUsize::new(0) });
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&all);
                std::thread::spawn(move || shared.carry(client));
            }
        });
        Self { port, shared }
    }

    pub fn lead_to(&self, redis: u16) {
        self.shared.redis.store(redis, Ordering::SeqCst);
    }

    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Calls that were meddled with so far.
    pub fn meddled(&self) -> usize {
        self.shared.meddled.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn carry(&self, client: TcpStream) -> Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.redis.load(Ordering::SeqCst)))?;
        let (mut to_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
        let (mut from_client, mut from_server) = (BufReader::new(client), BufReader::new(server));
        loop {
            let call = value(&mut from_client)?;
            let mut pass = || {
                to_server.write_all(&call)?;
                value(&mut from_server)
            };
            // The bridge's own look for others' purges, which it takes all the time, is the one script with a key and no arguments.
            let is_script = !call.starts_with(b"*4\r\n") && call.windows(9).take(20).any(|word| word == b"EVALSHA\r\n");
            match if is_script { self.next() } else { Fault::None } {
                Fault::None => to_client.write_all(&pass()?)?,
                Fault::Say(bytes) | Fault::Once(bytes) => to_client.write_all(&bytes)?,
                Fault::Push(bytes) => to_client.write_all(&[bytes, pass()?].concat())?,
                Fault::Close => return Ok(()),
                Fault::Cut(count) => {
                    let answer = pass()?;
                    return to_client.write_all(&answer[..count.min(answer.len() - 1)]);
                }
                Fault::CutOnce => return pass().map(drop),
                Fault::Hang => return stay_silent(&mut from_client),
                Fault::Stall(count) => {
                    let answer = pass()?;
                    to_client.write_all(&answer[..count.min(answer.len() - 1)])?;
                    return stay_silent(&mut from_client);
                }
            }
        }
    }

    fn next(&self) -> Fault {
        let mut fault = self.fault.lock().unwrap();
        if !matches!(*fault, Fault::None) {
            self.meddled.fetch_add(1, Ordering::SeqCst);
        }
        match *fault {
            Fault::Once(_) | Fault::CutOnce => std::mem::replace(&mut fault, Fault::None),
            _ => fault.clone(),
        }
    }
}

/// Until the client ends the connection, or the test is long over.
fn stay_silent(client: &mut BufReader<TcpStream>) -> Result<()> {
    client.get_ref().set_read_timeout(Some(Duration::from_secs(20)))?;
    std::io::copy(client, &mut std::io::sink()).map(drop)
}

/// The bytes of one value, a call or an answer.
fn value(from: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.read_until(b'\n', &mut bytes)?;
    let Some((kind, rest)) = bytes.split_first() else { return Err(Error::other("the end")) };
    let count = std::str::from_utf8(rest).ok().and_then(|text| text.trim().parse::<usize>().ok());
    match (kind, count) {
        (b'$', Some(length)) => {
            let start = bytes.len();
            bytes.resize(start + length + 2, 0);
            from.read_exact(&mut bytes[start..])?;
        }
        (b'*', Some(items)) => {
            for _ in 0..items {
                bytes.extend(value(from)?);
            }
        }
        _ => {}
    }
    Ok(bytes)
}
