//! What must stand once in all files together: names, and what routes of one path have in common.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::route::made_name;
use crate::domain::sweep::SUFFIX;
use crate::spec::diagnostic::{Problem, Spot};
use crate::spec::raw;
use crate::spec::source_map::{Path, SourceMap, Span};
use crate::spec::structure::{Item, RoutesFile, WorkflowFile};

/// Tells names that stand twice, in one file or in two.
pub(in crate::spec) fn tell_duplicates(
    workflows: &[&WorkflowFile],
    routes: &[&RoutesFile],
    problems: &mut Vec<Problem>,
) {
    const HELP: &str = "give one of them another `name`";
    let mut names = Names { first: HashMap::new(), problems };
    for file in workflows {
        if let Some(name) = &file.name {
            names.note("workflows", name.clone(), spot(&file.map, &Path::root().with("name")), HELP);
        }
    }
    for file in routes {
        for item in &file.routes {
            names.note_route(&file.map, item);
            if item.json.get("sweep").is_some() {
                names.note_sweep(&file.map, item);
            }
        }
        for item in &file.sources {
            if let Some(name) = item.text("name") {
                names.note("sources", name.to_owned(), spot(&file.map, &item.path.with("name")), HELP);
            }
            let routes = item.json.get("routes").and_then(serde_json::Value::as_array);
            for (place, route) in routes.into_iter().flatten().enumerate() {
                let Some(name) = route.get("name").and_then(serde_json::Value::as_str) else { continue };
                let path = item.path.with("routes").with(place).with("name");
                names.note("routes", name.to_owned(), spot(&file.map, &path), HELP);
            }
        }
        for item in &file.schedules {
            if let Some(name) = item.text("name") {
                names.note("schedules", name.to_owned(), spot(&file.map, &item.path.with("name")), HELP);
            }
        }
    }
}

/// Tells what routes of one path must have in common and have not: one delivery is one write and gets one answer,
/// however many runs it starts.
pub(in crate::spec) fn tell_shared_paths(files: &[&RoutesFile], problems: &mut Vec<Problem>) {
    const SHARED: &[&str] = &["dedupe", "respond"];
    const FIRST: &str = "the first route of this path";
    let mut firsts: HashMap<&str, (&SourceMap, &Item<raw::Route>)> = HashMap::new();
    for (map, item) in files.iter().flat_map(|file| file.routes.iter().map(|item| (&file.map, item))) {
        let Some(path) = item.text("path") else { continue };
        let Some(&(first_map, first)) = firsts.get(path) else {
            firsts.insert(path, (map, item));
            continue;
        };
        let first_spot = spot(first_map, &first.path.with("path"));
        let told =
            |code, message, span: Span| also(Problem::new(code, message, map.source(), span), &first_spot, FIRST);
        for key in SHARED.iter().filter(|key| item.json.get(key) != first.json.get(key)) {
            let message = format!("the routes of the path `{path}` differ in `{key}`");
            let help =
                format!("write the same `{key}` in each: a delivery is taken in and answered once for all of them");
            problems.push(told("spec.same_path", message, map.key(&item.path, key)).help(help));
        }
        if item.json.get("filter").is_none() || first.json.get("filter").is_none() {
            let message = format!("two routes have the path `{path}`, and not both have a filter");
            let help = "give each a `filter`, unless every delivery is meant to start both";
            problems.push(told("spec.same_path", message, map.value(&item.path.with("path"))).warning().help(help));
        }
    }
    for (map, item) in files.iter().flat_map(|file| file.routes.iter().map(|item| (&file.map, item))) {
        let Some(path) = item.json.get("verify").and_then(|verify| verify.get("token_path")?.as_str()) else {
            continue;
        };
        let Some((first_map, first)) = firsts.get(path) else { continue };
        let span = map.value(&item.path.with("verify").with("token_path"));
        let message = format!("tokens are asked for at `{path}`, where deliveries come in");
        let problem = Problem::new("spec.same_path", message, map.source(), span);
        let told = also(problem, &spot(first_map, &first.path.with("path")), "this route's path");
        problems.push(told.help(format!("give the token endpoint a path of its own, such as `{path}/token`")));
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
                let spot = spot(map, &item.path.with("name"));
                self.note("routes", name.to_owned(), spot, "give one of them another `name`");
            }
            (None, Some(path)) => {
                let help = "the name is made from the path; give each route of this path a `name` of its own";
                self.note("routes", made_name(path), spot(map, &item.path.with("path")), help);
            }
            (None, None) => {}
        }
    }

    /// A sweep has a schedule, whose name is made from the route's.
    fn note_sweep(&mut self, map: &SourceMap, item: &Item<raw::Route>) {
        let route = item.text("name").map(str::to_owned).or_else(|| item.text("path").map(made_name));
        let Some(route) = route.filter(|route| !route.is_empty()) else { return };
        let spot = spot(map, &item.path.with("sweep"));
        self.note(
            "schedules",
            format!("{route}{SUFFIX}"),
            spot,
            "the sweep of a route has a schedule; give the other one another `name`",
        );
    }

    fn note(&mut self, kind: &'static str, name: String, spot: Spot, help: &str) {
        if name.is_empty() {
            return;
        }
        let message = format!("two {kind} have the name `{name}`");
        match self.first.entry((kind, name)) {
            Entry::Vacant(entry) => {
                entry.insert(spot);
            }
            Entry::Occupied(first) => {
                let problem = Problem::new("spec.duplicate_name", message, &spot.source, spot.span).help(help);
                self.problems.push(also(problem, first.get(), "first here"));
            }
        }
    }
}

/// Shows the first of two: beside the second, or by line when it stands in another file.
fn also(problem: Problem, first: &Spot, label: &str) -> Problem {
    if Arc::ptr_eq(&first.source, &problem.spot.source) {
        return problem.related(first.span, label);
    }
    let (line, _) = first.source.position(first.span.start);
    problem.label(format!("{label}: {}, line {line}", first.source.name()))
}

fn spot(map: &SourceMap, path: &Path) -> Spot {
    Spot { source: Arc::clone(map.source()), span: map.value(path), label: String::new() }
}
