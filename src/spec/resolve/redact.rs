//! `redact` of routes and tasks: the paths, and who reads what they blank.

use super::desk::Desk;
use crate::expr::JsonPath;
use crate::spec::source_map::Path;

/// Reads the paths.
pub(super) fn paths(desk: &mut Desk<'_>, path: &Path, raw: &[String]) -> Vec<JsonPath> {
    let mut paths = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        match JsonPath::parse(text) {
            Ok(json_path) => paths.push(json_path),
            Err(error) => {
                let whole = format!("$.{text}");
                let help = match JsonPath::parse(&whole) {
                    Ok(_) => format!("write `{whole}`"),
                    Err(_) => error.help.clone().unwrap_or_default(),
                };
                desk.bad_value(&path.with(index), &error.message, help);
            }
        }
    }
    paths
}

/// The path that blanks all of what these keys lead to. Only plain paths are compared: what a pattern hits is known
/// when a body is there.
pub(super) fn hit<'r>(raw: &'r [String], keys: &[String]) -> Option<&'r str> {
    let blanks = |text: &&'r str| {
        let Some(rest) = text.strip_prefix("$.").filter(|rest| !rest.contains(['[', '*']) && !rest.contains(".."))
        else {
            return *text == "$";
        };
        let blanked: Vec<&str> = rest.split('.').collect();
        keys.len() >= blanked.len() && blanked.iter().zip(keys).all(|(a, b)| a == b)
    };
    raw.iter().map(String::as_str).find(blanks)
}
