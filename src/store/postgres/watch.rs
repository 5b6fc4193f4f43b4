//! How the store is doing, and its word to the other gateways on the database: a notice when there is new work, and a
//! sign of life now and then. What a gateway had parked is shown again by the others once it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::session::{CHANNEL, Session};
use super::trouble::{Outcome, Trouble};
use crate::limits;

/// What the parts of one store know of each other.
#[derive(Debug, Default)]
pub(super) struct Watch {
    commit_ms: AtomicU64,
    failing: AtomicBool,
    /// There is new work that others should know of.
    news: Notify,
}

impl Watch {
    /// A transaction was tried.
    pub(super) fn wrote<T>(&self, began: Instant, done: &Outcome<T>) {
        let unharmed = done.as_ref().err().is_none_or(Trouble::met_another);
        self.failing.store(!unharmed, Ordering::Relaxed);
        if done.is_ok() {
            let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.commit_ms.store(took, Ordering::Relaxed);
        }
    }

    pub(super) fn commit_ms(&self) -> u64 {
        self.commit_ms.load(Ordering::Relaxed)
    }

    /// Whether the last write failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Tells the other gateways, soon.
    pub(super) fn announce(&self) {
        self.news.notify_one();
    }
}

/// Passes announcements on. Not in the transaction of the write: a commit that notifies waits for all others that do.
pub(super) async fn announce(watch: Arc<Watch>, link: Link, me: i64, close: CancellationToken) {
    let told = async {
        loop {
            watch.news.notified().await;
            let payload = me.to_string();
            let notify = |session: Arc<Session>| async move {
                session.query("SELECT pg_notify($1, $2)", &[&CHANNEL, &payload]).await
            };
            // A notice that is lost costs the others a delay: they look by themselves too.
            let _ = link.call("telling other gateways", notify).await;
            tokio::time::sleep(limits::POSTGRES_NOTICE_EVERY).await;
        }
    };
    tokio::select! {
        () = told => {}
        () = close.cancelled() => {}
    }
}

/// Says now and then that this gateway is there, and looks after what those left that are not.
pub(super) async fn live(watch: Arc<Watch>, link: Link, me: i64, close: CancellationToken) {
    let lived = async {
        loop {
            let beat = |session: Arc<Session>| async move { beat(&session, me).await };
            match link.call("looking after other gateways", beat).await {
                Ok(0) => {}
                Ok(shown) => {
                    tracing::warn!(runs = shown, "a gateway is gone; {shown} runs that it had parked are shown again");
                    watch.announce();
                }
                Err(error) => tracing::debug!(%error, "no sign of life was written"),
            }
            tokio::time::sleep(limits::POSTGRES_HEARTBEAT).await;
        }
    };
    tokio::select! {
        () = lived => {}
        () = close.cancelled() => {}
    }
}

/// A sign of life. Returns how many runs are shown again that a gateway had parked which is gone. By the server's clock:
/// those of gateways may differ.
pub(super) async fn beat(session: &Session, me: i64) -> Outcome<u64> {
    let sql = "INSERT INTO clawhook.gateways (id, seen) VALUES ($1, now()) \
               ON CONFLICT (id) DO UPDATE SET seen = excluded.seen";
    session.execute(sql, &[&me]).await?;
    let silence = limits::POSTGRES_SILENCE_MAX.as_secs_f64();
    let sql = "DELETE FROM clawhook.gateways WHERE seen < now() - make_interval(secs => $1)";
    session.execute(sql, &[&silence]).await?;
    let sql = "UPDATE clawhook.runs SET class = class & 4294967295, lane = NULL, parked_by = NULL WHERE id = ANY(ARRAY(\
               SELECT id FROM clawhook.runs r WHERE lane IS NOT NULL AND NOT EXISTS \
               (SELECT FROM clawhook.gateways g WHERE g.id = r.parked_by) ORDER BY id FOR UPDATE OF r SKIP LOCKED))";
    session.execute(sql, &[]).await
}

/// How many gateways but this one gave a sign of life lately.
pub(super) async fn others(session: &Session, me: i64) -> Outcome<u64> {
    let sql = "SELECT count(*) FROM clawhook.gateways WHERE id <> $1 AND seen >= now() - make_interval(secs => $2)";
    let rows = session.query(sql, &[&me, &limits::POSTGRES_SILENCE_MAX.as_secs_f64()]).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
}

/// The last word: what this gateway had parked is for the others now.
pub(super) async fn leave(session: &Session, me: i64) -> Outcome<()> {
    let sql = "DELETE FROM clawhook.gateways WHERE id = $1";
    session.execute(sql, &[&me]).await?;
    let sql = "UPDATE clawhook.runs SET class = CASE WHEN lane IS NULL THEN class ELSE class & 4294967295 END, \
               lane = NULL, parked_by = NULL, offered_to = NULL, offered_until = NULL WHERE id = ANY(ARRAY(\
               SELECT id FROM clawhook.runs WHERE (class < 4294967296 AND offered_to = $1) \
               OR (lane IS NOT NULL AND parked_by = $1) ORDER BY id FOR UPDATE SKIP LOCKED))";
    session.execute(sql, &[&me]).await.map(drop)
}
