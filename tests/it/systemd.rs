//! What the service manager hears, over a socket of ours.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::app::{Folder, OPEN};
use crate::process::Process;

/// Longest wait for one message.
const PATIENCE: Duration = Duration::from_secs(30);

struct Manager(UnixDatagram);

impl Manager {
    /// Messages up to the one that begins so, without the signs of life.
    fn hears(&self, wanted: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let length = self.0.recv(&mut bytes).unwrap_or_else(|error| panic!("{wanted} is not said: {error}"));
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if message.starts_with(wanted) {
                return message;
            }
            assert!(message.starts_with("WATCHDOG=1"), "{message} comes before {wanted}");
        }
    }
}

fn signal(process: &Process, name: &str) {
    assert!(Command::new("kill").args([name, &process.id().to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn ready_alive_reloading_and_stopping() {
    let mut folder = Folder::new(OPEN, None);
    let socket = folder.path("notify.sock");
    let manager = Manager(UnixDatagram::bind(&socket).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    folder.env.insert("NOTIFY_SOCKET".to_owned(), socket.display().to_string());
    folder.env.insert("WATCHDOG_USEC".to_owned(), "200000".to_owned());
    let process = Process::start(&folder, "info").await;
    let ready = manager.hears("READY=1\n");
    assert!(ready.contains(&format!("STATUS=hooks at {}", process.hooks)), "{ready}");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1\n");
    }
    signal(&process, "-HUP");
    let reloading = manager.hears("RELOADING=1\n");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hears("READY=1\n");
    signal(&process, "-TERM");
    manager.hears("STOPPING=1\n");
    process.stop();
}
