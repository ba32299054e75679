//! `altclip train`: the two stages of AltCLIP, CLIP itself, and fine-tuning.

mod check;
mod contrastive;
mod distill;
mod finetune;
mod measure;
mod session;

use crate::args::train::Train;
use crate::failure::{Failure, Reporter};

pub(crate) fn run(args: &Train, reporter: Reporter) -> Result<(), Failure> {
    match args {
        Train::Distill(args) => distill::run(args, reporter),
        Train::Contrastive(args) => contrastive::stage2(args, reporter),
        Train::Clip(args) => contrastive::clip(args, reporter),
        Train::Finetune(args) => finetune::run(args, reporter),
    }
}
