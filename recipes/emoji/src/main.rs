//! A multilingual set of pictures and names, made from packages that anyone can fetch.
//!
//! `emoji-set` reads what `recipes/emoji/fetch.sh` unpacked (`build/emoji/sources`) and writes
//! `build/emoji/{set,tokenizers}` and a contact sheet. `emoji-set ids FOLDER TEXTS` prints the ids of each
//! line of a file, for the comparison with transformers.
//!
//! A *concept* is a sequence of code points that CLDR names; four vendors draw it. Three are for training,
//! OpenMoji is held out: its pictures are measured on and never trained on or shipped.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod cldr;
mod concept;
mod contact;
mod key;
mod noto;
mod output;
mod picture;
mod report;
mod split;
mod student;
mod teacher;
mod tokenizer_folder;
mod unigram;
mod vendor;

use std::path::Path;

/// A fault in words, with the place in front: this is a tool of the repository, not of its users.
type Result<T> = std::result::Result<T, String>;

/// The seed of every choice.
const SEED: u64 = 2022;

const USAGE: &str = "usage: emoji-set [SOURCES OUT]   (build/emoji/sources build/emoji)
       emoji-set ids FOLDER TEXTS";

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => build("build/emoji/sources".as_ref(), "build/emoji".as_ref()),
        ["ids", folder, texts] => tokenizer_folder::print_ids(folder.as_ref(), texts.as_ref()),
        [sources, out] => build(sources.as_ref(), out.as_ref()),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Everything, in order: names, pictures, split, files, tokenizers.
fn build(sources: &Path, out: &Path) -> Result<()> {
    let set = out.join("set");
    let names = cldr::read_all(&sources.join("cldr/usr/share/unicode/cldr/common"))?;
    let groups = concept::read_groups(&sources.join("twemoji/emoji.json"))?;
    let vendors = vendor::open_all(sources)?;
    let mut concepts = concept::gather(&names, &groups, &vendors);
    let faults = vendor::draw_all(&vendors, &mut concepts, &set.join("images"))?;
    concepts.retain(concept::Concept::belongs);
    println!("{} concepts are drawn", concepts.len());
    let split = split::chinese(&concepts);
    let texts = output::write(&set, &concepts, &split)?;
    report::write(
        &set,
        sources,
        &report::Facts {
            names: &names,
            vendors: &vendors,
            concepts: &concepts,
            split: &split,
            faults: &faults,
        },
    )?;
    contact::write(&set.join("images"), &concepts, &out.join("contact.png"))?;
    let tokenizers = out.join("tokenizers");
    teacher::write(&texts, &tokenizers.join("teacher"))?;
    student::write(&texts, &concepts, &tokenizers.join("student"))?;
    println!("written: {}", out.display());
    Ok(())
}

/// Adds the place to a fault.
fn at<E: std::fmt::Display>(place: &Path) -> impl FnOnce(E) -> String + '_ {
    move |error| format!("{}: {error}", place.display())
}

/// The bytes of a file.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(at(path))
}

/// The text of a file.
fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(at(path))
}

/// Writes a file, and its folder where there is none.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(at(folder))?;
    }
    std::fs::write(path, bytes).map_err(at(path))
}
