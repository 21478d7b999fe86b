//! Which connections are open: within limits in all and of one source address, the longest idle closed to make room.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ipnet::IpNet;
use tokio::sync::Notify;

use crate::{config::Config, limits::limited_as, metrics::Metrics};

/// The open connections of one listener.
pub(super) struct Connections {
    total_max: usize,
    source_max: usize,
    /// They carry the requests of many senders.
    trusted: Vec<IpNet>,
    head_wait: Duration,
    idle_wait: Duration,
    /// Times of connections count from here.
    began: Instant,
    open: Mutex<Open>,
    released: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Open {
    total: usize,
    next_id: u64,
    by_source: HashMap<IpAddr, HashMap<u64, Arc<Connection>>>,
}

/// What one connection is doing. It changes without a lock: several times a request.
#[derive(Debug)]
pub(super) struct Connection {
    /// The phase in the lowest two bits, milliseconds since the listener began in the others.
    state: AtomicU64,
    close: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The head of a request is on its way, or the connection has just come.
    Head,
    /// A request is being answered.
    Busy,
    /// Answered, and nothing has come since.
    Idle,
    /// It is about to be closed to make room.
    Closing,
}

/// The place of one connection, until it is dropped.
pub(super) struct Place {
    connections: Arc<Connections>,
    source: IpAddr,
    id: u64,
    pub(super) connection: Arc<Connection>,
}

/// Why there is no place for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Its source address has as many as it may, all of them at work.
    Source,
    /// There are as many as there may be, and none that may be closed.
    Total,
}

/// How long a connection has for its first bytes, before it may be closed for another's sake.
const HEAD_PATIENCE: Duration = Duration::from_secs(1);
/// Of all connections, one in so many is closed when there is no place: looking at all of them takes a while.
const CLOSED_AT_ONCE: usize = 256;

impl Connections {
    pub(super) fn new(config: &Config, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            total_max: config.connections_max,
            source_max: config.source_connections_max,
            trusted: config.trusted_proxies.clone(),
            head_wait: Duration::from_secs(config.header_read_seconds),
            idle_wait: Duration::from_secs(config.idle_connection_seconds),
            began: Instant::now(),
            open: Mutex::default(),
            released: Notify::new(),
            metrics,
        })
    }

    /// A place for a connection from `peer`; where there is none left, that of the longest idle one.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Place, NoPlace> {
        let source = limited_as(peer);
        let now = self.millis();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let limited = !self.trusted.iter().any(|net| net.contains(&peer.to_canonical()));
        let own = open.by_source.get(&source).map_or(0, HashMap::len);
        if limited && own >= self.source_max && open.make_room(Some(source), now + 1, 1) == 0 {
            self.metrics.connection_refused();
            return Err(NoPlace::Source);
        }
        if open.total >= self.total_max {
            let at_once = (self.total_max / CLOSED_AT_ONCE).max(1);
            let before = now.saturating_sub(millis(HEAD_PATIENCE));
            if open.make_room(None, before, at_once) == 0 {
                return Err(NoPlace::Total);
            }
        }
        Ok(self.place(&mut open, source))
    }

    /// A place beyond the limits, for a connection that was accepted before the listener stopped.
    pub(super) fn admit_last(self: &Arc<Self>, peer: IpAddr) -> Place {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.place(&mut open, limited_as(peer))
    }

    /// Returns when a connection has ended.
    pub(super) async fn released(&self) {
        self.released.notified().await;
    }

    fn place(self: &Arc<Self>, open: &mut Open, source: IpAddr) -> Place {
        let state = AtomicU64::new(Phase::Head.at(self.millis()));
        let connection = Arc::new(Connection { state, close: Notify::new() });
        let id = open.next_id;
        open.next_id += 1;
        open.total += 1;
        open.by_source.entry(source).or_default().insert(id, connection.clone());
        self.metrics.connections_open(1);
        Place { connections: self.clone(), source, id, connection }
    }

    fn millis(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

impl Open {
    /// Has up to `most` connections closed, of one source or of all, the longest idle first; then those whose heads
    /// began before `heads_before`. How many.
    fn make_room(&mut self, source: Option<IpAddr>, heads_before: u64, most: usize) -> usize {
        let mut closable: Vec<_> = if let Some(source) = source {
            closable(source, self.by_source.get(&source), heads_before).collect()
        } else {
            let all = self.by_source.iter();
            all.flat_map(|(source, own)| closable(*source, Some(own), heads_before)).collect()
        };
        closable.sort_unstable();
        let mut closed = 0;
        for (_, _, source, id) in closable {
            if closed == most {
                break;
            }
            let Some(own) = self.by_source.get(&source) else { continue };
            if own.get(&id).is_some_and(|connection| connection.try_close()) {
                self.remove(source, id);
                closed += 1;
            }
        }
        closed
    }

    fn remove(&mut self, source: IpAddr, id: u64) -> bool {
        let Some(own) = self.by_source.get_mut(&source) else { return false };
        let was_there = own.remove(&id).is_some();
        if own.is_empty() {
            self.by_source.remove(&source);
        }
        self.total -= usize::from(was_there);
        was_there
    }
}

/// What may be closed to make room: idle ones first, then heads, each by its age.
fn closable(
    source: IpAddr,
    own: Option<&HashMap<u64, Arc<Connection>>>,
    heads_before: u64,
) -> impl Iterator<Item = (bool, u64, IpAddr, u64)> {
    own.into_iter().flatten().filter_map(move |(id, connection)| match connection.now() {
        (Phase::Idle, since) => Some((false, since, source, *id)),
        (Phase::Head, since) if since < heads_before => Some((true, since, source, *id)),
        (Phase::Head | Phase::Busy | Phase::Closing, _) => None,
    })
}

impl Connection {
    fn now(&self) -> (Phase, u64) {
        Phase::of(self.state.load(Ordering::Acquire))
    }

    /// Whether it is closed now, instead of serving another request.
    fn try_close(&self) -> bool {
        let closing = |state| match Phase::of(state) {
            (Phase::Head | Phase::Idle, since) => Some(Phase::Closing.at(since)),
            (Phase::Busy | Phase::Closing, _) => None,
        };
        let closes = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, closing).is_ok();
        if closes {
            self.close.notify_one();
        }
        closes
    }
}

impl Place {
    /// Bytes have come.
    pub(super) fn bytes_arrived(&self) {
        let now = self.connection.now();
        if now.0 == Phase::Idle {
            let head = Phase::Head.at(self.connections.millis());
            let idle = Phase::Idle.at(now.1);
            // When it fails the connection is being closed.
            self.connection.state.compare_exchange(idle, head, Ordering::AcqRel, Ordering::Acquire).ok();
        }
    }

    /// A request begins, unless the connection is being closed.
    pub(super) fn request_begins(&self) -> bool {
        let busy = |state| match Phase::of(state) {
            (Phase::Closing, _) => None,
            (Phase::Head | Phase::Busy | Phase::Idle, since) => Some(Phase::Busy.at(since)),
        };
        self.connection.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, busy).is_ok()
    }

    /// Its answer has been written.
    pub(super) fn request_ends(&self) {
        let idle = Phase::Idle.at(self.connections.millis());
        let ended = |state| (Phase::of(state).0 == Phase::Busy).then_some(idle);
        self.connection.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, ended).ok();
    }

    /// Returns when another connection needs the place.
    pub(super) async fn is_needed(&self) {
        self.connection.close.notified().await;
    }

    /// Returns when the connection has been silent for longer than it may: in a head, or between two requests.
    pub(super) async fn is_overdue(&self) {
        let connections = &self.connections;
        loop {
            let (phase, since) = self.connection.now();
            let silent = connections.began.elapsed().saturating_sub(Duration::from_millis(since));
            let left = match phase {
                Phase::Head => connections.head_wait.checked_sub(silent),
                Phase::Idle => connections.idle_wait.checked_sub(silent),
                Phase::Busy | Phase::Closing => Some(connections.head_wait),
            };
            let Some(left) = left.filter(|left| !left.is_zero()) else { return };
            // A head may begin the next moment, and its time is the shorter one: so that no timer is set for a request.
            tokio::time::sleep(left.min(connections.head_wait).max(Duration::from_millis(1))).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let connections = &self.connections;
        let mut open = connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Else it was taken already, to make room.
        open.remove(self.source, self.id);
        drop(open);
        connections.metrics.connections_open(-1);
        connections.released.notify_one();
    }
}

impl Phase {
    fn at(self, millis: u64) -> u64 {
        millis << 2 | self as u64
    }

    fn of(state: u64) -> (Self, u64) {
        let phase = match state & 3 {
            0 => Self::Head,
            1 => Self::Busy,
            2 => Self::Idle,
            _ => Self::Closing,
        };
        (phase, state >> 2)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn connections(total: usize, of_source: usize) -> Arc<Connections> {
        let config = Config {
            connections_max: total,
            source_connections_max: of_source,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..Config::default()
        };
        Connections::new(&config, Arc::default())
    }

    fn phase(place: &Place) -> Phase {
        place.connection.now().0
    }

    /// A connection that was idle since then.
    fn idle(place: &Place, since: u64) {
        place.connection.state.store(Phase::Idle.at(since), Ordering::Release);
    }

    #[test]
    fn one_address_gets_no_more_than_its_places_and_its_longest_idle_one_makes_room() {
        let connections = connections(100, 2);
        let [first, second] = [connections.admit(ONE).unwrap(), connections.admit(ONE).unwrap()];
        assert!(first.request_begins() && second.request_begins());
        assert_eq!(connections.admit(ONE).err(), Some(NoPlace::Source));
        let other = connections.admit(OTHER).unwrap();
        idle(&other, 0);
        idle(&first, 7);
        idle(&second, 3);
        let third = connections.admit(ONE).unwrap();
        assert_eq!(
            [phase(&first), phase(&second), phase(&other)],
            [Phase::Idle, Phase::Closing, Phase::Idle]
        );
        assert!(!second.request_begins(), "it is being closed");
        assert!(first.request_begins() && third.request_begins());
        drop(second);
        assert_eq!(connections.admit(ONE).err(), Some(NoPlace::Source), "its place was taken before");
        drop(first);
        connections.admit(ONE).unwrap();
    }

    #[test]
    fn half_sent_heads_of_an_address_make_room_for_its_own_next_connection() {
        let connections = connections(100, 2);
        let [first, second] = [connections.admit(ONE).unwrap(), connections.admit(ONE).unwrap()];
        let third = connections.admit(ONE).unwrap();
        let closing = [&first, &second, &third].map(|place| phase(place) == Phase::Closing);
        assert_eq!(closing.iter().filter(|closing| **closing).count(), 1);
        assert!(!closing[2]);
    }

    #[test]
    fn a_full_host_closes_idle_connections_and_not_those_that_have_just_come() {
        let connections = connections(3, 3);
        let places: Vec<_> = [ONE, OTHER, OTHER].map(|source| connections.admit(source).unwrap()).into();
        assert_eq!(connections.admit(PROXY).err(), Some(NoPlace::Total));
        assert!(places[0].request_begins());
        idle(&places[1], 0);
        connections.admit(PROXY).unwrap();
        assert_eq!(phase(&places[1]), Phase::Closing);
        assert_eq!(connections.open.lock().unwrap().total, 2);
    }

    #[test]
    fn trusted_proxies_carry_many_senders() {
        let connections = connections(100, 1);
        let places: Vec<_> = (0..10).map(|_| connections.admit(PROXY).unwrap()).collect();
        assert!(places.iter().all(Place::request_begins));
    }
}
