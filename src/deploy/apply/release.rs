//! Releases an adopted object that a version no longer has. The object belonged to somebody else before, so it is not deleted. The fields
//! that the solution alone set are removed.

use serde_json::{Value, json};

use crate::cluster::errors::{self, Cause};
use crate::cluster::object::{self, Key, Served};
use crate::cluster::retry::retrying;
use crate::deploy::apply::target::{Mode, Target};
use crate::deploy::plan::diff;
use crate::deploy::plan::findings::Obstacle;
use crate::deploy::plan::members::Set;
use crate::deploy::plan::planned::Release;

/// The manifest that is applied: it sets nothing.
pub(crate) fn nothing(key: &Key, served: &Served) -> Value {
    json!({"apiVersion": served.resource.api_version, "kind": key.kind, "metadata": {"name": key.name}})
}

/// What would become of the object, by dry run. `None` if it can't be released: it would be invalid without what the solution took over
/// from others, somebody else made it a member, or it is gone.
pub(crate) async fn rehearse(target: &Target, set: &Set, release: Release) -> Result<Option<Release>, Obstacle> {
    let Release { key, served, live, .. } = &release;
    let mut manifest = nothing(key, served);
    if let Some(uid) = object::metadata(live, "uid") {
        object::set_metadata(&mut manifest, "uid", uid);
    }
    let outcome = retrying(|| target.apply(served, &key.name, &manifest, false, Mode::DryRun)).await;
    match outcome {
        Ok(would_be) if set.owns(&would_be, served.is_namespaced) => Ok(None),
        Ok(would_be) => {
            let fields = diff::changed_fields(live, &would_be);
            Ok(Some(Release { fields, ..release }))
        }
        Err(error) if matches!(errors::classify(&error), Cause::Transient | Cause::Unauthorized) => {
            let rights = vec![target.right("patch", served)];
            Err(Obstacle::Call { error, rights })
        }
        Err(_) => Ok(None),
    }
}
