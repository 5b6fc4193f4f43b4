//! Whole sets of files against the reports beside them, exactly as `clawhook check` prints them.
//!
//! A folder of `tests/bad/sets/` holds `clawhook.yaml`, `routes/`, `workflows/` and the golden `report.txt`. Run with
//! `UPDATE_GOLDEN=1` to write the reports anew, then read every one that changed.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use clawhook::spec::diagnostic::{Look, Report};
use clawhook::spec::{self, Around, Files};

#[test]
fn shipped_examples_have_no_problems() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut problems = Vec::new();
    let files = Files::read(&root.join("routes"), &root.join("workflows"), root, &mut problems);
    let around = Around { connections: ["erp".parse().unwrap()].into(), ..Around::default() };
    let loaded = spec::load(&files, &around);
    problems.extend(loaded.problems);
    assert!(problems.is_empty(), "{}", Report::new(problems).render(Look::Plain));
    assert_eq!(loaded.catalog.routes.len(), 1);
}
