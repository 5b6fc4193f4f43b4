//! What is wrong with a file, where, and what to type instead; and the reports that people and programs read.
//!
//! A [`Problem`] is data. Nothing here decides what is a problem.

use std::fmt;
use std::sync::Arc;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};
use serde::Serialize;

use super::source_map::{Source, Span};

/// A place in a file, with a few words about it.
#[derive(Debug, Clone)]
pub struct Spot {
    /// The file.
    pub source: Arc<Source>,
    /// The part to underline.
    pub span: Span,
    /// What to say beside the underline; may be empty.
    pub label: String,
}

impl Spot {
    /// The underlined part, cut to its first line: a report shows where, not everything.
    fn shown(&self) -> Span {
        let text = self.source.slice(self.span);
        let first = text.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        Span::new(self.span.start, self.span.start + first.len())
    }
}

/// How much a [`Problem`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file works, and a person should look at this.
    Warning,
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The stable code, such as `spec.unknown_key`; each has a page under `docs/errors/`.
    pub code: &'static str,
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// What is wrong, in one sentence without a period.
    pub message: String,
    /// Where.
    pub spot: Spot,
    /// What to type.
    pub help: Option<String>,
    /// Other places that have a part in it, in the same file.
    pub related: Vec<Spot>,
}

impl Problem {
    /// An error at a place.
    pub fn new(code: &'static str, message: impl Into<String>, source: &Arc<Source>, span: Span) -> Self {
        let spot = Spot { source: Arc::clone(source), span, label: String::new() };
        Self { code, severity: Severity::Error, message: message.into(), spot, help: None, related: Vec::new() }
    }

    /// Adds the words beside the underline.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.spot.label = label.into();
        self
    }

    /// Adds what to type.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds another place of the same file.
    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push(Spot { source: Arc::clone(&self.spot.source), span, label: label.into() });
        self
    }

    /// Makes it a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.spot.source.as_ref())
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = |spot: &Spot, primary| {
            let span = spot.shown();
            let text = (!spot.label.is_empty()).then(|| spot.label.clone());
            let at = SourceSpan::from((span.start, span.end - span.start));
            if primary { LabeledSpan::new_primary_with_span(text, at) } else { LabeledSpan::new_with_span(text, at) }
        };
        let related = self.related.iter().map(move |spot| label(spot, false));
        Some(Box::new(std::iter::once(label(&self.spot, true)).chain(related)))
    }
}

/// Reads as miette's own source does, with the file's name, and with columns that count characters instead of bytes.
impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let contents = self.text().read_span(span, lines_before, lines_after)?;
        let (_, column) = self.position(contents.span().offset());
        Ok(Box::new(MietteSpanContents::new_named(
            self.name().to_owned(),
            contents.data(),
            *contents.span(),
            contents.line(),
            column - 1,
            contents.line_count(),
        )))
    }
}

/// How a [`Report`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Frames and colours, for a terminal.
    Colours,
    /// Frames without colours, for pipes, files and tests.
    Plain,
}

/// Widest line of a report, columns; help longer than this is wrapped.
const WIDTH: usize = 120;

/// Every problem of every file, by file and then by place.
#[derive(Debug, Clone, Default)]
pub struct Report {
    problems: Vec<Problem>,
}

impl Report {
    /// Sorts the problems into reading order. What an alias repeats is told once, where it is written.
    pub fn new(mut problems: Vec<Problem>) -> Self {
        fn order(problem: &Problem) -> (&str, Span, &str, &str, Option<&str>) {
            let spot = &problem.spot;
            (spot.source.name(), spot.span, problem.code, &spot.label, problem.help.as_deref())
        }
        problems.sort_by(|a, b| order(a).cmp(&order(b)));
        problems.dedup_by(|a, b| order(a) == order(b));
        Self { problems }
    }

    /// The problems in reading order.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many errors there are; warnings do not count.
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// The report for people.
    pub fn render(&self, look: Look) -> String {
        let theme = match look {
            Look::Colours => GraphicalTheme::unicode(),
            Look::Plain => GraphicalTheme::unicode_nocolor(),
        };
        let handler =
            GraphicalReportHandler::new_themed(theme).with_links(false).with_width(WIDTH).with_context_lines(1);
        let mut text = String::new();
        for problem in &self.problems {
            // Writing to a string cannot fail; the last resort keeps the sentence.
            if handler.render_report(&mut text, problem).is_err() {
                text.push_str(&problem.message);
            }
            text.push('\n');
        }
        text
    }

    /// The report for programs.
    pub fn entries(&self) -> Vec<Entry> {
        self.problems.iter().map(Entry::from).collect()
    }
}

/// One problem as `--json` and the API print it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The line where the underlined part ends.
    pub end_line: usize,
    /// The column just after the underlined part.
    pub end_column: usize,
    /// Error or warning.
    pub severity: Severity,
    /// The stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to type, if that can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl From<&Problem> for Entry {
    fn from(problem: &Problem) -> Self {
        let span = problem.spot.shown();
        let (line, column) = problem.spot.source.position(span.start);
        let (end_line, end_column) = problem.spot.source.position(span.end);
        Self {
            file: problem.spot.source.name().to_owned(),
            line,
            column,
            end_line,
            end_column,
            severity: problem.severity,
            code: problem.code,
            message: problem.message.clone(),
            help: problem.help.clone(),
        }
    }
}
