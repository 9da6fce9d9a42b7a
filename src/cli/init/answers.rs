//! What a host is to be: from flags, and on a terminal from answers.

use anyhow::Context;
use clap::Args;

use crate::api::reference::{Subject, SubjectKind};
use crate::cli::exit::Exit;
use crate::cli::prompt;
use crate::identity::delegation::Delegation;
use crate::identity::grants;
use crate::policy::pipeline::MOST_STAGES;

#[derive(Args, Debug)]
pub(super) struct InitFlags {
    /// The namespace that becomes the host: it holds the configuration and the records.
    #[arg(long, value_name = "NAMESPACE")]
    pub(super) host: Option<String>,
    /// A development namespace; may be given several times.
    #[arg(long = "dev", value_name = "NAMESPACE", value_delimiter = ',')]
    pub(super) development: Vec<String>,
    /// The stages in order, each with its target namespace: qa=contoso-qa,prod=contoso-prod. At most 7.
    #[arg(long, value_name = "STAGE=NAMESPACE", value_delimiter = ',')]
    pub(super) stages: Vec<String>,
    /// The name of the pipeline.
    #[arg(long, default_value = "standard")]
    pub(super) pipeline: String,
    /// The service account of the host that deploys to all stages. Default: one for each stage, deploy-STAGE.
    #[arg(long, value_name = "SERVICE_ACCOUNT")]
    pub(super) delegate: Option<String>,
    /// Who develops and asks: a group, or user:NAME, or serviceaccount:NAMESPACE:NAME; may be given several times.
    #[arg(long, value_name = "SUBJECT")]
    pub(super) makers: Vec<String>,
    /// Who approves, in place of the delegates: the same forms. Without it each delegate approves, with a token of its own.
    #[arg(long, value_name = "SUBJECT")]
    pub(super) approvers: Vec<String>,
    /// A stage that approves by itself: its owner answers for it in advance; may be given several times.
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(super) automatic: Vec<String>,
    /// Who configures the host and owns its stages: the same forms. Default: you, as the cluster knows you.
    #[arg(long, value_name = "SUBJECT")]
    pub(super) administrators: Vec<String>,
    /// How the operator acts as delegates in that cluster: token where deploy/components/older-kubernetes is installed (Kubernetes 1.33 to
    /// 1.35). Default: as it is installed in the cluster; without a cluster, impersonation.
    #[arg(long, value_enum)]
    pub(super) delegation: Option<Delegation>,
    /// Leave out the Namespace objects of development and targets, as somebody else creates these.
    #[arg(long)]
    pub(super) without_namespaces: bool,
}

/// One stage and its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StageAnswer {
    pub(super) name: String,
    /// The namespace, and the name of its Environment.
    pub(super) target: String,
    pub(super) delegate: String,
    pub(super) is_automatic: bool,
}

/// All that the files are made of.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    pub(super) host: String,
    pub(super) development: Vec<String>,
    pub(super) stages: Vec<StageAnswer>,
    pub(super) pipeline: String,
    pub(super) makers: Vec<Subject>,
    pub(super) approvers: Vec<Subject>,
    pub(super) administrators: Vec<Subject>,
    pub(super) with_namespaces: bool,
    pub(super) delegation: Delegation,
}

impl InitFlags {
    /// Asks for what the flags leave open, if somebody is there to answer.
    pub(super) fn complete(&mut self) -> anyhow::Result<()> {
        if !prompt::is_possible() {
            return Ok(());
        }
        let list = |answer: &str| answer.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if self.host.is_none() {
            self.host = Some(prompt::ask("Namespace of the host, which holds configuration and records", "")?);
        }
        if self.development.is_empty() {
            self.development = list(&prompt::ask("Development namespaces, separated by commas", "")?);
        }
        if self.stages.is_empty() {
            self.stages = list(&prompt::ask("Stages in order, as STAGE=NAMESPACE, separated by commas", "")?);
            if self.makers.is_empty() {
                self.makers = list(&prompt::ask("Groups that ask for deployments", "")?);
            }
            if self.approvers.is_empty() {
                self.approvers = list(&prompt::ask("Groups that approve; empty: each stage's delegate", "")?);
            }
        }
        Ok(())
    }

    /// Checks everything, and says all that is wrong with it at once.
    pub(super) fn answers(&self, caller: Option<&str>) -> anyhow::Result<Answers> {
        let mut wrong = Vec::new();
        let host = self.host.clone().unwrap_or_default();
        if host.is_empty() {
            wrong.push("name the host: --host NAMESPACE".to_owned());
        }
        if self.development.is_empty() {
            wrong.push("name a development namespace: --dev NAMESPACE".to_owned());
        }
        let stages = self.stages(&mut wrong);
        for name in &self.automatic {
            if !stages.iter().any(|stage| stage.name == *name) {
                wrong.push(format!("--automatic {name}: there is no stage of this name"));
            }
        }
        let targets = stages.iter().map(|stage| &stage.target);
        let namespaces: Vec<&String> = [&host].into_iter().chain(&self.development).chain(targets).filter(|n| !n.is_empty()).collect();
        for (at, name) in namespaces.iter().enumerate() {
            if !is_label(name, 63) {
                wrong.push(format!("{name} is no name of a namespace: lower-case letters, digits and -, at most 63"));
            }
            if namespaces[..at].contains(name) {
                wrong.push(format!("{name} is named twice: host, development and each stage are namespaces of their own"));
            }
        }
        let named = [&self.pipeline].into_iter().chain(stages.iter().flat_map(|stage| [&stage.name, &stage.delegate]));
        wrong
            .extend(named.filter(|name| !is_label(name, 200)).map(|name| format!("{name:?} is no name: lower-case letters, digits and -")));
        let mut subjects = |flag: &str, given: &[String]| -> Vec<Subject> {
            let read = given.iter().map(|text| subject(text).map_err(|why| format!("{flag} {text}: {why}")));
            let (good, bad): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
            wrong.extend(bad.into_iter().filter_map(Result::err));
            good.into_iter().filter_map(Result::ok).collect()
        };
        let makers = subjects("--makers", &self.makers);
        let approvers = subjects("--approvers", &self.approvers);
        let mut administrators = subjects("--administrators", &self.administrators);
        if self.administrators.is_empty() {
            match caller {
                Some(caller) => administrators.push(grants::subject_of(caller)),
                None => {
                    wrong.push("say who configures the host: --administrators user:NAME (without a cluster it can't be you)".to_owned());
                }
            }
        }
        if !wrong.is_empty() {
            return Err(Exit::Usage.because(wrong.join("\n")));
        }
        let (development, pipeline) = (self.development.clone(), self.pipeline.clone());
        let with_namespaces = !self.without_namespaces;
        let delegation = self.delegation.unwrap_or_default();
        Ok(Answers { host, development, stages, pipeline, makers, approvers, administrators, with_namespaces, delegation })
    }

    fn stages(&self, wrong: &mut Vec<String>) -> Vec<StageAnswer> {
        if self.stages.is_empty() || self.stages.len() > MOST_STAGES {
            wrong.push(format!("a pipeline has 1 to {MOST_STAGES} stages: --stages STAGE=NAMESPACE,…"));
        }
        let mut stages: Vec<StageAnswer> = Vec::new();
        for text in &self.stages {
            let Some((name, target)) = text.split_once('=').filter(|(name, target)| !name.is_empty() && !target.is_empty()) else {
                wrong.push(format!("--stages {text}: write STAGE=NAMESPACE"));
                continue;
            };
            if stages.iter().any(|stage| stage.name == name) {
                wrong.push(format!("--stages {text}: name each stage once"));
            }
            let delegate = self.delegate.clone().unwrap_or_else(|| format!("deploy-{name}"));
            let is_automatic = self.automatic.iter().any(|automatic| automatic == name);
            stages.push(StageAnswer { name: name.to_owned(), target: target.to_owned(), delegate, is_automatic });
        }
        stages
    }
}

/// `NAME` or `group:NAME`, `user:NAME`, `serviceaccount:NAMESPACE:NAME`.
pub(in crate::cli) fn subject(text: &str) -> anyhow::Result<Subject> {
    let of = |kind, name: &str, namespace: Option<&str>| Subject { kind, name: name.to_owned(), namespace: namespace.map(str::to_owned) };
    let found = match text.split_once(':') {
        Some(("user", name)) => of(SubjectKind::User, name, None),
        Some(("group", name)) => of(SubjectKind::Group, name, None),
        Some(("serviceaccount", rest)) => {
            let (namespace, name) = rest.split_once(':').context("write serviceaccount:NAMESPACE:NAME")?;
            of(SubjectKind::ServiceAccount, name, Some(namespace))
        }
        _ => of(SubjectKind::Group, text, None),
    };
    if found.name.is_empty() || found.namespace.as_deref() == Some("") {
        anyhow::bail!("it has no name");
    }
    Ok(found)
}

fn is_label(name: &str, most: usize) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= most && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: InitFlags,
    }

    pub(in crate::cli::init) fn flags(line: &str) -> InitFlags {
        Line::parse_from(std::iter::once("init").chain(line.split_whitespace())).flags
    }

    #[test]
    fn flags_are_read_and_each_stage_gets_a_delegate_of_its_own() {
        let answers = flags("--host h --dev d --stages qa=q,prod=p --makers makers --approvers user:eve --automatic qa")
            .answers(Some("olga"))
            .unwrap();
        assert_eq!((answers.stages[0].delegate.as_str(), answers.stages[0].is_automatic), ("deploy-qa", true));
        assert_eq!((answers.stages[1].delegate.as_str(), answers.stages[1].is_automatic), ("deploy-prod", false));
        assert_eq!((answers.makers[0].kind, answers.approvers[0].kind), (SubjectKind::Group, SubjectKind::User));
        assert_eq!(answers.administrators[0].name, "olga");
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let said = flags("--dev h --stages qa,h=h,h=x,Big=Y --automatic none --makers user:").answers(None).unwrap_err().to_string();
        for part in [
            "--host NAMESPACE",
            "--stages qa: write",
            "name each stage once",
            "h is named twice",
            "Y is no name of a namespace",
            "\"Big\" is no name",
            "--automatic none: there is no stage",
            "--makers user:: it has no name",
            "--administrators user:NAME",
        ] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }

    #[test]
    fn a_subject_is_a_group_unless_it_says_otherwise() {
        let account = subject("serviceaccount:ci:bot").unwrap();
        assert_eq!((account.kind, account.name.as_str(), account.namespace.as_deref()), (SubjectKind::ServiceAccount, "bot", Some("ci")));
        assert_eq!(subject("oidc:makers").unwrap().name, "oidc:makers");
        assert!(subject("serviceaccount:bot").is_err());
    }
}
