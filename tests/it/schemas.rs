//! The JSON Schemas under `docs/schema/` are those that the program makes. `UPDATE_GOLDEN=1` writes them anew.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use clawhook::spec::extensions;
use clawhook::spec::schema::{FileKind, schema};

#[test]
fn checked_in_schemas_are_current() {
    for kind in FileKind::ALL {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{}.schema.json", kind.name()));
        let text = serde_json::to_string_pretty(&schema(kind, &extensions())).unwrap() + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let checked_in = fs::read_to_string(&path).unwrap_or_default();
        assert!(text == checked_in, "{} is old: run the tests with UPDATE_GOLDEN=1", path.display());
    }
}
