//! jq filters, by jaq: the language for reshaping data, in `transform` only.
//!
//! What a filter cannot have here: the environment, the clock (`now`, local time), other inputs, output of its
//! own (`debug`, `stderr`) and an end to the process (`halt`). Integers keep all digits. A decimal that passes
//! through keeps its text; arithmetic on decimals is in 64-bit floats, as everywhere in jq, so amounts
//! are added in `${{ … }}` or as whole cents.
//!
//! Running a filter is synchronous and jaq counts no steps: a filter can run for ever, or recurse until the stack
//! ends. The caller runs it on a thread of its own with a stack of [`STACK_BYTES`] and gives up on it
//! after [`crate::limits::JQ_TIMEOUT`].

use std::fmt::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, ValT, Vars};
use jaq_json::Val;
use serde_json::Value as Json;

use super::{Context, Error, Kind, did_you_mean, eval};
use crate::limits;

/// Stack of a thread that runs filters, bytes: deep recursion ends the whole process when it runs out.
pub const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Nesting of a result, as deep as JSON is read back.
const DEPTH_MAX: usize = 120;
/// Brackets, pipes, minuses and quotes that a source may hold: jaq reads them by recursion, and a stack of
/// [`STACK_BYTES`] holds so many twice over.
const NESTING_MAX: usize = 4_000;
/// Bytes of a message that jaq wrote, which may quote whole inputs.
const MESSAGE_BYTES_MAX: usize = 300;

/// Definitions and functions that have no place here, for the reasons at the head of this module.
const REMOVED: &[&str] = &[
    "env",
    "halt",
    "halt_error",
    "now",
    "localtime",
    "strflocaltime",
    "debug",
    "debug_empty",
    "stderr",
    "stderr_empty",
    "input",
    "inputs",
    "input_filename",
];

type Compiled = jaq_core::Filter<JustLut<Val>>;

/// A jq filter, compiled once. Cheap to clone.
#[derive(Clone)]
pub struct Filter {
    compiled: Arc<Compiled>,
    variables: Arc<[String]>,
    source_bytes: usize,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").field("variables", &self.variables).finish_non_exhaustive()
    }
}

impl Filter {
    /// Compiles `source`. The roots named in `roots`, such as `inputs`, can be used as variables: `$inputs`.
    pub fn parse(source: &str, roots: &[&str]) -> Result<Self, Error> {
        check_size(source)?;
        let failed = || Error::new(Kind::Limit, 0..source.len(), "there is no thread to read this filter on");
        std::thread::scope(|scope| {
            let reader = std::thread::Builder::new().stack_size(STACK_BYTES);
            let reader = reader.spawn_scoped(scope, || Self::compile(source, roots)).map_err(|_| failed())?;
            reader.join().unwrap_or_else(|_| Err(failed()))
        })
    }

    fn compile(source: &str, roots: &[&str]) -> Result<Self, Error> {
        let variables = roots.iter().map(|root| format!("${root}"));
        let variables: Vec<String> = variables.filter(|name| mentions(source, name)).collect();
        let keep = |name: &str| !REMOVED.contains(&name);
        let defs = jaq_core::defs().chain(jaq_std::defs().filter(|def| keep(def.name))).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs().filter(|fun| keep(fun.0))).chain(jaq_json::funs());

        let arena = Arena::default();
        let modules = Loader::new(defs).load(&arena, File { code: source, path: () });
        let modules = modules.map_err(|errors| load_error(source, errors))?;
        let jaq = Compiler::default().with_funs(funs).with_global_vars(variables.iter().map(String::as_str));
        let compiled = jaq.compile(modules).map_err(|errors| compile_error(source, roots, errors))?;
        Ok(Self { compiled: Arc::new(compiled), variables: variables.into(), source_bytes: source.len() })
    }

    /// The roots that the filter uses, without `$`.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|name| name.trim_start_matches('$'))
    }

    /// All outputs of the filter for `input`. A variable that `ctx` does not hold is `null`.
    ///
    /// # Errors
    /// When the filter fails, or makes more than [`limits::JQ_OUTPUTS_MAX`] values or
    /// [`limits::TASK_OUTPUT_BYTES_MAX`] bytes.
    pub fn run(&self, input: &Json, ctx: &Context) -> Result<Vec<Json>, Error> {
        let whole = 0..self.source_bytes;
        let variable = |name: &str| ctx.root(name).map_or(Val::Null, |value| read(&value));
        let vars = Vars::new(self.variables().map(variable).collect::<Vec<_>>());
        let ctx = Ctx::<JustLut<Val>>::new(&self.compiled.lut, vars);
        let mut outputs = Vec::new();
        let mut bytes = 0;
        for output in self.compiled.id.run((ctx, read(input))) {
            let value = output.map_err(|exception| match exception.get_err() {
                Ok(error) => Error::new(Kind::Value, whole.clone(), format!("the filter failed: {}", bounded(&error))),
                Err(_) => Error::new(Kind::Value, whole.clone(), "the filter ended outside of its labels"),
            })?;
            let json = write(&value, 0);
            dismantle(value);
            let json = json.map_err(|message| Error::new(Kind::Value, whole.clone(), message))?;
            bytes += eval::text_bytes(&json);
            if outputs.len() == limits::JQ_OUTPUTS_MAX {
                let message = format!("the filter makes more than {} values", limits::JQ_OUTPUTS_MAX);
                return Err(Error::new(Kind::Limit, whole, message).with_help("collect them in one list: `[ … ]`"));
            }
            if bytes > limits::TASK_OUTPUT_BYTES_MAX {
                let message = format!("the filter makes more than {} bytes", limits::TASK_OUTPUT_BYTES_MAX);
                return Err(Error::new(Kind::Limit, whole, message));
            }
            outputs.push(json);
        }
        Ok(outputs)
    }
}

fn check_size(source: &str) -> Result<(), Error> {
    if source.len() > limits::EXPRESSION_SOURCE_BYTES_MAX {
        let message = format!("this filter is longer than {} bytes", limits::EXPRESSION_SOURCE_BYTES_MAX);
        return Err(Error::new(Kind::Limit, 0..source.len(), message));
    }
    let nesting = source.bytes().filter(|b| matches!(b, b'(' | b'[' | b'{' | b'|' | b'-' | b'"')).count();
    if nesting > NESTING_MAX {
        let message = format!("this filter has more than {NESTING_MAX} brackets, pipes and quotes");
        return Err(Error::new(Kind::Limit, 0..source.len(), message).with_help("split it over several tasks"));
    }
    Ok(())
}

/// Whether `source` holds the variable `name`, which starts with `$`.
fn mentions(source: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    source.match_indices(name).any(|(at, _)| ends(&source[at + name.len()..]))
}

fn load_error(source: &str, errors: load::Errors<&str, ()>) -> Error {
    let first = errors.into_iter().map(|(_, error)| error).next();
    match first {
        Some(load::Error::Lex(errors)) => errors.first().map(|(expected, found)| {
            if let load::lex::Expect::Delim(open) = expected {
                return Error::new(Kind::Syntax, place(source, open), format!("this `{open}` is never closed"));
            }
            let message = format!("expected {}, found {}", expected.as_str(), quoted(found));
            Error::new(Kind::Syntax, place(source, found), message)
        }),
        Some(load::Error::Parse(errors)) => errors.first().map(|(expected, found)| {
            let expected = match expected.as_str() {
                "nothing" => "the end of the filter",
                expected => expected,
            };
            Error::new(Kind::Syntax, place(source, found), format!("expected {expected}, found {}", quoted(found)))
        }),
        Some(load::Error::Io(errors)) => errors
            .first()
            .map(|(path, _)| Error::new(Kind::Syntax, place(source, path), "a filter cannot import other files")),
        None => None,
    }
    .unwrap_or_else(|| Error::new(Kind::Syntax, 0..source.len(), "this filter cannot be read"))
}

fn compile_error(source: &str, roots: &[&str], errors: jaq_core::compile::Errors<&str, ()>) -> Error {
    let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
    let Some((name, undefined)) = first else {
        return Error::new(Kind::Syntax, 0..source.len(), "this filter cannot be compiled");
    };
    let error =
        Error::new(Kind::Syntax, place(source, name), format!("there is no {} `{name}` here", undefined.as_str()));
    let help = match name {
        "now" | "localtime" | "strflocaltime" => {
            Some("a replay must compute the same again; use `$run.started_at`".into())
        }
        "env" | "$ENV" => Some("a filter sees `$inputs`, `$tasks` and the like, not the environment".into()),
        name if name.starts_with('$') => did_you_mean(&name[1..], roots.iter().copied()),
        _ => None,
    };
    Error { help, ..error }
}

/// Where `part`, a slice of `source`, stands in it.
fn place(source: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(source.as_ptr() as usize);
    let end = start.saturating_add(part.len());
    if end > source.len() {
        return 0..source.len();
    }
    start..end
}

fn quoted(found: &str) -> String {
    match found.chars().next() {
        None => "the end of the filter".into(),
        Some(_) => format!("`{}`", found.lines().next().unwrap_or("").chars().take(20).collect::<String>()),
    }
}

/// A message of at most [`MESSAGE_BYTES_MAX`] bytes, never written further than that.
fn bounded(message: &impl fmt::Display) -> String {
    struct Short(String);
    impl Write for Short {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars() {
                if self.0.len() + c.len_utf8() > MESSAGE_BYTES_MAX {
                    self.0.push('…');
                    return Err(fmt::Error);
                }
                self.0.push(c);
            }
            Ok(())
        }
    }
    let mut short = Short(String::new());
    // An error only says that the message was cut.
    let _ = write!(short, "{message}");
    short.0
}

fn read(value: &Json) -> Val {
    match value {
        Json::Null => Val::Null,
        Json::Bool(value) => Val::Bool(*value),
        Json::Number(number) => Val::from_num(number.as_str()).unwrap_or(Val::Null),
        Json::String(text) => Val::from(text.clone()),
        Json::Array(items) => items.iter().map(read).collect(),
        Json::Object(members) => {
            Val::obj(members.iter().map(|(key, value)| (Val::from(key.clone()), read(value))).collect())
        }
    }
}

/// Not-a-number becomes `null` as in jq; an infinite number has no JSON and is an error.
fn write(value: &Val, depth: usize) -> Result<Json, String> {
    if depth > DEPTH_MAX {
        return Err(format!("the filter makes a value that is more than {DEPTH_MAX} levels deep"));
    }
    Ok(match value {
        Val::Null => Json::Null,
        Val::Bool(value) => Json::Bool(*value),
        Val::Num(number) => match number.to_string() {
            text if text == "NaN" => Json::Null,
            text => Json::Number(
                text.parse().map_err(|_| format!("the filter makes the number `{text}`, which JSON cannot hold"))?,
            ),
        },
        Val::BStr(bytes) | Val::TStr(bytes) => Json::String(String::from_utf8_lossy(bytes).into_owned()),
        Val::Arr(items) => Json::Array(items.iter().map(|item| write(item, depth + 1)).collect::<Result<_, _>>()?),
        Val::Obj(members) => {
            let member = |(key, value): (&Val, &Val)| match key {
                Val::TStr(key) => Ok((String::from_utf8_lossy(key).into_owned(), write(value, depth + 1)?)),
                _ => Err("the filter makes an object with a key that is not text".to_owned()),
            };
            Json::Object(members.iter().map(member).collect::<Result<_, _>>()?)
        }
    })
}

/// Drops a value level by level: left to itself a deep one would be dropped by recursion.
fn dismantle(value: Val) {
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            Val::Arr(items) => left.extend(jaq_json::Rc::try_unwrap(items).into_iter().flatten()),
            Val::Obj(members) => {
                left.extend(jaq_json::Rc::try_unwrap(members).into_iter().flatten().map(|(_, value)| value));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Outputs as JSON lines, or the error with what it points at.
    fn told(source: &str, input: &str) -> String {
        let ctx = Context::new().with("inputs", serde_json::json!({"shop": "de"})).with("tasks", serde_json::json!({}));
        let input: Json = serde_json::from_str(input).unwrap();
        let told = |error: Error| {
            let help = error.help.map(|help| format!("; {help}")).unwrap_or_default();
            format!("{} [{}]{help}", error.message, &source[error.range])
        };
        match Filter::parse(source, &["inputs", "tasks"]).and_then(|filter| filter.run(&input, &ctx)) {
            Ok(outputs) => outputs.iter().map(Json::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => told(error),
        }
    }

    #[test]
    fn computes_and_says_what_is_wrong() {
        for (source, input, expected) in [
            (".", r#"{"b":1,"a":12.50}"#, r#"{"b":1,"a":12.50}"#),
            (".id", r#"{"id":9223372036854775808}"#, "9223372036854775808"),
            (
                ".[]",
                "[1e400, 1.0, 0.10, -7, 170141183460469231731687303715884105728]",
                "1e+400 1.0 0.10 -7 170141183460469231731687303715884105728",
            ),
            (".id + 1", r#"{"id":9223372036854775807}"#, "9223372036854775808"),
            (".[] | select(.q > 1) | {sku: .s}", r#"[{"q":1,"s":"a"},{"q":2,"s":"b"}]"#, r#"{"sku":"b"}"#),
            ("$inputs.shop + .x", r#"{"x":"!"}"#, r#""de!""#),
            ("$tasks", "null", "{}"),
            ("[.[] | tostring] | join(\",\")", "[1,\"a\"]", r#""1,a""#),
            ("1, 2, empty", "null", "1 2"),
            ("nan", "null", "null"),
            ("infinite", "null", "the filter makes the number `Infinity`, which JSON cannot hold [infinite]"),
            ("{(1|tostring): 2}", "null", r#"{"1":2}"#),
            ("{(1): 2}", "null", "the filter makes an object with a key that is not text [{(1): 2}]"),
            ("error(\"no\")", "null", "the filter failed: \"no\" [error(\"no\")]"),
            (".a.b", "[1]", "the filter failed: cannot index [1] with \"a\" [.a.b]"),
            ("[.[] | .a", "[]", "this `[` is never closed [[]"),
            (".a | bar", "null", "there is no filter `bar` here [bar]"),
            ("1 +", "null", "expected term, found the end of the filter []"),
            (". )", "null", "expected token, found `)` [)]"),
            ("$input.x", "null", "there is no variable `$input` here [$input]; did you mean `inputs`?"),
            (
                "env",
                "null",
                "there is no filter `env` here [env]; a filter sees `$inputs`, `$tasks` and the like, not the environment",
            ),
            (
                "$ENV.PATH",
                "null",
                "there is no variable `$ENV` here [$ENV]; a filter sees `$inputs`, `$tasks` and the like, not the environment",
            ),
            (
                "now",
                "null",
                "there is no filter `now` here [now]; a replay must compute the same again; use `$run.started_at`",
            ),
            ("halt", "null", "there is no filter `halt` here [halt]"),
            ("halt_error", "null", "there is no filter `halt_error` here [halt_error]"),
            ("input", "null", "there is no filter `input` here [input]"),
            ("debug", "null", "there is no filter `debug` here [debug]"),
            ("import \"a\" as a; .", "null", "a filter cannot import other files [a]"),
            (
                "range(1e9)",
                "null",
                "the filter makes more than 100000 values [range(1e9)]; collect them in one list: `[ … ]`",
            ),
            ("break $x", "null", "there is no label `$x` here [$x]"),
        ] {
            assert_eq!(told(source, input), expected, "{source}");
        }
    }

    #[test]
    fn keeps_its_bounds() {
        let long = format!(". {}", " ".repeat(limits::EXPRESSION_SOURCE_BYTES_MAX));
        assert!(told(&long, "null").starts_with("this filter is longer than 16384 bytes"));
        for repeated in [".|", "(", "[", "-", "\"\\("] {
            let source = repeated.repeat(16_000 / repeated.len());
            assert!(told(&source, "null").starts_with("this filter has more than 4000"), "{repeated}");
            assert!(!told(&source[..4_000], "null").is_empty(), "{repeated}");
        }
        let deep = "reduce range(100000) as $i (null; [.])";
        assert!(told(deep, "null").starts_with("the filter makes a value that is more than 120 levels deep"));
        let wide = "[range(90000)] | map(\"0123456789\" * 20) | .[]";
        assert!(told(wide, "null").starts_with("the filter makes more than 16777216 bytes"));
    }

    #[test]
    fn is_shared_between_threads() {
        fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
        shared(&Filter::parse(".", &[]).unwrap());
    }
}
