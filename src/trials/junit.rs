//! Results of tests as JUnit XML, which build servers show.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Mismatch, Outcome};

/// One `testsuite` for each file, one `testcase` for each test.
pub fn report(outcomes: &[Outcome]) -> String {
    let failed = |outcomes: &[Outcome]| outcomes.iter().filter(|outcome| !outcome.passed()).count();
    let secs = |outcomes: &[Outcome]| seconds(outcomes.iter().map(|outcome| outcome.took).sum());
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        xml,
        "<testsuites name=\"clawhook\" tests=\"{}\" failures=\"{}\" time=\"{}\">",
        outcomes.len(),
        failed(outcomes),
        secs(outcomes)
    );
    for suite in outcomes.chunk_by(|a, b| a.file == b.file) {
        let file = suite.first().map(|outcome| escaped(&outcome.file)).unwrap_or_default();
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{}\" time=\"{}\">",
            suite.len(),
            failed(suite),
            secs(suite)
        );
        for outcome in suite {
            let (name, time) = (escaped(&outcome.name), seconds(outcome.took));
            let head = format!(
                "    <testcase name=\"{name}\" classname=\"{file}\" file=\"{file}\" line=\"{}\" time=\"{time}\"",
                outcome.line
            );
            if outcome.passed() {
                let _ = writeln!(xml, "{head}/>");
                continue;
            }
            let subjects: Vec<&str> = outcome.mismatches.iter().map(|mismatch| mismatch.subject.as_str()).collect();
            let text: Vec<String> = outcome.mismatches.iter().map(Mismatch::plain).collect();
            let _ = writeln!(
                xml,
                "{head}>\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                escaped(&subjects.join(", ")),
                escaped(&text.join("\n"))
            );
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn seconds(took: Duration) -> String {
    format!("{}.{:03}", took.as_secs(), took.subsec_millis())
}

/// XML 1.0 has no way to write most control characters, escaped or not.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\t' => safe.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push(char::REPLACEMENT_CHARACTER),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::Change;
    use super::*;

    #[test]
    fn a_report_holds_every_test() {
        let outcome = |file: &str, name: &str, mismatches| Outcome {
            file: file.into(),
            line: 4,
            name: name.into(),
            took: Duration::from_millis(12),
            mismatches,
        };
        let mismatch = Mismatch {
            subject: "state".into(),
            at: (9, 7),
            differences: vec![Change { place: "a".into(), expected: Some("1".into()), actual: Some("<2>".into()) }],
            notes: vec!["a\u{1b}[0m".into()],
        };
        let outcomes =
            [outcome("a.test.yaml", "one & \"two\"", vec![]), outcome("b.test.yaml", "three", vec![mismatch])];
        insta::assert_snapshot!(report(&outcomes));
    }
}
