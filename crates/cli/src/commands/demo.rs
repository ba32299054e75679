//! `altclip demo`: the miniature finds pictures by what is asked, in several languages; no network.

use crate::args::Demo;
use crate::failure::{Failure, Reporter, cannot_write};
use crate::output::{Out, pad};
use crate::{files, model};
use altclip::{LoadOptions, Model};
use altclip_page::{Mark, Page, Picture, Sheet, Tile};
use altclip_report::{Code, Report};
use serde_json::json;

/// What is asked, and the picture that answers it.
const QUERIES: [(&str, &str, &str); 8] = [
    ("en", "red apple", "red apple"),
    ("zh", "狗脸", "dog face"),
    ("es", "llave", "key"),
    ("fr", "arc-en-ciel", "rainbow"),
    ("ru", "ракета", "rocket"),
    ("ja", "タコ", "octopus"),
    ("ko", "바나나", "banana"),
    ("it", "albero sempreverde", "evergreen tree"),
];
/// Pictures shown for each query.
const SHOWN: usize = 4;

pub(crate) fn run(args: &Demo, reporter: Reporter) -> Result<(), Failure> {
    if !args.overwrite && args.out.symlink_metadata().is_ok() {
        return Err(files::exists_unless_overwritten(&args.out));
    }
    let mut options = LoadOptions::default();
    options.observer = model::observer(reporter);
    let nano = Model::load(&model::nano()?, &options)?;
    let decode = altclip::image::DecodeOptions::default();
    let images = altclip_nano::PICTURES
        .iter()
        .map(|(_, bytes)| altclip::image::decode(bytes, &decode).map_err(altclip::Error::from))
        .collect::<Result<Vec<_>, _>>()?;
    let images = nano.encode_image(&images)?;
    let texts = nano.encode_text(&QUERIES.map(|(_, text, _)| text))?;
    let mut out = Out::new();
    let mut page = Page::new("altclip demo");
    page.paragraph(
        "A miniature AltCLIP, trained on pictures and names of emoji, looks for pictures by sentences of eight \
         languages. It ran on this machine, from the program alone.",
    );
    let mut found = 0;
    for ((language, text, answer), query) in QUERIES.into_iter().zip(texts.rows()) {
        let cosine = |image: &[f32]| image.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
        let mut ranked: Vec<(f32, usize)> =
            images.rows().map(cosine).enumerate().map(|(n, score)| (score, n)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let name = |n: usize| {
            let name = altclip_nano::PICTURES.get(n).map_or("", |(name, _)| *name);
            name.strip_suffix(".png").unwrap_or(name)
        };
        let best: Vec<(&str, f32, usize)> =
            ranked.iter().take(SHOWN).map(|&(score, n)| (name(n), score, n)).collect();
        let is_right = best.first().is_some_and(|(name, ..)| *name == answer);
        found += usize::from(is_right);
        page.section(&format!("{text}  ({language})")).add(&sheet(&best, answer)?);
        if args.json {
            let matches: Vec<_> = best
                .iter()
                .map(|(name, score, _)| json!({ "picture": name, "score": score }))
                .collect();
            out.json(&json!({ "query": text, "language": language, "matches": matches }))?;
        } else {
            let (first, score, _) = best.first().copied().unwrap_or_default();
            out.line(format!("{language}  {}  {}  {score:.3}", pad(text, 20), pad(first, 18)))?;
        }
    }
    std::fs::write(&args.out, page.html()).map_err(|error| {
        let (code, help) = cannot_write(&error, "name another --out");
        Failure::one(
            Report::new(code, "output", format!("the page cannot be written: {error}"))
                .place(args.out.display().to_string())
                .help(help),
        )
    })?;
    let shown = args.out.display().to_string();
    if args.json {
        out.json(&json!({ "out": shown, "right": found, "queries": QUERIES.len() }))?;
    } else {
        let queries = QUERIES.len();
        out.line(format!("{found} of {queries} right. Look at {shown} with a browser."))?;
    }
    out.flush()
}

/// The best pictures of one query.
fn sheet(best: &[(&str, f32, usize)], answer: &str) -> Result<Sheet, Failure> {
    let mut sheet = Sheet::new();
    for (name, score, n) in best {
        let bytes = altclip_nano::PICTURES.get(*n).map_or(&[][..], |(_, bytes)| *bytes);
        let picture = Picture::new(bytes, name).map_err(|error| {
            Failure::one(
                Report::new(Code::E9001, "demo", error.to_string()).help("please report this line"),
            )
        })?;
        let tile = Tile::new(picture, *name).note(format!("{score:.3}"));
        sheet.tile(if *name == answer { tile.mark(Mark::Right) } else { tile });
    }
    Ok(sheet)
}
