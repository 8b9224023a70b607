//! How many leases of each queue are out.

use super::Channel;

/// Queues that hash alike share a count.
const COUNTS: usize = 512;

/// Zero bytes are its first state.
#[repr(C)]
pub struct ByQueue([u32; COUNTS]);

impl ByQueue {
    #[cfg(test)]
    pub fn empty() -> Self {
        ByQueue([0; COUNTS])
    }

    fn place(&mut self, channel: Channel) -> Option<&mut u32> {
        let mixed = channel.queue as u32 ^ channel.database.rotate_left(16);
        let index = mixed.wrapping_mul(0x9e37_79b9) as usize % COUNTS;
        self.0.get_mut(index)
    }

    pub(super) fn add(&mut self, channel: Channel) {
        if let Some(count) = self.place(channel) {
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, channel: Channel) {
        if let Some(count) = self.place(channel) {
            *count = count.saturating_sub(1);
        }
    }

    /// False if none of the queue is out.
    pub fn may_have(&mut self, channel: Channel) -> bool {
        self.place(channel).is_none_or(|count| *count != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Channel;
    use super::ByQueue;

    #[test]
    fn a_queue_is_free_when_its_last_is_back() {
        let (mut counts, channel) = (
            ByQueue::empty(),
            Channel {
                database: 5,
                queue: 7,
            },
        );
        assert!(!counts.may_have(channel));
        counts.add(channel);
        counts.add(channel);
        counts.remove(channel);
        assert!(counts.may_have(channel));
        counts.remove(channel);
        assert!(!counts.may_have(channel));
    }
}
