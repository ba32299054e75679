//! `report.html`: the curves of a run on one page.

use super::{About, Points, Series, smooth, thin};
use crate::state::Error;
use altclip_durable::{Vfs, replace};
use altclip_page::{Axis, KeyFigure, LineChart, Page, Table};
use std::collections::BTreeMap;
use std::path::Path;

/// Points of a curve that are drawn.
const DRAWN: usize = 400;
/// How strongly the loss is smoothed, as TensorBoard counts it.
const SMOOTHING: f64 = 0.9;

/// Writes the page; it is replaced as a whole, also while a run goes on.
///
/// # Errors
/// [`Error::Disk`].
pub fn write(vfs: &dyn Vfs, path: &Path, about: &About, series: &Series) -> Result<(), Error> {
    let html = page(about, series).html();
    replace(vfs, path, |out| out.write_all(html.as_bytes()))?;
    Ok(())
}

fn page(about: &About, series: &Series) -> Page {
    let mut page = Page::new(&about.title);
    page.figures(&figures(about, series));
    page.section("Training");
    if let Some(loss) = series.metrics.get("loss") {
        let mut chart = LineChart::new("Loss", Axis::linear("step"), Axis::linear("loss"));
        line(&mut chart, "smoothed", &smooth(loss, SMOOTHING));
        line(&mut chart, "each step", loss);
        page.add(&chart);
    }
    for (name, title) in [("lr", "Learning rate"), ("grad_norm", "Norm of the gradients")] {
        if let Some(points) = series.metrics.get(name) {
            one_line(&mut page, title, name, points);
        }
    }
    let known =
        |name: &str| matches!(name, "loss" | "lr" | "grad_norm") || name.starts_with("eval/");
    for (name, points) in series.metrics.iter().filter(|(name, _)| !known(name)) {
        one_line(&mut page, name, name, points);
    }
    if !series.speed.is_empty() {
        one_line(&mut page, "Speed", "samples a second", &series.speed);
    }
    evaluations(&mut page, series);
    for (heading, pairs) in
        [("Configuration", &about.configuration), ("Environment", &about.environment)]
    {
        let mut table = Table::new(["name", "value"]);
        for (name, value) in pairs {
            table.row([name.as_str(), value.as_str()]);
        }
        page.section(heading).add(&table);
    }
    page
}

fn figures(about: &About, series: &Series) -> Vec<KeyFigure> {
    let mut figures = vec![KeyFigure::new("end", about.reason.as_sentence())];
    if let Some((step, loss)) = series.metrics.get("loss").and_then(|points| points.last()) {
        figures.push(KeyFigure::new("steps", step.to_string()));
        figures.push(KeyFigure::new("last loss", format!("{loss:.4}")));
    }
    if series.seconds > 0.0 {
        let speed = series.samples as f64 / series.seconds;
        let note = format!("{} samples in {:.0} s", series.samples, series.seconds);
        figures.push(KeyFigure::new("samples a second", format!("{speed:.1}")).note(note));
    }
    figures
}

/// A chart for each metric, with a line for each dataset and language: `eval/DATA/LANGUAGE/METRIC`.
fn evaluations(page: &mut Page, series: &Series) {
    let mut metrics: BTreeMap<&str, Vec<(&str, &Points)>> = BTreeMap::new();
    for (name, points) in series.under("eval/") {
        let (of, metric) = name.rsplit_once('/').unwrap_or(("", name));
        metrics.entry(metric).or_default().push((if of.is_empty() { metric } else { of }, points));
    }
    if !metrics.is_empty() {
        page.section("Evaluation");
    }
    for (metric, lines) in metrics {
        let mut chart = LineChart::new(metric, Axis::linear("step"), Axis::linear(metric));
        lines.into_iter().for_each(|(name, points)| line(&mut chart, name, points));
        page.add(&chart);
    }
}

fn one_line(page: &mut Page, title: &str, name: &str, points: &Points) {
    let mut chart = LineChart::new(title, Axis::linear("step"), Axis::linear(name));
    line(&mut chart, name, points);
    page.add(&chart);
}

fn line(chart: &mut LineChart, name: &str, points: &[(u64, f64)]) {
    chart.line(name, thin(points, DRAWN).into_iter().map(|(step, value)| (step as f64, value)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::StopReason;
    use altclip_durable::{SimFs, read};

    fn about() -> About {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        About {
            title: "Fine-tuning <of> a model".into(),
            reason: StopReason::EarlyStopping,
            configuration: vec![pair("lr", "0.0001")],
            environment: vec![pair("threads", "2")],
        }
    }

    #[test]
    fn the_page_shows_every_curve() {
        let points: Points = (1..=5000).map(|step| (step, 1.0 / step as f64)).collect();
        let names =
            ["loss", "lr", "grad_norm", "logit_scale", "eval/x/zh/recall@1", "eval/x/en/recall@1"];
        let metrics = names.map(|name| (name.to_owned(), points.clone())).into();
        let series = Series { metrics, samples: 640, seconds: 10.0, ..Series::default() };
        let disk = SimFs::new();
        write(&disk, "report.html".as_ref(), &about(), &series).unwrap();
        let html =
            String::from_utf8(read(&disk, "report.html".as_ref(), 4 << 20).unwrap()).unwrap();
        for text in [
            "Fine-tuning &lt;of&gt; a model",
            "the metric no longer got better",
            "smoothed",
            "Norm of the gradients",
            "logit_scale",
            "recall@1",
            "x/zh",
            "x/en",
            "64.0",
            "0.0001",
            "threads",
        ] {
            assert!(html.contains(text), "{text}");
        }
        assert_eq!(html.matches("<svg").count(), 5, "loss, lr, norm, scale, one metric");
        assert!(html.len() < 1 << 20, "{} bytes", html.len());
    }

    #[test]
    fn a_run_without_a_step_has_a_page() {
        let html = page(&about(), &Series::default()).html();
        assert!(html.contains("Configuration") && !html.contains("<svg"));
    }
}
