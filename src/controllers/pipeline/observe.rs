//! What the check of a Pipeline reads: only the caches.

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::api::condition::find;
use crate::api::{Pipeline, Stage};
use crate::controllers::environment::validated;
use crate::policy::check::READY;
use crate::policy::pipeline::{Development, EnvironmentView, StageView, View};
use crate::runtime::stores::Stores;

/// The pipeline's environments and stages.
pub(crate) fn view(stores: &Stores, pipeline: &Pipeline, host: &str) -> View {
    let development = pipeline.spec.development_environments.iter().map(|name| Development {
        name: name.clone(),
        found: stores
            .environments
            .get(&ObjectRef::new(name).within(host))
            .map(|e| EnvironmentView { type_: e.spec.type_, validated: validated(&e) }),
    });
    let retention = pipeline.spec.retention.as_ref().map(|r| (r.schedule.clone(), r.time_zone.clone()));
    let mut view = View { development: development.collect(), retention, ..View::default() };
    for stage in stores.stages.state().iter().filter(|s| s.metadata.namespace.as_deref() == Some(host)) {
        if stage.spec.pipeline == pipeline.name_any() {
            view.stages.push(self::stage(stage));
        } else {
            view.foreign.insert(stage.name_any());
        }
    }
    view
}

fn stage(stage: &Stage) -> StageView {
    let conditions = stage.status.as_ref().map_or(&[][..], |s| &s.conditions);
    StageView {
        name: stage.name_any(),
        previous: stage.spec.previous_stage.clone(),
        target: stage.spec.target_environment.clone(),
        ready: crate::controllers::holds(find(conditions, READY)),
    }
}
