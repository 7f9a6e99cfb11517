//! A worker with a command of its own: `disk_usage`, beside `ping` and `calculate`.
//!
//! ```text
//! countersign init
//! cargo run --example disk_usage -- keys worker-1 /tmp/countersign-state
//! countersign start worker-1
//! countersign call worker-1 disk_usage --args '{"path": "/"}'
//! ```
//!
//! The operator's grant must allow the command by its name, or all commands. What is wrong with the arguments is found before
//! the command runs, and answered by `invalid_args`; what it fails at itself, by `failed`.

use std::error::Error;

use countersign_client::{Client, ClientConfig, Commands, DataCommand, Failure, JobContext, LongRunning, shutdown};
use countersign_host::clock;
use countersign_keys::{KeyFolder, load_member, load_trust};
use countersign_protocol::credential::Role;
use countersign_protocol::limits::SKEW;
use rustix::fs::statvfs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Tells how full a file system is.
struct DiskUsage;

/// Which one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// A file or folder that lies on it.
    #[schemars(length(min = 1, max = 4096))]
    path: String,
}

/// How full it is.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Usage {
    /// How large it is, in bytes.
    total: u64,
    /// What is left for ordinary users, in bytes.
    available: u64,
}

impl DataCommand for DiskUsage {
    const NAME: &'static str = "disk_usage";
    type Args = Args;
    type Output = Usage;
}

// Long-running, although it is quick as a rule: a network file system whose server is gone makes the call wait. It waits on a
// thread of its own, so that the job can be cancelled all the same.
impl LongRunning for DiskUsage {
    async fn run(&self, Args { path }: Args, _: JobContext) -> Result<Usage, Failure> {
        let found = tokio::task::spawn_blocking(move || statvfs(path.as_str())).await??;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Usage { total: bytes(found.f_blocks), available: bytes(found.f_bavail) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(keys), Some(name), Some(state)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: disk_usage KEYS NAME STATE".into());
    };
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());

    let keys = KeyFolder::new(keys);
    let trust = load_trust(&keys)?;
    let member = load_member(&keys, Role::Client, &name.parse()?, &trust, clock::wall(), SKEW)?;
    let commands = Commands::standard()?.long_running(DiskUsage)?;

    let (stopper, shutdown) = shutdown();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            stopper.stop();
        }
    });
    Client::new(ClientConfig::new(member, trust, url, state), commands).run(shutdown).await?;
    Ok(())
}
