//! Every file of `tests/bad/` against the report beside it, exactly as `clawhook check` prints it.
//!
//! The part of the name before the first `-` says what kind of file it is. Settings are read with the variables of the
//! `.env` file beside them; routes stand beside the workflows of [`WORKFLOWS`]; a folder `set-…` holds `routes/` and
//! `workflows/`, which are loaded together. Run with `UPDATE_GOLDEN=1` to write the reports anew, then read every one
//! that changed.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use clawhook::domain::secret::{Error, SecretRef, SecretValue, Secrets};
use clawhook::settings::Settings;
use clawhook::spec::diagnostic::{Look, Problem, Report};
use clawhook::spec::{self, Around, Files, Loaded, SourceFile};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// The workflows that the routes and schedules of the bad files can name.
const WORKFLOWS: [&str; 2] = [
    "version: 1\nname: w\ntasks: [{ id: one, type: wait, with: { for: 1s } }]\n",
    "version: 1\nname: order-to-erp\ninputs:\n  shop: { type: string, required: true }\n  order: { type: object, required: true }\n\
     \x20 limit: { type: integer, default: 3 }\ntasks: [{ id: one, type: wait, with: { for: 1s } }]\n",
];

/// Has every secret but those whose name ends in `-gone`.
#[derive(Debug)]
struct Known;

#[async_trait]
impl Secrets for Known {
    async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, Error> {
        if reference.name.as_str().ends_with("-gone") {
            let (name, help) = (reference.name.clone(), "set `CLAWHOOK_SECRET_…` and start again".to_owned());
            return Err(Error::Missing { name, source_name: "environment", help });
        }
        Ok(SecretValue::new("value"))
    }
}

fn bad() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad")
}

/// The files and folders that are to be reported on, in order.
fn bad_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(bad()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn around() -> Around {
    Around {
        connections: ["erp".parse().unwrap(), "oms".parse().unwrap()].into(),
        channels: ["ops-wecom".parse().unwrap()].into(),
        blobs: [("reports".to_owned(), true), ("shared".to_owned(), false)].into(),
        ..Around::default()
    }
}

fn report(path: &Path) -> Report {
    if path.is_dir() {
        let mut problems = Vec::new();
        let files = Files::read(&path.join("routes"), &path.join("workflows"), path, &mut problems);
        return report_on_load(problems, spec::load(&files, &around()));
    }
    report_on(path, &fs::read(path).unwrap())
}

fn report_on(path: &Path, bytes: &[u8]) -> Report {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let kind = name.split('-').next().unwrap().to_owned();
    let file = SourceFile { name, bytes: bytes.to_vec() };
    let files = match kind.as_str() {
        "settings" => return report_on_settings(path, &file),
        "routes" => {
            let workflow = |text: &&str| SourceFile { name: "w.yaml".into(), bytes: text.as_bytes().to_vec() };
            Files { routes: vec![file], workflows: WORKFLOWS.iter().map(workflow).collect() }
        }
        "workflow" => Files { routes: Vec::new(), workflows: vec![file] },
        _ => panic!("{} does not say its kind", path.display()),
    };
    report_on_load(Vec::new(), spec::load(&files, &around()))
}

fn report_on_settings(path: &Path, file: &SourceFile) -> Report {
    let env =
        fs::read_to_string(path.with_extension("env")).unwrap_or("JWT_SECRET=0123456789abcdef0123456789abcdef".into());
    let env =
        env.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned()));
    // A folder that is the same on every machine, because some reports show it.
    let (settings, problems) = Settings::resolve(&file.name, &file.bytes, Path::new("/etc/clawhook"), env);
    let secrets = settings.map(|settings| settings.secrets_named).unwrap_or_default();
    report_on_load(problems, Loaded { secrets, ..Loaded::default() })
}

fn report_on_load(mut problems: Vec<Problem>, loaded: Loaded) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    problems.extend(loaded.problems);
    problems.extend(runtime.block_on(spec::missing_secrets(&loaded.secrets, &Known)));
    Report::new(problems)
}

#[test]
fn bad_files_are_explained() {
    let mut differences = Vec::new();
    for path in bad_files() {
        let report = report(&path);
        assert!(!report.problems().is_empty(), "{} has nothing wrong", path.display());
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
    let check = |name: &str, places: &[(usize, usize, usize)]| {
        let entries = report(&bad().join(name)).entries();
        let found: Vec<_> = entries.iter().map(|entry| (entry.line, entry.column, entry.end_column)).collect();
        assert_eq!(found, places, "{name}");
    };
    check("workflow-chinese.yaml", &[(3, 23, 29), (5, 40, 41), (5, 45, 47)]);
    check("workflow-bom-and-crlf.yaml", &[(2, 7, 8), (6, 5, 10)]);
    check("workflow-emoji-columns.yaml", &[(4, 29, 34)]);
    check("workflow-tab.yaml", &[(5, 1, 2)]);
    check("workflow-places.yaml", &[(10, 18, 34), (11, 31, 47), (12, 32, 48), (20, 19, 35), (23, 19, 35)]);
}

/// Damages every file in many ways. What is asked for is only an answer: no panic, and a report that renders.
#[test]
fn no_damage_breaks_the_reader() {
    const PIECES: &[&str] = &[
        "{", "}", "[", "]", "{{", "${{ ", " }}", ": ", "\"", "'", "\n", "\t", "\r\n", "- ", "*", "&a ", "#", "!", "|",
        "名", "\u{feff}", "---\n", "\0",
    ];
    let mut random = StdRng::seed_from_u64(20_261_122);
    for path in bad_files().iter().filter(|path| path.is_file()) {
        let text: Vec<char> = String::from_utf8_lossy(&fs::read(path).unwrap()).chars().collect();
        for _ in 0..40 {
            let mut text = text.clone();
            for _ in 0..random.random_range(1..4) {
                let from = random.random_range(0..=text.len());
                let to = (from + random.random_range(0..4)).min(text.len());
                text.splice(from..to, PIECES.choose(&mut random).unwrap().chars());
            }
            let damaged: String = text.into_iter().collect();
            let report = report_on(path, damaged.as_bytes());
            let snippets = report.render(Look::Plain).matches("╭─[").count();
            assert!(snippets >= report.problems().len(), "{damaged}");
        }
    }
}
