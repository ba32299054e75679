//! How well `p_match` knows what is there: the emoji set with whole subgroups taken out.
//!
//! ```text
//! cargo run --release -p altclip-search --example p_match -- MODEL build/emoji/set [VENDOR] [--fit]
//! ```
//!
//! For each subgroup of CLDR the collection is all base emoji of a vendor without it. Each name is asked for
//! twice: once where its own subgroup is taken out (absent), once where another one is (present). Parameters
//! are fitted on four fifths of the subgroups and judged on the names of the fifth, five times; `--fit`
//! prints those of all subgroups, which are what ships. Without it those that ship are judged too.
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use altclip::{LoadOptions, Model};
use altclip_kernels::Pool;
use altclip_search::{
    Asked, Background, Flat, Group, Judge, MATCHES, Parameters, Scan, Searcher, logistic,
    parameters,
};
use half::f16;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

/// Best rows of a query, of which the most probable is the answer.
const ROWS: usize = 5;
const FOLDS: usize = 5;
const LANGUAGES: [(&str, Group); 9] = [
    ("en", Group::English),
    ("zh", Group::Chinese),
    ("ja", Group::Japanese),
    ("ko", Group::Korean),
    ("ru", Group::Cyrillic),
    ("ar", Group::Arabic),
    ("es", Group::Latin),
    ("fr", Group::Latin),
    ("it", Group::Latin),
];

struct Concept {
    subgroup: usize,
    names: [String; LANGUAGES.len()],
    picture: PathBuf,
    /// Its Chinese name was in the training of the miniature.
    is_seen: bool,
}

/// The answer to a query.
#[derive(Clone, Copy)]
struct Answer {
    /// Subgroups are folded, so that no name is judged by what was fitted on its neighbours.
    fold: usize,
    level: f32,
    cosine: f32,
    is_present: bool,
    /// It is what the query names.
    is_true: bool,
    is_seen: bool,
}

fn concepts(set: &Path, vendor: &str) -> Result<Vec<Concept>, Box<dyn Error>> {
    let lines = std::fs::read_to_string(set.join("concepts.jsonl"))?;
    let (mut concepts, mut subgroups) = (Vec::new(), BTreeMap::new());
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let picture = set.join(format!("images/{vendor}/{}.png", text(&value["key"])));
        if value["kind"] == "base" && picture.exists() {
            let next = subgroups.len();
            concepts.push(Concept {
                subgroup: *subgroups.entry(text(&value["subgroup"])).or_insert(next),
                names: LANGUAGES.map(|(language, _)| text(&value["names"][language])),
                picture,
                is_seen: value["zh"] == "seen",
            });
        }
    }
    Ok(concepts)
}

/// The answers to all names in all languages.
fn answers(
    model: &Model,
    set: &Path,
    vendor: &str,
) -> Result<[Vec<Answer>; LANGUAGES.len()], Box<dyn Error>> {
    let scale = model.opened().scale().map_err(altclip::Error::from)?;
    let (background, pool) = (Background::encode(model)?, Pool::new(2));
    let concepts = concepts(set, vendor)?;
    let paths: Vec<PathBuf> = concepts.iter().map(|concept| concept.picture.clone()).collect();
    let mut pictures = Vec::new();
    for row in model.pictures(paths.into_iter(), &model.picture_options())? {
        pictures.push(row?.into_iter().map(|x| f16::from_f32(x).to_bits()).collect::<Vec<_>>());
    }
    let width = pictures.first().map_or(0, Vec::len);
    let mut texts = Vec::new();
    for language in 0..LANGUAGES.len() {
        let names: Vec<&str> = concepts.iter().map(|c| c.names[language].as_str()).collect();
        texts.push(model.encode_text(&names)?);
    }
    let subgroups = concepts.iter().map(|concept| concept.subgroup + 1).max().unwrap_or(0);
    // The subgroup that is taken out where a name is asked for that is there: any but its own.
    let other = |n: usize| (concepts[n].subgroup + 1 + n % (subgroups - 1)) % subgroups;
    let mut answers = std::array::from_fn(|_| Vec::new());
    for gone in 0..subgroups {
        let kept = (0..concepts.len()).filter(|&n| concepts[n].subgroup != gone);
        let kept: Vec<usize> = kept.collect();
        let rows = kept.iter().flat_map(|&n| pictures[n].iter().copied()).collect();
        let flat = Flat::new(0, width, kept.iter().map(|&n| n as i64).collect(), rows);
        let searcher = Searcher::new(&flat, &pool);
        let judge = Judge::new(&searcher, &background, scale);
        for (n, concept) in concepts.iter().enumerate() {
            let is_present = other(n) == gone;
            if !is_present && concept.subgroup != gone {
                continue;
            }
            for (language, &(_, group)) in LANGUAGES.iter().enumerate() {
                let query = texts[language].row(n).to_vec();
                let asked = Asked { query, group: Some(group) };
                let hits = searcher.nearest(&asked.query, ROWS, None, Scan::Exact);
                let levels = hits.iter().map(|hit| (judge.level(&asked, hit.row), hit.row));
                let best = levels.max_by(|a, b| a.0.total_cmp(&b.0)).ok_or("no pictures")?;
                answers[language].push(Answer {
                    fold: concept.subgroup % FOLDS,
                    level: best.0,
                    cosine: hits.first().map_or(0.0, |hit| hit.score),
                    is_present,
                    is_true: flat.id(best.1) == Some(n as i64),
                    is_seen: concept.is_seen,
                });
            }
        }
    }
    Ok(answers)
}

/// Logistic regression on the level by Newton's method.
fn fit<'a>(answers: impl Iterator<Item = &'a Answer>) -> Parameters {
    let rows: Vec<(f64, f64)> =
        answers.map(|a| (f64::from(a.level), f64::from(u8::from(a.is_true)))).collect();
    let (mut bias, mut weight) = (0.0, 0.0);
    for _ in 0..30 {
        let (mut g, mut h) = ([0.0; 2], [1e-6, 0.0, 1e-6]);
        for &(level, truth) in &rows {
            let p = 1.0 / (1.0 + f64::exp(-(bias + weight * level)));
            let (error, slope) = (truth - p, p * (1.0 - p));
            g = [g[0] + error, g[1] + error * level];
            h = [h[0] + slope, h[1] + slope * level, h[2] + slope * level * level];
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        bias += (h[2] * g[0] - h[1] * g[1]) / determinant;
        weight += (h[0] * g[1] - h[1] * g[0]) / determinant;
    }
    [bias as f32, weight as f32]
}

/// The share of pairs in which the present query has the higher number.
fn auroc(numbers: impl Iterator<Item = (f32, bool)>) -> f64 {
    let mut sorted: Vec<(f32, bool)> = numbers.collect();
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

/// Prints the figures of answers with the parameters of each fold.
fn report(name: &str, judged: &[Answer], of_fold: impl Fn(usize) -> Parameters) {
    let p = |a: &Answer| logistic(&of_fold(a.fold), a.level);
    let mut bins = [(0.0f64, 0.0f64); 10];
    for answer in judged {
        let bin = &mut bins[((p(answer) * 10.0) as usize).min(9)];
        *bin = (bin.0 + f64::from(p(answer)), bin.1 + f64::from(u8::from(answer.is_true)));
    }
    let error: f64 = bins.iter().map(|(said, true_)| (said - true_).abs()).sum();
    let share = |all: &mut dyn Iterator<Item = bool>| {
        let (mut count, mut yes) = (0.0, 0.0);
        all.for_each(|is| {
            count += 1.0;
            yes += f64::from(u8::from(is));
        });
        yes / f64::max(count, 1.0)
    };
    let sure: Vec<&Answer> = judged.iter().filter(|answer| p(answer) >= 0.9).collect();
    let figures = json!({
        "answers": name,
        "queries": judged.len(),
        "auroc": auroc(judged.iter().map(|a| (p(a), a.is_present))),
        "auroc_cosine": auroc(judged.iter().map(|a| (a.cosine, a.is_present))),
        "ece": error / judged.len() as f64,
        "sure": sure.len(),
        "precision_of_sure": share(&mut sure.iter().map(|a| a.is_true)),
        "recall_at_1_of_present": share(&mut judged.iter().filter(|a| a.is_present).map(|a| a.is_true)),
        "wrong_no_match": share(&mut judged.iter().map(|a| (p(a) >= MATCHES) != a.is_present)),
    });
    println!("{figures}");
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
    let answers = answers(&model, set.as_ref(), vendor)?;
    let of_group = |group: Group| {
        let all = LANGUAGES.iter().zip(&answers);
        let own = all.filter(move |((_, other), _)| *other == group);
        own.flat_map(|(_, answers)| answers)
    };
    for (&(language, group), judged) in LANGUAGES.iter().zip(&answers) {
        let folds: [Parameters; FOLDS] =
            std::array::from_fn(|fold| fit(of_group(group).filter(|a| a.fold != fold)));
        let held_out = |fold: usize| folds[fold];
        report(&format!("{vendor} {language}, held out"), judged, held_out);
        if language == "zh" {
            let seen: Vec<Answer> = judged.iter().copied().filter(|a| a.is_seen).collect();
            report(&format!("{vendor} {language}, trained names, held out"), &seen, held_out);
        }
        if fits {
            println!("{group:?}: {:?}", fit(of_group(group)));
        } else if let Some(shipped) = parameters(group) {
            report(&format!("{vendor} {language}, as shipped"), judged, |_| shipped);
        }
    }
    Ok(())
}
