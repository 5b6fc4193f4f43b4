//! Alerts of one group: counted, summed up, and told when they are over.

use std::time::Duration;

use tokio::time::timeout;

use super::{Alert, Alerts, Fate, HandedOver, Letter, Miss, Report, Status, TURN, Telling, Told, by, held, report};
use crate::channels::book::{BookError, GROUPS, Group};
use crate::channels::line::Line;
use crate::channels::message::{Mention, Message};
use crate::channels::{ChannelPlan, Channels};
use crate::clock::Timestamp;
use crate::id::ChannelName;
use crate::limits;

impl Alerts {
    /// Puts a message of the gateway itself into the book; the next look sends it. The same group is not told again
    /// within a while.
    pub async fn post(&self, channel: &ChannelName, group: &str, message: Message) -> Result<(), BookError> {
        let now = self.now();
        let known = self.group(channel, group).await?;
        let mut record = known.unwrap_or_else(|| Group::new(channel, group, &message, limits::ALERT_WINDOW, now));
        let holds = record.holds(now);
        record.count(&message, now);
        if holds {
            record.message = None;
        } else {
            record.message = Some(message);
            record.until = now;
        }
        self.keep_group(&record).await
    }

    /// Sends the summaries that are due and forgets groups that are over. Answers when the next one comes due.
    pub async fn look(&self, channels: &Channels) -> Result<Option<Timestamp>, BookError> {
        if channels.is_empty() {
            return Ok(None);
        }
        let now = self.now();
        let mut next: Option<Timestamp> = None;
        let mut groups: Vec<(String, Group)> = Vec::new();
        for (key, text) in self.0.book.read(GROUPS).await? {
            match Group::read(&text) {
                Some(group) => groups.push((key, group)),
                None => self.0.book.write(&key, None).await?,
            }
        }
        groups.sort_by_key(|(_, group)| (group.untold() == 0, std::cmp::Reverse(group.last)));
        for (place, (key, group)) in groups.iter().enumerate() {
            let gone = !channels.contains_key(&group.channel);
            let stale = now.since(group.last) >= limits::ALERT_OPEN_MAX;
            let over = group.until <= now && group.untold() == 0 && (!group.open || stale);
            if gone || over || place >= limits::ALERT_GROUPS_MAX {
                if group.untold() > 0 {
                    tracing::warn!(channel = %group.channel, group = group.name, "{} alerts of group {} are forgotten", group.untold(), group.name);
                }
                self.0.book.write(key, None).await?;
            } else if group.until > now {
                next = Some(next.map_or(group.until, |next| next.min(group.until)));
            } else if group.untold() > 0 {
                let again = self.tell_group(channels, &group.channel, &group.name).await?;
                next = [next, again].into_iter().flatten().min();
            }
        }
        Ok(next)
    }

    /// Sends the summary of one group; answers when to try again.
    async fn tell_group(
        &self,
        channels: &Channels,
        channel: &ChannelName,
        group: &str,
    ) -> Result<Option<Timestamp>, BookError> {
        let Some(plan) = channels.get(channel) else { return Ok(None) };
        let line = self.line(channel);
        let Ok(mut line) = timeout(limits::CHANNEL_TURN_MAX, line.lock()).await else {
            return Ok(Some(self.now().plus(limits::CHANNEL_TURN_MAX)));
        };
        self.restore(plan, &mut line).await;
        let now = self.now();
        // It may have been told while this one waited for its turn.
        let Some(mut record) = self.group(channel, group).await?.filter(|record| record.untold() > 0) else {
            return Ok(None);
        };
        if let Some((at, _)) = line.not_before(plan.rate, now) {
            return Ok(Some(at));
        }
        match self.summarise(channels, plan, &mut line, &record, limits::CHANNEL_TIMEOUT).await.result {
            Ok(_) => {}
            Err(Miss { again: Some((at, _)), .. }) => return Ok(Some(at)),
            Err(miss) => {
                metrics::counter!("clawhook_notices_failed_total", "channel" => channel.to_string()).increment(1);
                tracing::error!(%channel, group, code = %miss.failure.code, "people could not be told of {} alerts of group {group}: {}", record.untold(), miss.failure.message);
            }
        }
        let now = self.now();
        record.told(now);
        self.keep_group(&record).await?;
        Ok(Some(record.until))
    }

    async fn summarise(
        &self,
        channels: &Channels,
        plan: &ChannelPlan,
        line: &mut Line,
        record: &Group,
        time_limit: Duration,
    ) -> HandedOver {
        let message = record.summary(plan.words(), self.now());
        let id = format!("{}-{}", Group::key(&plan.name, &record.name).replace('/', "-"), record.count);
        let letter = Letter { id: &id, message: &message, mention: &Mention::default(), time_limit };
        self.hand_over(channels, plan, line, &letter).await
    }

    /// Counts an alert whose group was told a short while ago. `None` when it is to be sent instead: nobody was told
    /// yet, or the book cannot hold the count.
    pub(super) async fn counted(
        &self,
        channels: &Channels,
        plan: &ChannelPlan,
        line: &mut Line,
        (group, window): (&str, Duration),
        alert: &Alert<'_>,
    ) -> Option<Telling> {
        let now = self.now();
        let mut record = self.group_or_warn(&plan.name, group).await?;
        if !record.holds(now) {
            return None;
        }
        record.count(&alert.message, now);
        record.window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        record.open |= alert.status == Status::Problem;
        self.keep_group_or_warn(&record).await?;
        let mut report = Report { count: Some(record.count), ..report(Fate::Grouped) };
        let mut exchange = None;
        if record.is_steep() && line.not_before(plan.rate, now).is_none() {
            let handed = self.summarise(channels, plan, line, &record, alert.time_limit).await;
            exchange = handed.exchange;
            // When it did not go out, the end of the window brings it.
            if let Ok((channel, said)) = handed.result {
                record.told(self.now());
                self.keep_group_or_warn(&record).await;
                report = Report { messages: 1, ..by(plan, channel, said, report) };
            }
        }
        Some(Telling { result: Ok(Told::Over(report)), exchange })
    }

    /// Says once that a problem is over, if people know of it.
    pub(super) async fn recovered(
        &self,
        channels: &Channels,
        plan: &ChannelPlan,
        line: &mut Line,
        alert: Alert<'_>,
    ) -> Telling {
        let quiet = |result| Telling { result, exchange: None };
        let group = alert.group.as_ref().map_or("", |(group, _)| group);
        let now = self.now();
        let closed = line.not_before(plan.rate, now);
        if line.waits_of(group) {
            let at = closed.map_or_else(|| now.plus(TURN), |(at, _)| at.plus(TURN));
            return quiet(held(plan, line, &alert, at, "people are not told of the problem yet"));
        }
        let record = self.group_or_warn(&plan.name, group).await.filter(|record| record.open);
        let Some(record) = record else { return quiet(Ok(Told::Over(report(Fate::NothingOpen)))) };
        if let Some((at, why)) = closed {
            return quiet(held(plan, line, &alert, at, &why));
        }
        let words = plan.words();
        let lasted = words.lasted(record.last.since(record.since).max(now.since(record.since)), record.count);
        let text =
            if alert.message.text.trim().is_empty() { lasted } else { format!("{}\n\n{lasted}", alert.message.text) };
        let message = Message { title: words.recovered(&alert.message.title), text, ..alert.message.clone() };
        let letter = Letter { id: alert.key, message: &message, mention: &alert.mention, time_limit: alert.time_limit };
        let handed = self.hand_over(channels, plan, line, &letter).await;
        let result = match handed.result {
            Ok((channel, said)) => {
                if let Err(error) = self.0.book.write(&Group::key(&plan.name, group), None).await {
                    tracing::warn!(%error, "group {group} could not be closed; people may be told again that it is over");
                }
                let base = Report { count: Some(record.count), messages: 1, ..report(Fate::Sent) };
                Ok(Told::Over(by(plan, channel, said, base)))
            }
            Err(Miss { again: Some((at, why)), .. }) => held(plan, line, &alert, at, &why),
            Err(miss) => Err(*miss.failure),
        };
        Telling { result, exchange: handed.exchange }
    }

    async fn group(&self, channel: &ChannelName, group: &str) -> Result<Option<Group>, BookError> {
        let key = Group::key(channel, group);
        let found = self.0.book.read(&key).await?;
        Ok(found.into_iter().find(|(name, _)| *name == key).and_then(|(_, text)| Group::read(&text)))
    }

    /// A message counts for more than its bookkeeping: without the book, people are told.
    pub(super) async fn group_or_warn(&self, channel: &ChannelName, group: &str) -> Option<Group> {
        self.group(channel, group).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "group {group} of channel {channel} cannot be looked up");
            None
        })
    }

    async fn keep_group(&self, group: &Group) -> Result<(), BookError> {
        let text = group.write().ok_or_else(|| BookError("a group is no JSON".to_owned()))?;
        self.0.book.write(&Group::key(&group.channel, &group.name), Some(&text)).await
    }

    pub(super) async fn keep_group_or_warn(&self, group: &Group) -> Option<()> {
        let kept = self.keep_group(group).await;
        kept.inspect_err(|error| tracing::warn!(%error, "group {} could not be put on record", group.name)).ok()
    }
}
