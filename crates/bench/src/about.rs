//! The machine that the figures are of.

use std::fs;
use std::process::Command;

/// The lines above the table: processor, kernel, versions.
pub(crate) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let nats_server = std::env::var_os("NATS_SERVER").unwrap_or_else(|| "nats-server".into());
    [
        format!("- processor: {}, {} cores", model.unwrap_or("unknown"), crate::cores()),
        format!("- kernel: Linux {}", kernel.trim()),
        format!("- broker: {}", first_line(Command::new(nats_server).arg("--version"))),
        format!("- compiler: {}", first_line(Command::new("rustc").arg("--version"))),
        format!("- load when it began: {}", load()),
    ]
    .join("\n")
}

/// How many processes wanted to run in the last minute, on average.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").to_owned()
}

fn first_line(command: &mut Command) -> String {
    let first_line = command.output().ok().and_then(|output| String::from_utf8(output.stdout).ok());
    first_line
        .and_then(|first_line| first_line.lines().next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}
