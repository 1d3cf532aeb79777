//! Dates in fields (RFC 9110 §5.6.7).
//!
//! Read here rather than by `httpdate`, which the tests compare with: it goes by way of the standard library's clock, which
//! panics on what it can't hold, and is seven kilobytes more in the filter.

const WEEKDAYS: [&[u8]; 7] = [b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday", b"Sunday"];

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Any of the three forms, as milliseconds since 1970; `None` for anything else, for a day that doesn't exist, and for what
/// lies before.
#[must_use]
pub fn http_date_ms(text: &[u8]) -> Option<u64> {
    let words: Vec<&[u8]> = text.trim_ascii().split(|byte| *byte == b' ').collect();
    let short = |name: &[u8], weekday: &[u8]| weekday.get(..3) == Some(name);
    let (weekday, day, month, year, time) = match *words.as_slice() {
        // Mon, 24 Nov 2025 16:00:00 GMT
        [name, day, month, year, time, b"GMT"] => {
            let name = name.strip_suffix(b",")?;
            (WEEKDAYS.iter().position(|weekday| short(name, weekday)), number(day, 2), month, number(year, 4), time)
        }
        // Monday, 24-Nov-25 16:00:00 GMT
        [name, date, time, b"GMT"] => {
            let name = name.strip_suffix(b",")?;
            let [day, month, year] = parts(date, b'-')?;
            let century = |year: u64| year.saturating_add(if year < 70 { 2000 } else { 1900 });
            let year = number(year, 2).map(century);
            (WEEKDAYS.iter().position(|weekday| *weekday == name), number(day, 2), month, year, time)
        }
        // Mon Nov 24 16:00:00 2025, Thu Nov  6 16:00:00 2025
        [name, month, day, time, year] | [name, month, b"", day, time, year] => {
            let digits = if words.len() == 5 { 2 } else { 1 };
            (
                WEEKDAYS.iter().position(|weekday| short(name, weekday)),
                number(day, digits),
                month,
                number(year, 4),
                time,
            )
        }
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let days = days_since_1970(year?, month, day?)?;
    // The first one was a Thursday.
    let is_that = |weekday: usize| u64::try_from(weekday) == Ok(days.saturating_add(3) % 7);
    weekday.filter(|weekday| is_that(*weekday))?;
    let [hours, minutes, seconds] = parts(time, b':')?.map(|part| number(part, 2));
    let in_time = [(Some(days), 86_400, u64::MAX), (hours, 3600, 24), (minutes, 60, 60), (seconds, 1, 60)];
    let in_seconds = |(count, each, below): (Option<u64>, u64, u64)| {
        count.filter(|count| *count < below).map(|count| count.saturating_mul(each))
    };
    let seconds: u64 = in_time.into_iter().map(in_seconds).sum::<Option<u64>>()?;
    Some(seconds.saturating_mul(1000))
}

/// Three parts of a text.
fn parts(text: &[u8], separator: u8) -> Option<[&[u8]; 3]> {
    text.split(|byte| *byte == separator).collect::<Vec<_>>().try_into().ok()
}

/// A number of so many digits.
fn number(text: &[u8], digits: usize) -> Option<u64> {
    let fits = text.len() == digits && text.iter().all(u8::is_ascii_digit);
    fits.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// How many days lie between the first of January 1970 and a day of a month, of which January is 0.
fn days_since_1970(year: u64, month: usize, day: u64) -> Option<u64> {
    let leaps = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leaps(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let exists = year >= 1970 && (1..=*lengths.get(month)?).contains(&day);
    let years = (1970..year).map(|year| if leaps(year) { 366 } else { 365 });
    exists.then(|| years.chain(lengths.into_iter().take(month)).sum::<u64>().saturating_add(day).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_forms_are_one_date_and_anything_else_is_none() {
        for text in ["Mon, 24 Nov 2025 16:00:00 GMT", "Monday, 24-Nov-25 16:00:00 GMT", "Mon Nov 24 16:00:00 2025"] {
            assert_eq!(http_date_ms(text.as_bytes()), Some(1_764_000_000_000), "{text}");
        }
        assert_eq!(http_date_ms(b"Thu Nov  6 16:00:00 2025"), Some(1_762_444_800_000));
        for text in [
            "",
            "0",
            "-1",
            "Mon, 24 Nov 2025 16:00:00 UTC",
            "Mon 24 Nov 2025 16:00:00 GMT",
            "Tue, 24 Nov 2025 16:00:00 GMT",
            "Mon, 31 Nov 2025 16:00:00 GMT",
            "Mon, 24 Nov 2025 24:00:00 GMT",
            "Mon, 24 Nov 2025 16:00:60 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "\u{663}",
        ] {
            assert_eq!(http_date_ms(text.as_bytes()), None, "{text}");
        }
    }

    fn as_httpdate_reads(text: &str) -> Option<u64> {
        let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    }

    /// The second, in all three forms.
    fn forms(seconds: u64) -> [String; 3] {
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        let [name, day, month, year, time] = [&date[..3], &date[5..7], &date[8..11], &date[12..16], &date[17..25]];
        let weekday = WEEKDAYS.iter().find(|weekday| weekday.starts_with(name.as_bytes())).expect("a day");
        let weekday = std::str::from_utf8(weekday).expect("a name");
        let padded = day.strip_prefix('0').map_or(day.to_owned(), |day| format!(" {day}"));
        [
            date.clone(),
            format!("{weekday}, {day}-{month}-{} {time} GMT", &year[2..]),
            format!("{name} {month} {padded} {time} {year}"),
        ]
    }

    proptest! {
        #[test]
        fn it_reads_what_httpdate_reads(seconds in 0..253_402_300_800_u64, place in 0..29_usize, other in "[ -~]") {
            for form in forms(seconds) {
                prop_assert_eq!(http_date_ms(form.as_bytes()), as_httpdate_reads(&form), "{}", form);
                let mut broken = form;
                if place < broken.len() {
                    broken.replace_range(place..=place, &other);
                    let read = http_date_ms(broken.as_bytes());
                    prop_assert!(read.is_none() || read == as_httpdate_reads(&broken), "{}: {:?}", broken, read);
                }
            }
        }
    }
}
