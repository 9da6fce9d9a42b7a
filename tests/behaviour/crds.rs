//! The installed definitions are those of the code.

use std::collections::BTreeSet;
use std::path::Path;

use pilotage::api::crd;

#[test]
fn the_folder_crds_holds_what_the_code_generates_and_nothing_else() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut there: BTreeSet<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(there.remove("Kustomization"));
    let installed = std::fs::read_to_string(folder.join("Kustomization")).unwrap();
    for (file, definition) in crd::all() {
        assert!(installed.contains(&format!("- {file}\n")), "crds/Kustomization does not name {file}");
        assert!(there.remove(file), "crds/{file} is missing: run `make crds`");
        let stored = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(stored == crd::to_yaml(&definition).unwrap(), "crds/{file} is stale: run `make crds`");
    }
    assert!(there.is_empty(), "not generated from src/api: {there:?}");
}
