//! `/search`: the object of `altclip search --json`.

use super::{places_cut, with_cut, with_modality, written};
use crate::app::App;
use crate::call::Call;
use crate::catalog::{Catalog, UPLOADED};
use crate::embed::{self, Input, Wanted, in_time};
use crate::fault::Fault;
use crate::json::{Fields, wrong};
use crate::picture_source;
use crate::queue::Kind;
use crate::row::Row;
use altclip_report::{Code, Report};
use altclip_search::{Ask, Content, Filter, Query, Scan, Term, day};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Pictures where nothing else is asked for.
const TOP_K: usize = 10;
/// What may be asked, and what may be asked of the pictures.
const FIELDS: [&str; 6] = ["query", "image", "top_k", "min_p", "exact", "filter"];
const CONDITIONS: [&str; 6] = ["path", "tag", "since", "until", "min_side", "max_bytes"];

pub(super) async fn search(app: Arc<App>, mut call: Call) -> Result<Response, Fault> {
    let catalog = catalog(&app)?;
    call.only(&[])?;
    let mut fields = call.fields()?;
    let text = fields.string("query")?.unwrap_or_default();
    let picture = match fields.string("image")? {
        Some(picture) => Some(picture_source::bytes(&picture, "image")?),
        None => None,
    };
    let query = match (text.trim().is_empty(), picture.is_some()) {
        (true, false) => {
            return Err(Fault::field("query", "nothing", "a query, or a picture in image"));
        }
        (true, true) => {
            let content = Content::Picture(UPLOADED.into());
            Query::Sum(vec![Term { weight: 1.0, content }])
        }
        (false, has_picture) => {
            Query::parse(&text)?.with_pictures(has_picture.then(|| UPLOADED.into()))
        }
    };
    let top_k = fields.count("top_k", app.limits.results)?.unwrap_or(TOP_K);
    let least = least_probability(&mut fields)?;
    let scan = if fields.flag("exact", false)? { Scan::Exact } else { Scan::Auto };
    let ask = Ask { top_k, filter: filter(&mut fields)?, scan };
    fields.none_left(&FIELDS)?;
    let Vectors { texts, picture, cut } = vectors(&app, &call, &query, picture).await?;
    let modality = if picture.is_some() { Kind::Picture } else { Kind::Text };
    let look = move || catalog.answer(&query, &ask, &texts, picture.as_ref());
    let mut found = read(&app, &call, look).await??;
    found.matches.retain(|found| found.probability.is_none_or(|p| p >= least));
    // Every number of it was looked at.
    Ok(with_modality(with_cut(written(&found.shown(&text))?, cut), modality.name()))
}

/// The vectors of everything that a query names.
struct Vectors {
    texts: BTreeMap<String, Row>,
    picture: Option<Row>,
    /// Which of the query's texts were cut, by their order in it.
    cut: Vec<usize>,
}

async fn vectors(
    app: &Arc<App>,
    call: &Call,
    query: &Query,
    picture: Option<Vec<u8>>,
) -> Result<Vectors, Fault> {
    let (mut texts, mut known) = (Vec::new(), BTreeSet::new());
    for (terms, _) in query.sums() {
        for term in terms {
            match &term.content {
                Content::Text(text) if known.insert(text.clone()) => texts.push(text.clone()),
                _ => {}
            }
        }
    }
    let has_picture = picture.is_some();
    let inputs = texts.iter().cloned().map(Input::Text).chain(picture.map(Input::Picture));
    let rows = embed::rows(app, call, inputs.collect(), Wanted::default()).await?;
    let cut = places_cut(&rows).collect();
    let mut rows: Vec<Row> = rows.into_iter().map(|embedded| embedded.row).collect();
    let picture = if has_picture { rows.pop() } else { None };
    Ok(Vectors { texts: texts.into_iter().zip(rows).collect(), picture, cut })
}

fn least_probability(fields: &mut Fields) -> Result<f32, Fault> {
    let Some(value) = fields.take("min_p") else { return Ok(0.0) };
    match value.as_f64().filter(|p| (0.0..=1.0).contains(p)) {
        Some(p) => Ok(p as f32),
        None => Err(wrong("min_p", &value, "a number from 0 to 1")),
    }
}

/// Conditions in one text (`path:*.jpg since:2024-05`), or an object with those of the command.
fn filter(fields: &mut Fields) -> Result<Filter, Fault> {
    let mut filter = Filter::default();
    match fields.take("filter") {
        None => {}
        Some(Value::String(text)) => filter = Filter::parse(&text)?,
        Some(other) => {
            let mut fields = Fields::of(other, "filter")?;
            filter.paths = fields.strings("path")?.unwrap_or_default();
            filter.tags = fields.strings("tag")?.unwrap_or_default();
            filter.since = fields.string("since")?.map(|text| day(&text, false)).transpose()?;
            filter.until = fields.string("until")?.map(|text| day(&text, true)).transpose()?;
            let side = fields.count("min_side", u32::MAX as usize)?;
            filter.least_side = side.map(|side| side as u32);
            filter.most_bytes = fields.count("max_bytes", usize::MAX)?.map(|bytes| bytes as u64);
            fields.none_left(&CONDITIONS)?;
        }
    }
    filter.check()?;
    Ok(filter)
}

/// The index, if the server has one.
pub(super) fn catalog(app: &App) -> Result<Arc<Catalog>, Fault> {
    app.catalog.clone().ok_or_else(|| {
        let report = Report::new(Code::E8005, "server", "this server has no index")
            .help("start it with --index");
        Fault::new(StatusCode::NOT_FOUND, report)
    })
}

/// Does work on the threads that look into the index, while there is time.
pub(super) async fn read<T: Send + 'static>(
    app: &App,
    call: &Call,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let busy = |_| Fault::busy("many look into the index", 0, Duration::from_secs(1));
    let result = app.readers.run(work).map_err(busy)?;
    in_time(call.deadline, result).await?.map_err(|_| Fault::lost())
}
