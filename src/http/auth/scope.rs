//! What a caller may do.

use std::fmt;

/// One permission, as the `scope` claim names it (RFC 9068, section 2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// See workflows, runs, routes, schedules and refusals.
    RunsRead,
    /// Cancel, replay and resume runs.
    RunsWrite,
    /// Start workflows.
    WorkflowsTrigger,
    /// Answer approvals.
    Approvals,
    /// Everything, with what changes the gateway itself: pause, reload, backfill, audit.
    Admin,
}

impl Scope {
    /// All scopes, in the order of the docs.
    pub const ALL: [Self; 5] =
        [Self::RunsRead, Self::RunsWrite, Self::WorkflowsTrigger, Self::Approvals, Self::Admin];

    /// The word in a token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunsRead => "runs:read",
            Self::RunsWrite => "runs:write",
            Self::WorkflowsTrigger => "workflows:trigger",
            Self::Approvals => "approvals",
            Self::Admin => "admin",
        }
    }

    /// Reads the word in a token.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Reads a `scope` claim: words between spaces. Words that are not ours belong to other services and count for
    /// nothing here.
    pub fn parse(claim: &str) -> Self {
        claim.split(' ').filter_map(Scope::parse).collect()
    }

    /// Whether this permits what `scope` permits; `admin` permits everything.
    pub fn permits(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims() {
        let check = |claim: &str, permitted: &[Scope]| {
            let scopes = Scopes::parse(claim);
            let found: Vec<_> = Scope::ALL.into_iter().filter(|scope| scopes.permits(*scope)).collect();
            assert_eq!(found, permitted, "{claim:?}");
        };
        check("", &[]);
        check("runs:read", &[Scope::RunsRead]);
        check("openid  runs:write workflows:trigger", &[Scope::RunsWrite, Scope::WorkflowsTrigger]);
        check("RUNS:READ runs runs:read,runs:write\truns:read", &[]);
        check("admin", &Scope::ALL);
    }
}
