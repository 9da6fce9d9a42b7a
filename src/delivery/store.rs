//! placeholder
pub struct ArtifactStore;
impl ArtifactStore {
    pub fn new(_: kube::Client) -> Self {
        Self
    }
}
