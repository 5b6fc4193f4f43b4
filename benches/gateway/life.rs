//! A gateway's life: how much memory it needs at rest, and how soon it takes deliveries after a start.

use std::time::Duration;

use tokio::time::Instant;

use crate::folder::{Folder, Route};
use crate::load::Connection;
use crate::outbound::FarEnd;
use crate::process::Server;
use crate::report::{Spread, mib};
use crate::{Bench, Result, bare, load};

/// How long a server is left alone before its memory is read.
const REST: Duration = Duration::from_secs(3);

/// Resident memory after the start and after a load of deliveries that are run.
pub(crate) async fn memory(bench: &mut Bench) -> Result<()> {
    let mut far = FarEnd::start().await?;
    let folder = Folder::new(&bench.folder, Route::CallOnce(far.address))?;
    let gateway = folder.start()?;
    let bare = bare::start()?;
    tokio::time::sleep(REST).await;
    let (idle, bare_idle) = (gateway.memory_kib()?, bare.memory_kib()?);

    let requests = bench.count(20_000, 2_000);
    for body_bytes in [1024, 6 * 1024] {
        load::send(bare.address, 128, load::deliveries(requests, body_bytes)).await?;
        load::send(gateway.address, 128, load::deliveries(requests, body_bytes)).await?;
    }
    far.wait_for(2 * requests, Duration::from_mins(5)).await?;
    tokio::time::sleep(REST).await;
    let (after, bare_after) = (gateway.memory_kib()?, bare.memory_kib()?);
    let (peak, bare_peak) = (gateway.memory_peak_kib()?, bare.memory_peak_kib()?);

    let times = |ours: u32, bare: u32| format!("{:.1}×", f64::from(ours) / f64::from(bare));
    let report = &mut bench.report;
    report.row("memory at rest", "< 30 MiB", mib(idle), mib(bare_idle), times(idle, bare_idle));
    let what = format!("memory at rest after {} runs", 2 * requests);
    report.row(what, "< 64 MiB", mib(after), mib(bare_after), times(after, bare_after));
    report.row("… most during the load", "–", mib(peak), mib(bare_peak), times(peak, bare_peak));
    Ok(())
}

/// From the start of the process to the first delivery that is answered 202.
pub(crate) async fn cold_start(bench: &mut Bench) -> Result<()> {
    let starts = bench.count(10, 3);
    let stored = bench.count(20_000, 2_000);
    let mut bare_times = Vec::new();
    for _ in 0..starts {
        let begun = Instant::now();
        let bare = bare::start()?;
        first_answer(begun, bare).await.map(|took| bare_times.push(took))?;
    }
    let bare = Spread::of(bare_times);
    for (what, stored) in [("cold start, empty store", 0), ("cold start, runs stored", stored)] {
        let folder = Folder::new(&bench.folder, Route::Held)?;
        if stored > 0 {
            let gateway = folder.start()?;
            load::send(gateway.address, 32, load::deliveries(stored, 1024)).await?;
        }
        let mut times = Vec::new();
        for _ in 0..starts {
            let begun = Instant::now();
            let gateway = folder.spawn()?;
            first_answer(begun, gateway).await.map(|took| times.push(took))?;
            if stored == 0 {
                std::fs::remove_dir_all(folder.store())?;
            }
        }
        let times = Spread::of(times);
        let what = if stored > 0 { format!("{what} ({stored})") } else { what.to_owned() };
        bench.report.row(what, "< 150 ms", times.ms(), bare.ms(), format!("{:.1}×", times.median / bare.median));
    }
    Ok(())
}

/// Seconds until a delivery is answered 202; the server is killed afterwards.
async fn first_answer(begun: Instant, mut server: Server) -> Result<f64> {
    let requests = load::deliveries(1, 1024);
    loop {
        if let Ok(mut connection) = Connection::open(server.address).await
            && connection.call(&requests[0]).await.is_ok_and(|status| status == 202)
        {
            return Ok(begun.elapsed().as_secs_f64());
        }
        server.check()?;
        if begun.elapsed() > Duration::from_secs(30) {
            return Err("no delivery was answered within 30 s of the start".into());
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}
