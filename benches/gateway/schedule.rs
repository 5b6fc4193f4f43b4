//! How late an every-second schedule is: when the call of each run arrives, after the whole second that it was due at.

use std::collections::BTreeSet;
use std::time::Duration;

use clawhook::clock::Timestamp;
use clawhook::id::RunId;

use crate::folder::{Folder, Route};
use crate::list::get;
use crate::load::Connection;
use crate::outbound::FarEnd;
use crate::report::{ms, percentile};
use crate::{Bench, Result};

/// Characters of a run id.
const RUN_ID_LEN: usize = 17;

pub(crate) async fn measure(bench: &mut Bench) -> Result<()> {
    let slots = bench.count(60, 10);
    let mut far = FarEnd::start().await?;
    let folder = Folder::new(&bench.folder, Route::EverySecond(far.address))?;
    let _gateway = folder.start()?;
    let at_most = Duration::from_secs(u64::try_from(slots)? + 10);
    // The first slot meets a cold client and a cold store; it is counted too.
    far.wait_for(slots, at_most).await?;

    let mut control = Connection::open(folder.control).await?;
    let runs = get(&mut control, &format!("/v1/runs?limit={slots}")).await?;
    let accepted = late(run_ids(&runs).into_iter().map(RunId::made_at));
    let called = late(far.calls().iter().map(|call| call.wall));
    let seconds: BTreeSet<_> = far.calls().iter().map(|call| call.wall.as_secs()).collect();
    if seconds.len() != far.calls().len() {
        return Err(
            format!("{} calls in {} seconds: a slot fired twice or late", far.calls().len(), seconds.len()).into()
        );
    }
    for (what, late, target) in
        [("accepted", &accepted, "p99 < 10 ms"), ("its call arrived at the far end", &called, "–")]
    {
        let shown = format!("p50 {}, p99 {}", ms(percentile(late, 50)), ms(percentile(late, 99)));
        let what = format!("every-second schedule, {} slots, lateness until {what}", late.len());
        bench.report.row(what, target, shown, "–".into(), "–".into());
    }
    Ok(())
}

/// How far after its whole second each instant lies, sorted.
fn late(instants: impl Iterator<Item = Timestamp>) -> Vec<Duration> {
    let mut late: Vec<_> = instants.map(|at| at.since(Timestamp::from_secs(at.as_secs()))).collect();
    late.sort_unstable();
    late
}

/// Every run id in a text, once: whatever the list looks like, its runs are in it.
fn run_ids(text: &str) -> BTreeSet<RunId> {
    text.match_indices("run_").filter_map(|(place, _)| text.get(place..place + RUN_ID_LEN)?.parse().ok()).collect()
}
