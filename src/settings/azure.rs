//! Which Azure, and who we are there.

use std::collections::BTreeMap;

use super::Table;
use crate::azure::cloud::Cloud;
use crate::azure::{Identity, Settings};
use crate::limits;
use crate::spec::raw;
use crate::spec::source_map::Path;

impl Table<'_> {
    /// What `azure` says; what is wrong in it is told.
    pub(super) fn azure(&mut self, raw: &raw::Azure) -> Settings {
        let path = Path::root().with("azure");
        let cloud = match raw.cloud {
            None | Some(raw::AzureCloud::Public) => Cloud::Public,
            Some(raw::AzureCloud::China) => Cloud::China,
            Some(raw::AzureCloud::UsGov) => Cloud::UsGov,
        };
        let kind = raw.identity.unwrap_or(raw::AzureIdentity::Managed);
        let identity = match kind {
            raw::AzureIdentity::Managed => Identity::Managed { client_id: raw.client_id.clone() },
            raw::AzureIdentity::Workload => Identity::Workload {
                client_id: raw.client_id.clone(),
                tenant_id: raw.tenant_id.clone(),
                token_file: raw.token_file.as_deref().map(|file| self.absolute(file)),
            },
            raw::AzureIdentity::Cli => Identity::Cli,
        };
        let of_workload = [("tenant_id", raw.tenant_id.is_some()), ("token_file", raw.token_file.is_some())];
        let misplaced = of_workload.into_iter().filter(|_| kind != raw::AzureIdentity::Workload);
        let misplaced = misplaced.chain([("client_id", raw.client_id.is_some() && kind == raw::AzureIdentity::Cli)]);
        for (key, _) in misplaced.filter(|(_, given)| *given) {
            let span = self.desk.map.key(&path, key);
            let problem = self.desk.problem("spec.no_effect", format!("`{key}` does nothing with this identity"), span);
            self.desk.push(problem.warning().help("remove the line, or write `identity: workload`"));
        }
        let mut dns_overrides = BTreeMap::new();
        for (host, address) in &raw.dns_overrides {
            if let Ok(address) = address.parse() {
                dns_overrides.insert(host.to_ascii_lowercase(), address);
            } else {
                let path = path.with("dns_overrides").with(host.as_str());
                let help = "write an address and a port, such as `10.1.2.4:443`";
                self.desk.bad_value(&path, "this is not an address", help);
            }
        }
        let authorities = raw.ca.as_ref().and_then(|ca| self.file(&path.with("ca"), ca, limits::CA_BYTES_MAX));
        Settings { cloud, identity, dns_overrides, authorities }
    }
}
