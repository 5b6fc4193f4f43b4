//! `clawhook explain`: what a code means, whose side it is on, what is safe, and what to do. The pages are those of
//! `docs/errors/`; a test holds the table against the folder and against the codes in the source.

use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::output;
use super::reference;

/// What to explain.
#[derive(Debug, Clone, Args)]
pub(super) struct Explain {
    /// A code, such as `http.status`, or a kind of task, such as `http_request`; without it, all codes are listed
    code: Option<String>,
}

/// Every code with its page, sorted by code.
pub static CODES: &[(&str, &str)] = &[
    ("address.not_allowed", include_str!("../../docs/errors/address.not_allowed.md")),
    ("api.not_found", include_str!("../../docs/errors/api.not_found.md")),
    ("approval.expired", include_str!("../../docs/errors/approval.expired.md")),
    ("approval.not_asked", include_str!("../../docs/errors/approval.not_asked.md")),
    ("approval.rejected", include_str!("../../docs/errors/approval.rejected.md")),
    ("artifact.damaged", include_str!("../../docs/errors/artifact.damaged.md")),
    ("artifact.failed", include_str!("../../docs/errors/artifact.failed.md")),
    ("artifact.full", include_str!("../../docs/errors/artifact.full.md")),
    ("artifact.missing", include_str!("../../docs/errors/artifact.missing.md")),
    ("artifact.too_large", include_str!("../../docs/errors/artifact.too_large.md")),
    ("attempt.interrupted", include_str!("../../docs/errors/attempt.interrupted.md")),
    ("auth.forbidden", include_str!("../../docs/errors/auth.forbidden.md")),
    ("auth.invalid", include_str!("../../docs/errors/auth.invalid.md")),
    ("auth.missing", include_str!("../../docs/errors/auth.missing.md")),
    ("auth.throttled", include_str!("../../docs/errors/auth.throttled.md")),
    ("blob.content", include_str!("../../docs/errors/blob.content.md")),
    ("blob.damaged", include_str!("../../docs/errors/blob.damaged.md")),
    ("blob.exists", include_str!("../../docs/errors/blob.exists.md")),
    ("blob.failed", include_str!("../../docs/errors/blob.failed.md")),
    ("blob.link", include_str!("../../docs/errors/blob.link.md")),
    ("blob.missing", include_str!("../../docs/errors/blob.missing.md")),
    ("blob.path", include_str!("../../docs/errors/blob.path.md")),
    ("blob.place", include_str!("../../docs/errors/blob.place.md")),
    ("blob.refused", include_str!("../../docs/errors/blob.refused.md")),
    ("body.too_large", include_str!("../../docs/errors/body.too_large.md")),
    ("callback.refused", include_str!("../../docs/errors/callback.refused.md")),
    ("command.exit", include_str!("../../docs/errors/command.exit.md")),
    ("command.memory", include_str!("../../docs/errors/command.memory.md")),
    ("command.not_allowed", include_str!("../../docs/errors/command.not_allowed.md")),
    ("command.off", include_str!("../../docs/errors/command.off.md")),
    ("command.output", include_str!("../../docs/errors/command.output.md")),
    ("command.output_too_large", include_str!("../../docs/errors/command.output_too_large.md")),
    ("command.start", include_str!("../../docs/errors/command.start.md")),
    ("command.unbounded", include_str!("../../docs/errors/command.unbounded.md")),
    ("connection.auth", include_str!("../../docs/errors/connection.auth.md")),
    ("connection.unknown", include_str!("../../docs/errors/connection.unknown.md")),
    ("download.cut", include_str!("../../docs/errors/download.cut.md")),
    ("download.damaged", include_str!("../../docs/errors/download.damaged.md")),
    ("download.too_large", include_str!("../../docs/errors/download.too_large.md")),
    ("empty_body", include_str!("../../docs/errors/empty_body.md")),
    ("expression.failed", include_str!("../../docs/errors/expression.failed.md")),
    ("files.invalid", include_str!("../../docs/errors/files.invalid.md")),
    ("files.missing", include_str!("../../docs/errors/files.missing.md")),
    ("gateway.draining", include_str!("../../docs/errors/gateway.draining.md")),
    ("http.bad_header", include_str!("../../docs/errors/http.bad_header.md")),
    ("http.bad_url", include_str!("../../docs/errors/http.bad_url.md")),
    ("http.body", include_str!("../../docs/errors/http.body.md")),
    ("http.body_timeout", include_str!("../../docs/errors/http.body_timeout.md")),
    ("http.body_too_large", include_str!("../../docs/errors/http.body_too_large.md")),
    ("http.busy", include_str!("../../docs/errors/http.busy.md")),
    ("http.connect", include_str!("../../docs/errors/http.connect.md")),
    ("http.dns", include_str!("../../docs/errors/http.dns.md")),
    ("http.egress", include_str!("../../docs/errors/http.egress.md")),
    ("http.fail_if", include_str!("../../docs/errors/http.fail_if.md")),
    ("http.header", include_str!("../../docs/errors/http.header.md")),
    ("http.host", include_str!("../../docs/errors/http.host.md")),
    ("http.idempotency_key_busy", include_str!("../../docs/errors/http.idempotency_key_busy.md")),
    ("http.idempotency_key_reused", include_str!("../../docs/errors/http.idempotency_key_reused.md")),
    ("http.lost", include_str!("../../docs/errors/http.lost.md")),
    ("http.media_type", include_str!("../../docs/errors/http.media_type.md")),
    ("http.method", include_str!("../../docs/errors/http.method.md")),
    ("http.not_found", include_str!("../../docs/errors/http.not_found.md")),
    ("http.origin", include_str!("../../docs/errors/http.origin.md")),
    ("http.pages", include_str!("../../docs/errors/http.pages.md")),
    ("http.parameter", include_str!("../../docs/errors/http.parameter.md")),
    ("http.protocol", include_str!("../../docs/errors/http.protocol.md")),
    ("http.redirect", include_str!("../../docs/errors/http.redirect.md")),
    ("http.status", include_str!("../../docs/errors/http.status.md")),
    ("http.timeout", include_str!("../../docs/errors/http.timeout.md")),
    ("http.tls", include_str!("../../docs/errors/http.tls.md")),
    ("http.too_large", include_str!("../../docs/errors/http.too_large.md")),
    ("http.trust", include_str!("../../docs/errors/http.trust.md")),
    ("inputs.misfit", include_str!("../../docs/errors/inputs.misfit.md")),
    ("keys.unavailable", include_str!("../../docs/errors/keys.unavailable.md")),
    ("loop.no_list", include_str!("../../docs/errors/loop.no_list.md")),
    ("loop.too_long", include_str!("../../docs/errors/loop.too_long.md")),
    ("malformed", include_str!("../../docs/errors/malformed.md")),
    ("missing_header", include_str!("../../docs/errors/missing_header.md")),
    ("missing_parameter", include_str!("../../docs/errors/missing_parameter.md")),
    ("no_client_certificate", include_str!("../../docs/errors/no_client_certificate.md")),
    ("not_encrypted", include_str!("../../docs/errors/not_encrypted.md")),
    ("notify.channel", include_str!("../../docs/errors/notify.channel.md")),
    ("notify.held", include_str!("../../docs/errors/notify.held.md")),
    ("notify.refused", include_str!("../../docs/errors/notify.refused.md")),
    ("notify.unknown", include_str!("../../docs/errors/notify.unknown.md")),
    ("other_receiver", include_str!("../../docs/errors/other_receiver.md")),
    ("poll.failed", include_str!("../../docs/errors/poll.failed.md")),
    ("poll.timeout", include_str!("../../docs/errors/poll.timeout.md")),
    ("rate.global", include_str!("../../docs/errors/rate.global.md")),
    ("rate.route", include_str!("../../docs/errors/rate.route.md")),
    ("repeated_header", include_str!("../../docs/errors/repeated_header.md")),
    ("repeated_parameter", include_str!("../../docs/errors/repeated_parameter.md")),
    ("report.answer", include_str!("../../docs/errors/report.answer.md")),
    ("report.busy", include_str!("../../docs/errors/report.busy.md")),
    ("report.cancelled", include_str!("../../docs/errors/report.cancelled.md")),
    ("report.failed", include_str!("../../docs/errors/report.failed.md")),
    ("report.refused", include_str!("../../docs/errors/report.refused.md")),
    ("report.timeout", include_str!("../../docs/errors/report.timeout.md")),
    ("report.too_often", include_str!("../../docs/errors/report.too_often.md")),
    ("report.wanted", include_str!("../../docs/errors/report.wanted.md")),
    ("route.disabled", include_str!("../../docs/errors/route.disabled.md")),
    ("route.paused_by_file", include_str!("../../docs/errors/route.paused_by_file.md")),
    ("route.unknown", include_str!("../../docs/errors/route.unknown.md")),
    ("run.cancelled", include_str!("../../docs/errors/run.cancelled.md")),
    ("run.child_failed", include_str!("../../docs/errors/run.child_failed.md")),
    ("run.state", include_str!("../../docs/errors/run.state.md")),
    ("run.stuck", include_str!("../../docs/errors/run.stuck.md")),
    ("run.timeout", include_str!("../../docs/errors/run.timeout.md")),
    ("run.too_deep", include_str!("../../docs/errors/run.too_deep.md")),
    ("schedule.paused_by_file", include_str!("../../docs/errors/schedule.paused_by_file.md")),
    ("secret.unavailable", include_str!("../../docs/errors/secret.unavailable.md")),
    ("source.busy", include_str!("../../docs/errors/source.busy.md")),
    ("source.keys", include_str!("../../docs/errors/source.keys.md")),
    ("source.refused", include_str!("../../docs/errors/source.refused.md")),
    ("source.unreachable", include_str!("../../docs/errors/source.unreachable.md")),
    ("source.unreadable", include_str!("../../docs/errors/source.unreadable.md")),
    ("spec.alias", include_str!("../../docs/errors/spec.alias.md")),
    ("spec.auth", include_str!("../../docs/errors/spec.auth.md")),
    ("spec.bare_braces", include_str!("../../docs/errors/spec.bare_braces.md")),
    ("spec.channel", include_str!("../../docs/errors/spec.channel.md")),
    ("spec.command", include_str!("../../docs/errors/spec.command.md")),
    ("spec.connection", include_str!("../../docs/errors/spec.connection.md")),
    ("spec.documents", include_str!("../../docs/errors/spec.documents.md")),
    ("spec.duplicate_key", include_str!("../../docs/errors/spec.duplicate_key.md")),
    ("spec.duplicate_name", include_str!("../../docs/errors/spec.duplicate_name.md")),
    ("spec.egress", include_str!("../../docs/errors/spec.egress.md")),
    ("spec.empty", include_str!("../../docs/errors/spec.empty.md")),
    ("spec.encoding", include_str!("../../docs/errors/spec.encoding.md")),
    ("spec.expression", include_str!("../../docs/errors/spec.expression.md")),
    ("spec.file", include_str!("../../docs/errors/spec.file.md")),
    ("spec.insecure", include_str!("../../docs/errors/spec.insecure.md")),
    ("spec.jwt_secret", include_str!("../../docs/errors/spec.jwt_secret.md")),
    ("spec.key", include_str!("../../docs/errors/spec.key.md")),
    ("spec.later", include_str!("../../docs/errors/spec.later.md")),
    ("spec.limit", include_str!("../../docs/errors/spec.limit.md")),
    ("spec.listen", include_str!("../../docs/errors/spec.listen.md")),
    ("spec.missing_input", include_str!("../../docs/errors/spec.missing_input.md")),
    ("spec.missing_key", include_str!("../../docs/errors/spec.missing_key.md")),
    ("spec.name", include_str!("../../docs/errors/spec.name.md")),
    ("spec.no_effect", include_str!("../../docs/errors/spec.no_effect.md")),
    ("spec.number", include_str!("../../docs/errors/spec.number.md")),
    ("spec.quotes", include_str!("../../docs/errors/spec.quotes.md")),
    ("spec.redacted", include_str!("../../docs/errors/spec.redacted.md")),
    ("spec.same_path", include_str!("../../docs/errors/spec.same_path.md")),
    ("spec.schedule", include_str!("../../docs/errors/spec.schedule.md")),
    ("spec.secret_place", include_str!("../../docs/errors/spec.secret_place.md")),
    ("spec.subscription", include_str!("../../docs/errors/spec.subscription.md")),
    ("spec.sweep", include_str!("../../docs/errors/spec.sweep.md")),
    ("spec.syntax", include_str!("../../docs/errors/spec.syntax.md")),
    ("spec.tag", include_str!("../../docs/errors/spec.tag.md")),
    ("spec.task", include_str!("../../docs/errors/spec.task.md")),
    ("spec.type", include_str!("../../docs/errors/spec.type.md")),
    ("spec.unknown_channel", include_str!("../../docs/errors/spec.unknown_channel.md")),
    ("spec.unknown_connection", include_str!("../../docs/errors/spec.unknown_connection.md")),
    ("spec.unknown_input", include_str!("../../docs/errors/spec.unknown_input.md")),
    ("spec.unknown_key", include_str!("../../docs/errors/spec.unknown_key.md")),
    ("spec.unknown_secret", include_str!("../../docs/errors/spec.unknown_secret.md")),
    ("spec.unknown_workflow", include_str!("../../docs/errors/spec.unknown_workflow.md")),
    ("spec.value", include_str!("../../docs/errors/spec.value.md")),
    ("spec.verify", include_str!("../../docs/errors/spec.verify.md")),
    ("spec.verify_none", include_str!("../../docs/errors/spec.verify_none.md")),
    ("spec.version", include_str!("../../docs/errors/spec.version.md")),
    ("sql.busy", include_str!("../../docs/errors/sql.busy.md")),
    ("sql.conflict", include_str!("../../docs/errors/sql.conflict.md")),
    ("sql.connect", include_str!("../../docs/errors/sql.connect.md")),
    ("sql.database", include_str!("../../docs/errors/sql.database.md")),
    ("sql.failed", include_str!("../../docs/errors/sql.failed.md")),
    ("sql.lost", include_str!("../../docs/errors/sql.lost.md")),
    ("sql.rejects", include_str!("../../docs/errors/sql.rejects.md")),
    ("sql.rows", include_str!("../../docs/errors/sql.rows.md")),
    ("sql.timeout", include_str!("../../docs/errors/sql.timeout.md")),
    ("stale", include_str!("../../docs/errors/stale.md")),
    ("state.too_large", include_str!("../../docs/errors/state.too_large.md")),
    ("store.broken", include_str!("../../docs/errors/store.broken.md")),
    ("store.failed", include_str!("../../docs/errors/store.failed.md")),
    ("store.full", include_str!("../../docs/errors/store.full.md")),
    ("store.slow", include_str!("../../docs/errors/store.slow.md")),
    ("store.unavailable", include_str!("../../docs/errors/store.unavailable.md")),
    ("subscription.refused", include_str!("../../docs/errors/subscription.refused.md")),
    ("sweep.changed", include_str!("../../docs/errors/sweep.changed.md")),
    ("sweep.item", include_str!("../../docs/errors/sweep.item.md")),
    ("sweep.key", include_str!("../../docs/errors/sweep.key.md")),
    ("sweep.too_many", include_str!("../../docs/errors/sweep.too_many.md")),
    ("table.failed", include_str!("../../docs/errors/table.failed.md")),
    ("table.query", include_str!("../../docs/errors/table.query.md")),
    ("table.too_large", include_str!("../../docs/errors/table.too_large.md")),
    ("table.unreadable", include_str!("../../docs/errors/table.unreadable.md")),
    ("task.output_too_large", include_str!("../../docs/errors/task.output_too_large.md")),
    ("task.timeout", include_str!("../../docs/errors/task.timeout.md")),
    ("token.refused", include_str!("../../docs/errors/token.refused.md")),
    ("token.unavailable", include_str!("../../docs/errors/token.unavailable.md")),
    ("token_claim", include_str!("../../docs/errors/token_claim.md")),
    ("token_head", include_str!("../../docs/errors/token_head.md")),
    ("token_request", include_str!("../../docs/errors/token_request.md")),
    ("transform.failed", include_str!("../../docs/errors/transform.failed.md")),
    ("transform.timeout", include_str!("../../docs/errors/transform.timeout.md")),
    ("trial.fault", include_str!("../../docs/errors/trial.fault.md")),
    ("trial.fixture", include_str!("../../docs/errors/trial.fixture.md")),
    ("trial.stub", include_str!("../../docs/errors/trial.stub.md")),
    ("trial.unknown", include_str!("../../docs/errors/trial.unknown.md")),
    ("undecipherable", include_str!("../../docs/errors/undecipherable.md")),
    ("unknown_client", include_str!("../../docs/errors/unknown_client.md")),
    ("unknown_url", include_str!("../../docs/errors/unknown_url.md")),
    ("unknown_version", include_str!("../../docs/errors/unknown_version.md")),
    ("untrusted_certificate", include_str!("../../docs/errors/untrusted_certificate.md")),
    ("wait.until", include_str!("../../docs/errors/wait.until.md")),
    ("workflow.stopped", include_str!("../../docs/errors/workflow.stopped.md")),
    ("wrong_signature", include_str!("../../docs/errors/wrong_signature.md")),
];

pub(super) fn run(explain: &Explain) -> Result<ExitCode, Error> {
    let Some(wanted) = &explain.code else {
        let codes: Vec<_> = CODES.iter().map(|(code, page)| format!("{code:<28}{}", first_sentence(page))).collect();
        output::print(&codes.join("\n"));
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(section) = reference::of_kind(wanted) {
        output::print(section.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    // A cause key begins with its code: `http.status/erp/500`.
    let code = wanted.split('/').next().unwrap_or_default();
    match CODES.iter().find(|(known, _)| *known == code) {
        Some((_, page)) => {
            output::print(page);
            Ok(ExitCode::SUCCESS)
        }
        None => Err(unknown(code)),
    }
}

fn unknown(code: &str) -> Error {
    let near = CODES.iter().map(|(known, _)| (strsim::damerau_levenshtein(known, code), known)).min();
    let error = Error::new(format!("there is no code `{code}`"));
    match near {
        Some((distance, known)) if distance <= NEAR => error.help(format!("did you mean `{known}`?")),
        _ => error.help("`clawhook explain` lists them all"),
    }
}

/// Slips of the pen at which another code is still suggested.
const NEAR: usize = 4;

/// The first sentence of a page's text, on one line.
pub(super) fn first_sentence(page: &str) -> String {
    let text = page.split("\n\n").nth(1).unwrap_or_default().replace('\n', " ");
    match text.find(". ") {
        Some(end) => text[..end].to_owned(),
        None => text.trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_each_page_begins_with_its_code() {
        assert!(CODES.is_sorted_by_key(|(code, _)| code));
        for (code, page) in CODES {
            assert!(page.starts_with(&format!("# {code}\n\n")), "{code}");
            assert!((8..=20).contains(&page.lines().count()), "{code} has {} lines", page.lines().count());
            assert!(!first_sentence(page).is_empty(), "{code}");
        }
    }

    #[test]
    fn slips_are_recognised() {
        assert_eq!(unknown("http.statsu").help.as_deref(), Some("did you mean `http.status`?"));
        assert_eq!(unknown("x").help.as_deref(), Some("`clawhook explain` lists them all"));
    }
}
