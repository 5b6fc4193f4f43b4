//! Our reading of the grammar, held against MiniJinja's.

use serde_json::{Value as Json, json};

use super::{Context, Expression};

/// What both read. Left out are the places where we differ on purpose: fractions, `/`, printed booleans, and
/// order between kinds.
const SOURCES: &[&str] = &[
    "a + 2 * 3 - -1",
    "2 ** 3 ** 2",
    "-2 ** 2",
    "-a.x | default(1)",
    "7 // 2",
    "-7 // 2",
    "-7 % 3",
    "7 % -3",
    "a ~ s ~ 1",
    "1 + 2 ~ 3 + 4",
    "not a == 3",
    "not a in l",
    "a not in l",
    "1 < 2 < 3",
    "3 > 2 > 2",
    "1 < a == t",
    "a if t else z",
    "1 if z else 2 if z else 3",
    "t and a or z",
    "z or a and t",
    "z and nope",
    "t or nope",
    "l[0]",
    "l[-1]",
    "l[1:3]",
    "l[::-1]",
    "l[-2:]",
    "l[5:]",
    "s[1:4]",
    "s[::-2]",
    "o.k",
    "o['n'].m[1]",
    "o.n.m | length",
    "o.x | default('d')",
    "z | default('d')",
    "z | default('d', true)",
    "o.x is defined",
    "o.k is defined",
    "o.x is undefined",
    "a is odd",
    "a is not even",
    "a is divisibleby 3",
    "s is string",
    "l is sequence",
    "o is mapping",
    "z is none",
    "s is startingwith 'he'",
    "s is endingwith('ld') and t",
    "a is number",
    "s | upper",
    "s | title",
    "s | capitalize",
    "s | replace('o', '0')",
    "s | split(' ')",
    "s | length",
    "l | sort",
    "l | sort(reverse=true)",
    "l | unique | list",
    "l | min",
    "l | max",
    "l | sum",
    "l | first",
    "l | last",
    "l | reverse | list",
    "l | join('-')",
    "l | map('string') | list",
    "l | select('odd') | list",
    "l | reject('gt', 1) | list",
    "l | batch(3) | list",
    "[o] | map(attribute='n.m') | list",
    "[o] | selectattr('k', 'eq', 'v') | list",
    "o | items | list",
    "o | dictsort | first",
    "l | list",
    "s | list | length",
    "range(2, 6, 2) | list",
    "dict(a=1)",
    "{'a': l, 'b': {}}",
    "[1, [2]] + [3]",
    "'a' 'b' | default('x')",
    "-3 | abs",
    "s | trim('h')",
    "'1' | int + 1",
    "a == 3 and l == [3, 1, 2, 1]",
    "'k' in o",
    "'ell' in s",
    "[1, 2] < [1, 3]",
    "'a' < 'b'",
    "(a)",
    "((a)) + 1",
    "none",
    "True",
    "l[a - 3]",
    "o[s[0] if z else 'k']",
];

#[test]
fn agrees_with_minijinja() {
    let mut env = minijinja::Environment::new();
    env.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    let values = json!({"a": 3, "s": "hello World", "l": [3, 1, 2, 1], "o": {"k": "v", "n": {"m": [1, 2]}}, "t": true, "z": null});
    let ours = Context::new()
        .with("a", values["a"].clone())
        .with("s", values["s"].clone())
        .with("l", values["l"].clone())
        .with("o", values["o"].clone())
        .with("t", values["t"].clone())
        .with("z", values["z"].clone());
    for source in SOURCES {
        let theirs = env.compile_expression(source).and_then(|parsed| parsed.eval(theirs_of(&values)));
        let mine = Expression::parse(source).and_then(|parsed| parsed.eval(&ours));
        let theirs = theirs
            .ok()
            .filter(|value| !value.is_undefined())
            .map(|value| serde_json::to_string(&value).unwrap_or_default());
        let mine = mine.map(|value| value.to_string());
        assert_eq!(mine.clone().ok(), theirs, "{source}: {mine:?}");
    }
}

/// With arbitrary precision a JSON number is not a number to other libraries.
fn theirs_of(value: &Json) -> minijinja::Value {
    match value {
        Json::Number(number) => minijinja::Value::from(number.as_i64()),
        Json::Array(items) => items.iter().map(theirs_of).collect(),
        Json::Object(members) => {
            minijinja::Value::from_pairs(members.iter().map(|(key, value)| (key.as_str(), theirs_of(value))))
        }
        Json::String(text) => minijinja::Value::from(text.as_str()),
        Json::Bool(value) => minijinja::Value::from(*value),
        Json::Null => minijinja::Value::from(()),
    }
}
