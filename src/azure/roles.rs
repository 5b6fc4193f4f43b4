//! Role assignments as people make them: the command line that lets our identity do something.

use super::Identity;

/// The command that gives `identity` the role of this name on `scope`: the id of a resource, or a command in
/// `$(…)` that prints it.
pub fn assignment(identity: &Identity, role: &str, scope: &str) -> String {
    let to = match identity {
        Identity::Managed { client_id: None } => {
            "--assignee-principal-type ServicePrincipal --assignee-object-id \"$(az vm identity show --resource-group \
             GROUP --name VM --query principalId --output tsv)\""
                .to_owned()
        }
        Identity::Managed { client_id: Some(id) } | Identity::Workload { client_id: Some(id), .. } => {
            format!("--assignee {id}")
        }
        Identity::Workload { client_id: None, .. } => "--assignee \"$AZURE_CLIENT_ID\"".to_owned(),
        Identity::Cli => "--assignee \"$(az ad signed-in-user show --query id --output tsv)\"".to_owned(),
    };
    format!("az role assignment create --role \"{role}\" {to} --scope {scope}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(identity: &Identity, assignee: &str) {
        let line = assignment(identity, "Key Vault Secrets User", "/subscriptions/1");
        assert!(line.starts_with("az role assignment create --role \"Key Vault Secrets User\" --assignee"), "{line}");
        assert!(line.contains(assignee) && line.ends_with(" --scope /subscriptions/1"), "{line}");
    }

    #[test]
    fn every_identity_is_named_as_az_finds_it() {
        let id = || Some("0b1c".to_owned());
        check(&Identity::Managed { client_id: None }, "az vm identity show");
        check(&Identity::Managed { client_id: id() }, "--assignee 0b1c");
        check(&Identity::Workload { client_id: id(), tenant_id: None, token_file: None }, "--assignee 0b1c");
        check(&Identity::Workload { client_id: None, tenant_id: None, token_file: None }, "$AZURE_CLIENT_ID");
        check(&Identity::Cli, "signed-in-user");
    }
}
