//! Determinism as a property: replicas with different hash seeds, each now and then replaced by a checkpoint of another,
//! give the same answers and have the same hash.

use crate::log::NodeId;
use crate::operation::{Operation, Owner, SessionKey, form};
use crate::replica::{Answer, Replica};
use state_dictionary::{Change, LockRequest, StateDictionary};
use std::time::Duration;

type Text = String;
type Three = Replica<Text, Text, Text>;

const NODES: usize = 3;
const MILLISECOND: u64 = 1_000_000;

struct Generator {
    random: fastrand::Rng,
    numbers: [u64; NODES],
    /// The latest session of each token, as its owner knows it.
    opened: Vec<(Text, u64)>,
    ticks: u64,
}

impl Generator {
    fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), numbers: [0; NODES], opened: Vec::new(), ticks: 0 }
    }

    fn key(&mut self) -> Text {
        format!("key {}", self.random.u8(..12))
    }

    fn token(&mut self) -> Text {
        format!("token {}", self.random.u8(..4))
    }

    fn session(&mut self) -> Option<SessionKey<Text>> {
        let (token, opened) = self.random.choice(&self.opened)?.clone();
        Some(SessionKey { token, opened })
    }

    fn owner(&mut self) -> Owner<Text> {
        match self.session().filter(|_| self.random.bool()) {
            Some(session) => Owner::Session(session),
            None => Owner::Token(self.token()),
        }
    }

    fn operation(&mut self) -> Operation<Text, Text, Text> {
        match self.random.u8(..100) {
            0..40 => {
                let mut change = Change::new();
                for _ in 0..self.random.usize(..5) {
                    let (key, value) = (self.key(), self.random.u16(..).to_string());
                    change = if self.random.u8(..4) > 0 { change.set(key, value) } else { change.remove(key) };
                }
                if self.random.u8(..4) == 0 {
                    let key = self.key();
                    change = if self.random.bool() { change.if_absent(key) } else { change.if_present(key) };
                }
                let owner = self.owner();
                let ephemeral = matches!(owner, Owner::Session(_)) && self.random.bool();
                Operation::update(owner, ephemeral, &change, None)
            }
            40..65 => {
                let mut request = LockRequest::new();
                for _ in 0..self.random.usize(1..5) {
                    let (key, lease) = (self.key(), Duration::from_millis(self.random.u64(..2000)));
                    request = match self.random.u8(..4) {
                        0 => request.release(key),
                        1 => request.acquire(key, None),
                        _ => request.acquire(key, lease),
                    };
                }
                Operation::locks(self.owner(), &request)
            }
            65..67 => Operation::ReleaseAll(self.token()),
            67..68 => Operation::ClearLocks,
            68..76 => Operation::Open { token: self.token(), grace: self.random.u64(..1000) * MILLISECOND },
            76..80 => match self.session() {
                Some(session) => Operation::Detach { session, grace: self.random.u64(..1000) * MILLISECOND },
                None => Operation::Read,
            },
            80..84 => self.session().map_or(Operation::Read, Operation::End),
            84..98 => {
                let late = u64::from(self.random.u8(..8) == 0);
                Operation::Tick { after: self.ticks.saturating_sub(late), passed: self.random.u64(..300) * MILLISECOND }
            }
            _ => Operation::Read,
        }
    }
}

fn replica() -> Three {
    Replica::new(StateDictionary::builder().commit_history(true).lock_history_limit(100), 7)
}

fn checkpoint(replica: &Three) -> Vec<u8> {
    let mut writing = replica.checkpoint(100);
    let mut bytes = Vec::new();
    while let Some(chunk) = writing.next_chunk().unwrap() {
        assert!(chunk.len() <= 100);
        bytes.extend(chunk);
    }
    bytes
}

/// What happened in some histories, so that the test shows that it has tried something.
#[derive(Default, Debug)]
struct Tried {
    answers: usize,
    refused: usize,
    restored: usize,
    imported: usize,
    ended: usize,
}

fn history(seed: u64, tried: &mut Tried) {
    let mut replicas = [replica(), replica(), replica()];
    let feeds: Vec<_> = replicas.iter().map(|replica| replica.read_handle().lock_feed()).collect();
    let mut generator = Generator::new(seed);
    for step in 0..200 {
        let index = generator.random.usize(..NODES);
        let node = index as u64;
        let mut entry = vec![form::WHOLE];
        for _ in 0..generator.random.usize(1..4) {
            entry.extend(generator.operation().encode().unwrap());
        }
        generator.numbers[index] += 1;
        let number = generator.numbers[index];
        let answers: Vec<Vec<Answer<_, _, _>>> = replicas
            .iter_mut()
            .map(|replica| replica.entry(NodeId(node), number, &entry).unwrap().expect("a new number"))
            .collect();
        let texts: Vec<_> = answers.iter().map(|answers| format!("{answers:?}")).collect();
        assert!(texts[0] == texts[1] && texts[1] == texts[2], "seed {seed}, step {step}: {texts:#?}");
        for answer in &answers[0] {
            tried.answers += 1;
            match answer {
                Answer::Opened { number, .. } => {
                    // Unless the same entry ended it.
                    if let Some(token) = replicas[0].token_of(*number) {
                        generator.opened.retain(|(opened, _)| *opened != token);
                        generator.opened.push((token, *number));
                    }
                }
                Answer::Updated(Err(_)) | Answer::Locks(Err(_)) | Answer::TakenOver => tried.refused += 1,
                Answer::Ended(_) => tried.ended += 1,
                _ => {}
            }
        }
        generator.ticks = replicas[0].counts().ticks;
        // Readers of one replica change nothing.
        let _ = feeds[generator.random.usize(..3)].try_flush();
        match generator.random.u8(..50) {
            0 => {
                for replica in &mut replicas {
                    replica.gone(NodeId(node));
                }
                generator.numbers[index] = 0;
            }
            1 | 2 => {
                let bytes = checkpoint(&replicas[generator.random.usize(..3)]);
                let builder = StateDictionary::builder();
                replicas[generator.random.usize(..3)] = Replica::restore(builder, &bytes).unwrap();
                tried.restored += 1;
            }
            3 => {
                let bytes = checkpoint(&replicas[generator.random.usize(..3)]);
                replicas[generator.random.usize(..3)].import(&bytes).unwrap();
                tried.imported += 1;
            }
            4..10 => {
                let hashes: Vec<_> = replicas.iter().map(Replica::hash).collect();
                if hashes.windows(2).any(|two| two[0] != two[1]) {
                    let states: Vec<_> = replicas.iter().map(Replica::describe).collect();
                    panic!("seed {seed}, step {step}: {states:#?}");
                }
            }
            _ => {}
        }
    }
}

#[test]
fn replicas_give_the_same_answers_and_have_the_same_hash() {
    let histories = std::env::var("HISTORIES").map_or(100, |histories| histories.parse().unwrap());
    let mut tried = Tried::default();
    for seed in 0..histories {
        history(seed, &mut tried);
    }
    println!("{histories} histories: {tried:?}");
    assert!(tried.refused > 0 && tried.restored > 0 && tried.imported > 0 && tried.ended > 0);
}

#[test]
fn an_operation_that_was_given_up_leaves_no_parts() {
    let mut replica = replica();
    let change = Change::new().set("a", "1".to_owned());
    let whole = Operation::<Text, Text, Text>::update(Owner::Token("t".into()), false, &change, None).encode().unwrap();
    let part = |form: u8, bytes: &[u8]| [&[form], bytes].concat();
    let (first, last) = whole.split_at(10);
    assert_eq!(replica.entry(NodeId(1), 1, &part(form::FIRST, first)), Ok(Some(Vec::new())));
    // The rest was refused by the log; the next operation in parts is another one.
    assert_eq!(replica.entry(NodeId(1), 2, &part(form::FIRST, first)), Ok(Some(Vec::new())));
    let answers = replica.entry(NodeId(1), 3, &part(form::LAST, last)).unwrap().unwrap();
    assert!(matches!(answers[..], [Answer::Updated(Ok(_))]), "{answers:?}");
}
