//! The proof that attacks would succeed without the checks in the operator's code. The checks of `removals.yaml` are made removable in a
//! copy of the source tree, which is built once. Each attack is repeated on a control plane of its own, with an operator that lacks one of
//! the checks. The attack's test has to fail, and its output has to show what the attacker got. Run it with `make attacks-proof`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use futures::{StreamExt as _, stream};
use serde::Deserialize;

use crate::tokens::{Place, Sources, Wanted};

/// How many control planes run at once.
const SIDE_BY_SIDE: usize = 2;

/// A check, and the attack that it refuses.
#[derive(Deserialize)]
struct Removal {
    /// The attack's number, with a word if there are several.
    id: String,
    /// The test that tries it.
    test: String,
    /// How to make the check removable: `REMOVED` stands for the condition that it is removed.
    edits: Vec<Edit>,
    /// What the failing test says after the attack has succeeded.
    shows: String,
}

#[derive(Deserialize)]
struct Edit {
    /// The code that is replaced. It is found by its tokens, anywhere in `src`.
    find: String,
    /// The last segments of its module's path, if the code is in several modules.
    #[serde(rename = "in")]
    module: Option<String>,
    replace: String,
}

/// What is replaced by what, file by file.
type Edits = BTreeMap<PathBuf, Vec<(Place, String)>>;

#[tokio::test(flavor = "multi_thread")]
async fn without_the_operators_checks_the_attacks_succeed() {
    if std::env::var("PILOTAGE_PROOF").as_deref() != Ok("removals") {
        return;
    }
    let mut removals: Vec<Removal> = serde_saphyr::from_str(include_str!("removals.yaml")).unwrap();
    let only = std::env::var("PILOTAGE_PROOF_OF").unwrap_or_default();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = source.join("target/removals/tree");
    make_removable(source, &tree, &removals);
    let built = Built::from(&tree);
    removals.retain(|removal| only.is_empty() || only.split(',').any(|wanted| removal.id.starts_with(wanted)));
    let tried = stream::iter(removals.into_iter().map(|removal| {
        let built = built.clone();
        async move {
            tokio::task::spawn_blocking(move || {
                let output = built.run(&removal);
                (removal, output)
            })
            .await
            .unwrap()
        }
    }));
    let tried: Vec<_> = tried.buffer_unordered(SIDE_BY_SIDE).map(judge).collect().await;
    let wrong: Vec<&str> = tried.iter().filter_map(|t| t.as_ref().err().map(String::as_str)).collect();
    println!("removals: {} checks taken away, {} attacks succeeded", tried.len(), tried.len() - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_check_is_where_its_removal_looks_for_it() {
    let removals: Vec<Removal> = serde_saphyr::from_str(include_str!("removals.yaml")).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lost = edits(&removals, &sources(source)).err().unwrap_or_default();
    assert!(
        lost.is_empty(),
        "{}\n\nPut the check's code, as it is now, into `find` and `replace` of these entries of tests/attacks/removals.yaml. Where it stands \
         in several places, make `find` longer, or name its module with `in`. Where the check is gone, find out what refuses the attack now.",
        lost.join("\n")
    );
    let _ = patience(source);
    let ids: BTreeSet<&str> = removals.iter().map(|removal| removal.id.as_str()).collect();
    assert_eq!(ids.len(), removals.len(), "no two have one name");
}

#[test]
fn an_entry_that_finds_nothing_is_named() {
    let mut sources = Sources::default();
    sources.add(Path::new("src/a.rs"), "fn f() { g(1); g(2); h(); }".to_owned());
    let removal = |id: &str, find: &str| Removal {
        id: id.to_owned(),
        test: String::new(),
        edits: vec![Edit { find: find.to_owned(), module: None, replace: "REMOVED".to_owned() }],
        shows: String::new(),
    };
    let found = edits(&[removal("31", "h()"), removal("32", "g(2)")], &sources).unwrap();
    assert_eq!(
        edited("fn f() { g(1); g(2); h(); }", &found[Path::new("src/a.rs")]),
        "fn f() { g(1); crate::is_removed(\"32\"); crate::is_removed(\"31\"); }"
    );
    let lost = edits(&[removal("33", "i()"), removal("34", "g("), removal("35", "g(1)"), removal("36", "1")], &sources).unwrap_err();
    assert_eq!(
        lost,
        [
            "removal 33 looks for `i()`: it stands nowhere",
            "removal 34 looks for `g(`: it stands at src/a.rs:1 and src/a.rs:1",
            "removals 35 and 36 replace the same code at src/a.rs:1",
        ]
    );
}

/// The test must fail, because the attack has succeeded.
fn judge((removal, output): (Removal, Output)) -> Result<(), String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && text.contains(&removal.shows) {
        let said = text.lines().skip_while(|line| !line.contains("panicked at")).nth(1).unwrap_or_default();
        println!("proof: {}: {}", removal.id, said.chars().take(160).collect::<String>());
        return Ok(());
    }
    let said: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let end = said[said.len().saturating_sub(60)..].join("\n");
    let why = if output.status.success() { "was refused all the same" } else { "ended otherwise" };
    println!("no proof: {}: it {why}", removal.id);
    Err(format!("without its check attack {} {why}; wanted {:?}:\n{end}", removal.id, removal.shows))
}

/// Copies what is needed for the build, and makes the edits. Unchanged files keep their times, so that little is built again.
fn make_removable(source: &Path, tree: &Path, removals: &[Removal]) {
    let listed = Command::new("git").current_dir(source).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).output();
    let listed = String::from_utf8(listed.expect("git").stdout).unwrap();
    let mut edits = edits(removals, &sources(source)).unwrap_or_else(|lost| panic!("{}", lost.join("\n")));
    let (place, shorter) = patience(source);
    edits.entry(place.file.clone()).or_default().push((place, shorter));
    let listed: BTreeSet<&Path> = listed.split('\0').map(Path::new).filter(|path| source.join(path).is_file()).collect();
    for gone in files(tree).into_iter().filter(|file| !listed.contains(file.strip_prefix(tree).unwrap())) {
        fs::remove_file(gone).unwrap();
    }
    for path in listed {
        let text = fs::read(source.join(path)).unwrap();
        let text = match edits.get(path) {
            Some(edits) => edited(&String::from_utf8(text).unwrap(), edits).into_bytes(),
            None => text,
        };
        let text = if path == Path::new("src/lib.rs") { [text, IS_REMOVED.into()].concat() } else { text };
        let copy = tree.join(path);
        if fs::read(&copy).is_ok_and(|before| before == text) {
            continue;
        }
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(copy, text).unwrap();
    }
}

/// All files below a folder, if it exists.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Whether a check is removed, for `src/lib.rs` of the copy.
const IS_REMOVED: &str = r#"
/// Whether a check is removed.
pub fn is_removed(check: &str) -> bool {
    std::env::var("PILOTAGE_REMOVED").is_ok_and(|removed| removed == check)
}
"#;

fn sources(root: &Path) -> Sources {
    let mut sources = Sources::default();
    for path in files(&root.join("src")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        sources.add(path.strip_prefix(root).unwrap(), fs::read_to_string(&path).unwrap());
    }
    sources
}

/// In the copy, tests wait for refusals that never come. So they wait for a shorter time.
fn patience(root: &Path) -> (Place, String) {
    let path = Path::new("tests/world/mod.rs");
    let mut sources = Sources::default();
    sources.add(path, fs::read_to_string(root.join(path)).unwrap());
    let place = sources.find(Wanted { code: "PATIENCE: Duration = Duration::from_mins(1)", module: None });
    (place.unwrap_or_else(|error| panic!("PATIENCE: {error}")), "PATIENCE: Duration = Duration::from_secs(20)".to_owned())
}

/// Where each check is and what replaces it. Otherwise which checks were not found.
fn edits(removals: &[Removal], sources: &Sources) -> Result<Edits, Vec<String>> {
    let (mut edits, mut lost) = (Edits::new(), Vec::new());
    let mut taken: Vec<(&str, Place)> = Vec::new();
    for (removal, edit) in removals.iter().flat_map(|removal| removal.edits.iter().map(move |edit| (removal, edit))) {
        let place = match sources.find(Wanted { code: &edit.find, module: edit.module.as_deref() }) {
            Ok(place) => place,
            Err(error) => {
                let module = edit.module.as_ref().map(|module| format!(" in {module}")).unwrap_or_default();
                lost.push(format!("removal {} looks{module} for `{}`: {error}", removal.id, edit.find.trim()));
                continue;
            }
        };
        if let Some((other, _)) = taken.iter().find(|(_, other)| place.overlaps(other)) {
            lost.push(format!("removals {other} and {} replace the same code at {place}", removal.id));
        }
        taken.push((&removal.id, place.clone()));
        let condition = format!("crate::is_removed({:?})", removal.id);
        edits.entry(place.file.clone()).or_default().push((place, edit.replace.trim_end().replace("REMOVED", &condition)));
    }
    if lost.is_empty() { Ok(edits) } else { Err(lost) }
}

/// A file's text with its edits.
fn edited(text: &str, edits: &[(Place, String)]) -> String {
    let mut edits: Vec<_> = edits.iter().collect();
    edits.sort_by_key(|(place, _)| place.bytes.start);
    let mut text = text.to_owned();
    for (place, with) in edits.into_iter().rev() {
        text.replace_range(place.bytes.clone(), with);
    }
    text
}

/// What was built from the copy.
#[derive(Clone)]
struct Built {
    tests: PathBuf,
    programs: PathBuf,
}

impl Built {
    fn from(tree: &Path) -> Self {
        let target = tree.with_file_name("build");
        let cargo = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO"));
            command.current_dir(tree).args(args).arg("--target-dir").arg(&target);
            let output = command.stderr(std::process::Stdio::inherit()).output().unwrap();
            assert!(output.status.success(), "cargo {} fails", args.join(" "));
            String::from_utf8(output.stdout).unwrap()
        };
        cargo(&["build", "--bin", "pilotage-dev"]);
        let messages = cargo(&["test", "--test", "attacks", "--no-run", "--message-format=json-render-diagnostics"]);
        let tests = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find(|message| message["target"]["name"] == "attacks" && message["executable"].is_string())
            .expect("the test's program");
        Self { tests: tests["executable"].as_str().unwrap().into(), programs: target.join("debug") }
    }

    /// Runs the test of an attack without the check.
    fn run(&self, removal: &Removal) -> Output {
        let mut command = Command::new(self.programs.join("pilotage-dev"));
        command.arg("run").arg("--operator").arg(self.programs.join("pilotage")).arg("--").arg(&self.tests);
        command.args([removal.test.as_str(), "--exact", "--test-threads=1"]);
        // The control plane's programs are where they were built.
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        command.env("CARGO_TARGET_DIR", target).env("PILOTAGE_REMOVED", &removal.id);
        command.env("RUST_BACKTRACE", "0").env_remove("PILOTAGE_PROOF");
        command.output().unwrap()
    }
}
