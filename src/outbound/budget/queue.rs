//! Who goes next: every run gets its turn, however many calls another one has waiting (weighted fair queueing with equal
//! weights: Demers, Keshav and Shenker, 1989).
//!
//! Each call that has to wait holds a ticket with a number: as many turns after the present one as its run already has
//! tickets. The lowest number goes first. A ticket stays when its run gives up its worker until the moment it was told,
//! and lapses some time after that moment when nobody comes.

use std::collections::{BTreeMap, HashMap};

use crate::clock::Timestamp;
use crate::id::RunId;
use crate::limits;

/// One turn, in the units of tickets' numbers.
const TURN: u64 = 1 << 20;

/// The number of a ticket, and its place among those of the same number.
type Place = (u64, u64);

/// Tickets of one budget, the next one first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    tickets: BTreeMap<Place, Ticket>,
    places: HashMap<String, Place>,
    shares: HashMap<RunId, Share>,
    /// The turn that it is.
    present: u64,
    issued: u64,
    /// No ticket lapses before this moment.
    lapse_from: Timestamp,
}

#[derive(Debug)]
struct Ticket {
    key: String,
    run: RunId,
    lapses_at: Timestamp,
}

/// What a run has of the queue.
#[derive(Debug)]
struct Share {
    /// The number of its next ticket, at the earliest.
    next: u64,
    waiting: usize,
}

impl Queue {
    /// Tickets that wait.
    pub(super) fn len(&self) -> usize {
        self.tickets.len()
    }

    /// How many go before the call `key` of `run`. It gets a ticket when it has none, unless the queue is full of
    /// tickets that go before it.
    pub(super) fn ahead(&mut self, run: RunId, key: &str, now: Timestamp) -> usize {
        self.lapse(now);
        match self.places.get(key).copied().or_else(|| self.issue(run, key, now)) {
            Some(place) => self.tickets.range(..place).count(),
            None => self.tickets.len(),
        }
    }

    /// The call `key` was told to come at this moment.
    pub(super) fn expect(&mut self, key: &str, at: Timestamp) {
        let Some(ticket) = self.places.get(key).and_then(|place| self.tickets.get_mut(place)) else { return };
        ticket.lapses_at = at.plus(limits::QUOTA_TICKET_KEPT);
        self.lapse_from = self.lapse_from.min(ticket.lapses_at);
    }

    /// The call `key` goes out.
    pub(super) fn served(&mut self, key: &str) {
        let Some(place) = self.places.get(key).copied() else { return };
        let waiting = self.shares.values().filter(|share| share.waiting > 0).count().max(1);
        self.present = (self.present + TURN / waiting as u64).max(place.0);
        self.remove(place);
        if self.tickets.is_empty() {
            self.shares.clear();
        } else if self.shares.len() > limits::QUOTA_TICKETS_MAX {
            let present = self.present;
            self.shares.retain(|_, share| share.waiting > 0 || share.next > present);
        }
    }

    fn issue(&mut self, run: RunId, key: &str, now: Timestamp) -> Option<Place> {
        let number = self.shares.get(&run).map_or(self.present, |share| share.next.max(self.present));
        if self.tickets.len() >= limits::QUOTA_TICKETS_MAX {
            let last = *self.tickets.last_key_value()?.0;
            if last.0 <= number {
                return None;
            }
            self.remove(last);
        }
        self.issued += 1;
        let place = (number, self.issued);
        let share = self.shares.entry(run).or_insert(Share { next: number, waiting: 0 });
        share.next = number + TURN;
        share.waiting += 1;
        let lapses_at = now.plus(limits::QUOTA_TICKET_KEPT);
        self.tickets.insert(place, Ticket { key: key.to_owned(), run, lapses_at });
        self.places.insert(key.to_owned(), place);
        self.lapse_from = if self.tickets.len() == 1 { lapses_at } else { self.lapse_from.min(lapses_at) };
        Some(place)
    }

    fn remove(&mut self, place: Place) {
        let Some(ticket) = self.tickets.remove(&place) else { return };
        self.places.remove(&ticket.key);
        if let Some(share) = self.shares.get_mut(&ticket.run) {
            share.waiting -= 1;
        }
    }

    fn lapse(&mut self, now: Timestamp) {
        if self.tickets.is_empty() || now < self.lapse_from {
            return;
        }
        let lapsed: Vec<_> =
            self.tickets.iter().filter(|(_, ticket)| ticket.lapses_at <= now).map(|(place, _)| *place).collect();
        for place in lapsed {
            self.remove(place);
        }
        self.lapse_from = self.tickets.values().map(|ticket| ticket.lapses_at).min().unwrap_or_default();
    }
}
