//! Durable accepts: how many a second, and how long each takes, against the bare handler in alternating rounds.

use crate::folder::{Folder, Route};
use crate::report::Spread;
use crate::{Bench, Result, bare, load};

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
    let rounds = bench.count(5, 3);
    let requests = bench.count(if body_bytes > KIB { 20_000 } else { 40_000 }, 4_000);
    let folder = Folder::new(&bench.folder, route)?;
    let gateway = folder.start()?;
    let bare = bare::start()?;
    let (mut rates, mut bare_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut p50s, mut p99s, mut bare_p99s) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let on_bare = load::send(bare.address, connections, load::deliveries(requests, body_bytes)).await?;
        let on_gateway = load::send(gateway.address, connections, load::deliveries(requests, body_bytes)).await?;
        // The first round warms both up.
        if round > 0 {
            ratios.push(on_gateway.rate / on_bare.rate);
            rates.push(on_gateway.rate);
            bare_rates.push(on_bare.rate);
            p50s.push(on_gateway.p50());
            p99s.push(on_gateway.p99());
            bare_p99s.push(on_bare.p99());
        }
    }
    let also = if route == Route::Held { "" } else { ", engine running" };
    let what = format!("accepts, {connections} connections, {} KiB{also}", body_bytes / KIB);
    let (rate_target, p99_target) = match (route, connections) {
        (Route::Held, 128) => ("≥ 45%", "< 15 ms"),
        (Route::Held, _) => ("≥ 45%", "–"),
        _ => ("–", "–"),
    };
    let ratio = Spread::of(ratios).percent();
    let (p99, bare_p99) = (Spread::of(p99s), Spread::of(bare_p99s));
    let p99_ratio = format!("{:.1}×", p99.median / bare_p99.median);
    bench.report.row(&what, rate_target, Spread::of(rates).rate(), Spread::of(bare_rates).rate(), ratio);
    bench.report.row("… latency p50", "–", Spread::of(p50s).ms(), "–".into(), "–".into());
    bench.report.row("… latency p99", p99_target, p99.ms(), bare_p99.ms(), p99_ratio);
    Ok(())
}
