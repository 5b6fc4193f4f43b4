//! The house rules that no compiler keeps: who may know whom, how long a file may be, and that tables, bounds and pages
//! are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file longer than this holds two ideas.
const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A source file: its path from `src/`, and its text without tests at the end.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The module of the house that it belongs to.
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_test(&self) -> bool {
        // The last one is the DST table of others, which only tests read.
        self.path.split('/').any(|part| ["tests", "tests.rs", "published.rs"].contains(&part))
    }

    /// Everything before the tests.
    fn work(&self) -> &str {
        let tests = self.text.match_indices("\n#[cfg(test)]\n").find(|(at, mark)| {
            let mut behind = self.text[at + mark.len()..].lines().skip_while(|line| line.starts_with("#["));
            behind.next().is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
        });
        tests.map_or(&self.text, |(at, _)| &self.text[..at])
    }
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    assert!(files.len() > 100, "the sources were not found");
    files
        .into_iter()
        .map(|file| Source {
            path: file.strip_prefix(root().join("src")).unwrap().to_str().unwrap().to_owned(),
            text: std::fs::read_to_string(&file).unwrap(),
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The floor of every module, from the `[n]` of its line in `lib.rs`, and its place in the list.
fn floors() -> BTreeMap<String, (u32, usize)> {
    let text = read("src/lib.rs");
    let lines: Vec<_> = text.lines().collect();
    let floors: BTreeMap<_, _> = lines
        .windows(2)
        .enumerate()
        .filter_map(|(place, pair)| {
            let name = pair[1].strip_prefix("pub mod ")?.strip_suffix(';')?;
            let floor = pair[0].strip_prefix("/// [")?.split(']').next()?.parse().ok()?;
            Some((name.to_owned(), (floor, place)))
        })
        .collect();
    assert_eq!(floors.len(), lines.iter().filter(|line| line.starts_with("pub mod ")).count(), "a module has no floor");
    floors
}

#[test]
fn modules_know_only_lower_floors() {
    let floors = floors();
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(&own) = floors.get(source.room()) else {
            assert!(["lib", "main"].contains(&source.room()), "{} belongs to no module", source.path);
            continue;
        };
        for known in known_rooms(&code(source.work())) {
            let floor = floors.get(&known).copied();
            if known != source.room() && !floor.is_some_and(|floor| may_know(own, floor)) {
                wrong.push(format!("{} on floor {} knows `{known}`: {floor:?}", source.path, own.0));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lower floors only. The ground floor has no floor below it: its rooms know those before them in the list.
fn may_know(own: (u32, usize), other: (u32, usize)) -> bool {
    other.0 < own.0 || (own.0 == 0 && other.0 == 0 && other.1 < own.1)
}

/// The code without comments.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Every `x` of a `crate::x`, also in `use crate::{x, y::z}`.
fn known_rooms(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            rooms.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (place, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    rooms.insert(word(&group[place..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    rooms
}

#[test]
fn rooms_are_found_in_every_form_of_use() {
    let check = |code: &str, rooms: &[&str]| {
        assert_eq!(known_rooms(code).iter().collect::<Vec<_>>(), rooms, "{code}");
    };
    check("use crate::store::{self, Store};", &["store"]);
    check("use crate::{clock::{A, B}, id, limits as l};", &["clock", "id", "limits"]);
    check("fn f(at: crate::clock::Timestamp) {}", &["clock"]);
}

#[test]
fn files_hold_one_idea() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|source| !source.is_test())
        .map(|source| (source.work().lines().count(), &source.path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "split these: {long:?}");
}

#[test]
fn nothing_is_left_to_do() {
    let mut wrong = Vec::new();
    for source in sources() {
        let work = code(source.work());
        for (number, line) in source.text.lines().enumerate() {
            if ["TODO", "FIXME", "todo!(", "unimplemented!("].iter().any(|mark| line.contains(mark)) {
                wrong.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
        if !source.is_test() && work.contains(".unwrap()") {
            wrong.push(format!("{}: `unwrap()` outside tests", source.path));
        }
        if work.contains("#[allow(") || work.contains("#![allow(") {
            wrong.push(format!("{}: `allow` instead of `expect` with a reason", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bounds_are_explained_and_used() {
    let (own, others): (Vec<_>, Vec<_>) = sources().into_iter().partition(|source| source.room() == "limits");
    let text: String = own.iter().map(|source| source.text.as_str()).collect();
    let lines: Vec<_> = text.lines().collect();
    let all: String = others.iter().map(Source::work).collect();
    let mut wrong = Vec::new();
    for pair in lines.windows(2) {
        let Some(name) = pair[1].strip_prefix("pub const ").and_then(|rest| rest.split(':').next()) else { continue };
        if !pair[0].starts_with("/// ") {
            wrong.push(format!("{name} is not explained"));
        }
        let used = all.contains(&format!("limits::{name}")) || text.matches(name).count() > 1;
        if !used {
            wrong.push(format!("{name} is not used"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every file of a folder that declares a row stands in the table of rows.
#[test]
fn tables_are_complete() {
    check_table("src/tasks", "pub(super) const KIND:", "src/tasks/mod.rs", "KIND");
    check_table("src/outbound/auth", "pub(super) const KIND:", "src/outbound/auth/mod.rs", "KIND");
    check_table("src/outbound/auth", "const KIND:", "src/outbound/auth/mod.rs", "KIND");
    check_table("src/signature", "pub(super) const SCHEME:", "src/signature/mod.rs", "SCHEME");
    check_table("src/channels", "pub(super) const CHANNEL:", "src/channels/mod.rs", "CHANNEL");
    check_table("src/secrets", "pub(super) const SOURCE:", "src/secrets/mod.rs", "SOURCE");
    check_table("src/http/api", "pub(super) const PART:", "src/http/api/mod.rs", "PART");
    check_table("src/store", "const BACKEND:", "src/store/mod.rs", "BACKEND");
}

fn check_table(folder: &str, row: &str, table: &str, name: &str) {
    let table_text = read(table);
    let mut files = Vec::new();
    collect(&root().join(folder), &mut files);
    let mut rows = 0;
    for file in files.iter().filter(|file| file.parent() == Some(&root().join(folder))) {
        let module = file.file_stem().unwrap().to_str().unwrap();
        if module == "mod" || !std::fs::read_to_string(file).unwrap().contains(row) {
            continue;
        }
        rows += 1;
        assert!(
            table_text.contains(&format!("{module}::{name}")),
            "{module} of {folder} is not in the table of {table}"
        );
    }
    assert!(rows > 0, "{folder} has no rows `{row}`");
}

#[test]
fn both_languages_say_the_same() {
    let (english, chinese) = (root().join("README.md"), root().join("README.zh-CN.md"));
    if !english.exists() && !chinese.exists() {
        return;
    }
    assert_eq!(headings(&english), headings(&chinese), "README.md and README.zh-CN.md have other chapters");
}

/// The depths of the headings, in order.
fn headings(path: &Path) -> Vec<usize> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut in_code = false;
    let mut depths = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if line.starts_with('#') && !in_code {
            depths.push(line.chars().take_while(|c| *c == '#').count());
        }
    }
    depths
}
