//! What Azure SQL says when it does not do what it was asked, and whether trying again can help.
//! <https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors>,
//! <https://learn.microsoft.com/azure/azure-sql/database/troubleshoot-common-errors-issues>

use tiberius::error::{Error, IoErrorKind};

use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::tasks::sql::{Stage, sql_failure};

/// The failure behind an error.
pub(super) fn failure(error: &Error, stage: Stage) -> Failure {
    let sent = if stage == Stage::Committing { Sent::Maybe } else { Sent::No };
    let opening = stage == Stage::Opening;
    match error {
        Error::Server(told) => of_number(told.code(), told.message(), opening).sent(sent),
        Error::Io { kind: IoErrorKind::TimedOut, .. } if !opening => {
            Failure::new("sql.timeout", Fault::Far, "the database gave no answer within the time that the task has")
                .help("raise the task's `timeout`, or help the query with an index")
                .retriable(Class::Timeout, None)
                .sent(sent)
        }
        // What we were given, or gave, cannot be put into the form of the protocol.
        Error::BulkInput(_) | Error::Conversion(_) | Error::ParseInt(_) if !opening => {
            sql_failure(error.to_string()).sent(sent)
        }
        Error::Tls(why) => {
            let message = format!("the server cannot be trusted, or speaks no TLS: {}", first_sentence(why));
            Failure::new("sql.connect", Fault::Config, message)
                .help("a private authority belongs in `ca` of the database in clawhook.yaml")
        }
        _ => {
            let code = if opening { "sql.connect" } else { "sql.lost" };
            Failure::new(code, Fault::Far, format!("the connection to the database broke: {error}"))
                .retriable(Class::Connect, None)
                .sent(sent)
        }
    }
}

/// The driver goes on to tell its own settings, which are not ours.
fn first_sentence(why: &str) -> &str {
    why.split_once(". ").map_or(why, |(first, _)| first)
}

fn of_number(number: u32, message: &str, opening: bool) -> Failure {
    let message = format!("the database says: {} [{number}]", message.trim());
    let far = |code| Failure::new(code, Fault::Far, message.clone()).retriable(Class::Connect, None);
    match number {
        // A deadlock, a lock that took too long, a row that changed under a snapshot; then too much at once for what the
        // database may use.
        1205 | 1222 | 3960 | 41302 | 41305 | 41325 | 10928 | 10929 | 40501 | 40544 | 40549..=40553 | 49918..=49920 => {
            far("sql.busy")
        }
        // It moves to another machine, wakes up, or goes down.
        596 | 6005 | 4221 | 40197 | 40540 | 40613 | 42108 | 42109 => far(if opening { "sql.connect" } else { "sql.lost" }),
        3617 => Failure::new("sql.timeout", Fault::Far, message)
            .help("raise the task's `timeout`, or help the query with an index")
            .retriable(Class::Timeout, None),
        2601 | 2627 => Failure::new("sql.conflict", Fault::Config, message)
            .help("a row with this key is there already; look for it with `WHERE NOT EXISTS`"),
        18450..=18488 | 4060 | 33134 => Failure::new("sql.connect", Fault::Config, message)
            .help("check `user`, `password` and `database` in clawhook.yaml; with `auth: entra`, whether the identity is a user of this database"),
        40615 | 40914 | 47073 => Failure::new("sql.connect", Fault::Config, message)
            .help("let the address of this machine through the firewall of the server"),
        _ if opening => Failure::new("sql.connect", Fault::Far, message).retriable(Class::Connect, None),
        _ => sql_failure(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::Retry;

    #[test]
    fn numbers_say_whether_a_retry_helps() {
        for (number, opening, code, again) in [
            (1205, false, "sql.busy", true),
            (40501, false, "sql.busy", true),
            (40613, true, "sql.connect", true),
            (40613, false, "sql.lost", true),
            (2627, false, "sql.conflict", false),
            (18456, true, "sql.connect", false),
            (40615, true, "sql.connect", false),
            (208, false, "sql.failed", false),
            (17830, true, "sql.connect", true),
        ] {
            let failure = of_number(number, "so it is", opening);
            assert_eq!(
                (failure.code.as_str(), failure.message.as_str()),
                (code, format!("the database says: so it is [{number}]").as_str())
            );
            assert_eq!(failure.retry != Retry::Never, again, "{number}");
        }
    }

    #[test]
    fn a_broken_commit_may_have_been_done() {
        let broken = Error::Io { kind: IoErrorKind::UnexpectedEof, message: "eof".to_owned() };
        assert_eq!(failure(&broken, Stage::Committing).sent, Sent::Maybe);
        assert_eq!(failure(&broken, Stage::Working).sent, Sent::No);
        assert_eq!(failure(&broken, Stage::Opening).code, "sql.connect");
    }
}
