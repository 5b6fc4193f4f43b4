//! The dependency tree keeps to `deny.toml` and to the advisories of `infra/advisories.toml`. No network: the tree is
//! cargo's own, offline. `cargo metadata` would name optional crates that no feature turns on, so `cargo tree` is
//! asked, which follows features.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use semver::{Version, VersionReq};
use serde::Deserialize;

/// The part of `deny.toml` that is enforced here.
#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
    advisories: Ignored,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Named>,
    skip: Vec<Named>,
}

/// A crate, or a crate at one version: `h2`, `h2@0.3.27`.
#[derive(Deserialize)]
struct Named {
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

#[derive(Deserialize)]
struct Ignored {
    ignore: Vec<IgnoredAdvisory>,
}

#[derive(Deserialize)]
struct IgnoredAdvisory {
    id: String,
}

#[derive(Deserialize)]
struct Snapshot {
    advisory: Vec<Advisory>,
}

#[derive(Deserialize)]
struct Advisory {
    id: String,
    #[serde(rename = "crate")]
    name: String,
    title: String,
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

impl Advisory {
    fn affects(&self, package: &Package) -> bool {
        self.name == package.name
            && !self.patched.iter().chain(&self.unaffected).any(|safe| safe.matches(&package.version))
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Package {
    name: String,
    version: Version,
    license: String,
}

impl Package {
    fn spec(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

#[test]
fn every_licence_is_on_the_list() {
    let allowed = policy().licenses.allow;
    let wrong: Vec<_> = tree("normal,build,dev")
        .into_iter()
        .filter(|package| !license::satisfied(&package.license, &allowed))
        .map(|package| format!("{}: `{}`", package.spec(), package.license))
        .collect();
    assert!(wrong.is_empty(), "licences outside `deny.toml`:\n{}", wrong.join("\n"));
}

#[test]
fn no_banned_crate_is_in_the_tree() {
    let banned = policy().bans.deny;
    let wrong: Vec<_> = tree("normal,build,dev")
        .iter()
        .filter_map(|package| {
            let ban = banned.iter().find(|ban| ban.spec == package.name || ban.spec == package.spec())?;
            Some(format!("{}: {}", package.spec(), ban.reason))
        })
        .collect();
    assert!(wrong.is_empty(), "crates that `deny.toml` bans:\n{}", wrong.join("\n"));
}

#[test]
fn no_crate_is_in_the_binary_twice_without_a_reason() {
    let skipped: BTreeSet<_> = policy().bans.skip.into_iter().map(|skip| skip.spec).collect();
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in tree("normal,build") {
        if !skipped.contains(&package.spec()) {
            versions.entry(package.name.clone()).or_default().push(package.version.to_string());
        }
    }
    let twice: Vec<_> = versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| format!("{name}: {}", versions.join(", ")))
        .collect();
    assert!(twice.is_empty(), "several versions of one crate; see `skip` in `deny.toml`:\n{}", twice.join("\n"));
}

#[test]
fn no_version_is_under_an_advisory() {
    let tree = tree("normal,build,dev");
    let snapshot: Snapshot = read("infra/advisories.toml");
    let ignored: BTreeSet<_> = policy().advisories.ignore.into_iter().map(|ignored| ignored.id).collect();
    let found: Vec<_> = snapshot
        .advisory
        .iter()
        .flat_map(|advisory| tree.iter().filter(|package| advisory.affects(package)).map(move |it| (advisory, it)))
        .collect();
    let open: Vec<_> = found
        .iter()
        .filter(|(advisory, _)| !ignored.contains(&advisory.id))
        .map(|(advisory, package)| format!("{} {}: {}", advisory.id, package.spec(), advisory.title))
        .collect();
    assert!(open.is_empty(), "versions with a known advisory:\n{}", open.join("\n"));
    for id in &ignored {
        assert!(found.iter().any(|(advisory, _)| advisory.id == *id), "`{id}` in `deny.toml` meets nothing: remove it");
    }
}

#[test]
fn every_crate_comes_from_the_registry() {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        name: String,
        source: Option<String>,
    }
    let lock: Lock = read("Cargo.lock");
    let local: Vec<_> =
        lock.package.iter().filter(|package| package.source.is_none()).map(|package| &package.name).collect();
    assert_eq!(local, ["clawhook"], "a path or a patch in `Cargo.toml`");
    for package in &lock.package {
        let source = package.source.as_deref().unwrap_or("registry+");
        assert!(source.starts_with("registry+"), "{} comes from `{source}`", package.name);
    }
}

/// The crates that the host's build uses, over edges of these kinds.
fn tree(edges: &str) -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--prefix", "none", "--edges", edges, "--format", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, it started this test");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree failed; does `cargo fetch --locked` help?\n{complaint}");
    let packages: BTreeSet<_> = String::from_utf8_lossy(&output.stdout).lines().map(package).collect();
    assert!(packages.len() > 100, "cargo tree named only {} crates", packages.len());
    packages.into_iter().collect()
}

/// Reads `name v1.2.3 (proc-macro)|MIT OR Apache-2.0 (*)`.
fn package(line: &str) -> Package {
    let (package, license) = line.split_once('|').expect("cargo tree prints the form that was asked for");
    let mut words = package.split(' ');
    let name = words.next().unwrap_or_default().to_owned();
    let version = words.next().and_then(|word| word.strip_prefix('v')).expect("a version follows the name");
    let license = license.trim_end_matches("(*)").trim().to_owned();
    Package { name, version: version.parse().expect("crate versions are semver"), license }
}

fn policy() -> Policy {
    read("deny.toml")
}

fn read<T: serde::de::DeserializeOwned>(file: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read `{file}`: {error}"));
    toml::from_str(&text).unwrap_or_else(|error| panic!("cannot read `{file}`: {error}"))
}

/// SPDX expressions, as far as crates use them: `OR`, `AND`, `WITH`, brackets, and the old `/` for `OR`.
mod license {
    use std::collections::BTreeSet;

    /// Whether some choice of the expression needs only licences of the list. What cannot be read is not satisfied.
    pub(super) fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
        let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let mut words = spaced.split_whitespace().peekable();
        let fine = either(&mut words, allowed);
        fine == Some(true) && words.next().is_none()
    }

    type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

    fn either(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
        let mut fine = both(words, allowed)?;
        while words.next_if_eq(&"OR").is_some() {
            fine |= both(words, allowed)?;
        }
        Some(fine)
    }

    fn both(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
        let mut fine = one(words, allowed)?;
        while words.next_if_eq(&"AND").is_some() {
            fine &= one(words, allowed)?;
        }
        Some(fine)
    }

    fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
        let word = words.next()?;
        if word == "(" {
            let fine = either(words, allowed)?;
            return words.next_if_eq(&")").map(|_| fine);
        }
        if matches!(word, ")" | "OR" | "AND" | "WITH") {
            return None;
        }
        let mut name = word.to_owned();
        if words.next_if_eq(&"WITH").is_some() {
            name = format!("{name} WITH {}", words.next()?);
        }
        Some(allowed.contains(&name))
    }

    #[test]
    fn expressions_are_read() {
        let allowed: BTreeSet<String> = ["MIT", "ISC", "BSD-3-Clause"].map(str::to_owned).into();
        let check = |expression: &str, fine: bool| assert_eq!(satisfied(expression, &allowed), fine, "{expression}");
        check("MIT", true);
        check("MIT/GPL-3.0", true);
        check("GPL-3.0-or-later", false);
        check("GPL-2.0-only OR MIT", true);
        check("ISC AND (GPL-3.0 OR MIT)", true);
        check("ISC AND (GPL-3.0 OR AGPL-3.0)", false);
        check("MIT OR ISC AND GPL-3.0", true);
        check("(MIT OR ISC) AND GPL-3.0", false);
        check("MIT WITH Some-exception", false);
        check("", false);
        check("(MIT", false);
        check("MIT MIT", false);
    }
}

#[test]
fn advisories_are_matched_by_version() {
    let advisory = |patched: &[&str], unaffected: &[&str]| Advisory {
        id: String::new(),
        name: "h2".into(),
        title: String::new(),
        patched: patched.iter().map(|range| range.parse().expect("a range")).collect(),
        unaffected: unaffected.iter().map(|range| range.parse().expect("a range")).collect(),
    };
    let check = |advisory: &Advisory, version: &str, affected: bool| {
        let package = package(&format!("h2 v{version}|MIT"));
        assert_eq!(advisory.affects(&package), affected, "{version}");
    };
    let two_lines = advisory(&[">=0.3.26, <0.4.0", ">=0.4.4"], &["<0.2.0"]);
    for (version, affected) in
        [("0.3.25", true), ("0.3.26", false), ("0.4.3", true), ("0.4.4", false), ("0.1.9", false)]
    {
        check(&two_lines, version, affected);
    }
    check(&advisory(&[], &[]), "9.9.9", true);
    check(&advisory(&[">=1.0.0"], &[]), "1.2.1+spec-1.1.0", false);
}
