//! A real nats-server that runs as this repository configures it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::folder::Folder;

/// A broker for one folder of keys; it ends with the test.
pub struct Broker {
    process: Child,
    pub port: u16,
}

/// The program: NATS_SERVER, or what is on the PATH. Without one these tests fail with a message.
pub fn nats_server() -> Command {
    Command::new(std::env::var_os("NATS_SERVER").unwrap_or_else(|| "nats-server".into()))
}

/// Puts the repository's own configuration beside the folder of keys, as it lies in the repository.
pub fn configure(folder: &Folder) {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nats.conf");
    fs::copy(ours, folder.path("nats.conf")).unwrap();
}

impl Broker {
    pub fn start(folder: &Folder) -> Self {
        configure(folder);
        Self::start_as_configured(folder)
    }

    pub fn start_without_jetstream(folder: &Folder) -> Self {
        configure(folder);
        let configuration = folder.read("nats.conf").replace("jetstream {", "jetstream {\n  enabled: false");
        fs::write(folder.path("nats.conf"), configuration).unwrap();
        Self::start_as_configured(folder)
    }

    /// Beside a configuration that is there already.
    pub fn start_as_configured(folder: &Folder) -> Self {
        let mut command = nats_server();
        command.env("NATS_ACCOUNTS", folder.path("accounts")).current_dir(folder.path("")).args([
            "-c",
            "nats.conf",
            "-sd",
            "store",
            "-a",
            "127.0.0.1",
            "-p",
            "-1",
        ]);
        let started = command.stderr(Stdio::piped()).spawn();
        let mut process = started.unwrap_or_else(|error| {
            panic!("no nats-server: {error}. Run the tests by `./just test`, or name one by NATS_SERVER")
        });
        let mut port = None;
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        for line in log.by_ref() {
            let line = line.unwrap();
            if let Some((_, address)) = line.split_once("Listening for client connections on ") {
                port = address.rsplit(':').next().and_then(|port| port.trim().parse().ok());
            }
            if line.contains("Server is ready") {
                break;
            }
        }
        // Its further output must not fill the pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, port: port.unwrap() }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Checks the configuration.
fn check(folder: &Folder) -> Command {
    let mut command = nats_server();
    command.args(["-t", "-c", "nats.conf"]).env("NATS_ACCOUNTS", "accounts").current_dir(folder.path(""));
    command
}

#[test]
fn nats_server_accepts_the_configuration_with_the_generated_accounts() {
    let folder = Folder::with_keys(&["--client", "worker-1:web,db", "--client", "worker-2"]);
    configure(&folder);
    let checked = check(&folder).output();
    let checked = checked.unwrap_or_else(|error| panic!("no nats-server: {error}. Run the tests by `./just test`"));
    let stderr = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && stderr.contains("configuration file nats.conf is valid"), "{stderr}");
}

#[test]
fn without_the_generated_accounts_the_broker_does_not_start() {
    let folder = Folder::new();
    configure(&folder);
    let checked = check(&folder).output().unwrap();
    let stderr = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && stderr.contains("keys/nats/accounts.conf"), "{stderr}");
}
