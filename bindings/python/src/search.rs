//! An index that is searched many times with one model.

use crate::error::{Fault, detached, unusable};
use crate::model::Model;
use altclip_durable::RealFs;
use altclip_kernels::Pool;
use altclip_search::{
    Answer, Ask, Background, Content, Filter, Flat, Index, Judge, Nulls, Query, Scan, Searcher,
    Shown, ShownMatch, Term, answer, day,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// An open index, as it was when it was opened.
#[pyclass(frozen, module = "altclip._native")]
pub(crate) struct Search {
    open: Mutex<Option<Open>>,
    process: u32,
}

struct Open {
    index: Index,
    flat: Flat,
    background: Background,
    nulls: Arc<Nulls>,
    pool: Pool,
    model: Arc<altclip::Model>,
    scale: f32,
}

impl Drop for Search {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(open.take());
        }
    }
}

#[pymethods]
impl Search {
    /// Opens an index to search it with the model that it was made with.
    #[staticmethod]
    fn open(py: Python<'_>, folder: PathBuf, model: &Model) -> PyResult<Self> {
        let path = model.path().to_owned();
        let model = model.get(py)?;
        let open = detached(py, move || {
            let mut index = Index::open(Arc::new(RealFs), &folder)?;
            index.settings().check(&path, &path.to_string_lossy(), &model, &folder)?;
            index.settings().check_decode(&model.options().decode, &folder)?;
            let flat = index.flat()?;
            let background = Background::of_index(&index, &RealFs, || Ok::<_, Fault>(&*model))?;
            let scale = model.opened().scale().map_err(altclip::Error::from)?;
            let pool = Pool::new(model.options().threads);
            Ok(Open { index, flat, background, nulls: Arc::default(), pool, model, scale })
        })?;
        Ok(Self { open: Mutex::new(Some(open)), process: std::process::id() })
    }

    /// Which model an index was made with, and how its pictures were decoded.
    #[staticmethod]
    fn settings(py: Python<'_>, folder: PathBuf) -> PyResult<(String, String, String)> {
        detached(py, move || {
            let index = Index::open(Arc::new(RealFs), &folder)?;
            let settings = index.settings();
            let (model, precision) = (settings.model.clone(), settings.precision.clone());
            Ok((model, precision, settings.decode.clone()))
        })
    }

    /// Lets go of the index.
    fn close(&self) {
        if std::process::id() == self.process {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// What matches, the best first.
    #[pyo3(signature = (query, pictures, *, top_k, exact, paths, tags, since, until, min_side, max_bytes))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments, with their defaults in Python"
    )]
    fn search<'py>(
        &self,
        py: Python<'py>,
        query: Option<String>,
        pictures: Vec<PathBuf>,
        top_k: usize,
        exact: bool,
        paths: Vec<String>,
        tags: Vec<String>,
        since: Option<String>,
        until: Option<String>,
        min_side: Option<u32>,
        max_bytes: Option<u64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        if std::process::id() != self.process {
            let help = "open the index in each process";
            let fault = unusable("index", "one of the parent process", help);
            return Err(fault.into_exception(py));
        }
        let found = detached(py, || {
            let mut filter = Filter::default();
            (filter.paths, filter.tags) = (paths, tags);
            filter.since = since.as_deref().map(|text| day(text, false)).transpose()?;
            filter.until = until.as_deref().map(|text| day(text, true)).transpose()?;
            (filter.least_side, filter.most_bytes) = (min_side, max_bytes);
            let scan = if exact { Scan::Exact } else { Scan::Auto };
            let query = match query {
                Some(text) => Query::parse(&text)?.with_pictures(pictures),
                None => Query::Sum(
                    pictures
                        .into_iter()
                        .map(|path| Term { weight: 1.0, content: Content::Picture(path) })
                        .collect(),
                ),
            };
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(open) = open.as_ref() else {
                return Err(unusable("index", "a closed one", "open it again"));
            };
            open.answer(&query, &Ask { top_k, filter, scan })
        })?;
        as_dict(py, &found)
    }
}

impl Open {
    fn answer(&self, query: &Query, ask: &Ask) -> Result<Answer, Fault> {
        let searcher = Searcher::new(&self.flat, &self.pool);
        let judge = Judge::new(&searcher, &self.background, self.scale).keeping(&self.nulls);
        let mut encode = |content: &Content| -> Result<Vec<f32>, Fault> {
            let rows = match content {
                Content::Text(text) => self.model.encode_text(&[text])?,
                Content::Picture(path) => {
                    self.model.encode_image(&[self.model.open_image(path)?])?
                }
            };
            Ok(rows.as_slice().to_vec())
        };
        answer(&self.index, &searcher, &judge, query, ask, &mut encode)
    }
}

/// An answer with the keys of `altclip search --json`.
fn as_dict<'py>(py: Python<'py>, found: &Answer) -> PyResult<Bound<'py, PyDict>> {
    let Shown { no_match, uncalibrated, matches, .. } = found.shown("");
    let rows = PyList::empty(py);
    for ShownMatch { id, path, score, p_match } in matches {
        let row = PyDict::new(py);
        row.set_item("id", id)?;
        row.set_item("path", path)?;
        row.set_item("score", score)?;
        row.set_item("p_match", p_match)?;
        rows.append(row)?;
    }
    let answer = PyDict::new(py);
    answer.set_item("matches", rows)?;
    answer.set_item("no_match", no_match)?;
    answer.set_item("uncalibrated", uncalibrated)?;
    Ok(answer)
}
