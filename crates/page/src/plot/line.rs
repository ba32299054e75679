//! Lines: numbers against a step or a size, with intervals.

use super::{Axis, Figure, TABLE_ROWS, WIDTH, class, even_choice, rule, scale::Scale, text};
use crate::escape;
use crate::page::sealed::Html;
use crate::table::{Cell, Table};
use std::fmt::Write as _;

const HEIGHT: f64 = 340.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 48.0;
/// Points of a line that are drawn; of more, the lowest and the highest of each piece are.
const DRAWN: usize = 1_400;
/// Points of a line that say their numbers when pointed at.
const TOOLTIPS: usize = 150;
/// Lines of so few points show them as dots.
const DOTS: usize = 40;

/// A point of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Its place.
    pub x: f64,
    /// Its value; a line has a gap where it is not finite.
    pub y: f64,
    /// The ends of its interval.
    pub interval: Option<[f64; 2]>,
}

/// Lines over one pair of axes.
#[derive(Clone, Debug)]
pub struct LineChart {
    title: String,
    x: Axis,
    y: Axis,
    series: Vec<(String, Vec<Point>)>,
}

impl LineChart {
    /// A chart without lines.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self { title: title.into(), x, y, series: Vec::new() }
    }

    /// Adds a line through points in the order of x.
    pub fn line(
        &mut self,
        name: impl Into<String>,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> &mut Self {
        let points = points.into_iter().map(|(x, y)| Point { x, y, interval: None });
        self.line_with_intervals(name, points)
    }

    /// Adds a line through points in the order of x, with a band of their intervals.
    pub fn line_with_intervals(
        &mut self,
        name: impl Into<String>,
        points: impl IntoIterator<Item = Point>,
    ) -> &mut Self {
        self.series.push((name.into(), points.into_iter().collect()));
        self
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        self.series.iter().flat_map(|(_, points)| points)
    }

    fn has(&self, point: &Point) -> bool {
        self.x.has(point.x) && self.y.has(point.y)
    }

    fn axes(&self, svg: &mut String, x: &Scale<'_>, y: &Scale<'_>) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in y.ticks() {
            let place = y.place(tick);
            rule(svg, "grid", (LEFT, place), (right, place));
            text(svg, (LEFT - 8.0, place + 4.0), "end", "tick", &self.y.show(tick));
        }
        for tick in x.ticks() {
            let place = x.place(tick);
            rule(svg, "axis", (place, bottom), (place, bottom + 5.0));
            text(svg, (place, bottom + 20.0), "middle", "tick", &self.x.show(tick));
        }
        rule(svg, "axis", (LEFT, bottom), (right, bottom));
        text(svg, (f64::midpoint(LEFT, right), HEIGHT - 8.0), "middle", "label", &self.x.label);
        text(svg, (8.0, 14.0), "start", "label", &self.y.label);
    }

    fn draw(&self, svg: &mut String, (x, y): (&Scale<'_>, &Scale<'_>), series: usize) {
        let (name, points) = &self.series[series];
        let class = class(series);
        let mut path = String::new();
        for run in points.split(|point| !self.has(point)) {
            let run = thinned(run);
            self.band(svg, (x, y), &run, &class);
            for (n, point) in run.iter().enumerate() {
                let letter = if n == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{letter}{:.1} {:.1}", x.place(point.x), y.place(point.y));
            }
            if let [alone] = run[..] {
                // A line of one point would not be seen.
                let _ = write!(path, "L{:.1} {:.1}", x.place(alone.x) + 0.1, y.place(alone.y));
            }
        }
        let _ = writeln!(
            svg,
            "<path class=\"line {class}\" d=\"{path}\"><title>{}</title></path>",
            escape::escaped(name)
        );
        let dot = if points.len() <= DOTS { "dot" } else { "hover" };
        for point in even_choice(points.len(), TOOLTIPS).map(|n| &points[n]) {
            if self.has(point) {
                let _ = write!(
                    svg,
                    "<circle class=\"{dot} {class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>",
                    x.place(point.x),
                    y.place(point.y)
                );
                escape::push(
                    svg,
                    &format!(
                        "{name}, {} {}: {}",
                        self.x.label,
                        self.x.show(point.x),
                        self.shown(point)
                    ),
                );
                svg.push_str("</title></circle>\n");
            }
        }
    }

    fn band(&self, svg: &mut String, (x, y): (&Scale<'_>, &Scale<'_>), run: &[Point], class: &str) {
        let ends: Vec<(f64, [f64; 2])> = run
            .iter()
            .filter_map(|point| point.interval.map(|interval| (x.place(point.x), interval)))
            .filter(|(_, interval)| interval.iter().all(|&end| self.y.has(end)))
            .collect();
        if ends.len() < 2 {
            return;
        }
        let (lower, upper) = (ends.iter(), ends.iter().rev());
        let corners = lower
            .map(|&(place, [low, _])| (place, y.place(low)))
            .chain(upper.map(|&(place, [_, high])| (place, y.place(high))));
        let path: String = corners.map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
        let _ = writeln!(svg, "<polygon class=\"band {class}\" points=\"{}\"/>", path.trim_end());
    }

    fn shown(&self, point: &Point) -> String {
        let value = self.y.show(point.y);
        match point.interval {
            Some([low, high]) => format!("{value} ({} to {})", self.y.show(low), self.y.show(high)),
            None => value,
        }
    }

    fn summary(&self) -> String {
        let line = |(name, points): &(String, Vec<Point>)| match (points.first(), points.last()) {
            (Some(first), Some(last)) => format!(
                "{name}: {} points, {} at {} to {} at {}.",
                points.len(),
                self.y.show(first.y),
                self.x.show(first.x),
                self.y.show(last.y),
                self.x.show(last.x),
            ),
            _ => format!("{name}: no points."),
        };
        let lines: Vec<String> = self.series.iter().map(line).collect();
        format!("{} against {}. {}", self.y.label, self.x.label, lines.join(" "))
    }

    fn numbers(&self) -> Table {
        let mut table = Table::new(["", &self.x.label, &self.y.label]);
        let each = (TABLE_ROWS / self.series.len().max(1)).max(2);
        for (name, points) in &self.series {
            for point in even_choice(points.len(), each).map(|n| &points[n]) {
                let x = Cell::value(self.x.show(point.x));
                table.row([Cell::text(name), x, Cell::value(self.shown(point))]);
            }
            if points.len() > each {
                let count = format!("{each} of {} points, evenly chosen", points.len());
                table.row([Cell::text(name), Cell::text(count)]);
            }
        }
        table
    }
}

/// Few enough points that the line looks the same: of each piece the first, the lowest, the highest and the
/// last, so no spike is lost.
fn thinned(run: &[Point]) -> Vec<Point> {
    if run.len() <= DRAWN {
        return run.to_vec();
    }
    let mut kept = Vec::with_capacity(DRAWN);
    for piece in run.chunks(run.len().div_ceil(DRAWN / 4)) {
        let place = |better: fn(f64, f64) -> bool| {
            (0..piece.len())
                .fold(0, |best, n| if better(piece[n].y, piece[best].y) { n } else { best })
        };
        let mut places = [0, place(|a, b| a < b), place(|a, b| a > b), piece.len() - 1];
        places.sort_unstable();
        let mut last = None;
        for place in places {
            if last != Some(place) {
                kept.push(piece[place]);
            }
            last = Some(place);
        }
    }
    kept
}

impl Html for LineChart {
    fn html(&self, out: &mut String) {
        let x =
            Scale::new(&self.x, self.points().map(|point| point.x), (LEFT, WIDTH - RIGHT), false);
        let values = self.points().flat_map(|point| {
            let [low, high] = point.interval.unwrap_or([point.y; 2]);
            [low, point.y, high]
        });
        let y = Scale::new(&self.y, values, (HEIGHT - BOTTOM, TOP), true);
        let mut svg = String::new();
        self.axes(&mut svg, &x, &y);
        (0..self.series.len()).for_each(|series| self.draw(&mut svg, (&x, &y), series));
        let left_out = self.points().filter(|point| !self.has(point)).count();
        let note = match left_out {
            0 => String::new(),
            _ => format!(
                "{left_out} points are not finite or not above zero and have no place here."
            ),
        };
        let series = self.series.iter().map(|(name, _)| name.as_str()).collect();
        let (summary, numbers) = (self.summary(), self.numbers());
        Figure { title: &self.title, summary, series, height: HEIGHT, svg, note, numbers }
            .html(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_spikes() {
        let point = |n: usize| Point {
            x: n as f64,
            y: if n == 77_777 { 9.0 } else { 1.0 },
            interval: None,
        };
        let points: Vec<Point> = (0..100_000).map(point).collect();
        let kept = thinned(&points);
        assert!(kept.len() <= DRAWN && kept.iter().any(|point| point.y == 9.0));
        assert!(kept.windows(2).all(|pair| pair[0].x < pair[1].x));
    }
}
