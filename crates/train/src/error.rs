//! What can go wrong in a training run.

use crate::guard::NonFinite;
use altclip_report::{Code, Diagnose, Report};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// An error of a training run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model cannot be built or run.
    #[error(transparent)]
    Model(#[from] altclip_models::Error),
    /// The data.
    #[error(transparent)]
    Data(#[from] altclip_data::Error),
    /// A sample that a measurement cannot do without.
    #[error(transparent)]
    Sample(#[from] altclip_data::Fault),
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model that is run, but not trained.
    #[error("training of {kind} is not supported")]
    NotTrainable {
        /// Its folder or file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The teacher has neither CLIP's text tower nor AltCLIP's.
    #[error("the teacher is no CLIP and no AltCLIP")]
    NotATeacher {
        /// Its folder.
        dir: PathBuf,
    },
    /// The student is not of XLM-RoBERTa's family.
    #[error("the student is no XLM-RoBERTa or AltCLIP")]
    NotAStudent,
    /// Two parts have different widths.
    #[error("{what} is {found}, expected {expected}")]
    Width {
        /// What is measured.
        what: &'static str,
        /// Its width.
        found: usize,
        /// What the other part needs.
        expected: usize,
    },
    /// A size of a model that cannot be.
    #[error("{what} is {found}")]
    Size {
        /// Its name in config.json.
        what: &'static str,
        /// Its value.
        found: usize,
        /// From where to where it may go.
        limits: RangeInclusive<usize>,
    },
    /// A tensor that nothing knows.
    #[error("there is no tensor {0}")]
    NoTensor(String),
    /// A trained tensor that the loss does not depend on.
    #[error("the trained tensor {0} got no gradient")]
    NoGradient(String),
    /// A sample came without pixel values where they are needed.
    #[error("picture {image} came without pixel values")]
    NoPixels {
        /// Its number in the data.
        image: u64,
    },
    /// The data ended.
    #[error("no more samples arrive")]
    NoMoreData,
    /// The guard gave up.
    #[error("training stops at numbers that are not finite")]
    NotFinite {
        /// The step.
        step: u64,
        /// What of it.
        what: NonFinite,
        /// Numbers of the samples of the batch in the data.
        samples: Vec<u64>,
    },
    /// A batch for which there is no room.
    #[error("there is not enough memory for a batch")]
    BatchMemory {
        /// Its samples.
        batch_size: usize,
        /// What it needs, about.
        bytes: u64,
    },
    /// The process was asked to stop in the middle of a measurement.
    #[error("interrupted while the model was measured; the last checkpoint is whole")]
    Stopped,
    /// Checkpoints and logs.
    #[error(transparent)]
    Saved(#[from] crate::state::Error),
    /// A checkpoint of another model.
    #[error("the checkpoint does not belong to this run: {0}")]
    State(String),
    /// An error that another crate reported.
    #[error("{0}")]
    Reported(Report),
}

impl From<altclip_checkpoint::Error> for Error {
    fn from(error: altclip_checkpoint::Error) -> Self {
        Error::Model(error.into())
    }
}

impl From<altclip_tensor::Error> for Error {
    fn from(error: altclip_tensor::Error) -> Self {
        Error::Model(error.into())
    }
}

impl From<altclip_durable::Error> for Error {
    fn from(error: altclip_durable::Error) -> Self {
        Error::Reported(error.report())
    }
}

impl From<altclip::Error> for Error {
    fn from(error: altclip::Error) -> Self {
        Error::Reported(error.report())
    }
}

impl From<altclip_image::Error> for Error {
    fn from(error: altclip_image::Error) -> Self {
        Error::Reported(error.report())
    }
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let message = self.to_string();
        let training = |code| Report::new(code, "training", message.clone());
        match self {
            Error::Model(error) => error.report(),
            Error::Data(error) => error.report(),
            Error::Sample(fault) => fault.report(),
            Error::Reported(report) => report.clone(),
            Error::Saved(error) => error.report(),
            Error::State(_) => training(Code::E6010).help("begin again in another --out"),
            Error::Read { path, source } => {
                Report::new(Code::E2001, "training", format!("a file cannot be read: {source}"))
                    .place(path.display().to_string())
                    .help("name a folder or file that exists")
            }
            Error::Write { path, source } => {
                let full = matches!(
                    source.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                );
                let code = if full { Code::E9005 } else { Code::E1004 };
                Report::new(code, "training", format!("a file cannot be written: {source}"))
                    .place(path.display().to_string())
                    .help("make room on the disk, or name another --out")
            }
            Error::NotTrainable { path, kind } => training(Code::E6013)
                .place(path.display().to_string())
                .got(*kind)
                .expected("a folder of AltCLIP, CLIP or CN-CLIP in the Hub's layout")
                .help("its embeddings can be measured and used; to train take one of those"),
            Error::NotATeacher { dir } => training(Code::E6013)
                .place(dir.display().to_string())
                .got("a folder of another family")
                .expected("a CLIP or AltCLIP folder, whose text tower is imitated")
                .help("for AltCLIP that is openai/clip-vit-large-patch14"),
            Error::NotAStudent => training(Code::E6013)
                .place("--student")
                .got("a CLIP text tower")
                .expected("a folder of XLM-RoBERTa or AltCLIP, or its config.json and tokenizer")
                .help("for AltCLIP that is xlm-roberta-large"),
            Error::Width { found, expected, .. } => training(Code::E6013)
                .place("--student, --teacher")
                .got(found.to_string())
                .expected(expected.to_string())
                .help("leave project_dim out of the student's config.json, or take another teacher"),
            Error::Size { what, found, limits } => training(Code::E6013)
                .place(format!("config.json, {what}"))
                .got(found.to_string())
                .expected(format!("{} to {}", limits.start(), limits.end()))
                .help("correct config.json"),
            Error::NoTensor(_) | Error::NoGradient(_) | Error::NoPixels { .. } => {
                training(Code::E9001).help("please report this line")
            }
            Error::BatchMemory { batch_size, bytes } => training(Code::E9002)
                .place("--batch-size")
                .got(format!("{batch_size} samples, about {} MiB", bytes.div_ceil(1 << 20)))
                .expected("no more than can be reserved")
                .help("lower --batch-size: a batch is held whole; --chunk-size bounds its activations only"),
            Error::Stopped => {
                training(Code::E6009).help("the same command with --resume goes on from there")
            }
            Error::NoMoreData => training(Code::E9001).help("please report this line"),
            Error::NotFinite { step, what, samples } => training(Code::E6004)
                .place(format!("step {step}"))
                .got(not_finite(what, samples))
                .expected("finite numbers")
                .help("lower --lr, or look at bad_batches.jsonl; --resume goes on from the last checkpoint"),
        }
    }

    fn reports(&self) -> Vec<Report> {
        match self {
            Error::Model(error) => error.reports(),
            _ => vec![self.report()],
        }
    }
}

/// What is not finite, and in which samples.
pub(crate) fn not_finite(what: &NonFinite, samples: &[u64]) -> String {
    let mut shown: Vec<String> = samples.iter().take(8).map(u64::to_string).collect();
    if samples.len() > shown.len() {
        shown.push("…".to_owned());
    }
    let samples =
        if shown.is_empty() { String::new() } else { format!("; samples {}", shown.join(", ")) };
    format!("NaN or infinity in {what}{samples}")
}
