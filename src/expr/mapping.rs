//! A tree of values whose texts may hold expressions: `with`, `inputs`, `outputs`, `labels`.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::template::{Name, Template};
use super::{Context, Error, Kind};

/// A JSON tree with templates in it, parsed once. Cheap to clone. Keys are literal.
#[derive(Debug, Clone)]
pub struct Mapping {
    part: Part,
}

#[derive(Debug, Clone)]
enum Part {
    /// Nothing below here is a template.
    Constant(Arc<Json>),
    Template(Template),
    List(Arc<[Part]>),
    Map(Arc<[(String, Part)]>),
}

/// A [`Name`] and the JSON pointer of the text that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// JSON pointer (RFC 6901) of the text inside the mapping.
    pub pointer: String,
    /// What is looked up there.
    pub name: Name,
}

impl Mapping {
    /// Reads every text in `value`. All errors are told, each with its `pointer`.
    pub fn parse(value: &Json) -> Result<Self, Vec<Error>> {
        let mut errors = Vec::new();
        let part = read(value, &mut String::new(), &mut errors);
        if errors.is_empty() { Ok(Self { part }) } else { Err(errors) }
    }

    /// The tree with every template replaced by its value; an error tells its `pointer`.
    pub fn eval(&self, ctx: &Context) -> Result<Json, Error> {
        eval(&self.part, ctx)
    }

    /// Whether there is no expression in it.
    pub fn is_constant(&self) -> bool {
        matches!(self.part, Part::Constant(_))
    }

    /// The paths that the expressions look up, with the place of each.
    pub fn names(&self) -> Vec<Place> {
        let mut places = Vec::new();
        collect(&self.part, &mut String::new(), &mut places);
        places
    }
}

fn read(value: &Json, pointer: &mut String, errors: &mut Vec<Error>) -> Part {
    match value {
        Json::String(text) => match Template::parse(text) {
            Ok(template) if !template.is_constant() => Part::Template(template),
            Ok(template) => Part::Constant(Arc::new(template.eval(&Context::new()).unwrap_or_else(|_| value.clone()))),
            Err(error) => {
                errors.push(Error { pointer: pointer.clone(), ..error });
                Part::Constant(Arc::new(Json::Null))
            }
        },
        Json::Array(items) => {
            let below =
                |(place, item): (usize, &Json)| at(pointer, &place.to_string(), |pointer| read(item, pointer, errors));
            let parts: Vec<Part> = items.iter().enumerate().map(below).collect();
            constant(parts.iter(), || Json::Array(parts.iter().filter_map(content).collect()))
                .unwrap_or_else(|| Part::List(parts.clone().into()))
        }
        Json::Object(members) => {
            let mut parts = Vec::with_capacity(members.len());
            for (key, member) in members {
                if let Some(start) = key.find("${{") {
                    let error = Error::new(Kind::Syntax, start..key.len(), "a key cannot be an expression");
                    errors.push(Error { pointer: pointer.clone(), ..error });
                }
                parts.push((key.clone(), at(pointer, key, |pointer| read(member, pointer, errors))));
            }
            let object = || parts.iter().filter_map(|(key, part)| Some((key.clone(), content(part)?)));
            constant(parts.iter().map(|(_, part)| part), || Json::Object(object().collect()))
                .unwrap_or_else(|| Part::Map(parts.clone().into()))
        }
        other => Part::Constant(Arc::new(other.clone())),
    }
}

/// One constant out of parts that are all constant.
fn constant<'p>(mut parts: impl Iterator<Item = &'p Part>, join: impl FnOnce() -> Json) -> Option<Part> {
    parts.all(|part| matches!(part, Part::Constant(_))).then(|| Part::Constant(Arc::new(join())))
}

fn content(part: &Part) -> Option<Json> {
    match part {
        Part::Constant(value) => Some(Json::clone(value)),
        _ => None,
    }
}

fn eval(part: &Part, ctx: &Context) -> Result<Json, Error> {
    match part {
        Part::Constant(value) => Ok(Json::clone(value)),
        Part::Template(template) => template.eval(ctx),
        Part::List(parts) => {
            let items = parts.iter().enumerate();
            items.map(|(place, part)| eval(part, ctx).map_err(|error| below(error, &place.to_string()))).collect()
        }
        Part::Map(parts) => {
            let value = |(key, part): &(String, Part)| {
                let value = eval(part, ctx).map_err(|error| below(error, key))?;
                Ok((key.clone(), value))
            };
            parts.iter().map(value).collect::<Result<Map<_, _>, _>>().map(Json::Object)
        }
    }
}

fn collect(part: &Part, pointer: &mut String, places: &mut Vec<Place>) {
    match part {
        Part::Constant(_) => {}
        Part::Template(template) => {
            places.extend(template.names().into_iter().map(|name| Place { pointer: pointer.clone(), name }));
        }
        Part::List(parts) => {
            for (place, part) in parts.iter().enumerate() {
                at(pointer, &place.to_string(), |pointer| collect(part, pointer, places));
            }
        }
        Part::Map(parts) => {
            for (key, part) in &**parts {
                at(pointer, key, |pointer| collect(part, pointer, places));
            }
        }
    }
}

/// Runs `walk` with `key` at the end of the pointer.
fn at<T>(pointer: &mut String, key: &str, walk: impl FnOnce(&mut String) -> T) -> T {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(&escaped(key));
    let result = walk(pointer);
    pointer.truncate(length);
    result
}

fn below(error: Error, key: &str) -> Error {
    Error { pointer: format!("/{}{}", escaped(key), error.pointer), ..error }
}

/// RFC 6901, section 3.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
