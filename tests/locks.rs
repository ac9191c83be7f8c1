//! Taking, giving back and inspecting locks, and what they forbid.

mod common;

use common::{ALMOST_A_SECOND, Dictionary, NANOSECOND, SECOND, acquire, content, release, sorted, with_manual_clock};
use state_dictionary::{
    Change, FencingToken, LockError, LockReceipt, LockRequest, ManualClock, Refusal, StateDictionary, UpdateError,
};
use std::sync::Arc;
use std::time::Duration;

fn may_write(dictionary: &Dictionary, token: &'static str, key: &'static str) -> bool {
    dictionary.update_state(&token, Change::new().set(key, 0)).is_ok()
}

fn owner(dictionary: &Dictionary, key: &str) -> Option<&'static str> {
    dictionary.lock_info(key).map(|lock| lock.owner)
}

fn remaining(dictionary: &Dictionary, key: &str) -> Option<Duration> {
    dictionary.lock_info(key).and_then(|lock| lock.remaining)
}

fn is_empty(receipt: &LockReceipt<&str>) -> bool {
    let LockReceipt { granted, renewed, released, not_held, expired, .. } = receipt;
    granted.is_empty() && renewed.is_empty() && released.is_empty() && not_held.is_empty() && expired.is_empty()
}

#[test]
fn a_lock_forbids_all_others_to_write_to_its_key() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"alice", acquire("a", None)).unwrap();
    let change = Change::new().set("b", 1).remove("a").set("a", 2);
    let Err(UpdateError { change: returned, reason: Refusal::Locked { conflicts }, .. }) =
        dictionary.update_state(&"bob", change.clone())
    else {
        panic!("not locked")
    };
    assert_eq!(returned, change);
    assert_eq!(conflicts.len(), 1, "a key is reported once");
    assert_eq!((conflicts[0].key, conflicts[0].owner, conflicts[0].remaining), ("a", "alice", None));
    assert!(dictionary.snapshot().is_empty());
    assert!(may_write(&dictionary, "alice", "a"));
    assert!(may_write(&dictionary, "bob", "b"));
}

#[test]
fn a_refusal_names_every_locked_key_its_owner_and_the_remaining_time() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", SECOND * 3).acquire("b", None)).unwrap();
    clock.advance(SECOND);
    dictionary.update_locks(&"bob", acquire("c", SECOND * 3)).unwrap();
    let expected = [("a", "alice", Some(SECOND * 2)), ("b", "alice", None), ("c", "bob", Some(SECOND * 3))];

    let change = ["a", "b", "c", "d"].into_iter().map(|key| (key, 0)).collect();
    let Err(UpdateError { reason: Refusal::Locked { conflicts }, .. }) = dictionary.update_state(&"carol", change)
    else {
        panic!("not locked")
    };
    assert_eq!(sorted(conflicts.into_iter().map(|c| (c.key, c.owner, c.remaining))), expected);

    let request = acquire("d", None).acquire("a", None).acquire("c", None).acquire("b", None);
    let Err(LockError::Locked { conflicts, receipt, request: returned }) =
        dictionary.update_locks(&"carol", request.clone())
    else {
        panic!("not locked")
    };
    assert_eq!(sorted(conflicts.into_iter().map(|c| (c.key, c.owner, c.remaining))), expected);
    assert!(is_empty(&receipt));
    assert_eq!(returned, request);
}

#[test]
fn all_requested_locks_are_taken_or_none() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"bob", acquire("b", None)).unwrap();
    assert!(dictionary.update_locks(&"alice", acquire("a", None).acquire("b", None).acquire("c", None)).is_err());
    assert_eq!((owner(&dictionary, "a"), owner(&dictionary, "c")), (None, None));
    dictionary.update_locks(&"bob", release("b")).unwrap();
    let receipt = dictionary.update_locks(&"alice", acquire("a", None).acquire("b", None).acquire("c", None)).unwrap();
    assert_eq!(sorted(receipt.granted.into_iter().map(|(key, _)| key)), ["a", "b", "c"]);
}

#[test]
fn a_refused_renewal_leaves_the_lease_as_it_was() {
    let (dictionary, _clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap();
    dictionary.update_locks(&"bob", acquire("b", None)).unwrap();
    dictionary.update_locks(&"alice", acquire("a", None).acquire("b", None)).unwrap_err();
    assert_eq!(remaining(&dictionary, "a"), Some(SECOND));
}

#[test]
fn when_acquiring_fails_the_releases_asked_for_are_carried_out() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"alice", acquire("a", None).acquire("both", None)).unwrap();
    dictionary.update_locks(&"bob", acquire("b", None)).unwrap();
    let request = acquire("b", None).acquire("both", None).release("a").release("x").release("both");
    let Err(LockError::Locked { receipt, .. }) = dictionary.update_locks(&"alice", request) else {
        panic!("not locked")
    };
    assert_eq!((sorted(receipt.released), receipt.not_held), (vec!["a", "both"], vec!["x"]));
    assert_eq!(dictionary.locks().len(), 1);
}

#[test]
fn releasing_a_lock_of_another_owner_is_no_error_and_the_receipt_reports_it() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"bob", acquire("b", None)).unwrap();
    let receipt = dictionary.update_locks(&"alice", release("b").release("free")).unwrap();
    assert_eq!(sorted(receipt.not_held), ["b", "free"]);
    assert!(receipt.released.is_empty() && receipt.expired.is_empty());
    assert_eq!(owner(&dictionary, "b"), Some("bob"));
}

#[test]
fn releasing_an_expired_lock_is_no_error_and_the_receipt_reports_it() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap();
    clock.advance(SECOND);
    let receipt = dictionary.update_locks(&"alice", release("a")).unwrap();
    assert_eq!(receipt.expired, ["a"]);
    assert!(receipt.released.is_empty() && receipt.not_held.is_empty());
    let receipt = dictionary.update_locks(&"alice", release("a")).unwrap();
    assert_eq!(receipt.not_held, ["a"]);
}

#[test]
fn a_writer_takes_away_the_expired_lock_it_meets() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap();
    clock.advance(SECOND);
    dictionary.update_state(&"bob", Change::new().set("a", 1)).unwrap();
    assert_eq!(dictionary.update_locks(&"alice", release("a")).unwrap().not_held, ["a"]);
}

#[test]
fn a_lock_that_another_owner_acquired_after_it_expired_is_lost() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap();
    clock.advance(SECOND);
    dictionary.update_locks(&"bob", acquire("a", None)).unwrap();
    let receipt = dictionary.update_locks(&"alice", release("a")).unwrap();
    assert_eq!(receipt.not_held, ["a"]);
    assert_eq!(owner(&dictionary, "a"), Some("bob"));
}

#[test]
fn acquiring_an_owned_lock_sets_the_lease_to_exactly_what_is_asked() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", SECOND * 9)).unwrap();
    clock.advance(SECOND);
    for lease in [Some(SECOND * 20), Some(SECOND), None, Some(SECOND * 2)] {
        let receipt = dictionary.update_locks(&"alice", acquire("a", lease)).unwrap();
        assert_eq!(receipt.renewed.len(), 1);
        assert!(receipt.granted.is_empty());
        assert_eq!(remaining(&dictionary, "a"), lease);
    }
    clock.advance(SECOND * 2);
    assert!(dictionary.lock_info("a").is_none());
}

#[test]
fn acquiring_an_expired_lock_of_ones_own_is_a_new_grant_and_the_receipt_reports_it() {
    let (dictionary, clock) = with_manual_clock();
    let first = dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap().granted[0].1;
    clock.advance(SECOND);
    let receipt = dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap();
    assert_eq!(receipt.expired, ["a"]);
    assert!(receipt.renewed.is_empty());
    assert!(receipt.granted[0].1 > first);
    assert_eq!(remaining(&dictionary, "a"), Some(SECOND));
}

#[test]
fn the_same_key_in_acquire_and_release_is_locked_afterwards_with_the_lease_asked() {
    let (dictionary, _clock) = with_manual_clock();
    let first = dictionary.update_locks(&"alice", acquire("a", None).release("a")).unwrap();
    assert_eq!((first.granted.len(), first.not_held), (1, vec!["a"]));
    let second = dictionary.update_locks(&"alice", release("a").acquire("a", SECOND)).unwrap();
    assert_eq!((second.granted.len(), second.released), (1, vec!["a"]));
    assert!(second.granted[0].1 > first.granted[0].1);
    assert_eq!((owner(&dictionary, "a"), remaining(&dictionary, "a")), (Some("alice"), Some(SECOND)));
}

#[test]
fn of_two_leases_for_one_key_the_later_counts() {
    let (dictionary, _clock) = with_manual_clock();
    let request = acquire("a", None).acquire("b", SECOND).acquire("a", SECOND).acquire("b", None);
    let receipt = dictionary.update_locks(&"alice", request).unwrap();
    assert_eq!(receipt.granted.len(), 2);
    assert_eq!((remaining(&dictionary, "a"), remaining(&dictionary, "b")), (Some(SECOND), None));
    let receipt = dictionary.update_locks(&"alice", release("a").release("a")).unwrap();
    assert_eq!(receipt.released, ["a"]);
}

#[test]
fn a_lease_of_zero_is_an_error_before_anything_is_touched() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"alice", acquire("a", None)).unwrap();
    let request = release("a").acquire("b", None).acquire("c", Duration::ZERO);
    let Err(LockError::ZeroLease { request: returned, key: "c" }) = dictionary.update_locks(&"alice", request.clone())
    else {
        panic!("no error")
    };
    assert_eq!(returned, request);
    assert_eq!(sorted(dictionary.locks().into_iter().map(|(key, _)| key)), ["a"]);
    dictionary.freeze();
    let refused = dictionary.update_locks(&"alice", acquire("c", Duration::ZERO));
    assert!(matches!(refused, Err(LockError::ZeroLease { .. })));
}

#[test]
fn a_lease_too_long_for_the_clock_has_no_end() {
    for dictionary in [with_manual_clock().0, Dictionary::new()] {
        dictionary.update_locks(&"alice", acquire("a", Duration::MAX)).unwrap();
        assert_eq!((owner(&dictionary, "a"), remaining(&dictionary, "a")), (Some("alice"), None));
    }
}

#[test]
fn a_lock_expires_at_its_deadline_and_not_before() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap();
    clock.advance(ALMOST_A_SECOND);
    assert!(!may_write(&dictionary, "bob", "a"));
    assert!(dictionary.update_locks(&"bob", acquire("a", None)).is_err());
    assert_eq!(remaining(&dictionary, "a"), Some(NANOSECOND));
    clock.advance(NANOSECOND);
    assert_eq!(owner(&dictionary, "a"), None);
    assert!(dictionary.locks().is_empty());
    assert!(may_write(&dictionary, "bob", "a"));
}

#[test]
fn an_expired_lock_can_be_acquired_by_another() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap();
    clock.advance(SECOND);
    let receipt = dictionary.update_locks(&"bob", acquire("a", SECOND)).unwrap();
    assert_eq!(receipt.granted.len(), 1);
    assert!(receipt.expired.is_empty(), "it was not his");
    assert!(!may_write(&dictionary, "alice", "a"));
}

#[test]
fn a_write_that_meets_live_and_expired_locks_names_only_the_live() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", SECOND).acquire("b", SECOND * 2)).unwrap();
    clock.advance(SECOND);
    let refused = dictionary.update_state(&"bob", Change::new().set("a", 1).set("b", 1));
    let Err(UpdateError { reason: Refusal::Locked { conflicts }, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((conflicts.len(), conflicts[0].key, conflicts[0].remaining), (1, "b", Some(SECOND)));
}

#[test]
fn the_owner_may_write_after_expiry_until_another_owner_acquires_the_lock() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap();
    clock.advance(SECOND);
    assert!(may_write(&dictionary, "alice", "a"));
}

#[test]
fn a_lock_on_a_key_with_no_value_is_allowed() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"alice", acquire("a", None)).unwrap();
    assert!(dictionary.get("a").is_none());
    assert!(!may_write(&dictionary, "bob", "a"));
}

#[test]
fn removing_a_key_keeps_its_lock() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    dictionary.update_locks(&"alice", acquire("a", None)).unwrap();
    dictionary.update_state(&"alice", Change::new().remove("a")).unwrap();
    assert_eq!(owner(&dictionary, "a"), Some("alice"));
    assert!(!may_write(&dictionary, "bob", "a"));
}

#[test]
fn an_anonymous_writer_is_a_token_that_never_acquires_locks() {
    let dictionary: StateDictionary<&str, i32, Option<u32>> = StateDictionary::new();
    dictionary.update_locks(&Some(1), LockRequest::new().acquire("a", None)).unwrap();
    assert!(dictionary.update_state(&None, Change::new().set("a", 1)).is_err());
    assert!(dictionary.update_state(&None, Change::new().set("b", 1)).is_ok());
    assert!(dictionary.release_all(&None).is_empty());
}

#[test]
fn being_equal_to_another_token_is_being_the_same_owner() {
    let dictionary: StateDictionary<&str, i32, String> = StateDictionary::new();
    dictionary.update_locks(&"alice".to_owned(), LockRequest::new().acquire("a", None)).unwrap();
    let equal = "alice".to_owned();
    assert!(dictionary.update_state(&equal, Change::new().set("a", 1)).is_ok());
    assert_eq!(dictionary.update_locks(&equal, LockRequest::new().acquire("a", None)).unwrap().renewed.len(), 1);
    assert_eq!(dictionary.update_locks(&equal, LockRequest::new().release("a")).unwrap().released, ["a"]);
}

#[test]
fn acquiring_and_renewing_fail_when_frozen() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"alice", acquire("a", None)).unwrap();
    dictionary.freeze();
    for key in ["a", "b"] {
        let request = acquire(key, SECOND);
        let refused = dictionary.update_locks(&"alice", request.clone());
        let Err(LockError::Frozen { request: returned, receipt }) = refused else { panic!("{refused:?}") };
        assert_eq!(returned, request);
        assert!(is_empty(&receipt));
    }
    assert_eq!((dictionary.locks().len(), remaining(&dictionary, "a")), (1, None));
}

#[test]
fn releasing_works_when_frozen_also_as_part_of_a_refused_request() {
    let dictionary = Dictionary::new();
    dictionary.update_locks(&"alice", acquire("a", None).acquire("b", None).acquire("c", None)).unwrap();
    dictionary.update_locks(&"bob", acquire("d", None)).unwrap();
    dictionary.freeze();
    assert_eq!(dictionary.update_locks(&"alice", release("a")).unwrap().released, ["a"]);
    let refused = dictionary.update_locks(&"alice", release("b").acquire("d", None));
    let Err(LockError::Frozen { receipt, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(receipt.released, ["b"]);
    assert_eq!(dictionary.release_all(&"alice"), ["c"]);
    assert_eq!(dictionary.clear_locks(), ["d"]);
}

#[test]
fn release_all_releases_all_locks_of_one_token() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", None).acquire("b", None).acquire("short", SECOND)).unwrap();
    dictionary.update_locks(&"bob", acquire("c", None)).unwrap();
    clock.advance(SECOND);
    assert_eq!(sorted(dictionary.release_all(&"alice")), ["a", "b"]);
    assert!(dictionary.release_all(&"alice").is_empty());
    assert_eq!(sorted(dictionary.locks().into_iter().map(|(key, _)| key)), ["c"]);
    assert!(may_write(&dictionary, "carol", "a"));
    assert!(!may_write(&dictionary, "carol", "c"));
}

#[test]
fn clear_locks_removes_all_locks_of_all_owners() {
    let (dictionary, clock) = with_manual_clock();
    dictionary.update_locks(&"alice", acquire("a", None).acquire("short", SECOND)).unwrap();
    dictionary.update_locks(&"bob", acquire("b", None)).unwrap();
    clock.advance(SECOND);
    assert_eq!(sorted(dictionary.clear_locks()), ["a", "b"]);
    assert!(dictionary.locks().is_empty() && dictionary.clear_locks().is_empty());
    assert!(may_write(&dictionary, "carol", "a"));
    assert_eq!(dictionary.update_locks(&"alice", release("a")).unwrap().not_held, ["a"]);
}

#[test]
fn fencing_tokens_increase_from_grant_to_grant_on_any_key() {
    let (dictionary, clock) = with_manual_clock();
    let mut last = None;
    for (token, key) in [("alice", "a"), ("bob", "b"), ("alice", "c"), ("bob", "a")] {
        may_write(&dictionary, "carol", "z");
        let granted = dictionary.update_locks(&token, acquire(key, SECOND)).unwrap().granted;
        assert!(last < Some(granted[0].1));
        last = Some(granted[0].1);
        clock.advance(SECOND);
    }
}

#[test]
fn the_locks_of_one_request_share_a_fencing_token_and_renewals_keep_it() {
    let dictionary = Dictionary::new();
    let granted = dictionary.update_locks(&"alice", acquire("a", None).acquire("b", SECOND)).unwrap().granted;
    let token = granted[0].1;
    assert_eq!(granted[1].1, token);
    let receipt = dictionary.update_locks(&"alice", acquire("a", SECOND).acquire("c", None)).unwrap();
    assert_eq!(receipt.renewed, [("a", token)]);
    assert!(receipt.granted[0].1 > token);
    assert_eq!(dictionary.lock_info("a").unwrap().fencing_token, token);
    assert_eq!(token.to_string(), token.get().to_string());
}

#[test]
fn fencing_tokens_turned_into_numbers_keep_their_order() {
    let dictionary = Dictionary::new();
    let tokens = ["a", "b"].map(|key| dictionary.update_locks(&"alice", acquire(key, None)).unwrap().granted[0].1);
    assert_eq!(tokens.map(u64::from), tokens.map(FencingToken::get));
    assert!(tokens[0].get() < tokens[1].get());
}

#[test]
fn locks_can_be_inspected_one_by_one_and_all_at_once() {
    let (dictionary, clock) = with_manual_clock();
    let first = dictionary.update_locks(&"alice", acquire("a", SECOND * 2)).unwrap().granted[0].1;
    let second = dictionary.update_locks(&"bob", acquire("b", None)).unwrap().granted[0].1;
    clock.advance(SECOND);
    let locks = dictionary.locks().into_iter().map(|(key, lock)| (key, lock.owner, lock.remaining, lock.fencing_token));
    assert_eq!(sorted(locks), [("a", "alice", Some(SECOND), first), ("b", "bob", None, second)]);
    assert_eq!(remaining(&dictionary, "a"), Some(SECOND));
    assert!(dictionary.lock_info("c").is_none());
}

#[test]
fn an_empty_request_does_nothing_even_when_frozen() {
    let dictionary = Dictionary::new();
    assert!(is_empty(&dictionary.update_locks(&"alice", LockRequest::default()).unwrap()));
    dictionary.freeze();
    assert!(is_empty(&dictionary.update_locks(&"alice", LockRequest::new()).unwrap()));
}

#[test]
fn a_request_lists_what_it_asks_for() {
    let request = acquire("a", SECOND).acquire("b", None).release("c");
    assert_eq!(request.acquires().collect::<Vec<_>>(), [(&"a", Some(SECOND)), (&"b", None)]);
    assert_eq!(request.releases().collect::<Vec<_>>(), [&"c"]);
}

#[test]
fn lock_operations_change_neither_content_nor_revision() {
    let dictionary: Dictionary = StateDictionary::builder().content([("a", 1)]).build();
    let buffer = dictionary.change_buffer();
    buffer.try_flush().unwrap();
    dictionary.update_locks(&"alice", acquire("a", SECOND)).unwrap();
    dictionary.update_locks(&"alice", release("a")).unwrap();
    dictionary.clear_locks();
    assert_eq!((dictionary.revision().get(), content(&dictionary.snapshot())), (1, [("a", 1)].into()));
    assert!(buffer.try_flush().is_err());
}

#[test]
fn after_the_last_lock_has_ended_every_client_may_write_and_locks_still_work() {
    let (dictionary, clock) = with_manual_clock();
    for round in 0..4 {
        dictionary.update_locks(&"alice", acquire("a", SECOND).acquire("b", None)).unwrap();
        assert!(!may_write(&dictionary, "bob", "a") && !may_write(&dictionary, "bob", "b"), "round {round}");
        clock.advance(SECOND);
        assert!(may_write(&dictionary, "bob", "a"), "an expired lock is removed");
        assert!(!may_write(&dictionary, "bob", "b"), "round {round}");
        dictionary.update_locks(&"alice", release("a").release("b")).unwrap();
        assert!(may_write(&dictionary, "bob", "b"));
    }
}

#[test]
fn expired_locks_on_untouched_keys_do_not_accumulate() {
    let clock = ManualClock::new();
    let dictionary: StateDictionary<Arc<u32>, (), u32> = StateDictionary::builder().clock(&clock).build();
    let keys: Vec<_> = (0..10_000).map(Arc::new).collect();
    for key in &keys {
        dictionary.update_locks(&**key, LockRequest::new().acquire(Arc::clone(key), SECOND)).unwrap();
        clock.advance(SECOND);
    }
    let kept = keys.iter().filter(|key| Arc::strong_count(key) > 1).count();
    assert!(kept <= 100, "{kept} keys are kept");
}
