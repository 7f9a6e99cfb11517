//! `calculate`.

use std::time::Duration;

use countersign_protocol::command;
use tokio::time::{Instant, sleep_until};

use crate::command::{DataCommand, Failure, JobContext, LongRunning};

/// How often it reports its progress.
const REPORT: Duration = Duration::from_secs(2);

/// `calculate`: computes for `x` seconds, reporting every two seconds how far it is, and prints `msg` at the end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calculate;

impl DataCommand for Calculate {
    const NAME: &'static str = "calculate";
    const DESCRIPTION: &'static str = "Computes for x seconds, then prints msg.";
    type Args = command::Calculate;
    type Output = command::Calculate;
}

impl LongRunning for Calculate {
    async fn run(&self, args: command::Calculate, job: JobContext) -> Result<command::Calculate, Failure> {
        let start = Instant::now();
        let end = start + Duration::try_from_secs_f64(args.x)?;
        let mut report = start + REPORT;
        while report < end {
            sleep_until(report).await;
            job.progress(report.duration_since(start).as_secs_f64() / args.x, None);
            report += REPORT;
        }
        sleep_until(end).await;
        job.print(&args.msg).await?;
        Ok(args)
    }
}
