//! A server under measurement: a child process with an address, a log, and a size.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::Result;

/// Longest that a server may take to open its door.
const START_MAX: Duration = Duration::from_secs(30);

/// A server that runs; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    pub(crate) address: SocketAddr,
    log: Option<PathBuf>,
}

impl Server {
    /// Starts it and waits until its door takes connections. What it prints goes to `log`, or nowhere.
    pub(crate) fn start(name: &'static str, command: Command, address: SocketAddr, log: Option<&Path>) -> Result<Self> {
        let mut server = Self::spawn(name, command, address, log)?;
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            server.check()?;
            if begun.elapsed() > START_MAX {
                return Err(format!("{name} did not open {address}{}", server.said()).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(server)
    }

    /// Starts it without waiting.
    pub(crate) fn spawn(
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
        log: Option<&Path>,
    ) -> Result<Self> {
        let output = |log: Option<&Path>| -> Result<Stdio> {
            Ok(match log {
                Some(log) => File::options().create(true).append(true).open(log)?.into(),
                None => Stdio::null(),
            })
        };
        command.stdin(Stdio::null()).stdout(output(log)?).stderr(output(log)?);
        let child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Self { name, child, address, log: log.map(Path::to_owned) })
    }

    /// Fails when it has ended, with what it said.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("{} ended with {status}{}", self.name, self.said()).into()),
        }
    }

    /// The last lines that it printed.
    fn said(&self) -> String {
        let text = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(20).collect();
        lines.iter().rev().fold(String::new(), |said, line| said + "\n  " + line)
    }

    /// Resident memory now, KiB.
    pub(crate) fn memory_kib(&self) -> Result<u32> {
        self.status("VmRSS:")
    }

    /// The most resident memory that it ever had, KiB.
    pub(crate) fn memory_peak_kib(&self) -> Result<u32> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> Result<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        Ok(value.ok_or_else(|| format!("no `{name}` in the status of {}", self.name))?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about either error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on loopback that nobody listens on now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
