//! A bounded queue between tasks and one of the store's threads. It grows as it fills, so an idle store holds no
//! memory for it, and a taker gets everything that waits under one lock.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Why an item was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    came: Condvar,
    items_max: usize,
}

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<T>,
    closed: bool,
    /// Takers that sleep: a push needs no system call when there are none.
    asleep: usize,
}

impl<T> Queue<T> {
    pub(super) fn new(items_max: usize) -> Self {
        let inner = Inner { items: VecDeque::new(), closed: false, asleep: 0 };
        Self { inner: Mutex::new(inner), came: Condvar::new(), items_max }
    }

    pub(super) fn push(&self, item: T) -> Result<(), Refused> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Refused::Closed);
        }
        if inner.items.len() >= self.items_max {
            return Err(Refused::Full);
        }
        inner.items.push_back(item);
        let wake = inner.asleep > 0;
        drop(inner);
        if wake {
            self.came.notify_one();
        }
        Ok(())
    }

    /// Waits for items and moves at most `count_max` of them to `into`. False when the queue is closed and empty.
    pub(super) fn take(&self, count_max: usize, into: &mut Vec<T>) -> bool {
        let mut inner = self.lock();
        while inner.items.is_empty() {
            if inner.closed {
                return false;
            }
            inner.asleep += 1;
            inner = self.came.wait(inner).unwrap_or_else(PoisonError::into_inner);
            inner.asleep -= 1;
        }
        let count = inner.items.len().min(count_max);
        into.extend(inner.items.drain(..count));
        true
    }

    pub(super) fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Takes nothing more in; what is queued is still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.came.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_drains_after_close() {
        let queue = Queue::new(2);
        assert_eq!([queue.push(1), queue.push(2), queue.push(3)], [Ok(()), Ok(()), Err(Refused::Full)]);
        queue.close();
        assert_eq!(queue.push(4), Err(Refused::Closed));
        let mut taken = Vec::new();
        assert!(queue.take(1, &mut taken) && queue.take(9, &mut taken));
        assert_eq!(taken, [1, 2]);
        assert!(!queue.take(9, &mut taken));
    }
}
