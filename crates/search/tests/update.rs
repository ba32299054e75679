//! What an index makes of folders that changed: what is a deletion, and what is no reason to forget anything.
#![allow(clippy::unwrap_used)]

mod support;

use altclip_durable::RealFs;
use altclip_report::Code;
use altclip_search::{Change, Emptied, Index, Picture, Plan, to_bytes};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{settings, vector};
use tempfile::TempDir;

const NAMES: [&str; 7] = [
    "top.jpg",
    "disk/1.jpg",
    "disk/2024/2.jpg",
    "disk/2024/3.jpg",
    "disk two/4.jpg",
    "deep/er/5.jpg",
    "deep/er/6.jpg",
];

struct Place {
    dir: TempDir,
    index: Index,
}

impl Place {
    /// Folders with pictures that the index knows.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut index =
            Index::create(Arc::new(RealFs), &dir.path().join("index"), settings("f")).unwrap();
        let mut changes = Vec::new();
        for (n, name) in NAMES.iter().enumerate() {
            let path = dir.path().join("p").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "a picture").unwrap();
            let path = path.to_str().unwrap().to_owned();
            let picture = Picture { path, hash: n as u128, ..Picture::default() };
            changes.push(Change::Put(picture, to_bytes(&vector(n))));
        }
        index.commit(&changes).unwrap();
        Self { dir, index }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("p").join(name)
    }

    /// As a disk is that is not mounted any more.
    fn empty(&self, name: &str) {
        std::fs::remove_dir_all(self.path(name)).unwrap();
        std::fs::create_dir(self.path(name)).unwrap();
    }

    fn names(&self, paths: impl Iterator<Item = String>) -> Vec<String> {
        let root = self.dir.path().join("p");
        let name = |path: String| {
            let name = Path::new(&path).strip_prefix(&root).unwrap();
            name.to_str().unwrap().to_owned()
        };
        paths.map(name).collect()
    }

    /// What is to be forgotten, and the folders that were warned of.
    fn plan(&self, emptied: Emptied) -> (Vec<String>, Vec<String>) {
        let plan = Plan::with(&self.index, &[self.path("")], emptied).unwrap();
        let warned = plan.faults.iter().map(|(path, report)| {
            assert_eq!(report.code, Code::W7013, "{report}");
            path.clone()
        });
        (self.names(plan.gone.into_iter()), self.names(warned))
    }
}

#[test]
fn a_folder_that_is_there_and_empty_keeps_its_pictures_until_it_is_said() {
    let place = Place::new();
    // The control: nothing changed.
    assert_eq!(place.plan(Emptied::Kept), (vec![], vec![]));
    for (folder, below) in
        [("disk", &NAMES[1..4]), ("disk/2024", &NAMES[2..4]), ("deep/er", &NAMES[5..])]
    {
        let place = Place::new();
        place.empty(folder);
        assert_eq!(place.plan(Emptied::Kept), (vec![], vec![folder.to_owned()]));
        let mut expected: Vec<String> = below.iter().map(|&name| name.to_owned()).collect();
        expected.sort();
        assert_eq!(place.plan(Emptied::Forgotten), (expected, vec![]), "{folder}");
        let report = &Plan::new(&place.index, &[place.path("")]).unwrap().faults[0].1;
        assert!(report.help.contains("--forget-empty"), "{report}");
    }
    // The root itself.
    let place = Place::new();
    place.empty("");
    assert_eq!(place.plan(Emptied::Kept), (vec![], vec![String::new()]));
    assert_eq!(place.plan(Emptied::Forgotten).0.len(), NAMES.len());
}

#[test]
fn what_is_gone_from_a_folder_that_holds_something_is_deleted() {
    let place = Place::new();
    // The folder is gone and its parent is there.
    std::fs::remove_dir_all(place.path("disk")).unwrap();
    let below = ["disk/1.jpg", "disk/2024/2.jpg", "disk/2024/3.jpg"].map(str::to_owned);
    assert_eq!(place.plan(Emptied::Kept), (below.to_vec(), vec![]));
    // All pictures of a folder, and something else is left.
    let place = Place::new();
    place.empty("deep/er");
    std::fs::write(place.path("deep/er/notes.txt"), "").unwrap();
    let below = NAMES[5..].iter().map(|&name| name.to_owned()).collect();
    assert_eq!(place.plan(Emptied::Kept), (below, vec![]));
    // One of two.
    let place = Place::new();
    std::fs::remove_file(place.path("deep/er/5.jpg")).unwrap();
    assert_eq!(place.plan(Emptied::Kept), (vec!["deep/er/5.jpg".to_owned()], vec![]));
    // Empty, and never held a picture; its name begins as that of one which did.
    let place = Place::new();
    std::fs::create_dir(place.path("dis")).unwrap();
    std::fs::create_dir(place.path("disk/20")).unwrap();
    assert_eq!(place.plan(Emptied::Kept), (vec![], vec![]));
}

#[test]
fn a_root_that_is_not_there_keeps_its_pictures_whatever_is_said_of_empty_folders() {
    let place = Place::new();
    std::fs::remove_dir_all(place.path("")).unwrap();
    for emptied in [Emptied::Kept, Emptied::Forgotten] {
        assert_eq!(place.plan(emptied), (vec![], vec![String::new()]));
    }
}
