//! Many files into one catalog, and single documents of the past into plans.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use super::diagnostic::{Problem, Severity, Spot};
use super::folder::{Files, SourceFile};
use super::resolve::{
    Callee, Callees, Desk, SecretUse, callee, check_shared_paths, made_name, resolve_route, resolve_schedule,
    resolve_workflow, verify_schema,
};
use super::schema::Extensions;
use super::source_map::{Path, Source, SourceMap};
use super::structure::{Item, Reader, RoutesFile, WorkflowFile};
use super::{raw, yaml};
use crate::id::{ConnectionName, Revision};
use crate::limits;
use crate::signature;
use crate::tasks;
use crate::tasks::plan::{Catalog, Plan, RoutePlan, SchedulePlan};

/// What files are held against that is not in them.
#[derive(Debug, Clone)]
pub struct Around {
    /// The connections of the settings.
    pub connections: BTreeSet<ConnectionName>,
    /// Body of a delivery, bytes, for routes that set none (`limits.max_body` of the settings).
    pub body_bytes_max: usize,
}

impl Default for Around {
    fn default() -> Self {
        Self { connections: BTreeSet::new(), body_bytes_max: limits::BODY_BYTES_MAX }
    }
}

/// What a load gave. A catalog with errors beside it holds what is healthy and is not to be put in force.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The healthy part.
    pub catalog: Catalog,
    /// Everything that is wrong, and everything to look at.
    pub problems: Vec<Problem>,
    /// The secrets that the files name, for [`super::missing_secrets`].
    pub secrets: Vec<SecretUse>,
}

impl Loaded {
    /// Whether the catalog must not be put in force.
    pub fn has_errors(&self) -> bool {
        has_errors(&self.problems)
    }
}

/// The routes and schedules of one file.
#[derive(Debug, Default)]
pub struct RoutesCompiled {
    pub routes: Vec<RoutePlan>,
    pub schedules: Vec<SchedulePlan>,
}

/// The schemas of everything that `type` and `preset` can name.
pub fn extensions() -> Extensions {
    Extensions {
        tasks: tasks::KINDS.iter().map(|kind| (kind.name.to_owned(), (kind.schema)().to_value())).collect(),
        presets: signature::kinds().map(|kind| (kind.name.to_owned(), verify_schema(kind))).collect(),
    }
}

/// The reader of this program's files; the schemas are compiled once.
pub fn reader() -> &'static Reader {
    static READER: LazyLock<Reader> = LazyLock::new(|| Reader::new(&extensions()));
    &READER
}

/// Understands all files together and tells everything that is wrong with them.
pub fn load(files: &Files, around: &Around) -> Loaded {
    let mut loaded = Loaded::default();
    let read_workflow = |file, loaded: &mut Loaded| {
        read(file, &mut loaded.problems, |source, problems| reader().workflow(source, problems))
    };
    let workflows: Vec<(Text, WorkflowFile)> =
        files.workflows.iter().filter_map(|file| read_workflow(file, &mut loaded)).collect();
    let read_routes = |file, loaded: &mut Loaded| {
        read(file, &mut loaded.problems, |source, problems| reader().routes(source, problems))
    };
    let routes: Vec<(Text, RoutesFile)> =
        files.routes.iter().filter_map(|file| read_routes(file, &mut loaded)).collect();

    let callees: Vec<Callee> = workflows.iter().filter_map(|(_, file)| callee(file)).collect();
    for (text, file) in &workflows {
        loaded.workflow(around, text, file);
    }
    for (text, file) in &routes {
        loaded.routes(around, text, file, &callees);
    }
    loaded.tell_duplicates(&workflows, &routes);
    loaded
}

/// Compiles a workflow that was in force once. Connections are not looked up: they may have gone since.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn compile_workflow(name: &str, text: &str) -> Result<Plan, Vec<Problem>> {
    let (mut problems, mut secrets) = (Vec::new(), Vec::new());
    let source = Source::new(name, text);
    let plan = reader().workflow(&source, &mut problems).and_then(|file| {
        let mut desk = desk(&file.map, None, &mut problems, &mut secrets);
        resolve_workflow(&mut desk, &file, Revision::of(source.text().as_bytes()))
    });
    healthy(plan, problems)
}

/// Compiles a file of routes and schedules that was in force once. Workflows are not looked up.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn compile_routes(name: &str, text: &str) -> Result<RoutesCompiled, Vec<Problem>> {
    let (mut problems, mut secrets) = (Vec::new(), Vec::new());
    let source = Source::new(name, text);
    let compiled = reader().routes(&source, &mut problems).map(|file| {
        let mut desk = desk(&file.map, None, &mut problems, &mut secrets);
        compile(&mut desk, &file, None, &Revision::of(source.text().as_bytes()))
    });
    healthy(compiled, problems)
}

/// A file's text under its content hash.
struct Text {
    revision: Revision,
    text: Arc<str>,
}

fn read<F>(
    file: &SourceFile,
    problems: &mut Vec<Problem>,
    judge: impl FnOnce(&Arc<Source>, &mut Vec<Problem>) -> Option<F>,
) -> Option<(Text, F)> {
    let source = yaml::decode(&file.name, &file.bytes).map_err(|problem| problems.push(*problem)).ok()?;
    let judged = judge(&source, problems)?;
    Some((Text { revision: Revision::of(source.text().as_bytes()), text: source.text().into() }, judged))
}

fn desk<'a>(
    map: &'a SourceMap,
    around: Option<&'a Around>,
    problems: &'a mut Vec<Problem>,
    secrets: &'a mut Vec<SecretUse>,
) -> Desk<'a> {
    Desk {
        map,
        connections: around.map(|around| &around.connections),
        body_bytes_max: around.map_or(limits::BODY_BYTES_MAX, |around| around.body_bytes_max),
        problems,
        secrets,
    }
}

fn compile(desk: &mut Desk<'_>, file: &RoutesFile, callees: Callees<'_>, revision: &Revision) -> RoutesCompiled {
    let routes = file.routes.iter().filter_map(|item| resolve_route(desk, item, callees, revision)).collect();
    let schedules = file.schedules.iter().filter_map(|item| resolve_schedule(desk, item, callees, revision)).collect();
    RoutesCompiled { routes, schedules }
}

fn healthy<T>(made: Option<T>, problems: Vec<Problem>) -> Result<T, Vec<Problem>> {
    match made {
        Some(made) if !has_errors(&problems) => Ok(made),
        _ => Err(problems),
    }
}

fn has_errors(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

impl Loaded {
    fn workflow(&mut self, around: &Around, text: &Text, file: &WorkflowFile) {
        let mut desk = desk(&file.map, Some(around), &mut self.problems, &mut self.secrets);
        if let Some(plan) = resolve_workflow(&mut desk, file, text.revision.clone()) {
            self.catalog.documents.insert(text.revision.clone(), Arc::clone(&text.text));
            self.catalog.workflows.entry(plan.name.clone()).or_insert_with(|| Arc::new(plan));
        }
    }

    fn routes(&mut self, around: &Around, text: &Text, file: &RoutesFile, callees: &[Callee]) {
        let mut desk = desk(&file.map, Some(around), &mut self.problems, &mut self.secrets);
        let compiled = compile(&mut desk, file, Some(callees), &text.revision);
        check_shared_paths(&mut desk, file);
        self.catalog.documents.insert(text.revision.clone(), Arc::clone(&text.text));
        for route in compiled.routes {
            self.catalog.routes.entry(route.name.clone()).or_insert_with(|| Arc::new(route));
        }
        for schedule in compiled.schedules {
            self.catalog.schedules.entry(schedule.schedule.name.clone()).or_insert_with(|| Arc::new(schedule));
        }
    }

    /// Names that stand twice, in one file or in two.
    fn tell_duplicates(&mut self, workflows: &[(Text, WorkflowFile)], routes: &[(Text, RoutesFile)]) {
        let mut names = Names { first: HashMap::new(), problems: &mut self.problems };
        for (_, file) in workflows {
            if let Some(name) = &file.name {
                names.note(
                    "workflows",
                    name.clone(),
                    spot(&file.map, &Path::root().with("name")),
                    "give one of them another `name`",
                );
            }
        }
        for (_, file) in routes {
            for item in &file.routes {
                names.note_route(&file.map, item);
            }
            for item in &file.schedules {
                if let Some(name) = item.text("name") {
                    let spot = spot(&file.map, &item.path.with("name"));
                    names.note("schedules", name.to_owned(), spot, "give one of them another `name`");
                }
            }
        }
    }
}

/// The names seen so far, and where.
struct Names<'a> {
    first: HashMap<(&'static str, String), Spot>,
    problems: &'a mut Vec<Problem>,
}

impl Names<'_> {
    fn note_route(&mut self, map: &SourceMap, item: &Item<raw::Route>) {
        match (item.text("name"), item.text("path")) {
            (Some(name), _) => {
                self.note(
                    "routes",
                    name.to_owned(),
                    spot(map, &item.path.with("name")),
                    "give one of them another `name`",
                );
            }
            (None, Some(path)) => {
                let help = "the name is made from the path; give each route of this path a `name` of its own";
                self.note("routes", made_name(path), spot(map, &item.path.with("path")), help);
            }
            (None, None) => {}
        }
    }

    fn note(&mut self, kind: &'static str, name: String, spot: Spot, help: &str) {
        if name.is_empty() {
            return;
        }
        let message = format!("two {kind} have the name `{name}`");
        let first = match self.first.entry((kind, name)) {
            Entry::Vacant(entry) => {
                entry.insert(spot);
                return;
            }
            Entry::Occupied(entry) => entry.into_mut(),
        };
        let problem = Problem::new("spec.duplicate_name", message, &spot.source, spot.span).help(help);
        let problem = if Arc::ptr_eq(&first.source, &spot.source) {
            problem.label("again here").related(first.span, "first here")
        } else {
            let (line, _) = first.source.position(first.span.start);
            problem.label(format!("first in {}, line {line}", first.source.name()))
        };
        self.problems.push(problem);
    }
}

fn spot(map: &SourceMap, path: &Path) -> Spot {
    Spot { source: Arc::clone(map.source()), span: map.value(path), label: String::new() }
}
