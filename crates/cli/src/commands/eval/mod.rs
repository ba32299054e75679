//! `altclip eval`: a model or its embeddings at a task.

mod arrays;
mod compare;
mod compared;
mod consistency;
mod embedder;
mod kept;
mod linear_probe;
mod page;
mod prompts;
mod results;
mod retrieval;
mod summary;
mod table;
mod zeroshot;

use super::Tally;
use crate::args::{Eval, EvalRetrieval, EvalRun, EvalTask, RunArgs};
use crate::failure::{Failure, Reporter};
use crate::files;
use altclip::Model;
use altclip_data::retrieval::{SetOptions, SetSpec};
use altclip_data::{Dataset as _, LabelledPictures, LabelsOptions};
use altclip_report::{Code, Report};
use embedder::{Embedder, Images};
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) fn run(args: &Eval, reporter: Reporter) -> Result<(), Failure> {
    let out = match &args.task {
        EvalTask::Retrieval(args) => &args.eval.out,
        EvalTask::Zeroshot(args) => &args.eval.out,
        EvalTask::LinearProbe(args) => &args.eval.out,
        EvalTask::Consistency(args) => &args.eval.out,
        EvalTask::Compare(_) | EvalTask::Table(_) => &None,
    };
    // Said before hours of work, not after.
    if let Some(dir) = out.as_ref().filter(|dir| dir.symlink_metadata().is_ok()) {
        return Err(files::exists(dir));
    }
    match &args.task {
        EvalTask::Retrieval(args) => match files_of(args) {
            Some(files) => arrays::run(args, files),
            None => retrieval::run(args, reporter),
        },
        EvalTask::Zeroshot(args) => zeroshot::run(args, reporter),
        EvalTask::LinearProbe(args) => linear_probe::run(args, reporter),
        EvalTask::Consistency(args) => consistency::run(args, reporter),
        EvalTask::Compare(args) => compare::run(args),
        EvalTask::Table(args) => summary::run(args),
    }
}

fn files_of(args: &EvalRetrieval) -> Option<arrays::Files<'_>> {
    Some((
        args.image_embeddings.as_deref()?,
        args.text_embeddings.as_deref()?,
        args.text_image_index.as_deref()?,
    ))
}

fn threads(run: &RunArgs) -> usize {
    crate::args::threads(run.threads)
}

/// What a user should know before believing a figure.
fn say_notices(notices: &[String], reporter: Reporter) {
    let report = |notice: &String| {
        Report::new(Code::W5013, "dataset", notice.clone())
            .help("the figures are those of the dataset as it is")
    };
    reporter.warn(&notices.iter().map(report).collect::<Vec<_>>());
}

/// The verdict on what a set could not use.
fn verdict(bad: &[Report], all: usize, eval: &EvalRun) -> Result<(), Failure> {
    let mut tally = Tally::default();
    bad.iter().for_each(|report| tally.bad(report));
    (bad.len()..all).for_each(|_| tally.good());
    tally.verdict(eval.max_bad)
}

/// Opens labelled pictures.
fn labelled(
    spec: &SetSpec,
    split: &str,
    names: Option<Vec<String>>,
) -> Result<Arc<LabelledPictures>, Failure> {
    let options = LabelsOptions { split: split.to_owned(), names, ..LabelsOptions::default() };
    Ok(Arc::new(LabelledPictures::open(&spec.path, &options)?))
}

/// Embeds labelled pictures, as far as `--max-bad` allows.
fn embed(
    data: &Arc<LabelledPictures>,
    embedder: &mut Embedder<'_>,
    eval: &EvalRun,
    reporter: Reporter,
) -> Result<(Images, Vec<usize>), Failure> {
    say_notices(data.notices(), reporter);
    let (images, labels) = embedder.labelled(data)?;
    verdict(&images.bad, images.bad.len() + images.kept.len(), eval)?;
    Ok((images, labels))
}

/// What a dataset is called in results.
fn named(eval: &EvalRun, spec: &SetSpec) -> String {
    eval.name.clone().unwrap_or_else(|| spec.name())
}

/// How a set of captions is opened for a command.
fn set_options(eval: &EvalRun, images: Option<&PathBuf>, language: Option<&String>) -> SetOptions {
    SetOptions {
        images: images.cloned(),
        split: eval.split.clone(),
        language: language.cloned(),
        ..SetOptions::default()
    }
}

/// The names under which a model's results are kept: its architecture, and its weights.
fn model_names(model: &Model, run: &RunArgs) -> (String, String) {
    let typed = run.model.model.clone().unwrap_or_else(|| PathBuf::from("model"));
    let name = typed.file_name().map(|name| name.to_string_lossy().into_owned());
    let pretrained = name.unwrap_or_else(|| typed.to_string_lossy().into_owned());
    (model.opened().family().name().to_owned(), pretrained)
}
