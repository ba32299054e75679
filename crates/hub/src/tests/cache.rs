//! The cache alone: offline, in parallel, damaged, read-only and full.

use std::sync::Barrier;

use super::server::{COMMIT, FakeFile, FakeHub, large, small};
use super::{Setting, code, noise, read, repo};
use crate::{Error, Hub, HubConfig};

fn model() -> Vec<FakeFile> {
    vec![small("config.json", "{}"), large("model.safetensors", noise(300_000, 5))]
}

fn offline(setting: &Setting) -> Hub {
    let mut config = HubConfig::new(setting.dir.path().join("hub"));
    config.endpoint = setting.server.endpoint();
    config.offline = true;
    Hub::new(config).unwrap()
}

#[test]
fn offline_makes_no_connection() {
    let setting = Setting::new(FakeHub::new(model()));
    let hub = offline(&setting);
    let nothing = hub.download_model(&repo(), "main", &mut |_| {}).unwrap_err();
    assert_eq!(code(&nothing), "E2006");
    assert_eq!(code(&hub.card(&repo(), "main").unwrap_err()), "E2006");
    assert_eq!(setting.server.take_log().len(), 0);

    let online = setting.download().unwrap();
    setting.server.take_log();
    for revision in ["main", COMMIT] {
        let snapshot = hub.download_model(&repo(), revision, &mut |_| {}).unwrap();
        assert_eq!((&snapshot.dir, &snapshot.commit), (&online.dir, &online.commit));
        assert_eq!(snapshot.files.len(), 2);
        assert!(snapshot.files.iter().all(|file| file.from_cache));
        assert_eq!(hub.cached(&repo(), revision).unwrap(), online.dir);
    }
    assert_eq!(code(&hub.cached(&repo(), "v1.0").unwrap_err()), "E2006");
    assert_eq!(setting.server.take_log().len(), 0);
}

#[test]
fn offline_names_the_file_that_is_missing() {
    let setting = Setting::new(FakeHub::new(model()));
    setting.download().unwrap();
    std::fs::remove_file(setting.path("blobs").join(model()[1].checksum())).unwrap();
    let error = offline(&setting).download_model(&repo(), "main", &mut |_| {}).unwrap_err();
    let Error::NotCached { file: Some(file), .. } = &error else { panic!("{error:?}") };
    assert_eq!(file, "model.safetensors");

    let setting = Setting::new(FakeHub::new(model()));
    let only = |name: &str| name == "config.json";
    setting.hub.download(&repo(), "main", &only, &mut |_| {}).unwrap();
    let error = offline(&setting).download_model(&repo(), "main", &mut |_| {}).unwrap_err();
    let Error::NotCached { file: Some(file), .. } = &error else { panic!("{error:?}") };
    assert_eq!(file, "model.safetensors or pytorch_model.bin");
}

#[test]
fn references_with_nonsense_are_no_references() {
    let setting = Setting::new(FakeHub::new(model()));
    setting.download().unwrap();
    for bad in ["", "../../..", "main", "1111", "g111111111111111111111111111111111111111"] {
        std::fs::write(setting.path("refs/main"), bad).unwrap();
        let error = setting.hub.cached(&repo(), "main").unwrap_err();
        assert_eq!(code(&error), "E2006", "{bad:?}");
    }
    std::fs::write(setting.path("refs/main"), format!("{COMMIT}\n")).unwrap();
    setting.hub.cached(&repo(), "main").unwrap();
    for bad in ["../main", "", "/etc/passwd", "a/../../b"] {
        assert!(matches!(setting.hub.cached(&repo(), bad), Err(Error::Revision { .. })), "{bad:?}");
        assert!(matches!(setting.download_at(bad), Err(Error::Revision { .. })), "{bad:?}");
    }
}

#[test]
fn parallel_downloads_share_the_work() {
    let setting = Setting::new(FakeHub::new(model()));
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                let snapshot = setting.download().unwrap();
                for (file, expected) in snapshot.files.iter().zip(model()) {
                    assert!(read(&file.path) == expected.bytes);
                }
            });
        }
    });
    let log = setting.server.take_log();
    assert_eq!(log.iter().filter(|request| request.is_large_get()).count(), 1);
    assert_eq!(setting.incomplete().len(), 0);
    assert_eq!(std::fs::read_dir(setting.path("snapshots").join(COMMIT)).unwrap().count(), 2);
}

#[test]
fn a_damaged_blob_is_written_again() {
    let setting = Setting::new(FakeHub::new(model()));
    setting.download().unwrap();
    let blob = setting.path("blobs").join(model()[1].checksum());
    std::fs::write(&blob, "short").unwrap();
    let snapshot = setting.download().unwrap();
    assert!(!snapshot.files[1].from_cache);
    assert!(read(snapshot.dir.join("model.safetensors")) == model()[1].bytes);
}

#[test]
fn a_cache_that_cannot_be_written() {
    let server = FakeHub::new(model());
    let setting = Setting::with(server, |config| {
        // A file where the folder should be stops every user, the superuser too.
        let parent = config.cache_dir.parent().unwrap().join("file");
        std::fs::write(&parent, "").unwrap();
        config.cache_dir = parent.join("hub");
    });
    let error = setting.refusal();
    assert_eq!(code(&error), "E2007", "{error:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    use altclip_report::Diagnose;
    let setting = Setting::new(FakeHub::new(vec![large("model.bin", "weights")]));
    let checksum = large("", "weights").checksum();
    std::fs::create_dir_all(setting.path("blobs")).unwrap();
    let part = setting.path("blobs").join(format!("{checksum}.incomplete"));
    std::os::unix::fs::symlink("/dev/full", part).unwrap();
    let error = setting.refusal();
    assert_eq!(code(&error), "E2007", "{error:?}");
    assert!(error.report().to_string().contains("free space"), "{}", error.report());
}

#[test]
fn a_blob_that_another_process_writes_is_waited_for() {
    use crate::Progress;
    let setting = Setting::new(FakeHub::new(vec![large("model.bin", "weights")]));
    let checksum = large("", "weights").checksum();
    let locks = setting.dir.path().join("hub/.locks/models--org--name");
    std::fs::create_dir_all(&locks).unwrap();
    std::fs::create_dir_all(setting.path("blobs")).unwrap();
    let lock = std::fs::File::create(locks.join(format!("{checksum}.lock"))).unwrap();
    lock.lock().unwrap();
    let mut lock = Some(lock);
    let mut note = |event: Progress<'_>| {
        if matches!(event, Progress::Waiting { .. }) {
            // The other process finishes just now.
            std::fs::write(setting.path("blobs").join(&checksum), "weights").unwrap();
            lock.take();
        }
    };
    let snapshot = setting.hub.download(&repo(), "main", &|_| true, &mut note).unwrap();
    assert!(snapshot.files[0].from_cache);
    assert!(!setting.server.take_log().iter().any(|request| request.is_large_get()));
}
