//! Which label fits a picture, with a template in the language of the labels.
//!
//! `cargo run --release -p altclip --example zero_shot -- FOLDER PICTURE 猫 狗 鸟`
#![allow(clippy::print_stdout)]

use altclip::{LoadOptions, Model, Templates};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: zero_shot FOLDER PICTURE LABEL...";
    let (folder, picture) = (args.next().ok_or(usage)?, args.next().ok_or(usage)?);
    let labels: Vec<String> = args.collect();
    let model = Model::load(folder.as_ref(), &LoadOptions::default())?;
    let templates = Templates::new(["一张{}的照片".to_owned()]);
    let classifier = model.label_embeddings(&labels, &templates)?;
    let image = model.open_image(picture.as_ref())?;
    let classified = model.classify(&[image], &classifier)?;
    for (label, found) in labels.iter().zip(classified.row(0)) {
        println!("{:5.1} %  {label}", 100.0 * found.probability);
    }
    Ok(())
}
