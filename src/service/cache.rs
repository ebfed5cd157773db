//! Expanded keys in memory: what every use of a key asks first, without taking a lock.
//!
//! ```text
//! hash of (enclave, name) ─► one set of up to 16 places, each: tag │ entry; and for the set: asked-for bits, generation, lock
//! get      compares 16 tags and takes the entry that may be the one; loads only, and a bit that is mostly set already
//! fill     notes the generation ─► reads the record ─► under the set's lock: takes a place, unless the generation moved on
//! remove   under the set's lock: moves the generation on, empties the place
//! ```
//! A full set gives up a key that was not asked for since the hand last passed (CLOCK); a key that nobody asked for again
//! goes first, so that walking over many keys once does not push out those in use. An entry is freed, and so wiped, when
//! the last request that uses it ends.
//!
//! What was removed stays away: whoever read the record before it was deleted finds that the generation moved on, and
//! whoever notes the generation after that finds the record deleted.

use std::{
    hash::{BuildHasher as _, RandomState},
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;

use crate::{api::KeyName, store::EnclaveId};

/// Places of a set: its tags fill a cache line.
const WAYS: usize = 16;

/// Bounded; by enclave id and name, so that an enclave made anew under an old name starts empty.
pub(super) struct Cache<V> {
    sets: Box<[Set<V>]>,
    /// Places used of each set.
    ways: usize,
    hasher: RandomState,
}

/// Something that is, or was, in the cache.
pub(super) struct Entry<V> {
    enclave: EnclaveId,
    name: KeyName,
    value: V,
}

impl<V> Deref for Entry<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

#[repr(align(64))]
struct Set<V> {
    /// Parts of hashes; zero means free. They only say where looking is worth while.
    tags: [AtomicU32; WAYS],
    entries: [ArcSwapOption<Entry<V>>; WAYS],
    /// One bit for each place whose entry was asked for since the hand passed.
    asked: AtomicU32,
    /// Moves on with every removal.
    generation: AtomicU64,
    /// Held by whoever changes the set; the place where the hand is.
    hand: Mutex<usize>,
}

impl<V> Set<V> {
    fn new() -> Self {
        Self {
            tags: Default::default(),
            entries: Default::default(),
            asked: AtomicU32::new(0),
            generation: AtomicU64::new(0),
            hand: Mutex::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry, and where it is.
    fn find(&self, tag: u32, enclave: EnclaveId, name: &KeyName) -> Option<(usize, Arc<Entry<V>>)> {
        self.tags.iter().enumerate().find_map(|(place, found)| {
            if found.load(Ordering::Acquire) != tag {
                return None;
            }
            let entry = self.entries[place].load();
            let is_it = entry.as_ref().is_some_and(|entry| entry.enclave == enclave && entry.name == *name);
            is_it.then(|| arc_swap::Guard::into_inner(entry)).flatten().map(|entry| (place, entry))
        })
    }

    /// A place for a new entry. Only with the lock.
    fn make_room(&self, hand: &mut usize, ways: usize) -> usize {
        if let Some(free) = self.tags[..ways].iter().position(|tag| tag.load(Ordering::Relaxed) == 0) {
            return free;
        }
        // after one round every bit was cleared, but whoever asks meanwhile sets it again
        for _ in 0..2 * ways {
            let place = *hand;
            *hand = (place + 1) % ways;
            if self.asked.fetch_and(!(1 << place), Ordering::Relaxed) & (1 << place) == 0 {
                return place;
            }
        }
        *hand
    }

    fn clear(&self, place: usize) {
        self.entries[place].store(None);
        self.tags[place].store(0, Ordering::Release);
    }
}

impl<V> Cache<V> {
    /// An empty cache of at most `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        let sets = (capacity / WAYS).max(1);
        Self {
            sets: std::iter::repeat_with(Set::new).take(sets).collect(),
            ways: capacity.min(WAYS),
            hasher: RandomState::new(),
        }
    }

    fn set(&self, enclave: EnclaveId, name: &KeyName) -> (&Set<V>, u32) {
        let hash = self.hasher.hash_one((enclave, name));
        // the low half chooses the set, the high half is the tag; there is at least one set
        let set = (hash & u64::from(u32::MAX)) as usize % self.sets.len();
        (&self.sets[set], ((hash >> 32) as u32).max(1))
    }

    /// The entry, if it is here.
    pub(super) fn get(&self, enclave: EnclaveId, name: &KeyName) -> Option<Arc<Entry<V>>> {
        let (set, tag) = self.set(enclave, name);
        let (place, entry) = set.find(tag, enclave, name)?;
        let bit = 1 << place;
        // a write would take the line away from the other cores
        if set.asked.load(Ordering::Relaxed) & bit == 0 {
            set.asked.fetch_or(bit, Ordering::Relaxed);
        }
        Some(entry)
    }

    /// The entry that `read` makes. It stays here, unless it was removed meanwhile.
    ///
    /// Several that miss the same one at once each read it; all but one of what they read is dropped again.
    pub(super) fn fill<E>(
        &self,
        enclave: EnclaveId,
        name: &KeyName,
        read: impl FnOnce() -> Result<V, E>,
    ) -> Result<Arc<Entry<V>>, E> {
        let (set, tag) = self.set(enclave, name);
        let generation = set.generation.load(Ordering::Acquire);
        let entry = Arc::new(Entry { enclave, name: name.clone(), value: read()? });
        if self.ways == 0 {
            return Ok(entry);
        }
        let mut hand = set.lock();
        if set.generation.load(Ordering::Relaxed) != generation {
            return Ok(entry);
        }
        if let Some((_, first)) = set.find(tag, enclave, name) {
            return Ok(first);
        }
        let place = set.make_room(&mut hand, self.ways);
        set.clear(place);
        set.asked.fetch_and(!(1 << place), Ordering::Relaxed);
        set.entries[place].store(Some(Arc::clone(&entry)));
        set.tags[place].store(tag, Ordering::Release);
        Ok(entry)
    }

    /// Takes an entry away. Whoever calls this has made sure that reading does not find it any more.
    pub(super) fn remove(&self, enclave: EnclaveId, name: &KeyName) {
        let (set, tag) = self.set(enclave, name);
        let _hand = set.lock();
        set.generation.fetch_add(1, Ordering::Release);
        if let Some((place, _)) = set.find(tag, enclave, name) {
            set.clear(place);
        }
    }

    /// Takes everything of an enclave away; as [`Self::remove`].
    pub(super) fn remove_all(&self, enclave: EnclaveId) {
        for set in &self.sets {
            let _hand = set.lock();
            set.generation.fetch_add(1, Ordering::Release);
            for (place, slot) in set.entries.iter().enumerate() {
                if slot.load().as_ref().is_some_and(|entry| entry.enclave == enclave) {
                    set.clear(place);
                }
            }
        }
    }

    /// How many entries are here.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let used = |set: &Set<V>| set.entries.iter().filter(|entry| entry.load().is_some()).count();
        self.sets.iter().map(used).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicBool, AtomicUsize},
        thread,
    };

    use super::*;

    const THREADS: usize = 4;
    const NAMES: usize = 8;

    fn enclave(n: u8) -> EnclaveId {
        EnclaveId::from_random([n; 8])
    }

    fn name(n: usize) -> KeyName {
        format!("key-{n}").parse().unwrap()
    }

    fn put<V>(cache: &Cache<V>, n: usize, value: V) -> Arc<Entry<V>> {
        cache.fill(enclave(1), &name(n), || Ok::<_, Infallible>(value)).unwrap()
    }

    #[test]
    fn what_was_filled_is_found_and_what_was_removed_is_not() {
        let cache = Cache::new(1000);
        put(&cache, 1, "one");
        put(&cache, 2, "two");
        cache.fill(enclave(2), &name(1), || Ok::<_, Infallible>("other")).unwrap();
        assert_eq!(**cache.get(enclave(1), &name(1)).unwrap(), "one");
        cache.remove(enclave(1), &name(1));
        assert!(cache.get(enclave(1), &name(1)).is_none());
        cache.remove_all(enclave(1));
        assert!(cache.get(enclave(1), &name(2)).is_none());
        assert_eq!(**cache.get(enclave(2), &name(1)).unwrap(), "other");
        assert!(cache.fill(enclave(1), &name(3), || Err(())).is_err());
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_key_that_is_removed_while_it_is_read_does_not_stay() {
        for all in [false, true] {
            let cache = Cache::new(100);
            let read = || {
                if all {
                    cache.remove_all(enclave(1));
                } else {
                    cache.remove(enclave(1), &name(1));
                }
                Ok::<_, Infallible>("deleted")
            };
            assert_eq!(
                **cache.fill(enclave(1), &name(1), read).unwrap(),
                "deleted",
                "it was asked for before"
            );
            assert!(cache.get(enclave(1), &name(1)).is_none());
            assert_eq!(cache.len(), 0);
        }
    }

    #[test]
    fn of_two_that_read_the_same_key_at_once_the_first_stays() {
        let cache = Cache::new(100);
        let read = || {
            put(&cache, 1, "first");
            Ok::<_, Infallible>("second")
        };
        assert_eq!(**cache.fill(enclave(1), &name(1), read).unwrap(), "first");
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn no_more_is_kept_than_was_allowed() {
        for capacity in [0, 1, 5, 16, 100, 1000] {
            let cache = Cache::new(capacity);
            for n in 0..3 * capacity + 20 {
                put(&cache, n, n);
            }
            assert!(cache.len() <= capacity, "{} instead of {capacity}", cache.len());
            assert!(cache.len() * 10 >= capacity * 9, "{} of {capacity} places are used", cache.len());
        }
    }

    #[test]
    fn what_makes_room_is_dropped_at_once_and_what_is_in_use_stays() {
        let cache = Cache::new(16);
        let hot = put(&cache, 0, "hot");
        assert!(cache.get(enclave(1), &name(0)).is_some());
        let cold: Vec<_> = (1..200)
            .map(|n| {
                assert!(cache.get(enclave(1), &name(0)).is_some(), "a key that is asked for was given up");
                Arc::downgrade(&put(&cache, n, "cold"))
            })
            .collect();
        drop(hot);
        let alive = cold.iter().filter(|entry| entry.strong_count() > 0).count();
        assert_eq!(alive, cache.len() - 1, "an entry that is not in the cache lives on");
        let last = Arc::downgrade(&cache.get(enclave(1), &name(0)).unwrap());
        cache.remove(enclave(1), &name(0));
        assert_eq!(last.strong_count(), 0);
    }

    #[test]
    fn whoever_finds_waits_for_nobody_who_changes_the_same_set() {
        let cache = Cache::new(WAYS);
        put(&cache, 1, "one");
        let (answer, answers) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            let changing = cache.sets[0].lock();
            scope.spawn(|| {
                let found = cache.get(enclave(1), &name(1)).is_some();
                answer.send((found, cache.get(enclave(1), &name(2)).is_some()))
            });
            let found = answers.recv_timeout(std::time::Duration::from_secs(10));
            drop(changing);
            assert_eq!(found, Ok((true, false)), "it waited for the lock");
        });
    }

    /// Keys are made, deleted and made anew while others use them: after a deletion nobody gets the deleted one.
    #[test]
    fn nobody_who_asks_after_a_deletion_gets_what_was_deleted() {
        // smaller than the names, so that entries are given up all the time too
        let cache: Cache<usize> = Cache::new(NAMES - 2);
        let records: Vec<_> = (0..NAMES).map(|_| AtomicUsize::new(1)).collect();
        // every version below this was deleted, and the deletion acknowledged
        let gone: Vec<_> = (0..NAMES).map(|_| AtomicUsize::new(0)).collect();
        let (done, hits) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (cache, records, gone, done, hits) = (&cache, &records, &gone, &done, &hits);
                scope.spawn(move || {
                    for n in (thread..).map(|n| n % NAMES) {
                        if done.load(Ordering::Relaxed) {
                            return;
                        }
                        let least = gone[n].load(Ordering::Acquire);
                        let found = cache.get(enclave(1), &name(n)).inspect(|_| {
                            hits.fetch_add(1, Ordering::Relaxed);
                        });
                        let read = || Ok::<_, Infallible>(records[n].load(Ordering::Acquire));
                        let found = found.unwrap_or_else(|| cache.fill(enclave(1), &name(n), read).unwrap());
                        if **found < least {
                            done.store(true, Ordering::Relaxed);
                            panic!("key {n}: {} was found though {least} is the oldest there is", **found);
                        }
                    }
                });
            }
            for version in 2..2_000 {
                let n = version % NAMES;
                if version % 16 == 0 {
                    // what is deleted next is in the cache
                    let before = hits.load(Ordering::Relaxed);
                    while hits.load(Ordering::Relaxed) < before + NAMES && !done.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                }
                records[n].store(version, Ordering::Release);
                if version % 64 == 0 {
                    cache.remove_all(enclave(1));
                } else {
                    cache.remove(enclave(1), &name(n));
                }
                gone[n].store(version, Ordering::Release);
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
