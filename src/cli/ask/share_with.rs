//! The flag `--share-with`.

use crate::api::reference::SubjectKind;
use crate::api::request::ShareGrant;
use crate::cli::exit::Exit;

/// Reads `KIND:NAME:CLUSTERROLE`. A name may have colons in it.
///
/// # Errors
/// If it is not of that form.
pub fn parse(text: &str) -> anyhow::Result<ShareGrant> {
    let wrong =
        |why: &str| Exit::Usage.because(format!("--share-with {text}: {why}; write KIND:NAME:CLUSTERROLE, for example Group:qa-team:view"));
    let Some((kind, rest)) = text.split_once(':') else { return Err(wrong("there is no colon")) };
    let Some((name, cluster_role)) = rest.rsplit_once(':') else { return Err(wrong("there is only one colon")) };
    if name.is_empty() || cluster_role.is_empty() {
        return Err(wrong("a part is empty"));
    }
    let kind = match kind {
        "User" => SubjectKind::User,
        "Group" => SubjectKind::Group,
        "ServiceAccount" => SubjectKind::ServiceAccount,
        _ => return Err(wrong("the kind is User, Group or ServiceAccount")),
    };
    let (namespace, name) = match (kind, name.split_once('/')) {
        (SubjectKind::ServiceAccount, Some((namespace, name))) if !namespace.is_empty() && !name.is_empty() => {
            (Some(namespace.to_owned()), name)
        }
        (SubjectKind::ServiceAccount, _) => return Err(wrong("a ServiceAccount is named NAMESPACE/NAME")),
        _ => (None, name),
    };
    Ok(ShareGrant { kind, name: name.to_owned(), namespace, cluster_role: cluster_role.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_read_with_colons_in_their_names() {
        let user = parse("User:oidc:dana:edit").unwrap();
        assert_eq!((user.kind, user.name.as_str(), user.cluster_role.as_str()), (SubjectKind::User, "oidc:dana", "edit"));
        let account = parse("ServiceAccount:tools/bot:view").unwrap();
        assert_eq!((account.namespace.as_deref(), account.name.as_str()), (Some("tools"), "bot"));
        for wrong in
            ["", "Group", "Group:qa", "group:qa:view", "Group::view", "Group:qa:", "ServiceAccount:bot:view", "ServiceAccount:/bot:view"]
        {
            assert_eq!(Exit::of(&parse(wrong).unwrap_err()), Exit::Usage, "{wrong}");
        }
    }
}
