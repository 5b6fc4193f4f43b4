//! A gateway and the bare handler in turns, round by round.

use std::net::SocketAddr;

use crate::report::Spread;
use crate::{Bench, Result, load};

/// What the rounds of one comparison send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) body_bytes: usize,
    pub(crate) rounds: usize,
    /// Requests of a round to the gateway.
    pub(crate) requests: usize,
    /// Requests of a round to the bare handler.
    pub(crate) bare_requests: usize,
}

/// What was seen in each round.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    rates: Vec<f64>,
    bare_rates: Vec<f64>,
    ratios: Vec<f64>,
    p50s: Vec<f64>,
    p99s: Vec<f64>,
    bare_p99s: Vec<f64>,
}

impl Load {
    /// Sends to both, in turns. One round before the first warms both up.
    pub(crate) async fn send(self, gateway: SocketAddr, bare: SocketAddr) -> Result<Rounds> {
        let mut seen = Rounds::default();
        for round in 0..=self.rounds {
            let deliveries = load::deliveries(self.bare_requests, self.body_bytes);
            let on_bare = load::send(bare, self.connections, deliveries).await?;
            let deliveries = load::deliveries(self.requests, self.body_bytes);
            let on_gateway = load::send(gateway, self.connections, deliveries).await?;
            if round > 0 {
                seen.ratios.push(on_gateway.rate / on_bare.rate);
                seen.rates.push(on_gateway.rate);
                seen.bare_rates.push(on_bare.rate);
                seen.p50s.push(on_gateway.p50());
                seen.p99s.push(on_gateway.p99());
                seen.bare_p99s.push(on_bare.p99());
            }
        }
        Ok(seen)
    }
}

impl Rounds {
    /// Three rows: the rate, and how long an answer takes.
    pub(crate) fn report(self, bench: &mut Bench, what: &str, rate_target: &str, p99_target: &str) {
        let ratio = Spread::of(self.ratios).percent();
        let (rate, bare_rate) = (Spread::of(self.rates).rate(), Spread::of(self.bare_rates).rate());
        let (p99, bare_p99) = (Spread::of(self.p99s), Spread::of(self.bare_p99s));
        let p99_ratio = format!("{:.1}×", p99.median / bare_p99.median);
        bench.report.row(what, rate_target, rate, bare_rate, ratio);
        bench.report.row("… latency p50", "–", Spread::of(self.p50s).ms(), "–".into(), "–".into());
        bench.report.row("… latency p99", p99_target, p99.ms(), bare_p99.ms(), p99_ratio);
    }
}
