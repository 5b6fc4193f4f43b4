//! Many files into one catalog, and single documents of the past into plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use super::diagnostic::{Problem, Severity};
use super::folder::{Files, SourceFile};
use super::resolve::{
    Callee, Callees, Desk, SecretUse, callee, flow_schemas, resolve_route, resolve_schedule, resolve_source,
    resolve_sweep, resolve_workflow, tell_duplicates, tell_shared_paths, verify_schema,
};
use super::schema::Extensions;
use super::source_map::{Source, SourceMap};
use super::structure::{Reader, RoutesFile, WorkflowFile};
use super::yaml;
use crate::id::{ChannelName, ConnectionName, Revision};
use crate::limits;
use crate::signature;
use crate::tasks;
use crate::tasks::command::settings as command;
use crate::tasks::plan::{Catalog, Plan, RoutePlan, SchedulePlan, SourcePlan};

/// What files are held against that is not in them.
#[derive(Debug, Clone)]
pub struct Around {
    /// The connections of the settings.
    pub connections: BTreeSet<ConnectionName>,
    /// The channels of the settings.
    pub channels: BTreeSet<ChannelName>,
    /// The databases of the settings, and whether tables can be loaded there.
    pub databases: BTreeMap<String, bool>,
    /// The places for files of the settings, and whether they give links.
    pub blobs: BTreeMap<String, bool>,
    /// The programs that the settings allow.
    pub commands: command::Settings,
    /// Body of a delivery, bytes, for routes that set none (`limits.max_body` of the settings).
    pub body_bytes_max: usize,
}

impl Default for Around {
    fn default() -> Self {
        Self {
            connections: BTreeSet::new(),
            channels: BTreeSet::new(),
            databases: BTreeMap::new(),
            blobs: BTreeMap::new(),
            commands: command::Settings::default(),
            body_bytes_max: limits::BODY_BYTES_MAX,
        }
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

/// The routes, sources and schedules of one file.
#[derive(Debug, Default)]
pub struct RoutesCompiled {
    /// Those of the sources are among them.
    pub routes: Vec<RoutePlan>,
    pub sources: Vec<SourcePlan>,
    pub schedules: Vec<SchedulePlan>,
}

/// The schemas of everything that `type` and `preset` can name.
pub fn extensions() -> Extensions {
    Extensions {
        tasks: tasks::KINDS
            .iter()
            .map(|kind| (kind.name.to_owned(), (kind.schema)().to_value()))
            .chain(flow_schemas())
            .collect(),
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
        loaded.workflow(around, text, file, &callees);
    }
    for (text, file) in &routes {
        loaded.routes(around, text, file, &callees);
    }
    let workflow_files: Vec<&WorkflowFile> = workflows.iter().map(|(_, file)| file).collect();
    let routes_files: Vec<&RoutesFile> = routes.iter().map(|(_, file)| file).collect();
    tell_duplicates(&workflow_files, &routes_files, &mut loaded.problems);
    tell_shared_paths(&routes_files, &mut loaded.problems);
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
        let mut desk = desk(&file.map, None, None, &mut problems, &mut secrets);
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
        let mut desk = desk(&file.map, None, None, &mut problems, &mut secrets);
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
    callees: Callees<'a>,
    problems: &'a mut Vec<Problem>,
    secrets: &'a mut Vec<SecretUse>,
) -> Desk<'a> {
    let bare = Desk { callees, ..Desk::bare(map, problems, secrets) };
    let Some(around) = around else { return bare };
    Desk {
        connections: Some(&around.connections),
        channels: Some(&around.channels),
        databases: Some(&around.databases),
        blobs: Some(&around.blobs),
        commands: Some(&around.commands),
        body_bytes_max: around.body_bytes_max,
        ..bare
    }
}

fn compile(desk: &mut Desk<'_>, file: &RoutesFile, callees: Callees<'_>, revision: &Revision) -> RoutesCompiled {
    let mut compiled = RoutesCompiled::default();
    for item in &file.routes {
        let route = resolve_route(desk, item, callees, revision);
        // Also of a route that is not healthy: everything that is wrong is told at once.
        let sweep = resolve_sweep(desk, item, route.as_ref(), revision);
        compiled.schedules.extend(sweep);
        compiled.routes.extend(route);
    }
    for (source, own) in file.sources.iter().filter_map(|item| resolve_source(desk, item, callees, revision)) {
        compiled.sources.push(source);
        compiled.routes.extend(own);
    }
    let schedules = file.schedules.iter().filter_map(|item| resolve_schedule(desk, item, callees, revision));
    compiled.schedules.extend(schedules);
    compiled
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
    fn workflow(&mut self, around: &Around, text: &Text, file: &WorkflowFile, callees: &[Callee]) {
        let mut desk = desk(&file.map, Some(around), Some(callees), &mut self.problems, &mut self.secrets);
        if let Some(plan) = resolve_workflow(&mut desk, file, text.revision.clone()) {
            self.catalog.documents.insert(text.revision.clone(), Arc::clone(&text.text));
            self.catalog.workflows.entry(plan.name.clone()).or_insert_with(|| Arc::new(plan));
        }
    }

    fn routes(&mut self, around: &Around, text: &Text, file: &RoutesFile, callees: &[Callee]) {
        let mut desk = desk(&file.map, Some(around), Some(callees), &mut self.problems, &mut self.secrets);
        let compiled = compile(&mut desk, file, Some(callees), &text.revision);
        self.catalog.documents.insert(text.revision.clone(), Arc::clone(&text.text));
        for route in compiled.routes {
            self.catalog.routes.entry(route.name.clone()).or_insert_with(|| Arc::new(route));
        }
        for source in compiled.sources {
            self.catalog.sources.entry(source.name.clone()).or_insert_with(|| Arc::new(source));
        }
        for schedule in compiled.schedules {
            self.catalog.schedules.entry(schedule.schedule.name.clone()).or_insert_with(|| Arc::new(schedule));
        }
    }
}
