//! What the driver has at hand while a run is on.

use opcua::types::{DataValue, StatusCode};

use super::Notice;
use super::opening::OpenError;
use super::steps::{Begun, Link, Subscribed};
use super::subscribing::Answers;
use crate::batch::Batch;
use crate::node::Namespaces;

/// What belongs to the run.
#[derive(Default)]
pub(super) struct Active {
    pub(super) link: Option<Link>,
    pub(super) namespaces: Namespaces,
    pub(super) subscribed: Option<Subscribed>,
    pub(super) is_retrying: bool,
    pub(super) is_rereading: bool,
    pub(super) is_republishing: bool,
    pub(super) is_replacing: bool,
    pub(super) is_comparing: bool,
    pub(super) is_watching: bool,
}

/// A step that has ended.
pub(super) enum Done {
    Linked(Result<(Link, Vec<Notice>), OpenError>),
    Begun(Result<Begun, String>),
    Resumed(Result<(), String>),
    Replaced(Result<(Subscribed, Batch), String>),
    /// With the positions that were asked for.
    Retried(u64, Vec<usize>, Result<Answers, StatusCode>),
    Reread(u64, Result<Vec<(usize, DataValue)>, StatusCode>),
    Republished {
        asked: u32,
        found: u32,
    },
    /// The subscription that was replaced.
    Dismissed(u64),
    /// A reconnect has taken long.
    Overdue,
    /// Whether another server is there now.
    Compared(bool),
    /// A write, which answers by itself.
    Written,
}
