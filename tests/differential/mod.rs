//! The same filters and requests through a real Envoy and through host-test, in one run: what Envoy does is what host-test
//! has to do.
//!
//! Small probes tell what each callback is given and what each host call answers. Nothing is recorded: an Envoy that behaves in another
//! way shows at once.

mod case;
mod cases;
mod envoy;
mod grpc;
mod host;
mod http1;
mod seen;

use std::fmt::Write as _;

use routecache_harness::Result;

use case::Case;
use seen::Seen;

#[tokio::test(flavor = "multi_thread")]
async fn filters_see_the_same_in_envoy_and_in_host_test() -> Result<()> {
    let mut open = cases::all();
    let count = open.len();
    let mut differences = String::new();
    // A busy machine may glue pieces of a body together, or let a timeout pass: what differs is played again.
    for _ in 0..3 {
        let real = envoy::play(&open).await?;
        let played: Vec<(Case, Seen)> = open.into_iter().zip(real).collect();
        differences.clear();
        open = Vec::new();
        for (case, real) in played {
            let ours = host::play(&case);
            if ours != real {
                write!(differences, "\n{}:\n{}", case.name, difference(&real.lines(), &ours.lines())).unwrap();
                open.push(case);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
    }
    panic!("{} of {count} cases differ (- Envoy, + host-test):\n{differences}", open.len());
}

/// Lines of one and of the other, with those that both have (longest common subsequence).
fn difference(left: &[String], right: &[String]) -> String {
    let mut lengths = vec![vec![0_usize; right.len() + 1]; left.len() + 1];
    for (i, one) in left.iter().enumerate().rev() {
        for (j, other) in right.iter().enumerate().rev() {
            lengths[i][j] =
                if one == other { lengths[i + 1][j + 1] + 1 } else { lengths[i + 1][j].max(lengths[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < left.len() || j < right.len() {
        let (mark, line) = if i < left.len() && j < right.len() && left[i] == right[j] {
            (i, j) = (i + 1, j + 1);
            (' ', &left[i - 1])
        } else if j == right.len() || (i < left.len() && lengths[i + 1][j] >= lengths[i][j + 1]) {
            i += 1;
            ('-', &left[i - 1])
        } else {
            j += 1;
            ('+', &right[j - 1])
        };
        writeln!(out, "  {mark} {line}").unwrap();
    }
    out
}
