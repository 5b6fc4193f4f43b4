//! `clawhook init`: a folder to start from, with the shipped examples. It never writes over anything.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::output;

/// Where to begin.
#[derive(Debug, Clone, Args)]
pub(super) struct Init {
    /// The folder; made when it is not there
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// Every file that is written, by its place in the folder: the examples that the tests run.
const FILES: [(&str, &str); 10] = [
    ("clawhook.yaml", include_str!("../../clawhook.yaml")),
    ("routes/shopify.yaml", include_str!("../../routes/shopify.yaml")),
    ("routes/schedules.yaml", include_str!("../../routes/schedules.yaml")),
    ("workflows/shopify-order-to-erp.yaml", include_str!("../../workflows/shopify-order-to-erp.yaml")),
    ("workflows/shopify-order-to-erp.test.yaml", include_str!("../../workflows/shopify-order-to-erp.test.yaml")),
    ("workflows/inventory-reconcile.yaml", include_str!("../../workflows/inventory-reconcile.yaml")),
    ("workflows/inventory-reconcile.test.yaml", include_str!("../../workflows/inventory-reconcile.test.yaml")),
    ("workflows/order-confirm.yaml", include_str!("../../workflows/order-confirm.yaml")),
    ("workflows/order-confirm.test.yaml", include_str!("../../workflows/order-confirm.test.yaml")),
    ("workflows/fixtures/order-unknown.yaml", include_str!("../../workflows/fixtures/order-unknown.yaml")),
];

pub(super) fn run(init: &Init) -> Result<ExitCode, Error> {
    let there: Vec<_> = FILES.iter().map(|(name, _)| place(&init.folder, name)).filter(|path| path.exists()).collect();
    if !there.is_empty() {
        let names: Vec<_> = there.iter().map(|path| format!("`{}`", path.display())).collect();
        return Err(Error::new(format!("nothing was written, because there is {} already", names.join(", ")))
            .help("name an empty folder, such as `clawhook init my-gateway`"));
    }
    for (name, text) in FILES {
        write(&place(&init.folder, name), text)?;
    }
    output::print(&next_steps(&init.folder));
    Ok(ExitCode::SUCCESS)
}

/// Where a file goes, without a `./` before it.
fn place(folder: &Path, name: &str) -> PathBuf {
    if folder == Path::new(".") { PathBuf::from(name) } else { folder.join(name) }
}

/// Fails when the file has come into being meanwhile.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let told = |error: std::io::Error| Error::file("write", path, &error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(told)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(told)?;
    file.write_all(text.as_bytes()).map_err(told)
}

const NEXT: [&str; 5] = [
    "  export CLAWHOOK_SECRET_SHOPIFY_US_WEBHOOK_KEY=change-me CLAWHOOK_SECRET_ERP_API_KEY=change-me",
    "  clawhook check     # every problem of every file at once",
    "  clawhook test      # plays the tests beside the workflows, offline",
    "  clawhook next      # when the schedules are due",
    "  clawhook serve     # opens the doors",
];

fn next_steps(folder: &Path) -> String {
    let mut lines: Vec<_> = FILES.iter().map(|(name, _)| format!("wrote {}", place(folder, name).display())).collect();
    lines.push("\nNext:".to_owned());
    if folder != Path::new(".") {
        lines.push(format!("  cd {}", folder.display()));
    }
    lines.extend(NEXT.map(str::to_owned));
    lines.join("\n")
}
