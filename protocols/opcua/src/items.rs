//! What is subscribed to, and what the server said to each.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opcua::types::NodeId;

use crate::settings::Sampling;

/// The first pause before a node that the server refused is tried again.
const RETRY_MIN: Duration = Duration::from_secs(10);

/// The longest pause. A node appears when somebody downloads a program.
const RETRY_MAX: Duration = Duration::from_secs(600);

/// One node of a subscription.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub name: Arc<str>,
    /// Which one it is at this server in this run; `None` when the server does
    /// not have its namespace.
    pub node: Option<NodeId>,
    /// How it is taken.
    pub sampling: Sampling,
    standing: Standing,
}

#[derive(Clone, Debug, PartialEq)]
enum Standing {
    New,
    Active,
    Refused { retry_at: Instant, pause: Duration },
}

/// The nodes of one subscription. The client handle of an item is its position
/// plus one.
#[derive(Clone, Debug, Default)]
pub struct Items {
    items: Vec<Item>,
}

impl Item {
    /// An item that the server was not asked for yet.
    pub fn new(name: Arc<str>, node: Option<NodeId>, sampling: Sampling) -> Self {
        Self {
            name,
            node,
            sampling,
            standing: Standing::New,
        }
    }
}

impl Items {
    /// Items that the server was not asked for yet.
    pub fn new(items: Vec<Item>) -> Self {
        Self { items }
    }

    /// All of them.
    pub fn all(&self) -> &[Item] {
        &self.items
    }

    /// The handle by which notifications name an item.
    pub fn handle(index: usize) -> u32 {
        u32::try_from(index).map_or(u32::MAX, |index| index.saturating_add(1))
    }

    /// Positions of items that are to be asked for.
    pub fn due(&self, now: Instant) -> Vec<usize> {
        let is_due = |item: &Item| match item.standing {
            Standing::New => true,
            Standing::Active => false,
            Standing::Refused { retry_at, .. } => retry_at <= now,
        };
        let all = self.items.iter().enumerate();
        all.filter(|(_, item)| is_due(item))
            .map(|(index, _)| index)
            .collect()
    }

    /// When the next refused item is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let times = self.items.iter().filter_map(|item| match item.standing {
            Standing::Refused { retry_at, .. } => Some(retry_at),
            _ => None,
        });
        times.min()
    }

    /// The server took an item.
    pub fn handle_active(&mut self, index: usize) {
        self.items[index].standing = Standing::Active;
    }

    /// The server refused an item. Returns whether that is news: it was not
    /// refused before.
    pub fn handle_refused(&mut self, index: usize, now: Instant) -> bool {
        let standing = &mut self.items[index].standing;
        let (is_news, pause) = match standing {
            Standing::Refused { pause, .. } => (false, (*pause * 2).min(RETRY_MAX)),
            _ => (true, RETRY_MIN),
        };
        *standing = Standing::Refused {
            retry_at: now + pause,
            pause,
        };
        is_news
    }

    /// Items that the server refuses.
    pub fn refused(&self) -> usize {
        let refused = |item: &&Item| matches!(item.standing, Standing::Refused { .. });
        self.items.iter().filter(refused).count()
    }

    /// Items that the server reports.
    pub fn active(&self) -> impl Iterator<Item = (usize, &NodeId)> {
        self.items.iter().enumerate().filter_map(|(index, item)| {
            let is_active = item.standing == Standing::Active;
            is_active.then_some((index, item.node.as_ref()?))
        })
    }
}

/// An item that the server refused, and its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub index: usize,
    /// `BadNodeIdUnknown`.
    pub status: Cow<'static, str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadband::Deadband;

    #[test]
    fn a_refused_item_is_tried_again_ever_more_rarely() {
        let sampling = Sampling {
            interval: None,
            queue_size: 1,
            deadband: Deadband::None,
        };
        let item = |name: &str| Item::new(name.into(), None, sampling);
        let mut items = Items::new(vec![item("a"), item("b")]);
        let mut now = Instant::now();
        assert_eq!(items.due(now), [0, 1]);
        items.handle_active(0);
        assert!(items.handle_refused(1, now));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert!(items.due(now).is_empty());
            let at = items.next_timeout().unwrap();
            pauses.push((at - now).as_secs());
            now = at;
            assert_eq!(items.due(now), [1]);
            assert!(!items.handle_refused(1, now));
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(items.refused(), 1);
        items.handle_active(1);
        assert_eq!((items.refused(), items.next_timeout()), (0, None));
    }
}
