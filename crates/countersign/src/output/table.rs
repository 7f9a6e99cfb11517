//! Tables without rules, for people and for `awk`.

use std::collections::BTreeMap;
use std::io;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use countersign_protocol::text::escape;

use super::columns;
use crate::text::cut;

/// The columns whose cells are wrapped. The words of all others are names, ids, states and times, which never break.
const WRAPPED: [&str; 7] = ["ANSWER", "NOTE", "TYPE", "GROUPS", "GROUPS OR GRANT", "FILE", "KEYS"];
/// The columns that are left out, from the first on, where a terminal is too narrow for all.
const OPTIONAL: [&str; 8] = ["TIME", "ARGUMENTS", "VERSION", "JOBS", "BY", "LAST SEEN", "STATE", "TARGETS"];
/// The columns whose cells are cut, with an ellipsis, to what a terminal has room for.
const CUT: [&str; 2] = ["ARGUMENTS", "TARGETS"];
/// A cell that is cut keeps at least this width, in characters.
const MIN_CUT: usize = 9;
/// A wrapped column has at least this width, in characters.
const MIN_WRAPPED: u16 = 16;
const GAP: u16 = 2;

/// A table that fits the terminal, if standard output is one.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let rows = rows.into_iter().map(|row| row.iter().map(|cell| escape(cell).into_owned()).collect());
    fitting(head, rows.collect(), columns(io::stdout()))
}

fn fitting(head: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let shown: Vec<usize> = match width {
        Some(width) => narrowed(head, &rows, width.into()),
        None => (0..head.len()).collect(),
    };
    let takes: usize = shown.iter().map(|column| needed(head, &rows, *column)).sum();
    if let Some(width) = width
        && takes.saturating_sub(GAP.into()) > width.into()
    {
        return blocks(head, &rows, width.into());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(shown.iter().map(|column| head[*column]));
    let widths = width.map(|width| cut_widths(head, &rows, &shown, width.into())).unwrap_or_default();
    for row in &rows {
        let cell = |column: &usize| {
            let cell = row.get(*column)?;
            Some(widths.get(column).map_or_else(|| cell.clone(), |width| shortened(cell, *width)))
        };
        table.add_row(shown.iter().filter_map(cell));
    }
    match width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for (column, shown) in table.column_iter_mut().zip(&shown) {
        column.set_padding((0, GAP));
        column.set_constraint(match WRAPPED.contains(&head[*shown]) {
            true => {
                let needed = u16::try_from(needed(head, &rows, *shown)).unwrap_or(MIN_WRAPPED + GAP);
                ColumnConstraint::LowerBoundary(Width::Fixed(needed))
            }
            false => ColumnConstraint::ContentWidth,
        });
    }
    table.trim_fmt()
}

/// Where a terminal is too narrow for the columns that must be there: a block for each row, which has them all.
fn blocks(head: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let names = head.iter().skip(1).map(|name| name.len()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for row in rows {
        lines.extend(row.first().cloned());
        for (name, cell) in head.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty() && *cell != "-") {
            let mut name = *name;
            for line in wrapped(cell, width.saturating_sub(names + 2 * usize::from(GAP))) {
                lines.push(format!("  {name:names$}  {line}"));
                name = "";
            }
        }
    }
    lines.join("\n")
}

/// The words of a text in lines of this width; a longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The columns that fit.
fn narrowed(head: &[&str], rows: &[Vec<String>], width: usize) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..head.len()).collect();
    for optional in OPTIONAL {
        if shown.iter().map(|column| needed(head, rows, *column)).sum::<usize>() <= width {
            break;
        }
        shown.retain(|column| head[*column] != optional);
    }
    shown
}

/// What a column takes at least, the gap behind it included.
fn needed(head: &[&str], rows: &[Vec<String>], column: usize) -> usize {
    let content = content(head, rows, column);
    usize::from(GAP)
        + match head[column] {
            wrapped if WRAPPED.contains(&wrapped) => content.min(MIN_WRAPPED.into()),
            cut if CUT.contains(&cut) => content.min(MIN_CUT),
            _ => content,
        }
}

/// The width of the longest cell of a column, in characters.
fn content(head: &[&str], rows: &[Vec<String>], column: usize) -> usize {
    let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
    cells.chain([head[column].len()]).max().unwrap_or_default()
}

/// How wide the cells may be that are cut, by column: what the others leave.
fn cut_widths(head: &[&str], rows: &[Vec<String>], shown: &[usize], width: usize) -> BTreeMap<usize, usize> {
    let mut spare = width.saturating_sub(shown.iter().map(|column| needed(head, rows, *column)).sum());
    let cut = shown.iter().filter(|column| CUT.contains(&head[**column]));
    cut.map(|column| {
        let (content, least) = (content(head, rows, *column), needed(head, rows, *column) - usize::from(GAP));
        let more = spare.min(content - least);
        spare -= more;
        (*column, least + more)
    })
    .collect()
}

fn shortened(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width { cell.to_owned() } else { cut(cell, width.saturating_sub(1)).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [&str; 5] = ["CLIENT", "VERDICT", "STATE", "ANSWER", "TIME"];

    fn verdicts() -> Vec<Vec<String>> {
        let rows = [
            ["worker-1", "succeeded", "ready", "printed \"all done\" after 2.5 s, as it was told", "2.5 s"],
            ["worker-2", "interrupted", "unready", "interrupted: the process ended", "-"],
        ];
        rows.map(|row| row.map(str::to_owned).to_vec()).to_vec()
    }

    #[test]
    fn names_verdicts_and_states_are_never_broken_however_narrow_the_terminal() {
        for width in [40, 60, 80, 200] {
            let table = fitting(&HEAD, verdicts(), Some(width));
            assert!(table.lines().all(|line| line.chars().count() <= width.into()), "{width}:\n{table}");
            for word in ["worker-1", "worker-2", "succeeded", "interrupted"] {
                assert!(table.contains(word), "{width}:\n{table}");
            }
        }
        assert!(fitting(&HEAD, verdicts(), Some(80)).contains("unready"));
    }

    #[test]
    fn arguments_are_cut_with_an_ellipsis_to_what_the_other_columns_leave_and_go_first() {
        let head = ["CLIENT", "ID", "COMMAND", "ARGUMENTS", "BY", "STATUS", "TIME"];
        let args = "{\"msg\":\"all of it is done now\",\"x\":2.5}";
        let row =
            ["worker-1", "8a2b90", "calculate", args, "alice", "succeeded", "2.5 s, 3 min ago"].map(str::to_owned);
        for width in [40, 60, 80, 200] {
            let table = fitting(&head, vec![row.to_vec()], Some(width));
            assert!(table.lines().all(|line| line.chars().count() <= width.into()), "{width}:\n{table}");
            for word in ["worker-1", "8a2b90", "calculate", "succeeded"] {
                assert!(table.contains(word), "{width}:\n{table}");
            }
            assert_eq!((table.lines().count(), table.contains(args)), (2, width == 200), "{width}:\n{table}");
        }
        assert!(fitting(&head, vec![row.to_vec()], Some(80)).contains("…"));
    }

    #[test]
    fn where_not_even_the_necessary_columns_fit_each_row_is_a_block_of_all_of_them() {
        let head = ["CLIENT", "ID", "COMMAND", "ARGUMENTS", "BY", "STATUS", "TIME"];
        let rows = [
            ["worker-1", "8a2b90", "python_script", "script=\"result = 1\"", "alice", "succeeded", "2.5 s, 3 min ago"],
            ["worker-2", "8a2b90", "ping", "", "alice", "refused", "-"],
        ];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec()).to_vec();
        let narrow = fitting(&head, rows.clone(), Some(40));
        let expected = "worker-1\n  ID         8a2b90\n  COMMAND    python_script\n  ARGUMENTS  script=\"result = 1\"\n  BY         \
                        alice\n  STATUS     succeeded\n  TIME       2.5 s, 3 min ago\nworker-2\n  ID         8a2b90\n  COMMAND    \
                        ping\n  BY         alice\n  STATUS     refused";
        assert_eq!(narrow, expected);
        let wide = fitting(&head, rows, Some(80));
        assert!(wide.starts_with("CLIENT    ID      COMMAND        ") && wide.lines().count() == 3, "{wide}");
    }

    #[test]
    fn the_time_of_a_command_stays_in_a_history_of_80_columns_whatever_else_is_cut() {
        let head = ["SENT (UTC)", "ID", "COMMAND", "ARGUMENTS", "TARGETS", "VERDICTS"];
        let row = [
            "2026-11-24 08:25",
            "8a2b90",
            "python_script",
            "script=\"result = sum(input)\"",
            "worker-1 worker-2",
            "2 succeeded",
        ];
        let shown = fitting(&head, vec![row.map(str::to_owned).to_vec()], Some(80));
        assert_eq!(shown.lines().count(), 2, "{shown}");
        for word in ["2026-11-24 08:25", "8a2b90", "python_script", "script=", "worker-1", "2 succeeded"] {
            assert!(shown.contains(word), "{word}: {shown}");
        }
    }

    #[test]
    fn a_narrow_roster_keeps_the_states_and_a_column_is_no_wider_than_its_cells() {
        let head = ["CLIENT", "STATE", "GROUPS", "VERSION", "LAST SEEN", "JOBS"];
        let rows = || vec![["worker-1", "unready", "web", "0.1.0", "12.5 s ago", "0"].map(str::to_owned).to_vec()];
        let narrow = fitting(&head, rows(), Some(30));
        assert!(narrow.contains("unready") && !narrow.contains("LAST SEEN"), "{narrow}");
        let wide = fitting(&head, rows(), Some(80));
        assert!(wide.contains("worker-1  unready  web     0.1.0    12.5 s ago  0"), "{wide}");
    }

    #[test]
    fn where_there_is_no_terminal_every_row_is_one_line() {
        assert_eq!(fitting(&HEAD, verdicts(), None).lines().count(), 3);
    }
}
