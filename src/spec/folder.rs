//! The folders `routes/` and `workflows/`: which files are read, and how much of them.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::diagnostic::Problem;
use super::source_map::{Source, Span};
use crate::limits;

/// A file, read and not yet understood.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// The name that reports call it by.
    pub name: String,
    /// The content, at most one byte more than [`limits::YAML_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// All files of one load.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The files of `routes/`.
    pub routes: Vec<SourceFile>,
    /// The files of `workflows/`.
    pub workflows: Vec<SourceFile>,
}

impl Files {
    /// Reads every `*.yaml` and `*.yml` of both folders and the folders in them, sorted by name. Names that begin with a
    /// dot are passed over, and so are folders nested deeper than [`limits::FOLDER_DEPTH_MAX`]. Reports call a file by
    /// its path from `base`, if it lies there.
    ///
    /// Tests and what belongs to them are not among them: see [`SourceFile::tests`].
    ///
    /// This blocks on the disk: a server calls it on a thread that may block.
    pub fn read(routes: &Path, workflows: &Path, base: &Path, problems: &mut Vec<Problem>) -> Self {
        let mut folder = |path: &Path, setting| read_folder(path, base, setting, |path| !is_for_tests(path), problems);
        Self { routes: folder(routes, "paths.routes"), workflows: folder(workflows, "paths.workflows") }
    }
}

impl SourceFile {
    /// Reads every test (`*.test.yaml`) of a folder and the folders in it, sorted by name; `base` as in [`Files::read`].
    /// A folder that cannot be read has none: whoever reads the workflows of it says why.
    pub fn tests(folder: &Path, base: &Path) -> Vec<Self> {
        read_folder(folder, base, "paths.workflows", is_test, &mut Vec::new())
    }

    /// Reads one file.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(path: &Path, base: &Path) -> io::Result<Self> {
        Ok(Self { name: shown(path, base), bytes: read(path)? })
    }
}

/// Whether a file holds tests, by its name.
fn is_test(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.ends_with(".test.yaml") || name.ends_with(".test.yml")
}

/// Whether a file, by its path inside the folder, is read for tests only: it holds tests, or lies in `fixtures`.
fn is_for_tests(path: &Path) -> bool {
    is_test(path) || path.parent().is_some_and(|folder| folder.components().any(|part| part.as_os_str() == "fixtures"))
}

fn read_folder(
    folder: &Path,
    base: &Path,
    setting: &str,
    wanted: fn(&Path) -> bool,
    problems: &mut Vec<Problem>,
) -> Vec<SourceFile> {
    let mut found = Vec::new();
    if let Err(error) = list(folder, 0, &mut found) {
        let message = format!("the folder cannot be read: {}", why(&error));
        problems
            .push(told(&shown(folder, base), message).help(format!("make it, or set `{setting}` to the right one")));
        return Vec::new();
    }
    found.retain(|path| wanted(path.strip_prefix(folder).unwrap_or(path)));
    found.sort();
    if found.len() > limits::FILES_MAX {
        let message = format!("the folder has {} files; at most {} are read", found.len(), limits::FILES_MAX);
        problems.push(told(&shown(folder, base), message).help("write several routes into one file"));
        return Vec::new();
    }
    let mut files = Vec::new();
    for path in found {
        let name = shown(&path, base);
        match read(&path) {
            Ok(bytes) => files.push(SourceFile { name, bytes }),
            Err(error) => {
                let message = format!("the file cannot be read: {}", why(&error));
                problems.push(told(&name, message).help("check who may read it"));
            }
        }
    }
    files
}

fn list(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        // Follows symlinks, by which files are mounted and switched as a whole; a link that leads nowhere is told later.
        if path.is_dir() {
            if depth < limits::FOLDER_DEPTH_MAX {
                list(&path, depth + 1, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            found.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is allowed shows that there is too much.
    fs::File::open(path)?.take(limits::YAML_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn shown(path: &Path, base: &Path) -> String {
    path.strip_prefix(base).unwrap_or(path).display().to_string()
}

fn told(name: &str, message: String) -> Problem {
    Problem::new("spec.file", message, &Source::new(name, ""), Span::default())
}

/// The reason without the number that the system calls it by.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it is not there".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn yaml_files_are_read_in_order_and_the_rest_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        fs::create_dir_all(base.join("routes/shops")).unwrap();
        fs::create_dir_all(base.join("routes/.git")).unwrap();
        fs::create_dir_all(base.join("routes/fixtures/us")).unwrap();
        for name in [
            "routes/b.yml",
            "routes/a.yaml",
            "routes/shops/us.yaml",
            "routes/.git/x.yaml",
            "routes/.a.yaml",
            "routes/a.txt",
            "routes/a.test.yaml",
            "routes/shops/b.test.yml",
            "routes/fixtures/us/c.yaml",
        ] {
            fs::write(base.join(name), name).unwrap();
        }
        let mut problems = Vec::new();
        let files = Files::read(&base.join("routes"), &base.join("workflows"), base, &mut problems);
        let names: Vec<&str> = files.routes.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["routes/a.yaml", "routes/b.yml", "routes/shops/us.yaml"]);
        assert_eq!(files.routes[2].bytes, b"routes/shops/us.yaml");
        let tests: Vec<String> =
            SourceFile::tests(&base.join("routes"), base).into_iter().map(|file| file.name).collect();
        assert_eq!(tests, ["routes/a.test.yaml", "routes/shops/b.test.yml"]);
        let told: Vec<String> =
            problems.iter().map(|problem| format!("{}: {problem}", problem.spot.source.name())).collect();
        assert_eq!(told, ["workflows: the folder cannot be read: it is not there"]);
    }
}
