//! Which programs `command` tasks may run, and how much each may take.

use std::path::PathBuf;

use super::Table;
use crate::domain::byte_size;
use crate::limits;
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::tasks::command::settings::{Bounds, Refused, Settings};

impl Table<'_> {
    /// What `commands` says; what is wrong in it is told. Without it no program may run.
    pub(super) fn commands(&mut self, raw: Option<&raw::Commands>) -> Settings {
        let Some(raw) = raw else { return Settings::default() };
        let path = Path::root().with("commands");
        let mut allow = Vec::new();
        for (index, text) in raw.allow.iter().enumerate() {
            let entry = PathBuf::from(text);
            if let Err(refused) = Settings::check_entry(&entry) {
                self.refused(&path.with("allow").with(index), &refused);
            }
            allow.push(entry);
        }
        if raw.unbounded {
            let message = "commands may take all of this machine where it cannot bound them";
            let problem = self.desk.at("spec.command", message, &path.with("unbounded"));
            self.desk.push(problem.warning().help("keep `unbounded: true` for development, where nothing is lost"));
        }
        let default = Bounds::default();
        Settings {
            allow,
            bounds: Bounds {
                memory_bytes: self.command_memory(&path, raw).unwrap_or(default.memory_bytes),
                cpu: raw.cpu.unwrap_or(default.cpu),
                processes: raw.processes.unwrap_or(default.processes),
            },
            concurrency: raw.concurrency.map_or(limits::COMMANDS_ACTIVE_MAX, usize::from),
            unbounded: raw.unbounded,
        }
    }

    fn command_memory(&mut self, path: &Path, raw: &raw::Commands) -> Option<u64> {
        let path = path.with("memory");
        let bytes = self.desk.size(&path, raw.memory.as_ref(), usize::MAX).map(|bytes| bytes as u64)?;
        if bytes < limits::COMMAND_MEMORY_BYTES_MIN {
            let least = byte_size::format(limits::COMMAND_MEMORY_BYTES_MIN);
            let help = format!("write `memory: {least}`, or more");
            self.desk.bad_value(&path, &format!("no program starts in less than {least}"), help);
        }
        Some(bytes)
    }

    fn refused(&mut self, path: &Path, refused: &Refused) {
        let code = match refused {
            Refused::Form(_) => "spec.value",
            Refused::Absent(..) => "spec.file",
            _ => "spec.command",
        };
        let problem = self.desk.at(code, refused.to_string(), path);
        self.desk.push(problem.help(refused.help()));
    }
}
