//! `clawhook reload`: puts the files in force as they stand now, all or none.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::api::{Api, Place};
use super::error::Error;
use super::output;
use super::schedules::Where;
use super::words::{count, list, number};

pub(super) async fn run(at: &Where) -> Result<ExitCode, Error> {
    let answer = Api::open(&at.server)?.post(&Place::new(&["reload"]), &json!({})).await?;
    output::show(at.json, &answer, || show(&answer));
    Ok(ExitCode::SUCCESS)
}

fn show(answer: &Value) -> String {
    let many = |member, noun| count(usize::try_from(number(answer, member)).unwrap_or(usize::MAX), noun);
    let changed: Vec<_> = list(answer, "changed").iter().filter_map(Value::as_str).collect();
    let changed =
        if changed.is_empty() { "no workflow changed".to_owned() } else { format!("changed: {}", changed.join(", ")) };
    format!(
        "in force: {}, {}, {}; {changed}",
        many("workflows", "workflow"),
        many("routes", "route"),
        many("schedules", "schedule")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force() {
        let answer = json!({ "workflows": 2, "routes": 1, "schedules": 0, "changed": ["a"] });
        assert_eq!(show(&answer), "in force: 2 workflows, 1 route, 0 schedules; changed: a");
    }
}
