//! What the pages promise is what there is: fields, their bounds, and the reasons of conditions.

use std::path::{Path, PathBuf};

use pilotage::api::crd;
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
/// Reasons of what can't be seen by who reads these pages: a state that passes within one call, and what other words say better.
const UNTOLD: [&str; 3] = ["GateOpened", "KindNotFound", "NothingToPlan"];

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

/// The number that a cell begins with: `1,024 characters`, `the first 20`; of `1 to 128 characters` the higher one.
fn number(cell: &str) -> Option<u64> {
    let cell = cell.trim_start_matches("the first ");
    let first: String = cell.chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    match cell[first.len()..].strip_prefix(" to ") {
        Some(rest) => number(rest),
        None => first.replace(',', "").parse().ok(),
    }
}

/// The rows of the tables of a section: the fields that each is about, and its cells.
fn rows<'a>(page: &'a str, section: &str) -> Vec<(Vec<String>, Vec<&'a str>)> {
    let Some((_, rest)) = page.split_once(&format!("\n## {section}\n")) else { return Vec::new() };
    let end = if section == "Status" { "\n##" } else { "\n## " };
    let text = rest.split(end).next().unwrap_or_default();
    let row = |line: &'a str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let named = quoted(cells[0]);
        // `solutions[].version`, `digest`: the later ones are beside the first.
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

/// All sources of the operator, but for their tests.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let is_test = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
        if is_test {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned());
        }
    }
}

fn is_a_reason(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric())
        && word.chars().any(|c| c.is_ascii_lowercase())
}

/// The reasons that the code gives: the first word of what refuses and waits, and every `reason`.
fn given(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for call in ["edit(", "watched(", "polled(", "refuse(", "gone_or_awaited(", "wait(", "Ending::step(", "reason: "] {
        for (_, rest) in source.match_indices(call).map(|(at, _)| source[at..].split_at(call.len())) {
            // The first text of the call, if it comes before anything else that is long.
            let Some((before, after)) = rest.split_once('"').filter(|(before, _)| before.len() < 80 && !before.contains([';', '{', ')']))
            else {
                continue;
            };
            if call == "reason: " && !before.is_empty() {
                continue;
            }
            found.extend(after.split_once('"').map(|(word, _)| word.to_owned()).filter(|word| is_a_reason(word)));
        }
    }
    found
}

#[test]
fn every_reason_of_the_pages_is_given_and_every_reason_that_is_given_is_on_a_page() {
    let mut code = Vec::new();
    sources(&root().join("src"), &mut code);
    let code = code.join("\n");
    let pages: Vec<(String, String)> = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| (name.clone(), page(&name)))
        .collect();
    for (name, text) in &pages {
        let mut in_table = false;
        for line in text.lines() {
            in_table = line.starts_with("| Reason |") || (in_table && line.starts_with('|'));
            let first = line.split(" | ").next().unwrap_or_default();
            for reason in quoted(first).into_iter().filter(|word| in_table && is_a_reason(word)) {
                assert!(code.contains(&format!("\"{reason}\"")), "docs/{name} has the reason {reason}, which nothing gives");
            }
        }
    }
    let all: String = pages.into_iter().map(|(_, text)| text).collect();
    let mut silent: Vec<String> =
        given(&code).into_iter().filter(|reason| !all.contains(reason.as_str()) && !UNTOLD.contains(&reason.as_str())).collect();
    silent.sort_unstable();
    silent.dedup();
    assert!(silent.is_empty(), "on no page: {silent:?}");
}
