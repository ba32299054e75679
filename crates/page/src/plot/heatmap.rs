//! A matrix of counts as squares whose colour is the share of their row: what is taken for what.

use super::{Figure, WIDTH, fitted, text};
use crate::escape;
use crate::page::sealed::Html;
use crate::table::{Cell, Table};
use std::fmt::Write as _;

const LARGEST_CELL: f64 = 40.0;
/// From this size on a cell shows its number.
const NUMBERED_CELL: f64 = 24.0;
const LONGEST_NAME: f64 = 160.0;
/// Pairs in the table beside the plot.
const LISTED: usize = 30;
/// The share from which on letters on a square are light.
const STRONG: f64 = 0.55;

/// A matrix of counts `[N, N]`, such as a confusion matrix; meant for up to a hundred classes.
#[derive(Clone, Debug)]
pub struct Heatmap {
    title: String,
    rows: String,
    columns: String,
    names: Vec<String>,
    counts: Vec<u64>,
}

impl Heatmap {
    /// The matrix `counts`, row after row, of the classes `names`. `rows` and `columns` say what the two
    /// directions are: the class, and the class that it was taken for. Counts that are missing are 0.
    pub fn new<S: AsRef<str>>(
        title: impl Into<String>,
        (rows, columns): (&str, &str),
        names: impl IntoIterator<Item = S>,
        counts: &[u64],
    ) -> Self {
        let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        let mut counts = counts.to_vec();
        counts.resize(names.len() * names.len(), 0);
        let (rows, columns) = (rows.to_owned(), columns.to_owned());
        Self { title: title.into(), rows, columns, names, counts }
    }

    /// Each count with its row, column and the sum of its row, zeros left out.
    fn cells(&self) -> impl Iterator<Item = (usize, usize, u64, u64)> {
        let rows = self.counts.chunks_exact(self.names.len().max(1)).enumerate();
        rows.flat_map(|(row, counts)| {
            let all = counts.iter().fold(0u64, |sum, &count| sum.saturating_add(count));
            let cells = counts.iter().enumerate().filter(|&(_, &count)| count > 0);
            cells.map(move |(column, &count)| (row, column, count, all))
        })
    }

    fn numbers(&self) -> Table {
        let mut off: Vec<_> = self.cells().filter(|&(row, column, ..)| row != column).collect();
        off.sort_by_key(|&(_, _, count, _)| std::cmp::Reverse(count));
        let mut table = Table::new([self.rows.as_str(), &self.columns, "count", "of"]);
        table.caption("What is most often taken for something else");
        for (row, column, count, all) in off.into_iter().take(LISTED) {
            let (name, other) = (Cell::text(&self.names[row]), Cell::text(&self.names[column]));
            table.row([name, other, Cell::value(count.to_string()), Cell::value(all.to_string())]);
        }
        table
    }
}

impl Html for Heatmap {
    fn html(&self, out: &mut String) {
        let names: Vec<(String, f64)> =
            self.names.iter().map(|name| fitted(name, LONGEST_NAME)).collect();
        let longest = names.iter().map(|(_, width)| *width).fold(20.0, f64::max);
        let (left, top) = (longest + 34.0, 8.0);
        let size = ((WIDTH - left - 40.0) / names.len().max(1) as f64).min(LARGEST_CELL);
        let side = size * names.len() as f64;
        let mut svg = String::new();
        let _ = writeln!(
            svg,
            "<rect class=\"field\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{side:.1}\" height=\"{side:.1}\"/>"
        );
        for (row, column, count, all) in self.cells() {
            let share = count as f64 / all as f64;
            let (x, y) = (left + column as f64 * size, top + row as f64 * size);
            let _ = write!(
                svg,
                "<g><title>{}</title><rect class=\"cell\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{size:.1}\" height=\"{size:.1}\" fill-opacity=\"{share:.3}\"/>",
                escape::escaped(&format!(
                    "{} {}, {} {}: {count} of {all}",
                    self.rows, self.names[row], self.columns, self.names[column]
                )),
            );
            if size >= NUMBERED_CELL {
                let class = if share > STRONG { "count strong" } else { "count" };
                let place = (x + size / 2.0, y + size / 2.0 + 4.0);
                text(&mut svg, place, "middle", class, &count.to_string());
            }
            svg.push_str("</g>\n");
        }
        // Names that would run into each other are left out; tooltips have them.
        let every = (13.0 / size).ceil().max(1.0) as usize;
        for (n, (name, _)) in names.iter().enumerate().step_by(every) {
            let middle = (n as f64 + 0.5) * size;
            text(&mut svg, (left - 8.0, top + middle + 4.0), "end", "name", name);
            let (x, y) = (left + middle + 4.0, top + side + 14.0);
            let _ = write!(
                svg,
                "<text transform=\"translate({x:.1} {y:.1}) rotate(-40)\" text-anchor=\"end\" class=\"name\">"
            );
            escape::push(&mut svg, name);
            svg.push_str("</text>\n");
        }
        let below = 0.65 * longest + 34.0;
        text(&mut svg, (left + side / 2.0, top + side + below), "middle", "label", &self.columns);
        let y = top + side / 2.0;
        let _ = write!(
            svg,
            "<text transform=\"translate(14 {y:.1}) rotate(-90)\" text-anchor=\"middle\" class=\"label\">"
        );
        escape::push(&mut svg, &self.rows);
        svg.push_str("</text>\n");
        let right: u64 = self
            .cells()
            .filter(|&(row, column, ..)| row == column)
            .fold(0, |sum, (_, _, count, _)| sum.saturating_add(count));
        let all = self.counts.iter().fold(0u64, |sum, &count| sum.saturating_add(count));
        Figure {
            title: &self.title,
            summary: format!("{} classes; {right} of {all} on the diagonal.", names.len()),
            series: Vec::new(),
            height: top + side + below + 12.0,
            svg,
            note: "The colour is the share of the row.".into(),
            numbers: self.numbers(),
        }
        .html(out);
    }
}
