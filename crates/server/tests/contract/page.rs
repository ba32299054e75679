//! The page for people: its files, how a browser may treat them, and that nothing else is to be had there.

use crate::client::{Running, request};
use std::time::Duration;

fn running() -> Running {
    Running::stub(Duration::ZERO)
}

#[test]
fn the_page_and_all_that_it_names() {
    let server = running();
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let text = page.text();
    let named = text.split("\"assets/").skip(1).filter_map(|rest| rest.split('"').next());
    let named: Vec<&str> = named.collect();
    assert!(named.len() > 5, "{named:?}");
    for name in named {
        let file = server.get(&format!("/assets/{name}"));
        let media = match name.rsplit('.').next().unwrap() {
            "css" => "text/css; charset=utf-8",
            "mjs" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("{other}"),
        };
        assert_eq!((file.status, file.header("content-type")), (200, Some(media)), "{name}");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"), "{name}");
    }
    for none in ["none.mjs", "../Cargo.toml", "%2e%2e/build.rs", "css"] {
        assert_eq!(server.get(&format!("/assets/{none}")).status, 404, "{none}");
    }
}

#[test]
fn a_browser_need_not_load_it_twice() {
    let server = running();
    let tag = server.get("/").header("etag").unwrap().to_owned();
    let again = |tag: &str| {
        let headers = [("if-none-match", tag)];
        request(server.address, "GET", "/assets/js/main.mjs", &headers, b"")
    };
    let known = again(&tag);
    assert_eq!((known.status, known.text().len()), (304, 0));
    assert_eq!(known.header("etag"), Some(&*tag));
    assert_eq!(again("\"other\"").status, 200);
}
