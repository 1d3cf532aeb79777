//! Reports in the form of JUnit, which CI systems show.

use std::fmt::Write as _;

use super::Outcome;

/// A test suite for each file, a test case for each case.
pub fn report(outcomes: &[Outcome<'_>]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for suite in outcomes.chunk_by(|one, other| one.file == other.file) {
        let failed = suite.iter().filter(|outcome| !outcome.verdict.passed()).count();
        let seconds: f64 = suite.iter().map(|outcome| outcome.took.as_secs_f64()).sum();
        let name = escaped(&suite[0].file.display().to_string());
        let tests = suite.len();
        // Writing to a string can't fail.
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failed}\" errors=\"0\" time=\"{seconds:.3}\">"
        );
        for Outcome { verdict, took, .. } in suite {
            let case = escaped(&verdict.case);
            let seconds = took.as_secs_f64();
            let _ = write!(xml, "    <testcase classname=\"{name}\" name=\"{case}\" time=\"{seconds:.3}\"");
            let _ = if verdict.passed() {
                writeln!(xml, "/>")
            } else {
                let (seed, text) = (verdict.seed, escaped(&verdict.to_string()));
                writeln!(xml, ">\n      <failure message=\"failed with seed {seed}\">{text}</failure>\n    </testcase>")
            };
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Text for attributes and content. What XML can't hold at all, such as most control characters, is replaced.
fn escaped(text: &str) -> String {
    let mut xml = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\n' => xml.push('\n'),
            char if char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}') => xml.push('\u{fffd}'),
            char => xml.push(char),
        }
    }
    xml
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn no_text_ends_its_element_or_its_document() {
        assert_eq!(escaped("a <b> & \"c\"\u{1b}[0m\n"), "a &lt;b&gt; &amp; &quot;c&quot;\u{fffd}[0m\n");
    }
}
