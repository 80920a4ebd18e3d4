//! A hash over everything that happened, in order.

use xxhash_rust::xxh3::Xxh3;

/// A digest in the making.
#[derive(Clone)]
pub struct Digest {
    state: Xxh3,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest { state: Xxh3::new() }
    }
}

impl Digest {
    /// Adds one happening. Its fields are told apart by their order, so a happening of another kind
    /// begins with another first field.
    #[inline]
    pub fn add<const N: usize>(&mut self, fields: [u64; N]) {
        for field in fields {
            self.state.update(&field.to_le_bytes());
        }
    }

    /// The digest of all added so far, in hexadecimal.
    pub fn hex(&self) -> String {
        format!("{:016x}", self.state.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_on_content_and_order() {
        let of = |parts: &[[u64; 2]]| {
            let mut digest = Digest::default();
            parts.iter().for_each(|part| digest.add(*part));
            digest.hex()
        };
        assert_eq!(of(&[[1, 2], [3, 4]]), of(&[[1, 2], [3, 4]]));
        assert_ne!(of(&[[1, 2], [3, 4]]), of(&[[3, 4], [1, 2]]));
        assert_ne!(of(&[[1, 2], [3, 4]]), of(&[[1, 2], [3, 5]]));
    }
}
