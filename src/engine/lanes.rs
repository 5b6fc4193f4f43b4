//! Who may run beside whom. A lane is a named place with room for a few runs: one for each concurrency key, each
//! route with a limit, each schedule that queues. A run holds its lanes from its start to its end, waits included, so
//! that the runs of one order never overtake each other.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::id::RunId;

/// A lane that a run wants, and the room in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) room: usize,
}

#[derive(Debug, Default)]
struct Held {
    holders: HashSet<RunId>,
    /// Runs that the store hides behind this lane; a hint, corrected when it turns out to be wrong.
    parked: usize,
}

/// All lanes of this process.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_name: HashMap<String, Held>,
    of_run: BTreeMap<RunId, Vec<Lane>>,
    freed: Vec<String>,
}

impl Lanes {
    /// Takes all lanes, or says which one is full. `from_park` is the lane whose oldest parked run this is: it does
    /// not have to stand behind the others there.
    pub(super) fn take(&mut self, run: RunId, wanted: &[Lane], from_park: Option<&str>) -> Result<(), Lane> {
        if self.of_run.contains_key(&run) {
            return Ok(());
        }
        for lane in wanted {
            let Some(held) = self.by_name.get(&lane.name) else { continue };
            let behind_others = held.parked > 0 && from_park != Some(lane.name.as_str());
            if held.holders.len() >= lane.room || behind_others {
                return Err(lane.clone());
            }
        }
        for lane in wanted {
            self.by_name.entry(lane.name.clone()).or_default().holders.insert(run);
        }
        if !wanted.is_empty() {
            self.of_run.insert(run, wanted.to_vec());
        }
        Ok(())
    }

    /// One more run is hidden behind this lane. When the lane has emptied meanwhile, it counts as freed at once.
    pub(super) fn parked(&mut self, lane: &str) {
        let held = self.by_name.entry(lane.to_owned()).or_default();
        held.parked += 1;
        if held.holders.is_empty() {
            self.freed.push(lane.to_owned());
        }
    }

    /// A run came out from behind this lane, or the store says that there is none.
    pub(super) fn unparked(&mut self, lane: &str, found: bool) {
        if let Some(held) = self.by_name.get_mut(lane) {
            held.parked = if found { held.parked.saturating_sub(1) } else { 0 };
            self.forget_if_empty(lane);
        }
    }

    /// The run ended: its lanes have room again.
    pub(super) fn release(&mut self, run: RunId) {
        for lane in self.of_run.remove(&run).unwrap_or_default() {
            if let Some(held) = self.by_name.get_mut(&lane.name) {
                held.holders.remove(&run);
                if held.parked > 0 {
                    self.freed.push(lane.name.clone());
                }
                self.forget_if_empty(&lane.name);
            }
        }
    }

    /// Lanes that got room since the last call and have runs behind them.
    pub(super) fn take_freed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.freed)
    }

    /// There was no worker for the runs behind this lane: it counts as freed next time too.
    pub(super) fn not_yet(&mut self, lane: String) {
        self.freed.push(lane);
    }

    /// The runs that hold a lane, oldest first.
    pub(super) fn holders(&self, lane: &str) -> Vec<RunId> {
        let mut holders: Vec<_> =
            self.by_name.get(lane).into_iter().flat_map(|held| held.holders.iter().copied()).collect();
        holders.sort_unstable();
        holders
    }

    /// The runs that hold lanes which others wait for.
    pub(super) fn in_the_way(&self) -> HashSet<RunId> {
        self.by_name.values().filter(|held| held.parked > 0).flat_map(|held| held.holders.iter().copied()).collect()
    }

    fn forget_if_empty(&mut self, lane: &str) {
        if self.by_name.get(lane).is_some_and(|held| held.holders.is_empty() && held.parked == 0) {
            self.by_name.remove(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str, room: usize) -> Lane {
        Lane { name: name.to_owned(), room }
    }

    fn run(number: u64) -> RunId {
        RunId::from_u64(number)
    }

    #[test]
    fn a_lane_holds_as_many_as_it_has_room_for() {
        let mut lanes = Lanes::default();
        let wanted = [lane("order/1", 1)];
        assert_eq!(lanes.take(run(1), &wanted, None), Ok(()));
        assert_eq!(lanes.take(run(1), &wanted, None), Ok(()), "it holds it already");
        assert_eq!(lanes.take(run(2), &wanted, None), Err(lane("order/1", 1)));
        lanes.parked("order/1");
        lanes.release(run(1));
        assert_eq!(lanes.take_freed(), ["order/1"]);
        assert_eq!(lanes.take(run(3), &wanted, None), Err(lane("order/1", 1)), "run 2 came first");
        lanes.unparked("order/1", true);
        assert_eq!(lanes.take(run(2), &wanted, Some("order/1")), Ok(()));
        lanes.release(run(2));
        assert!(lanes.by_name.is_empty() && lanes.of_run.is_empty());
    }

    #[test]
    fn all_lanes_or_none() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.take(run(1), &[lane("a", 1)], None), Ok(()));
        assert_eq!(lanes.take(run(2), &[lane("b", 1), lane("a", 1)], None), Err(lane("a", 1)));
        assert_eq!(lanes.take(run(3), &[lane("b", 1)], None), Ok(()), "run 2 left nothing behind in b");
    }
}
