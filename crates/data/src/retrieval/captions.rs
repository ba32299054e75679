//! Lists and shards of captioned pictures: the datasets of training, as sets. Lines that name one picture file are one
//! picture, in whatever languages.

use super::Layout;
use super::build::{Builder, Stored};
use crate::{CaptionedPictures, CaptionsOptions, Dataset as _, Error, Picture};

pub(super) fn read(builder: &mut Builder<'_>) -> Result<(), Error> {
    let mut path = builder.spec.path.clone();
    if !path.exists() && !path.to_string_lossy().contains('{') {
        return Err(Error::Absent {
            path,
            from: "it is your own, or written by CLIP_benchmark's webdataset builder",
        });
    }
    if builder.spec.layout == Layout::Webdataset {
        let split = path.join(&builder.options.split);
        if split.is_dir() {
            path = split;
        }
    }
    let options = CaptionsOptions::new(builder.images(), &builder.options.scratch);
    let samples = CaptionedPictures::open(&[path], &options)?;
    for number in 0..samples.len() {
        let sample = match samples.get(number) {
            Ok(sample) => sample,
            Err(fault) => {
                builder.push_fault(fault);
                continue;
            }
        };
        let place = samples.place(number);
        let picture = match sample.picture {
            Picture::File(path) => Some(builder.path(path)),
            Picture::Bytes(_) => {
                builder.stored(&place.to_string(), Stored::Sample(number), place.clone())
            }
        };
        let Some(picture) = picture else { continue };
        for caption in &sample.captions {
            builder.caption(caption, picture, Vec::new(), sample.language.as_deref(), &place);
        }
    }
    builder.notices.extend_from_slice(samples.notices());
    builder.samples = Some(samples);
    Ok(())
}
