//! The hosts that an exchange has tried.

use super::HostId;
use crate::balancer::PreviousPriorities;

/// As many as the usual retry policy allows.
const INLINE: usize = 3;

/// The hosts that an exchange has tried, oldest first, and what their priorities mean for the next
/// try. The usual few take no memory of their own.
#[derive(Debug)]
pub(crate) struct Tried {
    len: u32,
    first: [HostId; INLINE],
    more: Option<Box<More>>,
}

/// What few exchanges need.
#[derive(Debug, Default)]
struct More {
    /// All of the hosts, once they are too many.
    all: Vec<HostId>,
    priorities: Option<PreviousPriorities>,
}

impl Tried {
    pub(crate) const EMPTY: Tried = Tried {
        len: 0,
        first: [HostId::NONE; INLINE],
        more: None,
    };

    #[inline]
    pub(crate) fn push(&mut self, host: HostId) {
        match self.first.get_mut(self.len as usize) {
            Some(place) => *place = host,
            None => {
                let more = self.more.get_or_insert_default();
                if more.all.is_empty() {
                    more.all.extend(self.first);
                }
                more.all.push(host);
            }
        }
        self.len += 1;
    }

    /// The hosts; and the memory of their priorities, if it is kept every so many tries.
    #[inline]
    pub(crate) fn parts(
        &mut self,
        update_frequency: Option<u32>,
    ) -> (&[HostId], Option<&mut PreviousPriorities>) {
        let first = &self.first[..INLINE.min(self.len as usize)];
        if self.more.is_none() && update_frequency.is_none() {
            return (first, None);
        }
        let More { all, priorities } = &mut **self.more.get_or_insert_default();
        let hosts = if all.is_empty() { first } else { &all[..] };
        let priorities = update_frequency
            .map(|frequency| priorities.get_or_insert_with(|| PreviousPriorities::new(frequency)));
        (hosts, priorities)
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
            assert_eq!(tried.parts(None).0, want);
        }
    }
}
