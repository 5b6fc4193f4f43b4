//! The few words of our own in a message, in the language of the channel.

use std::time::Duration;

use super::message::Level;

/// A language that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// Chinese.
    Zh,
    /// English.
    #[default]
    En,
}

/// Our words in one language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words(Language);

impl Words {
    /// The words of this language.
    pub const fn of(language: Language) -> Self {
        Self(language)
    }

    const fn pick(self, zh: &'static str, en: &'static str) -> &'static str {
        match self.0 {
            Language::Zh => zh,
            Language::En => en,
        }
    }

    /// At the end of a text that was cut.
    pub(super) const fn cut(self) -> &'static str {
        self.pick("…（已截断）", "… (cut)")
    }

    /// Under a table that was cut.
    pub(super) fn more(self, count: usize) -> String {
        match self.0 {
            Language::Zh => format!("另有 {count} 行"),
            Language::En => format!("and {count} more"),
        }
    }

    pub(super) const fn level(self, level: Level) -> &'static str {
        match level {
            Level::Info => self.pick("通知", "Notice"),
            Level::Warning => self.pick("警告", "Warning"),
            Level::Error => self.pick("错误", "Error"),
        }
    }

    /// The title of a problem that is over.
    pub(super) fn recovered(self, title: &str) -> String {
        match self.0 {
            Language::Zh => format!("已恢复：{title}"),
            Language::En => format!("Recovered: {title}"),
        }
    }

    /// How long a problem lasted and how often it was seen.
    pub(super) fn lasted(self, lasted: Duration, count: u64) -> String {
        let lasted = self.span(lasted);
        match self.0 {
            Language::Zh => format!("持续 {lasted}，共 {count} 次"),
            Language::En => format!("it lasted {lasted} and was seen {}", self.times(count)),
        }
    }

    /// The title of what was counted instead of sent.
    pub(super) fn again(self, title: &str, span: Duration, count: u64) -> String {
        let span = self.span(span);
        match self.0 {
            Language::Zh => format!("{title}（{span}，{count} 次）"),
            Language::En => format!("{title} ({span}, {})", self.times(count)),
        }
    }

    /// The title of many alerts in one message.
    pub(super) fn digest(self, count: usize) -> String {
        match self.0 {
            Language::Zh => format!("{count} 条通知"),
            Language::En => format!("{count} notices"),
        }
    }

    /// The title of a question that is open: asked for the first time, or again.
    pub fn decision_wanted(self, title: &str, again: bool) -> String {
        match (self.0, again) {
            (Language::Zh, false) => format!("待审批：{title}"),
            (Language::Zh, true) => format!("仍待审批：{title}"),
            (Language::En, false) => format!("Decision wanted: {title}"),
            (Language::En, true) => format!("Decision still wanted: {title}"),
        }
    }

    /// Which question it is, until when it is open, and how many of those who are needed said yes.
    pub fn decision_open(self, id: &str, until: &str, yes: usize, quorum: usize) -> String {
        match self.0 {
            Language::Zh => format!("审批 `{id}`，截止 {until}，已有 {yes}/{quorum} 人同意"),
            Language::En => format!("Approval `{id}`, open until {until}; {yes} of {quorum} said yes"),
        }
    }

    /// How to decide: by command line and by REST.
    pub fn decision_how(self, yes: &str, no: &str, rest: &str) -> String {
        match self.0 {
            Language::Zh => format!("- 同意：`{yes}`\n- 拒绝：`{no}`\n- REST：{rest}"),
            Language::En => format!("- Yes: `{yes}`\n- No: `{no}`\n- REST: {rest}"),
        }
    }

    /// The title of a question that is closed.
    pub fn decision_over(self, title: &str, decision: &str, approved: bool) -> String {
        let over = match (decision, approved) {
            ("expired", true) => self.pick("已过期，视为同意", "Expired, counts as a yes"),
            ("expired", false) => self.pick("已过期", "Expired"),
            (_, true) => self.pick("已批准", "Approved"),
            (_, false) => self.pick("已拒绝", "Rejected"),
        };
        format!("{over}{}{title}", self.pick("：", ": "))
    }

    /// What one person said.
    pub fn decision_said(self, by: &str, yes: bool, comment: &str) -> String {
        let said = if yes { self.pick("同意", "yes") } else { self.pick("拒绝", "no") };
        let colon = if comment.is_empty() { "" } else { self.pick("：", ": ") };
        format!("- {by} {said}{colon}{comment}")
    }

    fn times(self, count: u64) -> String {
        match self.0 {
            Language::Zh => format!("{count} 次"),
            Language::En if count == 1 => "once".to_owned(),
            Language::En => format!("{count} times"),
        }
    }

    /// A length of time, roughly.
    fn span(self, span: Duration) -> String {
        let secs = span.as_secs();
        let (count, zh, en) = match secs {
            0..120 => (secs.max(1), "秒", "second"),
            120..7_200 => (secs / 60, "分钟", "minute"),
            7_200..172_800 => (secs / 3_600, "小时", "hour"),
            _ => (secs / 86_400, "天", "day"),
        };
        match self.0 {
            Language::Zh => format!("{count} {zh}"),
            Language::En => format!("{count} {en}{}", if count == 1 { "" } else { "s" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages() {
        let (zh, en) = (Words::of(Language::Zh), Words::of(Language::En));
        assert_eq!(en.again("ERP is down", Duration::from_secs(185), 41), "ERP is down (3 minutes, 41 times)");
        assert_eq!(zh.again("ERP 不可用", Duration::from_secs(185), 41), "ERP 不可用（3 分钟，41 次）");
        assert_eq!(en.lasted(Duration::from_secs(1), 1), "it lasted 1 second and was seen once");
        assert_eq!(zh.more(12), "另有 12 行");
    }
}
