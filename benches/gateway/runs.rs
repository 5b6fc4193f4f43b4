//! Runs completed: webhooks in, one call out for each, from the first delivery to the last call.

use std::time::Duration;

use crate::folder::{Folder, Route};
use crate::outbound::FarEnd;
use crate::report::Spread;
use crate::{Bench, Result, bare, load};

/// As the target is worded: 2,000 webhooks at 32 connections.
const WEBHOOKS: usize = 2_000;
const CONNECTIONS: usize = 32;
const BODY_BYTES: usize = 1024;
/// The target holds where the bare handler does this many a second.
const TARGET: f64 = 4_000.0 / 95_000.0;

pub(crate) async fn measure(bench: &mut Bench) -> Result<()> {
    let rounds = bench.count(7, 3);
    let mut far = FarEnd::start().await?;
    let folder = Folder::new(&bench.folder, Route::CallOnce(far.address))?;
    let gateway = folder.start()?;
    let bare = bare::start()?;
    let (mut rates, mut bare_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        // Enough requests for the bare handler to be timed well.
        let yardstick = bench.count(40_000, 4_000);
        let on_bare = load::send(bare.address, CONNECTIONS, load::deliveries(yardstick, BODY_BYTES)).await?;
        let before = far.calls().len();
        let seen = load::send(gateway.address, CONNECTIONS, load::deliveries(WEBHOOKS, BODY_BYTES)).await?;
        far.wait_for(before + WEBHOOKS, Duration::from_mins(2)).await?;
        let last = far.calls().last().map_or(seen.begun, |call| call.at);
        let rate = f64::from(u32::try_from(WEBHOOKS)?) / last.duration_since(seen.begun).as_secs_f64();
        if round > 0 {
            rates.push(rate);
            bare_rates.push(on_bare.rate);
            ratios.push(rate / on_bare.rate);
        }
    }
    let bare_rate = Spread::of(bare_rates);
    let target = format!("≥ 4000/s at 95000/s bare: {:.0}/s here", TARGET * bare_rate.median);
    let what = format!("runs with one `http_request`, {WEBHOOKS} webhooks, {CONNECTIONS} connections");
    bench.report.row(what, &target, Spread::of(rates).rate(), bare_rate.rate(), Spread::of(ratios).percent());
    Ok(())
}
