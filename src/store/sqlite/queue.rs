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

/// How much a queue, or a taker, holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) items: usize,
    /// One item may be larger than this when it is alone.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    came: Condvar,
    bound: Bound,
}

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    closed: bool,
    /// Takers that sleep: a push needs no system call when there are none.
    asleep: usize,
}

impl Bound {
    /// Whether one more item of `more` bytes fits to `items` of `bytes`.
    fn fits(self, items: usize, bytes: usize, more: usize) -> bool {
        items == 0 || (items < self.items && bytes.saturating_add(more) <= self.bytes)
    }
}

impl<T> Queue<T> {
    pub(super) fn new(bound: Bound) -> Self {
        let inner = Inner { items: VecDeque::new(), bytes: 0, closed: false, asleep: 0 };
        Self { inner: Mutex::new(inner), came: Condvar::new(), bound }
    }

    /// Adds an item that holds about `bytes` of memory.
    pub(super) fn push(&self, item: T, bytes: usize) -> Result<(), Refused> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Refused::Closed);
        }
        if !self.bound.fits(inner.items.len(), inner.bytes, bytes) {
            return Err(Refused::Full);
        }
        inner.items.push_back((item, bytes));
        inner.bytes += bytes;
        let wake = inner.asleep > 0;
        drop(inner);
        if wake {
            self.came.notify_one();
        }
        Ok(())
    }

    /// Waits for items and moves as many to `into` as the bound allows. False when the queue is closed and empty.
    pub(super) fn take(&self, bound: Bound, into: &mut Vec<T>) -> bool {
        let mut inner = self.lock();
        while inner.items.is_empty() {
            if inner.closed {
                return false;
            }
            inner.asleep += 1;
            inner = self.came.wait(inner).unwrap_or_else(PoisonError::into_inner);
            inner.asleep -= 1;
        }
        let (mut items, mut taken) = (0, 0);
        while let Some((_, bytes)) = inner.items.front()
            && bound.fits(items, taken, *bytes)
            && let Some((item, bytes)) = inner.items.pop_front()
        {
            into.push(item);
            items += 1;
            taken += bytes;
        }
        inner.bytes -= taken;
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

    /// Takes nothing more in and drops what waits: those who wait for an answer learn that none comes.
    pub(super) fn abandon(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let dropped = std::mem::take(&mut inner.items);
        inner.bytes = 0;
        drop(inner);
        drop(dropped);
        self.came.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Abandons a queue when its only taker ends, whatever ended it.
pub(super) struct AbandonOnDrop<'a, T>(pub(super) &'a Queue<T>);

impl<T> Drop for AbandonOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Bound = Bound { items: 3, bytes: 10 };

    fn taken(queue: &Queue<u32>) -> Option<Vec<u32>> {
        let mut taken = Vec::new();
        queue.take(Bound { items: 2, bytes: 6 }, &mut taken).then_some(taken)
    }

    #[test]
    fn is_bounded_in_items_and_bytes() {
        let queue = Queue::new(SMALL);
        let pushed = [(1, 5), (2, 6), (3, 4), (4, 2), (5, 0)].map(|(item, bytes)| queue.push(item, bytes));
        assert_eq!(pushed, [Ok(()), Err(Refused::Full), Ok(()), Err(Refused::Full), Ok(())]);
        assert_eq!(queue.push(6, 0), Err(Refused::Full));
        assert_eq!(taken(&queue), Some(vec![1]));
        assert_eq!(taken(&queue), Some(vec![3, 5]));
        // Larger than anything, but alone.
        assert_eq!(queue.push(7, 1000), Ok(()));
        assert_eq!(taken(&queue), Some(vec![7]));
    }

    #[test]
    fn drains_after_close_and_drops_when_abandoned() {
        let queue = Queue::new(SMALL);
        let _ = queue.push(1, 1);
        queue.close();
        assert_eq!(queue.push(2, 1), Err(Refused::Closed));
        assert_eq!((taken(&queue), taken(&queue)), (Some(vec![1]), None));
        let queue = Queue::new(SMALL);
        let _ = queue.push(1, 1);
        drop(AbandonOnDrop(&queue));
        assert_eq!((taken(&queue), queue.push(2, 1)), (None, Err(Refused::Closed)));
    }
}
