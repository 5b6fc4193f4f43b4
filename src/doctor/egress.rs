//! The far ends: whether every connection can be reached, and what time it is there. Nothing is sent but `HEAD`, without
//! any proof of who we are.

use http::Method;

use super::{Finding, Verdict};
use crate::clock::Clock;
use crate::limits;
use crate::outbound::connection::Connection;
use crate::outbound::{Client, Response};
use crate::settings::Settings;

pub(super) async fn examine(settings: &Settings, clock: &dyn Clock) -> Vec<Finding> {
    let client = Client::new(settings.egress.clone());
    let (mut findings, mut skews) = (Vec::new(), Vec::new());
    for connection in settings.connections.values() {
        findings.push(reach(&client, connection, clock, &mut skews).await);
    }
    client.close().await;
    findings.push(time(&mut skews));
    findings
}

async fn reach(client: &Client, connection: &Connection, clock: &dyn Clock, skews: &mut Vec<i64>) -> Finding {
    let about = format!("connection {}", connection.name);
    let mend = "check the name, the route out of this network, `egress.allow`, and whom the connection's `tls` trusts";
    let request = connection.request(Method::HEAD, "", &[]).map(|mut request| {
        request.timeout = limits::DOCTOR_CALL_MAX;
        request.redirects_max = 0;
        request
    });
    let request = match request {
        Ok(request) => request,
        Err(cause) => return Finding::bad(about, cause.to_string(), mend),
    };
    match client.send(request).await {
        Ok(answer) => {
            skews.extend(skew_ms(&answer, clock));
            // Any answer will do: there are no credentials in the question.
            Finding::good(about, format!("{} answers ({})", connection.base_url.as_str(), answer.status.as_u16()))
        }
        Err(error) => Finding::bad(about, format!("{} cannot be reached: {error}", connection.base_url.as_str()), mend),
    }
}

/// How far our clock is ahead of the far end's, by its `Date` (RFC 9110, section 6.6.1), milliseconds.
fn skew_ms(answer: &Response, clock: &dyn Clock) -> Option<i64> {
    let (_, date) = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("date"))?;
    let theirs = chrono::DateTime::parse_from_rfc2822(date).ok()?;
    Some(clock.now().as_millis() - theirs.timestamp_millis())
}

/// Our clock against that of the middle one of those who said what time it is.
fn time(skews: &mut [i64]) -> Finding {
    let about = "clock";
    skews.sort_unstable();
    let Some(skew) = skews.get(skews.len() / 2) else {
        return Finding::new(about, Verdict::Skipped, "no far end said what time it is");
    };
    let found = format!("within {} s of what far ends say", skew.unsigned_abs().div_ceil(1000));
    let mend =
        "switch time synchronisation on: `timedatectl set-ntp true`; signed webhooks are refused by a wrong clock";
    match skew.unsigned_abs() {
        off if off > limits::DOCTOR_CLOCK_BAD_MS => Finding::bad(about, found, mend),
        off if off > limits::DOCTOR_CLOCK_DOUBTFUL_MS => Finding::doubtful(about, found, mend),
        _ => Finding::good(about, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_held_against_the_middle_one() {
        let check =
            |skews: &[i64], verdict: Verdict| assert_eq!(time(&mut skews.to_vec()).verdict, verdict, "{skews:?}");
        check(&[], Verdict::Skipped);
        check(&[900, -400, 90_000_000], Verdict::Good);
        check(&[-20_000], Verdict::Doubtful);
        check(&[200_000, 200_500], Verdict::Bad);
    }
}
