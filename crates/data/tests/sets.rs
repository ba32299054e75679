//! Sets for retrieval in every layout: what comes of small files of each, and what is said of faults.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use altclip_data::retrieval::{Layout, RetrievalSet, SetOptions, SetSpec};
use altclip_data::{Dataset as _, Error, Labelled, LabelledPictures, LabelsOptions, Picture};
use altclip_report::{Code, Diagnose as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn pictures(&self, names: &[&str]) {
        for name in names {
            self.write(name, format!("picture {name}"));
        }
    }

    fn open(
        &self,
        spec: &str,
        change: impl FnOnce(&mut SetOptions),
    ) -> Result<RetrievalSet, Error> {
        let (kind, name) = spec.split_once(':').unwrap();
        let path = self.path(name);
        let spec: SetSpec = format!("{kind}:{}", path.display()).parse().unwrap();
        let mut options = SetOptions { images: Some(self.path("images")), ..SetOptions::default() };
        change(&mut options);
        RetrievalSet::open(&spec, &options)
    }

    fn set(&self, spec: &str) -> RetrievalSet {
        self.open(spec, |_| {}).unwrap()
    }
}

/// Each caption as picture, language and text.
fn captions(set: &RetrievalSet) -> Vec<(String, String, String)> {
    let shown = |caption: &altclip_data::retrieval::SetCaption| {
        let picture = set.picture_name(caption.picture).to_owned();
        (picture, caption.language.to_string(), caption.text.clone())
    };
    set.captions().iter().map(shown).collect()
}

fn row(picture: &str, language: &str, text: &str) -> (String, String, String) {
    (picture.to_owned(), language.to_owned(), text.to_owned())
}

fn codes(set: &RetrievalSet) -> Vec<Code> {
    set.faults().iter().map(|fault| fault.report().code).collect()
}

fn bytes(set: &RetrievalSet, picture: usize) -> Vec<u8> {
    match set.picture(picture).unwrap() {
        Picture::File(path) => std::fs::read(path).unwrap(),
        Picture::Bytes(bytes) => bytes,
    }
}

#[test]
fn karpathys_json() {
    let folder = Folder::new();
    folder.pictures(&["images/1.jpg", "images/val2014/2.jpg", "images/3.jpg"]);
    let json = r#"{"dataset":"x","images":[
        {"filename":"1.jpg","split":"test","sentences":[{"raw":"A cat.","tokens":["a"]},{"raw":" Two "}]},
        {"filename":"2.jpg","filepath":"val2014","split":"test","sentences":[{"raw":"A dog."}]},
        {"filename":"3.jpg","split":"restval","sentences":[{"raw":"A bird."}]},
        {"filename":"4.jpg","split":"test","sentences":[{"raw":"gone"}]},
        {"filename":"3.jpg","split":"val","sentences":[]}]}"#;
    folder.write("dataset_x.json", json);
    let set = folder.set("flickr30k:dataset_x.json");
    assert_eq!(set.name(), "flickr30k");
    let rows = [row("1.jpg", "", "A cat."), row("1.jpg", "", "Two"), row("2.jpg", "", "A dog.")];
    assert_eq!(captions(&set), rows);
    assert_eq!((set.len(), bytes(&set, 1)), (2, b"picture images/val2014/2.jpg".to_vec()));
    assert_eq!(codes(&set), [Code::E5003]);
    let train = folder.open("mscoco:dataset_x.json", |o| o.split = "train".into()).unwrap();
    assert_eq!(captions(&train), [row("3.jpg", "", "A bird.")]);
    // A set without any caption is an error, as is a file of another kind.
    let empty = folder.open("karpathy:dataset_x.json", |o| o.split = "val".into());
    assert_eq!(empty.err().unwrap().report().code, Code::E5003);
    folder.write("dataset_x.json", "{\"images\":3}");
    let wrong = folder.open("karpathy:dataset_x.json", |_| {});
    assert!(matches!(wrong, Err(Error::Table { line: Some(1), .. })));
}

#[test]
fn captions_behind_ids() {
    let folder = Folder::new();
    folder.pictures(&["images/1.jpg", "images/COCO_2.jpg"]);
    let text = "1.jpg#0\t一只猫\n1.jpg#1 第二句\r\nCOCO_2#zhm#0\ta dog\n1.jpg#0\tagain\n3#0 gone\nnothing here\n\n1.jpg#2\t \n";
    folder.write("zh.txt", text);
    let set = folder.open("flickr30k-cn:zh.txt", |o| o.language = Some("zh".into())).unwrap();
    let rows = [
        row("1.jpg", "zh", "一只猫"),
        row("1.jpg", "zh", "第二句"),
        row("COCO_2.jpg", "zh", "a dog"),
    ];
    assert_eq!(captions(&set), rows);
    // Twice the same id, a picture that is not there, a broken line, an empty caption.
    assert_eq!(codes(&set), [Code::E5003, Code::E5003, Code::E5004, Code::E5003]);
    assert_eq!(set.faults()[2].place.line, Some(6));
    // One split by a list of ids.
    let ids = folder.write("test.txt", "COCO_2\n").display().to_string();
    let split = folder.open("coco-cn:zh.txt", |o| o.split = ids).unwrap();
    assert_eq!(captions(&split), [row("COCO_2.jpg", "", "a dog")]);
    // As CLIP_benchmark lists them.
    folder.write("cb.txt", "image,caption\n1.jpg,\"A cat, asleep.\"\n1.jpg,A dog\n");
    let set = folder.set("clip-benchmark:cb.txt");
    assert_eq!(captions(&set), [row("1.jpg", "", "A cat, asleep."), row("1.jpg", "", "A dog")]);
    assert!(set.faults().is_empty());
}

#[test]
fn chinese_captions_that_were_cut_into_words_are_named() {
    let folder = Folder::new();
    folder.pictures(&["images/1.jpg"]);
    folder.write(
        "a.txt",
        "1#0\t一:m 个:q 男人:n 站:v 在:p\n1#1\t一个 戴 帽子 的 男人\n1#2\t一个男人\n",
    );
    let set = folder.set("coco-cn:a.txt");
    assert_eq!(set.notices().len(), 2);
    assert!(set.notices()[0].starts_with("1 of 3 Chinese captions are cut into words"));
    assert!(set.notices()[1].contains("part-of-speech") && set.notices()[1].contains("一:m"));
    let clean = folder.open("coco-cn:a.txt", |o| o.clean = true).unwrap();
    let texts: Vec<&str> = clean.captions().iter().map(|c| c.text.as_str()).collect();
    assert_eq!(texts, ["一个男人站在", "一个戴帽子的男人", "一个男人"]);
}

#[test]
fn muge_and_chinese_clip() {
    let folder = Folder::new();
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    let tsv = format!(
        "10\t{}\n11\t{}\n10\tAAAA\nbroken\n12\t%%%%",
        encode("ten"),
        encode("eleven, longer")
    );
    folder.write("set/valid_imgs.tsv", tsv);
    let jsonl = "{\"text_id\":1,\"text\":\"红裙子\",\"image_ids\":[10,11]}\n{\"text_id\":2,\"text\":\"鞋\",\"image_ids\":[\"11\"]}\n\
                 {\"text_id\":1,\"text\":\"again\",\"image_ids\":[10]}\n{\"text_id\":3,\"text\":\"x\",\"image_ids\":[99]}\nnot json\n";
    folder.write("set/valid_texts.jsonl", jsonl);
    let set = folder.open("muge:set", |o| o.split = "valid".into()).unwrap();
    assert_eq!((set.len(), set.captions().len()), (3, 2));
    assert_eq!((set.captions()[0].picture, set.captions()[0].also.as_slice()), (0, &[1][..]));
    assert_eq!((bytes(&set, 0), bytes(&set, 1)), (b"ten".to_vec(), b"eleven, longer".to_vec()));
    assert_eq!(set.picture(2).unwrap_err().report().code, Code::E5004);
    let expected = [Code::E5003, Code::E5004, Code::E5003, Code::E5003, Code::E5004];
    assert_eq!(codes(&set), expected);
    let named = folder.open("chinese-clip:set/valid_imgs.tsv", |_| {}).unwrap();
    assert_eq!(captions(&named).len(), 2);
}

#[test]
fn xtd_in_two_languages() {
    let folder = Folder::new();
    folder.pictures(&["images/COCO_val2014_1.jpg", "images/train2014/COCO_train2014_2.jpg"]);
    folder.write("xtd/test_image_names.txt", "COCO_val2014_1.jpg\nCOCO_train2014_2.jpg\n");
    folder.write("xtd/test_1kcaptions_jp.txt", "猫\n犬\n");
    folder.write("xtd/test_1kcaptions_en.txt", "a cat\na dog\n");
    let set = folder.set("xtd:xtd");
    assert_eq!(
        captions(&set),
        [
            row("COCO_val2014_1.jpg", "en", "a cat"),
            row("COCO_train2014_2.jpg", "en", "a dog"),
            row("COCO_val2014_1.jpg", "ja", "猫"),
            row("COCO_train2014_2.jpg", "ja", "犬"),
        ]
    );
    let one = folder.open("xtd:xtd/test_1kcaptions_jp.txt", |_| {}).unwrap();
    assert_eq!(one.captions().len(), 2);
    folder.write("xtd/test_1kcaptions_en.txt", "a cat\n");
    assert!(matches!(folder.open("xtd:xtd", |_| {}), Err(Error::Table { .. })));
}

#[test]
fn crossmodal_3600() {
    let folder = Folder::new();
    folder.pictures(&["images/a.jpg"]);
    let line = r#"{"image/key":"a","image/locale":"de","en":{"caption":["one","two"],"caption/tokenized":["x"]},"zh":{"caption":["一"]}}"#;
    folder.write("captions.jsonl", format!("{line}\n{line}\n{{}}\n"));
    let set = folder.set("crossmodal-3600:captions.jsonl");
    let rows = [row("a.jpg", "en", "one"), row("a.jpg", "en", "two"), row("a.jpg", "zh", "一")];
    assert_eq!(captions(&set), rows);
    assert_eq!(codes(&set), [Code::E5003, Code::E5004]);
    let zh = folder.open("crossmodal-3600:captions.jsonl", |o| o.language = Some("zh".into()));
    assert_eq!(captions(&zh.unwrap()), [row("a.jpg", "zh", "一")]);
}

#[test]
fn lists_of_several_languages_share_their_pictures() {
    let folder = Folder::new();
    folder.pictures(&["images/1.jpg", "images/2.jpg"]);
    let text = "{\"image\":\"1.jpg\",\"text\":[\"a cat\",\"the cat\"],\"language\":\"en\"}\n\
                {\"image\":\"2.jpg\",\"text\":\"a dog\",\"language\":\"en\"}\n\
                {\"image\":\"1.jpg\",\"text\":\"猫\",\"language\":\"zh\"}\n\
                {\"image\":\"2.jpg\",\"text\":\"…\"}\n\
                {\"image\":\"9.jpg\",\"text\":\"x\"}\n{\"image\":\"1.jpg\",\"text\":[]}\n{\"image\":\n";
    folder.write("c.jsonl", text);
    let set = folder.set("jsonl:c.jsonl");
    assert_eq!((set.len(), set.captions().len()), (2, 5));
    assert_eq!(captions(&set)[3], row("1.jpg", "zh", "猫"));
    assert_eq!(codes(&set), [Code::E5003, Code::E5003, Code::E5004]);
    assert!(set.notices().iter().any(|notice| notice.starts_with("1 of 5 captions do not say")));
    // One language was asked for: the others are faults, and what says none is of it.
    let zh = folder.open("jsonl:c.jsonl", |o| o.language = Some("zh".into())).unwrap();
    assert_eq!(captions(&zh), [row("1.jpg", "zh", "猫"), row("2.jpg", "zh", "…")]);
    assert_eq!(codes(&zh).iter().filter(|code| **code == Code::E5011).count(), 3);
}

#[test]
fn a_missing_file_says_where_it_comes_from() {
    let folder = Folder::new();
    for (spec, word) in [
        ("flickr30k:dataset_flickr30k.json", "Karpathy"),
        ("flickr30k-cn:a.txt", "cross-lingual-cap"),
        ("muge:set", "Chinese-CLIP"),
        ("xtd:x.txt", "XTD10"),
        ("crossmodal-3600:captions.jsonl", "Crossmodal-3600"),
        ("webdataset:wds", "webdataset builder"),
    ] {
        let report = folder.open(spec, |_| {}).err().unwrap().report();
        assert_eq!(report.code, Code::E5005, "{spec}");
        assert!(report.help.contains(word), "{spec}: {}", report.help);
    }
    let spec = |text: &str| text.parse::<SetSpec>();
    assert!(spec("nothing").is_err() && spec("muge:").is_err());
    assert_eq!(spec("x/dataset_coco.json").unwrap().layout, Layout::Karpathy);
    assert_eq!(spec("wds:x/cifar10/test").unwrap().name(), "cifar10");
    assert!(folder.open("cifar10:x", |_| {}).is_err());
}

/// A record of CIFAR-10: a plane of each colour.
fn planes(red: u8) -> Vec<u8> {
    [vec![red; 1024], vec![2; 1024], vec![3; 1024]].concat()
}

fn samples(path: &Path) -> Vec<Labelled> {
    let data = LabelledPictures::open(path, &LabelsOptions::default()).unwrap();
    (0..data.len()).map(|n| data.get(n).unwrap()).collect()
}

#[test]
fn cifar_10_binary_and_for_python() {
    let folder = Folder::new();
    let records = [[vec![9], planes(1)].concat(), [vec![3], planes(7)].concat()].concat();
    folder.write("bin/test_batch.bin", &records);
    let binary = samples(&folder.path("bin"));
    let names: Vec<&str> = binary.iter().map(|sample| &*sample.class_name).collect();
    assert_eq!(names, ["truck", "cat"]);
    let Picture::Bytes(png) = &binary[1].picture else { panic!() };
    // The decompressed rows: a filter byte, then pixels.
    let mut rows = Vec::new();
    let start = png.windows(4).position(|window| window == b"IDAT").unwrap() + 4;
    let mut decoder = flate2::write::ZlibDecoder::new(&mut rows);
    decoder.write_all(&png[start..png.len() - 16]).unwrap();
    decoder.finish().unwrap();
    assert_eq!((rows.len(), &rows[..7]), (32 * 97, &[0, 7, 2, 3, 7, 2, 3][..]));
    // What Python 2 pickled, as far as it matters: the array as BINSTRING, the labels as BININT1.
    let mut pickle = b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x09K\x03eU\x04dataq\x04T".to_vec();
    pickle.extend(6144u32.to_le_bytes());
    pickle.extend([planes(1), planes(7)].concat());
    pickle.extend(b"q\x05u.");
    folder.write("py/test_batch", &pickle);
    assert_eq!(samples(&folder.path("py")), binary);
    for (name, content) in [("cut/test_batch.bin", &records[..5000]), ("bad/test_batch", b"xyz")] {
        folder.write(name, content);
        let path = folder.path(name);
        let found = LabelledPictures::open(path.parent().unwrap(), &LabelsOptions::default());
        assert_eq!(found.err().unwrap().report().code, Code::E5004, "{name}");
    }
    // A label without a class is a fault of its sample.
    folder.write("out/test_batch.bin", [vec![10], planes(1)].concat());
    let data = LabelledPictures::open(&folder.path("out"), &LabelsOptions::default()).unwrap();
    assert_eq!(data.get(0).unwrap_err().report().code, Code::E5010);
}

#[test]
fn folders_of_classes_have_splits() {
    let folder = Folder::new();
    folder.pictures(&["in/val/n01/a.jpg", "in/val/n02/b.JPEG", "in/train/n01/c.jpg"]);
    let options = LabelsOptions { split: "val".into(), ..LabelsOptions::default() };
    let data = LabelledPictures::open(&folder.path("in"), &options).unwrap();
    assert_eq!((data.len(), data.class_names().len()), (2, 2));
}
