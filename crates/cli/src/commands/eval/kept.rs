//! What a model that compares more than one row an item knows of pictures and texts: on the disk, by model and
//! input, and in memory only as far as it is compared.

use super::embedder::{Embedder, Source, bytes};
use crate::commands::progress;
use crate::failure::Failure;
use altclip::cache::EmbeddingCache;
use altclip::image::{Rgb, decode};
use altclip::{Model, Side};
use altclip_report::{Code, Diagnose as _, Report};
use std::path::PathBuf;
use std::time::Instant;

/// Pictures that the encoder takes at a time.
const BATCH: usize = 4;
/// Texts of a step.
const TEXTS: usize = 64;

/// Items that were computed, or were there.
pub(super) struct Kept {
    is_text: bool,
    store: EmbeddingCache,
    /// The hash of each row's input.
    keys: Vec<u128>,
    /// The number of the picture or text of each row.
    pub(super) kept: Vec<usize>,
    /// What could not be used.
    pub(super) bad: Vec<Report>,
    /// Removed at the end, where nothing is to stay.
    _scratch: Option<Scratch>,
}

impl Kept {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Everything that is known of one row's item.
    fn item(&mut self, row: usize) -> Result<Vec<f32>, Failure> {
        let kept = self.keys.get(row).copied().map(|key| self.store.get(key)).transpose()?;
        kept.flatten().ok_or_else(|| {
            Failure::one(
                Report::new(Code::E9005, "eval", "an embedding that was kept is gone")
                    .help("run the command again, alone"),
            )
        })
    }

    /// Some rows, ready to be compared.
    pub(super) fn side(
        &mut self,
        model: &Model,
        rows: impl IntoIterator<Item = usize>,
    ) -> Result<Side, Failure> {
        let items = rows.into_iter().map(|row| self.item(row)).collect::<Result<Vec<_>, _>>()?;
        Ok(model.side_of_kept(self.is_text, &items)?)
    }

    /// The embeddings of all rows, `[N, E]`, where the model has one each.
    pub(super) fn embeddings(&mut self, model: &Model) -> Result<Vec<f32>, Failure> {
        let mut rows = Vec::new();
        for row in 0..self.len() {
            let side = self.side(model, [row])?;
            rows.extend(side.embeddings().map(altclip::Embeddings::as_slice).unwrap_or_default());
        }
        Ok(rows)
    }
}

/// A folder that is removed when nobody needs it any more.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Temporary files that cannot be removed are the system's to remove.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Embedder<'_> {
    /// Where items are kept: in the cache, or for this process alone.
    fn store(&self, is_text: bool) -> Result<(EmbeddingCache, Option<Scratch>), Failure> {
        let kind = if is_text { "text-side" } else { "image-side" };
        let (made_of, len) = (self.model.fingerprint()?, self.model.kept_len(is_text));
        if let Some(folder) = &self.folder
            && let Ok(cache) = EmbeddingCache::open(folder, kind, &made_of, len)
        {
            return Ok((cache, None));
        }
        let dir = std::env::temp_dir().join(format!("altclip-eval-{}-{kind}", std::process::id()));
        let scratch = Scratch(dir.clone());
        Ok((EmbeddingCache::open(&dir, kind, &made_of, len)?, Some(scratch)))
    }

    /// What the model knows of `len` pictures.
    pub(super) fn kept_pictures(&mut self, len: usize, source: &Source) -> Result<Kept, Failure> {
        let (store, _scratch) = self.store(false)?;
        let mut kept =
            Kept { is_text: false, store, keys: vec![], kept: vec![], bad: vec![], _scratch };
        let mut start = Instant::now();
        let bar = progress(len, self.reporter);
        let mut waiting: Vec<(u128, Rgb)> = Vec::new();
        for n in 0..len {
            bar.inc(1);
            let options = &self.model.options().decode;
            let picture = bytes(self.model, source, n).and_then(|bytes| {
                let key = EmbeddingCache::key(&bytes);
                match kept.store.get(key) {
                    Ok(Some(_)) => Ok((key, None)),
                    Ok(None) => match decode(&bytes, options) {
                        Ok(picture) => Ok((key, Some(picture))),
                        Err(error) => Err(error.report()),
                    },
                    Err(error) => Err(error.report()),
                }
            });
            match picture {
                Ok((key, picture)) => {
                    kept.keys.push(key);
                    kept.kept.push(n);
                    match picture {
                        Some(picture) => waiting.push((key, picture)),
                        None => self.work.from_cache += 1,
                    }
                }
                Err(report) => kept.bad.push(report),
            }
            if waiting.len() == BATCH || (n + 1 == len && !waiting.is_empty()) {
                // Weights are read where something is to be computed, and that is not part of the rate.
                let loading = Instant::now();
                self.model.image_encoder()?;
                start += loading.elapsed();
                self.compute(&mut kept, &mut waiting)?;
            }
        }
        bar.finish_and_clear();
        self.work.picture_seconds += start.elapsed();
        Ok(kept)
    }

    /// Computes and keeps pictures that wait. The encoder refuses none that was decoded.
    fn compute(&mut self, kept: &mut Kept, waiting: &mut Vec<(u128, Rgb)>) -> Result<(), Failure> {
        let (keys, pictures): (Vec<u128>, Vec<Rgb>) = waiting.drain(..).unzip();
        let side = self.model.image_side(&pictures)?;
        for (n, key) in keys.into_iter().enumerate() {
            kept.store.put(key, &self.model.kept(&side, n)?)?;
        }
        self.work.pictures_computed += pictures.len();
        Ok(())
    }

    /// What the model knows of texts.
    pub(super) fn kept_texts(&mut self, texts: &[&str]) -> Result<Kept, Failure> {
        let (mut store, _scratch) = self.store(true)?;
        let mut start = Instant::now();
        let bar = progress(texts.len(), self.reporter);
        let keys: Vec<u128> =
            texts.iter().map(|text| EmbeddingCache::key(text.as_bytes())).collect();
        let mut truncated = Vec::new();
        for (texts, keys) in texts.chunks(TEXTS).zip(keys.chunks(TEXTS)) {
            bar.inc(texts.len() as u64);
            let (mut missing, mut ids) = (Vec::new(), Vec::new());
            for (text, &key) in texts.iter().zip(keys) {
                if store.get(key)?.is_some() {
                    self.work.from_cache += 1;
                    continue;
                }
                let encoding = self.model.tokenize(text)?;
                truncated.extend(encoding.truncated.then_some(encoding.tokens_total));
                missing.push(key);
                ids.push(encoding.input_ids);
            }
            let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
            if ids.is_empty() {
                continue;
            }
            let loading = Instant::now();
            self.model.text_encoder()?;
            start += loading.elapsed();
            let side = self.model.id_side(&ids)?;
            for (n, key) in missing.into_iter().enumerate() {
                store.put(key, &self.model.kept(&side, n)?)?;
            }
            self.work.texts_computed += ids.len();
        }
        bar.finish_and_clear();
        self.say_truncated(&truncated);
        self.work.text_seconds += start.elapsed();
        let kept = (0..texts.len()).collect();
        Ok(Kept { is_text: true, store, keys, kept, bad: Vec::new(), _scratch })
    }
}
