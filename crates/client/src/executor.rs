//! Runs what the machine has decided to run: immediate commands on the spot, the others as tasks.

use std::collections::HashMap;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use countersign_machine::client::{Execution, ExecutionResult, JobKey};
use countersign_protocol::name::Name;
use countersign_protocol::reply::Progress;
use countersign_protocol::time::Millis;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinSet};

use crate::command::{Context, JobContext};
use crate::console::Console;
use crate::output::{JobOutput, OutputStore};
use crate::programs;
use crate::registry::Run;

/// How many progress reports wait to be taken, at most; later ones are passed over.
const MAX_REPORTS: usize = 64;

/// The jobs that run, and what they report.
pub(crate) struct Executor {
    client: Name,
    runs: HashMap<Name, Run>,
    console: Console,
    output: Arc<OutputStore>,
    /// The client, where it stands before each line that a job prints.
    prefix: Option<Name>,
    tasks: JoinSet<ExecutionResult>,
    keys: HashMap<Id, JobKey>,
    handles: HashMap<JobKey, CancelHandle>,
    report: mpsc::Sender<(JobKey, Progress)>,
    reports: mpsc::Receiver<(JobKey, Progress)>,
}

/// How a job is cancelled.
enum CancelHandle {
    /// By dropping its future.
    Abort(AbortHandle),
    /// By asking it: a program is ended with all that it started, and says what became of it.
    Ask(watch::Sender<bool>),
}

/// Something that a job reports.
#[derive(Debug, PartialEq)]
pub(crate) enum JobEvent {
    Finished(JobKey, ExecutionResult),
    Progress(JobKey, Progress),
}

impl Executor {
    pub(crate) fn new(client: Name, runs: HashMap<Name, Run>, console: Console, output: Arc<OutputStore>) -> Self {
        let (report, reports) = mpsc::channel(MAX_REPORTS);
        let (tasks, keys, handles) = (JoinSet::new(), HashMap::new(), HashMap::new());
        Self { client, runs, console, output, prefix: None, tasks, keys, handles, report, reports }
    }

    /// The same, where the client's name, the command and its id stand before each line that a job prints.
    pub(crate) fn prefixed(self, prefix: Option<Name>) -> Self {
        Self { prefix, ..self }
    }

    /// Runs a command: an immediate one to its end, which is returned; the end of another is reported by [`Self::next_event`].
    pub(crate) fn execute(&mut self, execution: Execution, now: Millis) -> Option<ExecutionResult> {
        let key = execution.key();
        let context = Context { command_id: key.id, operator: execution.operator().clone(), now };
        match self.runs.get(execution.name()) {
            Some(Run::Immediate(run)) => {
                // What a panic leaves half done is the command's own; the client shares nothing with it.
                let finished = catch_unwind(AssertUnwindSafe(|| run(execution.args(), &context)));
                Some(finished.unwrap_or_else(|_| panicked()))
            }
            Some(Run::LongRunning(start)) => {
                let job = self.job(key, execution.name(), context);
                let started = catch_unwind(AssertUnwindSafe(|| start(execution.into_args(), job)));
                let Ok(job) = started else {
                    self.output.end(key);
                    return Some(panicked());
                };
                let handle = self.tasks.spawn(job);
                self.keys.insert(handle.id(), key);
                self.handles.insert(key, CancelHandle::Abort(handle));
                None
            }
            Some(Run::Program(program)) => {
                let job = self.job(key, execution.name(), context);
                let (ask, is_cancelled) = watch::channel(false);
                let running =
                    programs::run(Arc::clone(program), execution.into_args(), job, self.client.clone(), is_cancelled);
                self.keys.insert(self.tasks.spawn(running).id(), key);
                self.handles.insert(key, CancelHandle::Ask(ask));
                None
            }
            None => Some(ExecutionResult::Broken("it is not registered".to_owned())),
        }
    }

    fn job(&self, key: JobKey, command: &Name, context: Context) -> JobContext {
        self.output.begin(key);
        let output = JobOutput::new(Arc::clone(&self.output), key);
        let prefix = self.prefix.as_ref().map(|client| format!("{client}/{command}/{}: ", key.id));
        let (progress, console) = (self.report.clone(), self.console.clone());
        JobContext { context, key, progress, console, output, prefix: prefix.unwrap_or_default() }
    }

    /// Runs these commands from now on. Jobs that run go on.
    pub(crate) fn replace(&mut self, runs: HashMap<Name, Run>) {
        self.runs = runs;
    }

    /// Cancels a job. [`Self::next_event`] reports whether it finished before.
    pub(crate) fn cancel(&mut self, key: JobKey) {
        match self.handles.get(&key) {
            Some(CancelHandle::Abort(handle)) => handle.abort(),
            Some(CancelHandle::Ask(ask)) => {
                ask.send_replace(true);
            }
            None => {}
        }
    }

    /// The next event of a job. Nothing is lost when this is dropped while it waits.
    pub(crate) async fn next_event(&mut self) -> JobEvent {
        tokio::select! {
            (key, finished) = next_end(&mut self.tasks, &mut self.keys) => {
                self.handles.remove(&key);
                self.output.end(key);
                JobEvent::Finished(key, finished)
            }
            Some((key, progress)) = self.reports.recv() => JobEvent::Progress(key, progress),
        }
    }
}

async fn next_end(tasks: &mut JoinSet<ExecutionResult>, keys: &mut HashMap<Id, JobKey>) -> (JobKey, ExecutionResult) {
    while let Some(joined) = tasks.join_next_with_id().await {
        let (id, finished) = match joined {
            Ok((id, finished)) => (id, finished),
            Err(error) if error.is_cancelled() => (error.id(), cancelled()),
            Err(error) => (error.id(), panicked()),
        };
        if let Some(key) = keys.remove(&id) {
            return (key, finished);
        }
    }
    pending().await
}

fn cancelled() -> ExecutionResult {
    ExecutionResult::Cancelled { message: "the job was cancelled".to_owned(), details: None }
}

fn panicked() -> ExecutionResult {
    ExecutionResult::Broken("it panicked".to_owned())
}

#[cfg(test)]
mod tests;
