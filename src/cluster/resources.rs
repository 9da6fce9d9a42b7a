//! Maps a kind, as manifests name it, to the resource that the target's cluster serves.

use std::future::Future;
use std::time::Instant;

use kube::core::ApiResource;

/// Resolves kinds against one cluster; implemented by discovery.
pub(crate) trait Resources: Send + Sync {
    /// The resource of `kind` in exactly this API version, and whether it is namespaced; `None` if the cluster does not serve it.
    ///
    /// # Errors
    /// If the cluster can't be asked.
    fn resource(&self, api_version: &str, kind: &str) -> impl Future<Output = Result<Option<(ApiResource, bool)>, kube::Error>> + Send;

    /// The same, but a missing kind is confirmed after `since`: its definition may have come with the previous deployment.
    ///
    /// # Errors
    /// If the cluster can't be asked.
    fn resource_since(
        &self,
        api_version: &str,
        kind: &str,
        since: Instant,
    ) -> impl Future<Output = Result<Option<(ApiResource, bool)>, kube::Error>> + Send {
        let _ = since;
        self.resource(api_version, kind)
    }

    /// The resource of `kind` in the version of `group` (empty for the core group) that the cluster prefers. The `ApplySet` standard
    /// records kinds without versions. So objects of an earlier version are found even after its API version is gone.
    ///
    /// # Errors
    /// If the cluster can't be asked.
    fn preferred(&self, group: &str, kind: &str) -> impl Future<Output = Result<Option<(ApiResource, bool)>, kube::Error>> + Send;
}
