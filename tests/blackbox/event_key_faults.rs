//! Events with keys of their own when things go wrong: contention, rows that are refused, connections that break.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use hookpack::{config::Config, ingest::NotStored};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream, unix},
};

use crate::{
    event_keys::{Host, count, delivery, is_first, logged, named, own_ids, stored, under_key},
    harness::{TestDatabase, eventually},
};

/// Four writers, many small batches, the same keys in every order.
#[tokio::test(flavor = "multi_thread")]
async fn overlapping_deliveries_in_any_order_never_deadlock() {
    let database = TestDatabase::new().await;
    let config =
        || Config { writers: Some(2), batch_rows_max: 3, store_wait_seconds: 60, ..Config::default() };
    let hosts = [Host::with(config(), &database.url).await, Host::with(config(), &database.url).await];
    let mut random = 42_u64;
    let mut pick = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..40 {
        let deliveries: Vec<_> = (0..24)
            .map(|_| {
                let keys: Vec<_> = (0..8).map(|_| format!("{round} {}", pick(20))).collect();
                let keys: Vec<_> = keys.iter().map(String::as_str).collect();
                let delivery = delivery(&keys);
                if pick(2) == 0 { under_key(&format!("{round} {}", pick(12)), delivery) } else { delivery }
            })
            .collect();
        let sent = deliveries.iter().enumerate().map(|(number, delivery)| hosts[number % 2].store(delivery));
        let answers = join_all(sent).await;
        let rows = stored(&database.pool).await;
        for (delivery, answer) in deliveries.iter().zip(&answers) {
            // One that repeats a delivery names that one's events.
            if delivery.key.is_none() || is_first(answer) {
                let keys = delivery.events.iter().map(|event| event.key.as_ref().unwrap());
                assert_eq!(named(answer), keys.map(|key| rows[key]).collect::<Vec<_>>());
            }
            assert!(named(answer).iter().all(|id| rows.values().any(|row| row == id)));
        }
    }
    // A backend counts its deadlocks when it ends, at the latest.
    for host in hosts {
        host.stop().await;
    }
    let writers = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'hookpack'";
    eventually("an end", async || (count(&database.pool, writers).await == 0).then_some(())).await;
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(count(&database.pool, deadlocks).await, 0);
    let failed = "select count(*) from hookpack.request_log where outcome not in ('accepted', 'duplicate')";
    assert_eq!(count(&database.pool, failed).await, 0);
}

/// The operator's own rule on the table refuses some rows: their neighbours are stored, twins of theirs included.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_event_neither_fails_its_neighbours_nor_takes_their_keys() {
    let database = TestDatabase::new().await;
    sqlx::raw_sql("alter table hookpack.event add check (payload::text not like '%poison%')")
        .execute(&database.pool)
        .await
        .unwrap();
    let host = Host::on(&database.url, 1).await;
    let deliveries: Vec<_> = (0..40)
        .map(|number| {
            let mut sent = delivery(&[&format!("{}", number / 4), "shared"]);
            if number % 4 == 0 {
                sent.events[0].payload = "\"poison\"".to_owned();
            }
            if number == 3 { under_key("x", sent) } else { sent }
        })
        .collect();
    let answers = host.store_together(&database.pool, deliveries.clone()).await;
    let rows = stored(&database.pool).await;
    for (number, (delivery, answer)) in deliveries.iter().zip(answers).enumerate() {
        if number % 4 == 0 {
            assert!(matches!(answer, Err(NotStored::Refused(_))), "{answer:?}");
            assert!(own_ids(delivery).iter().all(|id| rows.values().all(|row| row != id)));
        } else {
            assert_eq!(named(&answer.unwrap()), [rows[&(number / 4).to_string()], rows["shared"]]);
        }
    }
    // Ten, the shared one, the plug; and nobody holds a key without an event.
    assert_eq!(rows.len(), 12);
    let keys = "select count(*) from hookpack.event_key k join hookpack.event e on e.id = k.event_id";
    assert_eq!(count(&database.pool, keys).await, 12);
    assert_eq!(count(&database.pool, "select count(*) from hookpack.event_key").await, 12);
}

/// The moment at which a line is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    BeforeCommit,
    AfterCommit,
}

/// A line to the database that can be cut in the moment of a commit.
struct Line {
    url: String,
    state: Arc<LineState>,
    _folder: TempDir,
}

#[derive(Default)]
struct LineState {
    /// When to cut, and how many commits to let through before.
    cut: Mutex<Option<(Cut, usize)>>,
    /// Whether a transaction of several statements was seen.
    transactions: AtomicBool,
}

impl Line {
    fn to(database: &TestDatabase) -> Self {
        let options = database.pool.connect_options();
        let name = format!(".s.PGSQL.{}", options.get_port());
        let server = options.get_socket().unwrap().join(&name);
        let folder = tempfile::tempdir().unwrap();
        let door = UnixListener::bind(folder.path().join(&name)).unwrap();
        let state = Arc::new(LineState::default());
        tokio::spawn({
            let state = state.clone();
            async move {
                while let Ok((client, _)) = door.accept().await {
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = UnixStream::connect(&server).await.unwrap().into_split();
                    // The first direction that ends takes the other with it.
                    let (up, down) = (state.clone(), state.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = up.carry(from_client, to_server, Cut::BeforeCommit) => {}
                            () = down.carry(from_server, to_client, Cut::AfterCommit) => {}
                        }
                    });
                }
            }
        });
        let socket = folder.path().to_str().unwrap().replace('/', "%2F");
        let (_, user_and_database) = database.url.split_once("://").unwrap();
        let (user, rest) = user_and_database.split_once('@').unwrap();
        let (_, name) = rest.split_once('/').unwrap();
        Self { url: format!("postgres://{user}@{socket}/{name}"), state, _folder: folder }
    }

    fn cut(&self, cut: Cut, commits_before: usize) {
        *self.state.cut.lock().unwrap() = Some((cut, commits_before));
    }

    fn was_cut(&self) -> bool {
        self.state.cut.lock().unwrap().is_none()
    }
}

impl LineState {
    /// Carries one direction until it ends or is cut.
    async fn carry(&self, mut from: unix::OwnedReadHalf, mut to: unix::OwnedWriteHalf, side: Cut) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
            let has = |word: &[u8]| buffer[..length].windows(word.len()).any(|part| part == word);
            if has(b"BEGIN") {
                self.transactions.store(true, Ordering::Relaxed);
            }
            if has(b"COMMIT") && self.cuts(side) {
                return;
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }

    fn cuts(&self, side: Cut) -> bool {
        let mut cut = self.cut.lock().unwrap();
        match &mut *cut {
            Some((at, 0)) if *at == side => {
                *cut = None;
                true
            }
            Some((at, commits)) if *at == side => {
                *commits -= 1;
                false
            }
            _ => false,
        }
    }
}

/// The writer's backend ends between its two statements: the first one's rows are gone with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_in_the_middle_stores_all_or_nothing_and_then_all() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let mut lock = database.pool.begin().await.unwrap();
    sqlx::raw_sql("lock table hookpack.event_key in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let sent = under_key("x", delivery(&["a", "", "b"]));
    let storing = tokio::spawn({
        let (ingest, sent) = (host.ingest.clone(), sent.clone());
        async move { ingest.store(sent).await }
    });
    for _ in 0..2 {
        let waits = "select pid from pg_stat_activity
                     where datname = current_database() and application_name = 'hookpack' and wait_event_type = 'Lock'";
        let pid: i32 = eventually("a writer that waits", async || {
            sqlx::query_scalar(waits).fetch_optional(&database.pool).await.unwrap()
        })
        .await;
        let cut = "select pg_terminate_backend($1, 30000)";
        let cut: bool = sqlx::query_scalar(cut).bind(pid).fetch_one(&database.pool).await.unwrap();
        assert!(cut);
        assert_eq!(count(&database.pool, "select count(*) from hookpack.event").await, 0);
    }
    lock.rollback().await.unwrap();
    let answer = storing.await.unwrap().unwrap();
    assert_eq!((is_first(&answer), named(&answer)), (true, own_ids(&sent)));
    assert_eq!(count(&database.pool, "select count(*) from hookpack.event").await, 3);
}

/// The commit itself is lost, on its way there or on its way back: the batch is sent again, with the same ids.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_commit_was_lost_comes_out_the_same_when_it_is_sent_again() {
    for cut in [Cut::BeforeCommit, Cut::AfterCommit] {
        let database = TestDatabase::new().await;
        let line = Line::to(&database);
        let host = Host::on(&line.url, 1).await;
        let earlier = delivery(&["a"]);
        host.store(&earlier).await;
        for deliveries in [
            vec![delivery(&["a", "b", "c"]), delivery(&["c", "a"]), delivery(&["", "d"])],
            vec![
                under_key("x", delivery(&["a", "e"])),
                under_key("y", delivery(&["e", "a"])),
                under_key("x", delivery(&["f"])),
            ],
        ] {
            // The plug's commit is the one that is not cut.
            line.cut(cut, 1);
            let answers = host.store_together(&database.pool, deliveries.clone()).await;
            assert!(line.was_cut(), "{cut:?}");
            let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
            let rows = stored(&database.pool).await;
            assert_eq!(rows["a"], earlier.events[0].id);
            for (delivery, answer) in deliveries.iter().zip(&answers).take(2) {
                let keys = delivery.events.iter().map(|event| event.key.as_ref().unwrap());
                assert_eq!(named(answer), keys.map(|key| rows[key]).collect::<Vec<_>>(), "{cut:?}");
            }
            let firsts: Vec<_> = answers.iter().map(is_first).collect();
            let expected =
                if deliveries[0].key.is_none() { [true, false, true] } else { [true, false, false] };
            assert_eq!(firsts, expected, "{cut:?}");
            let (outcome, detail, _) = logged(&database.pool, &deliveries[0]).await;
            assert!(outcome == "accepted" && detail.starts_with("1 of "), "{outcome} {detail}");
            let all = ("duplicate", "2 of 2 events were stored before");
            let (outcome, detail, _) = logged(&database.pool, &deliveries[1]).await;
            assert_eq!((outcome.as_str(), detail.as_str()), all);
            logged(&database.pool, &deliveries[2]).await;
        }
        assert_eq!(count(&database.pool, "select count(*) from hookpack.request_log").await, 9);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_event_keys_a_batch_is_one_statement() {
    let database = TestDatabase::new().await;
    let line = Line::to(&database);
    let host = Host::on(&line.url, 1).await;
    for number in 0..3 {
        host.store(&delivery(&[""])).await;
        host.store(&under_key(&number.to_string(), delivery(&["", ""]))).await;
    }
    assert!(!line.state.transactions.load(Ordering::Relaxed));
    host.store(&delivery(&["a"])).await;
    assert!(line.state.transactions.load(Ordering::Relaxed));
}
