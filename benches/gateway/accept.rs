//! Durable accepts: how many a second, and how long each takes, against the bare handler in alternating rounds.

use crate::folder::{Folder, Route};
use crate::rounds::Load;
use crate::{Bench, Result, bare};

const KIB: usize = 1024;

/// Accepts while runs are held: the door and the store alone.
pub(crate) async fn held(bench: &mut Bench) -> Result<()> {
    for body_bytes in [KIB, 6 * KIB] {
        for connections in [32, 128] {
            compare(bench, Route::Held, connections, body_bytes).await?;
        }
    }
    Ok(())
}

/// Accepts while the engine runs what was accepted.
pub(crate) async fn running(bench: &mut Bench) -> Result<()> {
    for connections in [32, 128] {
        compare(bench, Route::Trivial, connections, KIB).await?;
    }
    Ok(())
}

async fn compare(bench: &mut Bench, route: Route, connections: usize, body_bytes: usize) -> Result<()> {
    let requests = bench.count(if body_bytes > KIB { 20_000 } else { 40_000 }, 4_000);
    let folder = Folder::new(&bench.folder, route)?;
    let (gateway, bare) = (folder.start()?, bare::start()?);
    let load = Load { connections, body_bytes, rounds: bench.count(5, 3), requests, bare_requests: requests };
    let rounds = load.send(gateway.address, bare.address).await?;
    let also = if route == Route::Held { "" } else { ", engine running" };
    let what = format!("accepts, {connections} connections, {} KiB{also}", body_bytes / KIB);
    let (rate_target, p99_target) = match (route, connections) {
        (Route::Held, 128) => ("≥ 45%", "< 15 ms"),
        (Route::Held, _) => ("≥ 45%", "–"),
        _ => ("–", "–"),
    };
    rounds.report(bench, &what, rate_target, p99_target);
    Ok(())
}
