//! Work that can be frozen: it is not polled while the gate is shut, as a process that the machine does not schedule.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Holds all work of one node up, or lets it go on.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    shut: bool,
    waiting: Vec<Waker>,
}

impl Gate {
    pub(super) fn set_shut(&self, shut: bool) {
        let mut state = self.0.lock().unwrap();
        state.shut = shut;
        if !shut {
            state.waiting.drain(..).for_each(Waker::wake);
        }
    }

    /// The same work, behind the gate.
    pub(super) fn guard<F: Future + Send + 'static>(self: &Arc<Self>, work: F) -> Guarded<F> {
        Guarded { work: Box::pin(work), gate: Arc::clone(self) }
    }
}

pub(super) struct Guarded<F> {
    work: Pin<Box<F>>,
    gate: Arc<Gate>,
}

impl<F: Future> Future for Guarded<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut state = self.gate.0.lock().unwrap();
            if state.shut {
                state.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
        }
        self.work.as_mut().poll(context)
    }
}
