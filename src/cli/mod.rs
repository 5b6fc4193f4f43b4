//! The command line: one file for each verb. Verbs read arguments, ask another part, and say in words or as JSON what
//! came of it; results go to stdout, everything else to stderr. They hold no rules of their own.

mod api;
mod approvals;
mod artifact;
mod check;
mod config;
mod doctor;
mod error;
mod estimate;
mod explain;
mod export;
mod init;
mod inputs;
mod journals;
mod launch_command;
mod next;
mod notify;
mod output;
mod plan;
mod progress;
mod record;
mod reference;
mod reload;
mod routes;
mod run;
mod runs;
mod schedules;
mod schema;
mod secrets;
mod serve;
mod show;
mod sources;
mod state;
mod store;
mod subscriptions;
mod systemd;
mod table;
mod test;
mod token;
mod trigger;
mod words;

use std::process::ExitCode;

use clap::builder::FalseyValueParser;
use clap::{Parser, Subcommand};

use error::Error;
use output::Output;

use crate::tasks::command::launch;

pub use self::explain::CODES;

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "clawhook",
    version,
    about = "Webhooks and cron in, YAML workflows run, every run on record",
    after_help = "Exit codes: 0 it worked, 1 it did not, 2 the arguments are wrong, 130 interrupted."
)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// No colours
    #[arg(
        long,
        global = true,
        env = "NO_COLOR",
        value_parser = FalseyValueParser::new(),
        action = clap::ArgAction::SetTrue,
        hide_env = true
    )]
    no_color: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Writes a folder to start from: settings, a route, a schedule, two workflows
    Init(init::Init),
    /// Tells every problem of every file at once
    Check(check::Check),
    /// Looks whether this machine and all that the gateway needs are fit, and says what mends it
    Doctor(doctor::Doctor),
    /// Computes machine, storage, operations and price from what is expected
    Estimate(estimate::Estimating),
    /// Runs a workflow here and now, without a server
    Run(run::Run),
    /// Plays the tests of workflows, offline, and says what is not as expected
    Test(test::Test),
    /// Makes a test and its fixture of a real run
    Record(record::Record),
    /// Sends one message on a channel, to try it
    Notify(notify::Notify),
    /// Compares the files with the running gateway: what a reload would change, and what it would leave
    Plan(plan::Planning),
    /// Compares what platforms send here with what routes want, and mends it
    #[command(subcommand)]
    Subscriptions(subscriptions::Subscriptions),
    /// Shows when the schedules are due
    Next(next::Next),
    /// Opens the doors and runs what comes in
    Serve(serve::Serve),
    /// Starts a workflow on a gateway
    Trigger(trigger::Trigger),
    /// Finds runs, looks into them, cancels, replays, resumes
    #[command(subcommand)]
    Runs(runs::Runs),
    /// Lists what waits for people, and decides it
    #[command(subcommand)]
    Approvals(approvals::Approvals),
    /// Shows and sets what a workflow remembers from run to run
    #[command(subcommand)]
    State(state::States),
    /// Lists, pauses, resumes and backfills schedules
    #[command(subcommand)]
    Schedules(schedules::Schedules),
    /// Lists, pauses and resumes routes
    #[command(subcommand)]
    Routes(routes::Routes),
    /// Lists what is fetched instead of being sent here
    #[command(subcommand)]
    Sources(sources::Sources),
    /// Lists requests that were refused, and why
    #[command(subcommand)]
    Refusals(journals::Refusals),
    /// Lists who did what
    Audit(journals::Audit),
    /// Puts the files in force as they stand now, all or none
    Reload(schedules::Where),
    /// Says which secrets can be had, and what would mend the others
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// Makes tokens for the control door
    #[command(subcommand)]
    Token(token::Token),
    /// Says what a code means, whose side it is on, and what to do
    Explain(explain::Explain),
    /// Verifies the store, backs it up, restores it, moves it to another backend
    #[command(subcommand)]
    Store(store::Stores),
    /// Prints the reference of the language
    Reference(reference::Wanted),
    /// Prints the JSON Schema of a kind of file
    Schema(schema::Schema),
    /// Writes the whole record of runs as JSON
    Export(export::Export),
    /// Becomes a program; the gateway calls it
    #[command(name = launch::VERB, hide = true)]
    LaunchCommand(launch_command::LaunchCommand),
}

/// Becomes the program of a `command` task, when that was typed. It comes before everything else, because threads must
/// not have started by then. `None` when something else was typed.
pub fn launch(arguments: &Arguments) -> Option<ExitCode> {
    match &arguments.verb {
        Verb::LaunchCommand(wanted) => Some(launch_command::run(wanted)),
        _ => None,
    }
}

/// Does what was typed.
pub async fn run(arguments: Arguments) -> ExitCode {
    let output = Output::detect(arguments.no_color);
    match dispatch(arguments.verb, output).await {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(verb: Verb, output: Output) -> Result<ExitCode, Error> {
    match verb {
        Verb::Init(init) => init::run(&init),
        Verb::Check(check) => check::run(&check, output).await,
        Verb::Doctor(doctor) => doctor::run(&doctor, output).await,
        Verb::Estimate(asked) => estimate::run(&asked),
        Verb::Run(run) => run::run(&run, output).await,
        Verb::Test(test) => test::run(&test, output).await,
        Verb::Record(wanted) => record::run(&wanted).await,
        Verb::Notify(notify) => notify::run(&notify, output).await,
        Verb::Plan(plan) => plan::run(&plan, output).await,
        Verb::Subscriptions(asked) => subscriptions::run(asked, output).await,
        Verb::Next(next) => next::run(&next),
        Verb::Serve(serve) => serve::run(serve).await,
        Verb::Trigger(trigger) => trigger::run(&trigger).await,
        Verb::Runs(runs) => runs::run(runs, output).await,
        Verb::Schedules(schedules) => schedules::run(&schedules).await,
        Verb::State(state) => state::run(&state).await,
        Verb::Approvals(approvals) => approvals::run(&approvals).await,
        Verb::Routes(routes) => routes::run(&routes).await,
        Verb::Sources(sources) => sources::run(&sources).await,
        Verb::Refusals(refusals) => journals::refusals(&refusals).await,
        Verb::Audit(audit) => journals::audit(&audit).await,
        Verb::Reload(at) => reload::run(&at).await,
        Verb::Secrets(secrets) => secrets::run(&secrets).await,
        Verb::Token(token) => token::run(&token),
        Verb::Explain(explain) => explain::run(&explain),
        Verb::Store(stores) => store::run(stores, output).await,
        Verb::Reference(wanted) => Ok(reference::run(&wanted)),
        Verb::Schema(schema) => Ok(schema::run(&schema)),
        Verb::Export(export) => export::run(&export, output).await,
        Verb::LaunchCommand(wanted) => Ok(launch_command::run(&wanted)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_of_arguments_holds_together() {
        Arguments::command().debug_assert();
    }

    #[track_caller]
    fn check(line: &str, fits: bool) {
        let parsed = Arguments::try_parse_from(line.split(' '));
        assert_eq!(parsed.is_ok(), fits, "{line}: {:?}", parsed.err().map(|error| error.to_string()));
    }

    #[test]
    fn lines_that_people_type() {
        for line in [
            "clawhook init",
            "clawhook init shop",
            "clawhook check --json",
            "clawhook test workflows/a.test.yaml --filter order --junit out.xml --output json",
            "clawhook record run_01k4q8zr5m2c7 --out tests --name late --redact $.email",
            "clawhook notify ops --text hello --json",
            "clawhook run w.yaml --input a=1 --input b=x=y --inputs i.json",
            "clawhook next --count 3 --schedule s --from 2026-03-29T00:00:00Z",
            "clawhook trigger w --input a=1 --wait 30s --idempotency-key k",
            "clawhook runs list --status failed --status waiting --since 2h --label order=#1042 --limit 10",
            "clawhook runs show run_01k4q8zr5m2c7 --full",
            "clawhook runs cancel run_01k4q8zr5m2c7 --reason wrong",
            "clawhook schedules backfill s --since 2d --until 1d",
            "clawhook routes pause r --reason maintenance",
            "clawhook sources list --json",
            "clawhook refusals list --route r",
            "clawhook audit --limit 5",
            "clawhook reload --url http://127.0.0.1:9",
            "clawhook token create --subject ci --scope runs:read --ttl 1h",
            "clawhook secrets check --config c.yaml --json",
            "clawhook explain http.status",
            "clawhook explain http_request",
            "clawhook reference tasks",
            "clawhook schema workflow",
            "clawhook export run_01k4q8zr5m2c7",
            "clawhook export --since 1d --out records",
            "clawhook check --no-color",
        ] {
            check(line, true);
        }
        for line in [
            "clawhook",
            "clawhook runs list --status done",
            "clawhook runs list --since yesterday",
            "clawhook next --count 0",
            "clawhook trigger w --wait 30",
            "clawhook run w.yaml --input a",
            "clawhook runs list --user a --token b --password c",
            "clawhook export",
            "clawhook export run_01k4q8zr5m2c7 --workflow w",
            "clawhook token create --subject ci --scope root",
            "clawhook reference table",
            "clawhook schema table",
        ] {
            check(line, false);
        }
    }
}
