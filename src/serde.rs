//! The serialised forms, where serde's derived ones do not fit. `docs/json.md` describes them.

use crate::{Change, Condition, Delivery, LockPosition, LockRequest, Position, Snapshot, StoreId, Versioned};
use ::serde::de::value::MapAccessDeserializer;
use ::serde::de::{Error as _, MapAccess, Visitor};
use ::serde::ser::SerializeStruct;
use ::serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// The last operation on each key, in the order of these operations.
pub(crate) fn latest<'a, Q: Eq + Hash + ?Sized + 'a, V: 'a>(
    operations: impl DoubleEndedIterator<Item = (&'a Q, Option<&'a Arc<V>>)>,
) -> impl DoubleEndedIterator<Item = (&'a Q, Option<&'a V>)> {
    let mut seen = HashSet::new();
    let latest: Vec<_> = operations.rev().filter(|(key, _)| seen.insert(*key)).collect();
    latest.into_iter().rev().map(|(key, value)| (key, value.map(|value| &**value)))
}

/// Serialised as a map.
struct Map<K, V>(Vec<(K, V)>);

impl<K: Serialize, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Map<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Pairs<K, V> {
            type Value = Map<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Map<K, V>, A::Error> {
                // Without reserving the capacity that the input claims.
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Map(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

/// A map in which each key occurs once.
struct Unique<K, V>(Map<K, V>);

impl<K, V> Default for Unique<K, V> {
    fn default() -> Self {
        Self(Map(Vec::new()))
    }
}

impl<'de, K: Deserialize<'de> + Eq + Hash, V: Deserialize<'de>> Deserialize<'de> for Unique<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::deserialize(deserializer)?;
        let mut seen = HashSet::new();
        match map.0.iter().position(|(key, _)| !seen.insert(key)) {
            Some(at) => Err(D::Error::custom(format_args!("key {} of a map is a duplicate", at + 1))),
            None => Ok(Self(map)),
        }
    }
}

/// Deserialises a client's request more strictly than serde does: in JSON it must be an object, not a list of the
/// fields' values.
fn object<'de, F: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<F, D::Error> {
    struct Object<F>(PhantomData<F>);
    impl<'de, F: Deserialize<'de>> Visitor<'de> for Object<F> {
        type Value = F;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<F, A::Error> {
            F::deserialize(MapAccessDeserializer::new(map))
        }
    }
    if deserializer.is_human_readable() {
        deserializer.deserialize_map(Object(PhantomData))
    } else {
        F::deserialize(deserializer)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation<K> {
    key: K,
    expected: Condition,
}

impl<K: Serialize + Eq + Hash, V: Serialize> Serialize for Change<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut updates, mut removals) = (Vec::new(), Vec::new());
        for (key, value) in latest(self.operations()) {
            match value {
                Some(value) => updates.push((key, value)),
                None => removals.push(key),
            }
        }
        let conditions: Vec<_> = self.conditions().map(|(key, expected)| Expectation { key, expected }).collect();
        // Forms without field names need every field.
        let conditional = !conditions.is_empty() || !serializer.is_human_readable();
        let mut form = serializer.serialize_struct("Change", if conditional { 3 } else { 2 })?;
        form.serialize_field("updates", &Map(updates))?;
        form.serialize_field("removals", &removals)?;
        if conditional {
            form.serialize_field("conditions", &conditions)?;
        }
        form.end()
    }
}

impl<'de, K: Deserialize<'de> + Eq + Hash, V: Deserialize<'de>> Deserialize<'de> for Change<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename = "Change")]
        #[serde(bound = "K: Deserialize<'de> + Eq + Hash, V: Deserialize<'de>")]
        struct Form<K, V> {
            #[serde(default)]
            updates: Unique<K, V>,
            #[serde(default)]
            removals: Vec<K>,
            #[serde(default)]
            conditions: Vec<Expectation<K>>,
        }
        let Form { updates: Unique(Map(updates)), removals, conditions } = object(deserializer)?;
        let change = Change::from_parts(updates, removals);
        Ok(conditions.into_iter().fold(change, |change, Expectation { key, expected }| change.on(key, expected)))
    }
}

impl<K: Serialize, V: Serialize, H> Serialize for Snapshot<K, V, H> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<V: Serialize> Serialize for Versioned<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut form = serializer.serialize_struct("Versioned", 2)?;
        form.serialize_field("value", &**self)?;
        form.serialize_field("revision", &self.revision())?;
        form.end()
    }
}

impl<K: Serialize + Eq, V: Serialize, H> Serialize for Delivery<K, V, H> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut form = serializer.serialize_struct("Delivery", 6)?;
        form.serialize_field("since", &self.since())?;
        form.serialize_field("revision", &self.revision())?;
        form.serialize_field("position", &self.position())?;
        form.serialize_field("full", &self.is_full())?;
        form.serialize_field("updates", &Map(self.updates().map(|(key, entry)| (key, &**entry)).collect()))?;
        form.serialize_field("removals", &self.removals().collect::<Vec<_>>())?;
        form.end()
    }
}

impl<K: Serialize + Eq + Hash> Serialize for LockRequest<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut acquire, mut places) = (Vec::new(), HashMap::new());
        for (key, lease) in self.acquires() {
            let place = *places.entry(key).or_insert(acquire.len());
            match acquire.get_mut(place) {
                None => acquire.push((key, Seconds(lease))),
                // A lease of zero makes the request an error, whatever a later operation requests for the key.
                Some((_, Seconds(Some(Duration::ZERO)))) => {}
                Some((_, earlier)) => *earlier = Seconds(lease),
            }
        }
        let mut form = serializer.serialize_struct("LockRequest", 2)?;
        form.serialize_field("acquire", &Map(acquire))?;
        form.serialize_field("release", &self.releases().collect::<Vec<_>>())?;
        form.end()
    }
}

impl<'de, K: Deserialize<'de> + Eq + Hash> Deserialize<'de> for LockRequest<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename = "LockRequest", bound = "K: Deserialize<'de> + Eq + Hash")]
        struct Form<K> {
            #[serde(default)]
            acquire: Unique<K, Seconds>,
            #[serde(default)]
            release: Vec<K>,
        }
        let Form::<K> { acquire: Unique(Map(acquire)), release } = object(deserializer)?;
        let request =
            acquire.into_iter().fold(LockRequest::new(), |request, (key, Seconds(lease))| request.acquire(key, lease));
        Ok(release.into_iter().fold(request, LockRequest::release))
    }
}

/// The text form.
macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

as_text!(StoreId);
as_text!(Position);
as_text!(LockPosition);

/// A time as a number of seconds, or none.
struct Seconds(Option<Duration>);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.map(|time| time.as_secs_f64()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer)?.map(time).transpose().map(Self)
    }
}

fn time<E: ::serde::de::Error>(seconds: f64) -> Result<Duration, E> {
    if seconds >= 0.0 {
        // A time too long for a `Duration` is too long for any clock.
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    } else {
        Err(E::custom(format_args!("{seconds} is not a number of seconds: it must be 0 or more")))
    }
}

/// For derived forms: an optional time, in seconds.
pub(crate) mod seconds {
    use super::{Deserialize, Deserializer, Duration, Seconds, Serialize, Serializer};

    #[allow(clippy::ref_option)] // so serde calls it
    pub(crate) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        Seconds(*time).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Seconds::deserialize(deserializer).map(|Seconds(time)| time)
    }
}

/// For derived forms: pairs as a map.
pub(crate) mod map {
    use super::{Deserialize, Deserializer, Map, Serialize, Serializer};

    pub(crate) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        pairs: &[(K, V)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
    }

    pub(crate) fn deserialize<'de, K: Deserialize<'de>, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(K, V)>, D::Error> {
        Map::deserialize(deserializer).map(|Map(pairs)| pairs)
    }
}
