//! The hosts that an exchange has tried.

use super::HostId;

/// As many as the usual retry policy allows.
const INLINE: usize = 3;

/// A list of hosts, oldest first; a short one takes no memory of its own.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    len: usize,
    first: [HostId; INLINE],
    /// All of them, once they are too many.
    all: Vec<HostId>,
}

impl Tried {
    pub(crate) const EMPTY: Tried = Tried {
        len: 0,
        first: [HostId::NONE; INLINE],
        all: Vec::new(),
    };

    pub(crate) fn push(&mut self, host: HostId) {
        if self.len < INLINE {
            self.first[self.len] = host;
        } else {
            if self.all.is_empty() {
                self.all.extend(self.first);
            }
            self.all.push(host);
        }
        self.len += 1;
    }

    pub(crate) fn as_slice(&self) -> &[HostId] {
        if self.len <= INLINE {
            &self.first[..self.len]
        } else {
            &self.all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_forgotten() {
        let host = |slot| HostId {
            slot,
            ..HostId::NONE
        };
        let mut tried = Tried::EMPTY;
        for n in 0..20 {
            tried.push(host(n));
            let want: Vec<HostId> = (0..=n).map(host).collect();
            assert_eq!(tried.as_slice(), want);
        }
    }
}
