//! The embedding dump that clip-retrieval, embedding-reader and autofaiss read: `img_emb/`,
//! `text_emb/`, `metadata/`, and a manifest of ours on top.
//!
//! Row `i` of the table is row `i` of each array. So pictures and texts together must pair up.

use crate::args::Embed;
use crate::failure::Failure;
use crate::files;
use crate::inputs::Input;
use altclip::Model;
use altclip::npy;
use altclip_report::{Code, Report};
use std::path::{Path, PathBuf};

/// What will be written once everything is embedded.
pub(super) struct Dump {
    out: PathBuf,
    images: Vec<(String, Vec<f32>)>,
    texts: Vec<(String, Vec<f32>)>,
    width: usize,
    manifest: serde_json::Value,
}

impl Dump {
    pub(super) fn new(out: &Path, model: &Model, args: &Embed) -> Result<Self, Failure> {
        if args.text.len() + args.texts.len() > 0 && !args.image.is_empty() {
            let folder_or_file =
                args.image.iter().any(|path| path.is_dir()) || !args.texts.is_empty();
            if !folder_or_file && args.text.len() != args.image.len() {
                return Err(unpaired(args.image.len(), args.text.len()));
            }
        }
        let named = args.run.model.model.as_deref().unwrap_or(Path::new(""));
        let files = model.opened().checkpoint().files().iter();
        let manifest = serde_json::json!({
            "format": "altclip embedding dump 1",
            "model": named.file_name().unwrap_or(named.as_os_str()).to_string_lossy(),
            "family": model.opened().family().name(),
            "parameters": model.opened().parameters(),
            "weights": files.map(|file| serde_json::json!({
                "file": file.path.file_name().unwrap_or_default().to_string_lossy(),
                "bytes": file.bytes,
            })).collect::<Vec<_>>(),
            "dtype": "float32",
            "width": model.opened().config().projection_dim,
            "normalized": !args.no_normalize,
            "max_length": args.run.max_length,
            "altclip_version": env!("CARGO_PKG_VERSION"),
        });
        let width = model.opened().config().projection_dim;
        Ok(Self { out: out.to_owned(), images: Vec::new(), texts: Vec::new(), width, manifest })
    }

    pub(super) fn put(&mut self, input: &Input, vector: Vec<f32>) {
        let list =
            if matches!(input, Input::Image { .. }) { &mut self.images } else { &mut self.texts };
        list.push((input.shown().to_owned(), vector));
    }

    /// Writes the folder under a temporary name and renames it when it is complete.
    pub(super) fn write(self, rows: u64) -> Result<(), Failure> {
        if rows > 0
            && !self.images.is_empty()
            && !self.texts.is_empty()
            && self.images.len() != self.texts.len()
        {
            return Err(unpaired(self.images.len(), self.texts.len()));
        }
        let name = format!(
            "{}.{}.tmp",
            self.out.file_name().unwrap_or_default().to_string_lossy(),
            std::process::id()
        );
        let temporary = self.out.with_file_name(name);
        let written = self.write_to(&temporary).and_then(|()| {
            std::fs::rename(&temporary, &self.out)
                .map_err(|error| files::cannot_write(&self.out, &error))
        });
        if written.is_err() {
            // It may never have been made.
            let _ = std::fs::remove_dir_all(&temporary);
        }
        written
    }

    fn write_to(&self, dir: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| files::cannot_write(&self.out, &error);
        std::fs::create_dir(dir).map_err(failed)?;
        for (list, folder, file) in [
            (&self.images, "img_emb", "img_emb_0.npy"),
            (&self.texts, "text_emb", "text_emb_0.npy"),
        ] {
            if list.is_empty() {
                continue;
            }
            std::fs::create_dir(dir.join(folder)).map_err(failed)?;
            let numbers: Vec<f32> = list.iter().flat_map(|(_, vector)| vector).copied().collect();
            files::write_file(&dir.join(folder).join(file), false, |mut out| {
                npy::write_f32(&mut out, &[list.len(), self.width], &numbers)
            })?;
        }
        std::fs::create_dir(dir.join("metadata")).map_err(failed)?;
        let table = self
            .table()
            .map_err(|error| files::cannot_write(&self.out, &std::io::Error::other(error)))?;
        files::write_file(&dir.join("metadata/metadata_0.parquet"), false, |out| {
            out.write_all(&table)
        })?;
        files::write_file(&dir.join("manifest.json"), false, |out| {
            writeln!(out, "{:#}", self.manifest)
        })
    }

    /// A Parquet table with the columns `image_path` and `caption`, as far as there are any.
    fn table(&self) -> Result<Vec<u8>, parquet::errors::ParquetError> {
        let columns: Vec<_> = [("image_path", &self.images), ("caption", &self.texts)]
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .collect();
        let columns: Vec<(&str, Vec<&str>)> = columns
            .into_iter()
            .map(|(name, list)| (name, list.iter().map(|(shown, _)| shown.as_str()).collect()))
            .collect();
        altclip_search::table(&columns)
    }
}

fn unpaired(images: usize, texts: usize) -> Failure {
    Failure::one(
        Report::new(Code::E1001, "usage", "a dump pairs picture i with text i")
            .place("--format npy")
            .got(format!("{images} pictures and {texts} texts"))
            .expected("as many pictures as texts, or only one kind")
            .help("write two dumps, or drop the inputs that were refused"),
    )
}
