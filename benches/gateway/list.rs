//! The first page of a run list with many runs stored, by each way that people filter.

use tokio::time::Instant;

use crate::folder::{Folder, Route};
use crate::load::Connection;
use crate::report::{ms, percentile};
use crate::{Bench, Result, bare, fill, load};

/// How often each list is asked for.
const CALLS: usize = 100;

pub(crate) async fn measure(bench: &mut Bench) -> Result<()> {
    let stored = bench.count(1_000_000, 50_000);
    let folder = Folder::new(&bench.folder, Route::Held)?;
    let begun = Instant::now();
    fill::fill(&folder.store(), stored).await?;
    eprintln!("   stored {stored} runs in {:.0} s", begun.elapsed().as_secs_f64());
    let gateway = folder.start()?;
    let bare = bare::start()?;
    let bare = load::send(bare.address, 1, load::deliveries(2_000, 1024)).await?;
    let bare_p50 = percentile(&bare.latencies, 50);

    let order = stored / 2;
    let filters = [
        "status=failed".to_owned(),
        "workflow=workflow-3".to_owned(),
        "workflow=workflow-3&status=failed".to_owned(),
        format!("label=order%3D%23{order}"),
        format!("cause={}", fill::CAUSE.replace('/', "%2F")),
        "trigger=delivery&status=succeeded".to_owned(),
    ];
    let mut control = Connection::open(folder.control).await?;
    for filter in filters {
        let mut times = Vec::with_capacity(CALLS);
        let mut page = String::new();
        for _ in 0..CALLS {
            let begun = Instant::now();
            page = get(&mut control, &format!("/v1/runs?{filter}&limit=50")).await?;
            times.push(begun.elapsed());
        }
        if !page.contains("run_") {
            return Err(format!("no run on the page of `{filter}`: {page}").into());
        }
        times.sort_unstable();
        let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
        let ratio = format!("{:.0}×", p50.as_secs_f64() / bare_p50.as_secs_f64());
        let what = format!("first page, {stored} runs stored, `{filter}`");
        bench.report.row(what, "< 20 ms", format!("p50 {}, p99 {}", ms(p50), ms(p99)), ms(bare_p50), ratio);
    }
    drop(gateway);
    Ok(())
}

/// A page of the control door, as text.
pub(crate) async fn get(control: &mut Connection, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\r\n");
    match control.call(request.as_bytes()).await? {
        200 => Ok(control.answer()),
        status => Err(format!("`GET {path}` was answered {status}: {}", control.answer()).into()),
    }
}
