//! From texts and picture files to rows: room for all of them, preparation, the queue, the answers.

use crate::app::App;
use crate::call::Call;
use crate::engine::Tokens;
use crate::fault::Fault;
use crate::queue::{Cost, Full, Item, Kind};
use crate::reply::Outcome;
use crate::row::Row;
use altclip::Embeddings;
use altclip::image::{Format, sniff};
use altclip_report::{Code, Report};
use axum::http::StatusCode;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

/// Memory of a decoder beside the pixels.
const DECODER_BYTES: usize = 16 << 20;
/// Texts that are tokenized by one thread at a time.
const TEXTS_AT_ONCE: usize = 128;

/// What is to become a row.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Text(String),
    /// The bytes of a picture file.
    Picture(Vec<u8>),
}

/// How rows are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) normalize: bool,
    /// Texts that are too long are cut; else refused.
    pub(crate) truncate: bool,
    /// Items that fail are left out; else the request fails.
    pub(crate) skip_bad: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { normalize: true, truncate: true, skip_bad: false }
    }
}

/// A row, and what is known of its input.
#[derive(Clone, Debug)]
pub(crate) struct Embedded {
    pub(crate) row: Row,
    /// Tokens that were used, 0 for a picture.
    pub(crate) tokens: usize,
    /// Tokens of the whole text.
    pub(crate) tokens_total: usize,
}

impl Embedded {
    pub(crate) fn is_truncated(&self) -> bool {
        self.tokens_total > self.tokens
    }
}

/// What became of each input.
pub(crate) type Rows = Vec<Result<Embedded, Report>>;

/// The rows of inputs, in order; with [`Wanted::skip_bad`] those that failed are reports, else there are none.
pub(crate) async fn embed(
    app: &Arc<App>,
    call: &Call,
    inputs: Vec<Input>,
    wanted: Wanted,
) -> Result<Rows, Fault> {
    let count = inputs.len();
    check_counts(app, &inputs)?;
    let refused = refused(app, &inputs);
    if !refused.is_empty() && !wanted.skip_bad {
        return Err(Fault::of_items(count, refused));
    }
    call.make_room(count, app.engine.about().width)?;
    let reservation = app.queue.reserve(estimate(app, &inputs)).map_err(full)?;
    let begun = Instant::now();
    let prepared = prepare(app, inputs, wanted.truncate)?;
    let prepared = in_time(call.deadline, prepared).await??;
    app.metrics.preprocess_seconds.observe(begun.elapsed().as_secs_f64());
    let mut rows: Vec<Option<Result<Embedded, Report>>> = vec![None; count];
    let (mut items, mut places) = (Vec::new(), Vec::new());
    for (place, prepared) in prepared.into_iter().enumerate() {
        match prepared {
            Ok(prepared) => {
                places.push((place, prepared.tokens, prepared.total));
                items.push(prepared.item);
            }
            Err(report) => rows[place] = Some(Err(report)),
        }
    }
    let bad: Vec<(usize, Report)> = failures(&rows);
    if !bad.is_empty() && !wanted.skip_bad {
        return Err(Fault::of_items(count, bad));
    }
    if !items.is_empty() {
        let mut ticket =
            reservation.submit(items, !wanted.normalize, call.deadline).map_err(full)?;
        let answers = in_time(call.deadline, ticket.answers()).await?.ok_or_else(Fault::lost)?;
        for ((place, tokens, tokens_total), answer) in places.into_iter().zip(answers) {
            rows[place] = Some(match answer {
                Outcome::Done(row) => Ok(Embedded { row, tokens, tokens_total }),
                Outcome::Failed(report) => Err(report),
                Outcome::Late => return Err(Fault::late()),
            });
        }
    }
    let failed = failures(&rows);
    if !failed.is_empty() && !wanted.skip_bad {
        return Err(Fault::of_items(count, failed));
    }
    rows.into_iter().map(|row| row.ok_or_else(Fault::lost)).collect()
}

/// The rows of inputs none of which may fail.
pub(crate) async fn rows(
    app: &Arc<App>,
    call: &Call,
    inputs: Vec<Input>,
    wanted: Wanted,
) -> Result<Vec<Embedded>, Fault> {
    let wanted = Wanted { skip_bad: false, ..wanted };
    let rows = embed(app, call, inputs, wanted).await?;
    rows.into_iter().collect::<Result<_, _>>().map_err(Fault::from)
}

/// Rows side by side, to be compared.
pub(crate) fn embeddings(app: &App, rows: &[Embedded]) -> Result<Embeddings, Fault> {
    let numbers = rows.iter().flat_map(|embedded| embedded.row.numbers()).copied();
    Ok(Embeddings::new(app.engine.about().width, numbers.collect())?)
}

/// One forward that tells whether the engine answers. It needs no room: it is one token or two.
pub(crate) async fn canary(app: &App, deadline: Instant) -> Result<(), Fault> {
    let Tokens { ids, .. } = app.engine.tokenize("a")?;
    let cost = Cost { tokens: ids.len(), pictures: 0 };
    let reservation = app.queue.reserve_patiently(cost).map_err(full)?;
    let mut ticket = reservation.submit(vec![Item::Ids(ids)], false, deadline).map_err(full)?;
    match ticket.answers().await.as_deref() {
        Some([Outcome::Done(_)]) => Ok(()),
        Some([Outcome::Failed(report)]) => Err(report.clone().into()),
        _ => Err(Fault::late()),
    }
}

fn failures(rows: &[Option<Result<Embedded, Report>>]) -> Vec<(usize, Report)> {
    let failed = |(place, row): (usize, &Option<Result<Embedded, Report>>)| match row {
        Some(Err(report)) => Some((place, report.clone())),
        _ => None,
    };
    rows.iter().enumerate().filter_map(failed).collect()
}

fn check_counts(app: &App, inputs: &[Input]) -> Result<(), Fault> {
    let texts = inputs.iter().filter(|input| matches!(input, Input::Text(_))).count();
    let pictures = inputs.len() - texts;
    let over = |count: usize, most: usize, what: &str| {
        Fault::field("input", format!("{count} {what}"), &format!("at most {most}"))
    };
    match (texts, pictures) {
        (0, 0) => Err(Fault::field("input", "nothing", "at least one text or picture")),
        (texts, _) if texts > app.limits.texts => Err(over(texts, app.limits.texts, "texts")),
        (_, pictures) if pictures > app.limits.pictures => {
            Err(over(pictures, app.limits.pictures, "pictures"))
        }
        _ => Ok(()),
    }
}

/// Inputs that are refused by their size alone.
fn refused(app: &App, inputs: &[Input]) -> Vec<(usize, Report)> {
    let judge = |(place, input): (usize, &Input)| Some((place, too_long(app, input)?));
    inputs.iter().enumerate().filter_map(judge).collect()
}

fn too_long(app: &App, input: &Input) -> Option<Report> {
    let (Input::Text(text), limit) = (input, app.limits.text_bytes) else { return None };
    (text.len() > limit).then(|| {
        Report::new(Code::E3105, "text", "the text is over the size limit")
            .got(format!("{} bytes", text.len()))
            .expected(format!("at most {limit}"))
            .help("cut it; no more than the first tokens count anyway")
    })
}

/// What inputs cost at most, as far as their lengths tell: a token is hardly ever less than a byte.
fn estimate(app: &App, inputs: &[Input]) -> Cost {
    let mut cost = Cost::default();
    for input in inputs {
        match input {
            Input::Text(text) => {
                cost.tokens += text.len().saturating_add(2).min(app.engine.about().max_length);
            }
            Input::Picture(_) => cost.pictures += 1,
        }
    }
    cost
}

/// An input that the engine can take.
struct Prepared {
    item: Item,
    tokens: usize,
    total: usize,
}

/// Tokenizes and decodes on the preparers, a few inputs at a time.
fn prepare(
    app: &Arc<App>,
    inputs: Vec<Input>,
    truncate: bool,
) -> Result<impl Future<Output = Result<Vec<Result<Prepared, Report>>, Fault>> + use<>, Fault> {
    let mut parts: Vec<Vec<Input>> = Vec::new();
    for input in inputs {
        let is_text = matches!(input, Input::Text(_));
        match parts.last_mut() {
            Some(part)
                if is_text
                    && part.len() < TEXTS_AT_ONCE
                    && matches!(part.last(), Some(Input::Text(_))) =>
            {
                part.push(input);
            }
            _ => parts.push(vec![input]),
        }
    }
    let mut results = Vec::new();
    for part in parts {
        let app_of_work = Arc::clone(app);
        let work = move || {
            part.into_iter()
                .map(|input| prepare_one(&app_of_work, input, truncate))
                .collect::<Vec<_>>()
        };
        let result = app.preparers.run(work).map_err(|_| {
            Fault::busy("too much waits to be prepared", 0, std::time::Duration::from_secs(1))
        })?;
        results.push(result);
    }
    Ok(async {
        let mut prepared = Vec::new();
        for result in results {
            // A tokenizer or decoder that panicked.
            prepared.extend(result.await.map_err(|_| Fault::lost())?);
        }
        Ok(prepared)
    })
}

fn prepare_one(app: &App, input: Input, truncate: bool) -> Result<Prepared, Report> {
    if let Some(report) = too_long(app, &input) {
        return Err(report);
    }
    match input {
        Input::Text(text) => {
            let Tokens { ids, total } = app.engine.tokenize(&text)?;
            let tokens = ids.len();
            if total > tokens && !truncate {
                let message = "the text has more tokens than allowed";
                return Err(Report::new(Code::E3104, "text", message)
                    .got(format!("{total} tokens"))
                    .expected(format!("at most {tokens}"))
                    .help("cut it, or say \"truncate\": true"));
            }
            Ok(Prepared { item: Item::Ids(ids), tokens, total })
        }
        Input::Picture(file) => {
            let _held = app.decoding.wait(decoder_bytes(&file));
            let pixels = app.engine.preprocess(&file)?;
            Ok(Prepared { item: Item::Pixels(pixels), tokens: 0, total: 0 })
        }
    }
}

/// What decoding a file takes, by the size that it declares.
pub(crate) fn decoder_bytes(file: &[u8]) -> usize {
    let pixels = altclip_search::metadata::dimensions(file)
        .map_or(0, |(width, height)| u64::from(width) * u64::from(height));
    let pixels = usize::try_from(pixels).unwrap_or(usize::MAX);
    pixels.saturating_mul(bytes_per_pixel(file)).saturating_add(DECODER_BYTES)
}

/// Bytes that a decoder holds for each pixel at most.
fn bytes_per_pixel(file: &[u8]) -> usize {
    match sniff(file) {
        // Coefficients of up to four components, where there is more than one scan.
        Ok(Format::Jpeg) => 8,
        // Planes, an alpha plane on its way, and the pixels.
        Ok(Format::WebP) => 11,
        _ => 4,
    }
}

fn full(full: Full) -> Fault {
    Fault::busy("its queue has no room for all of this", full.waiting, full.wait)
}

/// What comes in time.
pub(crate) async fn in_time<T>(
    deadline: Instant,
    work: impl Future<Output = T>,
) -> Result<T, Fault> {
    tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| Fault::late())
}

impl Kind {
    /// What a request brought, for the metrics.
    pub(crate) fn of_inputs(inputs: &[Input]) -> &'static str {
        let is_text = |input: &Input| matches!(input, Input::Text(_));
        match (inputs.iter().any(is_text), inputs.iter().all(is_text)) {
            (_, true) => Kind::Text.name(),
            (false, _) => Kind::Picture.name(),
            _ => "mixed",
        }
    }
}

/// A request for more results, labels or pictures than are given at once.
pub(crate) fn unprocessable(report: Report) -> Fault {
    Fault::new(StatusCode::UNPROCESSABLE_ENTITY, report)
}
