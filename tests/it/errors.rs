//! Every code that people can meet has a page, and every page belongs to a code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clawhook::cli::CODES;
use clawhook::http::problem;

/// What stands right before a code in the source: the constructors of failures, problems and refusals.
const CONSTRUCTORS: &[&str] = &[
    "Failure::new(",
    "Problem::new(",
    "Refused::new(",
    "Error::invalid(",
    ".problem(",
    ".at(",
    ".unknown(",
    ".text_problem(",
    "told(",
    "far(",
    "refuse(",
    "refuse_fetched(",
    "code: ",
    "let code = ",
];

/// Functions whose every text is a code.
const TABLES: &[(&str, &str)] = &[
    ("outbound/error.rs", "pub fn code(&self)"),
    ("signature/inbound.rs", "pub fn code(&self)"),
    ("gateway/mod.rs", "pub fn code(&self)"),
    ("gateway/deliveries.rs", "let code = match error"),
    ("sources/sqs/queue.rs", "fn code(&self)"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.file_stem().unwrap() != "tests" {
            found.push(path);
        }
    }
}

/// The part of a file before its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

fn is_code(text: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    text.split_once('.').is_some_and(|(area, rest)| word(area) && word(rest))
}

/// Texts in quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// The argument list that begins right after a constructor, as far as codes can stand in it.
fn arguments(text: &str) -> &str {
    let end = text.find([';', '{']).unwrap_or(text.len());
    &text[..end]
}

fn in_source() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut codes: BTreeSet<String> = problem::KINDS.iter().map(|kind| kind.code.to_owned()).collect();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let text = without_tests(&text);
        for constructor in CONSTRUCTORS {
            for (at, _) in text.match_indices(constructor) {
                let arguments = arguments(&text[at + constructor.len()..]);
                codes.extend(quoted(arguments).filter(|text| is_code(text)).map(str::to_owned));
            }
        }
        for (name, function) in TABLES.iter().filter(|(name, _)| file.ends_with(name)) {
            let start = text.find(function).unwrap_or_else(|| panic!("`{function}` is not in `{name}` any more"));
            let body = text[start..].split("\n    }").next().unwrap();
            codes.extend(quoted(body).map(str::to_owned));
        }
    }
    codes
}

fn pages() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| name.strip_suffix(".md").expect("a page ends in `.md`").to_owned()).collect()
}

#[test]
fn source_pages_and_table_hold_the_same_codes() {
    let table: BTreeSet<String> = CODES.iter().map(|(code, _)| (*code).to_owned()).collect();
    assert_eq!(table, pages(), "`docs/errors/` and the table in `src/cli/explain.rs` differ");
    let source = in_source();
    let without_page: Vec<_> = source.difference(&table).collect();
    assert!(
        without_page.is_empty(),
        "write a page in `docs/errors/` and a row in `src/cli/explain.rs` for {without_page:?}"
    );
    let without_source: Vec<_> = table.difference(&source).collect();
    assert!(without_source.is_empty(), "nothing in `src/` gives {without_source:?} any more");
}
