//! How values and their kinds are called in messages.

use serde_json::Value;

/// Longest text that a message repeats, characters.
const SHOWN_CHARS_MAX: usize = 60;

/// What a value is, as in "expected a list, found the text `x`".
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("the number `{}`", short(&number.to_string())),
        Value::String(text) if text.is_empty() => "an empty text".into(),
        Value::String(text) => format!("the text `{}`", short(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a map".into(),
    }
}

/// What a JSON Schema type is called.
pub(super) fn of_type(name: &str) -> &'static str {
    match name {
        "null" => "nothing",
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "text",
        "array" => "a list",
        _ => "a map",
    }
}

/// The first characters of a text, on one line.
pub(super) fn short(text: &str) -> String {
    let line = text.split(['\n', '\r']).next().unwrap_or_default();
    let mut shown: String = line.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// "`a`, `b` or `c`", with the last joined by `word`.
pub(super) fn listed<S: AsRef<str>>(names: &[S], word: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} {word} {last}", rest.join(", ")),
    }
}

/// The known name that a wrong one was probably meant to be.
pub(super) fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let wrong = plain(name);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&wrong, &plain(candidate));
    let allowed = |candidate: &str| (wrong.chars().count().max(candidate.chars().count()) / 3).clamp(1, 3);
    let is_start = |candidate: &str| wrong.chars().count() >= 3 && plain(candidate).starts_with(&wrong);
    known
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed(candidate) || is_start(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names() {
        let known = ["retry", "retry_delay", "timeout", "with", "if", "id"];
        let check = |wrong, right| assert_eq!(similar(wrong, known), right, "{wrong}");
        check("retri", Some("retry"));
        check("retry-delay", Some("retry_delay"));
        check("Timeout", Some("timeout"));
        check("wiht", Some("with"));
        check("time", Some("timeout"));
        check("path", None);
        check("banana", None);
        check("x", None);
    }
}
