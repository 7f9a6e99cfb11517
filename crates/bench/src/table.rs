//! The one table, in Markdown, so that it can be put into a page as it is.

use comfy_table::{CellAlignment, Table, presets};

use crate::BenchResult;

/// One line: what was measured, and what it was to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// What was measured.
    pub(crate) what: String,
    /// What came of it, with its unit and spread.
    pub(crate) figure: String,
    /// The same over what it is measured by, where it is measured by something.
    pub(crate) ratio: Option<f64>,
    /// The aim, in words; empty where there is none.
    pub(crate) aim: &'static str,
    /// Whether the aim is met, where there is one that a figure can meet.
    pub(crate) met: Option<bool>,
}

/// The lines of the benchmarks, and for one that could not be run that and why.
pub(crate) fn render(benchmarks: &[(&str, BenchResult<Vec<Line>>)]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["benchmark", "figure", "ratio", "aim", "met"]);
    for (name, lines) in benchmarks {
        match lines {
            Ok(lines) => lines.iter().for_each(|line| {
                table.add_row(cells(line));
            }),
            Err(error) => {
                let why = format!("FAILED: {}", error.to_string().replace(['\n', '|'], " "));
                table.add_row([(*name).to_owned(), why, String::new(), String::new(), "failed".to_owned()]);
            }
        }
    }
    if let Some(ratios) = table.column_mut(2) {
        ratios.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn cells(line: &Line) -> [String; 5] {
    let met = match line.met {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    let ratio = line.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
    [line.what.clone(), line.figure.clone(), ratio, line.aim.to_owned(), met.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_benchmark_that_could_not_be_run_says_so_in_its_own_line() {
        let line = Line {
            what: "ping".to_owned(),
            figure: "1 ms".to_owned(),
            ratio: Some(1.234),
            aim: "≤ 1.6",
            met: Some(true),
        };
        let table = render(&[("one", Ok(vec![line])), ("two", Err("no | broker\nat all".into()))]);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(lines[2], ["", "ping", "1 ms", "1.23", "≤ 1.6", "yes", ""]);
        assert_eq!(lines[3], ["", "two", "FAILED: no   broker at all", "", "", "failed", ""]);
    }
}
