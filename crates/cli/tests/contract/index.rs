//! `altclip index` and `altclip search` from outside, with the miniature and its pictures.

use crate::support::child::{ALTCLIP, Outcome, Run, altclip};
use crate::support::folder::Folder;
use crate::support::picture::png;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with pictures, a place for indexes and a cache.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.path("pictures")).unwrap();
        place
    }

    /// With the pictures of the miniature.
    fn with_emoji() -> Self {
        let place = Self::new();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nano/pictures");
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), place.picture(entry.file_name().to_str().unwrap()))
                .unwrap();
        }
        place
    }

    /// With so many pictures of coloured fields, all different.
    fn paint(&self, count: u32) {
        for n in 0..count {
            std::fs::write(self.picture(&format!("fields/{n:04}.png")), fields(n)).unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn picture(&self, name: &str) -> PathBuf {
        let path = self.path("pictures").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// A command on the index of this place.
    fn run(&self, args: &[&str]) -> Run {
        let at = ["--index", &self.at("index"), "--json"].map(str::to_owned);
        let args = args.iter().map(|arg| (*arg).to_owned()).chain(at);
        altclip(args).env("ALTCLIP_CACHE", self.path("cache"))
    }

    fn add(&self) -> Outcome {
        self.run(&["index", "add", &self.at("pictures"), "--model", "nano"]).ok()
    }

    fn update(&self) -> Vec<Value> {
        self.run(&["index", "update"]).ok().rows()
    }

    fn search(&self, args: &[&str]) -> Value {
        let row = self.run(&[&["search"], args].concat()).ok().rows();
        assert_eq!(row.len(), 1);
        row[0].clone()
    }

    fn images(&self) -> u64 {
        self.run(&["index", "status"]).ok().rows()[0]["images"].as_u64().unwrap()
    }

    /// Every picture of the index with its score for one of them.
    fn all(&self, index: &str, like: &Path) -> BTreeMap<String, String> {
        let like = like.to_string_lossy();
        let args = ["search", "--image", &like, "--top-k", "10000", "--json", "--index"];
        let run = altclip(args.iter().map(|arg| (*arg).to_owned()).chain([self.at(index)]));
        let row = run.env("ALTCLIP_CACHE", self.path("cache")).ok().rows().remove(0);
        let matches = row["matches"].as_array().unwrap().iter();
        matches.map(|m| (m["path"].as_str().unwrap().to_owned(), m["score"].to_string())).collect()
    }
}

/// Four fields whose colours say the number.
fn fields(n: u32) -> Vec<u8> {
    let colour = |part: u32, channel: u32| {
        let number = 12 * u64::from(n) + u64::from(3 * part + channel);
        (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8
    };
    let place = |x: u32, y: u32| (x / 32) + 2 * (y / 32);
    let pixels = (0..64).flat_map(|y| (0..64).map(move |x| place(x, y)));
    let rgb: Vec<u8> = pixels.flat_map(|part| (0..3).map(move |c| colour(part, c))).collect();
    png(64, 64, &rgb)
}

/// Names of the files of an answer, without their endings.
fn names(answer: &Value) -> Vec<String> {
    let matches = answer["matches"].as_array().unwrap().iter();
    let stem = |path: &str| Path::new(path).file_stem().unwrap().to_string_lossy().into_owned();
    matches.map(|found| stem(found["path"].as_str().unwrap())).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_picture_is_acknowledged_once_and_an_index_says_what_it_holds() {
    let place = Place::with_emoji();
    let rows = place.add().rows();
    let acknowledged: BTreeSet<&str> =
        rows.iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!((rows.len(), acknowledged.len()), (24, 24));
    for row in &rows {
        assert_eq!(*row, json!({ "path": row["path"], "ack": true }));
        assert!(Path::new(row["path"].as_str().unwrap()).is_absolute());
    }
    let status = &place.run(&["index", "status"]).ok().rows()[0];
    assert_eq!((&status["images"], &status["model"]), (&24.into(), &"nano".into()));
    assert_eq!(status["fingerprint"].as_str().unwrap().len(), 32);
    let verified = place.run(&["index", "verify"]).ok().rows();
    assert_eq!(verified, [json!({ "ok": true, "images": 24 })]);
    let repaired = place.run(&["index", "repair"]).ok().rows();
    assert_eq!(repaired, [json!({ "kept": 24, "lost": 0, "commits_lost": 0, "repaired": false })]);
    // Nothing changed, so nothing is said.
    assert_eq!(place.add().rows(), Vec::<Value>::new());
}

#[test]
fn an_index_is_made_in_every_precision() {
    for precision in ["f32", "bf16", "int8"] {
        let place = Place::with_emoji();
        // The second time the weights come from the cache that the first made.
        for _ in 0..2 {
            place
                .run(&["index", "add", &place.at("pictures"), "--model", "nano"])
                .env("ALTCLIP_PRECISION", precision)
                .ok();
        }
        let status = place.run(&["index", "status"]).ok().rows();
        assert_eq!(status[0]["precision"], *precision, "{status:?}");
        // It is searched in the same one, unless another is asked for.
        let scores = |run: Run| run.ok().rows()[0]["matches"].to_string();
        let search = || place.run(&["search", "狗脸"]);
        let own = scores(search());
        assert_eq!(own, scores(search().env("ALTCLIP_PRECISION", precision)));
        let plain = scores(search().env("ALTCLIP_PRECISION", "f32"));
        assert_eq!(own == plain, precision == "f32");
    }
}

#[test]
fn a_rebuild_keeps_what_was_forgotten_and_wants_every_folder() {
    let place = Place::with_emoji();
    place.paint(3);
    place.run(&["index", "add", &place.at("pictures/fields"), "--model", "nano"]).ok();
    place.add();
    let all = place.images();
    place.run(&["index", "remove", &place.at("pictures/red apple.png")]).ok();
    let rebuild =
        || place.run(&["index", "add", "--rebuild", "--model", "nano", &place.at("pictures")]);
    rebuild().ok();
    assert_eq!(place.images(), all - 1);
    // The folder is there and empty, as a mount point is.
    let fields = place.path("pictures/fields");
    std::fs::rename(&fields, place.path("away")).unwrap();
    std::fs::create_dir(&fields).unwrap();
    let refused = rebuild().go();
    assert_eq!(refused.status, Some(7), "{}", refused.stderr);
    assert!(refused.stderr.contains("E4201"), "{}", refused.stderr);
    assert_eq!(place.images(), all - 1);
}

#[test]
fn tags_stay_with_their_pictures() {
    let place = Place::with_emoji();
    let tagged = |tag: &str| {
        let row = place.search(&["cat", "--tag", tag, "--top-k", "99"]);
        names(&row).into_iter().collect::<BTreeSet<_>>()
    };
    let add = |tag: &str| {
        place.run(&["index", "add", &place.at("pictures"), "--model", "nano", "--tag", tag]).ok()
    };
    add("a");
    let all = tagged("a").len();
    assert_eq!(all as u64, place.images());
    // Moved, changed, touched, and made anew.
    std::fs::rename(place.path("pictures/banana.png"), place.path("pictures/moved.png")).unwrap();
    std::fs::copy(place.path("pictures/key.png"), place.path("pictures/panda.png")).unwrap();
    place.update();
    assert_eq!(tagged("a").len(), all);
    assert!(tagged("a").contains("moved"));
    let mut rebuild = vec!["index", "add", "--rebuild", "--model", "nano"];
    place.run(&rebuild).ok();
    assert_eq!(tagged("a").len(), all);
    // A tag for pictures that are known already.
    assert_eq!(tagged("b").len(), 0);
    add("b");
    assert_eq!((tagged("a").len(), tagged("b").len()), (all, all));
    // A file that is none any more is no reason to lose what the index has of it.
    std::fs::write(place.path("pictures/key.png"), "no picture").unwrap();
    let refused = place.run(&rebuild).go();
    assert_eq!(refused.status, Some(7), "{}", refused.stderr);
    assert_eq!(tagged("b").len(), all);
    rebuild.extend(["--max-bad", "1"]);
    place.run(&rebuild).ok();
    assert_eq!(tagged("b").len(), all - 1);
}

#[test]
fn a_picture_that_was_named_alone_is_deleted_and_others_are_of_one_precision() {
    let place = Place::with_emoji();
    let alone = place.at("pictures/red apple.png");
    place.run(&["index", "add", &alone, "--model", "nano"]).ok();
    for task in [vec!["index", "add", &alone], vec!["index", "update"]] {
        let other = place.run(&task).env("ALTCLIP_PRECISION", "int8").go();
        assert!(other.stderr.contains("E7004"), "{}", other.stderr);
    }
    std::fs::remove_file(&alone).unwrap();
    place.update();
    assert_eq!(place.images(), 0);
}

#[test]
fn a_dump_of_another_model_is_refused_where_it_says_so() {
    let place = Place::with_emoji();
    place.add();
    let dump = place.at("dump");
    place.run(&["index", "export", "--out", &dump]).ok();
    let import = || place.run(&["index", "import", &dump]);
    import().ok();
    let path = place.path("dump/manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["fingerprint"] = json!("of another");
    std::fs::write(&path, manifest.to_string()).unwrap();
    let refused = import().go();
    assert!(refused.stderr.contains("E7004"), "{}", refused.stderr);
}

#[test]
fn an_index_follows_its_folder() {
    let place = Place::with_emoji();
    place.add();
    std::fs::rename(place.picture("key.png"), place.picture("moved/key.png")).unwrap();
    std::fs::copy(place.picture("rose.png"), place.picture("copy of rose.png")).unwrap();
    std::fs::remove_file(place.picture("sun.png")).unwrap();
    std::fs::write(place.picture("house.png"), fields(1)).unwrap();
    std::fs::write(place.picture("new.png"), fields(2)).unwrap();
    let told = |rows: &[Value]| -> Vec<(String, &'static str)> {
        let mut told: Vec<_> = rows
            .iter()
            .map(|row| {
                let path = row["path"].as_str().unwrap();
                let name = path.rsplit_once("pictures/").unwrap().1.to_owned();
                (name, if row["ack"] == true { "ack" } else { "removed" })
            })
            .collect();
        told.sort();
        told
    };
    let expected = [
        ("copy of rose.png", "ack"),
        ("house.png", "ack"),
        ("key.png", "removed"),
        ("moved/key.png", "ack"),
        ("new.png", "ack"),
        ("sun.png", "removed"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(path, what)| ((*path).to_owned(), *what)).collect();
    assert_eq!(told(&place.update()), expected);
    assert_eq!((place.images(), place.update().len()), (25, 0));
    assert_eq!(names(&place.search(&["key", "--top-k", "1"])), ["key"]);
    let groups = place.run(&["index", "duplicates"]).ok().rows();
    let group = groups.iter().find(|group| group["paths"][0].as_str().unwrap().contains("rose"));
    assert_eq!(group.unwrap()["paths"].as_array().unwrap().len(), 2);
    // A folder that is not there is no reason to forget its pictures.
    std::fs::rename(place.path("pictures"), place.path("elsewhere")).unwrap();
    let outcome = place.run(&["index", "update"]).ok();
    assert!(outcome.stderr.contains("W7013"), "{}", outcome.stderr);
    assert_eq!(place.images(), 25);
}

#[test]
fn what_is_forgotten_stays_so_until_it_is_added_again() {
    let place = Place::with_emoji();
    place.paint(5);
    place.add();
    let fields = place.at("pictures/fields");
    let rows = place.run(&["index", "remove", &fields]).ok().rows();
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row["removed"] == true && keys(row).len() == 2));
    assert_eq!((place.update().len(), place.add().rows().len(), place.images()), (0, 0, 24));
    let again = place.run(&["index", "add", &fields]).ok().rows();
    assert_eq!((again.len(), place.update().len(), place.images()), (5, 0, 29));
    let rose = place.at("pictures/rose.png");
    place.run(&["index", "remove", &rose]).ok();
    assert_eq!((place.update().len(), place.images()), (0, 28));
    place.run(&["index", "remove", &place.at("pictures")]).ok();
    assert_eq!((place.update().len(), place.images()), (0, 0));
    let unknown = place.run(&["index", "remove", &rose]).go();
    assert!(unknown.status == Some(3) && unknown.stderr.contains("E7005"), "{}", unknown.stderr);
    assert!(place.path("pictures/rose.png").exists(), "no file is touched");
}

#[test]
fn bad_pictures_are_named_and_the_others_go_on() {
    let place = Place::with_emoji();
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
    std::fs::write(place.picture("phone.HEIC"), heic).unwrap();
    std::fs::write(place.picture("words.jpg"), "not a picture").unwrap();
    std::fs::write(place.picture("notes.txt"), "not looked at").unwrap();
    let add = ["index", "add", &place.at("pictures"), "--model", "nano"].map(str::to_owned);
    let add: Vec<&str> = add.iter().map(String::as_str).collect();
    let outcome = place.run(&add).go();
    assert_eq!(outcome.status, Some(3), "{}", outcome.stderr);
    let rows = outcome.rows();
    let bad: Vec<&Value> = rows.iter().filter(|row| !row["error"].is_null()).collect();
    assert_eq!((rows.len(), bad.len(), place.images()), (26, 2, 24));
    for (row, name, code, words) in
        [(bad[0], "phone.HEIC", "E4002", "HEIC"), (bad[1], "words.jpg", "E4001", "")]
    {
        assert!(row["input"].as_str().unwrap().ends_with(name), "{row}");
        assert_eq!((&row["kind"], &row["error"]["code"]), (&"image".into(), &code.into()));
        assert!(row.to_string().contains(words), "{row}");
    }
    place.run(&[&add[..], &["--max-bad", "2"]].concat()).ok();
}

#[test]
fn paths_that_are_not_there_make_no_index_and_stop_no_other() {
    let place = Place::with_emoji();
    let (nowhere, nothing) = (place.at("nowhere"), place.at("nothing.png"));
    let refused = |args: &[&str]| {
        let outcome = place.run(&[&["index", "add"], args].concat()).go();
        assert_eq!(outcome.status, Some(7), "{args:?}: {}", outcome.stderr);
        assert!(outcome.rows().is_empty(), "{args:?}");
        outcome.stderr
    };
    let said = refused(&[&nowhere, &nothing, "--model", "nano"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains("[E4201]") && lines[0].contains("nowhere"), "{said}");
    assert!(lines[1].contains("[E4201]") && lines[1].contains("nothing.png"), "{said}");
    assert!(!place.path("index").exists());
    // The others go on; only they are followed.
    let pictures = place.at("pictures");
    let args = ["index", "add", &nowhere, &pictures, "--model", "nano"];
    let outcome = place.run(&args).go();
    assert_eq!(outcome.status, Some(7), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("1 of 25 inputs were refused"), "{}", outcome.stderr);
    let rows = outcome.rows();
    assert_eq!((rows.len(), &rows[0]["error"]["code"]), (25, &"E4201".into()));
    let status = place.run(&["index", "status"]).ok().rows().remove(0);
    assert_eq!((&status["images"], &status["folders"]), (&24.into(), &json!([pictures])));
    place.run(&[&args[..], &["--max-bad", "1"]].concat()).ok();
    // Nor is an index changed that is there already.
    refused(&[&nowhere]);
    refused(&[&nowhere, "--rebuild", "--model", "nano"]);
    assert_eq!(place.run(&["index", "status"]).ok().rows(), [status]);
}

#[test]
fn a_folder_that_is_empty_all_of_a_sudden_keeps_its_pictures_until_it_is_said() {
    let place = Place::with_emoji();
    place.paint(5);
    place.add();
    let fields = place.path("pictures/fields");
    std::fs::rename(&fields, place.path("elsewhere")).unwrap();
    std::fs::create_dir(&fields).unwrap();
    for _ in 0..2 {
        let outcome = place.run(&["index", "update"]).ok();
        assert!(outcome.rows().is_empty());
        let said = &outcome.stderr;
        assert!(said.contains("[W7013]") && said.contains("pictures/fields"), "{said}");
        assert!(said.contains("--forget-empty"), "{said}");
    }
    assert_eq!(place.images(), 29);
    // Mounted again, nothing is to be done.
    std::fs::remove_dir(&fields).unwrap();
    std::fs::rename(place.path("elsewhere"), &fields).unwrap();
    assert_eq!(place.update().len(), 0);
    // Deleted, and the folder left.
    std::fs::remove_dir_all(&fields).unwrap();
    std::fs::create_dir(&fields).unwrap();
    let rows = place.run(&["index", "update", "--forget-empty"]).ok().rows();
    assert!(rows.len() == 5 && rows.iter().all(|row| row["removed"] == true));
    assert_eq!((place.update().len(), place.images()), (0, 24));
    // What comes there later is found, other than with `index remove`.
    place.paint(2);
    assert_eq!((place.update().len(), place.images()), (2, 26));
    // A folder that is gone while its parent is there is a deletion.
    std::fs::remove_dir_all(&fields).unwrap();
    assert_eq!((place.update().len(), place.images()), (2, 24));
}

#[test]
fn a_path_has_one_form_however_it_is_written() {
    let place = Place::with_emoji();
    place.paint(3);
    let odd = place.at("pictures/fields/.././/../pictures//");
    place.run(&["index", "add", &odd, "--model", "nano"]).ok();
    let status = || place.run(&["index", "status"]).ok().rows().remove(0);
    let pictures = json!([place.at("pictures")]);
    assert_eq!((&status()["images"], &status()["folders"]), (&27.into(), &pictures));
    assert_eq!(place.add().rows(), Vec::<Value>::new());
    for (pattern, count) in [
        (place.at("pictures//fields/./*.png"), 3),
        (place.at("pictures/none/../fields/*"), 3),
        (place.at("pictures/fields/../*"), 24),
        ("**//fields/./*".to_owned(), 3),
    ] {
        let answer = place.search(&["dog face", "--top-k", "100", "--path", &pattern]);
        assert_eq!(names(&answer).len(), count, "{pattern}");
    }
    let rows = place.run(&["index", "remove", &place.at("pictures/./x/../fields/")]).ok().rows();
    assert_eq!((rows.len(), place.update().len(), place.images()), (3, 0, 24));
    assert_eq!(status()["forgotten"], json!([place.at("pictures/fields")]));
}

/// `..` behind a link leads to the parent of where the link leads.
#[cfg(unix)]
#[test]
fn behind_a_link_a_path_is_what_the_system_makes_of_it() {
    let place = Place::new();
    place.paint(2);
    std::fs::create_dir_all(place.path("other/inner")).unwrap();
    std::fs::copy(place.picture("fields/0001.png"), place.path("other/1.png")).unwrap();
    std::os::unix::fs::symlink(place.path("other/inner"), place.path("pictures/link")).unwrap();
    place.run(&["index", "add", &place.at("pictures/link/.."), "--model", "nano"]).ok();
    let other = place.path("other").canonicalize().unwrap();
    let status = place.run(&["index", "status"]).ok().rows().remove(0);
    assert_eq!((&status["images"], &status["folders"]), (&1.into(), &json!([other])));
}

#[test]
fn queries_are_texts_of_any_language_sums_conditions_and_pictures() {
    let place = Place::with_emoji();
    place.add();
    let found = |args: &[&str]| names(&place.search(args));
    for (query, name) in [
        ("dog face", "dog face"),
        ("狗脸", "dog face"),
        ("llave", "key"),
        ("ракета", "rocket"),
        ("바나나", "banana"),
    ] {
        assert_eq!(found(&[query, "--top-k", "1"]), [name], "{query}");
    }
    // What is between a cat and a dog may be there too.
    let both = |args: &[&str]| {
        let first: Vec<String> = found(args).into_iter().take(3).collect();
        ["cat face", "dog face"].iter().all(|name| first.iter().any(|found| found == name))
    };
    assert!(both(&["狗脸 + \"cat face\""]));
    assert!(both(&["\"cat face\" OR 狗脸"]));
    assert_eq!(found(&["3*banana + 0.2*\"red apple\"", "--top-k", "1"]), ["banana"]);
    assert_eq!(found(&["0.2*banana + 3*\"red apple\"", "--top-k", "1"]), ["red apple"]);
    let rank = |query: &str| {
        found(&[query, "--top-k", "24"]).iter().position(|name| name == "cat face").unwrap()
    };
    assert!(rank("\"dog face\" - \"cat face\"") > rank("dog face"));
    assert!(rank("\"dog face\" AND NOT \"cat face\"") > rank("dog face"));
    let dog = place.at("pictures/dog face.png");
    let answer = place.search(&["--image", &dog, "--top-k", "2"]);
    assert_eq!((&answer["query"], names(&answer)[0].as_str()), (&"".into(), "dog face"));
    assert!(answer["matches"][0]["score"].as_f64().unwrap() > 0.99);
    assert!(both(&["cat face", "--image", &dog]));
    for text in ["smile :)", "rock 'n' roll", "a dog (or a cat)", "12\" vinyl", "car:abc"] {
        place.search(&[text]);
    }
    let faults = [
        ("cat +", "byte 5"),
        ("(cat AND dog", "byte 0"),
        ("smile :) + cat", "byte 7"),
        ("a \"cat", "byte 2"),
        ("a (cat", "byte 2"),
        ("1,5*red", "byte 0"),
        (" ", "empty"),
    ];
    for (query, place_of_it) in faults {
        let outcome = place.run(&["search", query]).go();
        assert_eq!(outcome.status, Some(2), "{query}");
        let said = outcome.stderr;
        assert!(said.contains("[E7006]") && said.contains(place_of_it), "{said}");
    }
}

#[test]
fn an_answer_has_the_agreed_form() {
    let place = Place::with_emoji();
    place.add();
    let answer = place.search(&["dog face", "--top-k", "3"]);
    assert_eq!((&answer["query"], &answer["no_match"]), (&"dog face".into(), &false.into()));
    assert_eq!(answer["matches"].as_array().unwrap().len(), 3);
    for found in answer["matches"].as_array().unwrap() {
        assert_eq!(keys(found), ["id", "p_match", "path", "score"]);
        assert!(found["score"].is_f64() && found["p_match"].is_null());
    }
    assert_eq!(answer["uncalibrated"], "fewer than 50 pictures");
    // With enough pictures there are probabilities, the highest first.
    place.paint(60);
    place.update();
    let answer = place.search(&["dog face", "--top-k", "5"]);
    assert_eq!(keys(&answer), ["matches", "no_match", "query"]);
    let judged: Vec<f64> = answer["matches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["p_match"].as_f64().unwrap())
        .collect();
    assert!(judged.is_sorted_by(|a, b| a >= b) && judged.iter().all(|p| (0.0..=1.0).contains(p)));
    assert_eq!(names(&answer)[0], "dog face");
    let sure = place.search(&["dog face", "--min-p", "0.999", "--top-k", "100"]);
    let sure = sure["matches"].as_array().unwrap().clone();
    assert!(sure.len() < 84 && sure.iter().all(|m| m["p_match"].as_f64().unwrap() >= 0.999));
}

#[test]
fn pictures_all_of_one_kind_give_no_probability() {
    let place = Place::new();
    for n in 0..60u8 {
        let rgb: Vec<u8> = (0..64 * 64).flat_map(|_| [200, 30, n / 8]).collect();
        std::fs::write(place.picture(&format!("{n}.png")), png(64, 64, &rgb)).unwrap();
    }
    place.add();
    let answer = place.search(&["dog face"]);
    assert_eq!(answer["uncalibrated"], "the pictures all show nearly the same");
    assert!(answer["matches"][0]["p_match"].is_null());
}

#[test]
fn filters_come_before_the_scores() {
    let place = Place::with_emoji();
    place.add();
    let picture = place.picture("extra/rose.png");
    std::fs::write(&picture, fields(3)).unwrap();
    let extra = place.at("pictures/extra");
    place.run(&["index", "add", &extra, "--tag", "garden", "--tag", "2024 Rome"]).ok();
    let found = |args: &[&str]| names(&place.search(&[&["dog face"], args].concat()));
    assert_eq!(found(&["--path", "red*.png"]), ["red apple"]);
    assert_eq!(found(&["--path", "**/extra/**"]), ["rose"]);
    assert_eq!(found(&["--tag", "garden", "--tag", "2024 Rome"]), ["rose"]);
    assert_eq!(found(&["--tag", "garden", "--tag", "kitchen"]), Vec::<String>::new());
    assert_eq!(found(&["--min-side", "100000"]), Vec::<String>::new());
    assert_eq!(found(&["--since", "2099"]), Vec::<String>::new());
    assert_eq!(found(&["--until", "1999-12"]), Vec::<String>::new());
    assert_eq!(found(&["--since", "1999-12-31", "--top-k", "100"]).len(), 25);
    let small = std::fs::metadata(&picture).unwrap().len();
    assert!(found(&["--max-bytes", &small.to_string(), "--top-k", "100"]).contains(&"rose".into()));
    let none = place.search(&["dog face", "--since", "2099"]);
    assert_eq!((&none["no_match"], &none["matches"]), (&true.into(), &json!([])));
}

#[test]
fn a_contact_sheet_is_one_file_that_needs_no_network() {
    let place = Place::with_emoji();
    place.add();
    std::fs::remove_file(place.picture("cat face.png")).unwrap();
    let page = place.at("found.html");
    place.search(&["<b>", "--html", &page]);
    assert!(std::fs::read_to_string(&page).unwrap().contains("&lt;b&gt;"));
    place.search(&["cat face", "--top-k", "3", "--html", &page]);
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("panda.png") && html.contains("cat face.png cannot be shown"));
    assert!(html.contains("data:image/png;base64,"));
    assert!(
        !html.contains("http://") && !html.contains("https://") && !html.contains("<script src")
    );
    // Nothing else is written over: a picture, or a page of another program.
    let panda = place.picture("panda.png").to_string_lossy().into_owned();
    let other = place.at("other.html");
    std::fs::write(&other, "<!doctype html>\n<meta name=\"generator\" content=\"another\">")
        .unwrap();
    for kept in [panda, other] {
        let before = std::fs::read(&kept).unwrap();
        let outcome = place.run(&["search", "panda", "--html", &kept]).go();
        let said = &outcome.stderr;
        assert!(outcome.status == Some(2) && said.contains("[E1003]"), "{said}");
        assert!(said.contains("name another file") && !said.contains("--overwrite"), "{said}");
        assert!(std::fs::read(&kept).unwrap() == before);
    }
}

#[test]
fn a_dump_goes_out_and_comes_back() {
    let place = Place::with_emoji();
    place.add();
    let dump = place.at("dump");
    let row = &place.run(&["index", "export", "--out", &dump]).ok().rows()[0];
    assert_eq!((&row["rows"], &row["out"]), (&24.into(), &dump.as_str().into()));
    assert_eq!(place.run(&["index", "export", "--out", &dump]).go().status, Some(2));
    let import = |to: &str, dump: &str| {
        let args = ["index", "import", dump, "--model", "nano", "--json", "--index"];
        altclip(args.iter().map(|arg| (*arg).to_owned()).chain([place.at(to)]))
            .env("ALTCLIP_CACHE", place.path("cache"))
    };
    let rows = import("second", &dump).ok().rows();
    assert!(rows.len() == 24 && rows.iter().all(|row| row["ack"] == true));
    let dog = place.path("pictures/dog face.png");
    assert_eq!(place.all("second", &dog), place.all("index", &dog));
    // As clip-retrieval writes it: f16, numbers with zeros before them.
    let array = std::fs::read(place.path("dump/img_emb/img_emb_0.npy")).unwrap();
    let (header, numbers) = array.split_at(128);
    let header = String::from_utf8(header.to_vec().split_off(10)).unwrap().replace("<f4", "<f2");
    let mut half = array[..10].to_vec();
    half.extend(header.bytes());
    let number = |four: &[u8]| f32::from_le_bytes(four.try_into().unwrap());
    half.extend(numbers.chunks(4).flat_map(|four| half_bits(number(four)).to_le_bytes()));
    std::fs::create_dir_all(place.path("f16/img_emb")).unwrap();
    std::fs::create_dir_all(place.path("f16/metadata")).unwrap();
    std::fs::write(place.path("f16/img_emb/img_emb_000.npy"), half).unwrap();
    let table = place.path("dump/metadata/metadata_0.parquet");
    std::fs::copy(table, place.path("f16/metadata/metadata_000.parquet")).unwrap();
    import("third", &place.at("f16")).ok();
    assert_eq!(place.all("third", &dog), place.all("index", &dog));
    // What does not fit together is refused before anything is made of it.
    std::fs::remove_file(place.path("f16/metadata/metadata_000.parquet")).unwrap();
    std::fs::write(place.path("f16/metadata/metadata_000.parquet"), "not a table").unwrap();
    let outcome = import("third", &place.at("f16")).go();
    assert!(outcome.status == Some(3) && outcome.stderr.contains("E7014"), "{}", outcome.stderr);
}

/// The `f16` bits of a number that is one already.
fn half_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let (sign, exponent) = ((bits >> 16 & 0x8000) as u16, (bits >> 23 & 0xff) as i32 - 112);
    let mantissa = bits & 0x7f_ffff;
    match exponent {
        1.. => sign | (exponent as u16) << 10 | (mantissa >> 13) as u16,
        -10..=0 => sign | ((mantissa | 0x80_0000) >> (14 - exponent)) as u16,
        _ => sign,
    }
}

#[test]
fn another_model_is_refused_and_a_rebuild_goes_over_to_it() {
    let place = Place::with_emoji();
    place.add();
    let other = Folder::new("alt_l");
    let other = other.dir().to_string_lossy().into_owned();
    let before = place.run(&["index", "status"]).ok().rows().remove(0);
    for args in [
        &["index", "add", &place.at("pictures"), "--model", &other][..],
        &["index", "update", "--model", &other],
        &["search", "dog face", "--model", &other],
    ] {
        let outcome = place.run(args).go();
        assert_eq!(outcome.status, Some(5), "{args:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("E7004") && outcome.stderr.contains("nano"));
    }
    let rows = place.run(&["index", "add", "--rebuild", "--model", &other]).ok().rows();
    assert!(rows.len() == 24 && rows.iter().all(|row| row["ack"] == true));
    let after = place.run(&["index", "status"]).ok().rows().remove(0);
    assert_eq!((&after["images"], &after["folders"]), (&before["images"], &before["folders"]));
    assert_ne!(after["fingerprint"], before["fingerprint"]);
    place.search(&["dog face"]);
}

#[test]
fn a_damaged_index_is_told_by_verify_and_made_good_by_repair() {
    let place = Place::with_emoji();
    place.add();
    let dog = place.path("pictures/dog face.png");
    let clean = place.all("index", &dog);
    // A derived file: searching goes on with a word, and the next search finds it whole.
    let flat = place.path("index/g1/flat");
    let mut bytes = std::fs::read(&flat).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&flat, bytes).unwrap();
    let found = place.run(&["index", "verify"]).go();
    assert_eq!((found.status, &found.rows()[0]["ok"]), (Some(5), &false.into()));
    assert_eq!(found.rows()[0]["problems"][0]["code"], "E7003");
    let outcome = place.run(&["search", "dog face"]).ok();
    assert!(outcome.stderr.contains("W7012"), "{}", outcome.stderr);
    assert_eq!(place.all("index", &dog), clean);
    place.run(&["index", "verify"]).ok();
    // A row: it is named, and given up if that is accepted; its file brings it back.
    let store = place.path("index/g1/store.db");
    let mut bytes = std::fs::read(&store).unwrap();
    let name = place.at("pictures/dog face.png").into_bytes();
    let is_name = |at: &usize| bytes[*at..].starts_with(&name);
    let places: Vec<usize> = (0..bytes.len()).filter(is_name).collect();
    places.iter().for_each(|at| bytes[at + name.len() - 5] ^= 1);
    std::fs::write(&store, bytes).unwrap();
    assert_eq!(place.run(&["index", "verify"]).go().status, Some(5));
    let refused = place.run(&["index", "repair"]).go();
    assert_eq!(refused.status, Some(5), "{}", refused.stderr);
    assert!(refused.stderr.contains("--accept-loss"), "{}", refused.stderr);
    let rows = refused.rows();
    assert_eq!((&rows[0]["lost"], rows[0]["id"].is_i64()), (&true.into(), true));
    assert_eq!(rows[1], json!({ "kept": 23, "lost": 1, "commits_lost": 0, "repaired": false }));
    let rows = place.run(&["index", "repair", "--accept-loss"]).ok().rows();
    assert_eq!(rows[1], json!({ "kept": 23, "lost": 1, "commits_lost": 0, "repaired": true }));
    place.run(&["index", "verify"]).ok();
    assert_eq!((place.images(), place.update().len(), place.images()), (23, 1, 24));
    assert_eq!(place.all("index", &dog), clean);
}

#[test]
fn a_repair_names_the_picture_that_is_lost() {
    use altclip_search::{SqliteStore, Store as _};
    let place = Place::with_emoji();
    place.add();
    let store = place.path("index/g1/store.db");
    let (dog, dump) = (place.at("pictures/dog face.png"), place.at("dump"));
    let (id, vector) = SqliteStore::open(&store, false).unwrap().at(&dog).unwrap().unwrap();
    let mut bytes = std::fs::read(&store).unwrap();
    // Pages that were split leave what they held behind.
    let is_vector = |at: &usize| bytes[*at..].starts_with(&vector[..64]);
    let places: Vec<usize> = (0..bytes.len()).filter(is_vector).collect();
    places.iter().for_each(|at| bytes[at + 9] ^= 0x20);
    std::fs::write(&store, bytes).unwrap();
    std::fs::remove_file(place.path("index/g1/flat")).unwrap();
    let reading =
        [&["search", "dog face"][..], &["index", "verify"], &["index", "export", "--out", &dump]];
    for args in reading {
        let outcome = place.run(args).go();
        let said = &outcome.stderr;
        assert_eq!(outcome.status, Some(5), "{args:?}: {said}");
        assert!(said.contains("[E7003]") && said.contains("dog face.png"), "{args:?}: {said}");
    }
    let refused = place.run(&["index", "repair"]).go();
    assert_eq!(refused.status, Some(5), "{}", refused.stderr);
    assert!(refused.stderr.contains("--accept-loss"), "{}", refused.stderr);
    let lost = json!({ "id": id, "path": dog, "lost": true });
    let counts =
        |repaired: bool| json!({ "kept": 23, "lost": 1, "commits_lost": 0, "repaired": repaired });
    assert_eq!(refused.rows(), [lost.clone(), counts(false)]);
    let repaired = place.run(&["index", "repair", "--accept-loss"]).ok().rows();
    assert_eq!(repaired, [lost, counts(true)]);
    place.run(&["index", "verify"]).ok();
    assert_eq!((place.update().len(), place.images()), (1, 24));
}

#[test]
fn what_was_acknowledged_survives_any_kill_of_the_command() {
    let place = Place::with_emoji();
    place.paint(1300);
    let expected = {
        let args = ["index", "add", &place.at("pictures"), "--model", "nano", "--index"];
        let args = args.iter().map(|arg| (*arg).to_owned()).chain([place.at("whole")]);
        altclip(args).env("ALTCLIP_CACHE", place.path("cache")).ok();
        place.all("whole", &place.path("pictures/key.png"))
    };
    assert_eq!(expected.len(), 1324);
    let kept = place.path("index");
    let mut kills_with_words = 0;
    for round in 0..4u64 {
        let _ = std::fs::remove_dir_all(&kept);
        let mut acknowledged = BTreeSet::new();
        // At some moment; behind the first words; at some later moment.
        for (lines, millis) in [(0, 60 + 70 * round), (1, round), (0, 250 + 90 * round)] {
            let new = killed(&place, lines, millis);
            kills_with_words += u32::from(!new.is_empty());
            acknowledged.extend(new);
            if !kept.join("CURRENT").exists() {
                assert!(acknowledged.is_empty());
                continue;
            }
            place.run(&["index", "verify"]).ok();
            let there = place.all("index", &place.path("pictures/key.png"));
            assert!(acknowledged.iter().all(|path| there.contains_key(path)), "round {round}");
            assert!(there.iter().all(|(path, score)| expected[path] == *score), "round {round}");
        }
    }
    println!("{kills_with_words} of 12 kills behind words");
    assert!(kills_with_words >= 4, "{kills_with_words}");
    place.add();
    assert_eq!(place.all("index", &place.path("pictures/key.png")), expected);
}

/// Kills `index add` so long after so many lines; gives the pictures that it acknowledged.
fn killed(place: &Place, lines: usize, millis: u64) -> Vec<String> {
    let mut child = std::process::Command::new(ALTCLIP)
        .args(["index", "add", &place.at("pictures"), "--model", "nano", "--json", "--index"])
        .arg(place.path("index"))
        .args(["--threads", "1"])
        .env("ALTCLIP_CACHE", place.path("cache"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    for _ in 0..lines {
        reader.read_line(&mut text).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(millis));
    child.kill().unwrap();
    reader.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    // A line without its end was not said.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let path = |line| {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["ack"], true);
        row["path"].as_str().unwrap().to_owned()
    };
    whole.map(path).collect()
}

/// A command on the index of a place, for people.
fn for_people(place: &Place, args: &[&str]) -> Run {
    let at = ["--index".to_owned(), place.at("index")];
    altclip(args.iter().map(|arg| (*arg).to_owned()).chain(at))
        .env("ALTCLIP_CACHE", place.path("cache"))
}

#[test]
fn pictures_are_decoded_as_the_index_says_or_not_at_all() {
    let place = Place::with_emoji();
    place.add();
    let dog = place.at("pictures/dog face.png");
    let pictures = place.at("pictures");
    for other in [&["--alpha", "composite"][..], &["--exif-orient"]] {
        for command in [
            &["search", "--image", &dog][..],
            &["search", "dog face"],
            &["index", "add", &pictures],
            &["index", "update"],
        ] {
            let outcome = place.run(&[command, other].concat()).go();
            let said = &outcome.stderr;
            assert_eq!(outcome.status, Some(5), "{command:?} {other:?}: {said}");
            assert!(said.contains("[E7004]"), "{command:?} {other:?}: {said}");
        }
    }
    // Where it says so, it need not be said again, and may be.
    let args = ["index", "add", "--rebuild", "--model", "nano", "--alpha", "composite", &pictures];
    place.run(&args).ok();
    let bare = place.search(&["--image", &dog]);
    assert!(bare["matches"][0]["score"].as_f64().unwrap() > 0.999, "{bare}");
    assert_eq!(place.search(&["--image", &dog, "--alpha", "composite"]), bare);
    let both = place.run(&["search", "dog face", "--alpha", "composite", "--exif-orient"]).go();
    assert_eq!(both.status, Some(5), "{}", both.stderr);
}

#[test]
fn a_terminal_gets_no_control_characters_of_a_name() {
    let place = Place::with_emoji();
    let name = "a\u{1b}[31m\n\u{202e}b.png";
    std::fs::rename(place.picture("dog face.png"), place.picture(name)).unwrap();
    let twin = place.picture(&format!("c\u{1b}]0;x\u{7}d/{name}"));
    std::fs::copy(place.picture(name), twin).unwrap();
    place.add();
    let forgotten = place.picture("e\u{1b}[2J.png");
    std::fs::copy(place.picture("rose.png"), &forgotten).unwrap();
    place.update();
    place.run(&["index", "remove", &forgotten.to_string_lossy()]).ok();
    for args in [
        &["search", "dog face", "--top-k", "30"][..],
        &["index", "duplicates"],
        &["index", "hubs", "--threshold", "-100"],
        &["index", "status"],
    ] {
        let outcome = for_people(&place, args).ok();
        let text = String::from_utf8(outcome.stdout).unwrap();
        assert!(text.contains("\\u{1b}"), "{args:?}: {text:?}");
        let is_bad = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(is_bad), "{args:?}: {text:?}");
        assert!(text.lines().all(|line| !line.starts_with("\u{202e}")), "{args:?}: {text:?}");
    }
    // Programs get the name as it is.
    let answer = place.search(&["dog face", "--path", "a*"]);
    assert!(answer["matches"][0]["path"].as_str().unwrap().ends_with(name), "{answer}");
}

#[test]
fn a_query_may_begin_with_a_hyphen_and_flags_stay_flags() {
    let place = Place::with_emoji();
    place.add();
    let refused = |args: &[&str]| {
        let outcome = for_people(&place, &[&["search"], args].concat()).go();
        assert_eq!(outcome.status, Some(2), "{args:?}: {}", outcome.stderr);
        outcome.stderr
    };
    for (query, words) in
        [("-2*car", "byte 0"), ("- dog", "only taken away"), ("-(a + b", "byte 1")]
    {
        for args in [&[query][..], &["--top-k", "3", query], &[query, "--top-k", "3"]] {
            let said = refused(args);
            assert!(said.contains("[E7006]") && said.contains(words), "{args:?}: {said}");
        }
    }
    assert_eq!(names(&place.search(&["- cat face + 3*banana", "--top-k", "1"])), ["banana"]);
    assert_eq!(names(&place.search(&["--top-k", "3", "cat"])).len(), 3);
    assert_eq!(names(&place.search(&["cat", "--top-k", "3"])).len(), 3);
    let escaped = ["search", "--index", &place.at("index"), "--top-k", "3", "--", "-cat"];
    let outcome = altclip(escaped).env("ALTCLIP_CACHE", place.path("cache")).ok();
    assert!(String::from_utf8(outcome.stdout).unwrap().lines().count() >= 3);
    // What looks like a flag is no text.
    for args in [&["--jsno"][..], &["--jsno", "-2*car"], &["-2*car", "--jsno"], &["-dog"]] {
        let said = refused(args);
        assert!(said.contains("[E1001]"), "{args:?}: {said}");
    }
}

#[test]
fn faults_of_a_search_say_what_to_do() {
    let place = Place::with_emoji();
    place.add();
    let search = |args: &[&str]| for_people(&place, &[&["search", "dog face"], args].concat());
    for day in ["2024-02-30", "yesterday"] {
        let said = search(&["--since", day]).go().stderr;
        assert!(said.contains("[E7006]") && said.contains("2024-05-31"), "{said}");
        assert!(!said.contains("traffic light"), "{said}");
    }
    for none in [&["--tag", "none"][..], &["--since", "2099"], &["--path", "none*"]] {
        let text = String::from_utf8(search(none).ok().stdout).unwrap();
        assert!(text.starts_with("no picture passes the filters\n"), "{text}");
    }
    let some = String::from_utf8(search(&["--path", "red*"]).ok().stdout).unwrap();
    assert!(!some.contains("filters"), "{some}");
    let json = place.search(&["dog face", "--tag", "none"]);
    assert!(!json.to_string().contains("filters"), "{json}");
    // A file is no index, whatever is done with it.
    let file = place.at("file");
    std::fs::write(&file, "text").unwrap();
    let pictures = place.at("pictures");
    for args in [
        &["search", "cat"][..],
        &["index", "status"],
        &["index", "add", &pictures, "--model", "nano"],
        &["index", "add", &pictures, "--rebuild", "--model", "nano"],
        &["index", "repair"],
    ] {
        let outcome = altclip([args, &["--index", &file]].concat())
            .env("ALTCLIP_CACHE", place.path("cache"))
            .go();
        let said = &outcome.stderr;
        assert_eq!(outcome.status, Some(5), "{args:?}: {said}");
        assert!(said.contains("[E7011]") && said.contains("got a file"), "{args:?}: {said}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
}

#[test]
fn where_no_store_is_left_the_help_names_what_works() {
    let anew = "altclip index add DIR --rebuild --model M";
    for is_empty in [false, true] {
        let place = Place::with_emoji();
        place.add();
        let store = place.path("index/g1/store.db");
        match is_empty {
            true => std::fs::write(&store, "").unwrap(),
            false => std::fs::remove_file(&store).unwrap(),
        }
        for args in [
            &["search", "dog face"][..],
            &["index", "update"],
            &["index", "repair"],
            &["index", "repair", "--accept-loss"],
        ] {
            let outcome = place.run(args).go();
            let said = &outcome.stderr;
            assert_eq!(outcome.status, Some(5), "{args:?}: {said}");
            assert!(said.contains(anew), "{args:?}: {said}");
        }
        let pictures = place.at("pictures");
        place.run(&["index", "add", &pictures, "--rebuild", "--model", "nano"]).ok();
        assert_eq!(place.images(), 24);
    }
}
