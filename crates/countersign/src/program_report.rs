//! What a program wrote and how it ended, as its client signed it (section 13), for people. JSON has it whole.

use std::fmt::Write as _;

use countersign_protocol::json::read;
use countersign_protocol::output::{OutputReport, Stream, StreamReport};
use countersign_protocol::reply::ErrorBody;
use countersign_protocol::text::escape;
use serde_json::{Map, Value, json};

use crate::text::{counted, cut};

/// How much of a text or a value stands in one line, in characters.
const MAX_IN_LINE: usize = 512;
/// Where a tab ends, in characters.
const TAB: usize = 8;

/// What is known of a program that ran.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProgramReport {
    output: OutputReport,
    exit_code: Option<i64>,
    /// Its own result, as JSON.
    value: Option<String>,
}

impl ProgramReport {
    /// By the result of a command, if that is a program's.
    pub(crate) fn of_result(result: &Value) -> Option<Self> {
        Self::of(result.as_object()?)
    }

    /// By the details of an error, if they are a program's.
    pub(crate) fn of_error(error: &ErrorBody) -> Option<Self> {
        Self::of(error.details.as_ref()?)
    }

    fn of(members: &Map<String, Value>) -> Option<Self> {
        let streams = json!({ "stdout": members.get("stdout")?, "stderr": members.get("stderr")? });
        Some(Self {
            output: read(&streams).ok()?,
            exit_code: members.get("exit_code").and_then(Value::as_i64),
            value: members.get("value").map(Value::to_string),
        })
    }

    fn stream(&self, stream: Stream) -> &StreamReport {
        match stream {
            Stream::Stdout => &self.output.stdout,
            Stream::Stderr => &self.output.stderr,
        }
    }

    /// How it ended, where that was by itself.
    pub(crate) fn exit(&self) -> Option<String> {
        self.exit_code.map(|code| format!("exit status {code}"))
    }

    /// What it wrote and its result, in one line; of several lines the first one. Not yet escaped.
    pub(crate) fn line(&self) -> String {
        let stdout = first_line(&self.output.stdout);
        let stderr = || first_line(&self.output.stderr).map(|text| format!("stderr: {text}"));
        let value = self.value.as_ref().map(|value| format!("result {}", cut(value, MAX_IN_LINE)));
        let parts: Vec<String> = stdout.or_else(stderr).into_iter().chain(value).collect();
        match (parts.is_empty(), self.exit()) {
            (false, _) => parts.join("; "),
            (true, Some(exit)) => format!("{exit}, and it wrote nothing"),
            (true, None) => "it wrote nothing".to_owned(),
        }
    }

    /// What a program that failed wrote last, in one line: to standard error, else to standard output. Not yet escaped.
    pub(crate) fn last_words(&self) -> Option<String> {
        let last = |stream: Stream| {
            let text = &self.stream(stream).text;
            let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
            Some(format!("{stream}: {}", cut(line, MAX_IN_LINE)))
        };
        last(Stream::Stderr).or_else(|| last(Stream::Stdout))
    }

    /// Its result, and what it wrote unless that was shown before, in lines below a verdict. Escaped.
    pub(crate) fn rows(&self, is_shown: bool) -> String {
        let mut rows = String::new();
        for stream in Stream::ALL.iter().filter(|_| !is_shown) {
            let report = self.stream(*stream);
            let mut label = stream.to_string();
            for line in report.text.lines().map(str::to_owned).chain(remark(report)) {
                let _ = write!(rows, "\n  {label:7} {}", escape(&with_spaces(&line)));
                label.clear();
            }
        }
        if let Some(value) = &self.value {
            let _ = write!(rows, "\n  {:7} {}", "result", escape(value));
        }
        rows
    }
}

/// What is missing of the text.
fn remark(report: &StreamReport) -> Option<String> {
    let (bytes, shown) = (report.bytes, report.text.len() as u64);
    if report.exact {
        return None;
    }
    let is_cut = bytes > shown;
    let shown = match is_cut {
        true => format!("(the beginning and the end of {}", counted(bytes, "byte")),
        false => "(not all of it is text".to_owned(),
    };
    Some(match &report.kept {
        Some(kept) => {
            let lost = bytes.saturating_sub(kept.head.saturating_add(kept.tail));
            let fault = kept.fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
            format!(
                "{shown}; {} of it {} not kept{fault})",
                counted(lost, "byte"),
                if lost == 1 { "is" } else { "are" }
            )
        }
        None => format!("{shown}; `output` shows all of it)"),
    })
}

/// The first line that says something, and how many more there are.
fn first_line(report: &StreamReport) -> Option<String> {
    let mut lines = report.text.lines().filter(|line| !line.trim().is_empty());
    let first = cut(lines.next()?.trim_end(), MAX_IN_LINE).into_owned();
    match lines.count() as u64 {
        _ if !report.exact && report.bytes > report.text.len() as u64 => {
            Some(format!("{first} (of {})", counted(report.bytes, "byte")))
        }
        0 => Some(first),
        more => Some(format!("{first} (and {})", counted(more, "more line"))),
    }
}

fn with_spaces(line: &str) -> String {
    let mut spaced = String::new();
    let mut column = 0;
    for character in line.chars() {
        let width = if character == '\t' { TAB - column % TAB } else { 1 };
        match character {
            '\t' => spaced.extend(std::iter::repeat_n(' ', width)),
            _ => spaced.push(character),
        }
        column += width;
    }
    spaced
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use countersign_protocol::digest::Digest;

    use super::*;

    fn stream(text: &str, bytes: u64, exact: bool) -> Value {
        json!({ "bytes": bytes, "sha256": Digest::of(text.as_bytes()), "text": text, "exact": exact })
    }

    fn whole(text: &str) -> Value {
        stream(text, text.len() as u64, true)
    }

    fn of(stdout: Value, stderr: Value, more: Value) -> ProgramReport {
        let mut result = more;
        result["stdout"] = stdout;
        result["stderr"] = stderr;
        ProgramReport::of_result(&result).unwrap()
    }

    #[test]
    fn in_one_line_a_program_is_what_it_wrote_and_its_result() {
        for (stdout, stderr, more, line) in [
            ("up 3 days\n", "", json!({"exit_code": 0}), "up 3 days"),
            ("a\nb\n\nc\n", "w\n", json!({"exit_code": 0, "value": [1]}), "a (and 2 more lines); result [1]"),
            ("", "hm\n", json!({"exit_code": 0}), "stderr: hm"),
            ("", "", json!({"exit_code": 0}), "exit status 0, and it wrote nothing"),
        ] {
            assert_eq!(of(whole(stdout), whole(stderr), more).line(), line);
        }
        let cut = of(stream("a\n[… about 9 kB …]\nz", 9_000, false), whole(""), json!({"exit_code": 0}));
        assert_eq!(cut.line(), "a (of 9000 bytes)");
    }

    #[test]
    fn of_a_program_that_failed_the_last_line_is_said() {
        let trace = whole("Traceback:\n  line 1\nValueError: 1\n\n");
        let words = |stdout, stderr| of(whole(stdout), stderr, json!({"exit_code": 1})).last_words();
        assert_eq!(words("out\n", trace).as_deref(), Some("stderr: ValueError: 1"));
        assert_eq!(words("out\n", whole("")).as_deref(), Some("stdout: out"));
        assert_eq!(words("", whole("")), None);
    }

    #[test]
    fn below_a_verdict_is_all_of_its_text_escaped_and_what_is_missing() {
        let report = of(whole("a\tb\n\u{1b}[2J\n"), whole("w\n"), json!({"exit_code": 0, "value": {"n": "\u{202e}"}}));
        let rows = "\n  stdout  a       b\n          \\u{1b}[2J\n  stderr  w\n  result  {\"n\":\"\\u{202e}\"}";
        assert_eq!(report.rows(false), rows);
        assert_eq!(report.rows(true), "\n  result  {\"n\":\"\\u{202e}\"}");
        let mut kept = stream("a", 9_000, false);
        kept["kept"] = json!({"head": 1, "tail": 0, "sha256": Digest::of(b"a")});
        let missing = of(kept, stream("?", 1, false), json!({"exit_code": 0})).rows(false);
        assert!(
            missing.contains("(the beginning and the end of 9000 bytes; 8999 bytes of it are not kept)"),
            "{missing}"
        );
        assert!(missing.contains("(not all of it is text; `output` shows all of it)"), "{missing}");
    }

    #[test]
    fn what_is_no_programs_result_is_none() {
        for other in [json!([1]), json!({"stdout": "a"}), json!({"stdout": whole(""), "stderr": 1}), json!(null)] {
            assert_eq!(ProgramReport::of_result(&other), None);
        }
    }
}
