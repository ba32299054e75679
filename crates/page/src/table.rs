//! Tables: text to the left, numbers to the right.

use crate::escape;
use crate::page::sealed::Html;

/// A cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    text: String,
    is_number: bool,
    is_strong: bool,
}

impl Cell {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_number: false, is_strong: false }
    }

    /// A number with so many decimals; what is not finite is a dash.
    pub fn number(value: f64, decimals: usize) -> Self {
        let text = if value.is_finite() { format!("{value:.decimals$}") } else { "–".into() };
        Self::value(text)
    }

    /// A number as it is written already, aligned as numbers are.
    pub fn value(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_number: true, is_strong: false }
    }

    /// The same in strong letters: the best of its column.
    #[must_use]
    pub fn strong(mut self) -> Self {
        self.is_strong = true;
        self
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

/// A table with a head.
#[derive(Clone, Debug)]
pub struct Table {
    caption: String,
    head: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows; a column for each of `head`.
    pub fn new<S: AsRef<str>>(head: impl IntoIterator<Item = S>) -> Self {
        let head = head.into_iter().map(|name| name.as_ref().to_owned()).collect();
        Self { caption: String::new(), head, rows: Vec::new() }
    }

    /// Says what the table shows, above it.
    pub fn caption(&mut self, caption: &str) -> &mut Self {
        caption.clone_into(&mut self.caption);
        self
    }

    /// Adds a row. Cells that it lacks are empty; the first one names the row.
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    fn is_number(&self, column: usize) -> bool {
        self.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.is_number))
    }
}

impl Html for Table {
    fn html(&self, out: &mut String) {
        out.push_str("<div class=\"wide\"><table>\n");
        if !self.caption.is_empty() {
            out.push_str("<caption dir=\"auto\">");
            escape::push(out, &self.caption);
            out.push_str("</caption>\n");
        }
        out.push_str("<thead><tr>");
        for (column, name) in self.head.iter().enumerate() {
            let class = if self.is_number(column) { " class=\"n\"" } else { "" };
            out.push_str(&format!("<th scope=\"col\"{class}>"));
            escape::push(out, name);
            out.push_str("</th>");
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for (column, cell) in row.iter().enumerate() {
                let tag = if column == 0 { "th scope=\"row\"" } else { "td" };
                let class = match (cell.is_number, cell.is_strong) {
                    (false, false) => "",
                    (true, false) => " class=\"n\"",
                    (false, true) => " class=\"best\"",
                    (true, true) => " class=\"n best\"",
                };
                out.push_str(&format!("<{tag}{class} dir=\"auto\">"));
                escape::push(out, &cell.text);
                out.push_str(if column == 0 { "</th>" } else { "</td>" });
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>\n");
    }
}
