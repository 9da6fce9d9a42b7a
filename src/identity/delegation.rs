//! How the operator acts as delegates in its own cluster. It is told at its start; nothing changes it later, and nothing is chosen by
//! itself: what one way can't do is refused, and not done the other way.

use clap::ValueEnum;

/// The first minor version of Kubernetes 1 that has constrained impersonation and mutating admission policies.
pub(crate) const IMPERSONATION_SINCE: u32 = 36;
/// The first that Pilotage works on at all: it binds tokens to nodes, and tells in admission what a token is bound to.
pub(crate) const TOKENS_SINCE: u32 = 33;

/// What is installed for clusters without constrained impersonation.
pub(crate) const COMPONENT: &str = "deploy/components/older-kubernetes";

/// The way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum Delegation {
    /// Constrained impersonation: Kubernetes 1.36 and newer.
    #[default]
    Impersonation,
    /// A short-lived token of the delegate, which the API server lends the operator: Kubernetes 1.33 to 1.35.
    #[value(name = "token")]
    LentToken,
}

/// The version of an API server, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// For example `v1.36.3`.
    pub(crate) version: String,
    minor: u32,
}

/// What comes of a way on a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fits {
    /// It is the way for that version.
    Well,
    /// It works, but the other way would keep the operator within narrower limits.
    Weaker,
    /// It can't work: nothing is deployed.
    Not,
}

impl Served {
    /// From what an API server tells about itself. A version that can't be read counts as too old.
    pub(crate) fn of(major: &str, minor: &str, full: &str) -> Self {
        let number = minor.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or_default();
        Self { version: full.to_owned(), minor: if major == "1" { number } else { 0 } }
    }

    /// Whether it has constrained impersonation and mutating policies, unless somebody turned them off.
    pub(crate) fn impersonates(&self) -> bool {
        self.minor >= IMPERSONATION_SINCE
    }

    /// Whether the way can be gone on it.
    pub(crate) fn fits(&self, delegation: Delegation) -> Fits {
        match delegation {
            Delegation::Impersonation if self.impersonates() => Fits::Well,
            Delegation::LentToken if self.impersonates() => Fits::Weaker,
            Delegation::LentToken if self.minor >= TOKENS_SINCE => Fits::Well,
            Delegation::Impersonation | Delegation::LentToken => Fits::Not,
        }
    }

    /// One line: which of the two a cluster is, which way is gone, and what to do if the two don't fit.
    pub(crate) fn told(&self, delegation: Delegation) -> String {
        let version = &self.version;
        match (delegation, self.fits(delegation)) {
            (Delegation::Impersonation, Fits::Well) => {
                format!("Kubernetes {version}: the operator acts as delegates by constrained impersonation")
            }
            (Delegation::LentToken, Fits::Well) => format!(
                "Kubernetes {version}, without constrained impersonation: the operator acts as delegates with tokens that it is lent ({COMPONENT})"
            ),
            (Delegation::LentToken, Fits::Weaker) => format!(
                "Kubernetes {version} has constrained impersonation, and the operator acts as delegates with lent tokens all the same: leave {COMPONENT} out, and grant impersonate:serviceaccount in the hosts"
            ),
            _ if self.minor >= TOKENS_SINCE => format!(
                "Kubernetes {version} has no constrained impersonation and no mutating admission policies, so that nothing is deployed: install with {COMPONENT}, and read docs/security.md about what is weaker"
            ),
            _ => format!("Kubernetes {version} is too old: Pilotage needs 1.{TOKENS_SINCE} or newer, so that nothing is deployed"),
        }
    }
}

impl Delegation {
    /// What the operator is kept from less than on a newer version, one line each. Empty if nothing is weaker.
    pub(crate) fn weaker(self) -> &'static [&'static str] {
        match self {
            Self::Impersonation => &[],
            Self::LentToken => &[
                "reads as a delegate are limited by the delegate's rights alone: whoever has the operator's token can read what the delegates can",
                "a lent token stays valid until it ends, at most an hour, also when the right to ask for it is taken away",
                "nobody is acted as but ServiceAccounts: stages that deploy as their owner or as each requester are not ready",
                "nothing is filled in: requests name their requester, stages their owner, and decisions who decides on which plan",
            ],
        }
    }

    /// How policies that were changed or deleted are restored.
    pub(crate) fn restores(self) -> &'static str {
        match self {
            Self::Impersonation => {
                "kubectl apply --server-side --force-conflicts -f deploy/admission/, then kubectl replace -f deploy/admission/"
            }
            Self::LentToken => {
                "kubectl apply --server-side --force-conflicts -k and then kubectl replace -k, with the overlay that was installed (docs/install.md)"
            }
        }
    }

    /// What a Stage that is ready adds to its message. Empty if nothing is weaker.
    pub(crate) fn noted(self) -> &'static str {
        match self {
            Self::Impersonation => "",
            Self::LentToken => {
                ", with a token that the operator is lent, as this cluster has no constrained impersonation: what that is weaker in is said in docs/security.md#kubernetes-versions"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_for_one_of_the_two_ways() {
        let fits = |minor: &str, delegation| Served::of("1", minor, "v1").fits(delegation);
        for (minor, impersonation, token) in [
            ("32", Fits::Not, Fits::Not),
            ("33", Fits::Not, Fits::Well),
            ("35+", Fits::Not, Fits::Well),
            ("36", Fits::Well, Fits::Weaker),
            ("40+", Fits::Well, Fits::Weaker),
            ("", Fits::Not, Fits::Not),
        ] {
            assert_eq!((fits(minor, Delegation::Impersonation), fits(minor, Delegation::LentToken)), (impersonation, token), "{minor}");
        }
        assert_eq!(Served::of("2", "40", "v2.40.0").fits(Delegation::Impersonation), Fits::Not);
    }

    #[test]
    fn an_older_cluster_is_told_of_the_component() {
        let told = Served::of("1", "34", "v1.34.4").told(Delegation::Impersonation);
        assert!(told.contains("v1.34.4") && told.contains(COMPONENT) && told.contains("nothing is deployed"), "{told}");
        assert!(Served::of("1", "32", "v1.32.0").told(Delegation::LentToken).contains("too old"));
        assert!(Served::of("1", "37", "v1.37.0").told(Delegation::LentToken).contains("leave"));
    }
}
