//! What can go wrong, and where: each fault has a name, by which a script, a replay file or a scenario can ask for it.

mod plan;

use std::fmt;
use std::time::Duration;

use crate::abi::Status;
use crate::upstream::{Reply, Response};

pub use plan::Faults;
pub(crate) use plan::Injector;

/// Where something can go wrong. Each place counts how often it was passed, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// A client sends a request.
    Request,
    /// A request reaches the origin.
    Origin,
    /// A callout reaches its cluster.
    Callout,
    /// A timer runs out.
    Tick,
    /// Shared data is read.
    SharedRead,
    /// Shared data is written.
    SharedWrite,
    /// Something is put into a shared queue.
    Queue,
    /// A property is read.
    Property,
    /// A stream is answered by the filter.
    LocalReply,
    /// A function of the host is called, any of `proxy_*`.
    HostCall,
    /// A module asks for more memory.
    Memory,
}

impl Site {
    /// Every place.
    pub const ALL: [Self; 11] = [
        Self::Request,
        Self::Origin,
        Self::Callout,
        Self::Tick,
        Self::SharedRead,
        Self::SharedWrite,
        Self::Queue,
        Self::Property,
        Self::LocalReply,
        Self::HostCall,
        Self::Memory,
    ];

    /// Its name in a replay file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Origin => "origin",
            Self::Callout => "callout",
            Self::Tick => "tick",
            Self::SharedRead => "shared-read",
            Self::SharedWrite => "shared-write",
            Self::Queue => "queue",
            Self::Property => "property",
            Self::LocalReply => "local-reply",
            Self::HostCall => "host-call",
            Self::Memory => "memory",
        }
    }

    /// What goes wrong there in Envoy, sooner or later.
    fn usual(self) -> &'static [Fault] {
        use Fault::{
            Absent, BadAnswer, Bytewise, CasMismatch, ClientLeaves, Crash, Cut, Double, Evict, Garbage, Hang, Late,
            LogLevel, NoConnection, NoMemory, OddHeaders, OutOfFuel, Overtaken, Refuse, RefusedReload, Reload, Reset,
            Restart, Skip, Slow, SlowBody, Swap, TooLong, Trailers, WallJump,
        };
        match self {
            Self::Request => &[
                ClientLeaves(0),
                ClientLeaves(5),
                ClientLeaves(40),
                Bytewise,
                OddHeaders,
                Trailers,
                Restart,
                Crash("proxy_on_request_headers"),
                Crash("proxy_on_request_body"),
                Crash("proxy_on_response_headers"),
                Crash("proxy_on_response_body"),
                Crash("proxy_on_http_call_response"),
                Crash("proxy_on_tick"),
                Crash("proxy_on_log"),
                Crash("proxy_on_done"),
                OutOfFuel("proxy_on_request_headers"),
                OutOfFuel("proxy_on_response_headers"),
                Reload(0),
                Reload(5),
                RefusedReload,
                WallJump(3600),
                WallJump(-3600),
                WallJump(1),
                WallJump(-1),
                Evict,
                LogLevel(0),
                LogLevel(4),
            ],
            Self::Origin => &[
                NoConnection,
                Reset,
                Hang,
                Cut,
                Slow(300),
                SlowBody(20),
                Bytewise,
                OddHeaders,
                Trailers,
                BadAnswer(503),
                BadAnswer(500),
            ],
            Self::Callout => &[
                Refuse,
                NoConnection,
                Reset,
                Hang,
                Cut,
                Slow(20),
                Slow(300),
                Overtaken,
                Swap,
                TooLong,
                BadAnswer(500),
                BadAnswer(429),
                BadAnswer(301),
                Garbage,
            ],
            Self::Tick => &[Skip, Double, Fault::Burst(5), Late(200)],
            Self::SharedRead | Self::Property => &[Absent],
            Self::SharedWrite => &[CasMismatch],
            Self::Memory => &[NoMemory],
            Self::Queue | Self::LocalReply | Self::HostCall => &[],
        }
    }

    /// What goes wrong there in other hosts, or in none that is known; the SDKs for Rust and Go panic over much of it.
    fn harsh(self) -> &'static [Fault] {
        use Fault::{Alias, Full, Refuse, Stale, Stall, Twice, Unimplemented};
        match self {
            Self::Request => &[Stall(500)],
            Self::Callout => &[Twice],
            Self::SharedRead => &[Stale, Alias],
            Self::SharedWrite | Self::Queue => &[Full],
            Self::LocalReply => &[Refuse],
            Self::HostCall => &[Unimplemented],
            Self::Origin | Self::Tick | Self::Property | Self::Memory => &[],
        }
    }

    /// All that can go wrong there.
    pub fn faults(self) -> impl Iterator<Item = Fault> {
        self.usual().iter().chain(self.harsh()).copied()
    }

    /// Whether it is passed many times for each request.
    fn is_busy(self) -> bool {
        matches!(self, Self::HostCall | Self::Property | Self::SharedRead | Self::SharedWrite)
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The client goes away after so many milliseconds.
    ClientLeaves(u32),
    /// The worker loses its VM and gets a new one, just before the request.
    Restart,
    /// The worker's VM traps the next time that it would run this callback.
    Crash(&'static str),
    /// The worker's VM has no fuel the next time that it runs this callback.
    OutOfFuel(&'static str),
    /// The gateway is given its configuration anew after so many milliseconds, while requests are under way: each VM gets a new root
    /// context beside the old one. With [`WorldBuilder::next_configuration`](crate::WorldBuilder::next_configuration), that one.
    Reload(u32),
    /// The gateway tries a configuration that makes no sense, in a VM of its own, and doesn't use it.
    RefusedReload,
    /// The wall clock jumps by so many seconds.
    WallJump(i32),
    /// The monotonic clock shows modules the same time for so many milliseconds.
    Stall(u32),
    /// All shared data is lost.
    Evict,
    /// From now on the host's log level is this, 0 for trace to 5 for critical.
    LogLevel(u8),
    /// A body comes byte by byte.
    Bytewise,
    /// The message has more headers: one twice, one that isn't UTF-8, one that is empty, and a huge one.
    OddHeaders,
    /// The message ends with trailers.
    Trailers,
    /// What the filter asks for is refused (`InternalFailure`).
    Refuse,
    /// No connection: the upstream doesn't hear of it.
    NoConnection,
    /// The connection breaks before the answer, though the upstream has done what it was asked.
    Reset,
    /// There is no answer.
    Hang,
    /// The answer breaks off before its end.
    Cut,
    /// The answer comes so many milliseconds later.
    Slow(u32),
    /// Each piece of the answer's body comes so many milliseconds later.
    SlowBody(u32),
    /// The answer comes after the answer to the next callout, or later by a second or half of its timeout.
    Overtaken,
    /// The filter is told of the answer twice.
    Twice,
    /// The answer to the callout before this one takes its place.
    Swap,
    /// The answer's body has two mebibytes more.
    TooLong,
    /// An answer with this status and a text takes the place of the real one.
    BadAnswer(u16),
    /// The answer's body is replaced by bytes that mean nothing.
    Garbage,
    /// The timer is passed over this once.
    Skip,
    /// The timer runs out twice.
    Double,
    /// The timer runs out so many times at once.
    Burst(u32),
    /// The timer runs out so many milliseconds late.
    Late(u32),
    /// The value isn't there, as if the host had evicted it.
    Absent,
    /// What is read is the value before the last write.
    Stale,
    /// What is read is the value of another key.
    Alias,
    /// Another worker was faster.
    CasMismatch,
    /// There is no room (`InternalFailure`).
    Full,
    /// The host leaves this function out.
    Unimplemented,
    /// The memory doesn't grow. A trap in that callback is nobody's fault.
    NoMemory,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::ClientLeaves(ms) => return write!(formatter, "client-leaves {ms}"),
            Self::Crash(callback) => return write!(formatter, "crash {callback}"),
            Self::OutOfFuel(callback) => return write!(formatter, "out-of-fuel {callback}"),
            Self::Reload(ms) => return write!(formatter, "reload {ms}"),
            Self::WallJump(seconds) => return write!(formatter, "wall-jump {seconds}"),
            Self::Stall(ms) => return write!(formatter, "stall {ms}"),
            Self::LogLevel(level) => return write!(formatter, "log-level {level}"),
            Self::Slow(ms) => return write!(formatter, "slow {ms}"),
            Self::SlowBody(ms) => return write!(formatter, "slow-body {ms}"),
            Self::BadAnswer(status) => return write!(formatter, "bad-answer {status}"),
            Self::Burst(times) => return write!(formatter, "burst {times}"),
            Self::Late(ms) => return write!(formatter, "late {ms}"),
            Self::Restart => "restart",
            Self::RefusedReload => "refused-reload",
            Self::Evict => "evict",
            Self::Bytewise => "bytewise",
            Self::OddHeaders => "odd-headers",
            Self::Trailers => "trailers",
            Self::Refuse => "refuse",
            Self::NoConnection => "no-connection",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::Cut => "cut",
            Self::Overtaken => "overtaken",
            Self::Twice => "twice",
            Self::Swap => "swap",
            Self::TooLong => "too-long",
            Self::Garbage => "garbage",
            Self::Skip => "skip",
            Self::Double => "double",
            Self::Absent => "absent",
            Self::Stale => "stale",
            Self::Alias => "alias",
            Self::CasMismatch => "cas-mismatch",
            Self::Full => "full",
            Self::Unimplemented => "unimplemented",
            Self::NoMemory => "no-memory",
        };
        formatter.write_str(name)
    }
}

impl Fault {
    /// Whether the upstream never hears of the request.
    pub(crate) fn keeps_from_upstream(self) -> bool {
        matches!(self, Self::Refuse | Self::NoConnection)
    }

    /// What becomes of an upstream's reply.
    pub(crate) fn spoil(self, reply: Reply) -> Reply {
        const BYTES_TOO_MANY: usize = 2 << 20;
        match self {
            Self::Refuse => Reply::refuse(Status::InternalFailure),
            Self::NoConnection => Reply::connect_failure(),
            Self::Reset => Reply::reset(),
            Self::Hang => Reply::hang(),
            Self::Slow(ms) => {
                let after = reply.after + Duration::from_millis(ms.into());
                reply.after(after)
            }
            Self::BadAnswer(status) => Response::new(status).body("it broke").into(),
            Self::Cut => reply.map_response(|response| response.then_reset(Duration::ZERO)),
            Self::Garbage => reply.map_response(Response::garbled),
            Self::SlowBody(ms) => reply.map_response(|response| response.slowed(Duration::from_millis(ms.into()))),
            Self::Bytewise => reply.map_response(Response::bytewise),
            Self::OddHeaders => reply.map_response(Response::with_odd_headers),
            Self::Trailers => reply.map_response(Response::with_odd_trailers),
            Self::TooLong => reply.map_response(|response| response.longer(BYTES_TOO_MANY)),
            _ => reply,
        }
    }
}

/// One fault at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Injected {
    /// Where.
    pub site: Site,
    /// The how manieth time that this place was passed, from 0.
    pub number: u64,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Injected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.site.name(), self.number, self.fault)
    }
}

impl Injected {
    /// Reads what [`Display`](fmt::Display) writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (place, fault) = text.split_once(": ")?;
        let (site, number) = place.split_once(' ')?;
        let site = Site::ALL.into_iter().find(|one| one.name() == site)?;
        Some(Self { site, number: number.parse().ok()?, fault: site.read(fault)? })
    }
}

impl Site {
    /// A fault of this place by its name. Its number may be any that makes sense, not only those that seeds draw.
    fn read(self, text: &str) -> Option<Fault> {
        let (name, rest) = text.split_once(' ').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let of_name = |fault: &Fault| fault.to_string().split(' ').next() == Some(name);
        let alike = self.faults().find(|fault| fault.to_string() == text).or_else(|| self.faults().find(of_name))?;
        let Some(rest) = rest else { return (alike.to_string() == text).then_some(alike) };
        Some(match alike {
            Fault::ClientLeaves(_) => Fault::ClientLeaves(rest.parse().ok()?),
            Fault::Reload(_) => Fault::Reload(rest.parse().ok()?),
            Fault::WallJump(_) => Fault::WallJump(rest.parse().ok()?),
            Fault::Stall(_) => Fault::Stall(rest.parse().ok()?),
            Fault::LogLevel(_) => Fault::LogLevel(rest.parse().ok().filter(|level| *level <= 5)?),
            Fault::Slow(_) => Fault::Slow(rest.parse().ok()?),
            Fault::SlowBody(_) => Fault::SlowBody(rest.parse().ok()?),
            Fault::BadAnswer(_) => Fault::BadAnswer(rest.parse().ok().filter(|status| (200..600).contains(status))?),
            Fault::Burst(_) => Fault::Burst(rest.parse().ok().filter(|times| *times <= 1000)?),
            Fault::Late(_) => Fault::Late(rest.parse().ok()?),
            Fault::Crash(_) => Fault::Crash(crate::vm::callback(rest)?),
            Fault::OutOfFuel(_) => Fault::OutOfFuel(crate::vm::callback(rest)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Injected, Site};

    #[test]
    fn every_fault_reads_back_as_it_is_written() {
        for site in Site::ALL {
            for fault in site.faults() {
                let injected = Injected { site, number: 7, fault };
                assert_eq!(Injected::parse(&injected.to_string()), Some(injected), "{injected}");
            }
        }
        let wrong = ["", "callout 1", "callout x: reset", "callout 1: crash", "nowhere 1: reset", "callout 1: reset 5"];
        for wrong in wrong.into_iter().chain(["tick 0: late", "callout 0: bad-answer 99", "request 0: crash malloc"]) {
            assert_eq!(Injected::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_script_may_give_its_own_numbers() {
        let fault = |text| Injected::parse(text).map(|injected| injected.fault);
        assert_eq!(fault("callout 3: slow 77"), Some(Fault::Slow(77)));
        assert_eq!(fault("request 0: wall-jump -5"), Some(Fault::WallJump(-5)));
        assert_eq!(fault("request 0: crash proxy_on_delete"), Some(Fault::Crash("proxy_on_delete")));
    }
}
