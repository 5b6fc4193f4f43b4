//! Files of places, for whoever has a link that was signed here.

use super::{Error, Gateway};
use crate::tasks::blob::{BlobPath, Content, Found};

impl Gateway {
    /// The file behind a signed link, good until then (seconds since 1970); nothing when the link does not hold, or the
    /// file went. Nobody is asked who they are: the link is what lets them in, to this one file.
    pub async fn blob(
        &self,
        place: &str,
        path: &str,
        until: i64,
        signature: &str,
    ) -> Result<Option<(BlobPath, Found, Box<dyn Content>)>, Error> {
        let now = self.0.clock.now();
        let found = self.engine().blobs().by_link(place, path, until, signature, now).await;
        found.map_err(|error| Error::Unavailable(error.to_string()))
    }
}
