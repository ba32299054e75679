//! The rows of the contract for servers, texts and pictures: status, code and form of each refusal.

use crate::client::{Running, connect, nano, picture, raw, request};
use altclip_report::Diagnose as _;
use altclip_server::{Error, KeySource, Limits, Log, Server, Setup, StubEngine};
use base64::Engine as _;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

struct Row {
    name: &'static str,
    path: &'static str,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    says: &'static str,
}

fn row(
    name: &'static str,
    path: &'static str,
    body: impl Into<Vec<u8>>,
    status: u16,
    code: &'static str,
    says: &'static str,
) -> Row {
    Row { name, path, body: body.into(), status, code, says }
}

fn image(bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    json!({ "modality": "image", "input": text }).to_string()
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend(width.to_be_bytes().into_iter().chain(height.to_be_bytes()));
    png.extend([1, 0, 0, 0, 0]);
    // The checksum of the chunk.
    let mut crc = !0u32;
    for &byte in &png[12..] {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    png.extend((!crc).to_be_bytes());
    png
}

fn rows() -> Vec<Row> {
    let v1 = "/v1/embeddings";
    let text = |text: String| json!({ "input": text }).to_string();
    vec![
        row("SV1 cut", v1, r#"{"input": "#, 400, "E8001", "line 1"),
        row("SV1 deep", v1, "[".repeat(100_000), 400, "E8001", "column 128"),
        row("SV1 twice", v1, r#"{"input": "a", "input": "b"}"#, 400, "E8001", "twice"),
        row("SV1 range", v1, r#"{"input": 1e400}"#, 400, "E8001", "out of range"),
        row("SV1 utf-8", v1, b"{\"input\": \"\xff\"}".to_vec(), 400, "E8001", "line 1"),
        row("SV1 nothing", v1, "", 400, "E8001", "line 1"),
        row("SV1 own", "/classify", "{", 400, "E8001", "line 1"),
        row("SV1 TEI", "/embed", "{", 400, "E8001", "line 1"),
        row("no input", v1, "{}", 422, "E8004", "input"),
        row("no object", v1, "[]", 422, "E8004", "an object"),
        row("empty", v1, r#"{"input": []}"#, 422, "E8004", "at least one"),
        row("ids", v1, r#"{"input": [[1, 2]]}"#, 422, "E8004", "token ids"),
        row("both", v1, r#"{"input": [{"text": "a", "image": "b"}]}"#, 422, "E8004", "input[0]"),
        row("modality", v1, r#"{"input": "a", "modality": "audio"}"#, 422, "E8004", "modality"),
        row(
            "format",
            v1,
            r#"{"input": "a", "encoding_format": "ubinary"}"#,
            422,
            "E8004",
            "base64",
        ),
        row("width", v1, r#"{"input": "a", "dimensions": 3}"#, 422, "E8004", "dimensions"),
        row(
            "many texts",
            v1,
            json!({ "input": vec!["a"; 2049] }).to_string(),
            422,
            "E8004",
            "2048",
        ),
        row(
            "many pictures",
            v1,
            json!({ "modality": "image", "input": vec!["AAAA"; 65] }).to_string(),
            422,
            "E8004",
            "64",
        ),
        row(
            "conversation",
            v1,
            r#"{"messages": [{"content": "a"}, {"content": "b"}]}"#,
            422,
            "E8004",
            "one text or one picture",
        ),
        row("base64", v1, r#"{"modality": "image", "input": "!!!"}"#, 400, "E8004", "base64"),
        row(
            "no labels",
            "/classify",
            json!({ "image": picture("key"), "labels": [] }).to_string(),
            422,
            "E8004",
            "labels",
        ),
        row(
            "unknown field",
            "/classify",
            json!({ "image": picture("key"), "labels": ["a"], "language": "zh" }).to_string(),
            422,
            "E8004",
            "the field language",
        ),
        row(
            "no place",
            "/classify",
            json!({ "image": picture("key"), "labels": ["a"], "templates": ["{}", "a photo of"] })
                .to_string(),
            422,
            "E8004",
            "«a photo of»",
        ),
        row(
            "no place for the task",
            "/classify",
            json!({
                "inputs": picture("key"),
                "parameters": { "candidate_labels": ["a"], "hypothesis_template": "a photo" },
            })
            .to_string(),
            422,
            "E8004",
            "hypothesis_template",
        ),
        row("immich", "/predict", "--X--", 422, "E8004", "entries"),
        row("immich's form", "/predict", "--Y--", 400, "E8001", "form"),
        row("no index", "/knn-service", r#"{"text": "a"}"#, 404, "E8005", "no index"),
        row("clip-retrieval", "/metadata", "{}", 404, "E8005", "no index"),
        row(
            "no sentences",
            "/similarity",
            r#"{"inputs": {"source_sentence": "a"}}"#,
            422,
            "E8004",
            "sentences",
        ),
        row(
            "SV12 http",
            v1,
            r#"{"modality": "image", "input": "http://169.254.169.254/x"}"#,
            422,
            "E8301",
            "not fetched",
        ),
        row(
            "SV12 file",
            v1,
            r#"{"input": [{"image": "file:///etc/passwd"}]}"#,
            422,
            "E8301",
            "not fetched",
        ),
        row(
            "TX5 whole",
            v1,
            json!({ "input": "apple ".repeat(90), "truncate": false }).to_string(),
            422,
            "E3104",
            "77",
        ),
        row("TX5 word", v1, r#"{"input": "a", "truncate": "no"}"#, 422, "E8004", "NONE or END"),
        row("TX5 start", v1, r#"{"input": "a", "truncate": "START"}"#, 422, "E8004", "truncate"),
        row("TX5 number", v1, r#"{"input": "a", "truncate": 0}"#, 422, "E8004", "true, false"),
        row(
            "TX5 none",
            v1,
            json!({ "input": "apple ".repeat(90), "truncate": "none" }).to_string(),
            422,
            "E3104",
            "77",
        ),
        row("TX6", v1, text("a".repeat(65_537)), 413, "E3105", "65536"),
        row("IM1 html", v1, image(b"<!doctype html><html>"), 422, "E4001", "HTML"),
        row("IM1 json", v1, image(b"{\"a\": 1}"), 422, "E4001", "JSON"),
        row("IM2 pdf", v1, image(b"%PDF-1.7\n%abc"), 415, "E4002", "PDF"),
        row("IM2 pnm", v1, image(b"P6 1 1 255 abc"), 415, "E4002", "by the server"),
        row("IM2 tiff", v1, image(b"II*\0\x08\0\0\0\0\0"), 415, "E4002", "by the server"),
        row("IM3", v1, image(&[0xff, 0xd8, 0xff, 0xe0, 0, 16]), 422, "E4003", "truncated"),
        row("IM6 bomb", v1, image(&png(13_300, 13_300)), 422, "E4006", "pixels"),
        row(
            "SV6",
            v1,
            json!({ "input": ["a", "b".repeat(70_000), "c", "d".repeat(70_000)] }).to_string(),
            422,
            "E8102",
            "items 1, 3",
        ),
    ]
}

/// Status, code, form and words of an answer.
fn judge(
    name: &str,
    path: &str,
    answer: &crate::client::Answer,
    status: u16,
    code: &str,
    says: &str,
) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{name}: {text}");
    let body = answer.json();
    let media = answer.header("content-type").unwrap();
    let found = if path.starts_with("/v1/") {
        assert_eq!(media, "application/json", "{name}");
        for field in ["message", "type", "param", "code"] {
            assert!(body["error"].get(field).is_some(), "{name}: {text}");
        }
        &body["error"]["code"]
    } else if ["/embed", "/similarity", "/info", "/health"].contains(&path) {
        assert!(body["error"].is_string() && body["error_type"].is_string(), "{name}: {text}");
        &body["code"]
    } else if ["/predict", "/ping"].contains(&path) {
        assert_eq!(media, "application/json", "{name}");
        assert!(body["detail"].is_string(), "{name}: {text}");
        &body["code"]
    } else if ["/knn-service", "/indices-list", "/metadata"].contains(&path) {
        assert_eq!(media, "application/json", "{name}");
        assert!(body["message"].is_string(), "{name}: {text}");
        &body["code"]
    } else {
        assert_eq!(media, "application/problem+json", "{name}");
        assert_eq!(body["status"], status, "{name}: {text}");
        for field in ["type", "title", "detail", "help"] {
            assert!(body[field].is_string(), "{name}: {text}");
        }
        &body["code"]
    };
    assert_eq!(found, code, "{name}: {text}");
    assert!(text.contains(says), "{name}: {text}");
    assert!(answer.header("x-request-id").is_some(), "{name}");
}

#[test]
fn each_row_of_the_contract_gives_its_status_and_code() {
    let server = Running::start(Setup::new(nano()));
    for Row { name, path, body, status, code, says } in rows() {
        let media = match path {
            "/predict" => "multipart/form-data; boundary=X",
            _ => "application/json",
        };
        let json = [("content-type", media)];
        let answer = request(server.address, "POST", path, &json, &body);
        judge(name, path, &answer, status, code, says);
    }
    // Nothing of it did harm.
    assert_eq!(server.post("/embed", &json!({ "inputs": "a" })).status, 200);
    assert_eq!(server.metric("altclip_worker_panics_total"), 0.0);
}

#[test]
fn bad_items_are_left_out_where_that_is_asked_for() {
    let server = Running::start(Setup::new(nano()));
    let input = json!([{ "text": "a" }, { "image": "PGh0bWw+" }, { "text": "c".repeat(70_000) }, { "text": "key" }]);
    let answer = server.post("/v1/embeddings", &json!({ "input": input, "on_error": "skip" }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let places = |list: &Value| -> Vec<u64> {
        list.as_array().unwrap().iter().map(|item| item["index"].as_u64().unwrap()).collect()
    };
    assert_eq!((places(&answer["data"]), places(&answer["errors"])), (vec![0, 3], vec![1, 2]));
    assert_eq!(answer["errors"][0]["code"], "E4001");
}

#[test]
fn an_item_that_cannot_be_read_is_as_bad_as_one_that_cannot_be_decoded() {
    let server = Running::start(Setup::new(nano()));
    let ask = |body: Value| server.post("/v1/embeddings", &body);
    let items = [
        (json!({ "text": "a" }), ""),
        (json!(7), "E8004"),
        (json!([1, 2]), "E8004"),
        (json!(null), "E8004"),
        (json!({ "text": 7 }), "E8004"),
        (json!({ "text": "a", "image": "b" }), "E8004"),
        (json!({ "image": "data:image/png;base64,!!!" }), "E8004"),
        (json!({ "image": "http://169.254.169.254/x" }), "E8301"),
        (json!({ "image": picture("key") }), ""),
        (json!({ "image": "file:///etc/passwd" }), "E8301"),
        (json!("key"), ""),
        (json!({}), "E8004"),
    ];
    let input: Vec<&Value> = items.iter().map(|(item, _)| item).collect();
    let answer = ask(json!({ "input": input, "on_error": "skip" }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let (mut rows, mut errors) =
        (answer["data"].as_array().unwrap().iter(), answer["errors"].as_array().unwrap().iter());
    for (place, (item, code)) in items.iter().enumerate() {
        let found = if code.is_empty() { rows.next() } else { errors.next() }.unwrap();
        assert_eq!(found["index"], place, "{item}");
        match *code {
            "" => {
                let alone = ask(json!({ "input": [item] })).json();
                assert_eq!(found["embedding"], alone["data"][0]["embedding"], "{item}");
            }
            code => {
                assert_eq!(found["code"], code, "{item}");
                assert!(found["message"].as_str().unwrap().contains(&format!("[{place}]")));
            }
        }
    }
    assert!(rows.next().is_none() && errors.next().is_none());
    // The same where nothing is left, and in the other forms.
    let uri = json!({ "type": "image_url", "image_url": { "url": "https://example.org/a.png" } });
    for body in [
        json!({ "input": [1, 2], "on_error": "skip" }),
        json!({ "input": 1, "on_error": "skip" }),
        json!({ "input": ["!!!", "ftp://x"], "modality": "image", "on_error": "skip" }),
        json!({ "messages": [{ "role": "user", "content": [uri] }], "on_error": "skip" }),
    ] {
        let answer = ask(body.clone());
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["data"], json!([]), "{body}");
        assert_eq!(answer["errors"][0]["index"], 0, "{body}");
    }
    // Nothing at all is no item, and without that wish an item fails its request.
    assert_eq!(ask(json!({ "input": [], "on_error": "skip" })).status, 422);
    let failed = ask(json!({ "input": ["a", 7] }));
    assert_eq!((failed.status, failed.json()["error"]["param"].clone()), (422, json!("input[1]")));
}

#[test]
fn a_request_names_one_host() {
    let server = Running::stub(Duration::ZERO);
    let ask = |head: &str| raw(&mut connect(server.address), head.as_bytes(), b"");
    let close = "connection: close\r\n\r\n";
    for (name, head) in [
        ("none", "GET /info HTTP/1.1\r\n".to_owned()),
        ("two", "GET /info HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n".into()),
        ("two others", "GET /info HTTP/1.1\r\nHost: localhost\r\nhOST: a.example\r\n".into()),
        ("one of two", "GET /info HTTP/1.0\r\nhost: localhost\r\nhost: localhost\r\n".into()),
        ("no host", "GET /info HTTP/1.1\r\nhost: a/b\r\n".into()),
        ("whole, none", format!("GET http://{}/info HTTP/1.1\r\n", server.address)),
    ] {
        let answer = ask(&(head + close));
        judge(name, "/info", &answer, 400, "E8006", "host");
        assert_eq!(answer.header("connection"), Some("close"), "{name}");
    }
    let own = server.address;
    for (head, status) in [
        ("GET /info HTTP/1.0\r\n".to_owned(), 200),
        ("GET /info HTTP/1.1\r\nHOST: localhost\r\n".into(), 200),
        // The whole address in the request line: it counts, the header does not.
        (format!("GET http://{own}/info?x=1 HTTP/1.1\r\nhost: {own}\r\n"), 200),
        (format!("GET http://{own}/info HTTP/1.1\r\nhost: evil.example\r\n"), 200),
        (format!("GET http://evil.example/info HTTP/1.1\r\nhost: {own}\r\n"), 403),
        (format!("GET http://{own} HTTP/1.1\r\nhost: {own}\r\n"), 200),
        (format!("GET http://{own}/nothing HTTP/1.1\r\nhost: {own}\r\n"), 404),
        (format!("OPTIONS * HTTP/1.1\r\nhost: {own}\r\n"), 404),
    ] {
        let answer = ask(&(head.clone() + close));
        assert_eq!(answer.status, status, "{head}: {}", answer.text());
    }
}

#[test]
fn methods_paths_and_media_types() {
    let server = Running::stub(Duration::ZERO);
    let ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        request(server.address, method, path, headers, body)
    };
    let json_media = ("content-type", "application/json");
    let get = ask("GET", "/embed", &[], b"");
    judge("method", "/embed", &get, 405, "E8005", "POST");
    assert_eq!(get.header("allow"), Some("POST"));
    judge("path", "/nothing", &ask("GET", "/nothing", &[], b""), 404, "E8005", "no such route");
    let model = ask("GET", "/v1/models/gpt-4", &[], b"");
    judge("model", "/v1/models/gpt-4", &model, 404, "E8005", "no such model");
    let root = ask("POST", "/", &[json_media], b"{}");
    assert_eq!((root.status, root.json()["code"].clone()), (422, json!("E8004")));
    assert!(root.json()["error_type"].is_string(), "{}", root.text());
    judge("path", "/v1/x", &ask("GET", "/v1/x", &[], b""), 404, "E8005", "no such route");
    let html = ask("POST", "/embed", &[json_media, ("accept", "text/html")], b"{}");
    judge("accept", "/embed", &html, 406, "E8005", "application/json");
    let text = ask("POST", "/embed", &[("content-type", "text/plain")], b"{}");
    judge("type", "/embed", &text, 415, "E8005", "application/json");
    let coded = ask("POST", "/embed", &[json_media, ("content-encoding", "gzip")], b"{}");
    judge("coding", "/embed", &coded, 415, "E8005", "Content-Encoding");
    let head = ask("HEAD", "/livez", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let rebound = ask("GET", "/info", &[], b"");
    assert_eq!(rebound.status, 200);
    let mut stream = connect(server.address);
    let head = b"GET /info HTTP/1.1\r\nhost: evil.example:80\r\nconnection: close\r\n\r\n";
    judge("host", "/info", &raw(&mut stream, head, b""), 403, "E8006", "localhost");
    for (line, code) in [
        ("origin: http://evil.example", 403),
        ("origin: null", 403),
        ("sec-fetch-site: cross-site", 403),
        ("origin: http://localhost", 200),
        ("sec-fetch-site: same-origin", 200),
        ("sec-fetch-mode: navigate\r\nsec-fetch-site: cross-site", 200),
    ] {
        let mut stream = connect(server.address);
        let head =
            format!("GET /info HTTP/1.1\r\nhost: localhost\r\n{line}\r\nconnection: close\r\n\r\n");
        let reply = raw(&mut stream, head.as_bytes(), b"");
        if code == 200 {
            assert_eq!(reply.status, 200, "{line}");
        } else {
            judge(line, "/info", &reply, code, "E8006", "another site");
        }
    }
}

#[test]
fn bodies_that_are_not_as_announced() {
    let limits = {
        let mut limits = Limits::default();
        limits.body_bytes = 1000;
        limits.body_time = Duration::from_millis(300);
        limits
    };
    let mut setup = Setup::new(Arc::new(StubEngine::new(4, Duration::ZERO)));
    setup.limits = limits;
    let server = Running::start(setup);
    let head = |rest: &str| format!("POST /embed HTTP/1.1\r\nhost: localhost\r\n{rest}\r\n\r\n");
    let ask =
        |rest: &str, body: &[u8]| raw(&mut connect(server.address), head(rest).as_bytes(), body);
    judge("long", "/embed", &ask("content-length: 1001", b""), 413, "E8002", "1000");
    let chunks = format!("400\r\n{}\r\n", "x".repeat(1024));
    judge(
        "chunks",
        "/embed",
        &ask("transfer-encoding: chunked", chunks.as_bytes()),
        413,
        "E8002",
        "1000",
    );
    judge("short", "/embed", &ask("content-length: 20", b"{"), 408, "E8002", "1 bytes");
    judge(
        "no end",
        "/embed",
        &ask("transfer-encoding: chunked", b"1\r\n{\r\n"),
        408,
        "E8002",
        "its end",
    );
    let bad = ask("transfer-encoding: chunked", b"zz\r\n");
    judge("no chunk", "/embed", &bad, 400, "E8002", "ends before its end");
    for answer in
        [ask("content-length: x", b""), ask("content-length: 1\r\ncontent-length: 2", b"")]
    {
        assert_eq!(answer.status, 400);
    }
    // What is behind a body is not taken as a part of it.
    let longer = ask("content-length: 15\r\nconnection: close", br#"{"inputs": "a"}surplus"#);
    assert_eq!(longer.status, 200);
    let large = format!("x-large: {}", "y".repeat(100_000));
    assert_eq!(ask(&large, b"").status, 431);
}

fn statuses(server: &Running, header: Option<&str>) -> Vec<(String, String, u16)> {
    let document = server.get_with("/openapi.json", "Bearer root").json();
    let mut found = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_ascii_uppercase();
            let path = path.replace("{id}", "1").replace("{path}", "none.js");
            let headers: Vec<(&str, &str)> =
                header.map(|key| ("authorization", key)).into_iter().collect();
            let status = request(server.address, &method, &path, &headers, b"").status;
            found.push((method, path, status));
        }
    }
    found
}

impl Running {
    fn get_with(&self, path: &str, key: &str) -> crate::client::Answer {
        request(self.address, "GET", path, &[("authorization", key)], b"")
    }
}

/// What is open: the page and its files, and whether the server lives and is ready.
const OPEN: [&str; 6] =
    ["/", "/assets/none.js", "/livez", "/health/live", "/readyz", "/health/ready"];

#[test]
fn every_route_asks_for_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    std::fs::write(&file, "embedder embed\nsearcher search\nwriter write\n").unwrap();
    let mut setup = Setup::new(Arc::new(StubEngine::new(4, Duration::ZERO)));
    setup.keys = KeySource { key: Some("root".into()), file: Some(file.clone()) };
    let server = Running::start(setup);
    // What text-embeddings-inference has at the page's address is no page.
    let is_open =
        |method: &str, path: &str| OPEN.contains(&path) && (method, path) != ("POST", "/");
    for header in [None, Some("Bearer wrong"), Some("root"), Some("Bearer")] {
        let found = statuses(&server, header);
        assert!(found.len() > 25, "{}", found.len());
        for (method, path, status) in found {
            let refused = status == 401;
            assert_eq!(refused, !is_open(&method, &path), "{header:?} {method} {path}: {status}");
        }
    }
    for (method, path, status) in statuses(&server, Some("Bearer root")) {
        assert!(status != 401 && status != 403, "{method} {path}: {status}");
    }
    let with = |key: &'static str, wanted: &'static str| {
        let found = statuses(&server, Some(key));
        found.into_iter().find(|(_, path, _)| path == wanted).unwrap().2
    };
    assert_eq!(with("Bearer searcher", "/embed"), 403);
    assert_ne!(with("Bearer embedder", "/embed"), 403);
    assert_eq!(with("Bearer embedder", "/search"), 403);
    assert_eq!(with("Bearer searcher", "/index/update"), 403);
    assert_eq!(with("Bearer writer", "/admin/reload"), 403);
    // Unknown and missing look alike.
    let body = |key: &str| server.get_with("/info", key).text();
    assert_eq!(body("Bearer nobody"), body(""));
    assert!(!body("Bearer secret-of-mine").contains("secret"));
    let in_query = request(server.address, "GET", "/info?api_key=root", &[], b"");
    judge("query", "/info", &in_query, 400, "E8003", "address");
    // Revoked without a restart; a bad file changes nothing.
    std::fs::write(&file, "embedder embed\n").unwrap();
    let reload = || {
        request(server.address, "POST", "/admin/reload", &[("authorization", "Bearer root")], b"")
    };
    assert_eq!(reload().json()["keys"], 2);
    assert_eq!(with("Bearer searcher", "/search"), 401);
    std::fs::write(&file, "embedder everything\n").unwrap();
    judge("SV11", "/admin/reload", &reload(), 409, "E8203", "scope");
    assert_ne!(with("Bearer embedder", "/embed"), 401);
}

#[test]
fn a_server_that_would_be_open_to_all_does_not_start() {
    let stub = || Setup::new(Arc::new(StubEngine::new(4, Duration::ZERO)));
    let code =
        |setup: Setup| Server::start(setup).err().map(|error: Error| error.report().code.as_str());
    let mut open = stub();
    open.host = "0.0.0.0".into();
    assert_eq!(code(open.clone()), Some("E8403"));
    open.insecure_no_auth = true;
    let server = Running::start(open.clone());
    open.port = server.address.port();
    assert_eq!(code(open), Some("E8401"));
    let mut bad = stub();
    bad.host = "192.0.2.1".into();
    bad.insecure_no_auth = true;
    assert_eq!(code(bad), Some("E8402"));
    // A key that others could guess is none; on this machine it is.
    let mut guessed = stub();
    guessed.host = "0.0.0.0".into();
    guessed.keys = KeySource { key: Some("k".repeat(31)), file: None };
    assert_eq!(code(guessed.clone()), Some("E8003"));
    guessed.keys.key = Some("k".repeat(32));
    drop(Running::start(guessed));
    let warned = Arc::new(AtomicBool::new(false));
    let mut local = stub();
    local.keys = KeySource { key: Some("k".repeat(31)), file: None };
    let of_log = Arc::clone(&warned);
    let note = move |line: &Value| {
        of_log.fetch_or(line["event"] == "short_key", Ordering::AcqRel);
    };
    local.log = Log::new(note);
    Running::start(local).end().unwrap();
    assert!(warned.load(Ordering::Acquire));
    let mut large = stub();
    large.limits.in_flight_bytes = 1 << 50;
    assert_eq!(code(large), Some("E8404"));
    let mut keys = stub();
    keys.keys = KeySource { key: None, file: Some("/nothing".into()) };
    assert_eq!(code(keys), Some("E8003"));
}
