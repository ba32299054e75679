//! Plots as inline SVG, each with a legend, tooltips and its numbers as a table.
//!
//! Written here and not by a library: plots follow the page's colours in light and dark by CSS classes,
//! carry `<title>` tooltips and labels for screen readers, and hold foreign text. `plotters`, the
//! well-kept library, writes fixed colours and fonts into its SVG and none of the rest.

mod bars;
mod heatmap;
mod line;
mod scale;

pub use bars::{Bar, BarChart};
pub use heatmap::Heatmap;
pub use line::{LineChart, Point};
pub use scale::Axis;

use crate::escape;
use crate::page::sealed::Html;
use crate::table::Table;
use std::fmt::Write as _;

/// Colours there are; further series take them again, dashed.
const COLOURS: usize = 8;
/// Rows of the table beside a plot; of more numbers an even choice is shown.
const TABLE_ROWS: usize = 200;
/// Width of every plot in its own units, which a browser scales to the page.
const WIDTH: f64 = 760.0;

/// The frame around a plot.
struct Figure<'a> {
    title: &'a str,
    /// What the plot shows, in words.
    summary: String,
    /// Names of the series; shown if there is more than one.
    series: Vec<&'a str>,
    height: f64,
    /// The inside of the `<svg>`.
    svg: String,
    /// What was left out, or nothing.
    note: String,
    numbers: Table,
}

impl Html for Figure<'_> {
    fn html(&self, out: &mut String) {
        out.push_str("<figure class=\"plot\"><figcaption dir=\"auto\">");
        escape::push(out, self.title);
        out.push_str("</figcaption>\n");
        if self.series.len() > 1 {
            out.push_str("<ul class=\"legend\">");
            for (series, name) in self.series.iter().enumerate() {
                let _ = write!(out, "<li dir=\"auto\"><i class=\"{}\"></i>", class(series));
                escape::push(out, name);
                out.push_str("</li>");
            }
            out.push_str("</ul>\n");
        }
        let label = escape::escaped(&format!("{}. {}", self.title, self.summary));
        let _ = writeln!(
            out,
            "<svg role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {WIDTH} {:.0}\">\n{}</svg>",
            self.height, self.svg
        );
        if !self.note.is_empty() {
            out.push_str("<p class=\"note\" dir=\"auto\">");
            escape::push(out, &self.note);
            out.push_str("</p>\n");
        }
        out.push_str("<details><summary>Numbers</summary>\n");
        self.numbers.html(out);
        out.push_str("</details></figure>\n");
    }
}

/// The classes that give a series its colour.
fn class(series: usize) -> String {
    let again = if series < COLOURS { "" } else { " again" };
    format!("s{}{again}", series % COLOURS)
}

/// A text in a plot; `anchor` is `start`, `middle` or `end`.
fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, text: &str) {
    let _ =
        write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">");
    escape::push(svg, text);
    svg.push_str("</text>\n");
}

fn rule(svg: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

/// A name that takes at most `units` of width, and the width that it takes.
fn fitted(name: &str, units: f64) -> (String, f64) {
    let width = |c: char| if (c as u32) < 0x1100 { 7.0 } else { 13.0 };
    let all: f64 = name.chars().map(width).sum();
    if all <= units {
        return (name.to_owned(), all);
    }
    let (mut cut, mut used) = (String::new(), 8.0);
    for c in name.chars() {
        used += width(c);
        if used > units {
            break;
        }
        cut.push(c);
    }
    (cut + "…", units)
}

/// An even choice of at most `most` of `len` places, the first and the last among them.
fn even_choice(len: usize, most: usize) -> impl Iterator<Item = usize> {
    let count = len.min(most);
    (0..count).map(move |n| if count < 2 { 0 } else { n * (len - 1) / (count - 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_choice_has_both_ends() {
        assert_eq!(even_choice(0, 5).count(), 0);
        assert_eq!(even_choice(3, 5).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(even_choice(1_000_000, 3).collect::<Vec<_>>(), [0, 499_999, 999_999]);
        assert_eq!(even_choice(9, 1).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(fitted("short", 100.0).0, "short");
        assert_eq!(fitted("a very long name indeed", 60.0).0, "a very …");
        assert_eq!(fitted("一只非常大的猫", 60.0).0, "一只非常…");
    }
}
