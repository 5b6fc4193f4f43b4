//! Every file of `tests/bad/` against the report beside it, exactly as `clawhook check` prints it.
//!
//! The part of the name before the first `-` says what kind of file it is. Run with `UPDATE_GOLDEN=1` to write the
//! reports anew, then read every one that changed.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use clawhook::spec::diagnostic::{Look, Report};
use clawhook::spec::schema::Extensions;
use clawhook::spec::structure::Reader;
use clawhook::spec::yaml;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

fn bad_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn extensions() -> Extensions {
    let http_request = json!({
        "type": "object",
        "properties": {
            "method": { "enum": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] },
            "path": { "type": "string" },
            "json": true,
            "accept_status": { "type": "array", "items": { "type": "integer" } },
        },
        "required": ["method"],
        "additionalProperties": false,
    });
    let wait =
        json!({ "type": "object", "properties": { "for": { "type": "string" } }, "additionalProperties": false });
    let shopify = json!({
        "type": "object",
        "properties": { "secret_ref": true, "tolerance": { "type": "string" } },
        "required": ["secret_ref"],
        "additionalProperties": false,
    });
    Extensions {
        tasks: vec![("http_request".into(), http_request), ("wait".into(), wait)],
        presets: vec![("shopify".into(), shopify)],
    }
}

fn report(reader: &Reader, path: &Path) -> Report {
    report_on(reader, path.file_name().unwrap().to_str().unwrap(), &fs::read(path).unwrap())
}

fn report_on(reader: &Reader, name: &str, bytes: &[u8]) -> Report {
    let mut problems = Vec::new();
    match yaml::decode(name, bytes) {
        Err(problem) => problems.push(*problem),
        Ok(source) => match name.split('-').next() {
            Some("settings") => drop(reader.settings(&source, &[], &mut problems)),
            Some("routes") => drop(reader.routes(&source, &mut problems)),
            Some("workflow") => drop(reader.workflow(&source, &mut problems)),
            _ => panic!("{name} does not say its kind"),
        },
    }
    Report::new(problems)
}

#[test]
fn bad_files_are_explained() {
    let reader = Reader::new(&extensions());
    let mut differences = Vec::new();
    for path in bad_files() {
        let report = report(&reader, &path);
        assert!(report.errors() > 0, "{} has nothing wrong", path.display());
        let text = report.render(Look::Plain);
        let golden = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if text != expected {
            differences.push(format!("{}\n--- expected\n{expected}\n--- found\n{text}", path.display()));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn places_for_programs_count_lines_and_characters_from_one() {
    let reader = Reader::new(&extensions());
    let check = |name: &str, places: &[(usize, usize, usize)]| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad").join(name);
        let entries = report(&reader, &path).entries();
        let found: Vec<_> = entries.iter().map(|entry| (entry.line, entry.column, entry.end_column)).collect();
        assert_eq!(found, places, "{name}");
    };
    check("workflow-chinese.yaml", &[(3, 23, 29), (5, 40, 41), (5, 45, 47)]);
    check("workflow-bom-and-crlf.yaml", &[(2, 7, 8), (6, 5, 10)]);
    check("workflow-emoji-columns.yaml", &[(4, 29, 34)]);
    check("workflow-tab.yaml", &[(5, 1, 2)]);
}

/// Damages every file in many ways. What is asked for is only an answer: no panic, and a report that renders.
#[test]
fn no_damage_breaks_the_reader() {
    const PIECES: &[&str] = &[
        "{", "}", "[", "]", "{{", "${{ ", " }}", ": ", "\"", "'", "\n", "\t", "\r\n", "- ", "*", "&a ", "#", "!", "|",
        "名", "\u{feff}", "---\n", "\0",
    ];
    let reader = Reader::new(&extensions());
    let mut random = StdRng::seed_from_u64(20_261_122);
    for path in bad_files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text: Vec<char> = String::from_utf8_lossy(&fs::read(&path).unwrap()).chars().collect();
        for _ in 0..40 {
            let mut text = text.clone();
            for _ in 0..random.random_range(1..4) {
                let from = random.random_range(0..=text.len());
                let to = (from + random.random_range(0..4)).min(text.len());
                text.splice(from..to, PIECES.choose(&mut random).unwrap().chars());
            }
            let damaged: String = text.into_iter().collect();
            let report = report_on(&reader, name, damaged.as_bytes());
            let snippets = report.render(Look::Plain).matches("╭─[").count();
            assert!(snippets >= report.problems().len(), "{damaged}");
        }
    }
}
