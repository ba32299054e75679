//! How well `p_match` knows what is there: the emoji set with whole subgroups taken out.
//!
//! ```text
//! cargo run --release -p altclip-search --example p_match -- MODEL build/emoji/set [VENDOR] [--fit]
//! ```
//!
//! For each subgroup of CLDR the collection is all base emoji of a vendor without it. Queries are the names
//! of what was taken out (absent) and as many names of what is there (present), in English and Chinese.
//! Every other subgroup is for fitting; the figures are of the others.
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use altclip::{LoadOptions, Model};
use altclip_kernels::Pool;
use altclip_search::{
    Background, FEATURES, Flat, Group, Judge, MATCHES, PARAMETERS, Parameters, Scan, Searcher,
    logistic,
};
use half::f16;
use serde_json::Value;
use std::error::Error;
use std::path::{Path, PathBuf};

/// Best rows of a query that are fitted on.
const FITTED_ROWS: usize = 3;
const LANGUAGES: [(&str, Group); 2] = [("en", Group::English), ("zh", Group::Chinese)];

struct Concept {
    subgroup: String,
    names: [String; 2],
    picture: PathBuf,
}

/// A row that a query found.
struct Judged {
    features: [f32; FEATURES],
    cosine: f32,
    /// It is what the query names.
    is_true: bool,
}

/// The best rows of a query, the best first.
struct Query {
    rows: Vec<Judged>,
    is_present: bool,
}

fn concepts(set: &Path, vendor: &str) -> Result<Vec<Concept>, Box<dyn Error>> {
    let text = std::fs::read_to_string(set.join("concepts.jsonl"))?;
    let mut concepts = Vec::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = text(&value["key"]);
        let picture = set.join(format!("images/{vendor}/{key}.png"));
        if value["kind"] == "base" && picture.exists() {
            let names = [text(&value["names"]["en"]), text(&value["names"]["zh"])];
            concepts.push(Concept { subgroup: text(&value["subgroup"]), names, picture });
        }
    }
    Ok(concepts)
}

/// The queries of one language with every subgroup of one half taken out in turn.
struct Setting<'m> {
    model: &'m Model,
    background: &'m Background,
    pool: Pool,
}

impl Setting<'_> {
    fn queries(
        &self,
        set: &Path,
        vendor: &str,
        half: usize,
    ) -> Result<[Vec<Query>; 2], Box<dyn Error>> {
        let scale = self.model.opened().scale().map_err(altclip::Error::from)?;
        let concepts = concepts(set, vendor)?;
        let paths: Vec<PathBuf> = concepts.iter().map(|concept| concept.picture.clone()).collect();
        let options = self.model.picture_options();
        let mut pictures = Vec::new();
        for row in self.model.pictures(paths.into_iter(), &options)? {
            pictures.push(row?.into_iter().map(|x| f16::from_f32(x).to_bits()).collect::<Vec<_>>());
        }
        let width = pictures.first().map_or(0, Vec::len);
        let mut texts = Vec::new();
        for language in 0..2 {
            let names: Vec<&str> = concepts.iter().map(|c| c.names[language].as_str()).collect();
            texts.push(self.model.encode_text(&names)?);
        }
        let mut subgroups: Vec<&str> = concepts.iter().map(|c| c.subgroup.as_str()).collect();
        subgroups.sort_unstable();
        subgroups.dedup();
        let mut queries = [Vec::new(), Vec::new()];
        for (number, subgroup) in subgroups.into_iter().enumerate().filter(|(n, _)| n % 2 == half) {
            let kept: Vec<usize> =
                (0..concepts.len()).filter(|&n| concepts[n].subgroup != subgroup).collect();
            let gone = (0..concepts.len()).filter(|&n| concepts[n].subgroup == subgroup);
            let rows = kept.iter().flat_map(|&n| pictures[n].iter().copied()).collect();
            let flat = Flat::new(0, width, kept.iter().map(|&n| n as i64).collect(), rows);
            let searcher = Searcher::new(&flat, &self.pool);
            let judge = Judge::new(&searcher, self.background, scale);
            let gone: Vec<usize> = gone.collect();
            // As many that are there, spread evenly.
            let step = 7919 + number;
            let there = (0..gone.len()).map(|i| kept[i * step % kept.len()]);
            let asked = gone.iter().map(|&n| (n, false)).chain(there.map(|n| (n, true)));
            for (n, is_present) in asked.collect::<Vec<_>>() {
                for (language, &(_, group)) in LANGUAGES.iter().enumerate() {
                    let asked = judge.ask(texts[language].row(n).to_vec(), Some(group));
                    let hits = searcher.nearest(&asked.corrected, FITTED_ROWS, None, Scan::Exact);
                    let row = |row: usize| Judged {
                        features: judge.features(&asked, row),
                        cosine: searcher.score(row, &asked.raw),
                        is_true: flat.id(row) == Some(n as i64),
                    };
                    let rows = hits.into_iter().map(|hit| row(hit.row)).collect();
                    queries[language].push(Query { rows, is_present });
                }
            }
        }
        Ok(queries)
    }
}

/// Logistic regression by Newton's method, with a small ridge.
fn fit(rows: &[&Judged]) -> Parameters {
    const N: usize = FEATURES + 1;
    let mut parameters = [0.0f64; N];
    for _ in 0..50 {
        let (mut gradient, mut hessian) = ([0.0f64; N], [[0.0f64; N]; N]);
        for row in rows {
            let mut x = [1.0f64; N];
            x[1..].iter_mut().zip(row.features).for_each(|(x, f)| *x = f64::from(f));
            let sum: f64 = x.iter().zip(&parameters).map(|(x, w)| x * w).sum();
            let p = 1.0 / (1.0 + (-sum).exp());
            for i in 0..N {
                gradient[i] += (f64::from(u8::from(row.is_true)) - p) * x[i];
                for j in 0..N {
                    hessian[i][j] += p * (1.0 - p) * x[i] * x[j];
                }
            }
        }
        for i in 0..N {
            let ridge = if i == 0 { 1e-6 } else { 1e-2 };
            gradient[i] -= ridge * parameters[i];
            hessian[i][i] += ridge;
        }
        let step = solve(hessian, gradient);
        parameters.iter_mut().zip(step).for_each(|(w, s)| *w += s);
    }
    parameters.map(|w| w as f32)
}

/// Gaussian elimination with pivots.
fn solve<const N: usize>(mut a: [[f64; N]; N], mut b: [f64; N]) -> [f64; N] {
    for i in 0..N {
        let pivot = (i..N).max_by(|&p, &q| a[p][i].abs().total_cmp(&a[q][i].abs())).unwrap_or(i);
        a.swap(i, pivot);
        b.swap(i, pivot);
        for row in 0..N {
            if row != i && a[i][i] != 0.0 {
                let factor = a[row][i] / a[i][i];
                let pivot = a[i];
                let columns = a[row].iter_mut().zip(pivot).skip(i);
                columns.for_each(|(x, pivot)| *x -= factor * pivot);
                b[row] -= factor * b[i];
            }
        }
    }
    std::array::from_fn(|i| if a[i][i] == 0.0 { 0.0 } else { b[i] / a[i][i] })
}

/// The share of pairs in which the present query has the higher number.
fn auroc(numbers: &[(f32, bool)]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins, mut pairs) = (0.0, 0.0, 0.0);
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        let present = equal.iter().filter(|(_, present)| *present).count() as f64;
        let absent = equal.len() as f64 - present;
        wins += present * (below + absent / 2.0);
        below += absent;
        pairs += present;
    }
    wins / (pairs * below).max(1.0)
}

fn report(language: &str, queries: &[Query], parameters: &Parameters) {
    // The answer is the most probable row.
    let best = |query: &Query| {
        let judged =
            query.rows.iter().map(|row| (logistic(parameters, &row.features), row.is_true));
        judged.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default()
    };
    let answers: Vec<(f32, bool, bool)> =
        queries.iter().map(|q| (best(q).0, best(q).1, q.is_present)).collect();
    let by_p: Vec<(f32, bool)> = answers.iter().map(|&(p, _, present)| (p, present)).collect();
    let cosine = |q: &Query| q.rows.iter().map(|row| row.cosine).fold(f32::NEG_INFINITY, f32::max);
    let by_cosine: Vec<(f32, bool)> = queries.iter().map(|q| (cosine(q), q.is_present)).collect();
    let feature = |n: usize| -> Vec<(f32, bool)> {
        let value = |q: &Query| q.rows.first().map_or(0.0, |row| row.features[n]);
        queries.iter().map(|q| (value(q), q.is_present)).collect()
    };
    let mut bins = [(0.0f64, 0.0f64, 0u32); 10];
    for &(p, is_true, _) in &answers {
        let bin = &mut bins[((p * 10.0) as usize).min(9)];
        *bin = (bin.0 + f64::from(p), bin.1 + f64::from(u8::from(is_true)), bin.2 + 1);
    }
    let ece: f64 = bins.iter().map(|(p, t, _)| (p - t).abs()).sum::<f64>() / answers.len() as f64;
    let sure = answers.iter().filter(|(p, ..)| *p >= 0.9);
    let (sure, right) = (sure.clone().count(), sure.filter(|(_, t, _)| *t).count());
    let present = answers.iter().filter(|(.., present)| *present);
    let found = present.clone().filter(|(_, t, _)| *t).count() as f64 / present.count() as f64;
    let wrong = answers.iter().filter(|&&(p, _, present)| (p >= MATCHES) != present).count();
    println!(
        "{}",
        serde_json::json!({
            "language": language,
            "queries": queries.len(),
            "auroc": auroc(&by_p),
            "auroc_cosine": auroc(&by_cosine),
            "auroc_features": (0..FEATURES).map(|n| auroc(&feature(n))).collect::<Vec<_>>(),
            "ece": ece,
            "sure": sure,
            "precision_of_sure": right as f64 / sure.max(1) as f64,
            "recall_at_1_of_present": found,
            "wrong_no_match": wrong as f64 / answers.len() as f64,
        })
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let fits = arguments.iter().any(|argument| argument == "--fit");
    let places: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let [model, set, vendor @ ..] = &places[..] else {
        return Err("MODEL SET [VENDOR] [--fit]".into());
    };
    let vendor = vendor.first().map_or("noto", |vendor| vendor.as_str());
    let model = Model::load(model.as_ref(), &LoadOptions::default())?;
    let background = Background::encode(&model)?;
    let setting = Setting { model: &model, background: &background, pool: Pool::new(2) };
    let held_out = setting.queries(set.as_ref(), vendor, 1)?;
    if fits {
        let fitted = setting.queries(set.as_ref(), vendor, 0)?;
        let mut all = Vec::new();
        for ((language, _), (fitted, held_out)) in
            LANGUAGES.iter().zip(fitted.iter().zip(&held_out))
        {
            let rows: Vec<&Judged> = fitted.iter().flat_map(|query| &query.rows).collect();
            let parameters = fit(&rows);
            println!("{language}: {parameters:?}");
            report(&format!("{language}, fitted"), fitted, &parameters);
            report(&format!("{language}, held out"), held_out, &parameters);
            all.extend(rows);
        }
        println!("all: {:?}", fit(&all));
    } else {
        for (place, (language, _)) in LANGUAGES.iter().enumerate() {
            report(language, &held_out[place], &PARAMETERS[place]);
        }
    }
    Ok(())
}
