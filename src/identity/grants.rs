//! The one home of printed rules: what is missing, as the Role and `RoleBinding` that grant it.

use std::fmt::Write as _;

use super::access::Right;
use crate::api::reference::{Subject, SubjectKind};

/// A Role and a `RoleBinding` as YAML that give `subject` the `rights` in `namespace`, ready for `kubectl apply -f -`.
/// Rights on the same group are put into one rule where verbs and names agree.
pub fn role_and_binding(name: &str, namespace: &str, subject: &Subject, rights: &[Right]) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: {name}, namespace: {namespace}}}\nrules:\n{}---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {name}, namespace: {namespace}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}\nsubjects:\n- {}\n",
        rules(rights),
        subject_line(subject),
    );
    text
}

/// The rules alone, one line each, for conditions.
pub fn rules(rights: &[Right]) -> String {
    let mut grouped: Vec<(String, Vec<String>, Vec<String>, Option<String>)> = Vec::new();
    for right in rights {
        let resource = right.subresource.as_ref().map_or_else(|| right.resource.clone(), |sub| format!("{}/{sub}", right.resource));
        match grouped
            .iter_mut()
            .find(|(group, resources, _, name)| *group == right.group && resources[0] == resource && *name == right.name)
        {
            Some((_, _, verbs, _)) => {
                if !verbs.contains(&right.verb) {
                    verbs.push(right.verb.clone());
                }
            }
            None => grouped.push((right.group.clone(), vec![resource], vec![right.verb.clone()], right.name.clone())),
        }
    }
    let mut merged: Vec<(String, Vec<String>, Vec<String>, Option<String>)> = Vec::new();
    for (group, resources, verbs, name) in grouped {
        match merged.iter_mut().find(|(g, _, v, n)| *g == group && *v == verbs && *n == name) {
            Some((_, existing, _, _)) => existing.extend(resources),
            None => merged.push((group, resources, verbs, name)),
        }
    }
    let mut text = String::new();
    for (group, resources, verbs, name) in merged {
        let names = name.map(|n| format!(", resourceNames: [\"{n}\"]")).unwrap_or_default();
        let verbs: Vec<String> = verbs.iter().map(|v| format!("\"{v}\"")).collect();
        let _ =
            writeln!(text, "- {{apiGroups: [\"{group}\"], resources: [{}]{names}, verbs: [{}]}}", resources.join(", "), verbs.join(", "));
    }
    text
}

fn subject_line(subject: &Subject) -> String {
    match (subject.kind, &subject.namespace) {
        (SubjectKind::ServiceAccount, Some(namespace)) => {
            format!("{{kind: ServiceAccount, name: {}, namespace: {namespace}}}", subject.name)
        }
        (SubjectKind::ServiceAccount, None) => format!("{{kind: ServiceAccount, name: {}}}", subject.name),
        (SubjectKind::User, _) => format!("{{kind: User, apiGroup: rbac.authorization.k8s.io, name: \"{}\"}}", subject.name),
        (SubjectKind::Group, _) => format!("{{kind: Group, apiGroup: rbac.authorization.k8s.io, name: \"{}\"}}", subject.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_with_the_same_verbs_are_one_rule() {
        let rights = [
            Right::on("patch", "apps", "deployments", "qa"),
            Right::on("get", "apps", "deployments", "qa"),
            Right::on("patch", "apps", "statefulsets", "qa"),
            Right::on("get", "apps", "statefulsets", "qa"),
            Right::on("patch", "", "services", "qa"),
        ];
        assert_eq!(
            rules(&rights),
            "- {apiGroups: [\"apps\"], resources: [deployments, statefulsets], verbs: [\"patch\", \"get\"]}\n- {apiGroups: [\"\"], resources: [services], verbs: [\"patch\"]}\n"
        );
    }
}
