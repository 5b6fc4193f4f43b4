//! The shipped files load without a word, and their older revisions compile from their texts.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use clawhook::settings::Settings;
use clawhook::spec::diagnostic::{Look, Report};
use clawhook::spec::{self, Files};

#[test]
fn the_shipped_files_have_no_problems() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (settings, mut problems) = Settings::load(&root.join("clawhook.yaml"), []);
    let settings = settings.unwrap();
    let files = Files::read(&settings.routes, &settings.workflows, &settings.folder, &mut problems);
    let loaded = spec::load(&files, &settings.around());
    problems.extend(loaded.problems);
    assert!(problems.is_empty(), "{}", Report::new(problems).render(Look::Plain));

    let catalog = loaded.catalog;
    assert_eq!((catalog.workflows.len(), catalog.routes.len(), catalog.schedules.len()), (5, 1, 1));
    for plan in catalog.workflows.values() {
        let again = spec::compile_workflow("stored", &catalog.documents[&plan.revision]).unwrap();
        assert_eq!((again.name, again.revision), (plan.name.clone(), plan.revision.clone()));
    }
    let route = &catalog.routes["shopify-us-orders"];
    let again = spec::compile_routes("stored", &catalog.documents[&route.revision]).unwrap();
    assert_eq!(again.routes[0].revision, route.revision);
}
