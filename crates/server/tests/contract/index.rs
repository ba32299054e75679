//! What an index adds: search as the command has it, following its folders, clip-retrieval's protocol.

use crate::client::{Running, nano, picture, picture_bytes};
use altclip_durable::RealFs;
use altclip_search::{Index, Plan, Settings};
use altclip_server::{Log, Setup};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

struct Indexed {
    _dir: tempfile::TempDir,
    pictures: PathBuf,
    index: PathBuf,
}

/// An index of the miniature's pictures.
fn indexed() -> Indexed {
    indexed_with(&[])
}

/// The same, with more files.
fn indexed_with(more: &[(&str, &[u8])]) -> Indexed {
    let dir = tempfile::tempdir().unwrap();
    let (pictures, index) = (dir.path().join("pictures"), dir.path().join("index"));
    std::fs::create_dir(&pictures).unwrap();
    for (name, bytes) in altclip_nano::PICTURES.iter().chain(more) {
        std::fs::write(pictures.join(name), bytes).unwrap();
    }
    let folder = altclip_nano::folder(&std::env::temp_dir().join("altclip-server-tests")).unwrap();
    let model = nano().model().unwrap();
    let settings = Settings::of(&folder, "nano", &model, "f32").unwrap();
    let settings = Settings { roots: vec![pictures.to_str().unwrap().into()], ..settings };
    let mut made = Index::create(Arc::new(RealFs), &index, settings).unwrap();
    let plan = Plan::new(&made, std::slice::from_ref(&pictures)).unwrap();
    let decode = altclip::image::DecodeOptions::default();
    let model = || Ok::<_, altclip_search::Error>(&*model);
    altclip_search::apply(&mut made, plan, &[], &decode, model, &mut |_, _| Ok(())).unwrap();
    Indexed { _dir: dir, pictures, index }
}

fn running(index: &Path) -> Running {
    let mut setup = Setup::new(nano());
    setup.index = Some(index.to_owned());
    Running::start(setup)
}

fn names(answer: &Value) -> Vec<String> {
    let list = answer.as_array().unwrap_or_else(|| answer["matches"].as_array().unwrap());
    let name = |item: &Value| {
        let path = item["path"].as_str().or(item["image_path"].as_str()).unwrap();
        Path::new(path).file_stem().unwrap().to_str().unwrap().to_owned()
    };
    list.iter().map(name).collect()
}

#[test]
fn search_finds_what_the_command_finds() {
    let indexed = indexed();
    let server = running(&indexed.index);
    for (query, expected) in
        [("red apple", "red apple"), ("狗脸", "dog face"), ("ракета", "rocket")]
    {
        let answer = server.post("/search", &json!({ "query": query, "top_k": 3 }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(names(&answer)[0], expected);
        assert_eq!(
            (&answer["query"], answer["matches"].as_array().unwrap().len()),
            (&json!(query), 3)
        );
        // Few pictures: nothing is known of their probability, and it is said why.
        assert!(answer["matches"][0]["p_match"].is_null() && answer["uncalibrated"].is_string());
        assert_eq!(answer["no_match"], false);
    }
    let by_picture =
        server.post("/search", &json!({ "image": picture("banana"), "top_k": 1 })).json();
    assert_eq!(names(&by_picture), ["banana"]);
    for (name, _) in altclip_nano::PICTURES {
        let body = json!({ "image": picture(name.trim_end_matches(".png")), "top_k": 1 });
        let score = server.post("/search", &body).json()["matches"][0]["score"].as_f64().unwrap();
        assert!((0.999..=1.0).contains(&score), "{name}: {score}");
    }
    let place = |query: &str| {
        let all = server.post("/search", &json!({ "query": query, "top_k": 24 })).json();
        names(&all).iter().position(|name| name == "banana").unwrap()
    };
    assert!(place("red apple + key - banana") > place("red apple + key"));
    let filtered =
        server.post("/search", &json!({ "query": "red apple", "filter": "path:s*.png" })).json();
    assert!(names(&filtered).iter().all(|name| name.starts_with('s')));
    let filter = json!({ "query": "red apple", "filter": { "path": ["k*"], "min_side": 1 } });
    assert_eq!(names(&server.post("/search", &filter).json()), ["key"]);
    for (body, status, code) in [
        (json!({}), 422, "E8004"),
        (json!({ "query": "a AND" }), 422, "E7006"),
        (json!({ "query": "a", "top_k": 0 }), 422, "E8004"),
        (json!({ "query": "a", "top_k": 1_000_000 }), 422, "E8004"),
        (json!({ "query": "a", "filter": { "since": "yesterday" } }), 422, "E7006"),
        (json!({ "image": "PGh0bWw+" }), 422, "E4001"),
    ] {
        let answer = server.post("/search", &body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{body}");
    }
    // Nothing that is asked for is passed over in silence.
    for (body, named) in [
        (json!({ "query": "a", "language": "zh" }), "language"),
        (json!({ "query": "a", "topk": 3 }), "topk"),
        (json!({ "query": "a", "filter": { "paths": ["k*"] } }), "filter.paths"),
        (json!({ "query": "a", "a\nb": 1 }), "«a\\nb»"),
    ] {
        let answer = server.post("/search", &body);
        assert_eq!(answer.status, 422, "{body}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(&format!("the field {named} ")), "{detail}");
    }
    for path in [
        "/index?x=1",
        "/index/pictures?limits=3",
        "/index/duplicates?treshold=1",
        "/picture/1?size=3",
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (422, Some("E8004")), "{path}");
    }
    // A text that was cut is named by its place.
    let long = "apple ".repeat(300);
    for (query, expected) in [
        (long.clone(), Some("0")),
        (format!("zebra + \"{long}\""), Some("1")),
        ("key".into(), None),
    ] {
        let answer = server.post("/search", &json!({ "query": query }));
        assert_eq!((answer.status, answer.header("x-truncated")), (200, expected), "{query}");
    }
    for (text, expected) in [(long.as_str(), Some("0")), ("key", None)] {
        let answer = server.post("/knn-service", &json!({ "text": text }));
        assert_eq!((answer.status, answer.header("x-truncated")), (200, expected));
    }
    let none = Running::start(Setup::new(nano()));
    assert_eq!(none.post("/search", &json!({ "query": "a" })).status, 404);
}

#[test]
fn the_index_follows_its_folders() {
    let indexed = indexed();
    let lines = Arc::new(Mutex::new(Vec::<Value>::new()));
    let mut setup = Setup::new(nano());
    setup.index = Some(indexed.index.clone());
    let of_log = Arc::clone(&lines);
    setup.log = Log::new(move |line| of_log.lock().unwrap().push(line.clone()));
    let server = Running::start(setup);
    let count = altclip_nano::PICTURES.len();
    let status = server.get("/index").json();
    assert_eq!((&status["images"], &status["updating"]), (&json!(count), &Value::Null));
    assert!(status["last_update"].is_null());
    std::fs::rename(indexed.pictures.join("key.png"), indexed.pictures.join("clef.png")).unwrap();
    std::fs::remove_file(indexed.pictures.join("sun.png")).unwrap();
    std::fs::write(indexed.pictures.join("broken.png"), b"no picture").unwrap();
    let begun = server.post("/index/update", &json!({}));
    assert_eq!(begun.status, 202, "{}", begun.text());
    let since = Instant::now();
    while !server.get("/index").json()["updating"].is_null() {
        assert!(since.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = server.get("/index").json();
    assert_eq!((&status["images"], &status["last_error"]), (&json!(count - 1), &Value::Null));
    // What it did is told, and in the log.
    let mut last = status["last_update"].clone();
    assert!(last["seconds"].take().is_number());
    let error = json!({ "file": "broken.png", "code": "E4001" });
    assert_eq!((&last["added"], &last["failed"]), (&json!(1), &json!(1)), "{last}");
    assert!(last["removed"].as_u64().unwrap() >= 1 && last["complete"] == true, "{last}");
    assert_eq!(last["errors"].as_array().unwrap().len(), 1);
    for field in ["file", "code"] {
        assert_eq!(last["errors"][0][field], error[field]);
    }
    let since = Instant::now();
    let logged = loop {
        let found = lines.lock().unwrap().iter().find(|l| l["event"] == "index_update").cloned();
        match found {
            Some(line) => break line,
            None => assert!(since.elapsed() < Duration::from_secs(5)),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!((&logged["added"], &logged["failed"]), (&json!(1), &json!(1)));
    assert!(!logged.to_string().contains(indexed.pictures.to_str().unwrap()));
    let found = server.post("/search", &json!({ "query": "key", "top_k": 1 })).json();
    assert_eq!(names(&found), ["clef"]);
    // Somebody else changes it: the next search sees it.
    std::fs::remove_file(indexed.pictures.join("rose.png")).unwrap();
    let mut other = Index::open_to_write(Arc::new(RealFs), &indexed.index).unwrap();
    let plan = Plan::new(&other, std::slice::from_ref(&indexed.pictures)).unwrap();
    let model = nano().model().unwrap();
    let decode = altclip::image::DecodeOptions::default();
    let model = || Ok::<_, altclip_search::Error>(&*model);
    altclip_search::apply(&mut other, plan, &[], &decode, model, &mut |_, _| Ok(())).unwrap();
    assert_eq!(server.get("/index").json()["images"], count - 2);
    let found = server.post("/search", &json!({ "query": "rose", "top_k": 100 })).json();
    assert!(!names(&found).contains(&"rose".to_owned()));
}

#[test]
fn pictures_are_served_by_number_alone() {
    let indexed = indexed();
    let server = running(&indexed.index);
    let found = server.post("/search", &json!({ "query": "red apple", "top_k": 1 })).json();
    let id = &found["matches"][0]["id"];
    let whole = server.get(&format!("/picture/{id}"));
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("image/png")));
    assert_eq!(whole.body, picture_bytes("red apple"));
    assert!(whole.header("content-security-policy").unwrap().contains("sandbox"));
    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    let small = server.get(&format!("/thumbnail/{id}?size=32"));
    assert_eq!(small.header("content-type"), Some("image/png"));
    assert_eq!(altclip_search::metadata::dimensions(&small.body), Some((32, 32)));
    for (path, status) in [
        ("/picture/999", 404),
        ("/picture/-1", 404),
        ("/picture/..%2f..%2fetc%2fpasswd", 404),
        ("/picture/../../etc/passwd", 404),
        ("/picture//etc/passwd", 404),
        ("/picture/x", 404),
        ("/thumbnail/1?size=100000", 422),
    ] {
        assert_eq!(server.get(path).status, status, "{path}");
    }
    // A file that became something else is not handed out.
    std::fs::write(indexed.pictures.join("red apple.png"), b"root:x:0:0").unwrap();
    let changed = server.get(&format!("/picture/{id}"));
    assert_eq!(changed.status, 422);
    assert!(
        !changed.text().contains("root") && !changed.text().contains("pictures"),
        "{}",
        changed.text()
    );
}

#[test]
fn clip_retrievals_protocol() {
    let indexed = indexed();
    std::fs::copy(indexed.pictures.join("key.png"), indexed.pictures.join("copy.png")).unwrap();
    let server = running(&indexed.index);
    // As clip_retrieval.clip_client.ClipClient sends it.
    let body = |field: &str, value: Value| {
        let mut body = json!({
            "text": null, "image": null, "image_url": null, "embedding_input": null,
            "deduplicate": true, "use_safety_model": true, "use_violence_detector": true,
            "indice_name": "index", "use_mclip": false, "aesthetic_score": 9,
            "aesthetic_weight": 0.5, "modality": "image", "num_images": 3,
        });
        body[field] = value;
        body
    };
    let found = server.post("/knn-service", &body("text", json!("红苹果")));
    assert_eq!(found.status, 200, "{}", found.text());
    let found = found.json();
    assert!(
        found[0]["similarity"].is_number()
            && found[0]["id"].is_number()
            && found[0]["url"].is_string()
    );
    let by_picture = server.post("/knn-service", &body("image", json!(picture("key")))).json();
    assert_eq!(names(&by_picture)[0], "key");
    let row = nano().model().unwrap().encode_text(&["red apple"]).unwrap();
    let twice: Vec<f32> = row.row(0).iter().map(|x| 2.0 * x).collect();
    let by_vector = server.post("/knn-service", &body("embedding_input", json!(twice))).json();
    assert_eq!(names(&by_vector)[0], "red apple");
    let short = server.post("/knn-service", &body("embedding_input", json!([1.0, 2.0])));
    assert_eq!(short.status, 422);
    let fetched = server.post("/knn-service", &body("image_url", json!("http://localhost/x.png")));
    assert_eq!((fetched.status, fetched.json()["code"].as_str()), (422, Some("E8301")));
    assert_eq!(server.get("/indices-list").json(), json!(["index"]));
    for (name, status) in [("", 200), ("index", 200), ("laion5B-L-14", 422)] {
        let answer = server.post("/knn-service", &{
            let mut body = body("text", json!("key"));
            body["indice_name"] = name.into();
            body
        });
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        let ids = json!({ "ids": [by_vector[0]["id"]], "indice_name": name });
        let metadata = server.post("/metadata", &ids);
        assert_eq!(metadata.status, status, "{name}");
        if status != 200 {
            // As flask-restful has it.
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let answer = answer.json();
            assert!(answer["message"].as_str().unwrap().contains("«laion5B-L-14»"), "{answer}");
            assert_eq!(answer["code"], "E8004");
        }
    }
    let ids = json!({ "ids": [by_vector[0]["id"]], "indice_name": null });
    let metadata = server.post("/metadata", &ids).json();
    assert!(metadata[0]["metadata"]["image_path"].as_str().unwrap().ends_with("red apple.png"));
}

#[test]
fn the_newest_pictures() {
    let indexed = indexed();
    let server = running(&indexed.index);
    let all = server.get("/index/pictures").json();
    let ids = |found: &Value| -> Vec<i64> {
        found["pictures"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(ids(&all).len(), altclip_nano::PICTURES.len());
    assert!(ids(&all).windows(2).all(|pair| pair[0] > pair[1]));
    let two = server.get("/index/pictures?limit=2").json();
    assert_eq!(ids(&two), ids(&all)[..2]);
    assert!(two["pictures"][0]["path"].as_str().unwrap().ends_with(".png"));
    assert_eq!(server.get("/index/pictures?limit=0").status, 422);
    assert_eq!(server.get("/index/pictures?limit=1001").status, 422);
}

#[test]
fn near_duplicates() {
    let indexed = indexed();
    let server = running(&indexed.index);
    assert_eq!(server.get("/index/duplicates?threshold=0.9999").json(), json!({ "groups": [] }));
    let all = server.get("/index/duplicates?threshold=-1").json();
    assert_eq!(all["groups"][0].as_array().unwrap().len(), altclip_nano::PICTURES.len());
    assert!(all["groups"][0][0]["id"].is_number() && all["groups"][0][0]["path"].is_string());
    assert_eq!(server.get("/index/duplicates?threshold=2").status, 422);
}

/// A TIFF of one colour, without compression: the smallest that is one.
fn tiff(side: u16) -> Vec<u8> {
    let pixels = vec![[200u8, 40, 40]; usize::from(side) * usize::from(side)].concat();
    let (bits, strip) = (8 + 2 + 10 * 12 + 4, 8 + 2 + 10 * 12 + 4 + 6);
    let mut tiff = b"II*\0\x08\0\0\0\x0a\0".to_vec();
    for (tag, kind, count, value) in [
        (256u16, 3u16, 1u32, u32::from(side)),
        (257, 3, 1, u32::from(side)),
        (258, 3, 3, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, strip),
        (277, 3, 1, 3),
        (278, 3, 1, u32::from(side)),
        (279, 4, 1, pixels.len() as u32),
        (284, 3, 1, 1),
    ] {
        tiff.extend(tag.to_le_bytes());
        tiff.extend(kind.to_le_bytes());
        tiff.extend(count.to_le_bytes());
        tiff.extend(value.to_le_bytes());
    }
    tiff.extend([0; 4]);
    tiff.extend([8, 0, 8, 0, 8, 0]);
    tiff.extend(pixels);
    tiff
}

/// Whatever the index takes can be looked at.
#[test]
fn pictures_that_browsers_do_not_know_have_thumbnails() {
    let pnm = [b"P6 64 48 255\n".to_vec(), vec![90; 64 * 48 * 3]].concat();
    let others =
        [("scan.tif", tiff(64), "image/tiff"), ("plot.ppm", pnm, "image/x-portable-anymap")];
    let files: Vec<(&str, &[u8])> =
        others.iter().map(|(name, bytes, _)| (*name, bytes.as_slice())).collect();
    let indexed = indexed_with(&files);
    let server = running(&indexed.index);
    let newest = server.get("/index/pictures?limit=100").json();
    for (name, bytes, media) in &others {
        let is_it = |one: &&Value| one["path"].as_str().unwrap().ends_with(name);
        let id = newest["pictures"].as_array().unwrap().iter().find(is_it).unwrap()["id"].clone();
        let small = server.get(&format!("/thumbnail/{id}?size=32"));
        assert_eq!(
            (small.status, small.header("content-type")),
            (200, Some("image/png")),
            "{name}"
        );
        assert_eq!(altclip_search::metadata::dimensions(&small.body).unwrap().0, 32);
        let whole = server.get(&format!("/picture/{id}"));
        assert_eq!((whole.status, whole.header("content-type")), (200, Some(*media)));
        assert_eq!(&whole.body, bytes);
        // A file that nothing here decodes is said to be one, and not to be gone.
        std::fs::write(indexed.pictures.join(name), b"%PDF-1.7\n%abc").unwrap();
        let other = server.get(&format!("/thumbnail/{id}"));
        assert_eq!(other.status, 415);
        assert!(other.text().contains("convert it"), "{}", other.text());
    }
}
