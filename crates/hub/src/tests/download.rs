//! What a download writes, what it asks for, and where the token goes.

use std::path::Path;

use super::server::{Act, COMMIT, COMMIT_2, FakeFile, FakeHub, Port, large, refuse, small};
use super::{Setting, TOKEN, events, noise, read, repo};
use crate::{Error, Gated};

fn model() -> Vec<FakeFile> {
    vec![
        small("config.json", "{}"),
        small("empty.txt", ""),
        large("model.safetensors", noise(700_000, 1)),
        small("sub/more/notes.txt", "hello\n"),
    ]
}

#[test]
fn a_download_lands_in_the_standard_layout() {
    let setting = Setting::new(FakeHub::new(model()));
    let snapshot = setting.download().unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(snapshot.license.as_deref(), Some("mit"));
    assert_eq!(snapshot.gated, Some(Gated::No));
    assert_eq!(snapshot.dir, setting.path("snapshots").join(COMMIT));
    for (file, found) in model().iter().zip(&snapshot.files) {
        assert_eq!((&found.name, found.from_cache), (&file.name, false));
        assert_eq!(found.bytes, file.bytes.len() as u64);
        assert_eq!(read(&found.path), file.bytes);
        assert_eq!(read(setting.path("blobs").join(file.checksum())), file.bytes);
    }
    // `git hash-object` of "hello\n" and of nothing.
    assert_eq!(read(setting.path("blobs/ce013625030ba8dba906f756967f9e9ca394464a")), b"hello\n");
    assert_eq!(read(setting.path("blobs/e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")), b"");
    assert_eq!(read(setting.path("refs/main")), COMMIT.as_bytes());
    assert_eq!(setting.incomplete(), Vec::<std::path::PathBuf>::new());
    assert!(setting.dir.path().join("hub/CACHEDIR.TAG").is_file());
    #[cfg(unix)]
    for (name, up) in [("config.json", "../.."), ("sub/more/notes.txt", "../../../..")] {
        let link = std::fs::read_link(snapshot.dir.join(name)).unwrap();
        assert!(link.starts_with(Path::new(up).join("blobs")), "{name} -> {}", link.display());
    }
    let left = walk(&snapshot.dir);
    assert_eq!(left, ["config.json", "empty.txt", "model.safetensors", "notes.txt"]);
}

/// The names of all files below a folder.
fn walk(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(walk(&path));
        } else {
            names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    names.sort();
    names
}

#[test]
fn the_token_goes_to_the_hub_only() {
    let setting = Setting::new(FakeHub::new(model()));
    setting.download().unwrap();
    let log = setting.server.take_log();
    let bearer = format!("Bearer {TOKEN}");
    for request in &log {
        let sent = request.headers.get("authorization");
        match request.port {
            Port::Hub => assert_eq!(sent, Some(&bearer), "{request:?}"),
            Port::Store => assert_eq!(sent, None, "{request:?}"),
        }
        assert!(request.headers["user-agent"].starts_with("altclip/"));
    }
    assert_eq!(log.iter().filter(|r| r.port == Port::Store).count(), 1);
}

#[test]
fn a_redirect_within_the_hub_keeps_the_token() {
    let server = FakeHub::with_script(vec![small("config.json", "{}")], |request| {
        let renamed = request.path.strip_prefix("/api/models/org/name/")?;
        let headers = vec![format!("Location: /api/models/org/other/{renamed}")];
        Some(Act::Answer(307, headers, Vec::new()))
    });
    let setting = Setting::new(server);
    setting.download().expect_err("the server does not know the other name");
    let log = setting.server.take_log();
    assert_eq!(log.len(), 2);
    assert!(log[1].path.starts_with("/api/models/org/other/revision/main"));
    assert!(log[1].headers.contains_key("authorization"));
}

#[test]
fn progress_tells_each_file() {
    let files = vec![small("config.json", "{}"), large("model.safetensors", noise(9, 1))];
    let setting = Setting::new(FakeHub::new(files));
    let expected = [
        "Listed { files: 2, bytes: Some(11) }",
        "Started { file: \"config.json\", bytes: Some(2), resumed_at: 0 }",
        "Verifying { file: \"config.json\" }",
        "Finished { file: \"config.json\", bytes: 2, from_cache: false }",
        "Started { file: \"model.safetensors\", bytes: Some(9), resumed_at: 0 }",
        "Verifying { file: \"model.safetensors\" }",
        "Finished { file: \"model.safetensors\", bytes: 9, from_cache: false }",
    ];
    assert_eq!(events(&setting), expected);
    let expected = [
        "Listed { files: 2, bytes: Some(11) }",
        "Finished { file: \"config.json\", bytes: 2, from_cache: true }",
        "Finished { file: \"model.safetensors\", bytes: 9, from_cache: true }",
    ];
    assert_eq!(events(&setting), expected, "the second time");
}

#[test]
fn what_is_cached_is_not_asked_for_again() {
    let setting = Setting::new(FakeHub::new(model()));
    let first = setting.download().unwrap();
    setting.server.take_log();
    let second = setting.download().unwrap();
    assert!(second.files.iter().all(|file| file.from_cache));
    assert_eq!(second.dir, first.dir);
    let log = setting.server.take_log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].is_info());
}

#[test]
fn a_new_commit_brings_only_what_changed() {
    let setting = Setting::new(FakeHub::new(model()));
    let old = setting.download().unwrap();
    setting.server.take_log();
    let mut files = model();
    files[0] = small("config.json", r#"{"new":1}"#);
    setting.server.push(COMMIT_2, files);
    let new = setting.download().unwrap();
    assert_eq!(read(setting.path("refs/main")), COMMIT_2.as_bytes());
    let fresh: Vec<&str> =
        new.files.iter().filter(|f| !f.from_cache).map(|f| f.name.as_str()).collect();
    assert_eq!(fresh, ["config.json"]);
    let log = setting.server.take_log();
    assert!(!log.iter().any(|request| request.is_large_get()));
    assert_eq!(read(new.dir.join("config.json")), br#"{"new":1}"#);
    assert_eq!(read(old.dir.join("config.json")), b"{}", "the old snapshot stays");
}

#[test]
fn a_revision_is_a_branch_a_tag_a_request_or_a_commit() {
    for revision in ["main", "v1.0", "refs/pr/8", COMMIT] {
        let setting = Setting::new(FakeHub::new(vec![small("config.json", "{}")]));
        let snapshot = setting.download_at(revision).unwrap();
        assert_eq!(snapshot.commit, COMMIT);
        assert_eq!(setting.hub.cached(&repo(), revision).unwrap(), snapshot.dir);
        assert_eq!(setting.hub.cached(&repo(), COMMIT).unwrap(), snapshot.dir);
        let reference = setting.path("refs").join(revision);
        if revision == COMMIT {
            assert!(!setting.path("refs").exists(), "a commit needs no reference");
        } else {
            assert_eq!(read(reference), COMMIT.as_bytes());
        }
    }
}

#[test]
fn a_model_is_its_settings_and_one_set_of_weights() {
    let mut files = model();
    files.push(large("pytorch_model.bin", noise(10, 2)));
    let setting = Setting::new(FakeHub::new(files));
    let snapshot = setting.hub.download_model(&repo(), "main", &mut |_| {}).unwrap();
    let names: Vec<&str> = snapshot.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["config.json", "model.safetensors"]);

    let setting = Setting::new(FakeHub::new(vec![small("README.md", "")]));
    let error = setting.hub.download_model(&repo(), "main", &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NotAModel { missing: "config.json", .. }), "{error:?}");
    let error = setting.hub.download(&repo(), "main", &|_| false, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NotAModel { .. }), "{error:?}");
    assert!(!setting.dir.path().join("hub").exists(), "nothing was written");
}

#[test]
fn a_listing_without_sizes_is_enough() {
    let server = FakeHub::start(model(), false, "", |_| None);
    let setting = Setting::new(server);
    let snapshot = setting.download().unwrap();
    assert_eq!(snapshot.license, None);
    assert_eq!(read(snapshot.dir.join("model.safetensors")), noise(700_000, 1));
}

#[test]
fn a_mirror_with_tags_of_its_own_is_checked_by_the_listing() {
    let odd = |request: &super::server::Request| {
        let odd = request.method == "HEAD";
        odd.then(|| Act::Head(vec!["ETag: \"5f3-abc\"".to_owned()]))
    };
    let setting = Setting::new(FakeHub::with_script(vec![large("model.bin", "weights")], odd));
    let snapshot = setting.download().unwrap();
    assert_eq!(read(snapshot.dir.join("model.bin")), b"weights");

    let server = FakeHub::start(vec![large("model.bin", "weights")], false, "", odd);
    let error = Setting::new(server).refusal();
    assert!(matches!(error, Error::NoChecksum { .. }), "{error:?}");
}

#[test]
fn the_card_tells_licence_and_gate() {
    let extra = r#","gated":"auto","cardData":{"license":"creativeml-openrail-m"}"#;
    let setting = Setting::new(FakeHub::start(vec![], true, extra, |_| None));
    let card = setting.hub.card(&repo(), "main").unwrap();
    assert_eq!(card.license.as_deref(), Some("creativeml-openrail-m"));
    assert_eq!((card.gated, card.commit.as_str()), (Gated::Auto, COMMIT));
    let setting = Setting::new(FakeHub::with_script(vec![], |_| Some(refuse(404, "RepoNotFound"))));
    assert!(matches!(setting.hub.card(&repo(), "main"), Err(Error::RepoNotFound { .. })));
}
