//! A whole cluster in one thread, by seed: nodes that are slow, cut off or killed, answers that are lost, copies that come
//! late, a log that is full or truncated under a slow node. Whatever happens, nothing acknowledged is lost, nothing is
//! doubled, no lease ends early, and all nodes agree.
//!
//! `SEEDS=20000` runs more, `SEED=17` one of them again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use futures_executor::{LocalPool, LocalSpawner};
use futures_util::future::{AbortHandle, abortable};
use futures_util::task::LocalSpawnExt;
use state_dictionary::{Change, LockRequest};
use state_dictionary_cluster::{Error, Failure, Faults, Log, ManualTime, Memory, MemoryLog, Node, Options, Stopped};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

type Text = String;
type TestNode = Node<Text, u64, Text>;

const NODES: usize = 3;
const CLIENTS: usize = 5;
const KEYS: u8 = 3;
const MILLISECOND: Duration = Duration::from_millis(1);
const LEASE: Duration = Duration::from_millis(300);
const GRACE: Duration = Duration::from_millis(400);

/// What the clients have seen, and must be true in the end.
#[derive(Default)]
struct Seen {
    /// Acknowledged commits: which key, when it was called and returned, and the revision.
    commits: Vec<(Text, Duration, Duration, u64)>,
    /// Commits whose fate is not known.
    unknown: Vec<Text>,
    /// Grants of each key by their fencing tokens.
    grants: BTreeMap<(Text, u64), Grant>,
    takeovers: u64,
    conflicts: u64,
    refused: u64,
    stopped: u64,
}

/// A lock, from the call that acquired it, or renewed it last, on; and when the first call returned.
#[derive(Clone)]
struct Grant {
    owner: Text,
    called: Duration,
    returned: Duration,
}

struct World {
    time: ManualTime,
    memory: Memory,
    spawner: LocalSpawner,
    nodes: RefCell<Vec<(TestNode, AbortHandle)>>,
    seen: RefCell<Seen>,
    is_over: Cell<bool>,
    timer: MemoryLog,
    clients: Cell<usize>,
    /// What each client is doing, to be read if a run fails.
    doing: RefCell<BTreeMap<usize, Text>>,
}

fn options() -> Options {
    Options::new().checkpoint_every(3000).time_limit(Duration::from_secs(2))
}

impl World {
    async fn join(self: &Rc<Self>) {
        let log = self.memory.join();
        let Ok((node, driver)) = TestNode::join(log, options()).await else { panic!("a node cannot join") };
        let (running, abort) = abortable(driver.run());
        let world = Rc::clone(self);
        self.spawner
            .spawn_local(async move {
                match running.await {
                    Err(_aborted) => {}
                    Ok(Stopped::Fenced | Stopped::Closed) => world.seen.borrow_mut().stopped += 1,
                    Ok(why) => panic!("a node stopped: {why}"),
                }
            })
            .unwrap();
        self.nodes.borrow_mut().push((node, abort));
    }

    fn node(&self, random: &mut fastrand::Rng) -> Option<TestNode> {
        let nodes = self.nodes.borrow();
        let (node, _) = random.choice(nodes.iter())?;
        Some(node.clone())
    }

    fn spawn_client(self: &Rc<Self>, number: usize, random: fastrand::Rng) {
        let world = Rc::clone(self);
        self.clients.set(self.clients.get() + 1);
        self.spawner
            .spawn_local(async move {
                client(&world, number, random).await;
                world.clients.set(world.clients.get() - 1);
            })
            .unwrap();
    }
}

async fn client(world: &World, number: usize, mut random: fastrand::Rng) {
    let token = format!("client {number}");
    let mut next = 0;
    while !world.is_over.get() {
        world.timer.sleep(MILLISECOND * random.u32(..40)).await;
        let Some(node) = world.node(&mut random) else { continue };
        let what = random.u8(..10);
        let doing = format!("operation {what} on {node:?} at {:?}", world.time.now());
        world.doing.borrow_mut().insert(number, doing);
        match what {
            0..6 => commit(world, &node, &token, &format!("{number}.{next}")).await,
            6..8 => lock(world, &node, &token, &format!("lock {}", random.u8(..KEYS))).await,
            // Under another token: the end of a session releases the locks of its token.
            8 => session(world, &mut random, &format!("session of {token}")).await,
            _ => {
                let before = node.snapshot().revision();
                if let Ok(now) = node.linearizable().await {
                    assert!(now.revision() >= before);
                }
            }
        }
        world.doing.borrow_mut().remove(&number);
        next += 1;
    }
}

/// Commits a key of its own. Each commit of all clients sets one new key, so that doubled ones show in the revision.
async fn commit(world: &World, node: &TestNode, token: &Text, key: &str) {
    let called = world.time.now();
    let at_least = world.seen.borrow().commits.iter().map(|commit| commit.3).max().unwrap_or(0);
    let result = node.update_state(token, Change::new().set(key, 1)).await;
    let mut seen = world.seen.borrow_mut();
    match result {
        Ok(revision) => {
            // What had returned before this was called comes before it.
            assert!(revision.get() > at_least, "{key} has revision {revision}, and {at_least} had returned before");
            assert!(node.local().revision() >= revision, "one's own write is there");
            seen.commits.push((key.to_owned(), called, world.time.now(), revision.get()));
        }
        Err(Error::Failed(Failure::Unanswered | Failure::Stopped(_))) => seen.unknown.push(key.to_owned()),
        Err(Error::Failed(Failure::LogRefused(_))) => seen.refused += 1,
        Err(error) => panic!("{error}"),
    }
}

async fn lock(world: &World, node: &TestNode, token: &Text, key: &str) {
    let called = world.time.now();
    match node.update_locks(token, LockRequest::new().acquire(key, LEASE)).await {
        Ok(receipt) => {
            let (_, fencing_token) = receipt.granted.iter().chain(&receipt.renewed).next().unwrap();
            let grant = Grant { owner: token.clone(), called, returned: world.time.now() };
            let mut seen = world.seen.borrow_mut();
            let known = seen.grants.entry((key.to_owned(), fencing_token.get())).or_insert_with(|| grant.clone());
            // Renewed: the lease began anew.
            known.called = known.called.max(called);
        }
        Err(Error::Refused(_)) => world.seen.borrow_mut().conflicts += 1,
        Err(Error::Failed(_)) => {}
    }
}

/// Opens a session, writes an ephemeral key through it, and takes it up on whichever node: the key is still there.
async fn session(world: &World, random: &mut fastrand::Rng, token: &Text) {
    let Some(node) = world.node(random) else { return };
    let Ok(first) = node.open_session(token.clone(), GRACE).await else { return };
    let key = format!("of {token}");
    let called = world.time.now();
    let Ok(_) = first.update_ephemeral(Change::new().set(key.clone(), 1)).await else { return };
    let Some(other) = world.node(random) else { return };
    if let Ok(second) = other.open_session(token.clone(), GRACE).await {
        // It was open after that call. If its node is gone since, it is there for the grace.
        if world.time.now() < called + GRACE {
            assert!(second.is_resumed(), "{token}: the session was open");
            assert!(other.get(&key).is_some(), "{key}: it goes on with its keys");
            world.seen.borrow_mut().takeovers += 1;
        }
        let refused = first.update_ephemeral(Change::new().set(key.clone(), 2)).await;
        assert!(matches!(refused, Err(Error::Failed(_))), "{key}: {refused:?}");
        let _ = second.end().await;
    }
}

fn random_faults(random: &mut fastrand::Rng) -> Faults {
    let mut faults = Faults::default();
    faults.delay = MILLISECOND * random.u32(..30);
    faults.lost_answers = if random.bool() { 0.2 } else { 0.0 };
    faults.late_copies = if random.bool() { 0.2 } else { 0.0 };
    faults.cut_off = random.u8(..6) == 0;
    faults.full = random.u8(..8) == 0;
    faults.lag = if random.u8(..4) == 0 { MILLISECOND * random.u32(..2000) } else { Duration::ZERO };
    faults.appends_twice = random.u8(..3) == 0;
    faults
}

/// What many runs have tried, to show that they did.
#[derive(Debug, Default)]
struct Tried {
    commits: usize,
    unknown: usize,
    lost_answers: u64,
    late_copies: u64,
    doubled: u64,
    refused: u64,
    truncated: u64,
    fenced: u64,
    conflicts: u64,
    takeovers: u64,
    stopped: u64,
}

fn run(seed: u64, tried: &mut Tried) {
    let mut random = fastrand::Rng::with_seed(seed);
    let time = ManualTime::new();
    let memory = Memory::simulated(&time, seed);
    let mut pool = LocalPool::new();
    let world = Rc::new(World {
        timer: memory.join(),
        time: time.clone(),
        memory: memory.clone(),
        spawner: pool.spawner(),
        nodes: RefCell::default(),
        seen: RefCell::default(),
        is_over: Cell::new(false),
        clients: Cell::new(0),
        doing: RefCell::default(),
    });
    for _ in 0..NODES {
        pool.run_until(world.join());
    }
    for number in 0..CLIENTS {
        world.spawn_client(number, random.fork());
    }
    let step = |pool: &mut LocalPool, by: Duration| {
        pool.run_until_stalled();
        time.advance(by);
    };
    for _ in 0..300 {
        step(&mut pool, MILLISECOND * random.u32(1..20));
        match random.u8(..60) {
            0..6 => {
                if let Some(node) = world.node(&mut random) {
                    memory.set_faults(node.id(), random_faults(&mut random));
                }
            }
            6 => {
                // A node is killed, and some time later declared gone; or it is declared gone and does not know.
                let index = random.usize(..world.nodes.borrow().len());
                let (node, abort) = world.nodes.borrow_mut().swap_remove(index);
                if random.bool() {
                    abort.abort();
                    pool.run_until_stalled();
                    time.advance(MILLISECOND * random.u32(..500));
                }
                memory.declare_gone(node.id());
                let world = Rc::clone(&world);
                world.clone().spawner.spawn_local(async move { world.join().await }).unwrap();
            }
            _ => {}
        }
    }
    // All is well again, and everybody finishes.
    world.is_over.set(true);
    for (node, _) in &*world.nodes.borrow() {
        memory.set_faults(node.id(), Faults::default());
    }
    for _ in 0..2000 {
        if world.clients.get() == 0 {
            break;
        }
        step(&mut pool, MILLISECOND * 10);
    }
    assert_eq!(world.clients.get(), 0, "all clients have an answer, but {:#?}", world.doing.borrow());
    judge(&world, &mut pool, tried);
}

fn judge(world: &Rc<World>, pool: &mut LocalPool, tried: &mut Tried) {
    // Sessions whose client has gone end, so that all nodes come to rest.
    for _ in 0..200 {
        pool.run_until_stalled();
        world.time.advance(MILLISECOND * 10);
    }
    pool.run_until(world.join());
    let nodes: Vec<TestNode> = world.nodes.borrow().iter().map(|(node, _)| node.clone()).collect();
    let fresh = nodes.last().unwrap();
    let snapshot = pool.run_until(fresh.linearizable()).unwrap();
    let seen = world.seen.borrow();
    for (key, _, _, revision) in &seen.commits {
        let found = snapshot.entry(key).map(|entry| entry.revision().get());
        assert!(found.is_some(), "{key} was acknowledged, and is lost");
        assert_eq!(found, Some(*revision), "{key} was committed again");
    }
    let unknown = seen.unknown.iter().filter(|key| snapshot.contains_key(*key)).count();
    let own = snapshot.keys().filter(|key| !key.starts_with("of ")).count();
    assert_eq!(own, seen.commits.len() + unknown, "what nobody has committed is not there");
    let mut revisions: Vec<_> = seen.commits.iter().map(|commit| commit.3).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), seen.commits.len(), "each commit has a revision of its own");
    // In the order of the log, the next owner of a key has it after the lease of the one before.
    for (((key, _), before), ((next_key, _), next)) in seen.grants.iter().zip(seen.grants.iter().skip(1)) {
        if key == next_key && before.owner != next.owner {
            let lease = next.returned.saturating_sub(before.called);
            assert!(lease >= LEASE, "{key}: the lease of {} ended after {lease:?}", before.owner);
        }
    }
    for node in &nodes {
        let theirs = pool.run_until(node.linearizable()).unwrap();
        assert!(theirs.content_hash() == snapshot.content_hash() && theirs.revision() == snapshot.revision());
        assert_eq!(node.local().locks(), fresh.local().locks());
    }
    let happened = world.memory.happened();
    tried.commits += seen.commits.len();
    tried.unknown += seen.unknown.len();
    tried.lost_answers += happened.lost_answers;
    tried.late_copies += happened.late_copies;
    tried.doubled += happened.doubled;
    tried.refused += happened.refused;
    tried.truncated += happened.truncated;
    tried.fenced += happened.fenced;
    tried.conflicts += seen.conflicts;
    tried.takeovers += seen.takeovers;
    tried.stopped += seen.stopped;
}

#[test]
fn a_cluster_survives_whatever_happens_between_its_nodes_and_the_log() {
    let number = |name| std::env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(100),
    };
    let mut tried = Tried::default();
    for seed in seeds.clone() {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &mut tried)));
        assert!(result.is_ok(), "seed {seed}; SEED={seed} runs it again");
    }
    println!("{} runs: {tried:?}", seeds.end - seeds.start);
    if seeds.end - seeds.start >= 100 {
        let Tried { lost_answers, late_copies, doubled, refused, truncated, fenced, takeovers, unknown, .. } = tried;
        for (tried, name) in [
            (lost_answers, "lost answers"),
            (late_copies, "late copies"),
            (doubled, "doubled entries"),
            (refused, "refused entries"),
            (truncated, "truncated logs"),
            (fenced, "fenced nodes"),
            (takeovers, "sessions taken over"),
            (unknown as u64, "commits of unknown fate"),
        ] {
            assert!(tried > 0, "no {name} were tried");
        }
    }
}
