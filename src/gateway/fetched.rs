//! Deliveries that a source fetched: the same way in as those that are sent here, behind a door of their own.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;

use super::Gateway;
use super::deliveries::{Admitted, Inbound, Receipt, Refusal, RefusalKind};
use super::refusals::Refused;
use crate::clock::Timestamp;
use crate::id::SourceName;
use crate::signature::{self, Headers, Proof};
use crate::tasks::plan::SourcePlan;

/// One message of a source.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// What tells it from all others of the source.
    pub id: Option<String>,
    /// What the platform says beside it, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub received_at: Timestamp,
}

/// The method of a delivery that nobody sent.
const METHOD: &str = "FETCH";

impl Gateway {
    /// Takes one message of a source. When this returns `Ok`, its runs are on disk, or no route wants it: the source may
    /// let go of it.
    pub async fn take(&self, source: &SourceName, fetched: &Fetched) -> Result<Receipt, Refusal> {
        let (path, headers) = (SourcePlan::path(source), headers(fetched));
        let inbound = inbound(&path, &headers, fetched);
        let doors = self.0.doors.load();
        let doors = doors.of_source(&path);
        let proof = Proof { delivery_id: fetched.id.clone(), body_is_signed: true, ..Proof::default() };
        let enabled = doors.iter().filter(|door| door.plan.enabled);
        let admitted: Vec<_> = enabled.map(|door| Admitted::fetched(door, &proof)).collect();
        let Some(first) = admitted.first().map(|one| std::sync::Arc::clone(&one.door)) else {
            let code = if doors.is_empty() { "route.unknown" } else { "route.disabled" };
            return Err(Refusal { kind: RefusalKind::NoRoute, code, answer: None });
        };
        match self.accept(&inbound, admitted).await {
            Ok(receipt) => {
                first.taken.of(&receipt).increment(1);
                Ok(receipt)
            }
            // It is held and tried again, so it is neither counted each time nor kept as refused.
            Err(refused) => Err(refused.refusal),
        }
    }

    /// Counts and keeps a message that cannot become a delivery; `code` and `why` say what is wrong with it.
    pub async fn refuse_fetched(&self, source: &SourceName, fetched: &Fetched, code: &'static str, why: String) {
        let (path, headers) = (SourcePlan::path(source), headers(fetched));
        let doors = self.0.doors.load();
        let doors = doors.of_source(&path);
        let route = doors.first().map(|door| door.plan.name.clone());
        super::deliveries::count_refused(route.as_ref(), code);
        let refused = Refused::new(route, RefusalKind::Unverified, code, why);
        self.0.refusals.keep(doors, self.0.secrets.as_ref(), &inbound(&path, &headers, fetched), &refused).await;
    }
}

fn headers(fetched: &Fetched) -> Headers<'_> {
    fetched.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

fn inbound<'a>(path: &'a str, headers: &'a Headers<'a>, fetched: &'a Fetched) -> Inbound<'a> {
    let request = signature::Inbound {
        method: METHOD,
        path,
        query: "",
        url: None,
        headers,
        body: &fetched.body,
        received_at: fetched.received_at,
        client_chain: &[],
        random: [0; 24],
    };
    Inbound { request, body: fetched.body.clone(), peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}
