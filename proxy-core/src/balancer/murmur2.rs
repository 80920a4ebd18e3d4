//! MurmurHash2, 64 bits (Austin Appleby; Envoy's `MURMUR_HASH_2`, compatible with libstdc++).

/// libstdc++'s seed of `std::hash`, which Envoy takes over.
pub(crate) const SEED: u64 = 0xc70f_6907;

const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;

pub(crate) fn murmur2_64(bytes: &[u8], seed: u64) -> u64 {
    let fold = |value: u64| value ^ (value >> 47);
    let absorb = |hash: u64, data: u64| (hash ^ data).wrapping_mul(MULTIPLIER);
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let data = fold(u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER));
        hash = absorb(hash, data.wrapping_mul(MULTIPLIER));
    }
    if !tail.is_empty() {
        let little_endian = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        hash = absorb(hash, tail.iter().rev().fold(0, little_endian));
    }
    fold(fold(hash).wrapping_mul(MULTIPLIER))
}
