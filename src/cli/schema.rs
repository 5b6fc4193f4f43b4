//! `clawhook schema`: the JSON Schemas of the kinds of file, for editors.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::output;
use crate::spec::extensions;
use crate::spec::schema::{FileKind, schema};

/// Which schema.
#[derive(Debug, Clone, Args)]
pub(super) struct Schema {
    /// The kind of file; without it, the kinds are listed
    #[arg(value_enum)]
    kind: Option<Kind>,
}

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// clawhook.yaml
    Settings,
    /// routes/*.yaml
    Routes,
    /// workflows/*.yaml
    Workflow,
    /// workflows/*.test.yaml
    Test,
    /// workflows/fixtures/*.yaml
    Fixtures,
}

pub(super) fn run(wanted: &Schema) -> ExitCode {
    let kind = match wanted.kind {
        Some(Kind::Settings) => FileKind::Settings,
        Some(Kind::Routes) => FileKind::Routes,
        Some(Kind::Workflow) => FileKind::Workflow,
        Some(Kind::Test) => FileKind::Test,
        Some(Kind::Fixtures) => FileKind::Fixtures,
        None => {
            output::print(
                "settings  clawhook.yaml\nroutes    routes/*.yaml\nworkflow  workflows/*.yaml\ntest      workflows/*.test.yaml\nfixtures  workflows/fixtures/*.yaml",
            );
            output::note("`clawhook schema settings` prints one");
            return ExitCode::SUCCESS;
        }
    };
    output::print_json(&schema(kind, &extensions()));
    ExitCode::SUCCESS
}
