//! Work that waits for the engine: bounded, admitted whole or not at all, handed out in batches.
//!
//! A request first reserves room for everything it brings, then prepares it, then hands it in. What it
//! does not hand in it gives back. Whoever stops waiting for an answer takes its work out of the queue with
//! the same step. Texts and pictures wait in lanes of their own, which take turns.

use crate::batch_times::BatchTimes;
use crate::limits::Limits;
use crate::reply::{Outcome, Reply};
use crate::row::Row;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Full batches that may wait however long they take: fewer would leave the engine with part of one.
const BATCHES_AHEAD: u32 = 2;

/// What an item is of: each kind has a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Text,
    Picture,
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Kind::Text, Kind::Picture];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Picture => "image",
        }
    }

    fn other(self) -> Self {
        match self {
            Kind::Text => Kind::Picture,
            Kind::Picture => Kind::Text,
        }
    }
}

/// One text or picture, ready for the engine.
pub(crate) enum Item {
    Ids(Vec<u32>),
    Pixels(Vec<f32>),
}

impl Item {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Item::Ids(_) => Kind::Text,
            Item::Pixels(_) => Kind::Picture,
        }
    }

    /// What it costs: its tokens, or one picture.
    fn cost(&self) -> usize {
        match self {
            Item::Ids(ids) => ids.len(),
            Item::Pixels(_) => 1,
        }
    }
}

/// Tokens and pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) tokens: usize,
    pub(crate) pictures: usize,
}

impl Cost {
    fn of(self, kind: Kind) -> usize {
        match kind {
            Kind::Text => self.tokens,
            Kind::Picture => self.pictures,
        }
    }
}

/// The queue has no room; it may have after so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) wait: Duration,
    pub(crate) waiting: usize,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    posted: Condvar,
    /// Most cost of a lane, and of a batch.
    bounds: [usize; 2],
    batches: [usize; 2],
    admission: Duration,
}

struct State {
    lanes: [Lane; 2],
    turn: Kind,
    closed: bool,
    next_request: u64,
    times: [BatchTimes; 2],
    /// When a worker last asked for a batch.
    asked: Instant,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// Cost of what waits.
    cost: usize,
    /// Cost of what is on its way.
    reserved: usize,
}

struct Waiting {
    request: u64,
    items: VecDeque<(usize, Item)>,
    deadline: Instant,
    reply: Arc<Reply>,
    since: Instant,
}

/// Work of one kind for the engine.
pub(crate) struct Batch {
    pub(crate) kind: Kind,
    pub(crate) cost: usize,
    pub(crate) jobs: Vec<Job>,
}

/// An item and who waits for it.
pub(crate) struct Job {
    pub(crate) item: Item,
    pub(crate) waited: Duration,
    place: usize,
    reply: Arc<Reply>,
}

impl Job {
    pub(crate) fn answer(&self, outcome: Outcome<Row>) {
        self.reply.put(self.place, outcome);
    }

    pub(crate) fn wants_raw(&self) -> bool {
        self.reply.raw
    }
}

/// Whoever waits hears something, even where a worker was lost with the batch.
impl Drop for Job {
    fn drop(&mut self) {
        self.reply.put_if_missing(self.place, || Outcome::Failed(crate::worker::failed_over_it()));
    }
}

/// What is seen of a queue from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    pub(crate) requests: usize,
    pub(crate) waiting: usize,
    pub(crate) reserved: usize,
}

impl Queue {
    pub(crate) fn new(limits: &Limits) -> Self {
        let state = State {
            lanes: [Lane::default(), Lane::default()],
            turn: Kind::Text,
            closed: false,
            next_request: 0,
            times: [BatchTimes::default(), BatchTimes::default()],
            asked: Instant::now(),
        };
        Self {
            state: Mutex::new(state),
            posted: Condvar::new(),
            bounds: [limits.queue_tokens, limits.queue_pictures],
            batches: [limits.batch_tokens.max(1), limits.batch_pictures.max(1)],
            admission: limits.admission,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for all that a request brings, or for nothing of it.
    pub(crate) fn reserve(self: &Arc<Self>, cost: Cost) -> Result<Reservation, Full> {
        self.reserve_within(cost, self.admission)
    }

    /// The same however long it will wait: for what only looks whether anything is answered.
    pub(crate) fn reserve_patiently(self: &Arc<Self>, cost: Cost) -> Result<Reservation, Full> {
        self.reserve_within(cost, Duration::MAX)
    }

    fn reserve_within(
        self: &Arc<Self>,
        cost: Cost,
        admission: Duration,
    ) -> Result<Reservation, Full> {
        let mut state = self.lock();
        for kind in Kind::ALL {
            let (brings, lane) = (cost.of(kind), &state.lanes[kind as usize]);
            let held = lane.cost + lane.reserved;
            if brings == 0 {
                continue;
            }
            let wait = self.wait(&state, kind);
            // Where a batch takes longer than that, what waits may still fill the next ones.
            let batches = state.times[kind as usize].of_full() * BATCHES_AHEAD;
            let too_long = held > 0 && wait > admission.max(batches);
            if too_long || held + brings > self.bounds[kind as usize] {
                return Err(Full { wait, waiting: held });
            }
        }
        for kind in Kind::ALL {
            state.lanes[kind as usize].reserved += cost.of(kind);
        }
        Ok(Reservation { queue: Arc::clone(self), cost })
    }

    /// How long what is handed in now would wait before it is begun.
    fn wait(&self, state: &State, kind: Kind) -> Duration {
        let batches = |kind: Kind| {
            let lane = &state.lanes[kind as usize];
            (lane.cost + lane.reserved).div_ceil(self.batches[kind as usize]) as u32
        };
        let time = |kind: Kind| state.times[kind as usize].of_full();
        let (own, others) = (batches(kind), batches(kind.other()));
        time(kind) * own + time(kind.other()) * own.min(others)
    }

    /// Waits for work. `None` once it is closed and empty.
    pub(crate) fn next(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            state.asked = Instant::now();
            for kind in [state.turn, state.turn.other()] {
                let batch = state.lanes[kind as usize].take(kind, self.batches[kind as usize]);
                if let Some(batch) = batch {
                    state.turn = kind.other();
                    return Some(batch);
                }
            }
            if state.closed {
                return None;
            }
            state = self.posted.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Learns how long a batch took.
    pub(crate) fn took(&self, kind: Kind, cost: usize, time: Duration) {
        let share = cost as f64 / self.batches[kind as usize] as f64;
        self.lock().times[kind as usize].add(share, time);
    }

    /// How long a full batch of the slower kind takes, as far as that is known.
    pub(crate) fn slowest_batch(&self) -> Option<Duration> {
        let state = self.lock();
        state.times.iter().filter(|times| times.is_known()).map(BatchTimes::of_full).max()
    }

    /// Since when something waits that no worker asked for.
    pub(crate) fn unasked_since(&self) -> Option<Instant> {
        let state = self.lock();
        let first =
            state.lanes.iter().filter_map(|lane| Some(lane.waiting.front()?.since)).min()?;
        Some(first.max(state.asked))
    }

    pub(crate) fn depth(&self, kind: Kind) -> Depth {
        let state = self.lock();
        let lane = &state.lanes[kind as usize];
        Depth { requests: lane.waiting.len(), waiting: lane.cost, reserved: lane.reserved }
    }

    /// Nothing more comes; what waits is still handed out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.posted.notify_all();
    }

    fn cancel(&self, request: u64) {
        let mut state = self.lock();
        for lane in &mut state.lanes {
            let place = lane.waiting.iter().position(|waiting| waiting.request == request);
            if let Some(waiting) = place.and_then(|place| lane.waiting.remove(place)) {
                lane.cost -= waiting.cost();
            }
        }
    }
}

impl Waiting {
    fn cost(&self) -> usize {
        self.items.iter().map(|(_, item)| item.cost()).sum()
    }
}

impl Lane {
    /// The next items that fit into a batch, the oldest first. Work that nobody waits for any more is
    /// dropped.
    fn take(&mut self, kind: Kind, bound: usize) -> Option<Batch> {
        let now = Instant::now();
        let (mut jobs, mut cost) = (Vec::new(), 0);
        while let Some(waiting) = self.waiting.front_mut() {
            let late = waiting.deadline <= now;
            if late || !waiting.reply.is_wanted() {
                let Some(waiting) = self.waiting.pop_front() else { break };
                self.cost -= waiting.cost();
                if late {
                    waiting.items.iter().for_each(|(place, _)| {
                        waiting.reply.put(*place, Outcome::Late);
                    });
                }
                continue;
            }
            let Some((_, item)) = waiting.items.front() else {
                self.waiting.pop_front();
                continue;
            };
            if !jobs.is_empty() && cost + item.cost() > bound {
                break;
            }
            cost += item.cost();
            self.cost -= item.cost();
            let Some((place, item)) = waiting.items.pop_front() else { break };
            let (waited, reply) = (now - waiting.since, Arc::clone(&waiting.reply));
            jobs.push(Job { item, waited, place, reply });
        }
        (!jobs.is_empty()).then_some(Batch { kind, cost, jobs })
    }
}

/// Room in the queue that is not used yet.
pub(crate) struct Reservation {
    queue: Arc<Queue>,
    cost: Cost,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        for kind in Kind::ALL {
            state.lanes[kind as usize].reserved -= self.cost.of(kind);
        }
    }
}

impl Reservation {
    /// Hands in everything at once, in exchange for the room. `raw` asks for rows that are not normalised.
    ///
    /// # Errors
    /// [`Full`] where it turned out to be more than was reserved, and there is no room for that.
    pub(crate) fn submit(
        mut self,
        items: Vec<Item>,
        raw: bool,
        deadline: Instant,
    ) -> Result<Ticket, Full> {
        let (sender, answers) = oneshot::channel();
        let reply = Arc::new(Reply::new(items.len(), raw, sender));
        let mut lanes = [VecDeque::new(), VecDeque::new()];
        let mut costs = [0, 0];
        for (place, item) in items.into_iter().enumerate() {
            costs[item.kind() as usize] += item.cost();
            lanes[item.kind() as usize].push_back((place, item));
        }
        let queue = Arc::clone(&self.queue);
        let mut state = queue.lock();
        for kind in Kind::ALL {
            let lane = &state.lanes[kind as usize];
            let others = lane.cost + lane.reserved - self.cost.of(kind);
            if others + costs[kind as usize] > queue.bounds[kind as usize] {
                let full = Full { wait: queue.wait(&state, kind), waiting: others };
                // The room is given back when `self` is dropped, which takes the lock.
                drop(state);
                return Err(full);
            }
        }
        let request = state.next_request;
        state.next_request += 1;
        let since = Instant::now();
        for (lane, (items, cost)) in state.lanes.iter_mut().zip(lanes.into_iter().zip(costs)) {
            if items.is_empty() {
                continue;
            }
            lane.cost += cost;
            let reply = Arc::clone(&reply);
            lane.waiting.push_back(Waiting { request, items, deadline, reply, since });
        }
        // Under the same lock: nobody sees both the work and the room for it, or neither.
        for kind in Kind::ALL {
            state.lanes[kind as usize].reserved -= self.cost.of(kind);
        }
        self.cost = Cost::default();
        drop(state);
        queue.posted.notify_one();
        Ok(Ticket { queue, request, reply, answers })
    }
}

/// Waits for the answers of a request. Who drops it takes its work back.
pub(crate) struct Ticket {
    queue: Arc<Queue>,
    request: u64,
    reply: Arc<Reply>,
    answers: oneshot::Receiver<Vec<Outcome<Row>>>,
}

impl Ticket {
    /// One outcome for each item, in order.
    pub(crate) async fn answers(&mut self) -> Option<Vec<Outcome<Row>>> {
        (&mut self.answers).await.ok()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.reply.abandon() {
            self.queue.cancel(self.request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue(tokens: usize, batch: usize) -> Arc<Queue> {
        let limits = Limits {
            queue_tokens: tokens,
            queue_pictures: 8,
            batch_tokens: batch,
            batch_pictures: 2,
            ..Limits::default()
        };
        Arc::new(Queue::new(&limits))
    }

    fn texts(lengths: &[usize]) -> (Cost, Vec<Item>) {
        let items = lengths.iter().map(|&length| Item::Ids(vec![1; length])).collect();
        (Cost { tokens: lengths.iter().sum(), pictures: 0 }, items)
    }

    fn hand_in(queue: &Arc<Queue>, lengths: &[usize]) -> Result<Ticket, Full> {
        let (cost, items) = texts(lengths);
        queue.reserve(cost)?.submit(items, false, Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn a_request_is_admitted_whole_or_not_at_all() {
        let queue = queue(100, 40);
        let first = hand_in(&queue, &[30, 30]).unwrap();
        assert!(hand_in(&queue, &[20, 21]).is_err());
        assert_eq!(queue.depth(Kind::Text), Depth { requests: 1, waiting: 60, reserved: 0 });
        let second = hand_in(&queue, &[20, 20]).unwrap();
        // Batches are filled across requests, the oldest first.
        let sizes = |batch: Batch| batch.jobs.len();
        assert_eq!(sizes(queue.next().unwrap()), 1);
        assert_eq!(sizes(queue.next().unwrap()), 1);
        assert_eq!(sizes(queue.next().unwrap()), 2);
        drop((first, second));
        queue.close();
        assert!(queue.next().is_none());
    }

    #[test]
    fn who_stops_waiting_gives_the_room_back_at_once() {
        let queue = queue(100, 100);
        let first = hand_in(&queue, &[60]).unwrap();
        let second = hand_in(&queue, &[40]).unwrap();
        assert!(hand_in(&queue, &[50]).is_err());
        drop(first);
        assert_eq!(queue.depth(Kind::Text).waiting, 40);
        let third = hand_in(&queue, &[50]).unwrap();
        let batch = queue.next().unwrap();
        assert_eq!(batch.jobs.len(), 2);
        drop((second, third));
    }

    #[test]
    fn what_is_late_is_not_computed() {
        let queue = queue(100, 100);
        let (cost, items) = texts(&[10]);
        let now = Instant::now();
        let late = queue.reserve(cost).unwrap().submit(items, false, now).unwrap();
        let kept = hand_in(&queue, &[5]).unwrap();
        assert_eq!(queue.next().unwrap().cost, 5);
        let mut late = late;
        assert!(matches!(late.answers.try_recv().unwrap()[..], [Outcome::Late]));
        drop(kept);
    }

    #[test]
    fn lanes_take_turns() {
        let queue = queue(1000, 10);
        let tickets: Vec<Ticket> = (0..3).map(|_| hand_in(&queue, &[10]).unwrap()).collect();
        let cost = Cost { tokens: 0, pictures: 4 };
        let pixels = (0..4).map(|_| Item::Pixels(vec![0.0])).collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        let pictures = queue.reserve(cost).unwrap().submit(pixels, false, deadline).unwrap();
        let kinds: Vec<Kind> = (0..5).map(|_| queue.next().unwrap().kind).collect();
        use Kind::{Picture, Text};
        assert_eq!(kinds, [Text, Picture, Text, Picture, Text]);
        drop((tickets, pictures));
    }

    #[test]
    fn a_full_queue_says_how_long_it_takes() {
        let queue = queue(1000, 10);
        let first = hand_in(&queue, &[10; 3]).unwrap();
        queue.took(Kind::Text, 10, Duration::from_millis(400));
        let full = hand_in(&queue, &[1]).err().unwrap();
        assert_eq!(full.wait, Duration::from_millis(1200));
        // An empty lane takes whatever fits it.
        drop(first);
        assert!(hand_in(&queue, &[1]).is_ok());
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_its_bound(steps in proptest::collection::vec((0usize..4, 1usize..60), 1..200)) {
            let queue = queue(100, 40);
            let (mut tickets, mut reservations) = (Vec::new(), Vec::new());
            for (what, size) in steps {
                match what {
                    0 => tickets.extend(hand_in(&queue, &[size]).ok()),
                    1 => reservations.extend(queue.reserve(Cost { tokens: size, pictures: 0 }).ok()),
                    2 if !tickets.is_empty() => drop(tickets.remove(size % tickets.len())),
                    3 if !reservations.is_empty() => {
                        let reservation: Reservation = reservations.remove(size % reservations.len());
                        // More than was reserved.
                        let (_, items) = texts(&[size, size]);
                        let deadline = Instant::now() + Duration::from_secs(60);
                        tickets.extend(reservation.submit(items, false, deadline).ok());
                    }
                    _ => {}
                }
                let depth = queue.depth(Kind::Text);
                prop_assert!(depth.waiting + depth.reserved <= 100, "{depth:?}");
            }
            drop((tickets, reservations));
            let depth = queue.depth(Kind::Text);
            prop_assert_eq!((depth.waiting, depth.reserved), (0, 0));
        }
    }
}
