//! What `wrk` says when it is done.

use std::error::Error;

/// Requests answered, and the seconds that took.
///
/// # Errors
///
/// Some weren't answered with 2xx, or `report` isn't wrk's.
pub fn counted(report: &str) -> Result<(u64, f64), Box<dyn Error>> {
    if report.contains("Non-2xx") || report.contains("Socket errors") {
        return Err(format!("not all requests were answered well:\n{report}").into());
    }
    // `  123456 requests in 4.10s, 150.00MB read`
    let line = report.lines().find(|line| line.contains(" requests in ")).ok_or("wrk prints no count of requests")?;
    let mut words = line.split_whitespace();
    let requests = words.next().unwrap_or_default().parse()?;
    let seconds = words.nth(2).unwrap_or_default().trim_end_matches(',').trim_end_matches('s').parse()?;
    Ok((requests, seconds))
}
