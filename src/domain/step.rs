//! Which step of a run: a task, or a task inside one item of a loop.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::TaskId;

/// One step of a run: `push`, `refund[3]` (item 3 of the loop `refund`), `returns[3]/refund` (the task `refund` of item
/// 3). The same over retries, resume after a crash, and re-run. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepId(Arc<[Segment]>);

/// A task, and which item of it when it is a loop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Segment {
    task: TaskId,
    item: Option<u32>,
}

/// A text that names no step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a step: it looks like `push`, `refund[3]` or `returns[3]/refund`")]
pub struct Error(String);

impl StepId {
    /// The task by which the step is known.
    pub fn task(&self) -> &TaskId {
        &self.last().task
    }

    /// The item, when the step is one item of a loop.
    pub fn item(&self) -> Option<u32> {
        self.last().item
    }

    /// The task of the outermost list that the step belongs to.
    pub fn root(&self) -> &TaskId {
        &self.0[0].task
    }

    /// The step of `task` beside this step's items: at the top when `within` is nothing.
    pub fn of(within: Option<&Self>, task: &TaskId) -> Self {
        let own = Segment { task: task.clone(), item: None };
        Self(within.iter().flat_map(|within| within.0.iter().cloned()).chain([own]).collect())
    }

    /// This item of the loop that this step is.
    #[must_use]
    pub fn at(&self, item: u32) -> Self {
        let mut path = self.0.to_vec();
        if let Some(last) = path.last_mut() {
            last.item = Some(item);
        }
        Self(path.into())
    }

    /// The loops that this step is in, outermost first, with the item of each.
    pub fn loops(&self) -> impl Iterator<Item = (Self, u32)> {
        self.0.iter().enumerate().filter_map(|(place, segment)| {
            let item = segment.item?;
            let mut path = self.0[..=place].to_vec();
            path[place].item = None;
            Some((Self(path.into()), item))
        })
    }

    /// The innermost item that this step is, or is in.
    pub fn within(&self) -> Option<Self> {
        let items = self.0.iter().take_while(|segment| segment.item.is_some()).count();
        (items > 0).then(|| Self(self.0[..items].into()))
    }

    /// Whether this step is an item of the loop `of`, or in one.
    pub fn is_in(&self, of: &Self) -> bool {
        self.loops().any(|(step, _)| step == *of)
    }

    /// For headers and far ends that know no brackets: `returns:3:refund`.
    pub fn as_key(&self) -> String {
        let part = |segment: &Segment| match segment.item {
            Some(item) => format!("{}:{item}", segment.task),
            None => segment.task.to_string(),
        };
        self.0.iter().map(part).collect::<Vec<_>>().join(":")
    }

    /// Reads what `as_key` wrote: a task, then an item and a task, and so on.
    pub fn from_key(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split(':').collect();
        let segment = |pair: &[&str]| {
            let item = pair.get(1).map(|item| item.parse()).transpose().ok()?;
            Some(Segment { task: TaskId::new(pair[0]).ok()?, item })
        };
        parts.chunks(2).map(segment).collect::<Option<Vec<_>>>().map(|path| Self(path.into()))
    }

    fn last(&self) -> &Segment {
        // Every way to make a step puts at least one segment in.
        &self.0[self.0.len() - 1]
    }
}

impl From<&TaskId> for StepId {
    fn from(task: &TaskId) -> Self {
        Self::of(None, task)
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            let slash = if place == 0 { "" } else { "/" };
            write!(f, "{slash}{}", segment.task)?;
            if let Some(item) = segment.item {
                write!(f, "[{item}]")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StepId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let segment = |part: &str| {
            let (task, item) = match part.strip_suffix(']') {
                Some(part) => {
                    let (task, item) = part.split_once('[')?;
                    (task, Some(item.parse().ok()?))
                }
                None => (part, None),
            };
            Some(Segment { task: TaskId::new(task).ok()?, item })
        };
        let path: Option<Vec<_>> = text.split('/').map(segment).collect();
        path.map(|path| Self(path.into())).ok_or_else(|| Error(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for StepId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<StepId> for String {
    fn from(step: StepId) -> Self {
        step.to_string()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn task(id: &str) -> TaskId {
        TaskId::new(id).unwrap()
    }

    #[test]
    fn steps_read_as_they_print() {
        for text in ["push", "refund[3]", "returns[3]/refund", "shops[0]/lines[12]/push.it", "a-b_c[4294967295]"] {
            let step: StepId = text.parse().unwrap();
            assert_eq!(step.to_string(), text);
            assert_eq!(StepId::from_key(&step.as_key()), Some(step));
        }
        for text in ["", "a/", "/a", "a[", "a[]", "a[-1]", "a]", "a[1]b", "a[1][2]", "a b", "a[4294967296]"] {
            assert!(text.parse::<StepId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_step_knows_its_loops() {
        let shops = StepId::from(&task("shops"));
        let lines = StepId::of(Some(&shops.at(2)), &task("lines"));
        let push = StepId::of(Some(&lines.at(7)), &task("push"));
        assert_eq!(push.to_string(), "shops[2]/lines[7]/push");
        assert_eq!(push.loops().collect::<Vec<_>>(), [(shops.clone(), 2), (lines.clone(), 7)]);
        assert_eq!((push.task().as_str(), push.root().as_str(), push.item()), ("push", "shops", None));
        assert_eq!(push.within(), Some(lines.at(7)));
        assert_eq!(lines.at(7).within(), Some(lines.at(7)));
        assert_eq!(shops.within(), None);
        assert!(push.is_in(&lines) && push.is_in(&shops) && lines.at(0).is_in(&lines) && !lines.is_in(&lines));
        assert_eq!(push.as_key(), "shops:2:lines:7:push");
    }

    #[test]
    fn items_are_in_order_of_number() {
        let each = StepId::from(&task("each"));
        assert!(
            each.at(2) < each.at(10) && each < each.at(0) && each.at(9) < StepId::of(Some(&each.at(9)), &task("a"))
        );
    }
}
