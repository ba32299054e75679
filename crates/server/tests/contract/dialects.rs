//! Each protocol in the shapes that its clients publish, with the miniature.

use crate::client::{Running, nano, picture, picture_bytes, request};
use altclip_server::Setup;
use base64::Engine as _;
use serde_json::{Value, json};

fn running() -> Running {
    Running::start(Setup::new(nano()))
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn rows_have_the_bits_of_the_library_however_they_are_asked_for() {
    let server = running();
    let model = nano().model().unwrap();
    let texts = ["red apple", "狗脸", "红色的苹果和一只猫"];
    let rows = model.encode_text(&texts).unwrap();
    let answer = server.post("/v1/embeddings", &json!({ "model": "x", "input": texts }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("nano")));
    for (place, row) in rows.rows().enumerate() {
        let item = &answer["data"][place];
        assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(place)));
        assert_eq!(bits(&floats(&item["embedding"])), bits(row), "{place}");
    }
    let tokens: usize =
        texts.iter().map(|text| model.tokenize(text).unwrap().input_ids.len()).sum();
    assert_eq!(answer["usage"], json!({ "prompt_tokens": tokens, "total_tokens": tokens }));

    let base64 = json!({ "input": texts[0], "encoding_format": "base64" });
    let answer = server.post("/v1/embeddings", &base64).json();
    let encoded = answer["data"][0]["embedding"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
    let row: Vec<f32> = bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
    assert_eq!(bits(&row), bits(rows.row(0)));

    let embed = server.post("/embed", &json!({ "inputs": texts })).json();
    assert_eq!(bits(&floats(&embed[1])), bits(rows.row(1)));
    let raw = server.post("/embed", &json!({ "inputs": texts[1], "normalize": false })).json();
    let features = model.text_features(&texts[1..2]).unwrap();
    assert_eq!(bits(&floats(&raw[0])), bits(features.row(0)));
}

#[test]
fn pictures_in_the_four_forms() {
    let server = running();
    let model = nano().model().unwrap();
    let options = altclip::image::DecodeOptions::default();
    let image = altclip::image::decode(picture_bytes("red apple"), &options).unwrap();
    let row = model.encode_image(&[image]).unwrap();
    let (plain, uri) =
        (picture("red apple"), format!("data:image/png;base64,{}", picture("red apple")));
    let url = json!({ "type": "image_url", "image_url": { "url": uri } });
    for body in [
        json!({ "model": "x", "modality": "image", "input": [uri] }),
        json!({ "model": "x", "modality": "image", "input": uri }),
        json!({ "input": [{ "image": plain }], "embedding_type": "float" }),
        json!({ "input": [{ "image": uri }], "embedding_type": ["float"], "normalized": true }),
        json!({ "messages": [{ "role": "user", "content": [url] }], "encoding_format": "float" }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "" }, url] }] }),
    ] {
        let answer = server.post("/v1/embeddings", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let found = floats(&answer.json()["data"][0]["embedding"]);
        assert_eq!(bits(&found), bits(row.row(0)));
    }
    // Texts and pictures in one request keep their places.
    let mixed =
        json!({ "input": [{ "text": "red apple" }, { "image": plain }, { "text": "key" }] });
    let answer = server.post("/v1/embeddings", &mixed).json();
    assert_eq!(bits(&floats(&answer["data"][1]["embedding"])), bits(row.row(0)));
    let texts = model.encode_text(&["red apple", "key"]).unwrap();
    assert_eq!(bits(&floats(&answer["data"][2]["embedding"])), bits(texts.row(1)));
}

#[test]
fn long_texts_say_that_they_were_cut() {
    let server = running();
    let long = "apple ".repeat(300);
    let answer = server.post("/v1/embeddings", &json!({ "input": ["key", long] })).json();
    assert!(answer["data"][0]["truncated"].is_null());
    assert_eq!(answer["data"][1]["truncated"], true);
    assert!(answer["data"][1]["tokens_total"].as_u64().unwrap() > 77);
    let by_word =
        server.post("/v1/embeddings", &json!({ "input": long, "truncate": "END" })).json();
    assert_eq!(by_word["data"][0]["truncated"], true);
    let embed = server.post("/embed", &json!({ "inputs": ["key", long] }));
    assert_eq!(embed.header("x-truncated"), Some("1"));
    // The same wherever the answer has no place for it; of labels, the label's place.
    let labels = json!({ "image": picture("key"), "labels": ["key", long, "sun"], "templates": ["{}", "a {}"] });
    let classified = server.post("/classify", &labels);
    assert_eq!((classified.status, classified.header("x-truncated")), (200, Some("1")));
    for (text, expected) in [(long.as_str(), Some("0")), ("key", None)] {
        let entries = br#"{"clip":{"textual":{"modelName":"x"}}}"#;
        let (media, body) = form(&[("entries", entries), ("text", text.as_bytes())]);
        let media = [("content-type", media.as_str())];
        let answer = request(server.address, "POST", "/predict", &media, &body);
        assert_eq!((answer.status, answer.header("x-truncated")), (200, expected));
    }
    let refused = server.post("/embed", &json!({ "inputs": long, "truncate": false }));
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["code"], "E3104");
}

#[test]
fn similarity_info_and_models() {
    let server = running();
    let body =
        json!({ "inputs": { "source_sentence": "red apple", "sentences": ["red apple", "key"] } });
    let cosines = floats(&server.post("/similarity", &body).json());
    assert!((cosines[0] - 1.0).abs() < 1e-5 && cosines[1] < cosines[0], "{cosines:?}");
    // A text is as near to itself as can be, and not nearer.
    for text in
        ["key", "狗脸", "rocket", "红色的苹果和一只猫", "a", "sun", "banana", "rose", "ракета"]
    {
        let body = json!({ "inputs": { "source_sentence": text, "sentences": [text, "key"] } });
        let cosines = floats(&server.post("/similarity", &body).json());
        assert!(cosines.iter().all(|x| (-1.0..=1.0).contains(x)), "{text}: {cosines:?}");
    }
    let info = server.get("/info").json();
    for (field, value) in [
        ("model_id", json!("nano")),
        ("model_dtype", json!("float32")),
        ("max_input_length", json!(77)),
        ("max_client_batch_size", json!(2048)),
        ("index", json!(false)),
    ] {
        assert_eq!(info[field], value, "{field}");
    }
    assert_eq!(server.get("/health").status, 200);
    let models = server.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "nano");
    for name in ["nano", "n%61no"] {
        let model = server.get(&format!("/v1/models/{name}"));
        assert_eq!((model.status, model.json()), (200, models["data"][0].clone()), "{name}");
    }
    // As text-embeddings-inference has it: the root is /embed for those who post.
    let body = json!({ "inputs": ["red apple"] });
    let (root, embed) = (server.post("/", &body), server.post("/embed", &body));
    assert_eq!((root.status, &root.body), (200, &embed.body));
    assert_eq!(server.get("/").header("content-type"), Some("text/html; charset=utf-8"));
}

#[test]
fn labels_in_both_forms() {
    let server = running();
    let labels = ["banana", "red apple", "key"];
    let ours = json!({ "image": picture("red apple"), "labels": labels });
    let answer = server.post("/classify", &ours);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.json()["labels"].as_array().unwrap().clone();
    assert_eq!(list[0]["label"], "red apple");
    let sum: f64 = list.iter().map(|cell| cell["score"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5);
    let task = json!({
        "inputs": picture("red apple"),
        "parameters": { "candidate_labels": labels, "hypothesis_template": "a photo of a {}" },
    });
    let answer = server.post("/classify", &task).json();
    assert_eq!(answer.as_array().unwrap().len(), 3);
    assert_eq!(answer[0]["label"], "red apple");
    // The library's own labels, with several templates.
    let templates = ["{}", "a picture of {}"];
    let body = json!({ "image": picture("key"), "labels": labels, "templates": templates });
    let answer = server.post("/classify", &body).json();
    let model = nano().model().unwrap();
    let options = altclip::image::DecodeOptions::default();
    let image = altclip::image::decode(picture_bytes("key"), &options).unwrap();
    let rows = altclip::Templates::new(templates.map(str::to_owned));
    let expected = model.zero_shot(&[image], &labels, &rows).unwrap();
    for cell in answer["labels"].as_array().unwrap() {
        let place = labels.iter().position(|label| cell["label"] == *label).unwrap();
        let score = cell["score"].as_f64().unwrap() as f32;
        assert_eq!(score.to_bits(), expected.row(0)[place].probability.to_bits());
    }
}

fn form(parts: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, bytes) in parts {
        let file = if *name == "image" { "; filename=\"blob\"" } else { "" };
        let head = format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend(head.bytes().chain(bytes.iter().copied()).chain(*b"\r\n"));
    }
    body.extend(b"--XX--\r\n");
    ("multipart/form-data; boundary=XX".into(), body)
}

#[test]
fn immichs_protocol() {
    let server = running();
    assert_eq!(server.get("/ping").text(), "pong");
    let predict = |parts: &[(&str, &[u8])]| {
        let (media, body) = form(parts);
        request(server.address, "POST", "/predict", &[("content-type", &media)], &body)
    };
    let textual =
        br#"{"clip":{"textual":{"modelName":"ViT-B-32__openai","options":{"language":"en"}}}}"#;
    let answer = predict(&[("entries", textual), ("text", b"red apple")]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    // A text that is a list: so it goes to the database.
    let row: Vec<f32> = serde_json::from_str(answer.json()["clip"].as_str().unwrap()).unwrap();
    let expected = nano().model().unwrap().encode_text(&["red apple"]).unwrap();
    assert_eq!(bits(&row), bits(expected.row(0)));
    let visual = br#"{"clip":{"visual":{"modelName":"ViT-B-32__openai","options":{}}}}"#;
    let answer = predict(&[("entries", visual), ("image", picture_bytes("key"))]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["imageWidth"].as_u64().unwrap() > 0);
    let faces = br#"{"facial-recognition":{"detection":{"modelName":"buffalo_l"}}}"#;
    let answer = predict(&[("entries", faces), ("image", picture_bytes("key"))]);
    assert_eq!(answer.status, 422);
    // As FastAPI has it.
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("clip"), "{}", answer.text());
    assert!(answer.json().get("title").is_none());
    assert_eq!(predict(&[("entries", visual)]).status, 422);
    let media = [("content-type", "multipart/form-data")];
    assert_eq!(request(server.address, "POST", "/predict", &media, b"x").status, 400);
}
