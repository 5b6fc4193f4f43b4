//! The only place of the command line that writes: results to stdout, everything else to stderr. A reader that goes
//! away (`clawhook runs list | head`) is no error.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use super::error::Error;

/// How results look, and where they go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// Results may carry colours.
    pub(super) colours: bool,
    /// Somebody watches stderr, so progress may move.
    pub(super) watched: bool,
}

impl Output {
    /// What this process has; `plain` when colours are not wanted.
    pub(super) fn detect(plain: bool) -> Self {
        Self { colours: !plain && io::stdout().is_terminal(), watched: io::stderr().is_terminal() }
    }

    /// The palette for results.
    pub(super) fn paint(self) -> Paint {
        Paint(self.colours)
    }
}

/// A result.
pub(super) fn print(text: &str) {
    // There is nobody left to tell that this went wrong.
    drop(write(&mut io::stdout().lock(), text));
}

/// A result as JSON, numbers as they came.
pub(super) fn print_json(value: &impl serde::Serialize) {
    print(&pretty(value));
}

/// The answer as it came, or in words.
pub(super) fn show(json: bool, answer: &Value, words: impl FnOnce() -> String) {
    if json {
        print_json(answer);
    } else {
        print(&words());
    }
}

/// Something for the person beside the result.
pub(super) fn note(text: &str) {
    drop(write(&mut io::stderr().lock(), text));
}

/// Why the command failed.
pub(super) fn error(error: &Error) {
    note(&told(error));
}

fn write(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        to.write_all(b"\n")?;
    }
    to.flush()
}

fn told(error: &Error) -> String {
    let mut text = format!("error: {}\n", error.message);
    if let Some(help) = &error.help {
        text.push_str("help: ");
        text.push_str(&help.trim_end().replace('\n', "\n      "));
        text.push('\n');
    }
    if let Some(code) = &error.code {
        for part in ["code: ", code, " (`clawhook explain ", code, "` says more)\n"] {
            text.push_str(part);
        }
    }
    text
}

/// JSON for people and for programs alike.
pub(super) fn pretty(value: &impl serde::Serialize) -> String {
    // Everything that is printed is a JSON value already; there is nothing in it that could fail.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    pub(super) fn bold(self, text: &str) -> String {
        self.sgr("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.sgr("2", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.sgr("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.sgr("31", text)
    }

    /// A state of a run or task in its colour.
    pub(super) fn state(self, state: &str) -> String {
        let code = match state {
            "succeeded" => "32",
            "failed" => "31",
            "waiting" | "retrying" | "cancelling" => "33",
            "running" | "started" => "36",
            "cancelled" | "skipped" => "2",
            _ => return state.to_owned(),
        };
        self.sgr(code, state)
    }

    fn sgr(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Text from outside, safe to show on a terminal: control characters, which could move the cursor or start an escape
/// sequence, become visible. Line breaks and tabs stay.
pub(super) fn visible(text: &str) -> String {
    let show = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let error = Error::new("there is no run `run_1`").help("list them\nor not").code("api.not_found");
        assert_eq!(
            told(&error),
            "error: there is no run `run_1`\nhelp: list them\n      or not\ncode: api.not_found (`clawhook explain \
             api.not_found` says more)\n"
        );
        assert_eq!(told(&Error::new("no")), "error: no\n");
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(visible("a\u{1b}[2Jb\r\n\t订"), "a\u{fffd}[2Jb\u{fffd}\n\t订");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert_eq!(Paint(false).state("failed"), "failed");
        assert_eq!(Paint(true).state("failed"), "\u{1b}[31mfailed\u{1b}[0m");
        assert_eq!(Paint(true).state("queued"), "queued");
    }
}
