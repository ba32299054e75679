//! Broken connections, wrong bytes, and how a download goes on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::server::{Act, FakeHub, Request, large, small};
use super::{Setting, assert_keeps_the_token, code, noise, read, repo};
use crate::{Error, Progress};

const BYTES: usize = 300_000;

fn weights() -> Vec<u8> {
    noise(BYTES, 7)
}

/// A Hub with one large file, whose store follows a script.
fn store(script: impl Fn(&Request) -> Option<Act> + Send + Sync + 'static) -> FakeHub {
    FakeHub::with_script(vec![large("model.bin", weights())], move |request| {
        if request.is_large_get() { script(request) } else { None }
    })
}

/// Where each request for the large file began.
fn starts(setting: &Setting) -> Vec<Option<usize>> {
    let log = setting.server.take_log();
    log.iter().filter(|r| r.is_large_get()).map(Request::range_start).collect()
}

fn assert_whole(setting: &Setting) {
    let snapshot = setting.download().unwrap();
    assert_eq!(read(snapshot.dir.join("model.bin")), weights());
    assert_eq!(setting.incomplete().len(), 0);
}

#[test]
fn a_cut_connection_goes_on_where_it_broke() {
    let setting = Setting::new(store(|request| (request.nth == 0).then_some(Act::Cut(100_000))));
    assert_whole(&setting);
    assert_eq!(starts(&setting), [None, Some(100_000)]);
    assert_eq!(setting.naps_secs(), [1]);
}

#[test]
fn a_download_goes_on_in_the_next_run() {
    let cuts = AtomicUsize::new(0);
    let setting = Setting::new(store(move |_| {
        (cuts.fetch_add(1, Ordering::Relaxed) < 3).then_some(Act::Cut(50_000))
    }));
    let error = setting.refusal();
    assert_eq!(code(&error), "E2004");
    assert_eq!(starts(&setting), [None, Some(50_000), Some(100_000)], "three tries");
    assert_eq!(setting.naps_secs(), [1, 2]);
    let part = &setting.incomplete()[0];
    assert_eq!(read(part), weights()[..150_000]);
    assert!(part.to_str().unwrap().ends_with(".incomplete"));
    assert!(setting.hub.cached(&repo(), "main").is_err(), "half a model is not cached");
    let mut first = None;
    let mut note = |event: Progress<'_>| {
        if let Progress::Started { resumed_at, .. } = event {
            first = Some(resumed_at);
        }
    };
    setting.hub.download(&repo(), "main", &|_| true, &mut note).unwrap();
    assert_eq!(first, Some(150_000));
    assert_eq!(starts(&setting), [Some(150_000)]);
    assert_whole(&setting);
}

#[test]
fn a_poor_line_that_brings_something_is_no_failure() {
    let bytes = noise(6 << 20, 3);
    let file = large("model.bin", bytes.clone());
    let server = FakeHub::with_script(vec![file], |request| {
        request.is_large_get().then_some(Act::Cut((1 << 20).min(request_left(request))))
    });
    let setting = Setting::new(server);
    let snapshot = setting.download().unwrap();
    assert!(read(snapshot.dir.join("model.bin")) == bytes);
    assert_eq!(starts(&setting).len(), 6);
}

fn request_left(request: &Request) -> usize {
    (6 << 20) - request.range_start().unwrap_or(0)
}

#[test]
fn a_server_without_ranges_starts_again() {
    let setting = Setting::new(store(|request| {
        Some(if request.nth == 0 { Act::Cut(100_000) } else { Act::IgnoreRange })
    }));
    assert_whole(&setting);
    assert_eq!(starts(&setting), [None, Some(100_000)]);
}

#[test]
fn an_answer_with_another_range_starts_again() {
    let setting = Setting::new(store(|request| match request.nth {
        0 => Some(Act::Cut(100_000)),
        1 => Some(Act::Answer(
            206,
            vec![format!("Content-Range: bytes 5-{}/{BYTES}", BYTES - 1)],
            weights()[5..].to_vec(),
        )),
        _ => None,
    }));
    assert_whole(&setting);
    assert_eq!(starts(&setting), [None, Some(100_000), None]);
}

#[test]
fn a_refused_range_starts_again() {
    let setting = Setting::new(store(|request| match request.nth {
        0 => Some(Act::Cut(100_000)),
        1 => Some(Act::Answer(416, vec![], vec![])),
        _ => None,
    }));
    assert_whole(&setting);
    assert_eq!(starts(&setting), [None, Some(100_000), None]);
}

#[test]
fn a_silent_server_is_left_and_asked_again() {
    let server = store(|request| (request.nth == 0).then_some(Act::Stall(100_000)));
    let setting = Setting::with(server, |config| config.timeout = Duration::from_secs(1));
    assert_whole(&setting);
    assert_eq!(starts(&setting), [None, Some(100_000)]);
}

#[test]
fn a_slow_server_is_waited_for() {
    // All in all longer than the limit, each pause far shorter.
    let server = store(|_| Some(Act::Trickle(BYTES / 10, Duration::from_millis(250))));
    let setting = Setting::with(server, |config| config.timeout = Duration::from_secs(2));
    assert_whole(&setting);
    assert_eq!(starts(&setting), [None], "one connection was enough");
}

#[test]
fn a_wrong_checksum_is_refused_and_the_bytes_removed() {
    let mut wrong = weights();
    wrong[12_345] ^= 1;
    let bad = wrong.clone();
    let server = store(move |_| Some(Act::Answer(200, vec![], bad.clone())));
    let mut setting = Setting::new(server);
    let error = setting.refusal();
    assert!(matches!(&error, Error::Checksum { kind: "sha256", web_page: false, .. }), "{error:?}");
    assert_eq!(code(&error), "E2005");
    assert_eq!(starts(&setting), [None], "the same bytes are not asked for again");
    assert_eq!(std::fs::read_dir(setting.path("blobs")).unwrap().count(), 0);
    assert!(!setting.path("snapshots").exists() && !setting.path("refs").exists());

    // The control: without the check, the wrong bytes would be taken for the model.
    setting.hub.verify = false;
    let snapshot = setting.download().unwrap();
    assert!(read(snapshot.dir.join("model.bin")) == wrong);
}

#[test]
fn a_small_file_is_checked_too() {
    let server = FakeHub::with_script(vec![small("config.json", "{\"a\":1}")], |request| {
        let get = request.method == "GET" && !request.is_info();
        get.then(|| Act::Answer(200, vec![], b"{\"a\":2}".to_vec()))
    });
    let error = Setting::new(server).refusal();
    assert!(matches!(&error, Error::Checksum { kind: "git-sha1", .. }), "{error:?}");
}

#[test]
fn a_web_page_instead_of_weights_is_named_as_such() {
    let mut page = b"\n<!DOCTYPE html><title>Please log in</title>".to_vec();
    page.resize(BYTES, b' ');
    let server = store(move |_| Some(Act::Answer(200, vec![], page.clone())));
    let error = Setting::new(server).refusal();
    assert!(matches!(error, Error::Checksum { web_page: true, .. }), "{error:?}");
}

#[test]
fn a_wrong_size_is_refused_before_or_while_it_comes() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".to_vec();
    let (short, found) = (pointer.clone(), pointer.len() as u64);
    let setting = Setting::new(store(move |_| Some(Act::Answer(200, vec![], short.clone()))));
    let error = setting.refusal();
    assert!(
        matches!(&error, Error::Size { expected, found: f, .. }
            if (*expected, *f) == (BYTES as u64, found)),
        "{error:?}"
    );
    assert_eq!(setting.incomplete().len(), 0);

    // Without a length, the surplus shows only as it comes.
    let mut chunked = format!("{:x}\r\n", BYTES + 1).into_bytes();
    chunked.extend(weights());
    chunked.extend(b"x\r\n0\r\n\r\n");
    let encoding = "Transfer-Encoding: chunked".to_owned();
    let server = store(move |_| Some(Act::Answer(200, vec![encoding.clone()], chunked.clone())));
    let setting = Setting::new(server);
    let error = setting.refusal();
    assert!(matches!(error, Error::Size { .. }), "{error:?}");
    assert_eq!(setting.incomplete().len(), 0);
}

#[test]
fn a_damaged_part_of_an_earlier_run_is_thrown_away() {
    let setting = Setting::new(store(|_| None));
    let checksum = large("", weights()).checksum();
    std::fs::create_dir_all(setting.path("blobs")).unwrap();
    let part = setting.path("blobs").join(format!("{checksum}.incomplete"));
    std::fs::write(&part, noise(1000, 99)).unwrap();
    assert_whole(&setting);
    assert_eq!(starts(&setting), [Some(1000), None]);

    // The same with a part that is longer than the file, and with one of its exact size.
    for (bytes, expected) in [(BYTES + 5, vec![None]), (BYTES, vec![None])] {
        let setting = Setting::new(store(|_| None));
        std::fs::create_dir_all(setting.path("blobs")).unwrap();
        let part = setting.path("blobs").join(format!("{checksum}.incomplete"));
        std::fs::write(&part, noise(bytes, 99)).unwrap();
        assert_whole(&setting);
        assert_eq!(starts(&setting), expected);
    }
}

#[test]
fn a_whole_part_needs_no_connection() {
    let setting = Setting::new(store(|_| None));
    std::fs::create_dir_all(setting.path("blobs")).unwrap();
    let checksum = large("", weights()).checksum();
    std::fs::write(setting.path("blobs").join(format!("{checksum}.incomplete")), weights())
        .unwrap();
    assert_whole(&setting);
    assert_eq!(starts(&setting), []);
}

#[test]
fn a_connection_that_breaks_off_while_listing_is_tried_again() {
    let server = FakeHub::with_script(vec![small("config.json", "{}")], |request| {
        let cut = "Transfer-Encoding: chunked".to_owned();
        let first = request.is_info() && request.nth == 0;
        first.then(|| Act::Answer(200, vec![cut], b"5\r\n{\"s".to_vec()))
    });
    let setting = Setting::new(server);
    setting.download().unwrap();
    assert_eq!(setting.naps_secs(), [1]);
}

#[test]
fn nobody_listens() {
    let server = FakeHub::new(vec![]);
    let setting =
        Setting::with(server, |config| config.endpoint = "http://u:pw@127.0.0.1:1".to_owned());
    let error = setting.refusal();
    assert_eq!(code(&error), "E2004");
    assert_eq!(setting.naps_secs(), [1, 2]);
    assert!(!format!("{error:?}").contains("pw@"), "{error:?}");
    assert_keeps_the_token(&error);
}
