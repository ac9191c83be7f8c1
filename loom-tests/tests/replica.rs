//! Images and imports beside what the rest of the program does meanwhile.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // a model fails by panicking

use loom_tests::{Dictionary, actor, explore, join};
use state_dictionary::{Change, FencingToken, Image, LockRequest, Revision, StateDictionary};
use std::sync::Arc;

type Entries = Vec<(u8, Arc<u32>, Revision)>;

/// The image of a dictionary of this store that is ahead: key 0 has been set again and key 1 removed, by commits 2 and 3, and
/// 'b' has locked key 2.
fn ahead(of: &Dictionary) -> (Image<u8, char>, Entries) {
    let (image, content) = of.image();
    let entries: Entries =
        content.into_iter().map(|(key, entry)| (key, Arc::clone(entry.value()), entry.revision())).collect();
    let later: Dictionary = StateDictionary::builder().image(image, entries).build();
    later.update_state(&'b', Change::new().set(0, 2)).unwrap();
    later.update_state(&'b', Change::new().remove(1)).unwrap();
    later.update_locks(&'b', LockRequest::new().acquire(2, None)).unwrap();
    let (image, content) = later.image();
    (image, content.into_iter().map(|(key, entry)| (key, Arc::clone(entry.value()), entry.revision())).collect())
}

fn behind() -> Arc<Dictionary> {
    Arc::new(StateDictionary::builder().content([(0, 1), (1, 1)]).build())
}

/// Invariant: the image and the content are of one instant. The lock was granted before the commit, so with the commit there
/// is the lock.
#[test]
fn image_against_grant_and_commit() {
    explore("image_against_grant_and_commit", 110, || {
        let dictionary = Arc::new(Dictionary::new());
        let writer = actor(&dictionary, |dictionary| {
            dictionary.update_locks(&'a', LockRequest::new().acquire(0, None)).unwrap();
            dictionary.update_state(&'a', Change::new().set(0, 1)).unwrap();
            dictionary.release_all(&'a');
        });
        let saver = actor(&dictionary, Dictionary::image);
        let (image, content) = join(saver);
        join(writer);
        assert_eq!(image.revision, content.revision());
        assert!(image.locks.is_empty() || image.locks[0].fencing_token <= image.fence);
        match (image.locks.len(), content.len()) {
            (0, _) => {}
            (1, 0) => assert_eq!(image.revision.get(), 0),
            (1, 1) => assert_eq!(image.revision.get(), 1),
            other => panic!("{other:?}"),
        }
        if content.len() == 1 && image.locks.is_empty() {
            assert!(image.fence > FencingToken::from(1), "it was released since");
        }
    });
}

/// Invariant: a flush that waits is woken by an import and delivers exactly what differs.
#[test]
fn waiting_flush_against_import() {
    explore("waiting_flush_against_import", 460, || {
        let dictionary = behind();
        let (image, entries) = ahead(&dictionary);
        let buffer = dictionary.change_buffer();
        assert_eq!(buffer.try_flush().unwrap().count(), 2);
        let follower = actor(&dictionary, move |_| {
            let delivery = buffer.flush().unwrap();
            let updates: Vec<_> = delivery.updates().map(|(key, entry)| (*key, **entry)).collect();
            (updates, delivery.removals().copied().collect::<Vec<_>>(), delivery.revision().get())
        });
        let importer = actor(&dictionary, move |dictionary| dictionary.import(image, entries).unwrap());
        assert_eq!(join(importer).get(), 3);
        assert_eq!(join(follower), (vec![(0, 2)], vec![1], 3));
    });
}

/// Invariant: a reader sees the content before an import or after it, with the locks that belong to it, and a commit is
/// either before it, and then the image would be older, or after it.
#[test]
fn import_against_commit_and_reader() {
    explore("import_against_commit_and_reader", 3400, || {
        let dictionary = behind();
        let (image, entries) = ahead(&dictionary);
        let handle = Arc::new(dictionary.read_handle());
        let importer = actor(&dictionary, move |dictionary| dictionary.import(image, entries).is_ok());
        let writer = actor(&dictionary, |dictionary| dictionary.update_state(&'a', Change::new().set(2, 9)));
        let reader = actor(&handle, |handle| {
            let snapshot = handle.snapshot();
            (snapshot.revision().get(), snapshot.get(&0).copied(), snapshot.contains_key(&1))
        });
        assert!(join(importer));
        match join(writer) {
            // Before the import, which then replaced it: a log would not have let that happen.
            Ok(revision) => assert_eq!(revision.get(), 2),
            Err(refused) => assert!(refused.to_string().contains("locked by another owner"), "{refused}"),
        }
        match join(reader) {
            (1 | 2, Some(1), true) | (3, Some(2), false) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(dictionary.lock_info(&2).unwrap().owner, 'b');
        assert_eq!(dictionary.snapshot().get(&2), None);
    });
}

/// Invariant: a lock feed that is flushed beside an import reports what was before, or all locks of the image.
#[test]
fn lock_flush_against_import() {
    explore("lock_flush_against_import", 210, || {
        let dictionary = behind();
        let (image, entries) = ahead(&dictionary);
        let feed = dictionary.lock_feed();
        assert!(feed.try_flush().is_ok());
        let importer = actor(&dictionary, move |dictionary| dictionary.import(image, entries).unwrap());
        let follower = actor(&dictionary, move |_| {
            let first = feed.try_flush().is_ok();
            (first, feed)
        });
        join(importer);
        let (first, feed) = join(follower);
        assert!(first != feed.try_flush().is_ok(), "the locks of the image are reported once");
    });
}
