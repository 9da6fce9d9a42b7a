//! The operator.
fn main() -> anyhow::Result<()> {
    for (_, crd) in pilotage::api::crd::all() {
        print!("---\n{}", pilotage::api::crd::to_yaml(&crd)?);
    }
    Ok(())
}
