//! The JSON Schemas under `docs/schema/` and the reference under `docs/language/` are those that the program makes.
//! `UPDATE_GOLDEN=1` writes them anew.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

use clawhook::spec::extensions;
use clawhook::spec::schema::{FileKind, schema};

#[test]
fn checked_in_schemas_are_current() {
    for kind in FileKind::ALL {
        let text = serde_json::to_string_pretty(&schema(kind, &extensions())).unwrap() + "\n";
        check(&format!("docs/schema/{}.schema.json", kind.name()), &text);
    }
}

#[test]
fn the_checked_in_reference_is_current() {
    let pages = said(&["reference"]);
    let pages: Vec<_> = pages.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(pages.contains(&"tasks"), "{pages:?}");
    for page in pages {
        let text = said(&["reference", page]);
        assert_eq!(broken_links(&text), Vec::<&str>::new(), "in {page}");
        check(&format!("docs/language/{page}.md"), &text);
    }
}

fn said(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_clawhook")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Links to a section of the same page that it does not have.
fn broken_links(page: &str) -> Vec<&str> {
    let anchor = |heading: &str| {
        let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        heading.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-").chars().filter(kept).collect::<String>()
    };
    let anchors: Vec<_> = page.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    let links = page.split("](#").skip(1).filter_map(|rest| rest.split(')').next());
    links.filter(|link| !anchors.iter().any(|anchor| anchor == link)).collect()
}

/// Holds a file of the repository against what it should be.
fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == checked_in, "{name} is old: run the tests with UPDATE_GOLDEN=1");
}
