//! Who calls, and what they may do. Doors find out who it is; here it is only asked.

use std::fmt;

use super::Error;

/// One right, as it stands in the `scope` claim of a token (RFC 9068 section 2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// See runs, routes, schedules, workflows and refusals.
    RunsRead,
    /// Cancel, replay and resume runs; pause and backfill.
    RunsWrite,
    /// Start workflows.
    WorkflowsTrigger,
    /// Decide approvals.
    Approvals,
    /// All of it, and reload and the audit.
    Admin,
}

impl Scope {
    /// All scopes, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::RunsRead, Self::RunsWrite, Self::WorkflowsTrigger, Self::Approvals, Self::Admin];

    /// The word in the claim.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunsRead => "runs:read",
            Self::RunsWrite => "runs:write",
            Self::WorkflowsTrigger => "workflows:trigger",
            Self::Approvals => "approvals",
            Self::Admin => "admin",
        }
    }

    /// Reads one word of the claim.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rights of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Every right.
    pub fn all() -> Self {
        Self(Scope::ALL.to_vec())
    }

    /// Reads a `scope` claim: words between spaces. Words that are not ours are passed over, as RFC 6749 section 3.3
    /// lets other servers have their own.
    pub fn parse(claim: &str) -> Self {
        Self(claim.split(' ').filter_map(Scope::parse).collect())
    }

    /// Whether `scope` is among them; `admin` holds all.
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&scope) || self.0.contains(&Scope::Admin)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's subject, the user's name, or `local`.
    pub name: String,
    pub scopes: Scopes,
    /// The address it came from, for the audit.
    pub remote: String,
}

impl Caller {
    /// The person at this machine, who may do everything.
    pub fn local() -> Self {
        Self { name: "local".to_owned(), scopes: Scopes::all(), remote: "local".to_owned() }
    }

    /// Nothing when the caller has the right, otherwise why not.
    pub fn require(&self, scope: Scope) -> Result<(), Error> {
        if self.scopes.allow(scope) { Ok(()) } else { Err(Error::Forbidden { caller: self.name.clone(), scope }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words() {
        let scopes = Scopes::parse("runs:read  openid workflows:trigger");
        assert!(scopes.allow(Scope::RunsRead) && scopes.allow(Scope::WorkflowsTrigger));
        assert!(!scopes.allow(Scope::RunsWrite) && !scopes.allow(Scope::Admin));
        assert!(Scopes::parse("admin").allow(Scope::RunsWrite));
        assert!(!Scopes::parse("Admin").allow(Scope::RunsWrite));
    }
}
