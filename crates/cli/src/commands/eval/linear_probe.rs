//! `altclip eval linear-probe`: logistic regression on embeddings.

use super::embedder::Embedder;
use super::results::Context;
use super::{embed, labelled, named, threads, zeroshot};
use crate::args::EvalLinearProbe;
use crate::failure::{Failure, Reporter};
use crate::{host, model};
use altclip_eval::{Probe, ProbeOptions, Rows, Scorer};
use altclip_report::{Code, Report};
use serde_json::json;

pub(super) fn run(args: &EvalLinearProbe, reporter: Reporter) -> Result<(), Failure> {
    if args.l2.is_some_and(|l2| !l2.is_finite() || l2 < 0.0) {
        return Err(Failure::one(
            Report::new(Code::E1001, "usage", "the strength of L2 is no number from 0 on")
                .place("--l2")
                .help("leave it out to have it searched for"),
        ));
    }
    let train_spec = args.train_dataset.as_ref().unwrap_or(&args.dataset);
    let train = labelled(train_spec, "train", None)?;
    let test = labelled(&args.dataset, &args.eval.split, None)?;
    if train.class_names() != test.class_names() {
        return Err(Failure::one(
            Report::new(Code::E5010, "eval", "the two datasets have other classes")
                .place("--train-dataset and --dataset")
                .got(format!("{} and {}", train.class_names().len(), test.class_names().len()))
                .expected("the same names in the same order")
                .help("take both from one dataset"),
        ));
    }
    let names: Vec<String> = test.class_names().iter().map(ToString::to_string).collect();
    let model = model::load(&args.eval.run, reporter)?;
    let mut embedder = Embedder::new(&model, args.eval.run.no_cache, reporter);
    let scorer = Scorer::new(threads(&args.eval.run));
    let (train_images, train_labels) = embed(&train, &mut embedder, &args.eval, reporter)?;
    let (test_images, test_labels) = embed(&test, &mut embedder, &args.eval, reporter)?;
    let train_rows = Rows::new("training embeddings", &train_images.rows, embedder.width())?;
    let test_rows = Rows::new("test embeddings", &test_images.rows, embedder.width())?;
    let options =
        ProbeOptions { l2: args.l2, steps: args.steps as usize, ..ProbeOptions::default() };
    let (classes, stop) = (names.len(), &mut host::wants_stop);
    let stopped = || Failure::Status(130);
    let probe = Probe::fit(&scorer, &train_rows, &train_labels, classes, &options, stop)?;
    let probe = probe.ok_or_else(stopped)?;
    let found = probe.classify(&scorer, &test_rows, &test_labels, stop)?.ok_or_else(stopped)?;
    let on_train = probe.classify(&scorer, &train_rows, &train_labels, stop)?;
    let train_acc1 = on_train.ok_or_else(stopped)?.report()?.acc1;
    let context = Context { model: &model, eval: &args.eval, task: "linear_probe" };
    let more = [
        ("fit".to_owned(), json!(probe.fit)),
        ("train_acc1".to_owned(), json!(train_acc1)),
        ("train_samples".to_owned(), json!(train_labels.len())),
    ];
    zeroshot::show(
        &context,
        &found,
        &names,
        (&named(&args.eval, &args.dataset), "none"),
        more,
        &embedder,
        None,
    )
}
