//! Tables without rules, for people and for `awk`.

use std::io;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use countersign_protocol::text::escape;

use super::columns;

/// The columns whose cells are wrapped. The words of all others are names, ids, states and times, which never break.
const WRAPPED: [&str; 5] = ["ANSWER", "NOTE", "GROUPS", "GROUPS OR GRANT", "FILE"];
/// The columns that are left out, from the first on, where a terminal is too narrow for all.
const OPTIONAL: [&str; 6] = ["TIME", "VERSION", "JOBS", "BY", "STATE", "LAST SEEN"];
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
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(shown.iter().map(|column| head[*column]));
    for row in &rows {
        table.add_row(shown.iter().filter_map(|column| row.get(*column)));
    }
    match width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for (column, shown) in table.column_iter_mut().zip(&shown) {
        column.set_padding((0, GAP));
        column.set_constraint(match WRAPPED.contains(&head[*shown]) {
            true => ColumnConstraint::LowerBoundary(Width::Fixed(MIN_WRAPPED + GAP)),
            false => ColumnConstraint::ContentWidth,
        });
    }
    table.trim_fmt()
}

/// The columns that fit.
fn narrowed(head: &[&str], rows: &[Vec<String>], width: usize) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..head.len()).collect();
    let content = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let needed = |column: &usize| {
        let content = content(*column);
        usize::from(GAP) + if WRAPPED.contains(&head[*column]) { content.min(MIN_WRAPPED.into()) } else { content }
    };
    for optional in OPTIONAL {
        if shown.iter().map(needed).sum::<usize>() <= width {
            break;
        }
        shown.retain(|column| head[*column] != optional);
    }
    shown
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
    fn where_there_is_no_terminal_every_row_is_one_line() {
        assert_eq!(fitting(&HEAD, verdicts(), None).lines().count(), 3);
    }
}
