//! A look at the data before the first step.

use crate::args::train::Run;
use altclip_data::check::{CaptionCheck, CheckSettings, Findings, ParallelCheck};
use altclip_data::{CaptionedPictures, Dataset, LabelledPictures, Order, ParallelTexts};
use altclip_train::samples::Ids;

/// Samples that are looked at: enough for shares, few enough to take no time.
const SAMPLES: u64 = 10_000;

/// Calls `look` with the numbers of samples that the run begins with.
fn each(len: u64, run: &Run, look: impl FnMut(u64)) {
    let order = Order::new(len, run.seed, !run.no_shuffle);
    let first = order.walk(0, 0).take(len.min(SAMPLES) as usize);
    first.map(|(_, _, number)| number).for_each(look);
}

/// What a check is made against.
fn settings<'a>(
    run: &Run,
    samples: u64,
    ids: &Ids,
    length: &'a (dyn Fn(&str) -> usize + Sync),
) -> CheckSettings<'a> {
    let batch_size = run.batch_size.unwrap_or(1) as usize;
    CheckSettings { batch_size, samples, length, unit: "tokens", max_length: ids.max_length }
}

/// Tokens of a text before truncation; 0 for a text that is refused, which counts as a fault elsewhere.
fn length(ids: &Ids) -> impl Fn(&str) -> usize + Sync + '_ {
    |text| ids.tokenizer.encode(text, usize::MAX).map_or(0, |encoding| encoding.input_ids.len())
}

pub(super) fn parallel(data: &ParallelTexts, ids: &Ids, run: &Run) -> Findings {
    let length = length(ids);
    let mut check = ParallelCheck::new(settings(run, data.len(), ids, &length));
    each(data.len(), run, |number| match data.get(number) {
        Ok(pair) => check.add(&pair),
        Err(fault) => check.fault(&fault),
    });
    check.findings()
}

pub(super) fn captions(data: &CaptionedPictures, ids: &Ids, run: &Run) -> Findings {
    let length = length(ids);
    let mut check = CaptionCheck::new(settings(run, data.len(), ids, &length));
    each(data.len(), run, |number| match data.get(number) {
        Ok(sample) => check.add(&sample),
        Err(fault) => check.fault(&fault),
    });
    check.findings()
}

/// Labelled pictures with their captions in the first template.
pub(super) fn labels(
    data: &LabelledPictures,
    templates: &[String],
    ids: &Ids,
    run: &Run,
) -> Findings {
    let length = length(ids);
    let mut check = CaptionCheck::new(settings(run, data.len(), ids, &length));
    let template = templates.first().map_or("{}", String::as_str);
    each(data.len(), run, |number| match data.get(number) {
        Ok(sample) => {
            let caption = template.replace("{}", &sample.class_name);
            check.add_parts(u128::from(number), [caption.as_str()], None);
        }
        Err(fault) => check.fault(&fault),
    });
    check.findings()
}
