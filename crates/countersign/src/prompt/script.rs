//! A script on standard input: line by line, each to its verdicts.

use std::io::{BufRead, Read, stdin};
use std::string::FromUtf8Error;

use countersign_protocol::limits::MAX_BODY;
use tokio::sync::mpsc;

use super::session::{LineOutcome, Session};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::signals::Signals;
use crate::text::Place;
use crate::{output, requests};

/// The longest line that is read: a command of the greatest length, quoted.
const MAX_LINE: usize = 4 * MAX_BODY;

/// Executes each line, goes on after an error, and ends with the worst status.
pub(super) async fn run(mut session: Session<'_>, mut signals: Signals) -> CliResult<Exit> {
    let (sender, mut lines) = mpsc::channel(1);
    // A read from standard input cannot be given up: it has a thread, which ends with the process.
    std::thread::spawn(move || read_lines(stdin().lock(), &sender));
    let mut worst = Exit::Succeeded;
    let mut number = 0_u64;
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            event = session.operator.next() => {
                session.on_event(event.map_err(|error| requests::failure(error, None))?)?;
                continue;
            }
            exit = signals.first() => return Ok(exit),
        };
        let Some(line) = line else { return Ok(worst) };
        number += 1;
        let default = session.target();
        let outcome = match line {
            Ok(line) => tokio::select! {
                outcome = session.run_line(&line, default.as_ref()) => outcome,
                exit = signals.first() => Err(session.interrupted(exit)),
            },
            Err(failure) => Err(failure),
        };
        let is_sent = matches!(outcome, Ok(LineOutcome::Sent(_)));
        let exit = match outcome {
            Ok(LineOutcome::Done) => Exit::Succeeded,
            Ok(LineOutcome::Ended(exit)) => exit,
            Ok(LineOutcome::Quit) => return Ok(worst),
            Err(failure) if [Exit::Interrupted, Exit::Terminated].contains(&failure.exit()) => {
                return Err(failure.at(&format!("line {number}")));
            }
            Ok(LineOutcome::Sent(id)) => tokio::select! {
                exit = session.wait_for_report(id) => exit?,
                exit = signals.first() => {
                    session.stop_waiting()?;
                    return Ok(exit);
                }
            },
            Err(failure) => output::failure(&failure.at(&format!("line {number}")), Place::Prompt),
        };
        if exit != Exit::Succeeded && is_sent {
            session.output.alarm(&format!("line {number} ended with the status {}", exit as u8));
        }
        worst = worst.worse(exit);
    }
}

/// Reads lines, none of them unbounded, until the end or until nobody wants them.
fn read_lines(mut from: impl BufRead, to: &mpsc::Sender<CliResult<String>>) {
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    let mut is_first = true;
    loop {
        let mut bytes = Vec::new();
        let read = from.by_ref().take(limit).read_until(b'\n', &mut bytes);
        let is_last = read.is_err();
        let line = match read {
            Ok(0) => return,
            Ok(_) if bytes.len() == MAX_LINE && !bytes.ends_with(b"\n") => {
                if skip_line(&mut from).is_err() {
                    return;
                }
                Err(CliError::usage("it is too long").expected(format!("at most {MAX_LINE} bytes")).hint("shorten it"))
            }
            Ok(_) => text(bytes, is_first).map_err(|_| {
                CliError::usage("it is not UTF-8").expected("text in UTF-8").hint("convert the script to UTF-8")
            }),
            Err(error) => {
                Err(CliError::usage(format!("standard input cannot be read: {error}")).expected("lines of text"))
            }
        };
        is_first = false;
        if to.blocking_send(line).is_err() || is_last {
            return;
        }
    }
}

/// A line without its end, which may be that of another system, and the first one without a byte-order mark.
fn text(bytes: Vec<u8>, is_first: bool) -> Result<String, FromUtf8Error> {
    let line = String::from_utf8(bytes)?;
    let line = line.strip_suffix('\n').map_or(&*line, |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(if is_first { line.trim_start_matches('\u{feff}') } else { line }.to_owned())
}

fn skip_line(from: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = from.fill_buf()?;
        let (skip, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        from.consume(skip);
        if ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn a_line_that_is_too_long_or_no_text_is_an_error_and_the_next_one_is_read() {
        let mut script = vec![b'x'; MAX_LINE + 100];
        script.extend_from_slice(b"\nping\n\xff\nstatus");
        let (sender, mut lines) = mpsc::channel(8);
        read_lines(script.as_slice(), &sender);
        drop(sender);
        let mut read = Vec::new();
        while let Ok(line) = lines.try_recv() {
            read.push(line.map_err(|failure| failure.lines(Place::Prompt).next().unwrap().1));
        }
        let expected = [
            Err("it is too long".to_owned()),
            Ok("ping".to_owned()),
            Err("it is not UTF-8".to_owned()),
            Ok("status".to_owned()),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_read() {
        let mut script = vec![b'x'; MAX_LINE - 1];
        script.extend_from_slice(b"\nping");
        let (sender, mut lines) = mpsc::channel(8);
        read_lines(script.as_slice(), &sender);
        assert_eq!(lines.try_recv().unwrap().unwrap().len(), MAX_LINE - 1);
        assert_eq!(lines.try_recv().unwrap().unwrap(), "ping");
    }

    #[test]
    fn the_line_ends_and_the_byte_order_mark_of_other_systems_are_not_part_of_a_line() {
        let (sender, mut lines) = mpsc::channel(8);
        read_lines(&b"\xef\xbb\xbfstart\r\ncalculate 0 done\r\n\r\nquit\r"[..], &sender);
        drop(sender);
        let read: Vec<String> = std::iter::from_fn(|| lines.try_recv().ok()).map(Result::unwrap).collect();
        assert_eq!(read, ["start", "calculate 0 done", "", "quit\r"]);
    }
}
