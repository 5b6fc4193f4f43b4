//! Files against their schemas: every problem at its place, and whatever is healthy as structs.
//!
//! A file is judged as JSON by the schema that is also published. What is healthy is then read into the structs of
//! [`super::raw`] item by item, so that one bad task hides nothing about the others.

mod judge;
mod later;
mod rewrite;
mod written;

use std::sync::{Arc, LazyLock};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use self::judge::Judge;
use super::diagnostic::Problem;
use super::overrides::{self, Homes, Override};
use super::raw;
use super::resolve::SecretUse;
use super::schema::{Extensions, FileKind};
use super::source_map::{Path, Source, SourceMap};
use super::yaml::{self, Document};
use crate::tasks::plan::Written;

/// Reads files and tells what is wrong with their form. Made once; the schemas are compiled then.
#[derive(Debug)]
pub struct Reader {
    settings: Judge,
    routes: Judge,
    workflow: Judge,
    /// Made when the first test is read: a gateway never reads one.
    test: LazyLock<Judge>,
    fixtures: LazyLock<Judge>,
}

/// One entry of a file.
#[derive(Debug)]
pub struct Item<T> {
    /// Where it stands.
    pub path: Path,
    /// What is written there.
    pub json: Value,
    /// The same as a struct; `None` when its form is wrong, which is then told already.
    pub raw: Option<T>,
}

impl<T> Item<T> {
    /// The text under a key, even of an entry whose form is wrong: names that others refer to.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.json.get(key)?.as_str()
    }
}

/// A `clawhook.yaml` whose form was judged.
#[derive(Debug)]
pub struct SettingsFile {
    /// Where everything stands.
    pub map: SourceMap,
    /// All but `connections` and `channels`, which are empty here.
    pub head: Option<raw::Settings>,
    /// The connections; the last key of the path is the name.
    pub connections: Vec<Item<raw::Connection>>,
    /// The channels; the last key of the path is the name.
    pub channels: Vec<Item<raw::Channel>>,
    /// Hashes of what is written.
    pub written: Written,
    homes: Homes,
}

impl SettingsFile {
    /// Puts problems and secrets where they belong: into the file, or into the variable that overrides it.
    pub fn send_home(&self, problems: &mut [Problem], secrets: &mut [SecretUse]) {
        for problem in problems {
            self.homes.send(problem);
        }
        for used in secrets {
            self.homes.send_spot(&mut used.spot);
        }
    }
}

/// A file of `routes/` whose form was judged.
#[derive(Debug)]
pub struct RoutesFile {
    /// Where everything stands.
    pub map: SourceMap,
    /// The routes.
    pub routes: Vec<Item<raw::Route>>,
    /// The sources.
    pub sources: Vec<Item<raw::Source>>,
    /// The schedules.
    pub schedules: Vec<Item<raw::Schedule>>,
}

/// A file of `workflows/` whose form was judged.
#[derive(Debug)]
pub struct WorkflowFile {
    /// Where everything stands.
    pub map: SourceMap,
    /// The name, even when the rest of the head is wrong.
    pub name: Option<String>,
    /// All but `inputs` and the four lists of tasks, which are empty here.
    pub head: Option<raw::Workflow>,
    /// The inputs; the last key of the path is the name.
    pub inputs: Vec<Item<raw::Input>>,
    /// The steps.
    pub tasks: Vec<Item<raw::Task>>,
    /// The steps after a failure.
    pub on_failure: Vec<Item<raw::Task>>,
    /// The steps after a success.
    pub on_success: Vec<Item<raw::Task>>,
    /// The steps at the end.
    pub finally: Vec<Item<raw::Task>>,
}

/// A file of tests whose form was judged.
#[derive(Debug)]
pub struct TrialsFile {
    /// Where everything stands.
    pub map: SourceMap,
    /// All but `tests`, which is empty here.
    pub head: Option<raw::Trials>,
    /// The tests.
    pub tests: Vec<Item<raw::Trial>>,
}

/// A file of fixtures whose form was judged.
#[derive(Debug)]
pub struct FixturesFile {
    /// Where everything stands.
    pub map: SourceMap,
    /// The exchanges.
    pub exchanges: Vec<Item<raw::Exchange>>,
}

impl Reader {
    /// Makes and compiles the schemas.
    pub fn new(extensions: &Extensions) -> Self {
        let judge = |kind| Judge::new(kind, extensions);
        Self {
            settings: judge(FileKind::Settings),
            routes: judge(FileKind::Routes),
            workflow: judge(FileKind::Workflow),
            test: LazyLock::new(|| Judge::new(FileKind::Test, &Extensions::default())),
            fixtures: LazyLock::new(|| Judge::new(FileKind::Fixtures, &Extensions::default())),
        }
    }

    /// Reads a `clawhook.yaml` with the environment's variables over it. `None` when nothing of it can be used.
    ///
    /// Problems that are found later about the same file go through [`SettingsFile::send_home`].
    pub fn settings(
        &self,
        source: &Arc<Source>,
        overrides: &[Override],
        problems: &mut Vec<Problem>,
    ) -> Option<SettingsFile> {
        let (document, homes) = overrides::read(source, overrides, problems)?;
        let parts = Parts::judge(&self.settings, document, problems);
        let entries = parts.map(|mut parts| {
            let written = written::written(&parts.json);
            let connections = parts.entries("connections", problems);
            let channels = parts.entries("channels", problems);
            (connections, channels, written, parts.head(&[], problems), parts.map)
        });
        for problem in problems.iter_mut() {
            homes.send(problem);
        }
        let (connections, channels, written, head, map) = entries?;
        Some(SettingsFile { map, head, connections, channels, written, homes })
    }

    /// Reads a file of `routes/`. `None` when nothing of it can be used.
    pub fn routes(&self, source: &Arc<Source>, problems: &mut Vec<Problem>) -> Option<RoutesFile> {
        let mut parts = Parts::read(&self.routes, source, problems)?;
        Some(RoutesFile {
            routes: parts.items("routes", problems),
            sources: parts.items("sources", problems),
            schedules: parts.items("schedules", problems),
            map: parts.map,
        })
    }

    /// Reads a file of tests. `None` when nothing of it can be used.
    pub fn trials(&self, source: &Arc<Source>, problems: &mut Vec<Problem>) -> Option<TrialsFile> {
        let mut parts = Parts::read(&self.test, source, problems)?;
        Some(TrialsFile {
            tests: parts.items("tests", problems),
            head: parts.head(&["tests"], problems),
            map: parts.map,
        })
    }

    /// Reads a file of fixtures. `None` when nothing of it can be used.
    pub fn fixtures(&self, source: &Arc<Source>, problems: &mut Vec<Problem>) -> Option<FixturesFile> {
        let mut parts = Parts::read(&self.fixtures, source, problems)?;
        Some(FixturesFile { exchanges: parts.items("exchanges", problems), map: parts.map })
    }

    /// Reads a file of `workflows/`. `None` when nothing of it can be used.
    pub fn workflow(&self, source: &Arc<Source>, problems: &mut Vec<Problem>) -> Option<WorkflowFile> {
        let mut parts = Parts::read(&self.workflow, source, problems)?;
        Some(WorkflowFile {
            name: parts.json.get("name").and_then(Value::as_str).map(str::to_owned),
            inputs: parts.entries("inputs", problems),
            tasks: parts.items("tasks", problems),
            on_failure: parts.items("on_failure", problems),
            on_success: parts.items("on_success", problems),
            finally: parts.items("finally", problems),
            head: parts.head(&["tasks"], problems),
            map: parts.map,
        })
    }
}

/// A judged file on its way into structs.
struct Parts {
    json: Map<String, Value>,
    map: SourceMap,
    /// The paths at which something is wrong.
    wrong: Vec<Path>,
    /// The keys whose entries were taken out, and are judged one by one.
    taken: Vec<&'static str>,
}

impl Parts {
    fn read(judge: &Judge, source: &Arc<Source>, problems: &mut Vec<Problem>) -> Option<Self> {
        Self::judge(judge, yaml::parse(source, problems)?, problems)
    }

    fn judge(judge: &Judge, Document { value, map }: Document, problems: &mut Vec<Problem>) -> Option<Self> {
        let mut wrong = judge.judge(&value, &map, problems)?;
        wrong.extend(map.refused());
        let Value::Object(json) = value else { return None };
        Some(Self { json, map, wrong, taken: Vec::new() })
    }

    /// Takes the list under a key apart.
    fn items<T: DeserializeOwned>(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Vec<Item<T>> {
        self.taken.push(key);
        let Some(Value::Array(items)) = self.json.remove(key) else { return Vec::new() };
        let path = Path::root().with(key);
        items.into_iter().enumerate().map(|(index, json)| self.item(path.with(index), json, problems)).collect()
    }

    /// Takes the map under a key apart.
    fn entries<T: DeserializeOwned>(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Vec<Item<T>> {
        self.taken.push(key);
        let Some(Value::Object(entries)) = self.json.remove(key) else { return Vec::new() };
        let path = Path::root().with(key);
        entries.into_iter().map(|(name, json)| self.item(path.with(name.as_str()), json, problems)).collect()
    }

    /// Reads what is left once the lists and maps are taken; `lists` are the required ones, left empty.
    fn head<T: DeserializeOwned>(&mut self, lists: &[&str], problems: &mut Vec<Problem>) -> Option<T> {
        let is_taken = |path: &Path| {
            self.taken.iter().any(|key| path.segments().len() > 1 && path.starts_with(&Path::root().with(*key)))
        };
        if !self.wrong.iter().all(is_taken) {
            return None;
        }
        let mut json = std::mem::take(&mut self.json);
        for list in lists {
            json.insert((*list).to_owned(), Value::Array(Vec::new()));
        }
        self.deserialize(&Path::root(), &Value::Object(json), problems)
    }

    fn item<T: DeserializeOwned>(&self, path: Path, json: Value, problems: &mut Vec<Problem>) -> Item<T> {
        let is_wrong = self.wrong.iter().any(|wrong| wrong.starts_with(&path));
        let raw = if is_wrong { None } else { self.deserialize(&path, &json, problems) };
        Item { path, json, raw }
    }

    /// The schema has accepted the value; should serde see more than the schema, it says so here.
    fn deserialize<T: DeserializeOwned>(&self, path: &Path, json: &Value, problems: &mut Vec<Problem>) -> Option<T> {
        match T::deserialize(json) {
            Ok(raw) => Some(raw),
            Err(error) => {
                let message = judge::at(path, &format!("the entry cannot be read: {error}"));
                problems.push(Problem::new("spec.value", message, self.map.source(), self.map.entry(path)));
                None
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn reader() -> Reader {
        Reader::new(&Extensions::default())
    }

    #[test]
    fn a_bad_entry_hides_nothing_about_the_others() {
        let text = "version: 1\nname: w\ninputs:\n  a: { type: string }\n  b: { type: text }\ntasks:\n\
                    - { id: one, type: wait, retry: x }\n- { id: two, type: wait, with: { n: 1.10 } }\n- { id: {{ x }}, type: wait }\n";
        let mut problems = Vec::new();
        let file = reader().workflow(&Source::new("w.yaml", text), &mut problems).unwrap();
        let codes: Vec<&str> = problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, ["spec.bare_braces", "spec.value", "spec.type"]);
        assert_eq!(file.name.as_deref(), Some("w"));
        assert!(file.head.is_some());
        let read: Vec<bool> = file.tasks.iter().map(|task| task.raw.is_some()).collect();
        assert_eq!(read, [false, true, false]);
        assert_eq!(file.tasks[0].text("id"), Some("one"));
        assert_eq!(file.tasks[1].path.to_string(), "tasks[1]");
        assert_eq!(file.tasks[1].raw.as_ref().unwrap().with["n"].to_string(), "1.10");
        let inputs: Vec<(Option<&str>, bool)> =
            file.inputs.iter().map(|input| (input.path.key(), input.raw.is_some())).collect();
        assert_eq!(inputs, [(Some("a"), true), (Some("b"), false)]);
    }

    #[test]
    fn a_bad_head_leaves_the_entries() {
        let text = "version: 1\nname: w\ntimeout: 5\ntasks:\n- { id: one, type: wait }\n";
        let file = reader().workflow(&Source::new("w.yaml", text), &mut Vec::new()).unwrap();
        assert!(file.head.is_none());
        assert!(file.tasks[0].raw.is_some());
    }

    #[test]
    fn routes_and_settings_are_read() {
        let text = "version: 1\nroutes:\n- path: /hooks/a\n  verify: { preset: p, tolerance: 300s }\n  workflow: w\n\
                    \x20 inputs: { order: '${{ body }}', big: 9007199254740993123 }\n\
                    - { path: /b, verify: none, workflow: w, filter: true }\n";
        let mut problems = Vec::new();
        let file = reader().routes(&Source::new("r.yaml", text), &mut problems).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        let route = file.routes[0].raw.as_ref().unwrap();
        assert_eq!(route.inputs["big"].to_string(), "9007199254740993123");
        let raw::Verify::Preset(verify) = &route.verify else { panic!("the preset is lost") };
        assert_eq!((verify.preset.as_str(), verify.parameters["tolerance"].as_str()), ("p", Some("300s")));
        assert_eq!(file.routes[1].raw.as_ref().unwrap().verify, raw::Verify::None);

        let text = "version: 1\nauth: none\nlisten: { control: { address: '127.0.0.1:8080' } }\nconnections:\n\
                    \x20 erp: { base_url: 'http://127.0.0.1:9', auth: { type: bearer, secret_ref: erp-key } }\n";
        let file = reader().settings(&Source::new("c.yaml", text), &[], &mut problems).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert!(matches!(file.head.unwrap().auth, Some(raw::Auth::None)));
        assert_eq!(file.connections[0].raw.as_ref().unwrap().base_url, "http://127.0.0.1:9");
    }
}
