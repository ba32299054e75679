//! The description of the routes: OpenAPI 3.1, and the same as a page that needs no network.
//!
//! What a route is called, reads and gives comes from the table of routes; only its words and examples are
//! here. A test compares both.

use crate::dialect::Dialect;
use crate::keys::Scope;
use crate::routes::{self, Route, Takes};
use altclip_page::{Page, Table};
use serde_json::{Map, Value, json};

/// The words of a route.
pub(crate) struct Words {
    tag: &'static str,
    summary: &'static str,
    /// A body that it takes.
    example: Option<Value>,
    /// What it answers.
    answer: Option<Value>,
}

const PICTURE: &str = "data:image/png;base64,iVBORw0KGgo…";

/// The words of a route.
pub(crate) fn words(method: &str, path: &str) -> Option<Words> {
    let words = |tag, summary| Words { tag, summary, example: None, answer: None };
    Some(match path {
        "/" if method == "POST" => words("text-embeddings-inference", "As /embed")
            .takes(json!({ "inputs": ["一只猫"] }))
            .answers(json!([[0.1, -0.2]])),
        "/" => words("page", "The page for people"),
        "/assets/{*path}" => words("page", "A file of the page"),
        "/livez" | "/health/live" => words("health", "Whether the process is alive"),
        "/readyz" | "/health/ready" => {
            words("health", "Whether a forward succeeded within ten seconds, or does now")
        }
        "/metrics" => words("health", "Counters, gauges and histograms for Prometheus"),
        "/openapi.json" => words("about", "This description"),
        "/docs" => words("about", "This description as a page"),
        "/v1/limits" => words("about", "The limits in effect"),
        "/admin/reload" => {
            words("about", "Reads the keys and the index again; what is bad changes nothing")
                .answers(json!({ "keys": 2, "index": true }))
        }
        "/v1/models" => words("OpenAI", "The model that is served"),
        "/v1/models/{*id}" => words("OpenAI", "The model that is served, by its name"),
        "/v1/embeddings" => words(
            "OpenAI",
            "Vectors of texts and pictures. Also takes infinity's modality, Jina's lists of {text} and \
             {image}, and vLLM's messages",
        )
        .takes(json!({ "model": "altclip", "input": ["一只猫", "a dog"], "encoding_format": "float" }))
        .answers(json!({
            "object": "list",
            "data": [{ "object": "embedding", "index": 0, "embedding": [0.1, -0.2] }],
            "model": "altclip",
            "usage": { "prompt_tokens": 8, "total_tokens": 8 },
        })),
        "/info" => words("text-embeddings-inference", "What is served, and its limits"),
        "/health" => words("text-embeddings-inference", "As /readyz"),
        "/embed" => words("text-embeddings-inference", "Vectors of texts")
            .takes(json!({ "inputs": ["一只猫"], "normalize": true, "truncate": true }))
            .answers(json!([[0.1, -0.2]])),
        "/similarity" => words("text-embeddings-inference", "Cosines of texts")
            .takes(json!({ "inputs": { "source_sentence": "a cat", "sentences": ["一只猫", "a dog"] } }))
            .answers(json!([0.9, 0.4])),
        "/classify" => words(
            "labels",
            "Which label fits a picture. Also takes the form of Hugging Face's task: inputs and \
             parameters.candidate_labels",
        )
        .takes(json!({ "image": PICTURE, "labels": ["红色", "a cat"], "templates": ["a photo of a {}"] }))
        .answers(json!({ "labels": [{ "label": "a cat", "score": 0.98 }, { "label": "红色", "score": 0.02 }] })),
        "/search" => words("index", "Pictures that match words, a picture, or both; or that nothing does")
            .takes(json!({ "query": "红色 + car - \"traffic light\"", "top_k": 10, "filter": "path:*.jpg since:2024" }))
            .answers(json!({
                "query": "a cat", "no_match": false,
                "matches": [{ "id": 7, "path": "/pictures/cat.jpg", "score": 0.31, "p_match": 0.93 }],
            })),
        "/index" => words("index", "What the index holds, and how far an update is"),
        "/index/update" => words("index", "Looks through the folders of the index")
            .answers(json!({ "accepted": true, "status": "/index" })),
        "/index/pictures" => words("index", "The pictures that were added last: ?limit=24")
            .answers(json!({ "pictures": [{ "id": 1, "path": "/a.jpg" }] })),
        "/index/duplicates" => words("index", "Pictures that are nearly the same: ?threshold=0.97")
            .answers(json!({ "groups": [[{ "id": 1, "path": "/a.jpg" }, { "id": 2, "path": "/b.jpg" }]] })),
        "/thumbnail/{id}" => words("index", "A picture of the index, small: ?size=256"),
        "/picture/{id}" => words("index", "A picture of the index as it is"),
        "/knn-service" => words("clip-retrieval", "The pictures nearest to a text, picture or vector")
            .takes(json!({ "text": "a cat", "num_images": 10, "deduplicate": true }))
            .answers(json!([{ "id": 7, "url": "/picture/7", "image_path": "/pictures/cat.jpg",
                "caption": "", "similarity": 0.31 }])),
        "/indices-list" => words("clip-retrieval", "Names of indexes").answers(json!(["index"])),
        "/metadata" => words("clip-retrieval", "What is known of pictures")
            .takes(json!({ "ids": [7] }))
            .answers(json!([{ "id": 7, "metadata": { "image_path": "/pictures/cat.jpg" } }])),
        "/predict" => words(
            "immich",
            "A vector, from a form with entries ({\"clip\": {\"textual\": {…}}} or visual) and text or image",
        )
        .takes(json!({ "entries": "{\"clip\": {\"textual\": {\"modelName\": \"AltCLIP\"}}}", "text": "a cat" }))
        .answers(json!({ "clip": "[0.1,-0.2]" })),
        "/ping" => words("immich", "pong"),
        _ => return None,
    })
}

impl Words {
    fn takes(self, example: Value) -> Self {
        Self { example: Some(example), ..self }
    }

    fn answers(self, answer: Value) -> Self {
        Self { answer: Some(answer), ..self }
    }
}

/// Statuses of refusals that a route can give.
fn refusals(route: &Route) -> Vec<u16> {
    let mut statuses = vec![406, 500, 503, 504];
    if route.scope != Scope::Open {
        statuses.extend([400, 401, 403]);
    }
    if route.takes != Takes::Nothing {
        statuses.extend([400, 408, 413, 415, 422]);
    }
    if route.path.contains('{') || route.scope == Scope::Search {
        statuses.extend([404, 409, 422]);
    }
    if route.path == "/index/update" || route.path == "/admin/reload" {
        statuses.extend([404, 409]);
    }
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

/// The OpenAPI document.
pub(crate) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes::all() {
        let path = route.path.replace("{*", "{");
        let operations = paths.entry(path).or_insert_with(|| json!({}));
        operations[route.method.to_ascii_lowercase()] = operation(&route);
    }
    let text = json!({ "type": "string" });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "AltCLIP",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Pictures and sentences of many languages in one space.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "description": "RFC 9457",
                    "required": ["type", "title", "status", "detail", "code", "help"],
                    "properties": {
                        "type": text, "title": text, "status": { "type": "integer" }, "detail": text,
                        "code": text, "help": text,
                    },
                },
                "OpenAiError": {
                    "type": "object",
                    "required": ["error"],
                    "properties": { "error": {
                        "type": "object",
                        "required": ["message", "type", "param", "code"],
                        "properties": {
                            "message": text, "type": text, "code": text,
                            "param": { "type": ["string", "null"] },
                        },
                    } },
                },
                "TeiError": {
                    "type": "object",
                    "required": ["error", "error_type"],
                    "properties": { "error": text, "error_type": text },
                },
                "ImmichError": {
                    "type": "object",
                    "required": ["detail"],
                    "properties": { "detail": text, "code": text },
                },
                "ClipRetrievalError": {
                    "type": "object",
                    "required": ["message"],
                    "properties": { "message": text, "code": text },
                },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let words = words(route.method, route.path);
    let (tag, summary) = words.as_ref().map_or(("", ""), |words| (words.tag, words.summary));
    let good = if route.path == "/index/update" { "202" } else { "200" };
    let mut content = json!({ route.gives: {} });
    if let Some(answer) = words.as_ref().and_then(|words| words.answer.clone()) {
        content[route.gives]["example"] = answer;
    }
    let mut responses = Map::new();
    responses
        .insert(good.into(), json!({ "description": "what was asked for", "content": content }));
    let (media, schema) = match Dialect::of(route.method, route.path) {
        Dialect::OpenAi => ("application/json", "OpenAiError"),
        Dialect::Tei => ("application/json", "TeiError"),
        Dialect::Immich => ("application/json", "ImmichError"),
        Dialect::ClipRetrieval => ("application/json", "ClipRetrievalError"),
        Dialect::Own => ("application/problem+json", "Problem"),
    };
    let reference = format!("#/components/schemas/{schema}");
    for status in refusals(route) {
        let problem = json!({
            "description": "refused",
            "content": { media: { "schema": { "$ref": reference } } },
        });
        responses.insert(status.to_string(), problem);
    }
    let mut operation = json!({ "tags": [tag], "summary": summary, "responses": responses });
    if route.scope != Scope::Open {
        operation["security"] = json!([{ "key": [] }]);
    }
    let body_media = match route.takes {
        Takes::Nothing => None,
        Takes::Json => Some("application/json"),
        Takes::Form => Some("multipart/form-data"),
    };
    if let Some(media) = body_media {
        let example = words.and_then(|words| words.example);
        let content = json!({ media: { "schema": { "type": "object" }, "example": example } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    let parameters: Vec<Value> = ["id", "path"]
        .iter()
        .filter(|name| route.path.contains(&format!("{{{name}}}")) || route.path.contains(&format!("{{*{name}}}")))
        .map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        })
        .collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

/// The same for people.
pub(crate) fn page() -> String {
    let mut page = Page::new("AltCLIP: the server's routes");
    page.paragraph(
        "Where the server asks for a key, send the header Authorization: Bearer KEY. Each protocol has its \
         own form of errors; all of them name a code of docs/errors.md and what to do. A server that is full \
         answers 503 with Retry-After.",
    );
    let mut table = Table::new(["route", "for", "scope of the key"]);
    let routes = routes::all();
    for route in &routes {
        let tag = words(route.method, route.path).map_or("", |words| words.tag);
        let scope = format!("{:?}", route.scope).to_ascii_lowercase();
        table.row([format!("{} {}", route.method, route.path), tag.to_owned(), scope]);
    }
    page.add(&table);
    for route in &routes {
        let Some(words) = words(route.method, route.path) else { continue };
        page.section(&format!("{} {}", route.method, route.path)).paragraph(words.summary);
        if let Some(example) = words.example {
            page.note("takes").preformatted(&format!("{example:#}"));
        }
        if let Some(answer) = words.answer {
            page.note("answers").preformatted(&format!("{answer:#}"));
        }
    }
    page.html()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        for route in routes::all() {
            assert!(words(route.method, route.path).is_some(), "{}", route.path);
            let has_example = words(route.method, route.path).unwrap().example.is_some();
            assert_eq!(has_example, route.takes != Takes::Nothing, "{}", route.path);
        }
        assert!(words("GET", "/nothing").is_none());
    }

    #[test]
    fn the_document_holds_together() {
        let document = document();
        let text = document.to_string();
        for route in routes::all() {
            let path = route.path.replace("{*", "{");
            let operation = &document["paths"][path][route.method.to_ascii_lowercase()];
            assert!(operation["responses"].is_object(), "{}", route.path);
            let open = route.scope == Scope::Open;
            assert_eq!(operation["security"].is_null(), open, "{}", route.path);
        }
        for part in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
        assert!(page().contains("/v1/embeddings"));
    }
}
