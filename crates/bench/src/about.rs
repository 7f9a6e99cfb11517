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
        format!("- broker: {}", said(Command::new(nats_server).arg("--version"))),
        format!("- compiler: {}", said(Command::new("rustc").arg("--version"))),
        format!("- load when it began: {}", load()),
    ]
    .join("\n")
}

/// How many processes wanted to run in the last minute, on average.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").to_owned()
}

fn said(command: &mut Command) -> String {
    let said = command.output().ok().and_then(|output| String::from_utf8(output.stdout).ok());
    said.and_then(|said| said.lines().next().map(str::to_owned)).unwrap_or_else(|| "unknown".to_owned())
}
