//! What the Hub refuses, and answers that no Hub gives.

use altclip_report::Diagnose;

use super::server::{Act, FakeFile, FakeHub, Port, large, refuse, small};
use super::{Setting, code, repo};
use crate::Error;

fn files() -> Vec<FakeFile> {
    vec![small("config.json", "{}"), large("model.bin", "weights")]
}

/// The error when the listing, or each file, is answered with a status.
fn refusal(of_files: bool, status: u16, error_code: &'static str) -> Error {
    let server = FakeHub::with_script(files(), move |request| {
        (request.is_info() != of_files).then(|| refuse(status, error_code))
    });
    Setting::new(server).refusal()
}

#[test]
fn each_refusal_has_its_code_and_its_next_step() {
    for (of_files, status, error_code, expected, words) in [
        (false, 401, "", "E2003", "token"),
        (true, 401, "", "E2003", "token"),
        (false, 401, "GatedRepo", "E2003", "accept the licence at http"),
        (true, 403, "GatedRepo", "E2003", "/org/name, with the account"),
        (true, 403, "", "E2003", "account"),
        (false, 401, "RepoNotFound", "E2002", "spelling"),
        (false, 404, "RepoNotFound", "E2002", "spelling"),
        (false, 404, "", "E2002", "spelling"),
        (false, 404, "RevisionNotFound", "E2002", "branches"),
        (true, 404, "EntryNotFound", "E2002", "config.json"),
        (false, 418, "", "E2004", "418"),
        (false, 503, "", "E2004", "503"),
        (true, 500, "", "E2004", "500"),
    ] {
        let error = refusal(of_files, status, error_code);
        let line = error.report().to_string();
        assert_eq!(code(&error), expected, "{status} {error_code}: {line}");
        assert!(line.contains(words), "{status} {error_code}: {line}");
        assert_eq!(error.report().code.exit_status(), 7);
    }
}

#[test]
fn a_gated_model_without_a_token_is_told_both_steps() {
    let server = FakeHub::with_script(files(), |request| {
        (!request.is_info()).then(|| refuse(401, "GatedRepo"))
    });
    let setting = Setting::with(server, |config| config.token = None);
    let line = setting.download().unwrap_err().report().to_string();
    let page =
        format!("accept the licence at {}/org/name, then set HF_TOKEN", setting.server.endpoint());
    assert!(line.contains(&page), "{line}");
    let log = setting.server.take_log();
    assert!(log.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn a_refusal_of_the_store_is_not_one_of_the_hub() {
    let server = FakeHub::with_script(files(), |request| {
        request.is_large_get().then(|| refuse(403, "GatedRepo"))
    });
    let error = Setting::new(server).refusal();
    let Error::Status { url, status: 403, .. } = &error else { panic!("{error:?}") };
    assert!(!url.contains("s3cr3t"), "the signature of the address is in {url}");
}

#[test]
fn faults_of_the_server_are_waited_out() {
    let server = FakeHub::with_script(files(), |request| match request.nth {
        _ if request.port == Port::Store => None,
        0 => Some(refuse(503, "")),
        1 => Some(Act::Answer(429, vec!["Retry-After: 7".to_owned()], vec![])),
        _ => None,
    });
    let setting = Setting::new(server);
    setting.download().unwrap();
    // Listing; HEAD and GET of the small file; HEAD and GET of the large one.
    assert_eq!(setting.naps_secs(), [1, 7, 1, 7, 1, 7, 1, 7, 1, 7]);
}

#[test]
fn tries_are_bounded() {
    let setting = Setting::new(FakeHub::with_script(files(), |_| Some(refuse(500, ""))));
    setting.refusal();
    assert_eq!(setting.server.take_log().len(), 3);
    let always = |_: &super::server::Request| {
        let there = vec!["Location: /api/models/org/name/again".to_owned()];
        Some(Act::Answer(302, there, vec![]))
    };
    let setting = Setting::new(FakeHub::with_script(files(), always));
    let error = setting.refusal();
    assert!(error.to_string().contains("too many redirects"), "{error}");
    assert_eq!(setting.server.take_log().len(), 11);
}

#[test]
fn file_names_never_leave_the_snapshot() {
    for name in ["../../x", "/etc/x", "a/../../../x", "..\\x", "C:x", "a\0b", "x/", ""] {
        let setting =
            Setting::new(FakeHub::new(vec![small("config.json", "{}"), small(name, "x")]));
        let error = setting.refusal();
        assert!(matches!(error, Error::FileName { .. }), "{name:?}: {error:?}");
        assert_eq!(code(&error), "E2009");
        assert!(!setting.dir.path().join("hub").exists(), "something was written for {name:?}");
        // A name that is not asked for does no harm.
        let only = |name: &str| name == "config.json";
        setting.hub.download(&repo(), "main", &only, &mut |_| {}).unwrap();
    }
}

#[test]
fn answers_that_no_hub_gives() {
    let page = |request: &super::server::Request| {
        request.is_info().then(|| Act::Answer(200, vec![], b"<html>log in</html>".to_vec()))
    };
    let error = Setting::new(FakeHub::with_script(files(), page)).refusal();
    assert_eq!(code(&error), "E2009");

    let endless = |request: &super::server::Request| {
        request.is_info().then(|| Act::Answer(200, vec![], vec![b' '; (16 << 20) + 1]))
    };
    let error = Setting::new(FakeHub::with_script(files(), endless)).refusal();
    assert!(error.to_string().contains("longer than"), "{error}");

    let commit = |request: &super::server::Request| {
        let headers = vec![format!("X-Repo-Commit: {}", "3".repeat(40)), "ETag: \"x\"".to_owned()];
        (request.method == "HEAD").then(|| Act::Answer(200, headers, vec![]))
    };
    let error = Setting::new(FakeHub::with_script(files(), commit)).refusal();
    assert!(error.to_string().contains("another commit"), "{error}");
}

#[test]
fn a_checksum_from_the_hub_is_no_path() {
    let server = FakeHub::start(vec![large("model.bin", "weights")], false, "", |request| {
        let head = vec!["X-Linked-Etag: \"../../../../evil\"".to_owned()];
        (request.method == "HEAD").then_some(Act::Head(head))
    });
    let setting = Setting::new(server);
    assert!(matches!(setting.refusal(), Error::NoChecksum { .. }));
}
