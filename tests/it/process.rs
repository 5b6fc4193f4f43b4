//! The real program as a process of its own: started, killed, and everything it says kept.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::app::{Control, Folder};

/// Looks for the lines that say where the doors are, and the pause between two of them.
const LOOKS_MAX: usize = 6_000;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs the program in `folder` to its end, with nothing in the environment but `env`.
pub(crate) fn clawhook<N: AsRef<OsStr>, V: AsRef<OsStr>>(
    folder: &Path,
    arguments: &[&str],
    env: impl IntoIterator<Item = (N, V)>,
) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clawhook"));
    command.current_dir(folder).args(arguments).env_clear().envs(env).stdin(Stdio::null()).output().unwrap()
}

/// `clawhook serve` on the files of a folder. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    said: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    pub(crate) hooks: String,
    pub(crate) control: Control,
}

impl Process {
    /// Starts it and waits until its doors are open.
    pub(crate) async fn start(folder: &Folder, log: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_clawhook"))
            .args(["serve", "--config"])
            .arg(folder.path("clawhook.yaml"))
            .env_clear()
            .env("CLAWHOOK_LOG", log)
            .envs(&folder.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let readers = vec![keep(child.stdout.take().unwrap(), &said), keep(child.stderr.take().unwrap(), &said)];
        let mut process =
            Self { child, said, readers, hooks: String::new(), control: Control::new("http://127.0.0.1:1") };
        process.hooks = process.door("hooks listening on ").await;
        process.control = Control::new(&process.door("control listening on ").await);
        process
    }

    async fn door(&mut self, line: &str) -> String {
        for _ in 0..LOOKS_MAX {
            let said = self.said.lock().unwrap().clone();
            if let Some(url) = said.lines().find_map(|said| said.strip_prefix(line)) {
                return url.to_owned();
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the gateway ended: {said}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("the gateway does not say where it listens: {}", self.said.lock().unwrap());
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`: nothing of it gets to run any more.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// `kill -TERM`: it stops in order. Answers all that it said.
    pub(crate) fn stop(mut self) -> String {
        let told = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(told.success());
        let ended = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let said = self.said.lock().unwrap().clone();
        assert!(ended.success(), "{ended}: {said}");
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn keep(stream: impl Read + Send + 'static, said: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let mut said = said.lock().unwrap();
            said.push_str(&line);
            said.push('\n');
        }
    })
}
