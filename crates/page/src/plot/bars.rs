//! Bars: numbers of groups beside each other, with intervals. They lie, so that long names can be read.

use super::{Axis, Figure, WIDTH, class, fitted, rule, scale::Scale, text};
use crate::escape;
use crate::page::sealed::Html;
use crate::table::{Cell, Table};
use std::fmt::Write as _;

const THICK: f64 = 16.0;
const GAP: f64 = 12.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 48.0;
/// Room for the number behind the longest bar.
const RIGHT: f64 = 64.0;
const LONGEST_NAME: f64 = 220.0;

/// A bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Its length; nothing is drawn if it is not finite.
    pub value: f64,
    /// The ends of its interval.
    pub interval: Option<[f64; 2]>,
}

impl From<f64> for Bar {
    fn from(value: f64) -> Self {
        Self { value, interval: None }
    }
}

/// Groups of bars along one axis.
#[derive(Clone, Debug)]
pub struct BarChart {
    title: String,
    axis: Axis,
    series: Vec<String>,
    groups: Vec<(String, Vec<Bar>)>,
}

impl BarChart {
    /// A chart without groups, whose groups have a bar for each of `series`.
    pub fn new<S: AsRef<str>>(
        title: impl Into<String>,
        axis: Axis,
        series: impl IntoIterator<Item = S>,
    ) -> Self {
        let series = series.into_iter().map(|name| name.as_ref().to_owned()).collect();
        Self { title: title.into(), axis, series, groups: Vec::new() }
    }

    /// Adds a group: a bar for each series, in their order.
    pub fn group(
        &mut self,
        name: impl Into<String>,
        bars: impl IntoIterator<Item = impl Into<Bar>>,
    ) -> &mut Self {
        self.groups.push((name.into(), bars.into_iter().map(Into::into).collect()));
        self
    }

    fn shown(&self, bar: &Bar) -> String {
        let value = self.axis.show(bar.value);
        match bar.interval {
            Some([low, high]) => {
                format!("{value} ({} to {})", self.axis.show(low), self.axis.show(high))
            }
            None => value,
        }
    }

    fn series_name(&self, series: usize) -> &str {
        self.series.get(series).map_or("", String::as_str)
    }

    fn draw(
        &self,
        svg: &mut String,
        scale: &Scale<'_>,
        bar: &Bar,
        (series, y): (usize, f64),
        group: &str,
    ) {
        if !self.axis.has(bar.value) {
            return;
        }
        let (zero, end) = (scale.place(0.0), scale.place(bar.value));
        let (x, width) = (zero.min(end), (zero - end).abs());
        let _ = write!(
            svg,
            "<g><title>{}</title><rect class=\"bar {}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"2\"/>",
            escape::escaped(&format!("{group}, {}: {}", self.series_name(series), self.shown(bar))),
            class(series),
            THICK - 2.0
        );
        let middle = y + (THICK - 2.0) / 2.0;
        let mut behind = end.max(zero);
        if let Some([low, high]) =
            bar.interval.filter(|ends| ends.iter().all(|&end| self.axis.has(end)))
        {
            let (low, high) = (scale.place(low), scale.place(high));
            rule(svg, "whisker", (low, middle), (high, middle));
            for end in [low, high] {
                rule(svg, "whisker", (end, middle - 4.0), (end, middle + 4.0));
            }
            behind = behind.max(high);
        }
        text(svg, (behind + 6.0, middle + 4.0), "start", "value", &self.axis.show(bar.value));
        svg.push_str("</g>\n");
    }
}

impl Html for BarChart {
    fn html(&self, out: &mut String) {
        let bars = || self.groups.iter().flat_map(|(_, bars)| bars);
        let names = self.groups.iter().map(|(name, _)| fitted(name, LONGEST_NAME).1);
        let left = names.fold(40.0, f64::max) + 16.0;
        let values = bars().flat_map(|bar| {
            let [low, high] = bar.interval.unwrap_or([bar.value; 2]);
            [0.0, low, bar.value, high]
        });
        let scale = Scale::new(&self.axis, values, (left, WIDTH - RIGHT), true);
        let rows: usize = self.groups.iter().map(|(_, bars)| bars.len().max(1)).sum();
        let bottom = TOP + rows as f64 * THICK + self.groups.len() as f64 * GAP;
        let mut svg = String::new();
        for tick in scale.ticks() {
            let place = scale.place(tick);
            rule(&mut svg, "grid", (place, TOP), (place, bottom));
            text(&mut svg, (place, bottom + 18.0), "middle", "tick", &self.axis.show(tick));
        }
        let mut y = TOP + GAP / 2.0;
        for (name, bars) in &self.groups {
            let middle = y + bars.len().max(1) as f64 * THICK / 2.0 + 3.0;
            text(&mut svg, (left - 10.0, middle), "end", "name", &fitted(name, LONGEST_NAME).0);
            for (series, bar) in bars.iter().enumerate() {
                self.draw(&mut svg, &scale, bar, (series, y + series as f64 * THICK), name);
            }
            y += bars.len().max(1) as f64 * THICK + GAP;
        }
        rule(&mut svg, "axis", (scale.place(0.0), TOP), (scale.place(0.0), bottom));
        let middle = f64::midpoint(left, WIDTH - RIGHT);
        text(&mut svg, (middle, bottom + 38.0), "middle", "label", &self.axis.label);
        let head = std::iter::once("").chain(self.series.iter().map(String::as_str));
        let mut numbers = Table::new(head);
        for (name, bars) in &self.groups {
            let cells = bars.iter().map(|bar| Cell::value(self.shown(bar)));
            numbers.row(std::iter::once(Cell::text(name)).chain(cells));
        }
        let missing = bars().filter(|bar| !self.axis.has(bar.value)).count();
        let note = match missing {
            0 => String::new(),
            _ => format!("{missing} numbers are not finite and have no bar."),
        };
        let list = |(name, bars): &(String, Vec<Bar>)| {
            let values: Vec<String> = bars.iter().map(|bar| self.shown(bar)).collect();
            format!("{name}: {}.", values.join(", "))
        };
        let shown: Vec<String> = self.groups.iter().take(20).map(list).collect();
        Figure {
            title: &self.title,
            summary: format!("{}. {}", self.axis.label, shown.join(" ")),
            series: self.series.iter().map(String::as_str).collect(),
            height: bottom + BOTTOM,
            svg,
            note,
            numbers,
        }
        .html(out);
    }
}
