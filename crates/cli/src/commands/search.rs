//! `altclip search`: the pictures that match a query, or that nothing does.

use super::contact_sheet;
use super::index::{Wanted, open};
use crate::args::{Search, threads};
use crate::failure::{Failure, Reporter};
use crate::output::{Out, bar, pad};
use altclip_durable::RealFs;
use altclip_report::escape;
use altclip_search::{
    Answer, Ask, Background, Content, Filter, Judge, Query, Scan, Searcher, Term, answer, day,
    plain,
};
use std::cell::OnceCell;
use std::path::{Component, Path};

const BAR_WIDTH: usize = 10;

pub(crate) fn run(args: &Search, reporter: Reporter) -> Result<(), Failure> {
    let text = args.query.as_deref().unwrap_or_default();
    let query = query(args)?;
    let ask = Ask {
        top_k: args.top_k as usize,
        filter: filter(args)?,
        scan: if args.exact { Scan::Exact } else { Scan::Auto },
    };
    let mut index = open(&args.at)?;
    let loaded = OnceCell::new();
    let wanted = Wanted::new(&args.run, Some(index.settings()), reporter, &loaded)?;
    wanted.check(&index)?;
    let flat = index.flat()?;
    reporter.warn(&index.take_notices());
    let scale = wanted.model()?.opened().scale().map_err(altclip::Error::from)?;
    let background = Background::of_index(&index, &RealFs, || wanted.model())?;
    let pool = altclip_kernels::Pool::new(threads(args.run.threads));
    let searcher = Searcher::new(&flat, &pool);
    let judge = Judge::new(&searcher, &background, scale);
    let mut encode = |content: &Content| -> Result<Vec<f32>, Failure> {
        let model = wanted.model()?;
        let rows = match content {
            Content::Text(text) => model.encode_text(&[text])?,
            Content::Picture(path) => model.encode_image(&[model.open_image(path)?])?,
        };
        Ok(rows.as_slice().to_vec())
    };
    let mut found = answer(&index, &searcher, &judge, &query, &ask, &mut encode)?;
    let least = args.min_p as f32;
    found.matches.retain(|found| found.probability.is_none_or(|p| p >= least));
    if let Some(page) = &args.html {
        contact_sheet::write(page, text, &found, &wanted.decode(), args.open)?;
    }
    print(args, text, &found)
}

fn query(args: &Search) -> Result<Query, Failure> {
    let pictures = args.image.iter().cloned();
    Ok(match args.query.as_deref() {
        Some(text) => Query::parse(text)?.with_pictures(pictures),
        None => Query::Sum(
            pictures.map(|path| Term { weight: 1.0, content: Content::Picture(path) }).collect(),
        ),
    })
}

fn filter(args: &Search) -> Result<Filter, Failure> {
    let mut filter = Filter {
        paths: args.path.iter().map(|pattern| from_here(pattern)).collect(),
        ..Filter::default()
    };
    filter.tags.clone_from(&args.tag);
    filter.since = args.since.as_deref().map(|text| day(text, false)).transpose()?;
    filter.until = args.until.as_deref().map(|text| day(text, true)).transpose()?;
    filter.least_side = args.min_side;
    filter.most_bytes = args.max_bytes;
    filter.check()?;
    Ok(filter)
}

/// A pattern that begins with `.` or `..` is of the folder in which the command runs.
fn from_here(pattern: &str) -> String {
    let path = Path::new(pattern);
    let is_here =
        matches!(path.components().next(), Some(Component::CurDir | Component::ParentDir));
    match std::path::absolute(path) {
        Ok(path) if is_here => plain(&path).to_string_lossy().into_owned(),
        _ => pattern.to_owned(),
    }
}

fn print(args: &Search, text: &str, found: &Answer) -> Result<(), Failure> {
    let mut out = Out::new();
    if args.at.json {
        out.json(&found.shown(text))?;
        return out.flush();
    }
    if found.none_passes {
        out.line("no picture passes the filters")?;
    } else if found.no_match {
        out.line(match found.matches.is_empty() {
            true => "nothing matches",
            false => "nothing matches; the nearest are:",
        })?;
    }
    for found in &found.matches {
        let judged = match found.probability {
            Some(p) => format!("{} {:3.0} %", pad(&bar(p, BAR_WIDTH), BAR_WIDTH), 100.0 * p),
            None => String::new(),
        };
        out.line(format!("{judged}  {:.4}  {}", found.score, escape(&found.picture.path)))?;
    }
    if let Some(reason) = found.uncalibrated {
        out.line(format!("uncalibrated: {}", reason.reason()))?;
    }
    out.flush()
}
