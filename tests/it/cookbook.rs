//! The cookbook can be copied: each recipe, as it stands in the document, is a set of files without a problem, and both
//! languages hold the same files.

use std::collections::BTreeSet;

use clawhook::boot;

use crate::app::{Folder, OPEN};

const ENGLISH: &str = include_str!("../../docs/cookbook.md");
const CHINESE: &str = include_str!("../../docs/cookbook.zh-CN.md");

/// The recipes: their heading, and their files by name.
fn recipes(document: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    let recipes = document.split("\n## ").skip(1);
    recipes.map(|recipe| (recipe.lines().next().unwrap_or_default(), blocks(recipe))).collect()
}

/// The blocks of YAML, each with the file that its first line names.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .map(|block| block.strip_prefix("# ").and_then(|block| block.split_once('\n')).expect("a block names its file"))
        .collect()
}

#[tokio::test]
async fn every_recipe_can_be_copied() {
    let recipes = recipes(ENGLISH);
    assert!(recipes.len() >= 8, "{} recipes", recipes.len());
    for (heading, files) in recipes {
        let folder = Folder::new("", None);
        let settings = files.iter().find(|(name, _)| *name == "clawhook.yaml").map_or("", |(_, text)| text);
        folder.write("clawhook.yaml", &format!("{OPEN}{settings}"));
        for (name, text) in files.iter().filter(|(name, _)| *name != "clawhook.yaml") {
            folder.write(name, text);
        }
        for secret in secrets(&files) {
            folder.secret(secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        }
        let (_, loaded) = boot::read_files(&folder.path("clawhook.yaml"), &folder.env).await;
        assert!(loaded.problems.is_empty(), "`{heading}` has problems: {:#?}", loaded.problems);
        assert!(!loaded.catalog.workflows.is_empty(), "`{heading}` has no workflow");
    }
}

#[test]
fn both_languages_hold_the_same_files() {
    let files = |document| recipes(document).into_iter().map(|(_, files)| files).collect::<Vec<_>>();
    assert_eq!(files(ENGLISH), files(CHINESE));
}

fn secrets<'t>(files: &[(&str, &'t str)]) -> BTreeSet<&'t str> {
    let after = files.iter().flat_map(|(_, text)| text.split("secret_ref: ").skip(1));
    after.filter_map(|rest| rest.split([' ', '}', ',', '\n']).next()).collect()
}
