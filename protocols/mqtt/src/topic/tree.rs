//! The subscription tree: from a topic name to everyone who wants it.

use std::collections::{BTreeSet, HashMap};

use super::{TopicFilter, TopicName, levels};

/// Finds the subscriptions whose filter matches a topic name.
///
/// A trie with one node per filter level: `+` is a child of its own, and what
/// subscribes with `#` hangs at the node in front of it. A lookup visits at
/// most two children per level and never looks at filters that differ in an
/// earlier level, so its cost follows the matching filters and not the number
/// of subscriptions. The alternative, testing each filter with
/// [`TopicFilter::matches`], costs the number of subscriptions per publish.
///
/// `T` identifies a subscriber; a filter holds each value once. Values are
/// kept in order, so that a lookup is deterministic. A shared subscription is
/// stored by the filter behind its share name.
#[derive(Debug, Clone)]
pub struct SubscriptionTree<T> {
    root: Node<T>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<T> {
    children: HashMap<Box<[u8]>, Node<T>>,
    plus: Option<Box<Node<T>>>,
    /// Subscribers whose filter ends at this level.
    exact: BTreeSet<T>,
    /// Subscribers whose filter goes on with `#` from this level.
    hash: BTreeSet<T>,
}

impl<T: Ord + Clone> SubscriptionTree<T> {
    /// Makes an empty tree.
    pub fn new() -> Self {
        Self {
            root: Node::new(),
            len: 0,
        }
    }

    /// Adds a subscriber to a filter; `false` when it was there already.
    pub fn insert(&mut self, filter: &TopicFilter, subscriber: T) -> bool {
        let mut node = &mut self.root;
        let mut is_multi_level = false;
        for level in levels(filter.match_bytes()) {
            node = match level {
                b"#" => {
                    is_multi_level = true;
                    break;
                }
                b"+" => node.plus.get_or_insert_with(|| Box::new(Node::new())),
                _ => node
                    .children
                    .entry(Box::from(level))
                    .or_insert_with(Node::new),
            };
        }
        let set = if is_multi_level {
            &mut node.hash
        } else {
            &mut node.exact
        };
        let is_new = set.insert(subscriber);
        self.len += usize::from(is_new);
        is_new
    }

    /// Removes a subscriber from a filter; `false` when it was not there.
    pub fn remove(&mut self, filter: &TopicFilter, subscriber: &T) -> bool {
        let path: Vec<&[u8]> = levels(filter.match_bytes()).collect();
        let was_there = self.root.remove(&path, subscriber);
        self.len -= usize::from(was_there);
        was_there
    }

    /// Calls `visit` for each subscription that matches a name (section 4.7).
    ///
    /// A subscriber is visited once per matching filter, so overlapping
    /// subscriptions are seen as such (section 3.3.4).
    pub fn for_each_match<'a>(&'a self, topic: &TopicName, mut visit: impl FnMut(&'a T)) {
        let name = topic.text().as_bytes();
        let path: Vec<&[u8]> = levels(name).collect();
        let skip_wildcards = name.first() == Some(&b'$');
        self.root.visit(&path, skip_wildcards, &mut visit);
    }

    /// Returns each subscriber that has at least one matching filter, once and
    /// in order.
    pub fn matches(&self, topic: &TopicName) -> Vec<&T> {
        let mut found = Vec::new();
        self.for_each_match(topic, |subscriber| found.push(subscriber));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Returns the number of subscriptions: pairs of filter and subscriber.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Says whether nobody subscribes to anything.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T: Ord + Clone> Default for SubscriptionTree<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Ord> Node<T> {
    fn new() -> Self {
        Self {
            children: HashMap::new(),
            plus: None,
            exact: BTreeSet::new(),
            hash: BTreeSet::new(),
        }
    }

    fn is_unused(&self) -> bool {
        self.children.is_empty()
            && self.plus.is_none()
            && self.exact.is_empty()
            && self.hash.is_empty()
    }

    /// Removes along the path and drops nodes that hold nothing any more. The
    /// depth is bounded by `FILTER_LEVELS_MAX`.
    fn remove(&mut self, path: &[&[u8]], subscriber: &T) -> bool {
        let Some((level, rest)) = path.split_first() else {
            return self.exact.remove(subscriber);
        };
        match *level {
            b"#" => self.hash.remove(subscriber),
            b"+" => {
                let Some(child) = self.plus.as_mut() else {
                    return false;
                };
                let was_there = child.remove(rest, subscriber);
                if child.is_unused() {
                    self.plus = None;
                }
                was_there
            }
            _ => {
                let Some(child) = self.children.get_mut(*level) else {
                    return false;
                };
                let was_there = child.remove(rest, subscriber);
                if child.is_unused() {
                    self.children.remove(*level);
                }
                was_there
            }
        }
    }

    /// Descends only into existing nodes, whose depth is bounded by
    /// `FILTER_LEVELS_MAX`, however deep the name is.
    fn visit<'a>(&'a self, path: &[&[u8]], skip_wildcards: bool, visit: &mut impl FnMut(&'a T)) {
        if !skip_wildcards {
            self.hash.iter().for_each(&mut *visit);
        }
        let Some((level, rest)) = path.split_first() else {
            self.exact.iter().for_each(&mut *visit);
            return;
        };
        if let Some(child) = self.children.get(*level) {
            child.visit(rest, false, visit);
        }
        if let (Some(child), false) = (&self.plus, skip_wildcards) {
            child.visit(rest, false, visit);
        }
    }
}
