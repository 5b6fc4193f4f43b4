//! The clouds of Azure, and what differs between them: the hosts of their services, and for whom tokens are made out.
//! <https://learn.microsoft.com/azure/china/resources-developer-guide>,
//! <https://learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure>

use std::fmt;

use azure_core::cloud::CloudConfiguration;

/// A cloud of Azure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cloud {
    /// Global Azure.
    #[default]
    Public,
    /// Azure operated by 21Vianet.
    China,
    /// Azure Government.
    UsGov,
}

/// What differs.
struct Facts {
    word: &'static str,
    vault: &'static str,
    blob: &'static str,
    postgres: &'static str,
    postgres_resource: &'static str,
    sql: &'static str,
    management: &'static str,
}

impl Cloud {
    /// All clouds, in the order of the docs.
    pub const ALL: [Self; 3] = [Self::Public, Self::China, Self::UsGov];

    fn facts(self) -> &'static Facts {
        match self {
            Self::Public => &Facts {
                word: "public",
                vault: "vault.azure.net",
                blob: "blob.core.windows.net",
                postgres: "postgres.database.azure.com",
                postgres_resource: "https://ossrdbms-aad.database.windows.net",
                sql: "database.windows.net",
                management: "https://management.azure.com",
            },
            Self::China => &Facts {
                word: "china",
                vault: "vault.azure.cn",
                blob: "blob.core.chinacloudapi.cn",
                postgres: "postgres.database.chinacloudapi.cn",
                postgres_resource: "https://ossrdbms-aad.database.chinacloudapi.cn",
                sql: "database.chinacloudapi.cn",
                management: "https://management.chinacloudapi.cn",
            },
            Self::UsGov => &Facts {
                word: "usgov",
                vault: "vault.usgovcloudapi.net",
                blob: "blob.core.usgovcloudapi.net",
                postgres: "postgres.database.usgovcloudapi.net",
                postgres_resource: "https://ossrdbms-aad.database.usgovcloudapi.net",
                sql: "database.usgovcloudapi.net",
                management: "https://management.usgovcloudapi.net",
            },
        }
    }

    /// The end of a vault's host name.
    pub fn vault_suffix(self) -> &'static str {
        self.facts().vault
    }

    /// The end of a storage account's host name.
    pub fn blob_suffix(self) -> &'static str {
        self.facts().blob
    }

    /// The scope of tokens for vaults.
    pub fn vault_scope(self) -> String {
        format!("https://{}/.default", self.facts().vault)
    }

    /// The scope of tokens for Blob Storage, the same in every cloud.
    pub fn storage_scope(self) -> String {
        "https://storage.azure.com/.default".to_owned()
    }

    /// The scope of tokens that Azure Database for PostgreSQL takes as a password.
    pub fn postgres_scope(self) -> String {
        format!("{}/.default", self.facts().postgres_resource)
    }

    /// The end of the host name of a server of Azure SQL.
    pub fn sql_suffix(self) -> &'static str {
        self.facts().sql
    }

    /// The scope of tokens that Azure SQL takes.
    pub fn sql_scope(self) -> String {
        format!("https://{}/.default", self.facts().sql)
    }

    /// The scope of tokens for Azure Resource Manager.
    pub fn management_scope(self) -> String {
        format!("{}/.default", self.facts().management)
    }

    /// The cloud that a host belongs to, when its name tells.
    pub fn of_host(host: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        let within = |suffix: &str| host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
        Self::ALL.into_iter().find(|cloud| {
            let facts = cloud.facts();
            [facts.vault, facts.blob, facts.postgres, facts.sql].into_iter().any(within)
        })
    }

    /// The cloud as the SDK knows it: where tokens come from.
    pub fn configuration(self) -> CloudConfiguration {
        match self {
            Self::Public => CloudConfiguration::AzurePublic,
            Self::China => CloudConfiguration::AzureChina,
            Self::UsGov => CloudConfiguration::AzureGovernment,
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_tell_their_cloud() {
        let check = |host: &str, expected: Option<Cloud>| assert_eq!(Cloud::of_host(host), expected, "{host}");
        check("kv1.vault.azure.net", Some(Cloud::Public));
        check("KV1.Vault.Azure.CN", Some(Cloud::China));
        check("orders.blob.core.usgovcloudapi.net", Some(Cloud::UsGov));
        check("db.postgres.database.azure.com", Some(Cloud::Public));
        check("orders.database.chinacloudapi.cn", Some(Cloud::China));
        check("vault.azure.net", None);
        check("evilvault.azure.net", None);
        check("localhost", None);
    }
}
