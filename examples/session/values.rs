//! What users write: values of the shape and size of those in recordings.

use fastrand::Rng;
use rmpv::Value;

/// The head and the hands: about 410 bytes.
pub(crate) fn avatar(rng: &mut Rng, id: &str, name: &str) -> Value {
    let parts = ["headset", "hand.left", "hand.right"]
        .map(|part| map([("name", part.into()), ("position", floats(rng, 3)), ("rotation", floats(rng, 4))]));
    map([
        ("playerid", id.into()),
        ("components", Value::Array(parts.into())),
        ("color", floats(rng, 4)),
        ("name", name.into()),
    ])
}

/// What a hand points at: about 175 bytes.
pub(crate) fn cursor(rng: &mut Rng, id: &str) -> Value {
    map([
        ("position", floats(rng, 3)),
        ("rotation", floats(rng, 4)),
        ("heldbuttons", Value::Array(Vec::new())),
        ("joystick", floats(rng, 2)),
        ("ownerid", id.into()),
    ])
}

/// A pull at a particle: about 210 bytes.
pub(crate) fn interaction(rng: &mut Rng, id: &str, particle: u32) -> Value {
    map([
        ("position", floats(rng, 3)),
        ("particles", Value::Array(vec![particle.into()])),
        ("interaction_type", "spring".into()),
        ("scale", 100.0.into()),
        ("mass_weighted", true.into()),
        ("reset_velocities", false.into()),
        ("max_force", f64::INFINITY.into()),
        ("owner.id", id.into()),
        ("label", "hand.right".into()),
    ])
}

/// The corners of the room: about 120 bytes.
pub(crate) fn play_area(rng: &mut Rng) -> Value {
    map(["A", "B", "C", "D"].map(|corner| (corner, floats(rng, 3))))
}

/// Where a shared object is: position, rotation, scale.
pub(crate) fn placement(rng: &mut Rng) -> Value {
    floats(rng, 10)
}

fn floats(rng: &mut Rng, count: usize) -> Value {
    Value::Array((0..count).map(|_| (rng.f64() * 2.0 - 1.0).into()).collect())
}

fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Map(pairs.map(|(key, value)| (key.into(), value)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_recordings() {
        let mut rng = Rng::with_seed(1);
        let rng = &mut rng;
        let id = "929680e7-b96d-4ead-9878-1f56462ab669";
        let of = |value: Value| {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &value).unwrap();
            bytes.len()
        };
        for (name, size, recorded) in [
            ("avatar", of(avatar(rng, id, "somebody")), 410),
            ("cursor", of(cursor(rng, id)), 175),
            ("interaction", of(interaction(rng, id, 60)), 210),
            ("play area", of(play_area(rng)), 120),
            ("placement", of(placement(rng)), 91),
        ] {
            assert!(size.abs_diff(recorded) * 10 <= recorded, "{name}: {size} bytes, recorded {recorded}");
        }
    }
}
