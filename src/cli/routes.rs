//! `clawhook routes`: what takes webhooks, paused and resumed.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::api::{Api, Place};
use super::error::Error;
use super::output;
use super::schedules::{One, Pause, Where};
use super::table::table;
use super::words::{count, list, number, text};

/// What to do with routes.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Routes {
    /// Lists the routes
    List(Where),
    /// Keeps accepting deliveries, and holds their runs until it is resumed
    Pause(Pause),
    /// Lets a paused route go on, and the runs go that it held
    Resume(One),
}

pub(super) async fn run(routes: &Routes) -> Result<ExitCode, Error> {
    match routes {
        Routes::List(at) => {
            let answer = Api::open(&at.server)?.get(&Place::new(&["routes"])).await?;
            output::show(at.json, &answer, || show_list(&answer));
        }
        Routes::Pause(Pause { one, reason }) => {
            let place = Place::new(&["routes", &one.name, "pause"]);
            let answer = Api::open(&one.at.server)?.post(&place, &json!({ "reason": reason })).await?;
            output::show(one.at.json, &answer, || {
                format!("`{}` is paused: deliveries are accepted, and their runs are held", one.name)
            });
        }
        Routes::Resume(one) => {
            let place = Place::new(&["routes", &one.name, "resume"]);
            let answer = Api::open(&one.at.server)?.post(&place, &json!({})).await?;
            output::show(one.at.json, &answer, || {
                let released = usize::try_from(number(&answer, "released")).unwrap_or(usize::MAX);
                format!("`{}` goes on, and so do the {} that it held", one.name, count(released, "run"))
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_list(answer: &Value) -> String {
    let routes = list(answer, "items");
    if routes.is_empty() {
        return "no routes".to_owned();
    }
    let rows = routes.iter().map(|route| {
        let state = match (&route["enabled"], &route["paused"]) {
            (Value::Bool(false), _) => "disabled",
            (_, Value::Bool(true)) => "paused",
            _ => "active",
        };
        let members = ["name", "path", "verify", "workflow"].map(|member| text(route, member).to_owned());
        members.into_iter().chain([state.to_owned()]).collect()
    });
    table(&["ROUTE", "PATH", "VERIFIED AS", "WORKFLOW", "STATE"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_their_state() {
        let answer = json!({ "items": [
            { "name": "shopify-us-orders", "path": "/hooks/shopify/us/orders", "verify": "shopify",
              "workflow": "shopify-order-to-erp", "enabled": true, "paused": true },
            { "name": "old", "path": "/hooks/old", "verify": "none", "workflow": "w", "enabled": false, "paused": false },
        ] });
        insta::assert_snapshot!(show_list(&answer));
    }
}
