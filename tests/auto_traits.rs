//! The auto traits of every public type. A type that the crate exports and the table does not list is a failure too.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use state_dictionary::*;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

type Key = &'static str;
type Token = u8;

/// A value or token that a panic can leave half changed, as far as its type says.
type Fragile = Box<dyn Fn() + Send + Sync>;

/// `[Send, Sync, Unpin, UnwindSafe, RefUnwindSafe]`.
type Traits = [bool; 5];

const ALL: Traits = [true; 5];
const NOT_SEND: Traits = [false, true, true, true, true];
const NEITHER_SEND_NOR_SYNC: Traits = [false, false, true, true, true];
const NOT_UNWIND_SAFE: Traits = [true, true, true, false, false];

/// The answer where a type does not implement a trait: the constant of a type itself is preferred to that of a trait.
trait Otherwise {
    const IMPLEMENTED: bool = false;
}

impl<T: ?Sized> Otherwise for T {}

macro_rules! question {
    ($name:ident, $trait:ident) => {
        struct $name<T: ?Sized>(PhantomData<T>);

        impl<T: ?Sized + $trait> $name<T> {
            const IMPLEMENTED: bool = true;
        }
    };
}

question!(IsSend, Send);
question!(IsSync, Sync);
question!(IsUnpin, Unpin);
question!(IsUnwindSafe, UnwindSafe);
question!(IsRefUnwindSafe, RefUnwindSafe);

macro_rules! traits {
    ($type:ty) => {
        [
            <IsSend<$type>>::IMPLEMENTED,
            <IsSync<$type>>::IMPLEMENTED,
            <IsUnpin<$type>>::IMPLEMENTED,
            <IsUnwindSafe<$type>>::IMPLEMENTED,
            <IsRefUnwindSafe<$type>>::IMPLEMENTED,
        ]
    };
}

/// Rows of a type, what it implements, and the reason where that is not everything.
macro_rules! table {
    ($($(#[$attribute:meta])* $type:ty => $expected:expr,)*) => {{
        vec![$($(#[$attribute])* (stringify!($type), traits!($type), $expected),)*]
    }};
}

fn check(rows: &[(&str, Traits, Traits)]) {
    for (name, found, expected) in rows {
        assert_eq!(found, expected, "{name}: [Send, Sync, Unpin, UnwindSafe, RefUnwindSafe]");
    }
}

fn of_plain_types() -> Vec<(&'static str, Traits, Traits)> {
    table! {
        Broadcast<Key, i32, String> => ALL,
        Builder<Key, i32, Token> => ALL,
        BufferOptions<Key> => ALL,
        Change<Key, i32> => ALL,
        ChangeBuffer<Key, i32> => ALL,
        ClientSession<Key, i32, Token> => ALL,
        Commit<Key, i32, Token> => ALL,
        CommitDelivery<Key, i32, Token> => ALL,
        CommitFeed<Key, i32, Token> => ALL,
        Condition => ALL,
        Conflict<Key, Token> => ALL,
        // Writes past the guard are refused to the thread that has it, so it stays there.
        ContentGuard<'static, Key, i32, Token> => NOT_SEND,
        #[cfg(feature = "counters")]
        Counters => ALL,
        Delivery<Key, i32> => ALL,
        Entries<'static, Key, i32> => ALL,
        Versioned<i32> => ALL,
        Expired<Key, Token> => ALL,
        FailedCondition<Key> => ALL,
        FencingToken => ALL,
        FlushError => ALL,
        FlushTimeoutError => ALL,
        Refusal<Key, Token> => ALL,
        TryFlushError => ALL,
        FeedOptions<Position> => ALL,
        LockPosition => ALL,
        Follower<Key, i32, String> => ALL,
        Frame<String> => ALL,
        Image<Key, Token> => ALL,
        ImportError => ALL,
        IntoIter<Key, i32> => ALL,
        Iter<'static, Key, i32> => ALL,
        #[cfg(feature = "json")]
        JsonChange => ALL,
        #[cfg(feature = "json")]
        JsonDelivery => ALL,
        #[cfg(feature = "json")]
        JsonDictionary => ALL,
        #[cfg(feature = "json")]
        JsonSnapshot => ALL,
        KeyFeed<Key, i32> => ALL,
        Keys<'static, Key, i32> => ALL,
        NotRemoved<Token> => ALL,
        LockContentError => ALL,
        LockDelivery<Key, Token> => ALL,
        LockError<Key, Token> => ALL,
        LockEvent<Key, Token> => ALL,
        LockEventKind => ALL,
        LockFeed<Key, i32, Token> => ALL,
        LockImage<Key, Token> => ALL,
        LockInfo<Token> => ALL,
        LockReceipt<Key> => ALL,
        LockRequest<Key> => ALL,
        ManualClock => ALL,
        Message<Key, i32, String> => ALL,
        #[cfg(feature = "async")]
        OwnedContentGuard<Key, i32, Token> => ALL,
        ParsePositionError => ALL,
        ParseStoreIdError => ALL,
        Position => ALL,
        ReadHandle<Key, i32, Token> => ALL,
        Replaced<i32> => ALL,
        Revision => ALL,
        Session<Key, i32, Token> => ALL,
        SessionImage<Key, Token> => ALL,
        SessionSummary<Key, Token> => ALL,
        Sessions<Key, i32, Token> => ALL,
        Snapshot<Key, i32> => ALL,
        StateDictionary<Key, i32, Token> => ALL,
        StoreId => ALL,
        Subscription<&'static ChangeBuffer<Key, i32>> => ALL,
        Tombstones => ALL,
        UpdateError<Key, i32, Token> => ALL,
        Updates<'static, Key, i32> => ALL,
        Values<'static, Key, i32> => ALL,
        WaitError => ALL,
        Writer<'static, Key, i32, Token> => ALL,
        #[cfg(feature = "wire")]
        wire::DecodeError => ALL,
        #[cfg(feature = "wire")]
        wire::EncodeError => ALL,
    }
}

#[test]
fn every_public_type_has_the_auto_traits_of_the_table() {
    check(&of_plain_types());
}

#[test]
fn what_a_panic_leaves_intact_is_unwind_safe_whatever_keys_values_and_tokens_are() {
    check(&table! {
        StateDictionary<Key, Fragile, Fragile> => ALL,
        Snapshot<Key, Fragile> => ALL,
        Iter<'static, Key, Fragile> => ALL,
        Entries<'static, Key, Fragile> => ALL,
        Values<'static, Key, Fragile> => ALL,
        IntoIter<Key, Fragile> => ALL,
        KeyFeed<Key, Fragile> => ALL,
        Writer<'static, Key, Fragile, Fragile> => ALL,
        Replaced<Fragile> => ALL,
        Versioned<Fragile> => ALL,
        Change<Key, Fragile> => ALL,
        ChangeBuffer<Key, Fragile> => ALL,
        Subscription<&'static ChangeBuffer<Key, Fragile>> => ALL,
        Delivery<Key, Fragile> => ALL,
        Updates<'static, Key, Fragile> => ALL,
        CommitFeed<Key, Fragile, Fragile> => ALL,
        LockFeed<Key, Fragile, Fragile> => ALL,
        ReadHandle<Key, Fragile, Fragile> => ALL,
        Session<Key, Fragile, Fragile> => ALL,
        Sessions<Key, Fragile, Fragile> => ALL,
        ClientSession<Key, Fragile, Fragile> => ALL,
        Broadcast<Key, Fragile, Fragile> => ALL,
        Follower<Key, Fragile, Fragile> => ALL,
        Frame<Fragile> => ALL,
        Message<Key, Fragile, Fragile> => ALL,
        Builder<Key, Fragile, Fragile> => ALL,
        BufferOptions<Fragile> => ALL,
        ContentGuard<'static, Key, Fragile, Fragile> => NOT_SEND,
        UpdateError<Key, Fragile, Token> => ALL,
        Commit<Key, Fragile, Token> => ALL,
        // Plain data that owns tokens or keys is what they are.
        Conflict<Key, Fragile> => NOT_UNWIND_SAFE,
        LockInfo<Fragile> => NOT_UNWIND_SAFE,
        LockRequest<Fragile> => NOT_UNWIND_SAFE,
        LockEvent<Key, Fragile> => NOT_UNWIND_SAFE,
    });
}

#[test]
fn what_shares_values_is_sent_and_shared_only_if_they_can_be() {
    check(&table! {
        // Shared, they would be used by several threads at once.
        StateDictionary<Key, Cell<i32>, Token> => NEITHER_SEND_NOR_SYNC,
        Snapshot<Key, Cell<i32>> => NEITHER_SEND_NOR_SYNC,
        ChangeBuffer<Key, Cell<i32>> => NEITHER_SEND_NOR_SYNC,
        Delivery<Key, Cell<i32>> => NEITHER_SEND_NOR_SYNC,
        Broadcast<Key, Cell<i32>, String> => NEITHER_SEND_NOR_SYNC,
        Broadcast<Key, i32, Cell<i32>> => NEITHER_SEND_NOR_SYNC,
        Follower<Key, i32, Cell<i32>> => NEITHER_SEND_NOR_SYNC,
        Session<Key, Cell<i32>, Token> => NEITHER_SEND_NOR_SYNC,
        Sessions<Key, Cell<i32>, Token> => NEITHER_SEND_NOR_SYNC,
        ClientSession<Key, Cell<i32>, Token> => NEITHER_SEND_NOR_SYNC,
        CommitFeed<Key, Cell<i32>, Token> => NEITHER_SEND_NOR_SYNC,
        LockFeed<Key, Cell<i32>, Token> => NEITHER_SEND_NOR_SYNC,
        Change<Key, Rc<i32>> => NEITHER_SEND_NOR_SYNC,
        KeyFeed<Key, Cell<i32>> => NEITHER_SEND_NOR_SYNC,
        Writer<'static, Key, Cell<i32>, Token> => NEITHER_SEND_NOR_SYNC,
        Replaced<Rc<i32>> => NEITHER_SEND_NOR_SYNC,
        Versioned<Rc<i32>> => NEITHER_SEND_NOR_SYNC,
        Snapshot<Rc<str>, i32> => NEITHER_SEND_NOR_SYNC,
        StateDictionary<Key, i32, Rc<str>> => NEITHER_SEND_NOR_SYNC,
        // A filter must be both, and is all that options have of the key's type.
        BufferOptions<Rc<str>> => ALL,
    });
}

/// The iterators that have no name.
#[test]
fn iterators_without_a_name_can_be_sent_and_shared() {
    fn sent_and_shared(_: impl Send + Sync + Unpin) {}
    let dictionary: StateDictionary<Key, i32, Token> = StateDictionary::builder().content([("a", 1)]).build();
    let delivery = dictionary.change_buffer().flush().unwrap();
    sent_and_shared(delivery.removals());
    let (change, request): (Change<Key, i32>, LockRequest<Key>) = (Change::new(), LockRequest::new());
    sent_and_shared(change.operations());
    sent_and_shared(change.conditions());
    sent_and_shared(request.acquires());
    sent_and_shared(request.releases());
}

#[test]
fn the_table_lists_every_public_type() {
    let listed: Vec<String> = of_plain_types()
        .iter()
        .map(|(name, ..)| name.split('<').next().unwrap().trim().rsplit("::").next().unwrap().trim().to_owned())
        .collect();
    let mut exported = exports(include_str!("../src/lib.rs"));
    if cfg!(feature = "wire") {
        exported.extend(exports(include_str!("../src/wire/mod.rs")));
    }
    assert!(exported.len() > 40, "the exports were found: {exported:?}");
    // Traits.
    exported.retain(|name| !["Feed", "Modification"].contains(&name.as_str()));
    for name in &exported {
        assert!(listed.contains(name), "{name} is public and not in the table");
    }
    for name in &listed {
        assert!(exported.contains(name), "{name} is in the table and not public");
    }
    // Named in the module that declares them, or a type could be public without being exported by name.
    for source in
        [include_str!("../src/lib.rs"), include_str!("../src/wire/msgpack.rs"), include_str!("../src/wire/protobuf.rs")]
    {
        let declares = |line: &str| {
            ["struct ", "enum ", "type ", "trait "].iter().any(|kind| line.starts_with(&format!("pub {kind}")))
        };
        assert!(!source.lines().any(declares), "what is declared there is to be in the table as well");
        assert!(!source.lines().any(|line| line.starts_with("pub use ") && line.contains('*')), "names are compared");
    }
}

/// The types that a module exports with the features of this build.
fn exports(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut enabled = true;
    let mut rest = source;
    while let Some(line) = rest.lines().next() {
        let mut taken = line.len() + 1;
        if let Some(feature) = line.strip_prefix("#[cfg(feature = \"").and_then(|line| line.strip_suffix("\")]")) {
            enabled = match feature {
                "async" => cfg!(feature = "async"),
                "counters" => cfg!(feature = "counters"),
                "json" => cfg!(feature = "json"),
                "serde" => cfg!(feature = "serde"),
                "wire" => cfg!(feature = "wire"),
                other => panic!("{other} exports something: say here whether it is on"),
            };
        } else {
            if line.starts_with("pub use ") {
                taken = rest.find(';').unwrap() + 1;
                let words = rest[..taken].split(|char: char| !(char.is_alphanumeric() || char == '_'));
                let types = words.filter(|word| word.starts_with(char::is_uppercase));
                // Constants are all upper case.
                let types = types.filter(|word| word.contains(char::is_lowercase));
                names.extend(types.filter(|_| enabled).map(str::to_owned));
            }
            enabled = true;
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    names
}
