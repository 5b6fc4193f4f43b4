//! Pages that tasks have read and not handed over yet. They live in the memory of this process, within a bound: whoever
//! finds nothing here begins at the first page again.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::limits;

/// The pages of all tasks, by the idempotency key of the task.
#[derive(Default)]
pub struct Gathered(Mutex<State>);

#[derive(Default)]
struct State {
    tasks: HashMap<String, Pages>,
    bytes: usize,
    touched: u64,
}

/// What one task has read so far.
#[derive(Debug, Default, PartialEq)]
pub struct Pages {
    pub items: Vec<Value>,
    /// Size of the items as JSON.
    pub bytes: usize,
    pub count: u32,
    touched: u64,
}

impl Gathered {
    /// Pages and items that are there for a task, when it has as many pages as it remembers.
    pub fn has(&self, key: &str, pages: u32) -> Option<usize> {
        let state = self.lock();
        state.tasks.get(key).filter(|there| there.count == pages).map(|there| there.items.len())
    }

    /// Adds a page behind the `before` pages that are there, and answers the bytes of all of them. Pages that do not go
    /// before it are let go. When there is too much of all tasks together, those that nobody touched longest go.
    pub fn add(&self, key: &str, before: u32, items: Vec<Value>, bytes: usize) -> usize {
        let mut state = self.lock();
        state.touched += 1;
        let touched = state.touched;
        let mut pages = state.tasks.remove(key).unwrap_or_default();
        state.bytes -= pages.bytes;
        if pages.count != before {
            pages = Pages::default();
        }
        pages.items.extend(items);
        pages.bytes += bytes;
        pages.count += 1;
        pages.touched = touched;
        let all = pages.bytes;
        while state.bytes + all > limits::PAGES_HELD_BYTES_MAX {
            let oldest = state.tasks.iter().min_by_key(|(_, pages)| pages.touched).map(|(key, _)| key.clone());
            let Some(gone) = oldest.and_then(|key| state.tasks.remove(&key)) else { break };
            state.bytes -= gone.bytes;
        }
        state.bytes += all;
        state.tasks.insert(key.to_owned(), pages);
        all
    }

    /// Hands over what a task has read, and keeps nothing of it.
    pub fn take(&self, key: &str) -> Pages {
        let mut state = self.lock();
        let pages = state.tasks.remove(key).unwrap_or_default();
        state.bytes -= pages.bytes;
        pages
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gathered({} tasks)", self.lock().tasks.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_are_gathered_in_order_and_the_oldest_go_first() {
        let gathered = Gathered::default();
        let half = limits::PAGES_HELD_BYTES_MAX / 2;
        assert_eq!(gathered.add("a", 0, vec![json!(1)], 10), 10);
        assert_eq!(gathered.add("a", 1, vec![json!(2)], 10), 20);
        assert_eq!((gathered.has("a", 2), gathered.has("a", 1), gathered.has("b", 0)), (Some(2), None, None));
        gathered.add("b", 0, vec![json!(3)], half);
        gathered.add("c", 0, vec![json!(4)], half);
        assert_eq!((gathered.has("a", 2), gathered.has("b", 1), gathered.has("c", 1)), (None, Some(1), Some(1)));
        assert_eq!(gathered.take("b").items, [json!(3)]);
        assert_eq!(gathered.take("b"), Pages::default());
        assert_eq!(gathered.lock().bytes, half);
        // A task that begins anew is not mixed with what it read before.
        gathered.add("c", 0, vec![json!(5)], 1);
        assert_eq!(gathered.take("c").items, [json!(5)]);
        assert_eq!(gathered.lock().bytes, 0);
    }
}
