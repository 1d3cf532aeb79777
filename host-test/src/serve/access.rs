//! The access log: a line of JSON for each request, with the names of the log that `routecache render` writes for Envoy.

use std::fmt;
use std::time::Duration;

use crate::Thread;

/// What is known of a request once it has ended.
#[derive(Clone, Debug)]
pub struct Access {
    /// When it came in, since 1970.
    pub time: Duration,
    /// Which thread served it.
    pub thread: Thread,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// Its method.
    pub method: String,
    /// The host that it named.
    pub authority: String,
    /// Its path and query, as the filter was given them.
    pub path: String,
    /// The status that was sent; 0 if none was.
    pub status: u16,
    /// Envoy's `response.code_details`: `via_upstream`, or why another answer was given.
    pub details: String,
    /// From its headers to the last of the response.
    pub duration: Duration,
    /// Bytes of its body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// The upstream that was asked, if one was.
    pub upstream: Option<String>,
    /// The response's `Cache-Status` (RFC 9211), if it has one.
    pub cache_status: Option<String>,
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str| serde_json::Value::from(text);
        let word = |word: &Option<String>| word.as_deref().map_or(serde_json::Value::Null, text);
        write!(
            formatter,
            "{{\"time\":{},\"thread\":{},\"protocol\":{},\"method\":{},\"authority\":{},\"path\":{},\"status\":{},\"details\":{},\
             \"duration_ms\":{},\"bytes_received\":{},\"bytes_sent\":{},\"upstream\":{},\"cache_status\":{}}}",
            text(&timestamp(self.time)),
            text(&self.thread.to_string()),
            text(self.protocol),
            text(&self.method),
            text(&self.authority),
            text(&self.path),
            self.status,
            text(&self.details),
            self.duration.as_millis(),
            self.bytes_received,
            self.bytes_sent,
            word(&self.upstream),
            word(&self.cache_status),
        )
    }
}

/// A time since 1970 as RFC 3339 writes it, in UTC, to the millisecond.
pub(super) fn timestamp(since_1970: Duration) -> String {
    const DAY: u64 = 86_400;
    let seconds = since_1970.as_secs();
    let (days, time) = (seconds / DAY, seconds % DAY);
    // Howard Hinnant's `civil_from_days`, for days after 1970: years begin in March, so that leap days come last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since_1970.subsec_millis())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Access, timestamp};
    use crate::Thread;

    #[test]
    fn times_read_as_in_rfc_3339() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_798_761_599_999, "2026-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(timestamp(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn a_line_is_json_whatever_the_client_sent() {
        let access = Access {
            time: Duration::ZERO,
            thread: Thread::Worker(0),
            protocol: "HTTP/1.1",
            method: "GET".into(),
            authority: "a\"b\n".into(),
            path: "/\u{1b}[31m".into(),
            status: 200,
            details: "via_upstream".into(),
            duration: Duration::from_millis(3),
            bytes_received: 0,
            bytes_sent: 5,
            upstream: None,
            cache_status: Some("routecache; hit".into()),
        };
        let line = access.to_string();
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((read["authority"].as_str(), read["bytes_sent"].as_u64()), (Some("a\"b\n"), Some(5)));
        assert!(!line.contains(['\n', '\u{1b}']) && read["upstream"].is_null(), "{line}");
    }
}
