//! Which routes somebody paused. Kept in the store, so that a restart does not let go what a person held.

use std::sync::PoisonError;

use super::{Caller, Error, Gateway};
use crate::id::RouteName;

/// Mark: who paused the route, and why.
const PAUSED: &str = "paused/route/";

impl Gateway {
    /// Reads what is paused from the store: before the doors open.
    pub async fn read_pauses(&self) -> Result<(), Error> {
        let marks = self.0.engine.store().marks(PAUSED).await?;
        let names = marks.into_iter().filter_map(|(mark, _)| mark.strip_prefix(PAUSED).map(str::to_owned));
        *self.0.paused.write().unwrap_or_else(PoisonError::into_inner) = names.collect();
        Ok(())
    }

    /// Whether somebody paused this route.
    pub(super) fn is_paused(&self, route: &RouteName) -> bool {
        self.0.paused.read().unwrap_or_else(PoisonError::into_inner).contains(route.as_str())
    }

    /// Pauses a route, or ends that.
    pub(super) async fn set_paused(
        &self,
        caller: &Caller,
        route: &RouteName,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        let note = reason.map(|reason| format!("{}: {reason}", caller.name));
        self.0.engine.store().set_mark(&format!("{PAUSED}{route}"), note.as_deref()).await?;
        let mut paused = self.0.paused.write().unwrap_or_else(PoisonError::into_inner);
        if reason.is_some() {
            paused.insert(route.to_string());
        } else {
            paused.remove(route.as_str());
        }
        Ok(())
    }
}
