//! How close are two captions, whatever their languages?
//!
//! `cargo run --release -p altclip --example two_captions -- FOLDER 一只猫 "a cat"`
#![allow(clippy::print_stdout)]

use altclip::{LoadOptions, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("usage: two_captions FOLDER CAPTION CAPTION")?;
    let captions: Vec<String> = args.collect();
    let model = Model::load(folder.as_ref(), &LoadOptions::default())?;
    let embeds = model.encode_text(&captions)?;
    let cosines = embeds.cosines(&embeds)?;
    for (caption, cosine) in captions.iter().zip(cosines) {
        println!("{cosine:.4}  {caption}");
    }
    Ok(())
}
