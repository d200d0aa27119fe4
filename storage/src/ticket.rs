//! The number of a commit window.

/// The commit window that an append went into.
///
/// Windows become durable in order, so a ticket is durable when
/// [`Storage::committed`](crate::Storage::committed) has reached it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub(crate) u64);

impl Ticket {
    /// Returns the window number, for display and for ordered containers.
    pub fn number(self) -> u64 {
        self.0
    }
}
