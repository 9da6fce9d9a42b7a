//! The pages say what is true: fields, their bounds, and the reasons of conditions.

use std::path::{Path, PathBuf};

use pilotage::api::{Phase, Reason, crd, words};
use serde_json::Value;

/// The page of each kind, by the file of its definition.
const PAGES: [(&str, &str); 6] = [
    ("artifacts.yaml", "artifact.md"),
    ("deploymentrequests.yaml", "deploymentrequest.md"),
    ("environments.yaml", "environment.md"),
    ("pipelines.yaml", "pipeline.md"),
    ("solutions.yaml", "solution.md"),
    ("stages.yaml", "stage.md"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// The words in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The schema of a field, by its path in a page: `sinks[].url`.
fn field<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |node, part| {
        let (name, items) = part.split_once('[').map_or((part, 0), |(name, rest)| (name, 1 + rest.matches('[').count()));
        (0..items).try_fold(node["properties"].get(name)?, |node, _| node.get("items"))
    })
}

/// The number at the beginning of a cell: `1,024 characters`, `the first 20`. Of `1 to 128 characters` the higher one.
fn number(cell: &str) -> Option<u64> {
    let cell = cell.trim_start_matches("the first ");
    let first: String = cell.chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    match cell[first.len()..].strip_prefix(" to ") {
        Some(rest) => number(rest),
        None => first.replace(',', "").parse().ok(),
    }
}

/// The rows of the tables of a section: the fields of each row, and its cells.
fn rows<'a>(page: &'a str, section: &str) -> Vec<(Vec<String>, Vec<&'a str>)> {
    let Some((_, rest)) = page.split_once(&format!("\n## {section}\n")) else { return Vec::new() };
    let end = if section == "Status" { "\n##" } else { "\n## " };
    let text = rest.split(end).next().unwrap_or_default();
    let row = |line: &'a str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let named = quoted(cells[0]);
        // `solutions[].version`, `digest`: the later fields are in the same object as the first.
        let before = named.first()?.rsplit_once('.').map(|(before, _)| before.to_owned());
        let full = |(at, name): (usize, &&str)| match &before {
            Some(before) if at > 0 && !name.contains('.') => format!("{before}.{name}"),
            _ => (*name).to_owned(),
        };
        Some((named.iter().enumerate().map(full).collect(), cells))
    };
    text.lines().filter(|line| line.starts_with("| `")).filter_map(row).collect()
}

#[test]
fn every_field_of_the_pages_exists_and_is_bounded_as_they_say() {
    let mut compared = 0;
    for (file, name) in PAGES {
        let (_, definition) = crd::all().into_iter().find(|(found, _)| *found == file).unwrap();
        let definition = serde_json::to_value(definition).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let text = page(name);
        for (section, part) in [("Spec", "spec"), ("Status", "status")] {
            for (fields, cells) in rows(&text, section) {
                for path in fields.iter().filter(|path| !path.starts_with("metadata.")) {
                    assert!(field(&schema[part], path).is_some(), "docs/{name} has {part}.{path}, and the definition has not");
                }
                let [only] = fields.as_slice() else { continue };
                let said = match part {
                    "spec" => number(cells.last().unwrap()),
                    _ => cells[1].split_once("at most ").and_then(|(_, rest)| number(rest)),
                };
                let found = field(&schema[part], only).map(|node| ["maxLength", "maxItems", "maxProperties"].map(|key| node[key].as_u64()));
                let Some(bound) = found.into_iter().flatten().flatten().next() else { continue };
                if let Some(said) = said {
                    assert_eq!(said, bound, "docs/{name} on {part}.{only}");
                    compared += 1;
                }
            }
            let known = schema[part]["properties"].as_object().unwrap();
            let missing: Vec<&String> = known.keys().filter(|key| !text.contains(&format!("`{key}"))).collect();
            assert!(missing.is_empty(), "docs/{name} says nothing of {part}: {missing:?}");
        }
    }
    assert!(compared > 50, "only {compared} bounds were compared");
}

/// All sources of the operator, by their path in `src`, without their tests.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let is_test = path.file_stem().is_some_and(|stem| ["tests", "scenario"].iter().any(|end| stem.to_string_lossy().ends_with(end)));
        if is_test {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(root().join("src")).unwrap().to_str().unwrap().to_owned();
            found.push((name, text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()));
        }
    }
}

/// Where a word that is also a reason or a phase comes from Kubernetes, or is the type of a condition.
const OTHER_WORDS: [(&str, &[&str]); 12] = [
    ("api/condition.rs", &["Ready", "Validated"]),
    ("api/request_status.rs", &["Accepted", "Validated", "Approved", "Shared", "Succeeded"]),
    ("api/pipeline.rs", &["Ready"]),
    ("api/solution.rs", &["Ready"]),
    ("api/stage.rs", &["Ready"]),
    ("cluster/errors.rs", &["NamespaceTerminating"]),
    ("cluster/kstatus.rs", &["Failed", "Pending", "Ready", "Succeeded"]),
    ("cluster/paused.rs", &["Failed"]),
    ("controllers/pipeline/mod.rs", &["Shared"]),
    ("deploy/health/consumers.rs", &["Pending"]),
    ("deploy/plan/usage.rs", &["Failed"]),
    ("policy/readiness.rs", &["Unknown"]),
];

#[test]
fn the_page_of_reasons_is_made_of_them() {
    assert!(page("reasons.md") == words::page(), "docs/reasons.md is not what src/api says: make reasons");
    for reason in Reason::ALL {
        assert!(!reason.meaning().is_empty() && !reason.meaning().contains('|') && !reason.remedy().contains('|'), "{reason}");
    }
}

#[test]
fn the_pages_name_no_reason_that_there_is_not() {
    let is_a_word = |word: &&str| word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphanumeric());
    let mut compared = 0;
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let mut in_table = false;
        for line in page(&name).lines() {
            in_table = line.starts_with("| Reason |") || (in_table && line.starts_with('|'));
            let first = line.split(" | ").next().unwrap_or_default();
            for word in quoted(first).into_iter().filter(is_a_word).filter(|_| in_table) {
                assert!(Reason::of(word).is_some(), "docs/{name} has the reason {word}, which there is not");
                compared += 1;
            }
        }
    }
    assert!(compared > 2 * Reason::ALL.len() - 100, "only {compared} reasons were compared");
}

#[test]
fn every_reason_and_phase_is_given_and_none_as_a_literal() {
    let mut code = Vec::new();
    sources(&root().join("src"), &mut code);
    code.retain(|(file, _)| !["api/reason.rs", "api/phase.rs"].contains(&file.as_str()));
    for (file, text) in &code {
        let known = OTHER_WORDS.iter().find(|(named, _)| named == file).map_or(&[][..], |(_, words)| words);
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for word in line.split('"').skip(1).step_by(2).filter(|word| !known.contains(word)) {
                assert!(Reason::of(word).is_none() && Phase::of(word).is_none(), "src/{file} has {word} as a literal: {}", line.trim());
            }
        }
    }
    let all: String = code.into_iter().map(|(_, text)| text).collect();
    let given = |word: &str| all.split(word).skip(1).any(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
    let silent: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).filter(|word| !given(&format!("Reason::{word}"))).collect();
    assert!(silent.is_empty(), "nothing gives these reasons: {silent:?}");
    let silent: Vec<&str> = Phase::ALL.iter().map(|phase| phase.as_str()).filter(|word| !given(&format!("Phase::{word}"))).collect();
    assert!(silent.is_empty(), "no request is ever in these phases: {silent:?}");
}
