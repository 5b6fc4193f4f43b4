//! YAML text in, one JSON value and its source map out, under the safe profile of the language.
//!
//! The profile: the YAML 1.2 core schema; keys are text and stand once; one document; no tags of one's own, no
//! merge keys; aliases, depth and size bounded before anything is built. What breaks the profile is reported and
//! left out, and reading goes on, so that one look shows everything. Only text that is no YAML ends the file.

mod explain;
mod scalar;

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

use self::explain::Surroundings;
use self::scalar::Scalar;
use super::diagnostic::Problem;
use super::source_map::{Branch, Children, Place, Source, SourceMap, Span};
use crate::limits;

/// One file as read: the value without positions, and the positions.
#[derive(Debug)]
pub struct Document {
    /// The content, as the JSON that the schemas speak of. Numbers keep their text.
    pub value: Value,
    /// Where everything stands.
    pub map: SourceMap,
}

/// Makes a source of a file's bytes, which must be UTF-8 and no longer than [`limits::YAML_BYTES_MAX`].
pub fn decode(name: &str, bytes: &[u8]) -> Result<Arc<Source>, Box<Problem>> {
    if bytes.len() > limits::YAML_BYTES_MAX {
        let message = format!("the file has {} bytes; at most {} are read", bytes.len(), limits::YAML_BYTES_MAX);
        let problem = Problem::new("spec.limit", message, &Source::new(name, ""), Span::default());
        return Err(Box::new(problem.help("split it into several files")));
    }
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(Source::new(name, text)),
        Err(error) => error,
    };
    let source = Source::new(name, &String::from_utf8_lossy(bytes));
    let at = source.text().find('\u{fffd}').unwrap_or(error.valid_up_to());
    let problem =
        Problem::new("spec.encoding", "the file is not UTF-8", &source, Span::new(at, at + '\u{fffd}'.len_utf8()))
            .label("not a character")
            .help("save it again as UTF-8; it may be in GBK or UTF-16 now");
    Err(Box::new(problem))
}

/// Reads one file. `None` when nothing of it can be used; why is among the problems.
pub fn parse(source: &Arc<Source>, problems: &mut Vec<Problem>) -> Option<Document> {
    let text = source.text();
    let mut builder = Builder::new(source, problems);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let stop = match event {
            Ok((event, span)) => {
                let span = Span::new(builder.byte(span.start.index()), builder.byte(span.end.index()));
                builder.event(event, span).is_err()
            }
            Err(error) => {
                let at = builder.byte(error.marker().index());
                let problem = explain::explain(source, at, &builder.surroundings(), error.info());
                builder.problems.push(problem);
                true
            }
        };
        if stop {
            return None;
        }
    }
    let Some(root) = builder.root.take() else {
        builder.problems.push(
            Problem::new("spec.empty", "there is nothing in the file", source, Span::new(0, 0))
                .help("start with `version: 1`, or delete the file"),
        );
        return None;
    };
    Some(Document { value: root.value, map: SourceMap::new(Arc::clone(source), root.branch) })
}

/// Reading cannot go on; the problem is already told.
struct Stop;

/// A finished value with its places.
#[derive(Clone)]
struct Node {
    value: Value,
    branch: Branch,
    /// Written without quotes on one line, so that its text means what the core schema says.
    plain: bool,
    cost: Cost,
}

/// What a value weighs when an alias repeats it.
#[derive(Clone, Copy, Default)]
struct Cost {
    nodes: usize,
    bytes: usize,
    height: usize,
}

/// A list or map whose end has not come yet.
struct Open {
    start: Span,
    anchor: usize,
    cost: Cost,
    end: usize,
    refused: bool,
    kind: Kind,
}

enum Kind {
    List { values: Vec<Value>, branches: Vec<Branch> },
    Map { values: Map<String, Value>, branches: HashMap<Arc<str>, Branch>, key: Key },
}

/// What the next node of a map is.
enum Key {
    /// A key.
    Awaited,
    /// The value of this key.
    Read(Arc<str>, Span),
    /// The value of a key that was refused; it is left out.
    Refused,
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    problems: &'a mut Vec<Problem>,
    /// Where each character starts: the parser counts characters, everything else here counts bytes.
    starts: Vec<usize>,
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    spent: Cost,
    root: Option<Node>,
    documents: usize,
}

impl<'a> Builder<'a> {
    fn new(source: &'a Arc<Source>, problems: &'a mut Vec<Problem>) -> Self {
        let starts = source.text().char_indices().map(|(at, _)| at).collect();
        Self {
            source,
            problems,
            starts,
            stack: Vec::new(),
            anchors: HashMap::new(),
            spent: Cost::default(),
            root: None,
            documents: 0,
        }
    }

    fn byte(&self, character: usize) -> usize {
        self.starts.get(character).copied().unwrap_or(self.source.text().len())
    }

    /// What is open around the place that reading has come to.
    fn surroundings(&self) -> Surroundings {
        let text = self.source.text();
        let mut brackets =
            self.stack.iter().map(|open| open.start.start).filter(|start| text[*start..].starts_with(['{', '[']));
        let first_bracket = brackets.next();
        Surroundings { first_bracket, bracket: brackets.next_back().or(first_bracket) }
    }

    fn problem(&mut self, code: &'static str, message: impl Into<String>, span: Span) -> &mut Problem {
        self.problems.push(Problem::new(code, message, self.source, span));
        self.problems.last_mut().expect("a problem was just pushed")
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        match event {
            Event::DocumentStart(_) => self.document(span),
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(&text, style, tag.as_deref(), span);
                self.spend(node.cost, span)?;
                self.finish(node, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                let kind = Kind::List { values: Vec::new(), branches: Vec::new() };
                self.open(kind, anchor, tag.as_deref(), "seq", span)
            }
            Event::MappingStart(anchor, tag) => {
                let kind = Kind::Map { values: Map::new(), branches: HashMap::new(), key: Key::Awaited };
                self.open(kind, anchor, tag.as_deref(), "map", span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn document(&mut self, span: Span) -> Result<(), Stop> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        let line = self.source.line(span.start);
        let problem = self.problem("spec.documents", "the file holds a second document", line);
        problem.spot.label = "a new document starts here".into();
        problem.help = Some("put it into a file of its own, or remove the `---`".into());
        Err(Stop)
    }

    fn open(&mut self, kind: Kind, anchor: usize, tag: Option<&Tag>, own_tag: &str, start: Span) -> Result<(), Stop> {
        if self.stack.len() >= limits::YAML_DEPTH_MAX {
            return self.too_deep(start);
        }
        let refused = tag.is_some_and(|tag| !is_core(tag, &[own_tag]));
        if let Some(tag) = tag.filter(|_| refused) {
            self.refuse_tag(tag, start);
        }
        let cost = Cost { nodes: 1, bytes: 0, height: 0 };
        self.spend(cost, start)?;
        self.stack.push(Open { start, anchor, cost, end: start.end, refused, kind });
        Ok(())
    }

    fn close(&mut self, span: Span) -> Result<(), Stop> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let flow = self.source.text()[open.start.start..].starts_with(['{', '[']);
        // The parser's end of a `}` or `]` runs on over the blanks behind it.
        let end = if flow { span.start + 1 } else { open.end };
        let (value, children) = match open.kind {
            Kind::List { values, branches } => (Value::Array(values), Children::List(branches)),
            Kind::Map { values, branches, .. } => (Value::Object(values), Children::Map(branches)),
        };
        let place = Place { key: None, value: Span::new(open.start.start, end) };
        let branch = Branch { place, refused: open.refused, children };
        self.finish(Node { value, branch, plain: false, cost: open.cost }, open.anchor)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        let Some(cost) = self.anchors.get(&anchor).map(|node| node.cost) else {
            let problem = self.problem("spec.alias", "the alias stands inside the value that it repeats", span);
            problem.help = Some("write the value out".into());
            return self.finish(refused(span), 0);
        };
        self.spend(cost, span)?;
        if self.stack.len() + cost.height > limits::YAML_DEPTH_MAX {
            return self.too_deep(span);
        }
        match self.anchors.get(&anchor).cloned() {
            Some(node) => self.finish(node, 0),
            None => Ok(()),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Node {
        let plain = style == ScalarStyle::Plain;
        let mut refused = false;
        let value = match (tag, plain) {
            (None, false) => Value::String(text.to_owned()),
            (Some(tag), _) if is_core(tag, &["str", ""]) => Value::String(text.to_owned()),
            (Some(tag), _) if !is_core(tag, &["int", "float", "bool", "null"]) => {
                refused = true;
                self.refuse_tag(tag, span);
                Value::Null
            }
            _ => match scalar::resolve(text) {
                Scalar::Value(value) => value,
                Scalar::NotFinite => {
                    refused = true;
                    let problem =
                        self.problem("spec.number", format!("`{text}` is not a number that JSON knows"), span);
                    problem.help = Some(format!("write a number, or `\"{text}\"` if you mean the text"));
                    Value::Null
                }
            },
        };
        if plain && let Some(comment) = explain::comment_in_expression(self.source, span, text) {
            refused = true;
            self.problems.push(comment);
        }
        let branch = Branch { place: Place { key: None, value: span }, refused, children: Children::None };
        Node { value, branch, plain, cost: Cost { nodes: 1, bytes: text.len(), height: 0 } }
    }

    /// Hands a finished node to the list or map around it.
    fn finish(&mut self, mut node: Node, anchor: usize) -> Result<(), Stop> {
        let at = node.branch.place.value;
        if anchor != 0 {
            self.spend(node.cost, at)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.cost.nodes += node.cost.nodes;
        open.cost.bytes += node.cost.bytes;
        open.cost.height = open.cost.height.max(node.cost.height + 1);
        open.end = open.end.max(at.end);
        match &mut open.kind {
            Kind::List { values, branches } => {
                values.push(node.value);
                branches.push(node.branch);
            }
            Kind::Map { values, branches, key } => match std::mem::replace(key, Key::Awaited) {
                Key::Awaited => self.key(&node),
                Key::Refused => {}
                Key::Read(name, span) => {
                    node.branch.place.key = Some(span);
                    values.insert(name.as_ref().to_owned(), node.value);
                    branches.insert(name, node.branch);
                }
            },
        }
        Ok(())
    }

    /// Takes a node that stands where a key stands.
    fn key(&mut self, node: &Node) {
        let span = node.branch.place.value;
        let accepted = match &node.value {
            Value::String(name) if node.plain && name == "<<" => {
                let problem = self.problem("spec.key", "`<<` merges maps in YAML 1.1 only", span);
                problem.help = Some("write the keys out, or repeat a whole value with an alias".into());
                None
            }
            Value::String(name) => self.unique(name, span),
            Value::Array(_) | Value::Object(_) => {
                self.refuse_collection_key(span);
                None
            }
            _ => {
                let text = self.source.slice(span).to_owned();
                let problem = self.problem("spec.key", "a key must be text", span);
                problem.spot.label = format!("this is {}", super::words::found(&node.value));
                problem.help = Some(format!("put the key in quotes: `\"{text}\":`"));
                None
            }
        };
        let next = accepted.map_or(Key::Refused, |name| Key::Read(name, span));
        if let Some(Open { kind: Kind::Map { key, .. }, .. }) = self.stack.last_mut() {
            *key = next;
        }
    }

    /// The key, unless the map around it has one of this name already.
    fn unique(&mut self, name: &str, span: Span) -> Option<Arc<str>> {
        let Some(Open { kind: Kind::Map { branches, .. }, .. }) = self.stack.last() else { return None };
        let Some(first) = branches.get(name).and_then(|branch| branch.place.key) else { return Some(name.into()) };
        let message = format!("the key `{name}` stands twice in one map");
        self.problems.push(
            Problem::new("spec.duplicate_key", message, self.source, span)
                .label("second time")
                .related(first, "first time")
                .help("remove or rename one of the two"),
        );
        None
    }

    /// A map or list as a key: almost always `{{ … }}` without its dollar.
    fn refuse_collection_key(&mut self, span: Span) {
        let outer = self.stack.last_mut().filter(|outer| self.source.text()[outer.start.start..].starts_with("{{"));
        if let Some(outer) = outer {
            outer.refused = true;
            let start = outer.start.start;
            self.problems.push(explain::bare_braces(self.source, start));
            return;
        }
        let problem = self.problem("spec.key", "a key must be text, not a list or a map", span);
        problem.help = Some("put the key in quotes".into());
    }

    fn refuse_tag(&mut self, tag: &Tag, span: Span) {
        let name = if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { tag.to_string() };
        // The parser's span is the value's; the tag stands before it on the same line, if it stands anywhere near.
        let line = self.source.line(span.start);
        let before = self.source.slice(Span::new(line.start, span.start));
        let shown = before.rfind('!').map_or(span, |at| {
            let start = before[..at].trim_end_matches('!').len() + line.start;
            let length = self.source.text()[start..].find(char::is_whitespace).unwrap_or(name.len());
            Span::new(start, start + length)
        });
        let problem = self.problem("spec.tag", format!("the tag `{name}` is not known"), shown);
        problem.help = Some("remove it; to begin a text with `!`, put the text in quotes".into());
    }

    /// Counts what a value adds to the file, and stops before it is too much.
    fn spend(&mut self, cost: Cost, at: Span) -> Result<(), Stop> {
        self.spent.nodes += cost.nodes;
        self.spent.bytes += cost.bytes;
        if self.spent.nodes <= limits::YAML_NODES_MAX && self.spent.bytes <= limits::YAML_BYTES_MAX {
            return Ok(());
        }
        let (nodes, bytes) = (limits::YAML_NODES_MAX, limits::YAML_BYTES_MAX);
        let problem = self.problem("spec.limit", "the file is too large once its aliases are written out", at);
        problem.spot.label = "the limit is passed here".into();
        problem.help = Some(format!("at most {nodes} values and {bytes} bytes; repeat less, or split the file"));
        Err(Stop)
    }

    fn too_deep(&mut self, at: Span) -> Result<(), Stop> {
        let message = format!("the file is nested more than {} levels deep", limits::YAML_DEPTH_MAX);
        let problem = self.problem("spec.limit", message, at);
        problem.help = Some("bring the inner values nearer to the top".into());
        Err(Stop)
    }
}

fn refused(span: Span) -> Node {
    let branch = Branch { place: Place { key: None, value: span }, refused: true, children: Children::None };
    Node { value: Value::Null, branch, plain: false, cost: Cost::default() }
}

/// True for `!!name` of one of these names; the empty name is the bare `!`, which makes text.
fn is_core(tag: &Tag, names: &[&str]) -> bool {
    let bare = tag.handle.is_empty() && tag.suffix == "!";
    if bare { names.contains(&"") } else { tag.is_yaml_core_schema() && names.contains(&tag.suffix.as_str()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::source_map::Path;

    fn read(text: &str) -> (Option<Value>, Vec<&'static str>) {
        let mut problems = Vec::new();
        let document = parse(&Source::new("t.yaml", text), &mut problems);
        (document.map(|document| document.value), problems.iter().map(|problem| problem.code).collect())
    }

    #[test]
    fn values_are_those_of_the_core_schema() {
        let (value, codes) = read("a: NO\nb: [1.10, 0x10, '1', !!str 2, ! 3]\nc:\n  d: ~\n  e: |\n    x\n");
        assert_eq!(codes, Vec::<&str>::new());
        assert_eq!(value.unwrap().to_string(), r#"{"a":"NO","b":[1.10,16,"1","2","3"],"c":{"d":null,"e":"x\n"}}"#);
    }

    #[test]
    fn aliases_repeat_values() {
        let (value, codes) = read("a: &x {k: [1]}\nb: *x\nc: [*x, *x]\n");
        assert_eq!(codes, Vec::<&str>::new());
        let x = json!({"k": [1]});
        assert_eq!(value.unwrap(), json!({"a": x, "b": x, "c": [x, x]}));
    }

    #[test]
    fn what_breaks_the_profile_is_told_and_left_out() {
        let check = |text: &str, codes: &[&str]| assert_eq!(read(text).1, codes, "{text}");
        check("a: 1\na: 2\n'a': 3\n", &["spec.duplicate_key", "spec.duplicate_key"]);
        check("1: a\ntrue: b\n~: c\n", &["spec.key", "spec.key", "spec.key"]);
        check("a: &x {b: 1}\nc: {<<: *x}\n", &["spec.key"]);
        check("a: !secret b\nc: !!binary d\n", &["spec.tag", "spec.tag"]);
        check("a: .inf\nb: .nan\n", &["spec.number", "spec.number"]);
        check("a: 1\n---\nb: 2\n", &["spec.documents"]);
        check("a: &x [*x]\n", &["spec.alias"]);
        check("a: {{ b }}\n", &["spec.bare_braces"]);
        check("", &["spec.empty"]);
        check("# nothing\n", &["spec.empty"]);
    }

    #[test]
    fn bombs_are_refused_before_they_go_off() {
        let level =
            |level: usize| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "));
        let text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned() + &(1..12).map(level).collect::<String>();
        assert_eq!(read(&text), (None, vec!["spec.limit"]));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 20].join(", "));
        assert_eq!(read(&long), (None, vec!["spec.limit"]));
        assert_eq!(read(&"[".repeat(100)), (None, vec!["spec.limit"]));
        assert_eq!(read(&"- ".repeat(100)), (None, vec!["spec.limit"]));
    }

    #[test]
    fn places_are_exact_in_any_text() {
        let check = |text: &str, path: &Path, key: Option<&str>, value: &str| {
            let source = Source::new("t.yaml", text);
            let document = parse(&source, &mut Vec::new()).unwrap();
            let place = document.map.place(path);
            assert_eq!((place.key.map(|span| source.slice(span)), source.slice(place.value)), (key, value), "{text:?}");
        };
        let b = Path::root().with("a").with(1).with("b");
        check("a:\n  - x\n  - b: 你好 # c\n", &b, Some("b"), "你好");
        check("\u{feff}a:\r\n  - x\r\n  - b: 'é'\r\n", &b, Some("b"), "'é'");
        check("a: [x, { b: [1, 2] , c: 3 } ]\n", &b, Some("b"), "[1, 2]");
        check("标: 1\na: [名, {b: \"1\"}]", &b, Some("b"), "\"1\"");
        check("a:\n- x\n- b: [1,\n    2]\n- c", &b, Some("b"), "[1,\n    2]");
        check("a:\n- x\n- b:\n    c: 1\n    d: 2\n", &b, Some("b"), "c: 1\n    d: 2");
        check("a:\n- x\n- b:\n- c", &b, Some("b"), "");
    }
}
