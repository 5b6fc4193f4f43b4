//! The places for files that others fetch: whether they can be read, and whether they can sign links. Nothing is written.

use std::sync::Arc;

use super::Finding;
use crate::clock::Clock;
use crate::domain::secret::Secrets;
use crate::settings::Settings;
use crate::tasks::blob::{Blobs, Place};

pub(super) async fn examine(settings: &Settings, secrets: &Arc<dyn Secrets>, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    let blobs = Blobs::new(&settings.blobs, &settings.azure, secrets, clock);
    let mut findings = Vec::new();
    for (name, place) in &settings.blobs {
        let about = format!("place {name}");
        // The key of a folder's links is made with the first of them, which is not ours to do.
        let links = place.gives_links() && matches!(place, Place::Container(_));
        findings.push(match blobs.examine(name, links, clock.now()).await {
            Ok(()) if links => Finding::good(about, "it can be read, and signs links"),
            Ok(()) => Finding::good(about, "it can be read"),
            Err(failure) => {
                let mend = failure.help.unwrap_or_else(|| "correct `blobs` in clawhook.yaml".to_owned());
                Finding::bad(about, failure.message, mend)
            }
        });
    }
    findings
}
