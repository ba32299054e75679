//! The rules of `docs/architecture.md` that a machine can judge.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The layer of each crate. An edge leads to a lower layer, never up or sideways.
const LAYERS: &[(&str, u32)] = &[
    ("altclip-report", 0),
    ("altclip-kernels", 1),
    ("altclip-checkpoint", 1),
    ("altclip-tokenizer", 1),
    ("altclip-image", 1),
    ("altclip-hub", 1),
    ("altclip-durable", 1),
    ("altclip-data", 1),
    ("altclip-page", 1),
    ("altclip-nano", 1),
    ("altclip-tensor", 2),
    ("altclip-models", 3),
    ("altclip", 4),
    ("altclip-eval", 5),
    ("altclip-train", 5),
    ("altclip-search", 5),
    ("altclip-server", 6),
    ("altclip-recipe-emoji", 6),
    ("altclip-cli", 7),
    ("altclip-python", 8),
    ("xtask", 8),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["altclip-kernels", "altclip-checkpoint"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Edges that break the rule, and crates without a layer.
fn violations(layers: &BTreeMap<&str, u32>, edges: &[(String, String)]) -> Vec<String> {
    let layer = |name: &str| layers.get(name).copied();
    let judge = |(from, to): &(String, String)| match (layer(from), layer(to)) {
        (Some(from_layer), Some(to_layer)) if to_layer < from_layer => None,
        (Some(_), Some(_)) => Some(format!("{from} must not depend on {to}")),
        _ => Some(format!("{from} or {to} has no layer")),
    };
    edges.iter().filter_map(judge).collect()
}

fn edges(packages: &[Value]) -> Vec<(String, String)> {
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let names: BTreeSet<String> = packages.iter().map(name).collect();
    let dependencies = |package: &Value| {
        let from = name(package);
        let list = package["dependencies"].as_array().unwrap().clone();
        // A test may look up; what is shipped may not.
        let list = list.into_iter().filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        list.map(move |to| (from.clone(), name(&to))).collect::<Vec<_>>()
    };
    packages.iter().flat_map(dependencies).filter(|(_, to)| names.contains(to)).collect()
}

#[test]
fn dependencies_point_down_only() {
    let layers: BTreeMap<&str, u32> = LAYERS.iter().copied().collect();
    let packages = packages();
    let found = edges(&packages);
    assert!(found.len() > 15, "only {} edges were found", found.len());
    assert_eq!(violations(&layers, &found), [""; 0]);
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        assert!(layers.contains_key(name), "{name} has no layer");
    }
    // The check can fail.
    let edge = |from: &str, to: &str| vec![(from.to_owned(), to.to_owned())];
    assert_eq!(violations(&layers, &edge("altclip-kernels", "altclip-tensor")).len(), 1);
    assert_eq!(violations(&layers, &edge("altclip-image", "altclip-hub")).len(), 1);
}

#[test]
fn the_map_names_every_crate() {
    let map = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for (name, _) in LAYERS {
        let short = name.strip_prefix("altclip-").unwrap_or(name);
        assert!(
            map.contains(&format!("`{short}`")),
            "docs/architecture.md does not name `{short}`"
        );
    }
}

#[test]
fn unsafe_is_forbidden_outside_its_places() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        if UNSAFE.contains(&name) {
            continue;
        }
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let src = manifest.parent().unwrap().join("src");
        let root = ["lib.rs", "main.rs"]
            .iter()
            .map(|file| src.join(file))
            .find(|file| file.exists())
            .unwrap();
        let text = std::fs::read_to_string(&root).unwrap();
        assert!(
            text.contains("#![forbid(unsafe_code)]"),
            "{} does not forbid unsafe code",
            root.display()
        );
    }
}

#[test]
fn the_changelog_begins_with_what_is_not_released() {
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let first = changelog.lines().find(|line| line.starts_with("## ")).unwrap();
    assert_eq!(first, "## Unreleased");
}

#[test]
fn every_code_is_documented() {
    let errors = std::fs::read_to_string(root().join("docs/errors.md")).unwrap();
    for code in altclip_report::CODES {
        let row = format!("| {code} | {} | {} |", code.exit_status(), code.meaning());
        assert!(errors.contains(&row), "docs/errors.md lacks the row: {row}");
    }
}
